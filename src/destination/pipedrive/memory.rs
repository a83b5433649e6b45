//! What is remembered of an address: its person, or that a person may just have been made for it. Pure.

use crate::clock::Timestamp;
use crate::id::DestinationName;
use crate::lead::Email;

/// What the notebook holds under an address' key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// This person has the address.
    Person(u64),
    /// A person was sent for, and nobody knows whether it was made. Written before the call, so that neither a
    /// crash nor another lead of the same address makes a second one.
    Unsure {
        /// When it was sent.
        sent: Timestamp,
        /// From when on Pipedrive can be asked.
        look_after: Timestamp,
    },
}

impl Memory {
    /// Reads what the notebook holds; what makes no sense is nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            [id] => id.parse().ok().map(Self::Person),
            [sent, look_after] => {
                Some(Self::Unsure { sent: sent.parse().ok()?, look_after: look_after.parse().ok()? })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(id) => write!(f, "{id}"),
            Self::Unsure { sent, look_after } => write!(f, "{sent} {look_after}"),
        }
    }
}

/// An address as it is compared: Pipedrive's exact search tells no capitals apart.
pub(super) fn same(address: &str) -> String {
    let ascii = Email::parse(address).map(|email| email.ascii());
    ascii.unwrap_or_else(|_| address.trim().to_owned()).to_lowercase()
}

/// An account, as the beginning of keys: the company's name, which all destinations and processes that reach it by whatever
/// address have in common; without one, the destination's own.
#[derive(Clone, Debug)]
pub(super) struct Account(String);

impl Account {
    /// The account of this company, or else of this destination.
    pub(super) fn of(company: Option<&str>, destination: &DestinationName) -> Self {
        Self(match company {
            Some(company) => format!("pipedrive {company}"),
            None => format!("pipedrive by {destination}"),
        })
    }

    /// The key of an address' person: nothing that tells who it is.
    pub(super) fn person(&self, address: &Email) -> String {
        format!("{} person {}", self.0, address.fingerprint())
    }

    /// The key of the deals that hang on a person.
    pub(super) fn deals_of(&self, person: u64) -> String {
        format!("{} deals of {person}", self.0)
    }

    /// The key of a deal.
    pub(super) fn deal(&self, id: &str) -> String {
        format!("{} deal {id}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_addresses_are_compared_without_capitals() {
        let unsure = Memory::Unsure { sent: Timestamp::UNIX_EPOCH, look_after: Timestamp::MAX };
        for memory in [Memory::Person(12), unsure] {
            assert_eq!(Memory::parse(&memory.to_string()), Some(memory));
        }
        assert_eq!(Memory::parse("12 soon"), None);
        let own = Account::of(None, &"crm".parse().unwrap());
        let key = |text| own.person(&Email::parse(text).unwrap());
        assert_eq!(key("Ada@Example.com"), key("ada@example.COM"));
        assert_ne!(key("ada@example.com"), key("bea@example.com"));
        assert_eq!(same("Ada@EXAMPLE.com "), "ada@example.com");
    }
}
