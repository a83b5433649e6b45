//! The life of a claim: taken, renewed, settled or given back. `now` is milliseconds since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use tokio::time::Instant;

use super::write::{CAN_ARRIVE, THIS, change, from_json, millis, row_of, to_json};
use super::{failed, read, share, story};
use crate::delivery::standing::Standing;
use crate::delivery::{Claim, LONGEST_WAIT, Settlement, State};
use crate::id::DeliveryId;
use crate::lead::Lead;
use crate::store::{ClaimRequest, Claimed, Settle, Settled, StoreError};

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
) -> Result<Claimed, StoreError> {
    let destination = request.destination.as_str();
    let standing = share::standing(db, destination, now)?;
    let limit = match standing {
        Standing { held_for: Some(_), .. } => 0,
        Standing { probe_in: Some(wait), .. } => usize::from(wait.is_zero()).min(request.limit),
        _ => request.limit,
    };
    if limit == 0 {
        return Ok(Claimed { claims: Vec::new(), standing });
    }
    let mut rows = Vec::new();
    // Due, and then what a clock that lied put too far away.
    for which in ["d.due_at <= ?2", "d.due_at > ?2"] {
        let bound =
            if rows.is_empty() && which.ends_with("<= ?2") { now } else { now + millis(LONGEST_WAIT) };
        let left = i64::try_from(limit - rows.len()).unwrap_or(i64::MAX);
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
    let claims: Vec<_> =
        rows.into_iter().map(|row| claim(db, request, row, now, asked)).collect::<Result<_, _>>()?;
    if standing.probe_in.is_none() || claims.is_empty() {
        return Ok(Claimed { claims, standing });
    }
    share::probed(db, destination, request.rest, now)?;
    Ok(Claimed { claims, standing: share::standing(db, destination, now)? })
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

pub(super) fn settle(db: &Connection, settle: &Settle, now: i64) -> Result<Settled, StoreError> {
    let changed = match row_of(db, settle.claim.delivery.lead)? {
        Some(lead) => end_attempt(db, lead, settle, now)?,
        None => false,
    };
    let turned = match settle.signal {
        Some(signal) => share::signal(db, settle.claim.delivery.destination.as_str(), signal, now)?,
        None => None,
    };
    Ok(Settled { changed, turned })
}

/// A claim is the newest one and not settled yet. Who settles again, for the answer to the commit was lost, changes nothing.
const STILL_OPEN: &str = "state = 'pending' AND attempts = ?3 AND open_since IS NOT NULL";

/// Writes the attempt down and what comes of it; whether the delivery was still this claim's to change.
fn end_attempt(db: &Connection, lead: i64, settle: &Settle, now: i64) -> Result<bool, StoreError> {
    let Settle { claim, attempt, settlement, .. } = settle;
    let destination = claim.delivery.destination.as_str();
    change(
        db,
        "INSERT INTO attempts (lead, destination, number, started_at, finished_at, outcome, code, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        params![
            lead,
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
                 WHERE {THIS} AND {CAN_ARRIVE}"
            ),
            params![lead, destination, to_json(receipt)?],
        )?,
        Settlement::Retry { wait, counted } => change(
            db,
            &format!(
                "UPDATE deliveries SET due_at = ?4, open_since = NULL, budget_used = budget_used + ?5
                 WHERE {THIS} AND {STILL_OPEN}"
            ),
            params![lead, destination, claim.attempt, now + millis(*wait), counted],
        )?,
        end @ (Settlement::Dead | Settlement::Cancelled) => change(
            db,
            &format!(
                "UPDATE deliveries SET state = ?4, due_at = NULL, open_since = NULL
                 WHERE {THIS} AND {STILL_OPEN}"
            ),
            params![
                lead,
                destination,
                claim.attempt,
                if *end == Settlement::Dead { State::Dead.as_str() } else { State::Cancelled.as_str() },
            ],
        )?,
    };
    if changed == 1 {
        if matches!(settlement, Settlement::Delivered(_)) {
            story::delivery_arrived(db, lead)?;
        }
        story::delivery_changed(db, lead, destination)?;
    }
    Ok(changed == 1)
}

pub(super) fn release(
    db: &Connection,
    delivery: &DeliveryId,
    attempt: u32,
    now: i64,
) -> Result<bool, StoreError> {
    let Some(lead) = row_of(db, delivery.lead)? else { return Ok(false) };
    let sql = format!(
        "UPDATE deliveries SET due_at = ?4, open_since = NULL
         WHERE {THIS} AND {STILL_OPEN}"
    );
    Ok(change(db, &sql, params![lead, delivery.destination.as_str(), attempt, now])? == 1)
}

pub(super) fn renew(
    db: &Connection,
    delivery: &DeliveryId,
    attempt: u32,
    until: i64,
) -> Result<bool, StoreError> {
    let Some(lead) = row_of(db, delivery.lead)? else { return Ok(false) };
    let sql = format!(
        "UPDATE deliveries SET due_at = ?4
         WHERE {THIS} AND {STILL_OPEN}"
    );
    Ok(change(db, &sql, params![lead, delivery.destination.as_str(), attempt, until])? == 1)
}
