//! From the door to a destination and back into the store: intake, lanes and SQLite together, with a
//! destination that does as it is told.

mod claims;
mod destinations;
mod failures;
mod parked;
mod shutdown;
mod submit;
mod without_store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lead_intake::clock::Clock;
use lead_intake::delivery::{Birth, Claim, DeliveryError, Entry, Kind, Planned};
use lead_intake::destination::{Destination, LaneSettings, Nature, Start};
use lead_intake::dispatch::{Alerts, Lane, Lanes, Surroundings};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Arrival, Intake, Patience};
use lead_intake::lead::{Lead, NewLead, Visitor};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, DeliveryFilter, DeliveryRecord, Store};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::destinations::{Slow, Told};
use crate::support::soon;

/// How long a submit waits at most.
const DEADLINE: Duration = Duration::from_secs(20);

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
