//! Claiming: one statement, which asks how the destination stands, and passes over what another process is claiming
//! at this moment. A claim that ended unsettled becomes a lost attempt in the same statement.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::pool::{Pool, Purpose};
use super::{from_json, get, get_count, millis, read, share};
use crate::delivery::standing::SLOWEST_PROBE;
use crate::delivery::{Claim, LONGEST_WAIT};
use crate::id::DeliveryId;
use crate::lead::Lead;
use crate::store::{ClaimRequest, Claimed, StoreError};

/// Due, and then what a clock that lied put too far away. Each half is answered by the index of what is pending. Their
/// limits are what is asked for, which the planner sees; what is allowed is known too late for it, and it would plan for
/// a tenth of everything that waits.
const CLAIM: &str = "
    WITH clock AS MATERIALIZED (
        SELECT coalesce($1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now
    ), probe AS (
        UPDATE standings SET probes = least(probes + 1, 30), probe_at = clock.now + $6 * least(1 << least(probes + 1, 30)::int, $7)
        FROM clock
        WHERE destination = $2 AND $3 > 0 AND parked_at IS NOT NULL AND (probe_at <= clock.now OR probe_at > clock.now + $5)
          AND (held_until IS NULL OR held_until <= clock.now OR held_until > clock.now + $5)
          AND (EXISTS (SELECT 1 FROM deliveries d
                       WHERE d.destination = $2 AND d.state = 'pending' AND d.due_at <= clock.now)
            OR EXISTS (SELECT 1 FROM deliveries d
                       WHERE d.destination = $2 AND d.state = 'pending' AND d.due_at > clock.now + $5))
        RETURNING 1
    ), allowed AS MATERIALIZED (
        SELECT CASE WHEN EXISTS (SELECT 1 FROM standings WHERE destination = $2
                                 AND held_until > clock.now AND held_until <= clock.now + $5) THEN 0
                    WHEN EXISTS (SELECT 1 FROM probe) THEN least(1, $3)
                    WHEN EXISTS (SELECT 1 FROM standings WHERE destination = $2 AND parked_at IS NOT NULL) THEN 0
                    ELSE $3 END AS most
        FROM clock
    ), due AS MATERIALIZED (
        SELECT d.lead, d.attempts, d.open_since, d.due_at FROM deliveries d
        WHERE d.destination = $2 AND d.state = 'pending' AND d.due_at <= (SELECT now FROM clock)
        ORDER BY d.due_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED
    ), far AS MATERIALIZED (
        SELECT d.lead, d.attempts, d.open_since, d.due_at FROM deliveries d
        WHERE d.destination = $2 AND d.state = 'pending' AND d.due_at > (SELECT now FROM clock) + $5
        ORDER BY d.due_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED
    ), chosen AS MATERIALIZED (
        (SELECT * FROM due UNION ALL SELECT * FROM far) ORDER BY due_at LIMIT (SELECT most FROM allowed)
    ), lost AS (
        INSERT INTO attempts (lead, destination, number, started_at, finished_at, outcome, code, detail)
        SELECT lead, $2, attempts, open_since, (SELECT now FROM clock), 'unknown', 'lost',
               'The process ended while the attempt was under way.'
        FROM chosen WHERE open_since IS NOT NULL
        ON CONFLICT DO NOTHING
    ), claimed AS (
        UPDATE deliveries d SET
            attempts = d.attempts + 1,
            budget_used = d.budget_used + CASE WHEN d.open_since IS NULL THEN 0 ELSE 1 END,
            due_at = (SELECT now FROM clock) + $4,
            open_since = (SELECT now FROM clock)
        FROM chosen WHERE d.lead = chosen.lead AND d.destination = $2
        RETURNING d.lead, d.attempts, d.budget_used, chosen.due_at
    )
    SELECT c.lead, c.attempts, c.budget_used, l.body, l.crm_planned
    FROM claimed c JOIN leads l ON l.seq = c.lead ORDER BY c.due_at, c.lead";

pub(super) async fn claim_due(
    pool: &Pool,
    request: &ClaimRequest,
    now: Option<i64>,
    asked: Instant,
) -> Result<Claimed, StoreError> {
    let destination = request.destination.as_str();
    let claiming = pool.begin(Purpose::Write).await?;
    let rows = claiming
        .query(
            CLAIM,
            &[
                (&now, Type::INT8),
                (&destination, Type::TEXT),
                (&i64::try_from(request.limit).unwrap_or(i64::MAX), Type::INT8),
                (&millis(request.lease), Type::INT8),
                (&millis(LONGEST_WAIT), Type::INT8),
                (&millis(request.rest), Type::INT8),
                (&i64::from(SLOWEST_PROBE), Type::INT8),
            ],
        )
        .await?;
    let mut claims = Vec::with_capacity(rows.len());
    let mut again = Vec::new();
    for row in &rows {
        let (seq, attempt): (i64, u32) = (get(row, 0)?, get_count(row, 1)?);
        let lead: Lead = from_json(get(row, 3)?)?;
        if attempt > 1 {
            again.push(seq);
        }
        claims.push((
            seq,
            Claim {
                delivery: DeliveryId { lead: lead.id, destination: request.destination.clone() },
                lead: Arc::new(lead),
                attempt,
                budget_used: get_count(row, 2)?,
                lease_ends: asked + request.lease,
                crm_planned: get(row, 4)?,
                earlier: Vec::new(),
                steps: BTreeMap::new(),
            },
        ));
    }
    if !again.is_empty() {
        let names = vec![destination; again.len()];
        let mut attempts = read::attempts(&claiming, &again, &names).await?;
        let mut steps = read::steps(&claiming, &again, destination).await?;
        for (seq, claim) in &mut claims {
            claim.earlier = attempts.remove(&(*seq, destination.to_owned())).unwrap_or_default();
            claim.steps = steps.remove(seq).unwrap_or_default();
        }
    }
    let standing = share::standing(&claiming, destination, now).await?;
    claiming.commit().await?;
    Ok(Claimed { claims: claims.into_iter().map(|(_, claim)| claim).collect(), standing })
}
