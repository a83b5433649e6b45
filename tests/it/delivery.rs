//! From the door to a destination and back into the store: intake, lanes and SQLite together, with a
//! destination that does as it is told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use lead_intake::clock::{Clock, after};
use lead_intake::delivery::{Birth, Claim, DeliveryError, Entry, Kind, Planned, Receipt, State};
use lead_intake::destination::{Destination, LaneSettings, Nature, Parcel, Start};
use lead_intake::dispatch::gate::Condition;
use lead_intake::dispatch::{Alerts, Lane, Lanes, Surroundings};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Arrival, Intake, Patience};
use lead_intake::lead::{Lead, NewLead, Visitor};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, DeliveryFilter, DeliveryRecord, Store};
use serde_json::json;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::soon;

/// How long a submit waits at most.
const DEADLINE: Duration = Duration::from_secs(20);

type Answers = VecDeque<Result<Receipt, DeliveryError>>;

/// Gives the planned answers, then says yes. A hanging one waits until it is let go.
#[derive(Default)]
struct Told {
    answers: Mutex<Answers>,
    hang: Option<Arc<Notify>>,
    /// Told when one hangs.
    hangs: Arc<Notify>,
    panics: bool,
    /// After the planned answers nothing comes any more.
    falls_silent: bool,
    /// The first lead that comes is refused ever after, as if we were not known.
    poison: Option<Mutex<Option<LeadId>>>,
}

#[async_trait]
impl Destination for Told {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        if let Some(hang) = &self.hang {
            parcel.handoff.queue();
            self.hangs.notify_one();
            hang.notified().await;
        }
        assert!(!self.panics, "told to");
        if let Some(first) = &self.poison
            && *first.lock().unwrap().get_or_insert(parcel.lead.id) == parcel.lead.id
        {
            return Err(DeliveryError::blocked("http_403", "No."));
        }
        let answer = self.answers.lock().unwrap().pop_front();
        if answer.is_none() && self.falls_silent {
            std::future::pending::<()>().await;
        }
        answer.unwrap_or_else(|| Ok(Receipt::of(format!("try {}", parcel.attempt))))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

struct House {
    intake: Arc<Intake>,
    store: Arc<dyn Store>,
    lane: Arc<Lane>,
    stop: CancellationToken,
    give_up: CancellationToken,
    tracker: TaskTracker,
    folder: tempfile::TempDir,
}

fn house(told: Told, start: Start, requires_consent: bool) -> House {
    house_probing(told, start, requires_consent, Duration::from_millis(1))
}

fn house_probing(told: Told, start: Start, requires_consent: bool, probe: Duration) -> House {
    house_of(Arc::new(told), start, requires_consent, probe, Clock::system())
}

fn house_of(
    destination: Arc<dyn Destination>,
    start: Start,
    requires_consent: bool,
    probe: Duration,
    clock: Clock,
) -> House {
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_secs(10) };
    house_set(destination, clock, patience, |lane| LaneSettings { start, requires_consent, probe, ..lane })
}

fn house_set(
    destination: Arc<dyn Destination>,
    clock: Clock,
    patience: Patience,
    set: impl FnOnce(LaneSettings) -> LaneSettings,
) -> House {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(Sqlite::open(&folder.path().join("leads.db"), clock.clone()).unwrap());
    let (tracker, stop, give_up) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let around = Surroundings {
        store: Arc::clone(&store),
        clock: clock.clone(),
        tracker: tracker.clone(),
        stop: stop.clone(),
        give_up: give_up.clone(),
        settled: Arc::default(),
        alerts: Alerts::default(),
    };
    let settings = set(LaneSettings {
        timeout: Duration::from_secs(30),
        start: Start::Background,
        concurrency: 4,
        retry: vec![Duration::from_millis(1); 3],
        probe: Duration::from_millis(1),
        lease_slack: Duration::from_secs(30),
        requires_consent: false,
        forms: None,
    });
    let lane = Lane::new(
        "crm".parse().unwrap(),
        Nature { kind: Kind::Crm, type_name: "webhook" },
        settings,
        destination,
        around,
    );
    let lanes = Lanes::new([Arc::clone(&lane)]);
    lanes.run();
    let intake = Intake::new(Arc::clone(&store), lanes, clock, tracker.clone(), patience, None);
    House { intake, store, lane, stop, give_up, tracker, folder }
}

fn submitted(consent: bool) -> NewLead {
    let lead = json!({
        "email": "ada@example.com", "name": "Ada", "source": {"url": "https://example.com/"},
        "timezone": "UTC", "form_name": "contact", "consent_given": consent,
    });
    serde_json::from_value(lead).unwrap()
}

impl House {
    async fn submit(&self, key: Option<&str>, consent: bool) -> Answer {
        let key = key.map(|key| key.parse().unwrap());
        let lead = submitted(consent);
        self.intake.submit(Arrival { lead, key, visitor: Visitor::default() }).await
    }

    /// A lead that the store has, and nobody has begun with.
    async fn waiting_lead(&self) -> LeadId {
        let lead = Lead::new(submitted(true), None, Clock::system().now(), Visitor::default());
        let planned = Planned { destination: "crm".parse().unwrap(), kind: Kind::Crm, birth: Birth::Due };
        let (id, digest, lead) = (lead.id, lead.digest(), Arc::new(lead));
        self.store.accept(Arc::new(Entry { lead, digest, deliveries: vec![planned] })).await.unwrap();
        id
    }

    /// Nobody else can commit until the connection is dropped.
    fn held(&self) -> rusqlite::Connection {
        let held = rusqlite::Connection::open(self.folder.path().join("leads.db")).unwrap();
        held.busy_timeout(Duration::from_secs(10)).unwrap();
        held.execute_batch("BEGIN IMMEDIATE").unwrap();
        held
    }

    async fn delivery(&self, id: LeadId) -> DeliveryRecord {
        self.store.lead(id).await.unwrap().unwrap().deliveries.remove(0)
    }

    /// Asks the store again and again until the delivery is as it should be.
    async fn until(&self, id: LeadId, fits: impl Fn(&DeliveryRecord) -> bool) -> DeliveryRecord {
        let wait = async {
            loop {
                let delivery = self.delivery(id).await;
                if fits(&delivery) {
                    return delivery;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never came to that")
    }
}

/// Whoever can go on goes on.
async fn others_run() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn accepted(answer: Answer) -> LeadId {
    let Answer::Accepted(id) = answer else { panic!("{answer:?}") };
    id
}

fn failing(failures: impl IntoIterator<Item = DeliveryError>) -> Told {
    Told { answers: Mutex::new(failures.into_iter().map(Err).collect()), ..Told::default() }
}

#[tokio::test]
async fn an_inline_lead_is_delivered_when_the_answer_comes() {
    let house = house(Told::default(), Start::Inline, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.delivery(id).await;
    assert_eq!((delivery.state, delivery.receipt), (State::Delivered, Some(Receipt::of("try 1"))));
}

#[tokio::test]
async fn a_form_never_waits_for_a_background_destination() {
    let hang = Arc::new(Notify::new());
    let told = Told { hang: Some(Arc::clone(&hang)), ..Told::default() };
    let house = house(told, Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(id).await.state, State::Pending);
    hang.notify_one();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_commit_changes_nothing() {
    let house = house(Told::default(), Start::Background, false);
    let mut submit = Box::pin(house.submit(Some("once"), true));
    assert!(submit.as_mut().now_or_never().is_none(), "the store has not answered yet");
    drop(submit);
    let id = LeadId::of_key(&"contact".parse().unwrap(), &"once".parse().unwrap());
    while house.store.lead(id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    // Its first attempt is made now, not when its lease has ended.
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!(delivery.receipt, Some(Receipt::of("try 1")));
}

#[tokio::test]
async fn failures_are_retried_and_every_attempt_is_kept() {
    let failures =
        [DeliveryError::transient("http_503", "Busy."), DeliveryError::unknown("timeout", "No answer.")];
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    let codes: Vec<_> = delivery.history.iter().map(|attempt| attempt.code.as_str()).collect();
    assert_eq!(codes, ["http_503", "timeout", "ok"]);
}

#[tokio::test]
async fn a_schedule_that_is_used_up_ends_as_a_dead_letter_and_a_replay_brings_it_home() {
    let failures = (0..4).map(|_| DeliveryError::transient("http_500", "Broken."));
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert_eq!(delivery.history.len(), 4);
    assert_eq!(house.store.replay(&[delivery.id]).await.unwrap(), 1);
    house.lane.wake();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_rejected_lead_is_a_dead_letter_at_once() {
    let house = house(failing([DeliveryError::rejected("http_422", "No.")]), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    assert_eq!(house.until(id, |delivery| delivery.state == State::Dead).await.history.len(), 1);
}

#[tokio::test]
async fn a_blocked_destination_is_parked_and_costs_no_lead_its_budget() {
    let blocked = (0..6).map(|_| DeliveryError::blocked("http_401", "Wrong token."));
    let failures = blocked.chain((0..3).map(|_| DeliveryError::transient("http_503", "Busy.")));
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state != State::Pending).await;
    assert_eq!((delivery.state, delivery.history.len()), (State::Delivered, 10), "all three waits were left");
    assert_eq!(house.lane.condition(), Condition::Ok);
}

#[tokio::test]
async fn a_parked_destination_gets_no_new_lead() {
    let blocked = failing([DeliveryError::blocked("http_401", "Wrong token.")]);
    let house = house_probing(blocked, Start::Inline, false, Duration::from_secs(3_600));
    let first = accepted(house.submit(None, true).await);
    assert_eq!((house.delivery(first).await.history.len(), house.lane.condition()), (1, Condition::Parked));
    let second = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(second).await.attempts, 0, "it waits for a probe to go in");
}

/// Refuses us, lets a probe in, and keeps whoever comes then.
#[derive(Default)]
struct Mended {
    asked: AtomicUsize,
    keeps: Notify,
}

#[async_trait]
impl Destination for Mended {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => Err(DeliveryError::blocked("http_401", "Wrong token.")),
            1 => Ok(Receipt::of("probed")),
            _ => {
                self.keeps.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_destination_that_works_again_gets_new_leads_one_by_one() {
    let mended = Arc::new(Mended::default());
    let probe = Duration::from_millis(1);
    let house = house_of(Arc::<Mended>::clone(&mended), Start::Background, false, probe, Clock::system());
    let first = accepted(house.submit(None, true).await);
    house.until(first, |it| it.state == State::Delivered).await;
    accepted(house.submit(None, true).await);
    soon(mended.keeps.notified()).await;
    let third = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(third).await.attempts, 0, "four could be under way, had it never been parked");
}

/// A lead whose claim, made by nobody here, ends within a second.
async fn claimed_for_a_second(house: &House) -> Claim {
    let lead = Lead::new(submitted(true), None, Clock::system().now(), Visitor::default());
    let birth = Birth::Claimed { lease: Duration::from_secs(1) };
    let planned = Planned { destination: "crm".parse().unwrap(), kind: Kind::Crm, birth };
    let (digest, lead) = (lead.digest(), Arc::new(lead));
    let entry = Arc::new(Entry { lead, digest, deliveries: vec![planned] });
    let Accepted::New(mut claims) = house.store.accept(entry).await.unwrap() else { panic!("it is new") };
    claims.remove(0)
}

#[tokio::test]
async fn a_claim_that_would_end_within_its_attempt_is_renewed_before_anything_is_sent() {
    let clock = Clock::manual("2027-01-15T08:00:00Z".parse().unwrap());
    let patience = Patience { deadline: DEADLINE, commit: DEADLINE };
    let (hang, hangs) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = Told { hang: Some(Arc::clone(&hang)), hangs: Arc::clone(&hangs), ..Told::default() };
    let house = house_set(Arc::new(told), clock.clone(), patience, |lane| lane);
    let claim = claimed_for_a_second(&house).await;
    let id = claim.delivery.lead;
    let attempt = house.lane.start(claim, ());
    soon(hangs.notified()).await;
    assert_eq!(house.delivery(id).await.due_at, Some(after(clock.now(), house.lane.lease())));
    hang.notify_one();
    soon(attempt).await.unwrap();
    assert_eq!(house.delivery(id).await.state, State::Delivered);
}

#[tokio::test]
async fn a_claim_that_is_another_s_by_now_sends_nothing() {
    let clock = Clock::manual("2027-01-15T08:00:00Z".parse().unwrap());
    let patience = Patience { deadline: DEADLINE, commit: DEADLINE };
    let house = house_set(Arc::new(Told::default()), clock, patience, |lane| lane);
    let claim = claimed_for_a_second(&house).await;
    let delivery = claim.delivery.clone();
    assert_eq!(house.store.cancel(std::slice::from_ref(&delivery)).await.unwrap(), 1);
    soon(house.lane.start(claim, ())).await.unwrap();
    let found = house.delivery(delivery.lead).await;
    assert_eq!((found.state, found.history.len()), (State::Cancelled, 0));
}

/// Takes leads once it is open, and after so many none any more: we are not known.
struct Closing {
    open: CancellationToken,
    takes: usize,
    asked: AtomicUsize,
}

#[async_trait]
impl Destination for Closing {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.open.cancelled().await;
        if self.asked.fetch_add(1, Ordering::SeqCst) < self.takes {
            return Ok(Receipt::of("taken"));
        }
        Err(DeliveryError::blocked("http_401", "Wrong token."))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_lane_claimed_ahead_goes_back_unsent_when_its_destination_parks() {
    let closing = Arc::new(Closing { open: CancellationToken::new(), takes: 60, asked: AtomicUsize::new(0) });
    let destination: Arc<dyn Destination> = Arc::<Closing>::clone(&closing);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(accepted(house.submit(None, true).await));
    }
    closing.open.cancel();
    soon(async {
        while house.lane.condition() != Condition::Parked {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut taken, mut refused) = (0, 0);
    for id in ids {
        // A claim that is not begun is a delivery that is due far away and has no history.
        let at_rest = |delivery: &DeliveryRecord| {
            let due_in = delivery.due_at.map(|due| lead_intake::clock::until(Clock::system().now(), due));
            delivery.state == State::Delivered
                || due_in.is_some_and(|due_in| due_in < Duration::from_secs(30))
        };
        let delivery = house.until(id, at_rest).await;
        taken += usize::from(delivery.state == State::Delivered);
        refused += delivery.history.iter().filter(|attempt| attempt.code == "http_401").count();
        let began = delivery.history.len();
        assert!(began <= 1 && (began == 1 || delivery.attempts <= 1), "{delivery:?}");
    }
    assert_eq!((taken, house.lane.condition()), (60, Condition::Parked));
    // Those that were under way, and no more: four permits, and the one that said no first.
    assert!((1..=4).contains(&refused), "{refused} leads were sent to a destination that does not know us");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_puts_no_second_attempt_beside_the_first() {
    let clock = Clock::manual(Clock::system().now());
    let closing = Arc::new(Closing { open: CancellationToken::new(), takes: 1, asked: AtomicUsize::new(0) });
    let destination: Arc<dyn Destination> = Arc::<Closing>::clone(&closing);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), clock.clone());
    let id = accepted(house.submit(None, true).await);
    house.until(id, |delivery| delivery.attempts == 1).await;
    // Its lease is over, by this clock; its attempt is not.
    clock.advance(Duration::from_secs(3_600));
    house.lane.wake();
    house.until(id, |delivery| delivery.attempts == 2).await;
    closing.open.cancel();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
    house.stop.cancel();
    house.tracker.close();
    house.tracker.wait().await;
    assert_eq!((closing.asked.load(Ordering::SeqCst), house.delivery(id).await.state), (1, State::Delivered));
}

/// Keeps every lead until it is let go; remembers who came, and how many were there at once.
struct Slow {
    let_go: Semaphore,
    seen: watch::Sender<Crowd>,
}

#[derive(Clone, Debug, Default)]
struct Crowd {
    came: Vec<LeadId>,
    here: usize,
    most: usize,
}

#[async_trait]
impl Destination for Slow {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.seen.send_modify(|crowd| {
            crowd.came.push(parcel.lead.id);
            crowd.here += 1;
            crowd.most = crowd.most.max(crowd.here);
        });
        self.let_go.acquire().await.unwrap().forget();
        self.seen.send_modify(|crowd| crowd.here -= 1);
        Ok(Receipt::of("taken"))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// A lane with three attempts under way, after three that ended, and some deliveries claimed ahead of its permits.
async fn claimed_ahead() -> (House, Arc<Slow>) {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    for _ in 0..40 {
        house.waiting_lead().await;
    }
    house.lane.wake();
    let came = async |number: usize| {
        let mut seen = slow.seen.subscribe();
        soon(seen.wait_for(|crowd| crowd.came.len() >= number)).await.unwrap();
        // Whatever the lane has asked the store for by now is answered before these.
        for _ in 0..20 {
            house.store.ready().await.unwrap();
        }
        assert_eq!(slow.seen.borrow().most, 3, "of four permits");
    };
    let claimed = async || {
        let all = house.store.deliveries(DeliveryFilter::default()).await.unwrap();
        all.iter().filter(|it| it.attempts > 0).count()
    };
    came(3).await;
    assert_eq!(claimed().await, 3, "nothing is claimed that cannot begin");
    // Two of them end while the lane claims in the place of the first, so that it claims ahead of its permits.
    let held = house.held();
    slow.let_go.add_permits(1);
    others_run().await;
    slow.let_go.add_permits(2);
    others_run().await;
    drop(held);
    came(6).await;
    assert!(claimed().await > 6, "some are claimed ahead");
    (house, slow)
}

#[tokio::test]
async fn a_backlog_however_large_leaves_a_quarter_of_the_permits_to_new_leads() {
    let (house, slow) = claimed_ahead().await;
    let new = accepted(house.submit(None, true).await);
    soon(slow.seen.subscribe().wait_for(|crowd| crowd.came.contains(&new))).await.unwrap();
    assert_eq!(slow.seen.borrow().came.len(), 7, "nobody had to end before");
}

#[tokio::test]
async fn a_form_does_not_wait_for_a_destination_that_keeps_failing() {
    let failures = (0..3).map(|_| DeliveryError::transient("http_503", "Busy."));
    let house = house(Told { falls_silent: true, ..failing(failures) }, Start::Inline, false);
    let first = accepted(house.submit(None, true).await);
    house.until(first, |delivery| delivery.history.len() == 3).await;
    assert_eq!(house.lane.condition(), Condition::Failing);
    let answer = tokio::time::timeout(DEADLINE / 2, house.submit(None, true)).await;
    let second = accepted(answer.expect("it would have been answered at the deadline"));
    assert_eq!(house.delivery(second).await.state, State::Pending);
}

#[tokio::test]
async fn a_poison_lead_dies_alone() {
    let house = house(Told { poison: Some(Mutex::default()), ..Told::default() }, Start::Background, false);
    let poison = accepted(house.submit(None, true).await);
    house.until(poison, |delivery| !delivery.history.is_empty()).await;
    let other = accepted(house.submit(None, true).await);
    house.until(other, |delivery| delivery.state == State::Delivered).await;
    let dead = house.until(poison, |delivery| delivery.state != State::Pending).await;
    assert_eq!(dead.state, State::Dead);
    assert!(dead.history.last().unwrap().detail.ends_with("it is this lead that is refused."), "{dead:?}");
    assert_eq!(house.lane.condition(), Condition::Ok);
}

#[tokio::test]
async fn without_consent_it_is_withheld() {
    let house = house(Told::default(), Start::Background, true);
    let id = accepted(house.submit(None, false).await);
    let delivery = house.delivery(id).await;
    assert_eq!((delivery.state, delivery.attempts), (State::Withheld, 0));
}

#[tokio::test]
async fn a_repeat_gets_the_first_id_and_sends_nothing_again() {
    let house = house(Told::default(), Start::Inline, false);
    let first = accepted(house.submit(Some("k"), true).await);
    assert_eq!(house.submit(Some("k"), true).await, Answer::Repeat(first));
    assert_eq!(house.submit(Some("k"), false).await, Answer::Conflict);
    assert_eq!(house.delivery(first).await.history.len(), 1);
}

#[tokio::test]
async fn a_panic_is_an_unknown_outcome_and_harms_nobody_else() {
    let house = house(Told { panics: true, ..Told::default() }, Start::Inline, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert!(delivery.history.iter().all(|attempt| attempt.code == "panic"));
}

#[tokio::test]
async fn a_shutdown_takes_back_what_was_not_sent_and_counts_nothing() {
    for waits_for_its_turn in [false, true] {
        let told = Told { hang: Some(Arc::new(Notify::new())), ..Told::default() };
        let hangs = Arc::clone(&told.hangs);
        let house = house(told, Start::Background, false);
        let id = accepted(house.submit(None, true).await);
        if waits_for_its_turn {
            soon(hangs.notified()).await;
        }
        house.stop.cancel();
        house.give_up.cancel();
        house.tracker.close();
        house.tracker.wait().await;
        let delivery = house.delivery(id).await;
        assert_eq!(delivery.state, State::Pending);
        assert!(
            delivery.history.is_empty() && delivery.due_at <= Some(Clock::system().now()),
            "{delivery:?}"
        );
    }
}

#[tokio::test]
async fn an_attempt_that_has_not_begun_when_time_is_up_sends_nothing() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let claim = claimed_for_a_second(&house).await;
    let delivery = claim.delivery.clone();
    house.stop.cancel();
    house.give_up.cancel();
    soon(house.lane.start(claim, ())).await.unwrap();
    assert!(slow.seen.borrow().came.is_empty());
    let found = house.delivery(delivery.lead).await;
    assert!(found.history.is_empty() && found.due_at <= Some(Clock::system().now()), "{found:?}");
}

#[tokio::test]
async fn what_a_lane_claimed_ahead_goes_back_unsent_at_a_shutdown() {
    let (house, slow) = claimed_ahead().await;
    house.stop.cancel();
    slow.let_go.add_permits(100);
    house.tracker.close();
    soon(house.tracker.wait()).await;
    assert_eq!(slow.seen.borrow().came.len(), 6, "those that were under way, and no more");
    for delivery in house.store.deliveries(DeliveryFilter::default()).await.unwrap() {
        let is_back = delivery.history.is_empty() && delivery.due_at <= Some(Clock::system().now());
        assert!(delivery.state == State::Delivered || is_back, "{delivery:?}");
    }
}

#[tokio::test]
async fn a_lead_that_comes_during_a_shutdown_is_stored_and_left_to_the_next_process() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    house.stop.cancel();
    let id = accepted(house.submit(None, true).await);
    house.tracker.close();
    soon(house.tracker.wait()).await;
    let delivery = house.delivery(id).await;
    assert!(delivery.attempts == 0 && delivery.due_at <= Some(Clock::system().now()), "{delivery:?}");
}

#[tokio::test]
async fn what_failed_together_does_not_return_together() {
    let failures = (0..8).map(|_| DeliveryError::transient("http_503", "Busy."));
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_secs(10) };
    let house = house_set(Arc::new(failing(failures)), Clock::system(), patience, |lane| LaneSettings {
        retry: vec![Duration::from_secs(3_600)],
        ..lane
    });
    let mut waits = BTreeSet::new();
    for _ in 0..8 {
        let id = accepted(house.submit(None, true).await);
        let failed = house.until(id, |delivery| delivery.history.len() == 1).await;
        let wait = lead_intake::clock::until(failed.history[0].finished_at, failed.due_at.unwrap());
        waits.insert(wait.as_secs());
    }
    // A fifth to either side is 24 minutes; by chance they are not all within one.
    assert!(waits.last().unwrap() - waits.first().unwrap() > 60, "{waits:?}");
}

#[tokio::test]
async fn what_an_attempt_brought_is_held_until_the_store_takes_it() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let id = accepted(house.submit(None, true).await);
    soon(slow.seen.subscribe().wait_for(|crowd| crowd.here == 1)).await.unwrap();
    let held = house.held();
    slow.let_go.add_permits(1);
    others_run().await;
    assert!(house.store.ready().await.is_err(), "whoever asked before has heard the same");
    drop(held);
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!((delivery.history.len(), slow.seen.borrow().came.len()), (1, 1));
}

#[tokio::test]
async fn a_lane_goes_on_after_a_time_without_a_store() {
    let house = house(Told::default(), Start::Background, false);
    house.store.ready().await.unwrap();
    let held = house.held();
    house.lane.wake();
    others_run().await;
    assert!(house.store.ready().await.is_err(), "whoever asked before has heard the same");
    drop(held);
    let id = house.waiting_lead().await;
    house.lane.wake();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_commit_that_comes_after_the_answer_is_a_lead_like_any_other() {
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_millis(20) };
    let house = house_set(Arc::new(Told::default()), Clock::system(), patience, |lane| lane);
    let id = LeadId::of_key(&"contact".parse().unwrap(), &"late".parse().unwrap());
    soon(async {
        // On a slow day the store gives up before it is let go.
        while house.store.lead(id).await.unwrap().is_none() {
            let held = house.held();
            assert!(matches!(house.submit(Some("late"), true).await, Answer::Unavailable { .. }));
            drop(held);
            let _ = house.store.ready().await;
        }
    })
    .await;
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!(delivery.receipt, Some(Receipt::of("try 1")), "its first attempt is made now");
}

#[tokio::test]
async fn an_attempt_that_does_not_come_back_in_its_time_is_given_up() {
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_secs(10) };
    let told = Told { falls_silent: true, ..Told::default() };
    let house = house_set(Arc::new(told), Clock::system(), patience, |lane| LaneSettings {
        timeout: Duration::from_millis(10),
        retry: Vec::new(),
        ..lane
    });
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert_eq!(delivery.history[0].code, "overrun");
}
