//! `lead-intake leads list · show · export · import · consent`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, moment, print_json, table};
use crate::clock::{Clock, Timestamp};
use crate::id::{FormName, LeadId};
use crate::store::{LeadFilter, LeadRecord};

#[derive(Subcommand)]
pub(super) enum Leads {
    /// Lists leads, newest first
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Writes all leads to the standard output, oldest first: CSV, or with --json one lead a line
    Export {
        #[command(flatten)]
        which: Which,
    },
    /// Shows a lead and everything that happened to it
    Show {
        /// lead_…
        id: LeadId,
    },
    /// Brings leads into the store that the sheet kept while it could not commit
    Import,
    /// Records consent that was given later, and sends what was withheld
    Consent {
        /// lead_…
        id: LeadId,
        /// When it was given; now, if absent
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<Timestamp>,
    },
}

/// Which leads are meant.
#[derive(Args)]
pub(super) struct Which {
    /// Only this form's
    #[arg(long)]
    form: Option<FormName>,
    /// Only those received at or after (2026-11-24T09:30:00Z)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only those received before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

impl Which {
    fn filter(self, limit: Option<u32>) -> LeadFilter {
        LeadFilter { form: self.form, since: self.since, until: self.until, limit }
    }
}

impl Leads {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        if matches!(self, Self::Import) {
            return super::import::run(common).await;
        }
        let store = match self {
            Self::Consent { .. } => common.store_to_change().await?,
            _ => common.store().await?,
        };
        let ended = match self {
            Self::Import => Ok(()),
            Self::List { which, limit } => {
                list(common, &store.leads(which.filter(Some(limit))).await?, limit)
            }
            Self::Export { which } => {
                super::export::write(store.leads(which.filter(None)).await?, common.json)
            }
            Self::Show { id } => match store.lead(id).await? {
                Some(record) if common.json => print_json(&record),
                Some(record) => {
                    show(&record);
                    Ok(())
                }
                None => Err(Failure::Because(format!("there is no lead {id}"))),
            },
            Self::Consent { id, at } => {
                let at = at.unwrap_or_else(|| Clock::system().now());
                match store.consent(id, at).await? {
                    Some(freed) if common.json => print_json(&json!({ "id": id, "freed": freed })),
                    Some(freed) => {
                        let freed = table::counted(
                            freed,
                            "delivery that was withheld is",
                            "deliveries that were withheld are",
                        );
                        say!("Consent recorded; {freed} on the way.");
                        Ok(())
                    }
                    None => Err(Failure::Because(format!("there is no lead {id}"))),
                }
            }
        };
        store.close().await;
        ended
    }
}

fn list(common: &Common, records: &[LeadRecord], limit: u32) -> Result<(), Failure> {
    if common.json {
        return records.iter().try_for_each(print_json);
    }
    if records.is_empty() {
        say!("No leads.");
        return Ok(());
    }
    let row = |record: &LeadRecord| {
        let lead = &record.lead;
        let states = record
            .deliveries
            .iter()
            .map(|delivery| format!("{} {}", delivery.id.destination, delivery.state));
        vec![
            lead.id.to_string(),
            format!("{:.0}", lead.received_at),
            lead.submitted.form_name.to_string(),
            lead.submitted.email.as_str().to_owned(),
            states.collect::<Vec<_>>().join(", "),
        ]
    };
    table::print(
        &["ID", "RECEIVED", "FORM", "EMAIL", "DELIVERIES"],
        &records.iter().map(row).collect::<Vec<_>>(),
    );
    table::print_limit(records.len(), limit);
    Ok(())
}

/// The lead's receipt.
fn show(record: &LeadRecord) {
    let lead = &record.lead;
    let mut fields = serde_json::to_value(lead.as_ref()).unwrap_or_default();
    say!("{}  received {}", lead.id, lead.received_at);
    if let Some(fields) = fields.as_object_mut() {
        for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "received_at"))
        {
            match value.as_object() {
                Some(parts) => parts.iter().for_each(|(part, value)| field(&format!("{name}.{part}"), value)),
                None => field(name, value),
            }
        }
    }
    for delivery in &record.deliveries {
        say!("\n{}  {}", delivery.id.destination, delivery.state);
        if let Some(due) = delivery.due_at {
            say!("  due {due}");
        }
        if let Some(receipt) = &delivery.receipt {
            if let Some(id) = &receipt.remote_id {
                say!("  receipt {}", table::printable(id));
            }
            if let Some(note) = &receipt.note {
                say!("  note {}", table::printable(note));
            }
        }
        for attempt in &delivery.history {
            let outcome = attempt.outcome.as_str();
            let said = table::printable(&format!("{}  {}", attempt.code, attempt.detail));
            let line = format!("  attempt {}  {}  {outcome}  {said}", attempt.number, attempt.finished_at);
            say!("{}", line.trim_end());
        }
    }
}

/// A field of the lead; a value that is no text as JSON.
fn field(name: &str, value: &serde_json::Value) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    say!("  {:<20} {}", table::printable(name), table::printable(&text));
}
