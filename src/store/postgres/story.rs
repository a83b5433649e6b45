//! What the sheet has still to be told. Kept in the transaction that makes it true, so that a crash or an
//! outage of the sheet only delays it.
//!
//! Two processes can change two deliveries of one lead at once, and neither would see what the other did. So
//! whoever adds to a lead's story holds the lead's row, and looks only then.

use tokio_postgres::types::Type;

use super::pool::{Pool, Purpose, Transaction};
use super::{get, parsed};
use crate::store::{StoreError, Unshown};

/// The attempt from which on a failing delivery is worth a row in the sheet.
const WORTH_TELLING: i64 = 3;

/// Waits for whoever is at the story of these leads.
pub(super) async fn lock(change: &Transaction<'_>, leads: &[&str]) -> Result<(), StoreError> {
    let sql = "SELECT seq FROM leads WHERE id = ANY($1) ORDER BY seq FOR NO KEY UPDATE";
    change.query(sql, &[(&leads, Type::TEXT_ARRAY)]).await.map(drop)
}

/// Deliveries have changed: one is to be told if it is dead, fails for the third time, was told before,
/// or is just being told.
pub(super) async fn deliveries_changed(
    change: &Transaction<'_>,
    leads: &[&str],
    destinations: &[&str],
) -> Result<(), StoreError> {
    change
        .execute(
            "INSERT INTO unshown (lead, destination)
             SELECT DISTINCT d.lead, d.destination FROM unnest($1, $2) AS g (id, destination)
             JOIN leads l ON l.id = g.id
             JOIN deliveries d ON d.lead = l.seq AND d.destination = g.destination
             WHERE d.state = 'dead'
                OR (d.state = 'pending' AND d.attempts >= $3
                    AND (SELECT count(*) FROM attempts a
                         WHERE a.lead = d.lead AND a.destination = d.destination) >= $3)
                OR EXISTS (SELECT 1 FROM told t WHERE t.lead = d.lead AND t.destination = d.destination)
                OR EXISTS (SELECT 1 FROM unshown u WHERE u.lead = d.lead AND u.destination = d.destination)
             ORDER BY 1, 2
             ON CONFLICT (lead, destination) DO UPDATE SET version = unshown.version + 1",
            &[(&leads, Type::TEXT_ARRAY), (&destinations, Type::TEXT_ARRAY), (&WORTH_TELLING, Type::INT8)],
        )
        .await
        .map(drop)
}

/// Deliveries have arrived: once the sheet has the row and every CRM has the lead, `crm_synced` is TRUE.
pub(super) async fn deliveries_arrived(change: &Transaction<'_>, leads: &[&str]) -> Result<(), StoreError> {
    if leads.is_empty() {
        return Ok(());
    }
    change
        .execute(
            "INSERT INTO unshown (lead, destination)
             SELECT l.seq, '' FROM leads l
             WHERE l.id = ANY($1) AND l.crm_planned
               AND EXISTS (SELECT 1 FROM deliveries d WHERE d.lead = l.seq AND d.kind = 'sheet')
               AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.lead = l.seq AND d.kind IN ('crm', 'sheet')
                               AND d.state <> 'delivered')
               AND NOT EXISTS (SELECT 1 FROM told t WHERE t.lead = l.seq AND t.destination = '')
             ORDER BY l.seq
             ON CONFLICT (lead, destination) DO UPDATE SET version = unshown.version + 1",
            &[(&leads, Type::TEXT_ARRAY)],
        )
        .await
        .map(drop)
}

pub(super) async fn unshown(pool: &Pool, limit: u32) -> Result<Vec<Unshown>, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking
        .query(
            "SELECT l.id, u.destination, u.version FROM unshown u JOIN leads l ON l.seq = u.lead
             ORDER BY u.lead, u.destination LIMIT $1",
            &[(&i64::from(limit), Type::INT8)],
        )
        .await?;
    asking.commit().await?;
    let read = |row| {
        let destination: &str = get(row, 1)?;
        let destination = (!destination.is_empty()).then(|| parsed(destination)).transpose()?;
        Ok(Unshown { lead: parsed(get(row, 0)?)?, destination, version: get(row, 2)? })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn shown(pool: &Pool, all: &[Unshown]) -> Result<(), StoreError> {
    let ids: Vec<String> = all.iter().map(|told| told.lead.to_string()).collect();
    let leads: Vec<&str> = ids.iter().map(String::as_str).collect();
    let name = |told: &Unshown| told.destination.as_ref().map(ToString::to_string).unwrap_or_default();
    let destinations: Vec<String> = all.iter().map(name).collect();
    let versions: Vec<i64> = all.iter().map(|told| told.version).collect();
    let change = pool.begin(Purpose::Write).await?;
    lock(&change, &leads).await?;
    change
        .execute(
            "WITH given AS MATERIALIZED (
                 SELECT DISTINCT l.seq, g.destination, g.version
                 FROM unnest($1, $2, $3) AS g (id, destination, version) JOIN leads l ON l.id = g.id
             ), done AS (
                 DELETE FROM unshown u USING given g
                 WHERE u.lead = g.seq AND u.destination = g.destination AND u.version = g.version
             )
             INSERT INTO told (lead, destination) SELECT DISTINCT seq, destination FROM given
             ON CONFLICT DO NOTHING",
            &[(&leads, Type::TEXT_ARRAY), (&destinations, Type::TEXT_ARRAY), (&versions, Type::INT8_ARRAY)],
        )
        .await?;
    change.commit().await
}
