//! What people and lanes ask. Each question is one snapshot, however many statements it takes, and their number does
//! not grow with the answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::pool::{Pool, Purpose, Transaction, Value};
use super::{from_json, get, get_count, parsed, text};
use crate::clock::Timestamp;
use crate::delivery::{Attempt, AttemptOutcome, Kind, State};
use crate::id::{DeliveryId, DestinationName, FormName, LeadId};
use crate::lead::Lead;
use crate::store::{DeliveryFilter, DeliveryRecord, LeadFilter, LeadRecord, StoreError};

fn time(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX)
}

/// One question in one statement.
async fn ask(pool: &Pool, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking.query(sql, values).await?;
    asking.commit().await?;
    Ok(rows)
}

/// The attempts of these deliveries, oldest first.
pub(super) async fn attempts(
    asking: &Transaction<'_>,
    leads: &[i64],
    destinations: &[&str],
) -> Result<HashMap<(i64, String), Vec<Attempt>>, StoreError> {
    let rows = asking
        .query(
            "SELECT a.lead, a.destination, a.number, a.started_at, a.finished_at, a.outcome, a.code, a.detail
             FROM unnest($1, $2) AS g (lead, destination)
             JOIN attempts a ON a.lead = g.lead AND a.destination = g.destination
             ORDER BY a.number",
            &[(&leads, Type::INT8_ARRAY), (&destinations, Type::TEXT_ARRAY)],
        )
        .await?;
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        found.entry((get(row, 0)?, get(row, 1)?)).or_default().push(Attempt {
            number: get_count(row, 2)?,
            started_at: time(get(row, 3)?),
            finished_at: time(get(row, 4)?),
            outcome: AttemptOutcome::from_word(get(row, 5)?).unwrap_or(AttemptOutcome::Unknown),
            code: get(row, 6)?,
            detail: get(row, 7)?,
        });
    }
    Ok(found)
}

/// The finished steps of these leads' deliveries to one destination, by name.
pub(super) async fn steps(
    asking: &Transaction<'_>,
    leads: &[i64],
    destination: &str,
) -> Result<HashMap<i64, BTreeMap<String, String>>, StoreError> {
    let rows = asking
        .query(
            "SELECT lead, name, value FROM steps WHERE lead = ANY($1) AND destination = $2",
            &[(&leads, Type::INT8_ARRAY), (&destination, Type::TEXT)],
        )
        .await?;
    let mut found: HashMap<_, BTreeMap<_, _>> = HashMap::new();
    for row in &rows {
        found.entry(get(row, 0)?).or_default().insert(get(row, 1)?, get(row, 2)?);
    }
    Ok(found)
}

pub(super) async fn recall(
    pool: &Pool,
    destination: &DestinationName,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let rows = ask(
        pool,
        "SELECT value FROM memory WHERE destination = $1 AND key = $2",
        &[(&destination.as_str(), Type::TEXT), (&text(key), Type::TEXT)],
    )
    .await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

pub(super) async fn next_due(
    pool: &Pool,
    destination: &DestinationName,
    now: Option<i64>,
) -> Result<Option<Duration>, StoreError> {
    let rows = ask(
        pool,
        "SELECT min(due_at) - coalesce($2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
         FROM deliveries WHERE destination = $1 AND state = 'pending'",
        &[(&destination.as_str(), Type::TEXT), (&now, Type::INT8)],
    )
    .await?;
    let wait: Option<i64> = rows.first().map_or(Ok(None), |row| get(row, 0))?;
    Ok(wait.map(|wait| Duration::from_millis(wait.max(0).unsigned_abs())))
}

/// Steps through the index of what is pending from one destination to the next, past all that is between.
pub(super) async fn waited_for(pool: &Pool) -> Result<Vec<DestinationName>, StoreError> {
    let rows = ask(
        pool,
        "WITH RECURSIVE step (name) AS (
             SELECT min(destination) FROM deliveries WHERE state = 'pending'
             UNION ALL
             SELECT (SELECT min(destination) FROM deliveries WHERE state = 'pending' AND destination > step.name)
             FROM step WHERE step.name IS NOT NULL
         )
         SELECT name FROM step WHERE name IS NOT NULL",
        &[],
    )
    .await?;
    rows.iter().map(|row| parsed(get(row, 0)?)).collect()
}

/// Each half is answered by an index that holds nothing else.
pub(super) async fn counts(pool: &Pool) -> Result<Vec<(DestinationName, State, u64)>, StoreError> {
    let rows = ask(
        pool,
        "SELECT destination, 'pending', count(*) FROM deliveries WHERE state = 'pending' GROUP BY destination
         UNION ALL
         SELECT destination, state, count(*) FROM deliveries WHERE state IN ('dead', 'withheld')
         GROUP BY state, destination",
        &[],
    )
    .await?;
    rows.iter()
        .map(|row| Ok((parsed(get(row, 0)?)?, parsed(get(row, 1)?)?, get::<i64>(row, 2)?.unsigned_abs())))
        .collect()
}

pub(super) async fn lead(pool: &Pool, id: LeadId) -> Result<Option<LeadRecord>, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows =
        asking.query("SELECT seq, body FROM leads WHERE id = $1", &[(&id.to_string(), Type::TEXT)]).await?;
    let found = records(&asking, &rows).await?.pop();
    asking.commit().await?;
    Ok(found)
}

pub(super) async fn leads(pool: &Pool, filter: &LeadFilter) -> Result<Vec<LeadRecord>, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking
        .query(
            "SELECT seq, body FROM leads
             WHERE ($1 IS NULL OR form_name = $1) AND ($2 IS NULL OR received_at >= $2)
               AND ($3 IS NULL OR received_at < $3)
             ORDER BY seq DESC LIMIT $4",
            &[
                (&filter.form.as_ref().map(FormName::as_str), Type::TEXT),
                (&filter.since.map(Timestamp::as_millisecond), Type::INT8),
                (&filter.until.map(Timestamp::as_millisecond), Type::INT8),
                (&filter.limit.map(i64::from), Type::INT8),
            ],
        )
        .await?;
    let found = records(&asking, &rows).await?;
    asking.commit().await?;
    Ok(found)
}

/// Leads with their deliveries, from rows of `seq` and `body`.
async fn records(asking: &Transaction<'_>, rows: &[Row]) -> Result<Vec<LeadRecord>, StoreError> {
    let seqs: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let sql = format!("{DELIVERIES} WHERE d.lead = ANY($1) ORDER BY d.destination");
    let found = asking.query(&sql, &[(&seqs, Type::INT8_ARRAY)]).await?;
    let mut deliveries: HashMap<i64, Vec<DeliveryRecord>> = HashMap::new();
    for (seq, delivery) in with_history(asking, &found).await? {
        deliveries.entry(seq).or_default().push(delivery);
    }
    let read = |(row, seq): (&Row, &i64)| {
        let lead: Lead = from_json(get(row, 1)?)?;
        Ok(LeadRecord { lead: Arc::new(lead), deliveries: deliveries.remove(seq).unwrap_or_default() })
    };
    rows.iter().zip(&seqs).map(read).collect()
}

const DELIVERIES: &str = "
    SELECT d.lead, l.id, d.destination, d.state, d.due_at, d.attempts, d.receipt, l.received_at, d.kind
    FROM leads l JOIN deliveries d ON d.lead = l.seq";

pub(super) async fn deliveries(
    pool: &Pool,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let sql = format!(
        "{DELIVERIES}
         WHERE ($1 IS NULL OR l.id = $1) AND ($2 IS NULL OR d.state = $2)
           AND ($3 IS NULL OR d.destination = $3) AND ($4 IS NULL OR l.form_name = $4)
           AND ($5 IS NULL OR l.received_at >= $5) AND ($6 IS NULL OR l.received_at < $6)
           AND ($7 IS NULL OR strpos(lower((
                SELECT a.code || ' ' || a.detail FROM attempts a
                WHERE a.lead = d.lead AND a.destination = d.destination
                ORDER BY a.number DESC LIMIT 1)), lower($7)) > 0)
         ORDER BY l.seq DESC, d.destination LIMIT $8"
    );
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking
        .query(
            &sql,
            &[
                (&filter.lead.map(|lead| lead.to_string()), Type::TEXT),
                (&filter.state.map(State::as_str), Type::TEXT),
                (&filter.destination.as_ref().map(DestinationName::as_str), Type::TEXT),
                (&filter.form.as_ref().map(FormName::as_str), Type::TEXT),
                (&filter.since.map(Timestamp::as_millisecond), Type::INT8),
                (&filter.until.map(Timestamp::as_millisecond), Type::INT8),
                (&filter.error.as_deref().map(text), Type::TEXT),
                (&filter.limit.map(i64::from), Type::INT8),
            ],
        )
        .await?;
    let found = with_history(&asking, &rows).await?;
    asking.commit().await?;
    Ok(found.into_iter().map(|(_, delivery)| delivery).collect())
}

/// Deliveries with their attempts, from rows of [`DELIVERIES`].
async fn with_history(
    asking: &Transaction<'_>,
    rows: &[Row],
) -> Result<Vec<(i64, DeliveryRecord)>, StoreError> {
    let leads: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let destinations: Vec<&str> = rows.iter().map(|row| get(row, 2)).collect::<Result<_, _>>()?;
    let mut history = attempts(asking, &leads, &destinations).await?;
    let read = |(row, seq): (&Row, i64)| {
        let destination: String = get(row, 2)?;
        let receipt: Option<&str> = get(row, 6)?;
        let record = DeliveryRecord {
            id: DeliveryId { lead: parsed(get(row, 1)?)?, destination: parsed(&destination)? },
            kind: Kind::from_word(get(row, 8)?).unwrap_or(Kind::Crm),
            state: parsed(get(row, 3)?)?,
            due_at: get::<Option<i64>>(row, 4)?.map(time),
            attempts: get_count(row, 5)?,
            receipt: receipt.map(from_json).transpose()?,
            received_at: time(get(row, 7)?),
            history: history.remove(&(seq, destination)).unwrap_or_default(),
        };
        Ok((seq, record))
    };
    rows.iter().zip(leads.iter().copied()).map(read).collect()
}
