//! What the processes that share the file know together: how destinations stand, whose turn it is, and how fast
//! calls may follow each other. `now` is milliseconds since 1970.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::failed;
use super::write::{change, millis};
use crate::clock::Timestamp;
use crate::delivery::LONGEST_WAIT;
use crate::delivery::standing::{LONGEST_PACE, Pace, Signal, Standing, TURN_SLACK, Turn, Turned, rest_after};
use crate::store::StoreError;

/// A row of `standings`.
struct Row {
    probe_at: Option<i64>,
    probes: u32,
    recovered_at: Option<i64>,
    held_until: Option<i64>,
}

impl Row {
    fn read(db: &Connection, destination: &str) -> Result<Option<Self>, StoreError> {
        db.prepare_cached(
            "SELECT probe_at, probes, recovered_at, held_until FROM standings WHERE destination = ?1",
        )
        .and_then(|mut select| {
            select
                .query_row([destination], |row| {
                    Ok(Self {
                        probe_at: row.get(0)?,
                        probes: row.get(1)?,
                        recovered_at: row.get(2)?,
                        held_until: row.get(3)?,
                    })
                })
                .optional()
        })
        .map_err(failed)
    }
}

/// How long from `now` until then. Further away than anything can rightly be is now: a clock lied.
fn ahead(then: i64, now: i64) -> Duration {
    let left = Duration::from_millis(then.saturating_sub(now).max(0).unsigned_abs());
    if left > LONGEST_WAIT { Duration::ZERO } else { left }
}

/// How the destination stands.
pub(super) fn standing(db: &Connection, destination: &str, now: i64) -> Result<Standing, StoreError> {
    let Some(row) = Row::read(db, destination)? else { return Ok(Standing::default()) };
    let held_for = row.held_until.map(|until| ahead(until, now)).filter(|held| !held.is_zero());
    let recovered_at = row.recovered_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(Standing { probe_in: row.probe_at.map(|at| ahead(at, now)), held_for, recovered_at })
}

/// A probe is on its way: the next one waits twice as long.
pub(super) fn probed(
    db: &Connection,
    destination: &str,
    first: Duration,
    now: i64,
) -> Result<(), StoreError> {
    let Some(row) = Row::read(db, destination)? else { return Ok(()) };
    let probes = row.probes.saturating_add(1);
    change(
        db,
        "UPDATE standings SET probes = ?2, probe_at = ?3 WHERE destination = ?1 AND parked_at IS NOT NULL",
        params![destination, probes, now + millis(rest_after(probes, first))],
    )?;
    Ok(())
}

/// Keeps what an attempt says of its destination; whether that turned it.
pub(super) fn signal(
    db: &Connection,
    destination: &str,
    signal: Signal,
    now: i64,
) -> Result<Option<Turned>, StoreError> {
    match signal {
        Signal::Refused { rest } => {
            let parked = change(
                db,
                "INSERT INTO standings (destination, parked_at, probe_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET parked_at = excluded.parked_at, probe_at = excluded.probe_at, probes = 0
                 WHERE parked_at IS NULL",
                params![destination, now, now + millis(rest)],
            )?;
            Ok((parked == 1).then_some(Turned::Parked))
        }
        Signal::Works => {
            let recovered = change(
                db,
                "UPDATE standings SET parked_at = NULL, probe_at = NULL, probes = 0, recovered_at = ?2
                 WHERE destination = ?1 AND parked_at IS NOT NULL",
                params![destination, now],
            )?;
            Ok((recovered == 1).then_some(Turned::Recovered))
        }
        Signal::Holds(wait) => {
            change(
                db,
                "INSERT INTO standings (destination, held_until) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET held_until = max(coalesce(held_until, 0), excluded.held_until)",
                params![destination, now + millis(wait)],
            )?;
            Ok(None)
        }
    }
}

/// A person has done something about it: the next probe is due, and the rests begin anew.
pub(super) fn probe_now(db: &Connection, destination: &str, now: i64) -> Result<(), StoreError> {
    change(
        db,
        "UPDATE standings SET probe_at = ?2, probes = 0 WHERE destination = ?1 AND parked_at IS NOT NULL",
        params![destination, now],
    )?;
    Ok(())
}

/// Takes the turn, or lengthens it. `false`: another one has it.
pub(super) fn take_turn(
    db: &Connection,
    turn: &Turn,
    length: Duration,
    now: i64,
) -> Result<bool, StoreError> {
    let taken = change(
        db,
        "INSERT INTO turns (name, holder, number, ends_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET holder = excluded.holder, number = excluded.number, ends_at = excluded.ends_at
         WHERE holder = excluded.holder OR ends_at <= ?5 OR ends_at > ?6",
        params![
            turn.name,
            turn.holder,
            turn.number,
            now + millis(length),
            now,
            now + millis(length + TURN_SLACK),
        ],
    )?;
    Ok(taken == 1)
}

/// Ends the turn, and forgets those that nobody ended.
pub(super) fn end_turn(db: &Connection, turn: &Turn, now: i64) -> Result<(), StoreError> {
    change(
        db,
        "DELETE FROM turns WHERE (name = ?1 AND holder = ?2 AND number = ?3) OR ends_at <= ?4",
        params![turn.name, turn.holder, turn.number, now],
    )?;
    Ok(())
}

/// Books a call: how long until it may go. `None`: not within `patience`, and nothing is booked.
pub(super) fn pace(
    db: &Connection,
    name: &str,
    pace: Pace,
    patience: Duration,
    now: i64,
) -> Result<Option<Duration>, StoreError> {
    let (now, every, tolerance) = (now * 1_000, micros(pace.every), micros(pace.tolerance()));
    let kept: Option<i64> = db
        .prepare_cached("SELECT paid_at FROM paces WHERE name = ?1")
        .and_then(|mut select| select.query_row([name], |row| row.get(0)).optional())
        .map_err(failed)?;
    let lied = now + tolerance + micros(LONGEST_PACE);
    let paid_at = kept.filter(|paid_at| *paid_at <= lied).unwrap_or(now).max(now);
    let wait = (paid_at - tolerance - now).max(0);
    if wait > micros(patience) {
        return Ok(None);
    }
    keep_pace(db, name, paid_at + every)?;
    Ok(Some(Duration::from_micros(wait.unsigned_abs())))
}

/// No call goes for so long, and then one after the other.
pub(super) fn rest(
    db: &Connection,
    name: &str,
    pace: Pace,
    wait: Duration,
    now: i64,
) -> Result<(), StoreError> {
    let until = now * 1_000 + micros(wait.min(LONGEST_PACE)) + micros(pace.tolerance());
    change(
        db,
        "INSERT INTO paces (name, paid_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET paid_at = max(paid_at, excluded.paid_at)",
        params![name, until],
    )?;
    Ok(())
}

fn keep_pace(db: &Connection, name: &str, paid_at: i64) -> Result<(), StoreError> {
    change(
        db,
        "INSERT INTO paces (name, paid_at) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET paid_at = excluded.paid_at",
        params![name, paid_at],
    )?;
    Ok(())
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}
