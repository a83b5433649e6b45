//! What is done inside the writer's transaction, a function a verb. `now` is milliseconds since 1970.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use tokio::time::Instant;

use super::{failed, read, story};
use crate::clock::Timestamp;
use crate::delivery::{Birth, Claim, Entry, LONGEST_WAIT, Planned, Settlement, State};
use crate::id::{DeliveryId, DestinationName, LeadId};
use crate::lead::Lead;
use crate::store::{Accepted, ClaimRequest, Settle, StoreError};

/// A delivery, found by its lead's public id and its destination's name.
const THIS: &str = "lead = (SELECT seq FROM leads WHERE id = ?1) AND destination = ?2";

pub(super) fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 4)
}

/// An entry with everything written out that can be before the writer's turn: the one thread that
/// writes does nothing that another could.
pub(super) struct Draft {
    entry: Arc<Entry>,
    id: String,
    body: String,
}

impl Draft {
    pub(super) fn new(entry: Arc<Entry>) -> Result<Self, StoreError> {
        // A common lead in one piece of memory.
        let mut body = Vec::with_capacity(1_024);
        serde_json::to_writer(&mut body, &*entry.lead)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let body = String::from_utf8(body).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Self { id: entry.lead.id.to_string(), body, entry })
    }
}

pub(super) fn accept(
    db: &Connection,
    draft: &Draft,
    now: i64,
    asked: Instant,
) -> Result<Accepted, StoreError> {
    let Draft { entry, id, body } = draft;
    let lead = &entry.lead;
    let inserted = db
        .prepare_cached(
            "INSERT INTO leads (id, form_name, received_at, digest, crm_planned, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                id,
                lead.submitted.form_name.as_str(),
                lead.received_at.as_millisecond(),
                entry.digest,
                entry.crm_planned(),
                body,
            ])
        })
        .map_err(failed)?;
    if inserted == 0 {
        return join(db, entry);
    }
    let seq = db.last_insert_rowid();
    let mut claims = Vec::new();
    for some in entry.deliveries.chunks(INSERTS.len()) {
        insert_deliveries(db, seq, some, now)?;
    }
    for planned in &entry.deliveries {
        if let Birth::Claimed { lease } = planned.birth {
            claims.push(Claim {
                delivery: DeliveryId { lead: lead.id, destination: planned.destination.clone() },
                lead: Arc::clone(lead),
                attempt: 1,
                budget_used: 0,
                lease_ends: asked + lease,
                crm_planned: entry.crm_planned(),
                earlier: Vec::new(),
                steps: BTreeMap::new(),
            });
        }
    }
    Ok(Accepted::New(claims))
}

/// Statements that insert one, two … deliveries at once: stepping a statement costs more than a row.
static INSERTS: LazyLock<[String; 8]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; index + 1].join(", ");
        format!(
            "INSERT INTO deliveries (lead, destination, kind, state, due_at, attempts, open_since, receipt) VALUES {rows}"
        )
    })
});

/// As many deliveries as one statement takes.
fn insert_deliveries(db: &Connection, seq: i64, some: &[Planned], now: i64) -> Result<(), StoreError> {
    let Some(sql) = some.len().checked_sub(1).and_then(|index| INSERTS.get(index)) else { return Ok(()) };
    let mut insert = db.prepare_cached(sql).map_err(failed)?;
    let mut column = 0;
    for planned in some {
        let (state, due_at, attempts, open_since, receipt) = match &planned.birth {
            Birth::Due => ("pending", Some(now), 0, None, None),
            Birth::Claimed { lease } => ("pending", Some(now + millis(*lease)), 1, Some(now), None),
            Birth::Withheld => ("withheld", None, 0, None, None),
            Birth::Delivered(receipt) => ("delivered", None, 0, None, Some(to_json(receipt)?)),
        };
        let (destination, kind) = (planned.destination.as_str(), planned.kind.as_str());
        let values: [&dyn ToSql; 8] =
            [&seq, &destination, &kind, &state, &due_at, &attempts, &open_since, &receipt];
        for value in values {
            column += 1;
            insert.raw_bind_parameter(column, value).map_err(failed)?;
        }
    }
    insert.raw_execute().map_err(failed)?;
    Ok(())
}

/// The id is there already: a repeat, or another submission. A delivery that has arrived meanwhile is
/// a fact, and wins.
fn join(db: &Connection, entry: &Entry) -> Result<Accepted, StoreError> {
    let id = entry.lead.id.to_string();
    let digest: Vec<u8> = db
        .prepare_cached("SELECT digest FROM leads WHERE id = ?1")
        .and_then(|mut select| select.query_row([&id], |row| row.get(0)))
        .map_err(failed)?;
    if digest != entry.digest {
        return Ok(Accepted::Conflict);
    }
    for planned in &entry.deliveries {
        if let Birth::Delivered(receipt) = &planned.birth {
            let sql = format!(
                "UPDATE deliveries SET state = 'delivered', due_at = NULL, open_since = NULL, receipt = ?3
                 WHERE {THIS} AND state IN ('pending', 'dead', 'cancelled')"
            );
            change(db, &sql, params![id, planned.destination.as_str(), to_json(receipt)?])?;
            story::delivery_arrived(db, &id)?;
        }
    }
    Ok(Accepted::Repeat)
}

struct DueRow {
    seq: i64,
    attempts: u32,
    budget_used: u32,
    open_since: Option<i64>,
    body: String,
    crm_planned: bool,
}

fn due_row(row: &Row<'_>) -> rusqlite::Result<DueRow> {
    Ok(DueRow {
        seq: row.get(0)?,
        attempts: row.get(1)?,
        budget_used: row.get(2)?,
        open_since: row.get(3)?,
        body: row.get(4)?,
        crm_planned: row.get(5)?,
    })
}

pub(super) fn claim_due(
    db: &Connection,
    request: &ClaimRequest,
    now: i64,
    asked: Instant,
) -> Result<Vec<Claim>, StoreError> {
    let destination = request.destination.as_str();
    let mut rows = Vec::new();
    // Due, and then what a clock that lied put too far away.
    for which in ["d.due_at <= ?2", "d.due_at > ?2"] {
        let bound =
            if rows.is_empty() && which.ends_with("<= ?2") { now } else { now + millis(LONGEST_WAIT) };
        let left = i64::try_from(request.limit - rows.len()).unwrap_or(i64::MAX);
        let mut select = db
            .prepare_cached(&format!(
                "SELECT d.lead, d.attempts, d.budget_used, d.open_since, l.body, l.crm_planned
                 FROM deliveries d JOIN leads l ON l.seq = d.lead
                 WHERE d.destination = ?1 AND d.state = 'pending' AND {which}
                 ORDER BY d.due_at LIMIT ?3"
            ))
            .map_err(failed)?;
        let found = select.query_map(params![destination, bound, left], due_row).map_err(failed)?;
        for row in found {
            rows.push(row.map_err(failed)?);
        }
    }
    rows.into_iter().map(|row| claim(db, request, row, now, asked)).collect()
}

fn claim(
    db: &Connection,
    request: &ClaimRequest,
    mut row: DueRow,
    now: i64,
    asked: Instant,
) -> Result<Claim, StoreError> {
    let destination = request.destination.as_str();
    if let Some(open_since) = row.open_since {
        change(
            db,
            "INSERT INTO attempts (lead, destination, number, started_at, finished_at, outcome, code, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, 'unknown', 'lost',
                     'The process ended while the attempt was under way.')
             ON CONFLICT DO NOTHING",
            params![row.seq, destination, row.attempts, open_since, now],
        )?;
        row.budget_used += 1;
    }
    let changed = change(
        db,
        "UPDATE deliveries SET attempts = attempts + 1, budget_used = ?4, due_at = ?5, open_since = ?6
         WHERE lead = ?1 AND destination = ?2 AND attempts = ?3",
        params![row.seq, destination, row.attempts, row.budget_used, now + millis(request.lease), now],
    )?;
    if changed != 1 {
        return Err(StoreError::Corrupt("a due delivery could not be claimed".to_owned()));
    }
    let lead: Lead = from_json(&row.body)?;
    let (earlier, steps) = match row.attempts {
        0 => (Vec::new(), BTreeMap::new()),
        _ => (read::attempts(db, row.seq, destination)?, read::steps(db, row.seq, destination)?),
    };
    Ok(Claim {
        delivery: DeliveryId { lead: lead.id, destination: request.destination.clone() },
        lead: Arc::new(lead),
        attempt: row.attempts + 1,
        budget_used: row.budget_used,
        lease_ends: asked + request.lease,
        crm_planned: row.crm_planned,
        earlier,
        steps,
    })
}

pub(super) fn settle(db: &Connection, settle: &Settle, now: i64) -> Result<bool, StoreError> {
    let Settle { claim, attempt, settlement } = settle;
    let id = claim.delivery.lead.to_string();
    let destination = claim.delivery.destination.as_str();
    change(
        db,
        "INSERT INTO attempts (lead, destination, number, started_at, finished_at, outcome, code, detail)
         SELECT seq, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM leads WHERE id = ?1 ON CONFLICT DO NOTHING",
        params![
            id,
            destination,
            attempt.number,
            attempt.started_at.as_millisecond(),
            attempt.finished_at.as_millisecond(),
            attempt.outcome.as_str(),
            attempt.code,
            attempt.detail,
        ],
    )?;
    let changed = match settlement {
        Settlement::Delivered(receipt) => change(
            db,
            &format!(
                "UPDATE deliveries SET state = 'delivered', due_at = NULL, open_since = NULL, receipt = ?3
                 WHERE {THIS} AND state IN ('pending', 'dead', 'cancelled')"
            ),
            params![id, destination, to_json(receipt)?],
        )?,
        Settlement::Retry { wait, counted } => change(
            db,
            &format!(
                "UPDATE deliveries SET due_at = ?4, open_since = NULL, budget_used = budget_used + ?5
                 WHERE {THIS} AND state = 'pending' AND attempts = ?3"
            ),
            params![id, destination, claim.attempt, now + millis(*wait), counted],
        )?,
        end @ (Settlement::Dead | Settlement::Cancelled) => change(
            db,
            &format!(
                "UPDATE deliveries SET state = ?4, due_at = NULL, open_since = NULL
                 WHERE {THIS} AND state = 'pending' AND attempts = ?3"
            ),
            params![
                id,
                destination,
                claim.attempt,
                if *end == Settlement::Dead { State::Dead.as_str() } else { State::Cancelled.as_str() },
            ],
        )?,
    };
    if changed == 1 {
        if matches!(settlement, Settlement::Delivered(_)) {
            story::delivery_arrived(db, &id)?;
        }
        story::delivery_changed(db, &id, destination)?;
    }
    Ok(changed == 1)
}

pub(super) fn release(
    db: &Connection,
    delivery: &DeliveryId,
    attempt: u32,
    now: i64,
) -> Result<bool, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET due_at = ?4, open_since = NULL
         WHERE {THIS} AND state = 'pending' AND attempts = ?3"
    );
    let id = delivery.lead.to_string();
    Ok(change(db, &sql, params![id, delivery.destination.as_str(), attempt, now])? == 1)
}

pub(super) fn renew(
    db: &Connection,
    delivery: &DeliveryId,
    attempt: u32,
    until: i64,
) -> Result<bool, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET due_at = ?4
         WHERE {THIS} AND state = 'pending' AND attempts = ?3 AND open_since IS NOT NULL"
    );
    let id = delivery.lead.to_string();
    Ok(change(db, &sql, params![id, delivery.destination.as_str(), attempt, until])? == 1)
}

pub(super) fn replay(db: &Connection, deliveries: &[DeliveryId], now: i64) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET state = 'pending', due_at = ?3, budget_used = 0 WHERE {THIS} AND state = 'dead'"
    );
    deliveries.iter().try_fold(0, |count, delivery| {
        let id = delivery.lead.to_string();
        let changed = change(db, &sql, params![id, delivery.destination.as_str(), now])?;
        story::delivery_changed(db, &id, delivery.destination.as_str())?;
        Ok(count + changed)
    })
}

pub(super) fn cancel(db: &Connection, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET state = 'cancelled', due_at = NULL, open_since = NULL
         WHERE {THIS} AND state IN ('pending', 'dead', 'withheld')"
    );
    deliveries.iter().try_fold(0, |count, delivery| {
        let id = delivery.lead.to_string();
        let changed = change(db, &sql, params![id, delivery.destination.as_str()])?;
        story::delivery_changed(db, &id, delivery.destination.as_str())?;
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
