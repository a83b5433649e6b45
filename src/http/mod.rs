//! The outside over HTTP: bodies in, answers out. Knows the intake's words, and no engine or vendor.

mod answer;
mod form;
mod guard;
mod health;
mod page;
pub mod serve;
pub mod settings;
pub mod submit;

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::{debug, error, info};

use crate::dispatch::Lanes;
use crate::id::FormName;
use crate::intake::{Answer, Arrival, Intake};
use crate::lead::validate::FormRules;
use crate::secret::Secret;
use crate::store::Store;
pub use guard::AddressHash;
pub use settings::Settings;

/// Whoever takes leads: the intake, or a test.
pub trait Door: Send + Sync + 'static {
    /// Takes a lead.
    fn submit(&self, arrival: Arrival) -> BoxFuture<'_, Answer>;

    /// Whether leads are taken even while the store cannot commit.
    fn has_second_home(&self) -> bool {
        false
    }
}

impl Door for Arc<Intake> {
    fn submit(&self, arrival: Arrival) -> BoxFuture<'_, Answer> {
        Box::pin(Intake::submit(self, arrival))
    }

    fn has_second_home(&self) -> bool {
        Intake::has_second_home(self)
    }
}

/// The configured forms, and the rules of one that is not.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    /// By name.
    pub named: HashMap<FormName, FormRules>,
    /// The default form's.
    pub default: FormRules,
}

impl Forms {
    /// The rules of a form.
    pub fn rules(&self, form: &FormName) -> &FormRules {
        self.named.get(form).unwrap_or(&self.default)
    }
}

/// Everything that the outside is made of.
pub struct Site {
    /// Who takes leads.
    pub door: Arc<dyn Door>,
    /// The forms.
    pub forms: Forms,
    /// `[server]`
    pub settings: Settings,
    /// For `/health` and `/metrics`.
    pub store: Arc<dyn Store>,
    /// For `/health` and `/metrics`.
    pub lanes: Lanes,
    /// What is kept of visitors' addresses.
    pub address_hash: AddressHash,
    /// What `/metrics` asks for, if anything.
    pub operator_token: Option<Secret>,
    /// From then on `/health/ready` says no, and answers ask clients to connect anew.
    pub draining: CancellationToken,
}

impl Site {
    async fn store_is_ready(&self) -> bool {
        matches!(tokio::time::timeout(COMMIT, self.store.ready()).await, Ok(Ok(())))
    }
}

/// How long the store may take to say that it is ready.
const COMMIT: std::time::Duration = std::time::Duration::from_secs(2);

const SUBMIT: &str = "/api/submit";
const HEALTH: &str = "/health";
const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";
const METRICS: &str = "/metrics";
const FORM_JS: &str = "/form.js";

/// Every address that there is.
const ADDRESSES: [&str; 7] = [SUBMIT, HEALTH, LIVE, READY, METRICS, FORM_JS, page::THANK_YOU];

/// The outside: every request comes in here.
#[derive(Clone)]
pub struct Outside {
    routes: Router,
    draining: CancellationToken,
}

impl Outside {
    /// What `site` is made of, at its addresses.
    pub fn new(site: Site) -> Self {
        let draining = site.draining.clone();
        // One layer, for each is a future more that waits.
        let around =
            (guard::cors(&site.settings.allowed_origins), DefaultBodyLimit::max(site.settings.body_limit));
        let submit = post(submit::submit).fallback(wrong_method).layer::<_, Infallible>(around);
        let routes = Router::new()
            .route(SUBMIT, submit)
            .route(HEALTH, get(health::health))
            .route(LIVE, get(health::live))
            .route(READY, get(health::ready))
            .route(METRICS, get(health::metrics))
            .route(FORM_JS, get(form_js))
            .route(page::THANK_YOU, get(page::thank_you))
            .method_not_allowed_fallback(wrong_method)
            .fallback(no_such_page)
            .with_state(Arc::new(site));
        Self { routes, draining }
    }

    /// Answers a request, whatever becomes of it: a panic is an answer, a line tells address, status and time and nothing
    /// that a client typed, and behind a proxy, connections that are kept move on to another process before this one ends.
    pub async fn answer(&self, request: Request) -> Response {
        let start = tokio::time::Instant::now();
        let method = request.method().clone();
        let route = ADDRESSES.into_iter().find(|it| *it == request.uri().path()).unwrap_or("(none)");
        // What a panic says may quote what a visitor typed.
        let response = AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind().await;
        let mut response = match response {
            Ok(Ok(response)) => response,
            Err(_) => {
                error!("a request panicked: a fault of ours");
                answer::refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Something went wrong on our side. Send it again with the same key.",
                )
            }
        };
        let status = response.status().as_u16();
        let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if status < 400 {
            debug!(%method, route, status, took_ms, "answered");
        } else {
            info!(%method, route, status, took_ms, "refused");
        }
        if self.draining.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

async fn form_js() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    (headers, include_str!("form.js")).into_response()
}

async fn wrong_method() -> Response {
    answer::refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "This address does not take that method. Leads are sent by POST.",
    )
}

async fn no_such_page() -> Response {
    answer::refused(StatusCode::NOT_FOUND, "There is nothing here. Leads are sent to POST /api/submit.")
}

/// A form's way on: 303, so that a reload does not post again (RFC 9110 section 15.4.4).
fn onward(page: &str) -> Response {
    Redirect::to(page).into_response()
}
