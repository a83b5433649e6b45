//! lead-intake.

pub mod clock;
pub mod delivery;
pub mod destination;
pub mod dispatch;
pub mod id;
pub mod intake;
pub mod lead;
pub mod report;
pub mod secret;
pub mod store;
pub mod units;
