//! The outside over HTTP: bodies in, answers out. Knows the intake's words, and no engine or vendor.

mod answer;
mod guard;
mod health;
mod page;
pub mod serve;
pub mod settings;
pub mod submit;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
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
        matches!(tokio::time::timeout(READY, self.store.ready()).await, Ok(Ok(())))
    }
}

/// How long the store may take to say that it is ready.
const READY: std::time::Duration = std::time::Duration::from_secs(2);

/// The routes.
pub fn router(site: Site) -> Router {
    let submit = post(submit::submit)
        .fallback(wrong_method)
        .layer::<_, std::convert::Infallible>(DefaultBodyLimit::max(site.settings.body_limit))
        .layer(guard::cors(&site.settings.allowed_origins));
    Router::new()
        .route("/api/submit", submit)
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/form.js", get(form_js))
        .route(page::THANK_YOU, get(page::thank_you))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_page)
        .layer(axum::middleware::from_fn_with_state(site.draining.clone(), overseen))
        .with_state(Arc::new(site))
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

/// What surrounds every request; one layer, for each is a future more that waits. A panic is an answer, a line
/// tells route, status and time and nothing that a client typed, and behind a proxy, connections that are kept move on
/// to another process before this one ends.
async fn overseen(State(draining): State<CancellationToken>, request: Request, next: Next) -> Response {
    let start = tokio::time::Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // What a panic says may quote what a visitor typed.
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = response.unwrap_or_else(|_| {
        error!("a request panicked: a fault of ours");
        answer::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong on our side. Send it again with the same key.",
        )
    });
    let status = response.status().as_u16();
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    if status < 400 {
        debug!(%method, route, status, took_ms, "answered");
    } else {
        info!(%method, route, status, took_ms, "refused");
    }
    if draining.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A form's way on: 303, so that a reload does not post again (RFC 9110 section 15.4.4).
fn onward(page: &str) -> Response {
    Redirect::to(page).into_response()
}
