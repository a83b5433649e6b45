//! Accepting: all that waits in one statement, and in the same transaction a look at those that were here before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::batch::Command;
use super::pool::{Purpose, SHORT, Shared, Transaction, within};
use super::{get, millis, story, to_json};
use crate::delivery::{Birth, Claim, Entry, Planned, State};
use crate::id::{DeliveryId, LeadId};
use crate::store::{Accepted, StoreError};

/// An entry with everything written out.
pub(super) struct Draft {
    entry: Arc<Entry>,
    id: String,
    body: String,
    now: Option<i64>,
    asked: Instant,
}

impl Draft {
    pub(super) fn new(entry: Arc<Entry>, now: Option<i64>, asked: Instant) -> Result<Self, StoreError> {
        Ok(Self { id: entry.lead.id.to_string(), body: to_json(&*entry.lead)?, entry, now, asked })
    }
}

impl Command for Draft {
    type Answer = Accepted;

    // While the server is at one, the answers of another are sent and the next requests read.
    const AT_ONCE: usize = 2;

    type About = LeadId;

    fn about(&self) -> LeadId {
        self.entry.lead.id
    }

    async fn run(pool: &Shared, batch: &[Self]) -> Result<Vec<Accepted>, StoreError> {
        within(SHORT, async {
            let accepting = pool.begin(Purpose::Write).await?;
            let fresh = insert(&accepting, batch).await?;
            let is_fresh = |draft: &Draft| fresh.as_ref().is_none_or(|fresh| fresh.contains(&draft.id));
            let known = batch.iter().filter(|draft| !is_fresh(draft)).map(|draft| draft.id.as_str());
            let digests = digests(&accepting, &known.collect::<Vec<_>>()).await?;
            let mut answers = Vec::with_capacity(batch.len());
            for draft in batch {
                answers.push(match digests.get(&draft.id) {
                    _ if is_fresh(draft) => Accepted::New(claims(draft)),
                    Some(digest) if *digest == draft.entry.digest => {
                        join(&accepting, draft).await?;
                        Accepted::Repeat
                    }
                    Some(_) => Accepted::Conflict,
                    None => return Err(StoreError::Corrupt("a lead is there and is not".to_owned())),
                });
            }
            accepting.commit().await?;
            Ok(answers)
        })
        .await
    }
}

/// Inserts what is new; the ids of it, or `None`: all of it was.
async fn insert(accepting: &Transaction<'_>, batch: &[Draft]) -> Result<Option<HashSet<String>>, StoreError> {
    // In the order of their ids, so that two processes never wait for each other.
    let mut sorted: Vec<&Draft> = batch.iter().collect();
    sorted.sort_by_key(|draft| draft.entry.lead.id);
    let (mut ids, mut forms, mut received) = (Vec::new(), Vec::new(), Vec::new());
    let (mut digests, mut crm_planned, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plans, mut plan_of) = (Plans::default(), Vec::new());
    for draft in &sorted {
        let lead = &draft.entry.lead;
        ids.push(draft.id.as_str());
        forms.push(lead.submitted.form_name.as_str());
        received.push(lead.received_at.as_millisecond());
        digests.push(draft.entry.digest.as_slice());
        crm_planned.push(draft.entry.crm_planned());
        bodies.push(draft.body.as_str());
        plan_of.push(plans.number(&draft.entry.deliveries)?);
    }
    let now = batch.first().and_then(|draft| draft.now);
    let rows = accepting
        .query(
            "WITH clock AS MATERIALIZED (
                 SELECT coalesce($1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now
             ), fresh AS (
                 INSERT INTO leads (id, form_name, received_at, digest, crm_planned, body)
                 SELECT * FROM unnest($2, $3, $4, $5, $6, $7)
                 ON CONFLICT (id) DO NOTHING RETURNING seq, id
             ), born AS (
                 INSERT INTO deliveries (lead, destination, kind, state, due_at, attempts, open_since, receipt)
                 SELECT fresh.seq, p.destination, p.kind, p.state,
                        CASE WHEN p.state = 'pending' THEN (SELECT now FROM clock) + coalesce(p.lease, 0) END,
                        CASE WHEN p.lease IS NULL THEN 0 ELSE 1 END,
                        CASE WHEN p.lease IS NOT NULL THEN (SELECT now FROM clock) END,
                        p.receipt
                 FROM fresh JOIN unnest($2, $8) AS g (id, plan) USING (id)
                 JOIN unnest($9, $10, $11, $12, $13, $14)
                     AS p (plan, destination, kind, state, lease, receipt) USING (plan)
             )
             SELECT CASE WHEN count(*) < cardinality($2) THEN coalesce(array_agg(id), '{}') END FROM fresh",
            &[
                (&now, Type::INT8),
                (&ids, Type::TEXT_ARRAY),
                (&forms, Type::TEXT_ARRAY),
                (&received, Type::INT8_ARRAY),
                (&digests, Type::BYTEA_ARRAY),
                (&crm_planned, Type::BOOL_ARRAY),
                (&bodies, Type::TEXT_ARRAY),
                (&plan_of, Type::INT8_ARRAY),
                (&plans.numbers, Type::INT8_ARRAY),
                (&plans.destinations, Type::TEXT_ARRAY),
                (&plans.kinds, Type::TEXT_ARRAY),
                (&plans.states, Type::TEXT_ARRAY),
                (&plans.leases, Type::INT8_ARRAY),
                (&plans.receipts, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?;
    let fresh: Option<Vec<String>> = get(row, 0)?;
    Ok(fresh.map(HashSet::from_iter))
}

/// The plans of a batch, a row for each delivery. Leads that go the same ways share one.
#[derive(Default)]
struct Plans<'b> {
    known: Vec<&'b [Planned]>,
    numbers: Vec<i64>,
    destinations: Vec<&'b str>,
    kinds: Vec<&'static str>,
    states: Vec<&'static str>,
    leases: Vec<Option<i64>>,
    receipts: Vec<Option<String>>,
}

impl<'b> Plans<'b> {
    fn number(&mut self, plan: &'b [Planned]) -> Result<i64, StoreError> {
        // Mostly the one before is the same.
        let known = self.known.iter().rposition(|known| *known == plan);
        let place = known.unwrap_or(self.known.len());
        let number = i64::try_from(place).unwrap_or(i64::MAX);
        if known.is_some() {
            return Ok(number);
        }
        self.known.push(plan);
        for planned in plan {
            let (state, lease, receipt) = match &planned.birth {
                Birth::Due => (State::Pending, None, None),
                Birth::Claimed { lease } => (State::Pending, Some(millis(*lease)), None),
                Birth::Withheld => (State::Withheld, None, None),
                Birth::Delivered(receipt) => (State::Delivered, None, Some(to_json(receipt)?)),
            };
            self.numbers.push(number);
            self.destinations.push(planned.destination.as_str());
            self.kinds.push(planned.kind.as_str());
            self.states.push(state.as_str());
            self.leases.push(lease);
            self.receipts.push(receipt);
        }
        Ok(number)
    }
}

/// The digests of those that were here before. A statement of its own: the one that inserts cannot see a lead that
/// another process has committed since it began.
async fn digests(
    accepting: &Transaction<'_>,
    known: &[&str],
) -> Result<HashMap<String, Vec<u8>>, StoreError> {
    if known.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = accepting
        .query("SELECT id, digest FROM leads WHERE id = ANY($1)", &[(&known, Type::TEXT_ARRAY)])
        .await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// A delivery that has arrived meanwhile is a fact, and wins.
async fn join(accepting: &Transaction<'_>, draft: &Draft) -> Result<(), StoreError> {
    for planned in &draft.entry.deliveries {
        let Birth::Delivered(receipt) = &planned.birth else { continue };
        let receipt = to_json(receipt)?;
        accepting
            .execute(
                "UPDATE deliveries SET state = 'delivered', due_at = NULL, open_since = NULL, receipt = $3
                 WHERE lead = (SELECT seq FROM leads WHERE id = $1) AND destination = $2
                   AND state IN ('pending', 'dead', 'cancelled')",
                &[
                    (&draft.id, Type::TEXT),
                    (&planned.destination.as_str(), Type::TEXT),
                    (&receipt, Type::TEXT),
                ],
            )
            .await?;
        let leads = [draft.id.as_str()];
        story::lock(accepting, &leads).await?;
        story::deliveries_arrived(accepting, &leads).await?;
    }
    Ok(())
}

/// The claims of the deliveries that were born claimed.
fn claims(draft: &Draft) -> Vec<Claim> {
    let entry = &draft.entry;
    let claim = |lease, destination: &crate::id::DestinationName| Claim {
        delivery: DeliveryId { lead: entry.lead.id, destination: destination.clone() },
        lead: Arc::clone(&entry.lead),
        attempt: 1,
        budget_used: 0,
        lease_ends: draft.asked + lease,
        crm_planned: entry.crm_planned(),
        earlier: Vec::new(),
        steps: BTreeMap::new(),
    };
    let born = entry.deliveries.iter().filter_map(|planned| match planned.birth {
        Birth::Claimed { lease } => Some(claim(lease, &planned.destination)),
        _ => None,
    });
    born.collect()
}
