//! That statements are compiled once: with a plan that could be another for other values, SQLite compiles one anew each
//! time that it is used, and a settlement then costs three times as much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::hooks::{AuthContext, Authorization};
use serde_json::json;
use tokio::time::Instant;

use super::schema::open_writer;
use super::writer::Hand;
use super::{accept, claim, write};
use crate::clock::Timestamp;
use crate::delivery::{Attempt, AttemptOutcome, Birth, Claim, Entry, Kind, Planned, Receipt, Settlement};
use crate::id::LeadId;
use crate::lead::Lead;
use crate::store::migrations::Opening;
use crate::store::{ClaimRequest, Settle};

const DAY: Duration = Duration::from_secs(86_400);

fn settle(claim: Claim, outcome: AttemptOutcome, settlement: Settlement) -> Settle {
    let now = Timestamp::UNIX_EPOCH;
    let (code, detail) = (String::new(), String::new());
    let attempt = Attempt { number: claim.attempt, started_at: now, finished_at: now, outcome, code, detail };
    Settle { claim, attempt, settlement, signal: None }
}

/// A lead that arrives at its first destination and fails, is replayed and is retried at its second.
fn live(db: &Hand<'_>) {
    let body = json!({
        "id": LeadId::fresh(), "received_at": "2027-01-15T08:00:00Z", "email": "ada@example.com", "name": "Ada",
        "source": {"url": "https://example.com/"}, "timezone": "UTC", "form_name": "contact", "consent_given": true,
    });
    let lead: Arc<Lead> = Arc::new(serde_json::from_value(body).unwrap());
    let deliveries = [("sheet", Kind::Sheet), ("crm", Kind::Crm)].map(|(name, kind)| Planned {
        destination: name.parse().unwrap(),
        kind,
        birth: Birth::Due,
    });
    let entry = Entry { digest: lead.submitted.digest(), lead, deliveries: deliveries.into() };
    let draft = accept::Draft::new(Arc::new(entry)).unwrap();
    accept::accept(db, &draft, 0, Instant::now()).unwrap();
    let claim = |name: &str| {
        let request = ClaimRequest { destination: name.parse().unwrap(), limit: 1, lease: DAY, rest: DAY };
        claim::claim_due(db, &request, 0, Instant::now()).unwrap().claims.pop().unwrap()
    };
    let arrived =
        settle(claim("sheet"), AttemptOutcome::Delivered, Settlement::Delivered(Receipt::default()));
    let failed = claim("crm");
    let delivery = failed.delivery.clone();
    let dead = settle(failed, AttemptOutcome::Rejected, Settlement::Dead);
    assert!(claim::settle(db, &arrived, 0).unwrap().changed && claim::settle(db, &dead, 0).unwrap().changed);
    write::replay(db, std::slice::from_ref(&delivery), 0).unwrap();
    let again = Settlement::Retry { wait: Duration::ZERO, counted: true };
    let retried = settle(claim("crm"), AttemptOutcome::Transient, again);
    assert!(claim::settle(db, &retried, 0).unwrap().changed);
    let renewed = claim("crm").attempt;
    assert!(claim::renew(db, &delivery, renewed, 1).unwrap());
    assert!(claim::release(db, &delivery, renewed, 0).unwrap());
    assert_eq!(write::cancel(db, &[delivery]).unwrap(), 1);
}

/// SQLite asks the authorizer whenever it compiles a statement.
#[test]
fn the_life_of_a_lead_compiles_no_statement_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = open_writer(&folder.path().join("leads.db"), Duration::ZERO, Opening::Work).unwrap();
    let compiled = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&compiled);
    db.authorizer(Some(move |_: AuthContext<'_>| {
        asked.fetch_add(1, Ordering::Relaxed);
        Authorization::Allow
    }))
    .unwrap();
    let hand = Hand::of(&db);
    live(&hand);
    let once = compiled.load(Ordering::Relaxed);
    live(&hand);
    assert_eq!((once > 0, compiled.load(Ordering::Relaxed) - once), (true, 0));
}
