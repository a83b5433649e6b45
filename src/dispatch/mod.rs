//! The lanes: who claims, attempts and settles. One [`Lane`] per destination; a destination that
//! hangs, breaks or has a backlog of a million holds up no other.

pub mod alerts;
mod attempt;
mod backlog;
pub mod commons;
pub mod gate;
pub mod lane;
mod notes;
pub mod story;
pub mod tally;
mod under_way;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use alerts::Alerts;
pub use lane::{Lane, Surroundings};

use futures_util::future::join_all;

use crate::id::DestinationName;

/// All lanes of the process, by name.
#[derive(Clone, Default)]
pub struct Lanes(Arc<BTreeMap<DestinationName, Arc<Lane>>>);

impl Lanes {
    /// These lanes.
    pub fn new(lanes: impl IntoIterator<Item = Arc<Lane>>) -> Self {
        Self(Arc::new(lanes.into_iter().map(|lane| (lane.name().clone(), lane)).collect()))
    }

    /// The lane of a destination.
    pub fn get(&self, name: &DestinationName) -> Option<&Arc<Lane>> {
        self.0.get(name)
    }

    /// Every lane, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.0.values()
    }

    /// Parked destinations may be probed at once: a restart is how settings are mended. To be done before anybody is let
    /// in, who could find out anew that one is to be parked.
    pub async fn probe_now(&self) {
        join_all(self.iter().map(|lane| lane.probe_now())).await;
    }

    /// Starts every lane's loop. Once.
    pub fn run(&self) {
        for lane in self.iter() {
            lane.spawn_loop();
        }
    }
}
