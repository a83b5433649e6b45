//! A way to tell the operators something: a destination that can also write a mail of its own.

use async_trait::async_trait;

use crate::delivery::DeliveryError;

/// Tells operators.
#[async_trait]
pub trait Messenger: Send + Sync + 'static {
    /// Sends them a message. `id` is the same on every try, so that a repeat can be told from a second one.
    async fn tell(&self, id: &str, subject: &str, text: &str) -> Result<(), DeliveryError>;
}
