//! What every destination takes in the configuration, whatever its type.

use std::time::Duration;

use serde::Deserialize;

use crate::id::FormName;
use crate::units;

/// How a destination is fed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSettings {
    /// How long one attempt may take.
    #[serde(with = "units::limit")]
    pub timeout: Duration,
    /// Whether a submit waits for it.
    pub start: Start,
    /// How many attempts may run side by side.
    pub concurrency: usize,
    /// The wait before each further attempt; when the list is used up, a dead letter.
    #[serde(with = "units::durations")]
    pub retry: Vec<Duration>,
    /// How long a parked destination rests before it is probed; each further wait is twice as long,
    /// up to sixteen times this.
    #[serde(with = "units::duration")]
    pub probe: Duration,
    /// What a lease has beyond the attempt and the time in which a lost one may still take effect, for the
    /// wait for its turn.
    #[serde(with = "units::duration")]
    pub lease_slack: Duration,
    /// Whether a lead without consent is withheld from it.
    pub requires_consent: bool,
    /// The forms that feed it; all when absent.
    #[serde(default)]
    pub forms: Option<Vec<FormName>>,
}

/// When the first attempt starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At once, and the submit waits for it, up to the intake's deadline.
    Inline,
    /// At once, and nobody waits.
    Background,
}
