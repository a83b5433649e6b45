//! What is written one at a time, a function a verb.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::pool::{Pool, Purpose, Value};
use super::{from_json, get, is_deadlock, millis, share, story, text, to_json};
use crate::clock::Timestamp;
use crate::id::{DeliveryId, DestinationName, LeadId};
use crate::lead::Lead;
use crate::store::StoreError;

/// How often a change is done again that the server has undone.
const TANGLES: usize = 3;

/// One statement, alone in its transaction; how many rows it changed.
pub(super) async fn change(pool: &Pool, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
    let change = pool.begin(Purpose::Write).await?;
    let changed = change.execute(sql, values).await?;
    change.commit().await?;
    Ok(changed)
}

pub(super) async fn release(
    pool: &Pool,
    delivery: &DeliveryId,
    attempt: u32,
    now: Option<i64>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE deliveries
        SET due_at = coalesce($4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), open_since = NULL
        WHERE lead = (SELECT seq FROM leads WHERE id = $1) AND destination = $2
          AND state = 'pending' AND attempts = $3 AND open_since IS NOT NULL";
    let values: [Value<'_>; 4] = [
        (&delivery.lead.to_string(), Type::TEXT),
        (&delivery.destination.as_str(), Type::TEXT),
        (&i64::from(attempt), Type::INT8),
        (&now, Type::INT8),
    ];
    Ok(change(pool, sql, &values).await? == 1)
}

pub(super) async fn renew(
    pool: &Pool,
    delivery: &DeliveryId,
    attempt: u32,
    lease: Duration,
    now: Option<i64>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE deliveries
        SET due_at = coalesce($4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) + $5
        WHERE lead = (SELECT seq FROM leads WHERE id = $1) AND destination = $2
          AND state = 'pending' AND attempts = $3 AND open_since IS NOT NULL";
    let values: [Value<'_>; 5] = [
        (&delivery.lead.to_string(), Type::TEXT),
        (&delivery.destination.as_str(), Type::TEXT),
        (&i64::from(attempt), Type::INT8),
        (&now, Type::INT8),
        (&millis(lease), Type::INT8),
    ];
    Ok(change(pool, sql, &values).await? == 1)
}

pub(super) async fn finish_step(
    pool: &Pool,
    delivery: &DeliveryId,
    name: &str,
    value: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO steps (lead, destination, name, value)
        SELECT seq, $2, $3, $4 FROM leads WHERE id = $1
        ON CONFLICT (lead, destination, name) DO UPDATE SET value = excluded.value";
    let values: [Value<'_>; 4] = [
        (&delivery.lead.to_string(), Type::TEXT),
        (&delivery.destination.as_str(), Type::TEXT),
        (&text(name), Type::TEXT),
        (&text(value), Type::TEXT),
    ];
    change(pool, sql, &values).await.map(drop)
}

pub(super) async fn remember(
    pool: &Pool,
    destination: &DestinationName,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    let (destination, key, value) = (destination.as_str(), text(key), text(value));
    let (place, key): (Value<'_>, Value<'_>) = ((&destination, Type::TEXT), (&key, Type::TEXT));
    if value.is_empty() {
        let sql = "DELETE FROM memory WHERE destination = $1 AND key = $2";
        return change(pool, sql, &[place, key]).await.map(drop);
    }
    let sql = "INSERT INTO memory (destination, key, value) VALUES ($1, $2, $3)
        ON CONFLICT (destination, key) DO UPDATE SET value = excluded.value";
    change(pool, sql, &[place, key, (&value, Type::TEXT)]).await.map(drop)
}

/// What a person makes of deliveries.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Dead letters are on their way again, and a parked destination is probed, by `now`.
    Replay { now: Option<i64> },
    /// What has not arrived is given up.
    Cancel,
}

/// Changes many deliveries, and does so again where the server has undone it to end a circle of waits: the service changes
/// some of them meanwhile.
pub(super) async fn change_deliveries(
    pool: &Pool,
    deliveries: &[DeliveryId],
    what: Change,
) -> Result<u64, StoreError> {
    for _ in 0..TANGLES {
        match change_once(pool, deliveries, what).await {
            Err(error) if is_deadlock(&error) => {}
            ended => return ended,
        }
    }
    change_once(pool, deliveries, what).await
}

async fn change_once(pool: &Pool, deliveries: &[DeliveryId], what: Change) -> Result<u64, StoreError> {
    let ids: Vec<String> = deliveries.iter().map(|delivery| delivery.lead.to_string()).collect();
    let leads: Vec<&str> = ids.iter().map(String::as_str).collect();
    let names: Vec<&str> = deliveries.iter().map(|delivery| delivery.destination.as_str()).collect();
    let [these, places]: [Value<'_>; 2] = [(&leads, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
    let change = pool.begin(Purpose::Write).await?;
    let changed = match &what {
        Change::Replay { now } => {
            let sql = "UPDATE deliveries d
                SET state = 'pending', budget_used = 0,
                    due_at = coalesce($3, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                FROM unnest($1, $2) AS g (id, destination) JOIN leads l ON l.id = g.id
                WHERE d.lead = l.seq AND d.destination = g.destination AND d.state = 'dead'";
            change.execute(sql, &[these, places, (now, Type::INT8)]).await?
        }
        Change::Cancel => {
            let sql = "UPDATE deliveries d SET state = 'cancelled', due_at = NULL, open_since = NULL
                FROM unnest($1, $2) AS g (id, destination) JOIN leads l ON l.id = g.id
                WHERE d.lead = l.seq AND d.destination = g.destination
                  AND d.state IN ('pending', 'dead', 'withheld')";
            change.execute(sql, &[these, places]).await?
        }
    };
    story::lock(&change, &leads).await?;
    story::deliveries_changed(&change, &leads, &names).await?;
    if let Change::Replay { now } = what {
        share::probe_now(&change, &names, now).await?;
    }
    change.commit().await?;
    Ok(changed)
}

pub(super) async fn consent(
    pool: &Pool,
    id: LeadId,
    at: Timestamp,
    now: Option<i64>,
) -> Result<Option<u64>, StoreError> {
    let change = pool.begin(Purpose::Write).await?;
    let rows = change
        .query(
            "SELECT seq, body FROM leads WHERE id = $1 FOR NO KEY UPDATE",
            &[(&id.to_string(), Type::TEXT)],
        )
        .await?;
    let Some(row) = rows.first() else {
        change.commit().await?;
        return Ok(None);
    };
    let seq: i64 = get(row, 0)?;
    let mut lead: Lead = from_json(get(row, 1)?)?;
    if !lead.submitted.consent_given {
        lead.submitted.consent_given = true;
        lead.submitted.consent_timestamp = Some(at);
        change
            .execute(
                "UPDATE leads SET body = $2 WHERE seq = $1",
                &[(&seq, Type::INT8), (&to_json(&lead)?, Type::TEXT)],
            )
            .await?;
    }
    let freed = change
        .execute(
            "UPDATE deliveries
             SET state = 'pending', due_at = coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
             WHERE lead = $1 AND state = 'withheld'",
            &[(&seq, Type::INT8), (&now, Type::INT8)],
        )
        .await?;
    change.commit().await?;
    Ok(Some(freed))
}

pub(super) async fn keep(pool: &Pool, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
    let change = pool.begin(Purpose::Write).await?;
    let insert = "INSERT INTO kept (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    change.execute(insert, &[(&name, Type::TEXT), (&fresh, Type::BYTEA)]).await?;
    let rows = change.query("SELECT value FROM kept WHERE name = $1", &[(&name, Type::TEXT)]).await?;
    let kept = rows.first().map(|row| get(row, 0));
    change.commit().await?;
    kept.unwrap_or_else(|| Err(StoreError::Corrupt("a kept value is gone".to_owned())))
}

/// A transaction that could write: the server is there and is no standby.
pub(super) async fn ready(pool: &Pool) -> Result<(), StoreError> {
    let asking = pool.begin(Purpose::Write).await?;
    let rows = asking.query("SELECT current_setting('transaction_read_only') = 'on'", &[]).await?;
    let read_only: bool = rows.first().map_or(Ok(false), |row| get(row, 0))?;
    if read_only {
        return Err(StoreError::Unavailable("the database takes no writes".into()));
    }
    asking.commit().await
}
