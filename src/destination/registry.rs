//! Which types of destination there are. Adding one is a folder, and a line in each table here and in
//! `config/destinations.rs`.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::commons::Ours;
use super::{
    Board, Commons, Destination, FallbackHome, Nature, email, google_sheets, hubspot, pipedrive, webhook,
};
use crate::delivery::Kind;
use crate::id::DestinationName;
use crate::net::Net;

/// The words that `type` may be.
pub const TYPES: [&str; 5] = ["email", "google_sheets", "hubspot", "pipedrive", "webhook"];

/// The settings of a destination, believed.
pub enum Parsed {
    /// A mail.
    Email(Box<email::Parsed>),
    /// A spreadsheet at Google.
    GoogleSheets(Box<google_sheets::Parsed>),
    /// An account at HubSpot.
    HubSpot(Box<hubspot::Parsed>),
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
    /// What is shared with other processes.
    pub commons: Arc<dyn Commons>,
}

/// A destination, ready to deliver.
pub struct Built {
    /// It.
    pub destination: Arc<dyn Destination>,
    /// It again, where it can be a lead's second home.
    pub fallback: Option<Arc<dyn FallbackHome>>,
    /// It again, where it can tell people what becomes of leads.
    pub board: Option<Arc<dyn Board>>,
}

impl Built {
    /// A destination that is nothing else.
    fn plain(destination: impl Destination) -> Self {
        Self { destination: Arc::new(destination), fallback: None, board: None }
    }
}

impl Parsed {
    /// What it is: its kind, and the word that `type` was.
    pub fn nature(&self) -> Nature {
        let (kind, type_name) = match self {
            Self::Email(_) => (Kind::Mail, "email"),
            Self::GoogleSheets(_) => (Kind::Sheet, "google_sheets"),
            Self::HubSpot(_) => (Kind::Crm, "hubspot"),
            Self::Pipedrive(_) => (Kind::Crm, "pipedrive"),
            Self::Webhook(_) => (Kind::Crm, "webhook"),
        };
        Nature { kind, type_name }
    }

    /// Builds the destination `name`. Nothing is connected yet.
    pub fn build(self, name: &DestinationName, tools: &Tools) -> Built {
        let ours = Ours { name: name.clone(), commons: Arc::clone(&tools.commons) };
        match self {
            Self::Email(parsed) => Built::plain(email::Email::new(*parsed, tools.net.clone(), ours)),
            Self::GoogleSheets(parsed) => {
                let sheet = Arc::new(google_sheets::GoogleSheets::new(
                    &parsed,
                    tools.tracker.clone(),
                    &tools.commons,
                ));
                Built {
                    destination: Arc::<google_sheets::GoogleSheets>::clone(&sheet),
                    board: Some(Arc::<google_sheets::GoogleSheets>::clone(&sheet)),
                    fallback: Some(sheet),
                }
            }
            Self::HubSpot(parsed) => Built::plain(hubspot::HubSpot::new(*parsed, &tools.net, &ours)),
            Self::Pipedrive(parsed) => {
                Built::plain(pipedrive::Pipedrive::new(*parsed, tools.net.clone(), ours))
            }
            Self::Webhook(parsed) => Built::plain(webhook::Webhook::new(*parsed, tools.net.clone())),
        }
    }
}
