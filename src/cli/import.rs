//! `lead-intake leads import`: leads that wait in the sheet because the store could not commit, and whose
//! process died before it could bring them home.

use std::sync::Arc;

use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{Common, Failure, SERVED, is_there, print_json};
use crate::clock::Clock;
use crate::config::Configured;
use crate::delivery::plan::{Route, Verdict, verdict};
use crate::delivery::{Birth, Entry, Kind, Planned, Receipt};
use crate::destination::registry::{Built, Tools};
use crate::destination::{FallbackHome, LaneSettings};
use crate::dispatch::commons::Shared;
use crate::id::{DestinationName, LeadId, ProcessId};
use crate::lead::Lead;
use crate::net::Net;
use crate::store::{self, Accepted};
use crate::telemetry;

/// What the plan must know of a destination.
struct Known {
    name: DestinationName,
    kind: Kind,
    lane: LaneSettings,
}

pub(super) async fn run(common: &Common) -> Result<(), Failure> {
    let config = common.load(&common.inputs())?;
    telemetry::start_in_command(&config.log);
    // In a new store the leads would be where no service looks, and their marks gone.
    is_there(&config.store, SERVED).await?;
    let store = store::connect::open(&config.store, Clock::system()).await?;
    let tracker = TaskTracker::new();
    let commons = Shared::new(Arc::clone(&store), ProcessId::fresh(), tracker.clone());
    let tools = Tools { net: Net::new(), tracker: tracker.clone(), commons };
    let (mut known, mut home) = (Vec::new(), None);
    for Configured { name, lane, parsed } in config.destinations {
        let kind = parsed.nature().kind;
        let Built { fallback, .. } = parsed.build(&name, &tools);
        if let (Some(fallback), None) = (fallback, &home) {
            home = Some((name.clone(), fallback));
        }
        known.push(Known { name, kind, lane });
    }
    let Some((home_name, home)) = home else {
        return Err(Failure::Because(
            "there is no sheet in the configuration that could keep leads".to_owned(),
        ));
    };
    let kept = home.kept().await.map_err(|error| Failure::Because(error.detail))?;
    let (mut cleared, mut entered, mut trouble) = (Vec::new(), 0, Vec::new());
    for lead in kept {
        match lead {
            Ok(lead) => {
                let id = lead.id;
                match store.accept(Arc::new(entry(lead, &known, &home_name))).await? {
                    Accepted::New(_) => {
                        entered += 1;
                        cleared.push(id);
                    }
                    Accepted::Repeat => cleared.push(id),
                    Accepted::Conflict => {
                        trouble.push(format!("{id}: another submission has this id; compare them by hand"));
                    }
                }
            }
            Err(_) => {
                trouble.push("a mark in the sheet is no lead any more; somebody has changed it".to_owned());
            }
        }
    }
    clear(home.as_ref(), &cleared).await?;
    tracker.close();
    tracker.wait().await;
    store.close().await;
    if common.json {
        print_json(
            &json!({ "entered": entered, "already_there": cleared.len() - entered, "problems": trouble }),
        )?;
    } else {
        say!("{entered} leads entered the store; {} were there already.", cleared.len() - entered);
        trouble.iter().for_each(|text| say!("✗ {text}"));
    }
    if trouble.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

async fn clear(home: &dyn FallbackHome, leads: &[LeadId]) -> Result<(), Failure> {
    if leads.is_empty() {
        return Ok(());
    }
    home.clear(leads).await.map_err(|error| {
        Failure::Because(format!(
            "the leads are in the store, but their marks are still in the sheet: {}",
            error.detail
        ))
    })
}

/// The lead with its plan: the sheet has it, all others are due.
fn entry(lead: Lead, known: &[Known], home: &DestinationName) -> Entry {
    let planned = |known: &Known| {
        let route = Route { destination: &known.name, settings: &known.lane };
        let birth = match verdict(&lead.submitted, route) {
            Verdict::Elsewhere => return None,
            _ if known.name == *home => Birth::Delivered(Receipt::default()),
            Verdict::Withheld => Birth::Withheld,
            Verdict::Goes => Birth::Due,
        };
        Some(Planned { destination: known.name.clone(), kind: known.kind, birth })
    };
    let deliveries = known.iter().filter_map(planned).collect();
    Entry { digest: lead.digest(), deliveries, lead: Arc::new(lead) }
}
