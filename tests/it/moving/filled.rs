//! Stores to move: with everything that a store can hold, or with many leads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::Clock;
use lead_intake::delivery::standing::Signal;
use lead_intake::delivery::{
    Attempt, AttemptOutcome, Birth, Claim, Entry, Kind, Planned, Receipt, Settlement,
};
use lead_intake::id::{DeliveryId, LeadId};
use lead_intake::lead::Lead;
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, Settle, Store};
use serde_json::json;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// The URL of a file.
pub(super) fn sqlite(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

pub(super) fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(path, Clock::system()).unwrap())
}

pub(super) fn lead() -> Arc<Lead> {
    let body = json!({
        "id": LeadId::fresh(), "received_at": Clock::system().now(), "email": "ada@example.com",
        "name": "Ада \u{0} Löve \"lace\" 🎈", "source": {"url": "https://example.com/?a=1&b=%00"},
        "timezone": "UTC", "form_name": "contact's", "consent_given": true,
        "form_data": {"message": "one\r\ntwo\t\\ \u{0}\u{1f}\u{2028}\u{feff}", "budget": 1e300, "no": null},
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

/// Accepts a lead with a delivery to each of these; the claims of those that were born claimed.
pub(super) async fn accept(
    store: &dyn Store,
    lead: &Arc<Lead>,
    births: &[(&str, Kind, Birth)],
) -> Vec<Claim> {
    let planned = births.iter().map(|(name, kind, birth)| Planned {
        destination: name.parse().unwrap(),
        kind: *kind,
        birth: birth.clone(),
    });
    let deliveries = planned.collect();
    let entry = Entry { lead: Arc::clone(lead), digest: lead.submitted.digest(), deliveries };
    match store.accept(Arc::new(entry)).await.unwrap() {
        Accepted::New(claims) => claims,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn settle(store: &dyn Store, claim: Claim, settlement: Settlement) {
    let now = Clock::system().now();
    let outcome = match settlement {
        Settlement::Delivered(_) => AttemptOutcome::Delivered,
        _ => AttemptOutcome::Transient,
    };
    let attempt = Attempt {
        number: claim.attempt,
        started_at: now,
        finished_at: now,
        outcome,
        code: "timeout".to_owned(),
        detail: "No answer: 'später' 🎈".to_owned(),
    };
    let signal = None;
    assert!(store.settle(Settle { claim, attempt, settlement, signal }).await.unwrap().changed);
}

/// A store with every state and a row in every table; how many leads it has.
pub(super) async fn everything(path: &Path) -> u32 {
    let store = open(path);
    let claimed = || Birth::Claimed { lease: HOUR };
    let mut leads = 0;
    let mut next = || {
        leads += 1;
        lead()
    };
    // Delivered, retried, dead, cancelled, and one that is under way.
    let several = [
        ("sheet", Kind::Sheet, claimed()),
        ("hubspot", Kind::Crm, claimed()),
        ("crm", Kind::Crm, claimed()),
        ("make", Kind::Crm, claimed()),
        ("notification", Kind::Mail, claimed()),
    ];
    let one = next();
    let mut claims = accept(store.as_ref(), &one, &several).await.into_iter();
    let mut claim = || claims.next().unwrap();
    let receipt =
        Receipt { remote_id: Some("Leads!A2:Q2".to_owned()), note: Some("updated 'Ä'".to_owned()) };
    settle(store.as_ref(), claim(), Settlement::Delivered(receipt)).await;
    settle(store.as_ref(), claim(), Settlement::Retry { wait: HOUR, counted: true }).await;
    settle(store.as_ref(), claim(), Settlement::Dead).await;
    settle(store.as_ref(), claim(), Settlement::Cancelled).await;
    let under_way = claim();
    store.finish_step(&under_way.delivery, "person", "17").await.unwrap();
    store.finish_step(&under_way.delivery, "deal", "Grüße \u{1}").await.unwrap();
    // Consent given later frees one; another stays withheld.
    let two = next();
    accept(store.as_ref(), &two, &[("crm", Kind::Crm, Birth::Withheld)]).await;
    store.consent(two.id, Clock::system().now()).await.unwrap();
    accept(store.as_ref(), &next(), &[("crm", Kind::Crm, Birth::Withheld)]).await;
    // Due, and nothing planned at all.
    accept(store.as_ref(), &next(), &[("crm", Kind::Crm, Birth::Due)]).await;
    accept(store.as_ref(), &next(), &[]).await;
    // A dead letter that was told, and is on its way again.
    let dead = next();
    let claims = accept(store.as_ref(), &dead, &[("crm", Kind::Crm, claimed())]).await;
    let id = DeliveryId { lead: dead.id, destination: "crm".parse().unwrap() };
    for claim in claims {
        settle(store.as_ref(), claim, Settlement::Dead).await;
    }
    let all = store.unshown(10).await.unwrap();
    store.shown(all.into_iter().filter(|told| told.lead == dead.id).collect()).await.unwrap();
    store.replay(&[id]).await.unwrap();
    // A vendor's answer with a zero character.
    let claims = accept(store.as_ref(), &next(), &[("crm", Kind::Crm, claimed())]).await;
    for claim in claims {
        let now = Clock::system().now();
        let attempt = Attempt {
            number: claim.attempt,
            started_at: now,
            finished_at: now,
            outcome: AttemptOutcome::Unknown,
            code: "http_500".to_owned(),
            detail: "a vendor's \0 answer".to_owned(),
        };
        let settlement = Settlement::Retry { wait: HOUR, counted: false };
        let signal = Some(Signal::Refused { rest: HOUR });
        assert!(store.settle(Settle { claim, attempt, settlement, signal }).await.unwrap().changed);
    }
    let crm = "crm".parse().unwrap();
    for (key, value) in
        [("person:a", "1"), ("odd \0 key", "odd \0 value"), ("ключ", "🎈"), ("Z", "'"), ("a", "\"")]
    {
        store.remember(&crm, key, value).await.unwrap();
    }
    store.keep("ip_hash_key", vec![0, 1, 254, 255]).await.unwrap();
    store.close().await;
    leads
}

/// A store with one lead whose attempt was under way when its process was killed; its id.
pub(super) async fn in_flight(path: &Path) -> String {
    let store = open(path);
    let lead = lead();
    let claimed = Birth::Claimed { lease: Duration::from_millis(1) };
    assert_eq!(accept(store.as_ref(), &lead, &[("crm", Kind::Crm, claimed)]).await.len(), 1);
    store.close().await;
    lead.id.to_string()
}

/// A store with many leads, half of them delivered; their ids, oldest first.
pub(super) async fn many(path: &Path, count: usize) -> Vec<String> {
    let store = open(path);
    let leads: Vec<_> = (0..count).map(|_| lead()).collect();
    for some in leads.chunks(500) {
        let each = some.iter().enumerate().map(|(at, lead)| {
            let store = store.as_ref();
            async move {
                let birth = if at % 2 == 0 { Birth::Due } else { Birth::Claimed { lease: HOUR } };
                for claim in accept(store, lead, &[("crm", Kind::Crm, birth)]).await {
                    settle(store, claim, Settlement::Delivered(Receipt::of("1"))).await;
                }
            }
        });
        futures_util::future::join_all(each).await;
    }
    // As a service has it from its first start.
    store.keep("ip_hash_key", vec![7; 32]).await.unwrap();
    store.close().await;
    let db = rusqlite::Connection::open(path).unwrap();
    let mut select = db.prepare("SELECT id FROM leads ORDER BY seq").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Every row of every table that moves, as text; a zero character as what PostgreSQL keeps in its place.
pub(super) fn dump(path: &Path) -> BTreeMap<String, Vec<String>> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut select = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").unwrap();
    let names: Vec<String> =
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let rows = |name: &str| {
        let own = if name == "kept" { "WHERE name NOT IN ('move', 'clock')" } else { "" };
        let mut select = db.prepare(&format!("SELECT * FROM {name} {own}")).unwrap();
        let columns = select.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values: Result<Vec<rusqlite::types::Value>, _> = (0..columns).map(|at| row.get(at)).collect();
            Ok(format!("{:?}", values?).replace("\\0", "\u{fffd}"))
        };
        let mut rows: Vec<String> = select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
        rows.sort();
        rows
    };
    names.iter().filter(|name| *name != "migrations").map(|name| (name.clone(), rows(name))).collect()
}
