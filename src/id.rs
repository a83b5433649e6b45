//! The names of things: leads, destinations, deliveries. The one place that makes ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A lead's id: `lead_` and 32 hexadecimal digits. The prefix keeps a spreadsheet from reading it
/// as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeadId(Uuid);

impl LeadId {
    /// A fresh id, ordered by time (UUID version 7, RFC 9562 section 5.7).
    #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of the lead that `key` stands for at `form`. The same pair gives the same id in every
    /// process, so that a commit whose answer was lost and its repeat meet in one row
    /// (UUID version 8, RFC 9562 section 5.8, over SHA-256).
    pub fn of_key(form: &FormName, key: &IdempotencyKey) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(form.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(key.as_str().as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finish().as_ref()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The id of this process among those that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId(Uuid);

impl ProcessId {
    /// A fresh id.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process_{}", self.0.simple())
    }
}

impl LeadId {
    /// Whether the id stands for a key: then the client can send the same lead again.
    pub fn is_of_key(&self) -> bool {
        self.0.get_version_num() == 8
    }

    /// The id's bytes, twice: the digest of a lead that came without a key.
    pub(crate) fn twice(&self) -> [u8; 32] {
        let mut twice = [0; 32];
        twice[..16].copy_from_slice(self.0.as_bytes());
        twice[16..].copy_from_slice(self.0.as_bytes());
        twice
    }
}

impl LeadId {
    /// The id as text, without any memory but `room`.
    pub(crate) fn text<'r>(&self, room: &'r mut [u8; 37]) -> &'r str {
        let (prefix, digits) = room.split_at_mut(5);
        prefix.copy_from_slice(b"lead_");
        self.0.simple().encode_lower(digits);
        std::str::from_utf8(room).unwrap_or_default()
    }
}

impl fmt::Display for LeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 37]))
    }
}

impl fmt::Debug for LeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LeadId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("lead_")
            .filter(|digits| digits.len() == 32)
            .and_then(|digits| Uuid::try_parse(digits).ok())
            .map(Self)
            .ok_or(InvalidName("a lead's id is lead_ and 32 hexadecimal digits"))
    }
}

/// What a text that is no name of its kind lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.into())) } else { Err(InvalidName($what)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        as_text!($name);
    };
}

as_text!(LeadId);

name!(
    /// The name of a form, as submissions give it: 1–100 characters, none of them a control.
    FormName,
    "a form's name is 1 to 100 characters without control characters",
    |text| {
        !text.trim().is_empty()
            && text.chars().count() <= 100
            && !text.chars().any(char::is_control)
    }
);

name!(
    /// The name of a destination: 1–40 of `a-z 0-9 _ -`, beginning with a letter. It stands in
    /// message ids and headers, so it is kept plain.
    DestinationName,
    "a destination's name is 1 to 40 of a-z, 0-9, _ and -, and begins with a letter",
    |text| {
        text.len() <= 40
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);

name!(
    /// A client's word for "this is the same submission": 1–255 printable ASCII characters.
    IdempotencyKey,
    "an idempotency key is 1 to 255 printable ASCII characters",
    |text| {
        !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
);

/// One lead on its way to one destination. There is one delivery for each such pair, so the pair is
/// the id; written `lead_…/NAME`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The lead.
    pub lead: LeadId,
    /// Where it goes.
    pub destination: DestinationName,
}

impl DeliveryId {
    /// The id as one word that is the same on every attempt, for a receiver that drops repeats:
    /// `lead_…_NAME`. It holds no `.`, which Standard Webhooks keeps for itself, and no `/`.
    pub fn event_id(&self) -> String {
        format!("{}_{}", self.lead, self.destination)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lead, self.destination)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (lead, destination) = text
            .split_once('/')
            .ok_or(InvalidName("a delivery's id is a lead's id, a slash and a destination's name"))?;
        Ok(Self { lead: lead.parse()?, destination: destination.parse()? })
    }
}

as_text!(DeliveryId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_form_and_key_give_the_same_id() {
        let form: FormName = "contact".parse().unwrap();
        let other: FormName = "quote".parse().unwrap();
        let key: IdempotencyKey = "abc".parse().unwrap();
        assert_eq!(LeadId::of_key(&form, &key), LeadId::of_key(&form, &key));
        assert_ne!(LeadId::of_key(&form, &key), LeadId::of_key(&other, &key));
        assert_ne!(LeadId::fresh(), LeadId::fresh());
        assert!(LeadId::of_key(&form, &key).is_of_key() && !LeadId::fresh().is_of_key());
    }

    #[test]
    fn ids_survive_text() {
        let id = DeliveryId { lead: LeadId::fresh(), destination: "crm".parse().unwrap() };
        assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
        assert!("lead_12".parse::<LeadId>().is_err());
        assert!("Crm".parse::<DestinationName>().is_err());
        assert!("".parse::<IdempotencyKey>().is_err());
    }
}
