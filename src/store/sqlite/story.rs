//! What the sheet has still to be told. Kept in the transaction that makes it true, so that a crash or an
//! outage of the sheet only delays it.

use rusqlite::{Connection, params};

use super::failed;
use super::write::change;
use crate::store::{StoreError, Unshown};

/// The attempt from which on a failing delivery is worth a row in the sheet.
const WORTH_TELLING: u32 = 3;

/// A delivery has changed: it is to be told if it is dead, fails for the third time, was told before, or is
/// just being told.
pub(super) fn delivery_changed(db: &Connection, lead: i64, destination: &str) -> Result<(), StoreError> {
    let being_told = change(
        db,
        "UPDATE unshown SET version = version + 1 WHERE lead = ?1 AND destination = ?2",
        params![lead, destination],
    )?;
    if being_told == 0 {
        change(
            db,
            "INSERT INTO unshown (lead, destination)
             SELECT d.lead, d.destination FROM deliveries d
             WHERE d.lead = ?1 AND d.destination = ?2
               AND (d.state = 'dead'
                    OR (d.state = 'pending' AND d.attempts >= ?3
                        AND (SELECT count(*) FROM attempts a WHERE a.lead = ?1 AND a.destination = ?2) >= ?3)
                    OR EXISTS (SELECT 1 FROM told t WHERE t.lead = ?1 AND t.destination = ?2))",
            params![lead, destination, WORTH_TELLING],
        )?;
    }
    Ok(())
}

/// A delivery has arrived: once the sheet has the row and every CRM has the lead, `crm_synced` is TRUE.
pub(super) fn delivery_arrived(db: &Connection, lead: i64) -> Result<(), StoreError> {
    change(
        db,
        "INSERT INTO unshown (lead, destination)
         SELECT l.seq, '' FROM leads l
         WHERE l.seq = ?1 AND l.crm_planned = 1
           AND EXISTS (SELECT 1 FROM deliveries d WHERE d.lead = ?1 AND d.kind = 'sheet')
           AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.lead = ?1 AND d.kind IN ('crm', 'sheet')
                           AND d.state <> 'delivered')
           AND NOT EXISTS (SELECT 1 FROM told t WHERE t.lead = ?1 AND t.destination = '')
         ON CONFLICT DO UPDATE SET version = version + 1",
        params![lead],
    )?;
    Ok(())
}

pub(super) fn unshown(db: &Connection, limit: u32) -> Result<Vec<Unshown>, StoreError> {
    let mut select = db
        .prepare_cached(
            "SELECT l.id, u.destination, u.version FROM unshown u JOIN leads l ON l.seq = u.lead LIMIT ?1",
        )
        .map_err(failed)?;
    let rows: Vec<(String, String, i64)> = select
        .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let parsed = |(lead, destination, version): (String, String, i64)| {
        let unreadable = || StoreError::Corrupt(format!("`{lead}/{destination}` where a delivery should be"));
        let destination =
            (!destination.is_empty()).then(|| destination.parse()).transpose().map_err(|_| unreadable())?;
        Ok(Unshown { lead: lead.parse().map_err(|_| unreadable())?, destination, version })
    };
    rows.into_iter().map(parsed).collect()
}

pub(super) fn shown(db: &Connection, all: &[Unshown]) -> Result<(), StoreError> {
    for Unshown { lead, destination, version } in all {
        let destination = destination.as_ref().map_or("", crate::id::DestinationName::as_str);
        let id = lead.to_string();
        change(
            db,
            "DELETE FROM unshown WHERE lead = (SELECT seq FROM leads WHERE id = ?1) AND destination = ?2
             AND version = ?3",
            params![id, destination, version],
        )?;
        change(
            db,
            "INSERT INTO told (lead, destination) SELECT seq, ?2 FROM leads WHERE id = ?1 ON CONFLICT DO NOTHING",
            params![id, destination],
        )?;
    }
    Ok(())
}
