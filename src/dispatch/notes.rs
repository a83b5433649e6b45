//! A delivery's notebook, kept in the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::warn;

use crate::delivery::DeliveryError;
use crate::destination::Notebook;
use crate::id::{DeliveryId, DestinationName};
use crate::report::Chain;
use crate::store::{Store, StoreError};

/// How long a note that the store could not take waits before it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The notes of one attempt.
pub(super) struct Notes {
    pub(super) store: Arc<dyn Store>,
    pub(super) delivery: DeliveryId,
    /// Until when a note is tried again.
    pub(super) deadline: Instant,
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the notes of {}", self.delivery)
    }
}

impl Notes {
    /// Asks the store until it answers: what was done outside is a fact, and is worth some patience.
    async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, DeliveryError> {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() + AGAIN < self.deadline => {
                    warn!(delivery = %self.delivery, error = %Chain(&error), "cannot keep a note yet");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    let detail = "A step was done, and our own store could not keep a note of it. It is looked for before it is done again.";
                    return Err(DeliveryError::unknown("not_noted", detail).with_source(error));
                }
            }
        }
    }
}

/// Whose memory it is what is remembered for all destinations.
pub(super) fn everybody() -> DestinationName {
    "all".parse().expect("a plain word is a name")
}

#[async_trait]
impl Notebook for Notes {
    async fn finish_step(&self, name: &'static str, value: &str) -> Result<(), DeliveryError> {
        self.patiently(|| self.store.finish_step(&self.delivery, name, value)).await
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, DeliveryError> {
        let all = everybody();
        self.patiently(|| self.store.recall(&all, key)).await
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), DeliveryError> {
        let all = everybody();
        self.patiently(|| self.store.remember(&all, key, value)).await
    }
}
