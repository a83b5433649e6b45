//! What people and destinations change, a function a verb, and what every writing file needs. All of it runs
//! inside the writer's transaction. `now` is milliseconds since 1970.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{failed, share, story};
use crate::clock::Timestamp;
use crate::id::{DeliveryId, DestinationName, LeadId};
use crate::lead::Lead;
use crate::store::StoreError;

/// A delivery, by its lead's row and its destination's name.
pub(super) const THIS: &str = "lead = ?1 AND destination = ?2";

/// Whether a delivery's arrival is news. Two names at most in any list of these statements: of more SQLite builds a table
/// each time.
pub(super) const CAN_ARRIVE: &str = "state NOT IN ('delivered', 'withheld')";

/// The row that the other tables know a lead by. Looked up once for all that is done with it.
pub(super) fn row_of(db: &Connection, lead: LeadId) -> Result<Option<i64>, StoreError> {
    db.prepare_cached("SELECT seq FROM leads WHERE id = ?1")
        .and_then(|mut select| select.query_row([lead.to_string()], |row| row.get(0)).optional())
        .map_err(failed)
}

pub(super) fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 4)
}

pub(super) fn replay(db: &Connection, deliveries: &[DeliveryId], now: i64) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET state = 'pending', due_at = ?3, budget_used = 0 WHERE {THIS} AND state = 'dead'"
    );
    deliveries.iter().try_fold(0, |count, delivery| {
        let destination = delivery.destination.as_str();
        share::probe_now(db, destination, now)?;
        let Some(lead) = row_of(db, delivery.lead)? else { return Ok(count) };
        let changed = change(db, &sql, params![lead, destination, now])?;
        story::delivery_changed(db, lead, destination)?;
        Ok(count + changed)
    })
}

pub(super) fn cancel(db: &Connection, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET state = 'cancelled', due_at = NULL, open_since = NULL
         WHERE {THIS} AND state NOT IN ('delivered', 'cancelled')"
    );
    deliveries.iter().try_fold(0, |count, delivery| {
        let Some(lead) = row_of(db, delivery.lead)? else { return Ok(count) };
        let changed = change(db, &sql, params![lead, delivery.destination.as_str()])?;
        story::delivery_changed(db, lead, delivery.destination.as_str())?;
        Ok(count + changed)
    })
}

pub(super) fn consent(
    db: &Connection,
    id: LeadId,
    at: Timestamp,
    now: i64,
) -> Result<Option<u64>, StoreError> {
    let found: Option<(i64, String)> = db
        .prepare_cached("SELECT seq, body FROM leads WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(failed)?;
    let Some((seq, body)) = found else { return Ok(None) };
    let mut lead: Lead = from_json(&body)?;
    if !lead.submitted.consent_given {
        lead.submitted.consent_given = true;
        lead.submitted.consent_timestamp = Some(at);
        change(db, "UPDATE leads SET body = ?2 WHERE seq = ?1", params![seq, to_json(&lead)?])?;
    }
    change(
        db,
        "UPDATE deliveries SET state = 'pending', due_at = ?2 WHERE lead = ?1 AND state = 'withheld'",
        params![seq, now],
    )
    .map(Some)
}

pub(super) fn finish_step(
    db: &Connection,
    delivery: &DeliveryId,
    name: &str,
    value: &str,
) -> Result<(), StoreError> {
    change(
        db,
        "INSERT INTO steps (lead, destination, name, value)
         SELECT seq, ?2, ?3, ?4 FROM leads WHERE id = ?1
         ON CONFLICT (lead, destination, name) DO UPDATE SET value = excluded.value",
        params![delivery.lead.to_string(), delivery.destination.as_str(), name, value],
    )?;
    Ok(())
}

pub(super) fn remember(
    db: &Connection,
    destination: &DestinationName,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    let destination = destination.as_str();
    if value.is_empty() {
        change(db, "DELETE FROM memory WHERE destination = ?1 AND key = ?2", params![destination, key])?;
    } else {
        change(
            db,
            "INSERT INTO memory (destination, key, value) VALUES (?1, ?2, ?3)
             ON CONFLICT (destination, key) DO UPDATE SET value = excluded.value",
            params![destination, key, value],
        )?;
    }
    Ok(())
}

pub(super) fn keep(db: &Connection, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
    change(
        db,
        "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![name, fresh],
    )?;
    db.query_row("SELECT value FROM kept WHERE name = ?1", [name], |row| row.get(0)).map_err(failed)
}

pub(super) fn change(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<u64, StoreError> {
    let changed =
        db.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(failed)?;
    Ok(changed as u64)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
