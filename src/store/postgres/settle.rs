//! Settling: the attempts and what becomes of their deliveries, all that waits in one statement; the story follows
//! in the same transaction.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;

use super::batch::Command;
use super::pool::{Purpose, SHORT, Shared, within};
use super::{get, millis, share, story, text, to_json};
use crate::delivery::Settlement;
use crate::delivery::standing::Signal;
use crate::id::DeliveryId;
use crate::store::{Settle, Settled, StoreError};

/// A settlement with everything written out.
pub(super) struct Verdict {
    delivery: DeliveryId,
    lead: String,
    claim: i64,
    number: i64,
    started_at: i64,
    finished_at: i64,
    outcome: &'static str,
    code: String,
    detail: String,
    /// The state it comes to.
    state: &'static str,
    wait: i64,
    counted: i64,
    receipt: Option<String>,
    signal: Option<Signal>,
    now: Option<i64>,
}

impl Verdict {
    pub(super) fn new(settle: &Settle, now: Option<i64>) -> Result<Self, StoreError> {
        let Settle { claim, attempt, settlement, signal } = settle;
        let (state, wait, counted, receipt) = match settlement {
            Settlement::Delivered(receipt) => ("delivered", 0, 0, Some(to_json(receipt)?)),
            Settlement::Retry { wait, counted } => ("pending", millis(*wait), i64::from(*counted), None),
            Settlement::Dead => ("dead", 0, 0, None),
            Settlement::Cancelled => ("cancelled", 0, 0, None),
        };
        Ok(Self {
            delivery: claim.delivery.clone(),
            lead: claim.delivery.lead.to_string(),
            claim: claim.attempt.into(),
            number: attempt.number.into(),
            started_at: attempt.started_at.as_millisecond(),
            finished_at: attempt.finished_at.as_millisecond(),
            outcome: attempt.outcome.as_str(),
            code: text(&attempt.code),
            detail: text(&attempt.detail),
            state,
            wait,
            counted,
            receipt,
            signal: *signal,
            now,
        })
    }

    fn destination(&self) -> &str {
        self.delivery.destination.as_str()
    }
}

impl Command for Verdict {
    type Answer = Settled;

    const AT_ONCE: usize = 1;

    type About = DeliveryId;

    fn about(&self) -> DeliveryId {
        self.delivery.clone()
    }

    async fn run(pool: &Shared, batch: &[Self]) -> Result<Vec<Settled>, StoreError> {
        within(SHORT, async {
            let settling = pool.begin(Purpose::Write).await?;
            let mut sorted: Vec<(i64, &Self)> = (0..).zip(batch).collect();
            sorted.sort_by(|(_, one), (_, other)| one.delivery.cmp(&other.delivery));
            macro_rules! column {
                ($name:ident) => {
                    sorted.iter().map(|(_, verdict)| &verdict.$name).collect::<Vec<_>>()
                };
            }
            let destinations: Vec<&str> = sorted.iter().map(|(_, verdict)| verdict.destination()).collect();
            let places: Vec<i64> = sorted.iter().map(|(place, _)| *place).collect();
            let now = batch.first().and_then(|verdict| verdict.now);
            let rows = settling
                .query(
                    SETTLE,
                    &[
                        (&now, Type::INT8),
                        (&places, Type::INT8_ARRAY),
                        (&column!(lead), Type::TEXT_ARRAY),
                        (&destinations, Type::TEXT_ARRAY),
                        (&column!(claim), Type::INT8_ARRAY),
                        (&column!(number), Type::INT8_ARRAY),
                        (&column!(started_at), Type::INT8_ARRAY),
                        (&column!(finished_at), Type::INT8_ARRAY),
                        (&column!(outcome), Type::TEXT_ARRAY),
                        (&column!(code), Type::TEXT_ARRAY),
                        (&column!(detail), Type::TEXT_ARRAY),
                        (&column!(state), Type::TEXT_ARRAY),
                        (&column!(wait), Type::INT8_ARRAY),
                        (&column!(counted), Type::INT8_ARRAY),
                        (&column!(receipt), Type::TEXT_ARRAY),
                    ],
                )
                .await?;
            let changed: HashSet<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
            let told: Vec<&Self> =
                sorted.iter().filter(|(place, _)| changed.contains(place)).map(|(_, it)| *it).collect();
            if !told.is_empty() {
                let leads: Vec<&str> = told.iter().map(|verdict| verdict.lead.as_str()).collect();
                let destinations: Vec<&str> = told.iter().map(|verdict| verdict.destination()).collect();
                let arrived = told.iter().filter(|verdict| verdict.state == "delivered");
                let arrived: Vec<&str> = arrived.map(|verdict| verdict.lead.as_str()).collect();
                story::lock(&settling, &leads).await?;
                story::deliveries_arrived(&settling, &arrived).await?;
                story::deliveries_changed(&settling, &leads, &destinations).await?;
            }
            let mut turned = HashMap::new();
            // By name, so that two processes never wait for each other; within one, as they came.
            let mut signals: Vec<_> = sorted.iter().filter(|(_, verdict)| verdict.signal.is_some()).collect();
            signals.sort_by_key(|(place, verdict)| (verdict.destination(), *place));
            for (place, verdict) in signals {
                let Some(signal) = verdict.signal else { continue };
                let change = share::signal(&settling, verdict.destination(), signal, now).await?;
                turned.extend(change.map(|change| (*place, change)));
            }
            settling.commit().await?;
            let answer =
                |place| Settled { changed: changed.contains(&place), turned: turned.get(&place).copied() };
            Ok((0..).zip(batch).map(|(place, _): (i64, _)| answer(place)).collect())
        })
        .await
    }
}

/// A failure counts only while its claim is the newest one and not settled yet: who settles again, for the answer to the
/// commit was lost, changes nothing. A success is a fact.
const SETTLE: &str = "
    WITH clock AS MATERIALIZED (
        SELECT coalesce($1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now
    ), given AS MATERIALIZED (
        SELECT l.seq, g.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS g
            (place, id, destination, claim, number, started_at, finished_at, outcome, code, detail, state, wait,
             counted, receipt)
        JOIN leads l ON l.id = g.id
        JOIN deliveries d ON d.lead = l.seq AND d.destination = g.destination
    ), tried AS (
        INSERT INTO attempts (lead, destination, number, started_at, finished_at, outcome, code, detail)
        SELECT seq, destination, number, started_at, finished_at, outcome, code, detail FROM given
        ON CONFLICT DO NOTHING
    )
    UPDATE deliveries d SET
        state = g.state,
        due_at = CASE WHEN g.state = 'pending' THEN clock.now + g.wait END,
        open_since = NULL,
        budget_used = d.budget_used + g.counted,
        receipt = coalesce(g.receipt, d.receipt)
    FROM given g, clock
    WHERE d.lead = g.seq AND d.destination = g.destination
      AND CASE WHEN g.state = 'delivered' THEN d.state IN ('pending', 'dead', 'cancelled')
               ELSE d.state = 'pending' AND d.attempts = g.claim AND d.open_since IS NOT NULL END
    RETURNING g.place";
