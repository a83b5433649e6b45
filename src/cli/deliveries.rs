//! `lead-intake deliveries list · replay · cancel`

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, moment, print_json, table};
use crate::clock::Timestamp;
use crate::delivery::State;
use crate::id::{DeliveryId, DestinationName, FormName, LeadId};
use crate::store::{DeliveryFilter, DeliveryRecord, Store, StoreError};

/// How many are changed in one transaction: a service on the same file commits in between.
const AT_ONCE: usize = 500;

#[derive(Subcommand)]
pub(super) enum Deliveries {
    /// Lists deliveries, newest lead first
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Sends dead letters on their way again
    Replay {
        #[command(flatten)]
        which: Which,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Gives deliveries up: those that are pending, dead or withheld
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which deliveries are meant.
#[derive(Args, Clone)]
pub(super) struct Which {
    /// lead_…/NAME: these alone
    ids: Vec<DeliveryId>,
    /// Only this lead's
    #[arg(long)]
    lead: Option<LeadId>,
    /// pending, delivered, dead, withheld or cancelled
    #[arg(long)]
    state: Option<State>,
    /// Only this destination's
    #[arg(long)]
    destination: Option<DestinationName>,
    /// Only those of leads that came through this form
    #[arg(long)]
    form: Option<FormName>,
    /// Only those of leads received at or after (2026-11-24T09:30:00Z)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only those of leads received before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only those whose last error contains this text
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

impl Which {
    fn filter(&self, state: Option<State>, limit: Option<u32>) -> DeliveryFilter {
        DeliveryFilter {
            lead: self.lead,
            state,
            destination: self.destination.clone(),
            form: self.form.clone(),
            since: self.since,
            until: self.until,
            error: self.error.clone(),
            limit,
        }
    }

    /// Those that are meant; where ids are given, `limit` has nothing left to say.
    async fn find(
        &self,
        store: &dyn Store,
        state: Option<State>,
        limit: Option<u32>,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let filter = self.filter(state, limit);
        if self.ids.is_empty() {
            return store.deliveries(filter).await;
        }
        let mut found = Vec::new();
        for id in &self.ids {
            let filter = DeliveryFilter { limit: None, ..filter.clone() };
            if filter.lead.is_none_or(|lead| lead == id.lead) {
                let of_lead = store.deliveries(DeliveryFilter { lead: Some(id.lead), ..filter }).await?;
                found.extend(of_lead.into_iter().filter(|record| record.id == *id));
            }
        }
        Ok(found)
    }

    /// Tells which of the ids that were given are not among those found, unless a filter may have left them out.
    fn all_found(&self, found: &[DeliveryId], what: &str) -> Result<(), Failure> {
        let missing = self.ids.iter().filter(|id| !found.contains(id) && !self.is_filtered());
        let missing: Vec<_> = missing.map(ToString::to_string).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::Because(format!("no {what}: {}", missing.join(", "))))
    }

    fn is_narrow(&self) -> bool {
        self.is_filtered() || !self.ids.is_empty()
    }

    fn is_filtered(&self) -> bool {
        let texts = self.error.is_some() || self.form.is_some() || self.destination.is_some();
        texts || self.lead.is_some() || self.state.is_some() || self.since.is_some() || self.until.is_some()
    }
}

impl Deliveries {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        if let Self::Cancel { which, .. } = &self
            && !which.is_narrow()
        {
            return Err(Failure::Usage("say which: give ids, or at least one of the filters".to_owned()));
        }
        let store = match self {
            Self::List { .. } => common.store().await?,
            Self::Replay { .. } | Self::Cancel { .. } => common.store_to_change().await?,
        };
        let ended = match &self {
            Self::List { which, limit } => {
                let found = which.find(store.as_ref(), which.state, Some(*limit)).await?;
                list(common, &found, *limit)?;
                which.all_found(&ids(found, |_| true), "such delivery")
            }
            Self::Replay { which, yes } => {
                let state = which.state.unwrap_or(State::Dead);
                let found = which.find(store.as_ref(), Some(state), None).await?;
                let ids = ids(found, |state| state == State::Dead);
                let letters = table::counted(ids.len() as u64, "dead letter", "dead letters");
                match agreed(common, *yes, &format!("Replay {letters}?"), ids.len())? {
                    true => {
                        let mut replayed = 0;
                        for some in ids.chunks(AT_ONCE) {
                            replayed += store.replay(some).await?;
                        }
                        done(common, "replayed", replayed)?;
                        which.all_found(&ids, "dead letter")
                    }
                    false => Ok(()),
                }
            }
            Self::Cancel { which, yes } => {
                let found = which.find(store.as_ref(), which.state, None).await?;
                let ids = ids(found, |state| matches!(state, State::Pending | State::Dead | State::Withheld));
                let those = table::counted(ids.len() as u64, "delivery", "deliveries");
                match agreed(common, *yes, &format!("Give {those} up for good?"), ids.len())? {
                    true => {
                        let mut cancelled = 0;
                        for some in ids.chunks(AT_ONCE) {
                            cancelled += store.cancel(some).await?;
                        }
                        done(common, "cancelled", cancelled)?;
                        which.all_found(&ids, "delivery that is pending, dead or withheld")
                    }
                    false => Ok(()),
                }
            }
        };
        store.close().await;
        ended
    }
}

fn ids(found: Vec<DeliveryRecord>, fits: impl Fn(State) -> bool) -> Vec<DeliveryId> {
    found.into_iter().filter(|record| fits(record.state)).map(|record| record.id).collect()
}

/// Asks, unless there is nothing to ask about.
fn agreed(common: &Common, yes: bool, question: &str, count: usize) -> Result<bool, Failure> {
    if count == 0 || yes {
        return Ok(true);
    }
    if common.json || !std::io::stdin().is_terminal() {
        return Err(Failure::Because(format!("{question} Say so with --yes.")));
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !agreed {
        say!("Nothing was changed.");
    }
    Ok(agreed)
}

fn done(common: &Common, what: &str, count: u64) -> Result<(), Failure> {
    if common.json {
        return print_json(&json!({ what: count }));
    }
    say!("{count} {what}.");
    Ok(())
}

fn list(common: &Common, records: &[DeliveryRecord], limit: u32) -> Result<(), Failure> {
    if common.json {
        return records.iter().try_for_each(print_json);
    }
    if records.is_empty() {
        say!("No deliveries.");
        return Ok(());
    }
    let row = |record: &DeliveryRecord| {
        let last = record.history.last();
        vec![
            record.id.to_string(),
            record.state.to_string(),
            record.history.len().to_string(),
            record.due_at.map(|due| format!("{due:.0}")).unwrap_or_default(),
            last.map(|attempt| format!("{} {}", attempt.code, attempt.detail)).unwrap_or_default(),
        ]
    };
    table::print(&["ID", "STATE", "ATTEMPTS", "DUE", "LAST"], &records.iter().map(row).collect::<Vec<_>>());
    table::print_limit(records.len(), limit);
    Ok(())
}
