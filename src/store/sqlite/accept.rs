//! How a lead comes in: inside the writer's transaction, with its deliveries. `now` is milliseconds since 1970.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, ToSql, params};
use tokio::time::Instant;

use super::write::{CAN_ARRIVE, THIS, change, millis, to_json};
use super::{failed, story};
use crate::delivery::{Birth, Claim, Entry, Planned};
use crate::id::DeliveryId;
use crate::store::{Accepted, StoreError};

/// An entry with everything written out that can be before the writer's turn: the one thread that
/// writes does nothing that another could.
pub(super) struct Draft {
    entry: Arc<Entry>,
    id: String,
    received_at: i64,
    crm_planned: bool,
    body: String,
}

impl Draft {
    pub(super) fn new(entry: Arc<Entry>) -> Result<Self, StoreError> {
        // A common lead in one piece of memory.
        let mut body = Vec::with_capacity(1_024);
        serde_json::to_writer(&mut body, &*entry.lead)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let body = String::from_utf8(body).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let (id, received_at) = (entry.lead.id.to_string(), entry.lead.received_at.as_millisecond());
        Ok(Self { id, received_at, crm_planned: entry.crm_planned(), body, entry })
    }
}

pub(super) fn accept(
    db: &Connection,
    draft: &Draft,
    now: i64,
    asked: Instant,
) -> Result<Accepted, StoreError> {
    let Draft { entry, id, received_at, crm_planned, body } = draft;
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
                received_at,
                entry.digest,
                crm_planned,
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
                crm_planned: *crm_planned,
                earlier: Vec::new(),
                steps: BTreeMap::new(),
            });
        }
    }
    Ok(Accepted::New(claims))
}

/// Statements that insert one, two … deliveries at once: stepping a statement costs more than a row. OR FAIL leaves
/// the rows before one that is refused, and the writer takes back everything then; without it SQLite would copy every
/// page first, to take them back alone.
static INSERTS: LazyLock<[String; 8]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; index + 1].join(", ");
        format!(
            "INSERT OR FAIL INTO deliveries (lead, destination, kind, state, due_at, attempts, open_since, receipt) VALUES {rows}"
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
    let (lead, digest): (i64, Vec<u8>) = db
        .prepare_cached("SELECT seq, digest FROM leads WHERE id = ?1")
        .and_then(|mut select| {
            select.query_row([entry.lead.id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(failed)?;
    if digest != entry.digest {
        return Ok(Accepted::Conflict);
    }
    for planned in &entry.deliveries {
        if let Birth::Delivered(receipt) = &planned.birth {
            let sql = format!(
                "UPDATE deliveries SET state = 'delivered', due_at = NULL, open_since = NULL, receipt = ?3
                 WHERE {THIS} AND {CAN_ARRIVE}"
            );
            change(db, &sql, params![lead, planned.destination.as_str(), to_json(receipt)?])?;
            story::delivery_arrived(db, lead)?;
        }
    }
    Ok(Accepted::Repeat)
}
