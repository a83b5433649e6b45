//! What people and lanes ask, on a connection that cannot write.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failed;
use super::write::from_json;
use crate::clock::Timestamp;
use crate::delivery::{Attempt, AttemptOutcome, Kind, State};
use crate::id::{DeliveryId, DestinationName};
use crate::store::{DeliveryFilter, DeliveryRecord, LeadFilter, LeadRecord, StoreError};

fn time(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX)
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` where a name should be")))
}

/// The attempts of one delivery, oldest first.
pub(super) fn attempts(db: &Connection, seq: i64, destination: &str) -> Result<Vec<Attempt>, StoreError> {
    let mut select = db
        .prepare_cached(
            "SELECT number, started_at, finished_at, outcome, code, detail FROM attempts
             WHERE lead = ?1 AND destination = ?2 ORDER BY number",
        )
        .map_err(failed)?;
    let rows = select.query_map(params![seq, destination], |row| {
        let outcome: String = row.get(3)?;
        Ok(Attempt {
            number: row.get(0)?,
            started_at: time(row.get(1)?),
            finished_at: time(row.get(2)?),
            outcome: AttemptOutcome::from_word(&outcome).unwrap_or(AttemptOutcome::Unknown),
            code: row.get(4)?,
            detail: row.get(5)?,
        })
    });
    rows.and_then(Iterator::collect).map_err(failed)
}

/// The finished steps of one delivery, by name.
pub(super) fn steps(
    db: &Connection,
    seq: i64,
    destination: &str,
) -> Result<BTreeMap<String, String>, StoreError> {
    db.prepare_cached("SELECT name, value FROM steps WHERE lead = ?1 AND destination = ?2")
        .and_then(|mut select| {
            select.query_map(params![seq, destination], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(failed)
}

pub(super) fn recall(
    db: &Connection,
    destination: &DestinationName,
    key: &str,
) -> Result<Option<String>, StoreError> {
    db.prepare_cached("SELECT value FROM memory WHERE destination = ?1 AND key = ?2")
        .and_then(|mut select| {
            select.query_row(params![destination.as_str(), key], |row| row.get(0)).optional()
        })
        .map_err(failed)
}

pub(super) fn next_due(db: &Connection, destination: &DestinationName) -> Result<Option<i64>, StoreError> {
    db.prepare_cached("SELECT min(due_at) FROM deliveries WHERE destination = ?1 AND state = 'pending'")
        .and_then(|mut select| select.query_row([destination.as_str()], |row| row.get(0)))
        .map_err(failed)
}

/// Steps through the index of what is pending from one destination to the next, past all that is between.
pub(super) fn waited_for(db: &Connection) -> Result<Vec<DestinationName>, StoreError> {
    let mut select = db
        .prepare_cached(
            "WITH RECURSIVE step (name) AS (
                 SELECT min(destination) FROM deliveries WHERE state = 'pending'
                 UNION ALL
                 SELECT (SELECT min(destination) FROM deliveries WHERE state = 'pending' AND destination > step.name)
                 FROM step WHERE step.name IS NOT NULL
             )
             SELECT name FROM step WHERE name IS NOT NULL",
        )
        .map_err(failed)?;
    let names: Vec<String> =
        select.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)?;
    names.iter().map(|name| parsed(name)).collect()
}

/// Each half is answered by an index that holds nothing else.
pub(super) fn counts(db: &Connection) -> Result<Vec<(DestinationName, State, u64)>, StoreError> {
    let mut select = db
        .prepare_cached(
            "SELECT destination, 'pending', count(*) FROM deliveries WHERE state = 'pending' GROUP BY destination
             UNION ALL
             SELECT destination, state, count(*) FROM deliveries WHERE state IN ('dead', 'withheld')
             GROUP BY state, destination",
        )
        .map_err(failed)?;
    let rows: Vec<(String, String, i64)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    rows.into_iter()
        .map(|(name, state, count)| Ok((parsed(&name)?, parsed(&state)?, count.unsigned_abs())))
        .collect()
}

pub(super) fn leads(db: &Connection, filter: &LeadFilter) -> Result<Vec<LeadRecord>, StoreError> {
    let mut select = db
        .prepare_cached(
            "SELECT body FROM leads
             WHERE (?1 IS NULL OR form_name = ?1) AND (?2 IS NULL OR received_at >= ?2)
               AND (?3 IS NULL OR received_at < ?3)
             ORDER BY seq DESC LIMIT ?4",
        )
        .map_err(failed)?;
    let values = params![
        filter.form.as_ref().map(crate::id::FormName::as_str),
        filter.since.map(Timestamp::as_millisecond),
        filter.until.map(Timestamp::as_millisecond),
        filter.limit.map_or(-1, i64::from),
    ];
    let bodies: Vec<String> =
        select.query_map(values, |row| row.get(0)).and_then(Iterator::collect).map_err(failed)?;
    bodies.iter().map(|body| lead_record(db, body)).collect()
}

pub(super) fn lead(db: &Connection, id: &str) -> Result<Option<LeadRecord>, StoreError> {
    let body: Option<String> = db
        .prepare_cached("SELECT body FROM leads WHERE id = ?1")
        .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional())
        .map_err(failed)?;
    body.map(|body| lead_record(db, &body)).transpose()
}

fn lead_record(db: &Connection, body: &str) -> Result<LeadRecord, StoreError> {
    let lead: crate::lead::Lead = from_json(body)?;
    let filter = DeliveryFilter { lead: Some(lead.id), ..DeliveryFilter::default() };
    Ok(LeadRecord { deliveries: deliveries(db, &filter)?, lead: Arc::new(lead) })
}

struct Found {
    seq: i64,
    lead: String,
    destination: String,
    state: String,
    due_at: Option<i64>,
    attempts: u32,
    receipt: Option<String>,
    received_at: i64,
    kind: String,
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        seq: row.get(0)?,
        lead: row.get(1)?,
        destination: row.get(2)?,
        state: row.get(3)?,
        due_at: row.get(4)?,
        attempts: row.get(5)?,
        receipt: row.get(6)?,
        received_at: row.get(7)?,
        kind: row.get(8)?,
    })
}

pub(super) fn deliveries(
    db: &Connection,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    // Told apart, so that one lead is found by its index.
    let which = if filter.lead.is_some() { "l.id = ?1" } else { "?1 IS NULL" };
    let mut select = db
        .prepare_cached(&format!(
            "SELECT d.lead, l.id, d.destination, d.state, d.due_at, d.attempts, d.receipt, l.received_at, d.kind
             FROM leads l JOIN deliveries d ON d.lead = l.seq
             WHERE {which} AND (?2 IS NULL OR d.state = ?2)
               AND (?3 IS NULL OR d.destination = ?3) AND (?4 IS NULL OR l.form_name = ?4)
               AND (?5 IS NULL OR l.received_at >= ?5) AND (?6 IS NULL OR l.received_at < ?6)
               AND (?7 IS NULL OR instr(lower((
                    SELECT a.code || ' ' || a.detail FROM attempts a
                    WHERE a.lead = d.lead AND a.destination = d.destination
                    ORDER BY a.number DESC LIMIT 1)), lower(?7)) > 0)
             ORDER BY l.seq DESC, d.destination LIMIT ?8"
        ))
        .map_err(failed)?;
    let values = params![
        filter.lead.map(|lead| lead.to_string()),
        filter.state.map(State::as_str),
        filter.destination.as_ref().map(crate::id::DestinationName::as_str),
        filter.form.as_ref().map(crate::id::FormName::as_str),
        filter.since.map(Timestamp::as_millisecond),
        filter.until.map(Timestamp::as_millisecond),
        filter.error,
        filter.limit.map_or(-1, i64::from),
    ];
    let rows: Vec<Found> = select.query_map(values, found).and_then(Iterator::collect).map_err(failed)?;
    rows.into_iter().map(|row| record(db, &row)).collect()
}

fn record(db: &Connection, row: &Found) -> Result<DeliveryRecord, StoreError> {
    Ok(DeliveryRecord {
        id: DeliveryId { lead: parsed(&row.lead)?, destination: parsed(&row.destination)? },
        kind: Kind::from_word(&row.kind).unwrap_or(Kind::Crm),
        state: parsed(&row.state)?,
        due_at: row.due_at.map(time),
        attempts: row.attempts,
        receipt: row.receipt.as_deref().map(from_json).transpose()?,
        received_at: time(row.received_at),
        history: attempts(db, row.seq, &row.destination)?,
    })
}
