//! What the processes that share the database know together: how destinations stand, whose turn it is, and how fast
//! calls may follow each other. Each is one statement, so that no transaction stays open for any of it.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::pool::{Pool, Purpose, Transaction, Value};
use super::write::change;
use super::{get, millis, text};
use crate::clock::Timestamp;
use crate::delivery::LONGEST_WAIT;
use crate::delivery::standing::{LONGEST_PACE, Pace, Signal, Standing, TURN_SLACK, Turn, Turned};
use crate::store::StoreError;

/// How the destination stands.
pub(super) async fn standing(
    asking: &Transaction<'_>,
    destination: &str,
    now: Option<i64>,
) -> Result<Standing, StoreError> {
    let rows = asking
        .query(
            "SELECT probe_at - clock.now, held_until - clock.now, recovered_at FROM standings, (
                 SELECT coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now
             ) AS clock WHERE destination = $1",
            &[(&destination, Type::TEXT), (&now, Type::INT8)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(Standing::default()) };
    let recovered_at: Option<i64> = get(row, 2)?;
    Ok(Standing {
        probe_in: get::<Option<i64>>(row, 0)?.map(ahead),
        held_for: get::<Option<i64>>(row, 1)?.map(ahead).filter(|held| !held.is_zero()),
        recovered_at: recovered_at.and_then(|at| Timestamp::from_millisecond(at).ok()),
    })
}

/// Further away than anything can rightly be is now: a clock lied.
fn ahead(left: i64) -> Duration {
    let left = Duration::from_millis(left.max(0).unsigned_abs());
    if left > LONGEST_WAIT { Duration::ZERO } else { left }
}

/// The statement that keeps a signal, by `$1` destination, `$2` now and `$3` a length in milliseconds.
fn statement(signal: Signal) -> (&'static str, Duration) {
    match signal {
        Signal::Refused { rest } => (
            "WITH clock AS (SELECT coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now)
             INSERT INTO standings AS s (destination, parked_at, probe_at)
             SELECT $1, clock.now, clock.now + $3 FROM clock
             ON CONFLICT (destination) DO UPDATE
             SET parked_at = excluded.parked_at, probe_at = excluded.probe_at, probes = 0
             WHERE s.parked_at IS NULL",
            rest,
        ),
        Signal::Works => (
            "UPDATE standings SET parked_at = NULL, probe_at = NULL, probes = 0, recovered_at =
                 coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) + $3
             WHERE destination = $1 AND parked_at IS NOT NULL",
            Duration::ZERO,
        ),
        Signal::Holds(wait) => (
            "INSERT INTO standings AS s (destination, held_until) SELECT $1,
                 coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) + $3
             ON CONFLICT (destination) DO UPDATE SET held_until = greatest(s.held_until, excluded.held_until)",
            wait,
        ),
    }
}

/// Keeps what an attempt says of its destination; whether that turned it.
pub(super) async fn signal(
    within: &Transaction<'_>,
    destination: &str,
    signal: Signal,
    now: Option<i64>,
) -> Result<Option<Turned>, StoreError> {
    let (sql, length) = statement(signal);
    let changed = within
        .execute(sql, &[(&destination, Type::TEXT), (&now, Type::INT8), (&millis(length), Type::INT8)])
        .await?;
    Ok(match signal {
        Signal::Refused { .. } if changed == 1 => Some(Turned::Parked),
        Signal::Works if changed == 1 => Some(Turned::Recovered),
        _ => None,
    })
}

/// The same, alone in its transaction.
pub(super) async fn signal_alone(
    pool: &Pool,
    destination: &str,
    what: Signal,
    now: Option<i64>,
) -> Result<(), StoreError> {
    let alone = pool.begin(Purpose::Write).await?;
    signal(&alone, destination, what, now).await?;
    alone.commit().await
}

/// A person has done something about it: the next probe is due, and the rests begin anew.
pub(super) async fn probe_now(
    within: &Transaction<'_>,
    destinations: &[&str],
    now: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE standings
        SET probe_at = coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), probes = 0
        WHERE destination = ANY($1) AND parked_at IS NOT NULL";
    within.execute(sql, &[(&destinations, Type::TEXT_ARRAY), (&now, Type::INT8)]).await.map(drop)
}

/// The same, alone in its transaction.
pub(super) async fn probe_now_alone(
    pool: &Pool,
    destination: &str,
    now: Option<i64>,
) -> Result<(), StoreError> {
    let alone = pool.begin(Purpose::Write).await?;
    probe_now(&alone, &[destination], now).await?;
    alone.commit().await
}

/// Takes the turn, or lengthens it. `false`: another one has it.
pub(super) async fn take_turn(
    pool: &Pool,
    turn: &Turn,
    length: Duration,
    now: Option<i64>,
) -> Result<bool, StoreError> {
    let sql = "
        WITH clock AS (SELECT coalesce($4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now)
        INSERT INTO turns AS t (name, holder, number, ends_at) SELECT $1, $2, $3, clock.now + $5 FROM clock
        ON CONFLICT (name) DO UPDATE
        SET holder = excluded.holder, number = excluded.number, ends_at = excluded.ends_at
        WHERE t.holder = excluded.holder OR t.ends_at <= excluded.ends_at - $5 OR t.ends_at > excluded.ends_at + $6";
    let values: [Value<'_>; 6] = [
        (&text(&turn.name), Type::TEXT),
        (&turn.holder, Type::TEXT),
        (&turn.number, Type::INT8),
        (&now, Type::INT8),
        (&millis(length), Type::INT8),
        (&millis(TURN_SLACK), Type::INT8),
    ];
    Ok(change(pool, sql, &values).await? == 1)
}

/// Ends the turn, and forgets those that nobody ended.
pub(super) async fn end_turn(pool: &Pool, turn: &Turn, now: Option<i64>) -> Result<(), StoreError> {
    let sql = "DELETE FROM turns WHERE (name = $1 AND holder = $2 AND number = $3)
        OR ends_at <= coalesce($4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)";
    let values: [Value<'_>; 4] = [
        (&text(&turn.name), Type::TEXT),
        (&turn.holder, Type::TEXT),
        (&turn.number, Type::INT8),
        (&now, Type::INT8),
    ];
    change(pool, sql, &values).await.map(drop)
}

/// Books a call: how long until it may go. `None`: not within `patience`, and nothing is booked.
pub(super) async fn pace(
    pool: &Pool,
    name: &str,
    pace: Pace,
    patience: Duration,
    now: Option<i64>,
) -> Result<Option<Duration>, StoreError> {
    // What is kept, unless a clock that lied kept it, and never in the past; then one call more.
    let sql = "
        WITH clock AS (SELECT coalesce($2 * 1000, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS now)
        INSERT INTO paces AS p (name, paid_at) SELECT $1, clock.now + $3 FROM clock
        ON CONFLICT (name) DO UPDATE SET paid_at = $3 +
            CASE WHEN p.paid_at > excluded.paid_at - $3 + $4 + $6 THEN excluded.paid_at - $3
                 ELSE greatest(p.paid_at, excluded.paid_at - $3) END
        WHERE p.paid_at > excluded.paid_at - $3 + $4 + $6 OR p.paid_at - $4 - (excluded.paid_at - $3) <= $5
        RETURNING p.paid_at - $3 - $4 - (SELECT now FROM clock)";
    let values: [Value<'_>; 6] = [
        (&text(name), Type::TEXT),
        (&now, Type::INT8),
        (&micros(pace.every), Type::INT8),
        (&micros(pace.tolerance()), Type::INT8),
        (&micros(patience), Type::INT8),
        (&micros(LONGEST_PACE), Type::INT8),
    ];
    let booking = pool.begin(Purpose::Write).await?;
    let rows = booking.query(sql, &values).await?;
    booking.commit().await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let wait: i64 = get(row, 0)?;
    Ok(Some(Duration::from_micros(wait.max(0).unsigned_abs())))
}

/// No call goes for so long, and then one after the other.
pub(super) async fn rest(
    pool: &Pool,
    name: &str,
    pace: Pace,
    wait: Duration,
    now: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO paces AS p (name, paid_at) SELECT $1,
            coalesce($2 * 1000, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + $3
        ON CONFLICT (name) DO UPDATE SET paid_at = greatest(p.paid_at, excluded.paid_at)";
    let length = micros(wait.min(LONGEST_PACE)) + micros(pace.tolerance());
    change(pool, sql, &[(&text(name), Type::TEXT), (&now, Type::INT8), (&length, Type::INT8)]).await.map(drop)
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}
