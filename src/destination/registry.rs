//! Which types of destination there are. Adding one is a folder, and a line in each table here and in
//! `config/destinations.rs`.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{Destination, FallbackHome, email, google_sheets, pipedrive, webhook};
use crate::net::Net;

/// The words that `type` may be.
pub const TYPES: [&str; 4] = ["email", "google_sheets", "pipedrive", "webhook"];

/// The settings of a destination, believed.
pub enum Parsed {
    /// A mail.
    Email(Box<email::Parsed>),
    /// A spreadsheet at Google.
    GoogleSheets(Box<google_sheets::Parsed>),
    /// A company's Pipedrive.
    Pipedrive(Box<pipedrive::Parsed>),
    /// A webhook.
    Webhook(Box<webhook::Parsed>),
}

/// What destinations are built with.
pub struct Tools {
    /// The client for HTTP APIs.
    pub net: Net,
    /// Where background work is spawned.
    pub tracker: TaskTracker,
}

/// A destination, ready to deliver.
pub struct Built {
    /// It.
    pub destination: Arc<dyn Destination>,
    /// It again, where it can be a lead's second home.
    pub fallback: Option<Arc<dyn FallbackHome>>,
}

impl Parsed {
    /// Whether it is a CRM or webhook: what `crm_synced` in the sheet speaks of.
    pub fn is_crm(&self) -> bool {
        match self {
            Self::Email(_) | Self::GoogleSheets(_) => false,
            Self::Pipedrive(_) | Self::Webhook(_) => true,
        }
    }

    /// Builds the destination. Nothing is connected yet.
    pub fn build(self, tools: &Tools) -> Built {
        match self {
            Self::Email(parsed) => {
                Built { destination: Arc::new(email::Email::new(*parsed)), fallback: None }
            }
            Self::GoogleSheets(parsed) => {
                let sheet = Arc::new(google_sheets::GoogleSheets::new(&parsed, tools.tracker.clone()));
                Built {
                    destination: Arc::<google_sheets::GoogleSheets>::clone(&sheet),
                    fallback: Some(sheet),
                }
            }
            Self::Pipedrive(parsed) => Built {
                destination: Arc::new(pipedrive::Pipedrive::new(*parsed, tools.net.clone())),
                fallback: None,
            },
            Self::Webhook(parsed) => Built {
                destination: Arc::new(webhook::Webhook::new(*parsed, tools.net.clone())),
                fallback: None,
            },
        }
    }
}
