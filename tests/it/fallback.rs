//! The second home: what happens to a lead while the store cannot commit. Another connection holds the
//! file, as a backup tool or a full disk would.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lead_intake::clock::Clock;
use lead_intake::delivery::{DeliveryError, Kind, Receipt, State};
use lead_intake::destination::{Destination, FallbackHome, LaneSettings, Nature, Parcel, Start};
use lead_intake::dispatch::{Alerts, Lane, Lanes, Surroundings};
use lead_intake::id::LeadId;
use lead_intake::intake::fallback::Fallback;
use lead_intake::intake::{Answer, Arrival, Intake, Patience};
use lead_intake::lead::{Lead, Visitor};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{LeadFilter, Store};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::soon;

/// A sheet that can be told to fail, and remembers what it was asked.
#[derive(Default)]
struct Sheet {
    failures: Mutex<Vec<DeliveryError>>,
    hold: Option<Arc<tokio::sync::Notify>>,
    seen: watch::Sender<Seen>,
}

#[derive(Default, Clone)]
struct Seen {
    kept: Vec<LeadId>,
    delivered: Vec<LeadId>,
    cleared: Vec<LeadId>,
    asked: usize,
}

#[async_trait]
impl Destination for Sheet {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.seen.send_modify(|seen| seen.delivered.push(parcel.lead.id));
        Ok(Receipt::of("Leads!A2"))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[async_trait]
impl FallbackHome for Sheet {
    async fn keep(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.seen.send_modify(|seen| seen.asked += 1);
        if let Some(hold) = &self.hold {
            hold.notified().await;
        }
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        self.seen.send_modify(|seen| seen.kept.push(parcel.lead.id));
        Ok(Receipt::of("Leads!A7"))
    }

    async fn clear(&self, leads: &[LeadId]) -> Result<(), DeliveryError> {
        self.seen.send_modify(|seen| seen.cleared.extend(leads));
        Ok(())
    }

    async fn kept(&self) -> Result<Vec<Result<Lead, String>>, DeliveryError> {
        Ok(Vec::new())
    }
}

struct House {
    intake: Arc<Intake>,
    store: Arc<dyn Store>,
    sheet: Arc<Sheet>,
    crm: Arc<Sheet>,
    stop: CancellationToken,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn house(sheet: Sheet, room: usize) -> House {
    house_waiting(sheet, room, Duration::from_millis(100))
}

/// It waits so long for a commit.
fn house_waiting(sheet: Sheet, room: usize, commit: Duration) -> House {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    let clock = Clock::system();
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&file, clock.clone()).unwrap());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let around = Surroundings {
        store: Arc::clone(&store),
        clock: clock.clone(),
        tracker: tracker.clone(),
        stop: stop.clone(),
        give_up: CancellationToken::new(),
        settled: Arc::default(),
        alerts: Alerts::default(),
    };
    let settings = |start| LaneSettings {
        timeout: Duration::from_secs(30),
        start,
        concurrency: 4,
        retry: vec![Duration::from_millis(1); 3],
        probe: Duration::from_millis(1),
        lease_slack: Duration::from_secs(30),
        requires_consent: false,
        forms: None,
    };
    let (sheet, crm) = (Arc::new(sheet), Arc::new(Sheet::default()));
    let lane = |name: &str, start, is_crm| {
        let destination: Arc<dyn Destination> = Arc::<Sheet>::clone(if is_crm { &crm } else { &sheet });
        Lane::new(
            name.parse().unwrap(),
            Nature { kind: if is_crm { Kind::Crm } else { Kind::Sheet }, type_name: "webhook" },
            settings(start),
            destination,
            around.clone(),
        )
    };
    let (home, other) = (lane("sheet", Start::Inline, false), lane("crm", Start::Background, true));
    let lanes = Lanes::new([Arc::clone(&home), other]);
    lanes.run();
    let patience = Patience { deadline: Duration::from_secs(20), commit };
    let fallback = Fallback::new(Arc::<Sheet>::clone(&sheet), home, clock.clone(), room);
    let intake = Intake::new(Arc::clone(&store), lanes, clock, tracker, patience, Some(fallback));
    House { intake, store, sheet, crm, stop, file, _folder: folder }
}

impl House {
    async fn submit(&self, key: &str, name: &str) -> Answer {
        let lead = json!({
            "email": "ada@example.com", "name": name, "source": {"url": "https://example.com/"},
            "timezone": "UTC", "form_name": "contact", "consent_given": true,
        });
        let lead = serde_json::from_value(lead).unwrap();
        self.intake.submit(Arrival { lead, key: key.parse().ok(), visitor: Visitor::default() }).await
    }

    /// Nobody else can commit until the connection is dropped.
    fn held(&self) -> rusqlite::Connection {
        let held = rusqlite::Connection::open(&self.file).unwrap();
        held.busy_timeout(Duration::from_secs(10)).unwrap();
        held.execute_batch("BEGIN IMMEDIATE").unwrap();
        held
    }

    async fn until(&self, fits: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.sheet.seen.subscribe();
        soon(seen.wait_for(fits)).await.unwrap().clone()
    }

    /// Waits until every delivery of every lead has arrived.
    async fn until_all_arrived(&self, leads: usize) {
        let wait = async {
            loop {
                let found = self.store.leads(LeadFilter::default()).await.unwrap();
                let arrived = |state| state == State::Delivered;
                let all =
                    found.iter().flat_map(|lead| &lead.deliveries).all(|delivery| arrived(delivery.state));
                if found.len() == leads && all {
                    assert!(found.iter().all(|lead| lead.deliveries.len() == 2));
                    return;
                }
            }
        };
        soon(wait).await;
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_lead_that_the_store_cannot_commit_is_kept_in_the_sheet_and_enters_the_store_later() {
    let house = house(Sheet::default(), 10);
    let held = house.held();
    let Answer::Accepted(id) = house.submit("k", "Ada").await else { panic!("the sheet took it") };
    assert_eq!(house.submit("k", "Ada").await, Answer::Repeat(id), "memory knows it");
    assert_eq!(house.submit("k", "Eve").await, Answer::Conflict);
    drop(held);
    house.until(|seen| seen.cleared == [id]).await;
    house.until_all_arrived(1).await;
    let seen = house.sheet.seen.borrow().clone();
    assert_eq!((seen.kept, seen.delivered), (vec![id], vec![]), "one row, and the sheet was not asked again");
    assert_eq!(house.submit("k", "Ada").await, Answer::Repeat(id), "the store knows it");
}

#[tokio::test]
async fn a_store_that_fails_at_once_is_as_one_that_does_not_answer() {
    let house = house_waiting(Sheet::default(), 10, Duration::from_secs(15));
    let held = house.held();
    let Answer::Accepted(id) = house.submit("k", "Ada").await else { panic!("the sheet took it") };
    // Now the store has said no twice, and the lead is on its way to it by memory alone.
    assert!(house.store.ready().await.is_err());
    assert_eq!(house.crm.seen.borrow().delivered, [], "only the sheet is asked meanwhile");
    drop(held);
    house.until(|seen| seen.cleared == [id]).await;
    house.until_all_arrived(1).await;
    let (sheet, crm) = (house.sheet.seen.borrow().clone(), house.crm.seen.borrow().clone());
    assert_eq!((sheet.kept, sheet.delivered, crm.delivered), (vec![id], vec![], vec![id]), "each once");
}

#[tokio::test]
async fn two_of_one_key_at_once_are_kept_once() {
    let house = house(Sheet::default(), 10);
    let held = house.held();
    let answers = tokio::join!(house.submit("k", "Ada"), house.submit("k", "Ada"));
    let ((Answer::Accepted(id), Answer::Unavailable { .. })
    | (Answer::Unavailable { .. }, Answer::Accepted(id))) = answers
    else {
        panic!("{answers:?}")
    };
    assert_eq!(house.sheet.seen.borrow().kept, [id]);
    drop(held);
    house.until_all_arrived(1).await;
}

#[tokio::test]
async fn when_no_home_takes_it_the_client_is_told_to_come_back() {
    let sheet =
        Sheet { failures: Mutex::new(vec![DeliveryError::transient("http_429", "")]), ..Sheet::default() };
    let house = house(sheet, 10);
    let held = house.held();
    assert!(matches!(house.submit("k", "Ada").await, Answer::Unavailable { .. }));
    drop(held);
    assert!(matches!(house.submit("k", "Ada").await, Answer::Accepted(_) | Answer::Repeat(_)));
    house.until_all_arrived(1).await;
}

#[tokio::test]
async fn memory_is_bounded() {
    let house = house(Sheet::default(), 1);
    let held = house.held();
    assert!(matches!(house.submit("a", "Ada").await, Answer::Accepted(_)));
    assert!(matches!(house.submit("b", "Bob").await, Answer::Unavailable { .. }));
    drop(held);
    house.until(|seen| seen.cleared.len() == 1).await;
}

#[tokio::test]
async fn a_commit_that_comes_late_and_the_row_meet_in_one_lead() {
    let hold = Arc::new(tokio::sync::Notify::new());
    let house = house(Sheet { hold: Some(Arc::clone(&hold)), ..Sheet::default() }, 10);
    let held = house.held();
    let intake = house.submit("k", "Ada");
    let release = async {
        // The keep is under way when the store comes back: the commit wins, the row follows.
        house.until(|seen| seen.asked == 1).await;
        tokio::task::spawn_blocking(move || drop(held)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(intake, release);
    let Answer::Accepted(id) = answer else { panic!("{answer:?}") };
    hold.notify_one();
    house.until_all_arrived(1).await;
    let seen = house.sheet.seen.borrow().clone();
    assert!(seen.kept.len() + seen.delivered.len() == 1, "one row, whoever wrote it: {id}");
}
