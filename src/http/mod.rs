//! The outside over HTTP: bodies in, answers out. Knows the intake's words, and no engine or vendor.

mod answer;
pub mod submit;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use crate::id::FormName;
use crate::intake::{Answer, Arrival, Intake};
use crate::lead::validate::FormRules;

/// Whoever takes leads: the intake, or a test.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Takes a lead.
    async fn submit(&self, arrival: Arrival) -> Answer;
}

#[async_trait]
impl Door for Arc<Intake> {
    async fn submit(&self, arrival: Arrival) -> Answer {
        Intake::submit(self, arrival).await
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

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    door: Arc<dyn Door>,
    forms: Arc<Forms>,
}

/// The routes. A body of more than `body_limit` bytes is 413.
pub fn router(door: Arc<dyn Door>, forms: Forms, body_limit: usize) -> Router {
    Router::new()
        .route("/api/submit", post(submit::submit))
        .layer(DefaultBodyLimit::max(body_limit))
        .with_state(Shared { door, forms: Arc::new(forms) })
}
