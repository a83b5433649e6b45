//! Accepted leads per second, with four deliveries planned for each and every commit on the disk, beside a
//! handler that only parses, validates and answers. Both over HTTP on the loopback, in turns, in one run:
//! the machine is shared with the load generator, so only the ratio says something.
//!
//! `cargo bench --bench accept`

#[path = "support/load.rs"]
mod load;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lead_intake::clock::Clock;
use lead_intake::config::{Inputs, load as configured};
use lead_intake::delivery::{DeliveryError, Kind, Receipt};
use lead_intake::destination::{Destination, LaneSettings, Nature, Parcel, Start};
use lead_intake::dispatch::{Alerts, Lane, Lanes, Surroundings};
use lead_intake::http::{AddressHash, Door, Forms, Site, router, serve::serve};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Arrival, Intake, Patience};
use lead_intake::store::{Store, sqlite::Sqlite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Parses, validates, answers.
struct Bare;

#[async_trait]
impl Door for Bare {
    async fn submit(&self, _: Arrival) -> Answer {
        Answer::Accepted(LeadId::fresh())
    }
}

/// Planned and never asked: the lanes do not run.
struct Elsewhere;

#[async_trait]
impl Destination for Elsewhere {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::default())
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

async fn listen(door: Arc<dyn Door>, store: Arc<dyn Store>, stop: &CancellationToken) -> SocketAddr {
    let settings = configured(&Inputs::default()).unwrap_or_else(|problems| panic!("{problems}")).server;
    let routes = router(Site {
        door,
        forms: Forms::default(),
        settings: settings.clone(),
        store,
        lanes: Lanes::default(),
        address_hash: AddressHash::new(b"bench"),
        operator_token: None,
        draining: CancellationToken::new(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let (tracker, stop) = (TaskTracker::new(), stop.clone());
    tracker.clone().spawn(async move { serve(listener, routes, &settings, &tracker, &stop).await });
    address
}

/// The processor time of this process so far, load generator included (Linux: ticks of 10 ms, proc(5)).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Posts from `connections` at once for `length`; answers of 200 per second, and the processor's µs for each.
async fn rate(address: std::net::SocketAddr, connections: usize, length: Duration) -> (f64, f64) {
    let before = processor_time();
    let (good, request) = (Arc::new(AtomicU64::new(0)), Arc::new(load::request()));
    let end = Instant::now() + length;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (good, request) = (Arc::clone(&good), Arc::clone(&request));
        clients.spawn(async move {
            let mut connection = TcpStream::connect(address).await.expect("the service listens");
            connection.set_nodelay(true).expect("a socket takes options");
            while Instant::now() < end {
                assert!(load::post(&mut connection, &request).await, "an answer that is not 200");
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while clients.join_next().await.is_some() {}
    let good = good.load(Ordering::Relaxed) as f64;
    (good / length.as_secs_f64(), (processor_time() - before).as_secs_f64() * 1e6 / good)
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Clock::system();
    let store: Arc<dyn Store> =
        Arc::new(Sqlite::open(&folder.path().join("leads.db"), clock.clone()).expect("a fresh file"));
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let around = Surroundings {
        store: Arc::clone(&store),
        clock: clock.clone(),
        tracker: tracker.clone(),
        stop: CancellationToken::new(),
        give_up: CancellationToken::new(),
        settled: Arc::default(),
        alerts: Alerts::default(),
    };
    // A lane that has stopped plans its deliveries and starts none.
    around.stop.cancel();
    let lane = |name: &str| {
        let settings = LaneSettings {
            timeout: Duration::from_secs(10),
            start: Start::Background,
            concurrency: 16,
            retry: vec![Duration::from_secs(5)],
            probe: Duration::from_secs(60),
            lease_slack: Duration::from_secs(30),
            requires_consent: false,
            forms: None,
        };
        Lane::new(
            name.parse().expect("a name"),
            Nature { kind: if name == "crm" { Kind::Crm } else { Kind::Mail }, type_name: "webhook" },
            settings,
            Arc::new(Elsewhere),
            around.clone(),
        )
    };
    let lanes = Lanes::new(["sheet", "notification", "confirmation", "crm"].map(lane));
    let patience = Patience { deadline: Duration::from_secs(5), commit: Duration::from_secs(5) };
    let intake = Intake::new(Arc::clone(&store), lanes, clock, tracker, patience, None);
    let bare = listen(Arc::new(Bare), Arc::clone(&store), &stop).await;
    let full = listen(Arc::new(intake), Arc::clone(&store), &stop).await;

    let (connections, turn) = (512, Duration::from_secs(3));
    rate(bare, connections, Duration::from_secs(1)).await;
    rate(full, connections, Duration::from_secs(1)).await;
    println!(
        "{connections} connections, {} s a turn; µs of the processors, load generator included",
        turn.as_secs()
    );
    println!("turn  bare/s  stored/s  ratio  bare µs  stored µs");
    let mut ratios = Vec::new();
    for number in 1..=5 {
        let (bare, bare_cost) = rate(bare, connections, turn).await;
        let (full, full_cost) = rate(full, connections, turn).await;
        let ratio = full / bare;
        ratios.push(ratio);
        println!("{number:4}  {bare:6.0}  {full:8.0}  {ratio:5.2}  {bare_cost:7.1}  {full_cost:9.1}");
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
    stop.cancel();
}
