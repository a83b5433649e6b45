//! What a destination writes down while it delivers: the store keeps it, and the destination never meets
//! the store.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::delivery::DeliveryError;

/// The finished steps of a delivery, by name.
pub type Steps = BTreeMap<String, String>;

/// A place for notes that outlive the attempt.
#[async_trait]
pub trait Notebook: Debug + Send + Sync {
    /// Keeps a finished step of this delivery, such as the id of what was created. It is on the disk when
    /// this returns, so that a repeat goes on after it.
    async fn finish_step(&self, name: &'static str, value: &str) -> Result<(), DeliveryError>;

    /// What was remembered under `key`. It is common to all destinations, for several can be one account at a vendor's:
    /// the key names whose it is.
    async fn recall(&self, key: &str) -> Result<Option<String>, DeliveryError>;

    /// Remembers `value` under `key`, for every later delivery. An empty value forgets.
    async fn remember(&self, key: &str, value: &str) -> Result<(), DeliveryError>;
}

/// A notebook that keeps nothing, for an attempt that has a single step.
#[derive(Debug)]
pub struct NoNotes;

#[async_trait]
impl Notebook for NoNotes {
    async fn finish_step(&self, _: &'static str, _: &str) -> Result<(), DeliveryError> {
        Ok(())
    }

    async fn recall(&self, _: &str) -> Result<Option<String>, DeliveryError> {
        Ok(None)
    }

    async fn remember(&self, _: &str, _: &str) -> Result<(), DeliveryError> {
        Ok(())
    }
}
