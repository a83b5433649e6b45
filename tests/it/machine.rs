//! The pure parts and the store against a model: the schedule is monotone, bounded and ends; whatever
//! happens in whatever order, the store says what the model says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::{Clock, Timestamp};
use lead_intake::delivery::retry::RetryPolicy;
use lead_intake::delivery::{
    Attempt, AttemptOutcome, Birth, Claim, DeliveryError, Entry, Fault, Kind, LONGEST_WAIT, Planned, Receipt,
    Settlement, State,
};
use lead_intake::id::DeliveryId;
use lead_intake::lead::{Lead, Visitor};
use lead_intake::store::postgres::{Address, Postgres};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, ClaimRequest, Settle, Store};
use proptest::prelude::*;
use serde_json::json;

use crate::support::postgres;

fn waits() -> impl Strategy<Value = Vec<Duration>> {
    prop::collection::vec((0_u64..200_000).prop_map(Duration::from_secs), 0..20)
}

fn failure() -> impl Strategy<Value = DeliveryError> {
    let time = (0_u64..1_000_000).prop_map(Duration::from_secs);
    prop_oneof![
        prop::option::of(time.clone()).prop_map(|retry_after| Fault::Transient { retry_after }),
        (0_u64..86_400).prop_map(|seconds| Fault::Unknown { look_after: Duration::from_secs(seconds) }),
    ]
    .prop_map(|fault| DeliveryError::new(fault, "x", ""))
}

proptest! {
    #[test]
    fn the_schedule_is_bounded_and_ends(waits in waits(), error in failure(), jitter in -1.0_f64..2.0) {
        let policy = RetryPolicy::new(waits.clone());
        let outcome = Err(error);
        for used in 0..30_u32 {
            match policy.settle(used, &outcome, jitter) {
                Settlement::Retry { wait, counted } => {
                    prop_assert!((used as usize) < waits.len() && counted && wait <= LONGEST_WAIT);
                    prop_assert!(wait >= waits[used as usize].mul_f64(0.799).min(LONGEST_WAIT));
                }
                Settlement::Dead => prop_assert!(used as usize >= waits.len()),
                Settlement::Delivered(_) | Settlement::Cancelled => {
                    prop_assert!(false, "such a failure neither delivers nor cancels");
                }
            }
        }
    }

    #[test]
    fn a_longer_wait_of_the_list_is_never_a_shorter_wait(a in 0_u64..90_000, more in 0_u64..90_000, jitter in 0.0_f64..1.0) {
        let policy = RetryPolicy::new(vec![Duration::from_secs(a), Duration::from_secs(a + more)]);
        let wait = |used| match policy.settle(used, &Err(DeliveryError::transient("x", "")), jitter) {
            Settlement::Retry { wait, .. } => wait,
            other => panic!("{other:?}"),
        };
        prop_assert!(wait(0) <= wait(1));
    }
}

#[test]
fn a_wait_is_spread_by_a_fifth_to_either_side() {
    let policy = RetryPolicy::new(vec![Duration::from_secs(100)]);
    for (jitter, seconds) in [(0.0, 80.0), (0.25, 90.0), (0.5, 100.0), (1.0, 120.0)] {
        match policy.settle(0, &Err(DeliveryError::transient("x", "")), jitter) {
            Settlement::Retry { wait, .. } => {
                assert!((wait.as_secs_f64() - seconds).abs() < 0.001, "{wait:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What can happen to a delivery.
#[derive(Clone, Debug)]
enum Event {
    Claim,
    Deliver(usize),
    Retry(usize),
    Kill(usize),
    Drop(usize),
    Release(usize),
    Replay,
    Cancel,
    Consent,
    /// So many seconds pass.
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Claim),
        2 => (0_usize..3).prop_map(Event::Deliver),
        3 => (0_usize..3).prop_map(Event::Retry),
        2 => (0_usize..3).prop_map(Event::Kill),
        1 => (0_usize..3).prop_map(Event::Drop),
        1 => (0_usize..3).prop_map(Event::Release),
        1 => Just(Event::Replay),
        1 => Just(Event::Cancel),
        1 => Just(Event::Consent),
        3 => (1_u64..100).prop_map(Event::Pass),
    ]
}

/// The design's words, in a few lines.
#[derive(Clone, Debug)]
struct Model {
    state: State,
    due: u64,
    attempts: u32,
    /// Whether the newest claim is still to be settled.
    claimed: bool,
    now: u64,
}

/// When a case begins, in seconds since 1970.
const START: i64 = 1_800_000_000;

/// How long a claim lasts, and how long a retry waits, in seconds.
const LEASE: u64 = 50;
const WAIT: u64 = 20;

impl Model {
    /// A failure counts only while its claim is the newest and not settled, and the delivery is still pending.
    fn fails(&mut self, attempt: u32, change: impl FnOnce(&mut Self)) {
        if self.state == State::Pending && self.attempts == attempt && self.claimed {
            self.claimed = false;
            change(self);
        }
    }
}

fn again(claim: &Claim) -> Claim {
    let attempt = Attempt {
        number: claim.attempt,
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        outcome: AttemptOutcome::Transient,
        code: "x".to_owned(),
        detail: String::new(),
    };
    let claim = Claim {
        delivery: claim.delivery.clone(),
        lead: Arc::clone(&claim.lead),
        attempt: claim.attempt,
        budget_used: claim.budget_used,
        lease_ends: claim.lease_ends,
        crm_planned: claim.crm_planned,
        earlier: Vec::new(),
        steps: BTreeMap::new(),
    };
    Settle { claim, attempt, settlement: Settlement::Dead, signal: None }.again().claim
}

/// The clock of a case.
fn clock() -> Clock {
    Clock::manual(Timestamp::from_second(START).unwrap())
}

async fn compare(store: &dyn Store, clock: &Clock, born_withheld: bool, events: Vec<Event>) {
    let lead = json!({
        "email": "ada@example.com", "name": "Ada", "source": {"url": "https://example.com/"},
        "timezone": "UTC", "form_name": "contact", "consent_given": !born_withheld,
    });
    let lead = Lead::new(serde_json::from_value(lead).unwrap(), None, clock.now(), Visitor::default());
    let id = DeliveryId { lead: lead.id, destination: "crm".parse().unwrap() };
    let birth = if born_withheld { Birth::Withheld } else { Birth::Due };
    let planned = Planned { destination: id.destination.clone(), kind: Kind::Crm, birth };
    let entry = Entry { lead: Arc::new(lead), digest: [0; 32], deliveries: vec![planned] };
    assert!(matches!(store.accept(Arc::new(entry)).await.unwrap(), Accepted::New(_)));
    let state = if born_withheld { State::Withheld } else { State::Pending };
    let mut model = Model { state, due: 0, attempts: 0, claimed: false, now: 0 };
    let mut claims: Vec<Claim> = Vec::new();
    for event in events {
        let picked = match &event {
            Event::Deliver(at)
            | Event::Retry(at)
            | Event::Kill(at)
            | Event::Drop(at)
            | Event::Release(at) => {
                // Any claim that was ever given, newest first: late and stale ones too.
                claims.iter().rev().nth(*at).map(again)
            }
            _ => None,
        };
        match (event, picked) {
            (Event::Claim, _) => {
                let request = ClaimRequest {
                    destination: id.destination.clone(),
                    limit: 5,
                    lease: Duration::from_secs(LEASE),
                    rest: Duration::from_secs(60),
                };
                let got = store.claim_due(request).await.unwrap().claims;
                let is_due = model.state == State::Pending && model.due <= model.now;
                assert_eq!(got.len(), usize::from(is_due), "{model:?}");
                if is_due {
                    model.attempts += 1;
                    model.claimed = true;
                    model.due = model.now + LEASE;
                    assert_eq!(got[0].attempt, model.attempts);
                }
                claims.extend(got);
            }
            (Event::Pass(seconds), _) => {
                clock.advance(Duration::from_secs(seconds));
                model.now += seconds;
            }
            (Event::Replay, _) => {
                let changed = store.replay(std::slice::from_ref(&id)).await.unwrap();
                assert_eq!(changed == 1, model.state == State::Dead);
                if model.state == State::Dead {
                    (model.state, model.due) = (State::Pending, model.now);
                }
            }
            (Event::Cancel, _) => {
                let open = matches!(model.state, State::Pending | State::Dead | State::Withheld);
                assert_eq!(store.cancel(std::slice::from_ref(&id)).await.unwrap() == 1, open);
                if open {
                    model.state = State::Cancelled;
                }
            }
            (Event::Consent, _) => {
                let freed = store.consent(id.lead, clock.now()).await.unwrap();
                assert_eq!(freed, Some(u64::from(model.state == State::Withheld)));
                if model.state == State::Withheld {
                    (model.state, model.due) = (State::Pending, model.now);
                }
            }
            (Event::Release(_), Some(claim)) => {
                let attempt = claim.attempt;
                store.release(&claim).await.unwrap();
                model.fails(attempt, |model| model.due = model.now);
            }
            (
                event @ (Event::Deliver(_) | Event::Retry(_) | Event::Kill(_) | Event::Drop(_)),
                Some(claim),
            ) => {
                let (number, now) = (claim.attempt, model.now);
                let (settlement, outcome) = match event {
                    Event::Deliver(_) => {
                        if matches!(model.state, State::Pending | State::Dead | State::Cancelled) {
                            model.state = State::Delivered;
                        }
                        (Settlement::Delivered(Receipt::default()), AttemptOutcome::Delivered)
                    }
                    Event::Retry(_) => {
                        model.fails(number, |model| model.due = now + WAIT);
                        (
                            Settlement::Retry { wait: Duration::from_secs(WAIT), counted: true },
                            AttemptOutcome::Transient,
                        )
                    }
                    Event::Drop(_) => {
                        model.fails(number, |model| model.state = State::Cancelled);
                        (Settlement::Cancelled, AttemptOutcome::Rejected)
                    }
                    _ => {
                        model.fails(number, |model| model.state = State::Dead);
                        (Settlement::Dead, AttemptOutcome::Rejected)
                    }
                };
                let attempt = Attempt {
                    number,
                    started_at: clock.now(),
                    finished_at: clock.now(),
                    outcome,
                    code: "x".to_owned(),
                    detail: String::new(),
                };
                store.settle(Settle { claim, attempt, settlement, signal: None }).await.unwrap();
            }
            (_, None) => {}
        }
        let found = store.lead(id.lead).await.unwrap().unwrap().deliveries.remove(0);
        assert_eq!((found.state, found.attempts), (model.state, model.attempts), "{model:?}");
        let due = found.due_at.map(|due| due.as_second() - START);
        assert_eq!(due, (model.state == State::Pending).then_some(model.due as i64), "{model:?}");
        let waits = store.waited_for().await.unwrap();
        assert_eq!(waits.len(), usize::from(model.state == State::Pending), "{model:?}");
        let numbers: BTreeMap<_, _> =
            found.history.iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
        assert_eq!(numbers.len(), found.history.len(), "an attempt is written once");
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_store_says_what_the_model_says(born_withheld: bool, events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
            let store = Sqlite::open(&folder.path().join("leads.db"), clock.clone()).unwrap();
            compare(&store, &clock, born_withheld, events).await;
        });
    }

    #[test]
    fn postgres_says_what_the_model_says(born_withheld: bool, events in prop::collection::vec(event(), 1..40)) {
        if postgres::is_here() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (url, clock) = (postgres::shared().database().await, clock());
                let store = Postgres::open(&Address::parse(&url).unwrap(), clock.clone()).await.unwrap();
                compare(&store, &clock, born_withheld, events).await;
            });
        }
    }
}
