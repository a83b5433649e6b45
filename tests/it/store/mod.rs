//! What every engine must keep: each sentence is said of SQLite and of PostgreSQL.

mod postgres;
mod share;
mod together;
mod went_back;

use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::{Clock, Timestamp};
use lead_intake::delivery::{
    Attempt, AttemptOutcome, Birth, Claim, Entry, Kind, Planned, Receipt, Settlement, State,
};
use lead_intake::id::{DeliveryId, LeadId};
use lead_intake::lead::Lead;
use lead_intake::store::postgres::{Address, Postgres};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, ClaimRequest, DeliveryFilter, LeadFilter, Settle, Store, StoreError};
use serde_json::json;

use share::{
    a_destination_is_turned_by_one_signal_and_every_process_learns_of_it,
    a_parked_destination_gives_one_probe_at_a_time_and_ever_more_rarely,
    a_parked_destination_is_probed_by_what_a_clock_that_lied_put_too_far_away,
    a_pause_holds_every_claim_until_it_is_over, a_turn_is_had_by_one_process_until_it_ends,
    calls_are_paced_together_and_a_rest_is_kept, who_asks_for_a_place_again_has_one_and_not_two,
};

use together::{
    an_entry_that_is_refused_leaves_nothing_and_fails_no_neighbour,
    many_that_are_said_twice_at_once_are_each_one_lead, neighbours_that_go_different_ways_each_go_their_own,
};

use crate::support::postgres::{is_here, shared};

const LEASE: Duration = Duration::from_secs(60);

const REST: Duration = Duration::from_secs(60);

struct Engine {
    store: Arc<dyn Store>,
    clock: Clock,
    home: Arc<Home>,
}

/// Where an engine keeps what it is given.
enum Home {
    Folder(tempfile::TempDir),
    Database(String),
}

impl Home {
    async fn open(&self, clock: &Clock) -> Arc<dyn Store> {
        match self {
            Self::Folder(folder) => {
                Arc::new(Sqlite::open(&folder.path().join("leads.db"), clock.clone()).unwrap())
            }
            Self::Database(url) => {
                let address = Address::parse(url).unwrap();
                Arc::new(Postgres::open(&address, clock.clone()).await.unwrap())
            }
        }
    }

    /// Deliveries whose lead is not there. The schema does not forbid them: see the first migration.
    async fn orphans(&self) -> i64 {
        let sql =
            "SELECT count(*) FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM leads l WHERE l.seq = d.lead)";
        match self {
            Self::Folder(folder) => {
                let own = rusqlite::Connection::open(folder.path().join("leads.db")).unwrap();
                own.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Database(url) => {
                let name = url.split("@/").nth(1).unwrap().split('?').next().unwrap();
                shared().connect(name).await.query_one(sql, &[]).await.unwrap().get(0)
            }
        }
    }
}

impl Engine {
    async fn sqlite() -> Option<Self> {
        Some(Self::at(Home::Folder(tempfile::tempdir().unwrap())).await)
    }

    async fn postgres() -> Option<Self> {
        if !is_here() {
            return None;
        }
        Some(Self::at(Home::Database(shared().database().await)).await)
    }

    /// The same through PgBouncer in transaction mode.
    async fn pooled_postgres() -> Option<Self> {
        if !is_here() {
            return None;
        }
        let url = shared().database().await;
        Some(Self::at(Home::Database(shared().pooled(&url)?)).await)
    }

    async fn at(home: Home) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        Self { store: home.open(&clock).await, clock, home: Arc::new(home) }
    }
}

/// Says a sentence of an engine that is here; and, after each, that no delivery is without its lead.
async fn keeps<S: Future<Output = ()>>(engine: Option<Engine>, sentence: impl FnOnce(Engine) -> S) {
    let Some(engine) = engine else { return };
    let home = Arc::clone(&engine.home);
    sentence(engine).await;
    assert_eq!(home.orphans().await, 0, "a delivery is without its lead");
}

/// Says each sentence of each engine.
macro_rules! of_every_engine {
    ($($sentence:ident)*) => {
        mod sqlite_keeps {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::keeps(super::Engine::sqlite().await, super::$sentence).await;
            })*
        }

        mod postgres_keeps {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::keeps(super::Engine::postgres().await, super::$sentence).await;
            })*
        }

        mod pooled_postgres_keeps {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::keeps(super::Engine::pooled_postgres().await, super::$sentence).await;
            })*
        }
    };
}

of_every_engine! {
    a_repeat_changes_nothing_and_another_body_is_a_conflict
    what_is_claimed_is_claimed_once_until_its_lease_ends_and_then_known_as_lost
    a_failure_is_fenced_and_a_success_is_a_fact
    a_failure_that_is_settled_again_counts_once_and_undoes_no_replay
    a_retry_waits_its_time_and_a_release_costs_nothing
    a_due_date_that_no_schedule_could_have_set_counts_as_due
    a_dead_letter_is_replayed_with_a_fresh_budget_and_a_cancelled_one_is_not
    consent_given_later_frees_what_was_withheld
    a_lead_that_waited_elsewhere_joins_what_is_there
    everything_survives_a_reopening
    many_at_once_are_each_stored_and_each_claimed_once
    a_story_is_told_once_and_again_when_it_changes
    what_changes_while_it_is_being_told_is_told_again
    steps_and_memories_are_kept_whatever_characters_they_hold
    lists_are_newest_first_and_filtered
    deliveries_are_found_by_each_of_their_marks
    neighbours_that_say_the_same_are_one_lead
    neighbours_that_go_different_ways_each_go_their_own
    many_that_are_said_twice_at_once_are_each_one_lead
    an_entry_that_is_refused_leaves_nothing_and_fails_no_neighbour
    a_parked_destination_gives_one_probe_at_a_time_and_ever_more_rarely
    a_parked_destination_is_probed_by_what_a_clock_that_lied_put_too_far_away
    a_destination_is_turned_by_one_signal_and_every_process_learns_of_it
    a_pause_holds_every_claim_until_it_is_over
    a_turn_is_had_by_one_process_until_it_ends
    who_asks_for_a_place_again_has_one_and_not_two
    calls_are_paced_together_and_a_rest_is_kept
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
        let request =
            ClaimRequest { destination: "crm".parse().unwrap(), limit: 10, lease: LEASE, rest: REST };
        self.store.claim_due(request).await.unwrap().claims
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
        self.store.settle(Settle { claim, attempt, settlement, signal: None }).await.unwrap().changed
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

async fn a_repeat_changes_nothing_and_another_body_is_a_conflict(engine: Engine) {
    let lead = lead();
    assert!(matches!(engine.store.accept(entry(&lead, Birth::Due)).await.unwrap(), Accepted::New(_)));
    assert!(matches!(engine.store.accept(entry(&lead, Birth::Due)).await.unwrap(), Accepted::Repeat));
    let other = Arc::new(Entry { digest: [7; 32], ..entry(&lead, Birth::Due).as_ref().clone() });
    assert!(matches!(engine.store.accept(other).await.unwrap(), Accepted::Conflict));
    assert_eq!(engine.claim().await.len(), 1);
}

async fn what_is_claimed_is_claimed_once_until_its_lease_ends_and_then_known_as_lost(engine: Engine) {
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

async fn a_failure_is_fenced_and_a_success_is_a_fact(engine: Engine) {
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let first = engine.claim().await.remove(0);
    engine.clock.advance(LEASE);
    let second = engine.claim().await.remove(0);
    let late = Settle { claim: first, attempt: lost(1), settlement: Settlement::Dead, signal: None };
    let late_success = Settle { settlement: Settlement::Delivered(Receipt::of("row 7")), ..late.again() };
    assert!(!engine.store.settle(late).await.unwrap().changed, "the store has gone on to attempt 2");
    assert!(engine.settle(second, Settlement::Dead).await);
    assert_eq!(engine.state(&lead).await, State::Dead);
    assert!(engine.store.settle(late_success).await.unwrap().changed);
    let record = engine.store.lead(lead.id).await.unwrap().unwrap();
    assert_eq!(record.deliveries[0].state, State::Delivered);
    assert_eq!(record.deliveries[0].receipt, Some(Receipt::of("row 7")));
}

async fn a_failure_that_is_settled_again_counts_once_and_undoes_no_replay(engine: Engine) {
    let lead = lead();
    let id = delivery(&lead);
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let failure = |claim: Claim, settlement| {
        let attempt = lost(claim.attempt);
        Settle { claim, attempt, settlement, signal: None }
    };
    let retried = failure(engine.claim().await.remove(0), retry(30));
    assert!(engine.store.settle(retried.again()).await.unwrap().changed);
    engine.clock.advance(Duration::from_secs(20));
    assert!(!engine.store.settle(retried).await.unwrap().changed, "the answer to the commit was lost");
    engine.clock.advance(Duration::from_secs(10));
    let claim = engine.claim().await.remove(0);
    assert_eq!((claim.attempt, claim.budget_used), (2, 1));
    let dead = failure(claim, Settlement::Dead);
    assert!(engine.store.settle(dead.again()).await.unwrap().changed);
    assert_eq!(engine.store.replay(&[id]).await.unwrap(), 1);
    assert!(!engine.store.settle(dead).await.unwrap().changed);
    assert_eq!(engine.state(&lead).await, State::Pending);
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

async fn a_retry_waits_its_time_and_a_release_costs_nothing(engine: Engine) {
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
    assert!(engine.store.release(&second).await.unwrap());
    let third = engine.claim().await.remove(0);
    assert_eq!((third.attempt, third.budget_used), (3, 1));
    assert!(!engine.store.renew(&third.delivery, 2, LEASE).await.unwrap(), "that claim is over");
}

async fn a_due_date_that_no_schedule_could_have_set_counts_as_due(engine: Engine) {
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    let claim = engine.claim().await.remove(0);
    assert!(engine.settle(claim, retry(26 * 60 * 60)).await);
    assert_eq!(engine.claim().await.len(), 1);
}

async fn a_dead_letter_is_replayed_with_a_fresh_budget_and_a_cancelled_one_is_not(engine: Engine) {
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

async fn consent_given_later_frees_what_was_withheld(engine: Engine) {
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

async fn a_lead_that_waited_elsewhere_joins_what_is_there(engine: Engine) {
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let back = entry(&lead, Birth::Delivered(Receipt::of("A7")));
    assert!(matches!(engine.store.accept(back).await.unwrap(), Accepted::Repeat));
    assert_eq!(engine.state(&lead).await, State::Delivered);
}

async fn everything_survives_a_reopening(engine: Engine) {
    let lead = lead();
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    assert_eq!(engine.store.keep("key", vec![1]).await.unwrap(), [1]);
    engine.store.close().await;
    let reopened = engine.home.open(&engine.clock).await;
    assert_eq!(reopened.keep("key", vec![2]).await.unwrap(), [1]);
    assert_eq!(reopened.lead(lead.id).await.unwrap().unwrap().lead, lead);
    assert_eq!(reopened.counts().await.unwrap(), [("crm".parse().unwrap(), State::Pending, 1)]);
    assert_eq!(reopened.waited_for().await.unwrap(), ["crm".parse().unwrap()]);
}

async fn many_at_once_are_each_stored_and_each_claimed_once(engine: Engine) {
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

async fn a_story_is_told_once_and_again_when_it_changes(engine: Engine) {
    let lead = lead();
    let of = |name: &str, kind| Planned { destination: name.parse().unwrap(), kind, birth: Birth::Due };
    let deliveries = vec![of("crm", Kind::Crm), of("sheet", Kind::Sheet)];
    let entry = Entry { lead: Arc::clone(&lead), digest: lead.submitted.digest(), deliveries };
    engine.store.accept(Arc::new(entry)).await.unwrap();
    for attempt in 1..=3_usize {
        assert!(engine.store.unshown(10).await.unwrap().is_empty(), "attempt {attempt}");
        let claim = engine.claim().await.remove(0);
        assert_eq!(claim.earlier.len(), attempt - 1);
        engine.settle(claim, retry(0)).await;
    }
    let failing = engine.store.unshown(10).await.unwrap();
    assert_eq!(failing.len(), 1);
    assert_eq!(failing[0].destination, Some("crm".parse().unwrap()));
    let claim = engine.claim().await.remove(0);
    engine.settle(claim, Settlement::Dead).await;
    engine.store.shown(failing).await.unwrap();
    let dead = engine.store.unshown(10).await.unwrap();
    assert_eq!(dead.len(), 1, "it changed while it was being told");
    engine.store.shown(dead).await.unwrap();
    assert!(engine.store.unshown(10).await.unwrap().is_empty());
    assert_eq!(engine.store.replay(&[delivery(&lead)]).await.unwrap(), 1);
    let claim = engine.claim().await.remove(0);
    engine.settle(claim, Settlement::Delivered(Receipt::of("7"))).await;
    let sheet = ClaimRequest { destination: "sheet".parse().unwrap(), limit: 1, lease: LEASE, rest: REST };
    let claim = engine.store.claim_due(sheet).await.unwrap().claims.remove(0);
    engine.settle(claim, Settlement::Delivered(Receipt::of("A7"))).await;
    let mut told: Vec<_> = engine.store.unshown(10).await.unwrap();
    told.sort_by_key(|told| told.destination.clone());
    let destinations: Vec<_> = told.iter().map(|told| told.destination.clone()).collect();
    assert_eq!(destinations, [None, Some("crm".parse().unwrap())]);
    engine.store.shown(told).await.unwrap();
    assert!(engine.store.unshown(10).await.unwrap().is_empty());
}

async fn steps_and_memories_are_kept_whatever_characters_they_hold(engine: Engine) {
    let (lead, crm) = (lead(), "crm".parse().unwrap());
    engine.store.accept(entry(&lead, Birth::Due)).await.unwrap();
    let claim = engine.claim().await.remove(0);
    engine.store.finish_step(&claim.delivery, "person", "1").await.unwrap();
    engine.store.finish_step(&claim.delivery, "person", "Grüße 🎈").await.unwrap();
    let mut attempt = lost(1);
    attempt.detail = "a vendor's \0 answer".into();
    let settlement = retry(0);
    assert!(engine.store.settle(Settle { claim, attempt, settlement, signal: None }).await.unwrap().changed);
    let again = engine.claim().await.remove(0);
    assert_eq!(again.steps["person"], "Grüße 🎈");
    assert!(again.earlier[0].detail.starts_with("a vendor's "));
    engine.store.remember(&crm, "key", "1").await.unwrap();
    engine.store.remember(&crm, "key", "2").await.unwrap();
    assert_eq!(engine.store.recall(&crm, "key").await.unwrap().as_deref(), Some("2"));
    engine.store.remember(&crm, "key", "").await.unwrap();
    assert_eq!(engine.store.recall(&crm, "key").await.unwrap(), None);
}

async fn lists_are_newest_first_and_filtered(engine: Engine) {
    let all = [lead(), lead(), lead()];
    for lead in &all {
        engine.store.accept(entry(lead, Birth::Due)).await.unwrap();
    }
    let ids = |records: Vec<lead_intake::store::LeadRecord>| -> Vec<_> {
        records.into_iter().map(|record| record.lead.id).collect()
    };
    let two = LeadFilter { limit: Some(2), ..LeadFilter::default() };
    assert_eq!(ids(engine.store.leads(two).await.unwrap()), [all[2].id, all[1].id]);
    let form = LeadFilter { form: Some("contact".parse().unwrap()), ..LeadFilter::default() };
    assert_eq!(engine.store.leads(form).await.unwrap().len(), 3);
    let later = LeadFilter { since: Some(Timestamp::MAX), ..LeadFilter::default() };
    assert!(engine.store.leads(later).await.unwrap().is_empty());
    let one = DeliveryFilter { lead: Some(all[0].id), ..DeliveryFilter::default() };
    assert_eq!(engine.store.deliveries(one).await.unwrap().len(), 1);
    let state = DeliveryFilter { state: Some(State::Dead), ..DeliveryFilter::default() };
    assert!(engine.store.deliveries(state).await.unwrap().is_empty());
    assert!(engine.store.lead(LeadId::fresh()).await.unwrap().is_none());
}

async fn deliveries_are_found_by_each_of_their_marks(engine: Engine) {
    let (early, mut late) = (lead(), Lead::clone(&lead()));
    (late.received_at, late.submitted.form_name) =
        (early.received_at.checked_add(REST).unwrap(), "quote".parse().unwrap());
    let late = Arc::new(late);
    engine.store.accept(entry(&early, Birth::Due)).await.unwrap();
    let mut other = Entry::clone(&entry(&late, Birth::Due));
    other.deliveries[0].destination = "make".parse().unwrap();
    engine.store.accept(Arc::new(other)).await.unwrap();
    // An error that was is no error that is.
    for (code, settlement) in [("first", retry(0)), ("last", Settlement::Dead)] {
        let claim = engine.claim().await.remove(0);
        let attempt = Attempt { number: claim.attempt, code: code.into(), ..lost(1) };
        engine.store.settle(Settle { claim, attempt, settlement, signal: None }).await.unwrap();
    }
    let all = DeliveryFilter::default;
    for (filter, expected) in [
        (DeliveryFilter { destination: Some("crm".parse().unwrap()), ..all() }, vec![early.id]),
        (DeliveryFilter { form: Some("quote".parse().unwrap()), ..all() }, vec![late.id]),
        (DeliveryFilter { since: Some(late.received_at), ..all() }, vec![late.id]),
        (DeliveryFilter { until: Some(late.received_at), ..all() }, vec![early.id]),
        (DeliveryFilter { state: Some(State::Dead), ..all() }, vec![early.id]),
        (DeliveryFilter { error: Some("LAST".into()), ..all() }, vec![early.id]),
        (DeliveryFilter { error: Some("first".into()), ..all() }, vec![]),
        (DeliveryFilter { limit: Some(1), ..all() }, vec![late.id]),
        (all(), vec![late.id, early.id]),
    ] {
        let found = engine.store.deliveries(filter.clone()).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|record| record.id.lead).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
    let until = LeadFilter { until: Some(late.received_at), ..LeadFilter::default() };
    let found = engine.store.leads(until).await.unwrap();
    assert_eq!((found.len(), found[0].lead.id), (1, early.id));
}

async fn neighbours_that_say_the_same_are_one_lead(engine: Engine) {
    let lead = lead();
    let accepts = (0..20).map(|_| engine.store.accept(entry(&lead, Birth::Due)));
    let ends = futures_util::future::join_all(accepts).await;
    let new = ends.iter().filter(|end| matches!(end, Ok(Accepted::New(_)))).count();
    let repeats = ends.iter().filter(|end| matches!(end, Ok(Accepted::Repeat))).count();
    assert_eq!((new, repeats), (1, 19));
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_unavailable_and_then_available_again() {
    let engine = Engine::sqlite().await.unwrap();
    let Home::Folder(folder) = &*engine.home else { panic!("SQLite lives in a folder") };
    let holder = rusqlite::Connection::open(folder.path().join("leads.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = engine.store.accept(entry(&lead(), Birth::Due)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(engine.store.ready().await.is_err());
    holder.execute_batch("ROLLBACK").unwrap();
    engine.store.ready().await.unwrap();
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
}

#[tokio::test]
async fn a_file_whose_migrations_are_somebody_s_own_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leads.db");
    let open = || Sqlite::open(&path, Clock::system());
    open().unwrap().close().await;
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute("UPDATE migrations SET digest = x'00' WHERE name LIKE '0002%'", []).unwrap();
    let said = open().map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("is not the one it was made with"), "{said}");
}

async fn what_changes_while_it_is_being_told_is_told_again(engine: Engine) {
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
