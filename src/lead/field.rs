//! The types that a lead's fields are parsed into, once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An e-mail address, kept as typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

/// A phone number: E.164 where the form's region is known, otherwise as typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(String);

impl Email {
    /// As typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Phone {
    /// E.164, or as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(…)")
    }
}
