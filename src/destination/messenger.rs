//! A way to tell the operators something: a destination that can also write a mail of its own.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::delivery::{Attempt, DeliveryError};

/// Something to tell.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// The same on every try, so that a repeat can be told from a second one.
    pub id: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// What it says.
    pub text: &'a str,
    /// When it happened.
    pub at: Timestamp,
    /// The tries before this one, oldest first.
    pub earlier: &'a [Attempt],
}

/// Tells operators.
#[async_trait]
pub trait Messenger: Send + Sync + 'static {
    /// Sends them the news. That they were most likely told already is no error.
    async fn tell(&self, news: News<'_>) -> Result<(), DeliveryError>;
}
