//! What every engine must keep. Each sentence takes any [`Store`]; SQLite is the first.

use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::{Clock, Timestamp};
use lead_intake::delivery::{
    Attempt, AttemptOutcome, Birth, Claim, Entry, Kind, Planned, Receipt, Settlement, State,
};
use lead_intake::id::{DeliveryId, LeadId};
use lead_intake::lead::Lead;
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, ClaimRequest, DeliveryFilter, Settle, Store, StoreError};
use serde_json::json;

const LEASE: Duration = Duration::from_secs(60);

struct Engine {
    store: Arc<dyn Store>,
    clock: Clock,
    folder: tempfile::TempDir,
}

fn engine() -> Engine {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let store = Arc::new(Sqlite::open(&folder.path().join("leads.db"), clock.clone()).unwrap());
    Engine { store, clock, folder }
}

fn lead() -> Arc<Lead> {
    let body = json!({
        "id": LeadId::fresh(), "received_at": "2027-01-15T08:00:00Z", "email": "ada@example.com", "name": "Ada",
        "source": {"url": "https://example.com/"}, "timezone": "UTC", "form_name": "contact",
        "consent_given": false,
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

fn entry(lead: &Arc<Lead>, birth: Birth) -> Arc<Entry> {
    let planned = Planned { destination: "crm".parse().unwrap(), kind: Kind::Crm, birth };
    Arc::new(Entry { lead: Arc::clone(lead), digest: lead.submitted.digest(), deliveries: vec![planned] })
}

impl Engine {
    async fn claim(&self) -> Vec<Claim> {
        let request = ClaimRequest { destination: "crm".parse().unwrap(), limit: 10, lease: LEASE };
        self.store.claim_due(request).await.unwrap()
    }

    async fn settle(&self, claim: Claim, settlement: Settlement) -> bool {
        let now = self.clock.now();
        let attempt = Attempt {
            number: claim.attempt,
            started_at: now,
            finished_at: now,
            outcome: if matches!(settlement, Settlement::Delivered(_)) {
                AttemptOutcome::Delivered
            } else {
                AttemptOutcome::Transient
            },
            code: "code".into(),
            detail: "Something went wrong.".into(),
        };
        self.store.settle(Settle { claim, attempt, settlement }).await.unwrap()
    }

    async fn state(&self, lead: &Lead) -> State {
        self.store.lead(lead.id).await.unwrap().unwrap().deliveries[0].state
    }
}

fn delivery(lead: &Lead) -> DeliveryId {
    DeliveryId { lead: lead.id, destination: "crm".parse().unwrap() }
}

fn retry(wait: u64) -> Settlement {
    Settlement::Retry { wait: Duration::from_secs(wait), counted: true }
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_another_body_is_a_conflict() {
    let engine = engine();
    let lead = lead();
    assert!(matches!(engine.store.accept(entry(&lead, Birth::Due)).await.unwrap(), Accepted::New(_)));
    assert!(matches!(engine.store.accept(entry(&lead, Birth::Due)).await.unwrap(), Accepted::Repeat));
    let other = Arc::new(Entry { digest: [7; 32], ..entry(&lead, Birth::Due).as_ref().clone() });
    assert!(matches!(engine.store.accept(other).await.unwrap(), Accepted::Conflict));
    assert_eq!(engine.claim().await.len(), 1);
}

#[tokio::test]
async fn what_is_claimed_is_claimed_once_until_its_lease_ends_and_then_known_as_lost() {
    let engine = engine();
    let lead = lead();
    let Accepted::New(born) =
        engine.store.accept(entry(&lead, Birth::Claimed { lease: LEASE })).await.unwrap()
    else {
        panic!("it is new");
    };
    assert_eq!((born.len(), born[0].attempt), (1, 1));
    assert!(engine.claim().await.is_empty());
    engine.clock.advance(LEASE);
    let again = engine.claim().await.remove(0);
    assert_eq!((again.attempt, again.budget_used), (2, 1));
    assert_eq!((again.earlier[0].outcome, again.earlier[0].code.as_str()), (AttemptOutcome::Unknown, "lost"));
    assert_eq!(again.lead, lead);
}

#[tokio::test]
async fn a_failure_is_fenced_and_a_success_is_a_fact() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let first = engine.claim().await.remove(0);
    engine.clock.advance(LEASE);
    let second = engine.claim().await.remove(0);
    let late = Settle { claim: first, attempt: lost(1), settlement: Settlement::Dead };
    let late_success = Settle { settlement: Settlement::Delivered(Receipt::of("row 7")), ..late.again() };
    assert!(!engine.store.settle(late).await.unwrap(), "the store has gone on to attempt 2");
    assert!(engine.settle(second, Settlement::Dead).await);
    assert_eq!(engine.state(&lead).await, State::Dead);
    assert!(engine.store.settle(late_success).await.unwrap());
    let record = engine.store.lead(lead.id).await.unwrap().unwrap();
    assert_eq!(record.deliveries[0].state, State::Delivered);
    assert_eq!(record.deliveries[0].receipt, Some(Receipt::of("row 7")));
}

fn lost(number: u32) -> Attempt {
    Attempt {
        number,
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        outcome: AttemptOutcome::Unknown,
        code: "lost".into(),
        detail: String::new(),
    }
}

#[tokio::test]
async fn a_retry_waits_its_time_and_a_release_costs_nothing() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let first = engine.claim().await.remove(0);
    assert!(engine.settle(first, retry(30)).await);
    assert!(engine.claim().await.is_empty());
    let crm = "crm".parse().unwrap();
    assert_eq!(engine.store.next_due(&crm).await.unwrap(), Some(Duration::from_secs(30)));
    engine.clock.advance(Duration::from_secs(30));
    let second = engine.claim().await.remove(0);
    assert_eq!((second.attempt, second.budget_used), (2, 1));
    assert!(engine.store.renew(&second.delivery, 2, 2 * LEASE).await.unwrap());
    assert!(engine.store.release(second).await.unwrap());
    let third = engine.claim().await.remove(0);
    assert_eq!((third.attempt, third.budget_used), (3, 1));
    assert!(!engine.store.renew(&third.delivery, 2, LEASE).await.unwrap(), "that claim is over");
}

#[tokio::test]
async fn a_due_date_that_no_schedule_could_have_set_counts_as_due() {
    let engine = engine();
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    let claim = engine.claim().await.remove(0);
    assert!(engine.settle(claim, retry(26 * 60 * 60)).await);
    assert_eq!(engine.claim().await.len(), 1);
}

#[tokio::test]
async fn a_dead_letter_is_replayed_with_a_fresh_budget_and_a_cancelled_one_is_not() {
    let engine = engine();
    let lead = lead();
    let id = delivery(&lead);
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let claim = engine.claim().await.remove(0);
    assert_eq!(engine.store.replay(std::slice::from_ref(&id)).await.unwrap(), 0, "it is not dead");
    engine.settle(claim, Settlement::Dead).await;
    let wrong = DeliveryFilter { error: Some("WRONG".into()), ..DeliveryFilter::default() };
    assert_eq!(engine.store.deliveries(wrong).await.unwrap().len(), 1);
    assert_eq!(engine.store.replay(std::slice::from_ref(&id)).await.unwrap(), 1);
    let again = engine.claim().await.remove(0);
    assert_eq!((again.attempt, again.budget_used), (2, 0));
    assert_eq!(engine.store.cancel(std::slice::from_ref(&id)).await.unwrap(), 1);
    assert!(!engine.settle(again, retry(0)).await);
    assert_eq!(engine.store.replay(&[id]).await.unwrap(), 0);
    assert_eq!(engine.state(&lead).await, State::Cancelled);
}

#[tokio::test]
async fn consent_given_later_frees_what_was_withheld() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Withheld)).await.unwrap();
    assert!(engine.claim().await.is_empty());
    let at = engine.clock.now();
    assert_eq!(engine.store.consent(lead.id, at).await.unwrap(), Some(1));
    assert_eq!(engine.store.consent(lead.id, at).await.unwrap(), Some(0));
    assert_eq!(engine.store.consent(LeadId::fresh(), at).await.unwrap(), None);
    let claim = engine.claim().await.remove(0);
    assert!(claim.lead.submitted.consent_given);
    assert_eq!(claim.lead.submitted.consent_timestamp, Some(at));
}

#[tokio::test]
async fn a_lead_that_waited_elsewhere_joins_what_is_there() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let back = entry(&lead, Birth::Delivered(Receipt::of("A7")));
    assert!(matches!(engine.store.accept(back).await.unwrap(), Accepted::Repeat));
    assert_eq!(engine.state(&lead).await, State::Delivered);
}

#[tokio::test]
async fn everything_survives_a_reopening() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    assert_eq!(engine.store.keep("key", vec![1]).await.unwrap(), [1]);
    engine.store.close().await;
    let reopened = Sqlite::open(&engine.folder.path().join("leads.db"), engine.clock.clone()).unwrap();
    assert_eq!(reopened.keep("key", vec![2]).await.unwrap(), [1]);
    assert_eq!(reopened.lead(lead.id).await.unwrap().unwrap().lead, lead);
    assert_eq!(reopened.counts().await.unwrap(), [("crm".parse().unwrap(), State::Pending, 1)]);
    assert_eq!(reopened.waited_for().await.unwrap(), ["crm".parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_each_stored_and_each_claimed_once() {
    let engine = Arc::new(engine());
    let accepts = (0..200).map(|_| {
        let store = Arc::clone(&engine.store);
        async move { store.accept(entry(&lead(), Birth::Due)).await.unwrap() }
    });
    futures_util::future::join_all(accepts).await;
    let claims = futures_util::future::join_all((0..40).map(|_| engine.claim())).await;
    let mut ids: Vec<_> = claims.into_iter().flatten().map(|claim| claim.delivery).collect();
    assert_eq!(ids.len(), 200);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_unavailable_and_then_available_again() {
    let engine = engine();
    let holder = rusqlite::Connection::open(engine.folder.path().join("leads.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = engine.store.accept(entry(&lead(), Birth::Due)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(engine.store.ready().await.is_err());
    holder.execute_batch("ROLLBACK").unwrap();
    engine.store.ready().await.unwrap();
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
}

#[tokio::test]
async fn what_changes_while_it_is_being_told_is_told_again() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    assert_eq!(engine.store.unshown(10).await.unwrap(), [], "what has not failed is no news");
    let claim = engine.claim().await.pop().unwrap();
    let id = claim.delivery.clone();
    engine.settle(claim, Settlement::Dead).await;
    let told = engine.store.unshown(10).await.unwrap();
    assert_eq!((told.len(), told[0].lead, told[0].destination.as_ref()), (1, lead.id, Some(&id.destination)));
    engine.store.replay(std::slice::from_ref(&id)).await.unwrap();
    engine.store.shown(told).await.unwrap();
    let again = engine.store.unshown(10).await.unwrap();
    assert_eq!(again.len(), 1, "the replay came after what was told");
    engine.store.shown(again).await.unwrap();
    assert_eq!(engine.store.unshown(10).await.unwrap(), []);
    // Once it has been told of, every later change is.
    let claim = engine.claim().await.pop().unwrap();
    engine.settle(claim, Settlement::Delivered(Receipt::default())).await;
    assert_eq!(engine.store.unshown(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn steps_and_memory_outlive_the_attempt() {
    let engine = engine();
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let claim = engine.claim().await.pop().unwrap();
    assert!(claim.steps.is_empty());
    let id = claim.delivery.clone();
    engine.store.finish_step(&id, "person", "12").await.unwrap();
    engine.store.finish_step(&id, "deal", "34").await.unwrap();
    engine.store.finish_step(&id, "person", "13").await.unwrap();
    engine.store.release(claim).await.unwrap();
    let claim = engine.claim().await.pop().unwrap();
    let steps: Vec<_> = claim.steps.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(steps, [("deal", "34"), ("person", "13")]);

    let (crm, other) = (&id.destination, &"other".parse().unwrap());
    engine.store.remember(crm, "key", "a").await.unwrap();
    engine.store.remember(crm, "key", "b").await.unwrap();
    assert_eq!(engine.store.recall(crm, "key").await.unwrap().as_deref(), Some("b"));
    assert_eq!(engine.store.recall(other, "key").await.unwrap(), None);
    engine.store.remember(crm, "key", "").await.unwrap();
    assert_eq!(engine.store.recall(crm, "key").await.unwrap(), None);
}
