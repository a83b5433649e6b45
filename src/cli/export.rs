//! `lead-intake leads export`: every lead as a table for people, or as JSON for programs.

use std::collections::BTreeMap;
use std::io::ErrorKind::BrokenPipe;

use csv::ErrorKind;
use serde_json::Value;

use super::{Failure, print_json};
use crate::store::LeadRecord;

/// The columns that every table has.
const COLUMNS: [&str; 19] = [
    "id",
    "received_at",
    "submitted_at",
    "form_name",
    "name",
    "email",
    "phone",
    "url",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
    "timezone",
    "consent_given",
    "consent_timestamp",
    "deliveries",
    "form_data",
];

/// Writes the leads, oldest first: as CSV (RFC 4180) with a column for each form field, or as JSON, one
/// lead a line.
pub(super) fn write(mut records: Vec<LeadRecord>, json: bool) -> Result<(), Failure> {
    records.reverse();
    if json {
        return records.iter().try_for_each(print_json);
    }
    match table(&records) {
        // Whoever reads no further has what they wanted.
        Err(error) if matches!(error.kind(), ErrorKind::Io(error) if error.kind() == BrokenPipe) => Ok(()),
        ended => Ok(ended?),
    }
}

fn table(records: &[LeadRecord]) -> csv::Result<()> {
    let mut fields: Vec<String> = Vec::new();
    for name in records.iter().flat_map(|record| record.lead.submitted.form_data.keys()) {
        if !fields.contains(name) {
            fields.push(name.clone());
        }
    }
    let own = &COLUMNS[..COLUMNS.len() - 1];
    let mut table = csv::Writer::from_writer(std::io::stdout().lock());
    let column = |name: &String| {
        if COLUMNS.contains(&name.as_str()) { format!("form_data.{name}") } else { name.clone() }
    };
    let head = own.iter().map(|name| (*name).to_owned()).chain(fields.iter().map(column));
    table.write_record(head.map(harmless))?;
    for record in records {
        let cells = cells(record);
        let field = |name: &String| record.lead.submitted.form_data.get(name).map(text).unwrap_or_default();
        let own = own.iter().map(|name| cells.get(*name).cloned().unwrap_or_default());
        table.write_record(own.chain(fields.iter().map(field)).map(harmless))?;
    }
    table.flush()?;
    Ok(())
}

/// A lead's own cells, by column. A source may have keys of any name, and so comes first: what we know of the lead wins.
fn cells(record: &LeadRecord) -> BTreeMap<String, String> {
    let lead = serde_json::to_value(record.lead.as_ref()).unwrap_or_default();
    let top = lead.as_object().into_iter().flatten();
    let source = lead["source"].as_object().into_iter().flatten();
    let mut cells: BTreeMap<_, _> =
        source.chain(top).map(|(name, value)| (name.clone(), text(value))).collect();
    let states = record.deliveries.iter().map(|it| format!("{} {}", it.id.destination, it.state));
    cells.insert("deliveries".to_owned(), states.collect::<Vec<_>>().join(", "));
    cells
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a visitor typed is no formula in whatever opens the table: an apostrophe makes it text (OWASP, "CSV
/// Injection"). Phone numbers stay as they are.
fn harmless(text: String) -> String {
    let is_number = |rest: &str| rest.chars().all(|it| it.is_ascii_digit() || " ().-/".contains(it));
    let begins = text.chars().next();
    let is_formula = match begins {
        Some('=' | '@' | '\t' | '\r') => true,
        Some('+' | '-') => !is_number(&text[1..]),
        _ => false,
    };
    if is_formula { format!("'{text}") } else { text }
}
