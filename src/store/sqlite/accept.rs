//! How a lead comes in: inside the writer's transaction, with its deliveries. `now` is milliseconds since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Statement, ToSql, params};
use tokio::time::Instant;

use super::write::{CAN_ARRIVE, THIS, change, millis, to_json};
use super::writer::Hand;
use super::{failed, story};
use crate::delivery::{Birth, Claim, Entry, Planned};
use crate::id::DeliveryId;
use crate::store::{Accepted, StoreError};

/// An entry with everything written out that can be before the writer's turn: the one thread that
/// writes does nothing that another could.
pub(super) struct Draft {
    entry: Arc<Entry>,
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
        let received_at = entry.lead.received_at.as_millisecond();
        Ok(Self { received_at, crm_planned: entry.crm_planned(), body, entry })
    }
}

/// The statements of an accept, compiled and at hand: to look one up among those that a connection keeps, and to bind
/// again what it had before, costs more than a row.
pub(super) struct Inserts<'c> {
    db: &'c Connection,
    lead: Option<Statement<'c>>,
    /// For one delivery, for two …: stepping a statement costs more than a row.
    deliveries: [Option<Rows<'c>>; 8],
}

/// A statement that inserts so many deliveries of one lead.
struct Rows<'c> {
    insert: Statement<'c>,
    /// What its rows were born as the last time, and are bound as: mostly the next lead goes the same ways.
    bound: Vec<Option<Planned>>,
}

impl<'c> Inserts<'c> {
    pub(super) fn new(db: &'c Connection) -> Self {
        Self { db, lead: None, deliveries: Default::default() }
    }

    /// Its row's number; `None` when there is such an id already.
    fn lead(&mut self, draft: &Draft) -> rusqlite::Result<Option<i64>> {
        let Draft { entry, received_at, crm_planned, body } = draft;
        let insert = at_hand(&mut self.lead, || {
            self.db.prepare(
                "INSERT INTO leads (id, form_name, received_at, digest, crm_planned, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
            )
        })?;
        let mut room = [0; 37];
        let id = entry.lead.id.text(&mut room);
        let form = entry.lead.submitted.form_name.as_str();
        let inserted = insert.execute(params![id, form, received_at, entry.digest, crm_planned, body])?;
        Ok((inserted > 0).then(|| self.db.last_insert_rowid()))
    }

    fn deliveries(&mut self, lead: i64, all: &[Planned], now: i64) -> Result<(), StoreError> {
        for some in all.chunks(self.deliveries.len()) {
            let Some(slot) = self.deliveries.get_mut(some.len() - 1) else { continue };
            at_hand(slot, || Rows::prepare(self.db, some.len())).map_err(failed)?.insert(lead, some, now)?;
        }
        Ok(())
    }
}

fn at_hand<T>(slot: &mut Option<T>, make: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<&mut T> {
    let made = match slot.take() {
        Some(made) => made,
        None => make()?,
    };
    Ok(slot.insert(made))
}

impl<'c> Rows<'c> {
    /// OR FAIL leaves the rows before one that is refused, and the writer takes back everything then; without it SQLite
    /// would copy every page first, to take them back alone.
    fn prepare(db: &'c Connection, count: usize) -> rusqlite::Result<Self> {
        let row = |index: usize| {
            let [destination, kind, state, wait, attempts, opened, receipt] =
                std::array::from_fn(|column| FIRST + index * COLUMNS + column);
            format!(
                "(?1, ?{destination}, ?{kind}, ?{state}, ?2 + ?{wait}, ?{attempts}, ?2 + ?{opened}, ?{receipt})"
            )
        };
        let rows: Vec<_> = (0..count).map(row).collect();
        let insert = db.prepare(&format!(
            "INSERT OR FAIL INTO deliveries (lead, destination, kind, state, due_at, attempts, open_since, receipt)
             VALUES {}",
            rows.join(", ")
        ))?;
        Ok(Self { insert, bound: vec![None; count] })
    }

    fn insert(&mut self, lead: i64, all: &[Planned], now: i64) -> Result<(), StoreError> {
        self.insert.raw_bind_parameter(1, lead).map_err(failed)?;
        self.insert.raw_bind_parameter(2, now).map_err(failed)?;
        for (index, (planned, bound)) in all.iter().zip(&mut self.bound).enumerate() {
            if bound.as_ref() != Some(planned) {
                *bound = None;
                bind(&mut self.insert, FIRST + index * COLUMNS, planned)?;
                *bound = Some(planned.clone());
            }
        }
        self.insert.raw_execute().map_err(failed)?;
        Ok(())
    }
}

/// The parameter of the first row's first column that is a delivery's own, after the lead and the time.
const FIRST: usize = 3;

/// A row's parameters of its own.
const COLUMNS: usize = 7;

/// A delivery as it is born; its moments are so many milliseconds from the time of the accept.
fn bind(insert: &mut Statement<'_>, first: usize, planned: &Planned) -> Result<(), StoreError> {
    let (state, wait, attempts, opened, receipt) = match &planned.birth {
        Birth::Due => ("pending", Some(0), 0, None, None),
        Birth::Claimed { lease } => ("pending", Some(millis(*lease)), 1, Some(0), None),
        Birth::Withheld => ("withheld", None, 0, None, None),
        Birth::Delivered(receipt) => ("delivered", None, 0, None, Some(to_json(receipt)?)),
    };
    let (destination, kind) = (planned.destination.as_str(), planned.kind.as_str());
    let values: [&dyn ToSql; COLUMNS] = [&destination, &kind, &state, &wait, &attempts, &opened, &receipt];
    for (column, value) in (first..).zip(values) {
        insert.raw_bind_parameter(column, value).map_err(failed)?;
    }
    Ok(())
}

pub(super) fn accept(
    hand: &Hand<'_>,
    draft: &Draft,
    now: i64,
    asked: Instant,
) -> Result<Accepted, StoreError> {
    let Draft { entry, crm_planned, .. } = draft;
    let mut inserts = hand.inserts();
    let Some(seq) = inserts.lead(draft).map_err(failed)? else { return join(hand, entry) };
    inserts.deliveries(seq, &entry.deliveries, now)?;
    let claimed = entry.deliveries.iter().filter_map(|planned| match planned.birth {
        Birth::Claimed { lease } => Some((planned, lease)),
        _ => None,
    });
    let claim = |(planned, lease): (&Planned, Duration)| Claim {
        delivery: DeliveryId { lead: entry.lead.id, destination: planned.destination.clone() },
        lead: Arc::clone(&entry.lead),
        attempt: 1,
        budget_used: 0,
        lease_ends: asked + lease,
        crm_planned: *crm_planned,
        earlier: Vec::new(),
        steps: BTreeMap::new(),
    };
    Ok(Accepted::New(claimed.map(claim).collect()))
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
