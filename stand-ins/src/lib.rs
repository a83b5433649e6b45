//! Local servers that stand in for the vendors lead-intake talks to.
//!
//! Each binds `127.0.0.1:0`, follows the vendor's published contract, and can be told, for the next
//! requests or until further notice, to misbehave: that is a [`Script`] of the stand-in's own fault
//! type. Tests and `lead-intake demo` share them. Each records what it was asked and counts what it
//! did apart from what it answered, so that a test can tell a double effect from a lost answer.

pub mod api;
pub mod google;
pub mod hook;
pub mod hubspot;
pub mod mail_api;
pub mod pipedrive;
pub mod script;
pub mod serve;
pub mod smtp;

pub use script::Script;
