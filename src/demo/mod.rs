//! `lead-intake demo`: the real service against stand-ins of every vendor, and a page to try it on.
//!
//! Everything runs on the loopback and in a temporary folder; nothing is left behind.

mod mailer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use stand_ins::api;
use stand_ins::google::{self, Google};
use stand_ins::hook::{self, Hook};
use stand_ins::hubspot::{self, HubSpot};
use stand_ins::pipedrive::{self, Pipedrive};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::{Config, Inputs, Problems, load};
use crate::store::{LeadFilter, LeadRecord, Store};
use crate::telemetry;
use mailer::Mailer;
pub use mailer::Transport;

/// How many leads the page shows.
const SHOWN: u32 = 12;

/// The tab of deliveries that fail.
const FAILED: &str = "Failed Integrations";

/// Who in the demo reads the notifications.
const TEAM: &str = "sales@your-company.example";

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The temporary folder or a port.
    #[error("the demo needs a temporary folder and free ports on the loopback")]
    Io(#[from] std::io::Error),
    /// The service.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Our own configuration of it.
    #[error(transparent)]
    Configuration(#[from] Problems),
}

/// The vendors.
struct Vendors {
    google: Google,
    mailer: Mailer,
    hook: Hook,
    hubspot: HubSpot,
    pipedrive: api::Api<Pipedrive>,
}

/// The running demo.
pub struct Demo {
    app: App,
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

#[derive(Clone)]
struct Shared {
    vendors: Arc<Vendors>,
    store: Arc<dyn Store>,
    page: Arc<str>,
}

impl Demo {
    /// Starts the stand-ins, the service and the page. `port` is the page's, 0 is any; mails go by `transport`.
    ///
    /// # Errors
    /// No temporary folder, or no free port.
    pub async fn start(port: u16, transport: Transport) -> Result<Self, DemoError> {
        let folder = tempfile::tempdir()?;
        let vendors = Arc::new(Vendors {
            google: Google::start().await,
            mailer: Mailer::start(transport).await,
            hook: Hook::start().await,
            hubspot: hubspot::start().await,
            pipedrive: pipedrive::start().await,
        });
        // A property of the account's own, as sales teams make them.
        vendors.hubspot.vendor().properties.insert("company_size".to_owned(), hubspot::Kind::Text);
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let config = config(&vendors, folder.path(), address)?;
        telemetry::start(&config.log);
        let app = App::start(config, Clock::system()).await?;

        let [a_mailer, mailer, when_down] = vendors.mailer.words();
        let page = include_str!("page.html")
            .replace("SERVICE", &format!("http://{}", app.address()))
            .replace("A_MAILER", a_mailer)
            .replace("MAILER", mailer)
            .replace("WHEN_DOWN", when_down);
        let shared = Shared { vendors, store: Arc::clone(app.store()), page: page.into() };
        let routes = Router::new()
            .route("/", get(|State(shared): State<Shared>| async move { Html(shared.page.to_string()) }))
            .route("/state", get(state))
            .route("/vendors/{name}/{how}", post(switch))
            .route("/failed/{row}/retry", post(retry))
            .with_state(shared);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let until = stop.clone();
        tasks.spawn(async move {
            let _ = axum::serve(listener, routes).with_graceful_shutdown(until.cancelled_owned()).await;
        });
        Ok(Self { app, address, tasks, stop, _folder: folder })
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends everything.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.app.stop().await;
    }
}

/// The configuration that an operator would write for these vendors, with waits that a person can watch.
fn config(vendors: &Vendors, folder: &std::path::Path, page: SocketAddr) -> Result<Config, Problems> {
    let database = format!("sqlite://{}", folder.join("lead-intake.db").display());
    let retry = "2s, 4s, 8s, 8s, 8s, 8s, 8s, 8s, 8s, 8s, 8s, 8s";
    let mut variables: BTreeMap<String, String> = [
        ("BIND", "127.0.0.1:0"),
        ("DATABASE_URL", &database),
        ("ALLOWED_ORIGINS", &format!("http://{page}")),
        ("RUST_LOG", "warn"),
        ("GOOGLE_SHEETS_ID", &vendors.google.spreadsheet_id()),
        ("GOOGLE_CREDENTIALS_JSON", &vendors.google.credentials()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &vendors.google.base_url()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "5s"),
        ("EMAIL_FROM", "Your Company <hello@your-company.example>"),
        ("EMAIL_NOTIFY_TO", TEAM),
        ("CRM_WEBHOOK_URL", &vendors.hook.url()),
        ("HUBSPOT_ACCESS_TOKEN", hubspot::TOKEN),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", &vendors.hubspot.url()),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROPERTIES__COMPANY_SIZE", "form_data.company_size"),
        ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN),
        ("PIPEDRIVE_DOMAIN", "your-company"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", &vendors.pipedrive.url()),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__CREATE", "deal"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__SETTLE", "2s"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LISTEN_EVERY", "2s"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "600"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "600"),
        ("LEAD_INTAKE__INTAKE__DEADLINE", "3s"),
        // Whoever tries the page sends the same form again and again.
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__PER_DAY", "0"),
        ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "1s"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    variables.extend(vendors.mailer.variables().into_iter().map(|(name, value)| (name.to_owned(), value)));
    for name in ["SHEET", "NOTIFICATION", "CONFIRMATION", "CRM", "HUBSPOT", "PIPEDRIVE"] {
        variables.insert(format!("LEAD_INTAKE__DESTINATIONS__{name}__RETRY"), retry.to_owned());
        variables.insert(format!("LEAD_INTAKE__DESTINATIONS__{name}__PROBE"), "3s".to_owned());
    }
    load(&Inputs { variables, ..Inputs::default() })
}

/// Everything that the page shows.
async fn state(State(shared): State<Shared>) -> Json<Value> {
    let Vendors { google, mailer, hook, hubspot, pipedrive } = shared.vendors.as_ref();
    let filter = LeadFilter { limit: Some(SHOWN), ..LeadFilter::default() };
    let leads = shared.store.leads(filter).await.unwrap_or_default();
    let calls: Vec<_> = hook
        .calls()
        .iter()
        .map(|call| json!({"lead": call.body["id"], "name": call.body["name"], "answered": call.answered, "body": call.body}))
        .collect();
    let contacts: Vec<_> = hubspot
        .vendor()
        .contacts
        .iter()
        .map(|contact| json!({"id": contact.id, "properties": contact.properties}))
        .collect();
    let (persons, deals, notes) = {
        let books = pipedrive.vendor();
        (books.persons.clone(), books.deals.clone(), books.notes.len())
    };
    Json(json!({
        "pipedrive": {"persons": persons, "deals": deals, "notes": notes},
        "failed": google.rows(FAILED),
        "contacts": contacts,
        "leads": leads.iter().map(lead).collect::<Vec<_>>(),
        "sheet": google.rows("Leads"),
        "mails": mailer.mails(TEAM),
        "calls": calls,
        "down": {"sheet": google.is_broken(), "mail": mailer.is_down(), "webhook": hook.script().is_planned(), "hubspot": hubspot.is_broken(), "pipedrive": pipedrive.is_broken()},
    }))
}

fn lead(record: &LeadRecord) -> Value {
    let now = Clock::system().now();
    let deliveries = record.deliveries.iter().map(|delivery| {
        let due = delivery.due_at.map(|due| crate::clock::until(now, due).as_secs());
        let attempts: Vec<_> = delivery
            .history
            .iter()
            .map(
                |attempt| json!({"outcome": attempt.outcome, "code": attempt.code, "detail": attempt.detail}),
            )
            .collect();
        json!({
            "destination": delivery.id.destination, "state": delivery.state, "due": due,
            "attempts": attempts, "receipt": delivery.receipt,
        })
    });
    json!({"id": record.lead.id, "name": record.lead.submitted.name, "deliveries": deliveries.collect::<Vec<_>>()})
}

/// Takes a vendor down or up.
async fn switch(State(shared): State<Shared>, Path((name, how)): Path<(String, String)>) -> StatusCode {
    let Vendors { google, mailer, hook, hubspot, pipedrive } = shared.vendors.as_ref();
    match (name.as_str(), how.as_str()) {
        ("sheet", "down") => google.always(google::On::Any, google::Fault::Status(503)),
        ("sheet", "up") => google.mend(),
        ("mail", "down") => mailer.take_down(),
        ("mail", "up") => mailer.mend(),
        ("webhook", "down") => hook.script().always(hook::Fault::status(503)),
        ("webhook", "up") => hook.script().mend(),
        ("hubspot", "down") => hubspot.always(api::Fault::json(
            401,
            json!({"status": "error", "message": "The token was revoked.", "category": "INVALID_AUTHENTICATION"}),
        )),
        ("hubspot", "up") => hubspot.mend(),
        ("pipedrive", "down") => pipedrive.always(api::Fault::html(502)),
        ("pipedrive", "up") => pipedrive.mend(),
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::NO_CONTENT
}

/// A person types `retry` beside a failing delivery.
async fn retry(State(shared): State<Shared>, Path(row): Path<usize>) -> StatusCode {
    let google = &shared.vendors.google;
    let action =
        google.rows(FAILED).first().and_then(|header| header.iter().position(|name| name == "action"));
    let (Some(action), true) = (action, row > 0) else { return StatusCode::NOT_FOUND };
    google.edit(FAILED, |tab| tab.set(row, action, "retry"));
    StatusCode::NO_CONTENT
}
