//! Accepted leads per second, with four deliveries planned for each and every commit on the disk, beside a
//! handler that only parses, validates and answers. Both over HTTP on the loopback, in turns, in one process: the
//! machine is shared with the load generator, so only the ratio says something.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use lead_intake::clock::Clock;
use lead_intake::config::{Inputs, load as configured};
use lead_intake::delivery::{DeliveryError, Kind, Receipt};
use lead_intake::destination::{Destination, LaneSettings, Nature, Parcel, Start};
use lead_intake::dispatch::{Alerts, Lane, Lanes, Surroundings};
use lead_intake::http::{AddressHash, Door, Forms, Outside, Site, serve::serve};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Arrival, Intake, Patience};
use lead_intake::store::postgres::{Address, Postgres};
use lead_intake::store::{Store, sqlite::Sqlite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::service::processor_time;
use super::{Row, load, median, postgres};

const CONNECTIONS: usize = 512;

const TURN: Duration = Duration::from_secs(2);

const TURNS: usize = 7;

/// Parses, validates, answers.
struct Bare;

impl Door for Bare {
    fn submit(&self, _: Arrival) -> BoxFuture<'_, Answer> {
        Box::pin(async { Answer::Accepted(LeadId::fresh()) })
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
    let outside = Outside::new(Site {
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
    let stop = stop.clone();
    TaskTracker::new().spawn(async move { serve(listener, &outside, &settings, &stop).await });
    address
}

/// Answers per second, and the processors' µs for each: this process's, and the database server's.
async fn rate(address: SocketAddr, server: Option<&postgres::Server>) -> (f64, f64, f64) {
    let spent = || (processor_time("self"), server.map(server_time).unwrap_or_default());
    let before = spent();
    let good = load::many(address, CONNECTIONS, TURN, usize::MAX).await as f64;
    let after = spent();
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / good;
    (good / TURN.as_secs_f64(), each(after.0 - before.0), each(after.1.saturating_sub(before.1)))
}

/// The processor time of the server's processes that are there.
fn server_time(server: &postgres::Server) -> Duration {
    let file = std::fs::read_to_string(format!("{}/data/postmaster.pid", server.folder)).unwrap_or_default();
    let first = file.lines().next().unwrap_or_default();
    let children =
        std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
    children.split_whitespace().map(processor_time).sum()
}

pub(crate) async fn rows() -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = Sqlite::open(&folder.path().join("leads.db"), Clock::system()).expect("a fresh file");
    let mut rows = vec![compare("SQLite", Arc::new(sqlite), None, "0.8").await];
    if postgres::is_here() {
        let server = postgres::Server::start();
        let url = Address::parse(&server.database().await).expect("a URL");
        let store: Arc<dyn Store> =
            Arc::new(Postgres::open(&url, Clock::system()).await.expect("a fresh database"));
        rows.push(compare("PostgreSQL", Arc::clone(&store), Some(&server), "0.4").await);
        store.close().await;
    }
    rows
}

async fn compare(
    engine: &str,
    store: Arc<dyn Store>,
    server: Option<&postgres::Server>,
    aim: &'static str,
) -> Row {
    let stop = CancellationToken::new();
    let bare = listen(Arc::new(Bare), Arc::clone(&store), &stop).await;
    let full = listen(Arc::new(intake(&store)), Arc::clone(&store), &stop).await;
    let (mut ratios, mut rates, mut costs) = (Vec::new(), (Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut servers = Vec::new();
    for turn in 0..=TURNS {
        let (bare, bare_cost, _) = rate(bare, None).await;
        let (full, full_cost, server_cost) = rate(full, server).await;
        // The first turn warms up.
        if turn > 0 {
            ratios.push(full / bare);
            rates.0.push(bare);
            rates.1.push(full);
            costs.0.push(bare_cost);
            costs.1.push(full_cost);
            servers.push(server_cost);
        }
    }
    stop.cancel();
    let beside = server.map(|_| format!("; the server {:.0} µs", median(servers))).unwrap_or_default();
    let measured = format!(
        "{:.2} ({:.0} and {:.0} a second; {:.0} and {:.0} µs of the processors, load generator included{beside})",
        median(ratios),
        median(rates.1),
        median(rates.0),
        median(costs.1),
        median(costs.0),
    );
    Row::new(format!("accepts with four deliveries on {engine}, of a bare handler's"), measured, aim)
}

/// An intake with four lanes that plan their deliveries and start none.
fn intake(store: &Arc<dyn Store>) -> Arc<Intake> {
    let (clock, tracker) = (Clock::system(), TaskTracker::new());
    let around = Surroundings {
        store: Arc::clone(store),
        clock: clock.clone(),
        tracker: tracker.clone(),
        stop: CancellationToken::new(),
        give_up: CancellationToken::new(),
        settled: Arc::default(),
        alerts: Alerts::default(),
    };
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
    Intake::new(Arc::clone(store), lanes, clock, tracker, patience, None)
}
