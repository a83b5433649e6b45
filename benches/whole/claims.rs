//! What a claim costs with a thousand deliveries pending and with a million, by turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lead_intake::clock::Clock;
use lead_intake::store::postgres::{Address, Postgres};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{ClaimRequest, Store};

use super::{Row, backlog, median, postgres};

const FEW: u32 = 1_000;

const MANY: u32 = 1_000_000;

/// How many a lane claims at once.
const AT_ONCE: usize = 16;

pub(crate) async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for pending in [FEW, MANY] {
        let path = folder.path().join(format!("{pending}.db"));
        backlog::fill_sqlite(&path, pending).await;
        stores.push(Arc::new(Sqlite::open(&path, Clock::system()).expect("a store")));
    }
    rows.push(compare("SQLite", &stores).await);
    if postgres::is_here() {
        let server = postgres::Server::start();
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        for pending in [FEW, MANY] {
            let url = server.database().await;
            let address = Address::parse(&url).expect("a URL");
            stores.push(Arc::new(Postgres::open(&address, Clock::system()).await.expect("a store")));
            backlog::fill_postgres(&server, &url, pending).await;
        }
        rows.push(compare("PostgreSQL", &stores).await);
        for store in stores {
            store.close().await;
        }
    }
    rows
}

async fn compare(engine: &str, stores: &[Arc<dyn Store>]) -> Row {
    let mut times = vec![Vec::new(); stores.len()];
    for turn in 0..300 {
        for (store, times) in stores.iter().zip(&mut times) {
            let took = claim(store.as_ref()).await;
            // The first ones find cold pages on both sides.
            if turn >= 50 {
                times.push(took.as_secs_f64() * 1e6);
            }
        }
    }
    let medians: Vec<_> = times.into_iter().map(median).collect();
    let measured = format!("{:.0} µs and {:.0} µs: {:.2}", medians[0], medians[1], medians[1] / medians[0]);
    Row::new(format!("a claim of {AT_ONCE} with 1,000 and with 1,000,000 pending, {engine}"), measured, "1.2")
}

async fn claim(store: &dyn Store) -> Duration {
    let request = ClaimRequest {
        destination: backlog::DESTINATION.parse().expect("a name"),
        limit: AT_ONCE,
        lease: Duration::from_secs(60),
        rest: Duration::from_secs(60),
    };
    let began = Instant::now();
    let claims = store.claim_due(request).await.expect("the store answers").claims;
    let took = began.elapsed();
    assert_eq!(claims.len(), AT_ONCE);
    for claim in claims {
        store.release(&claim).await.expect("the store answers");
    }
    took
}
