//! The engine for more than one process: PostgreSQL, by tokio-postgres. Accepts and settlements of one process
//! share their transactions (`batch.rs`); claims pass over what another process holds (`claim.rs`).
//!
//! Due dates and leases are kept by the database's clock, read in the statement that needs it.

mod accept;
mod archive;
mod batch;
mod cells;
mod claim;
mod pool;
mod read;
mod schema;
mod settle;
mod share;
mod story;
mod url;
mod write;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;
use tokio_util::task::TaskTracker;

use self::batch::Batcher;
use self::pool::{LONG, Pool, SHORT, within};
use super::migrations::Opening;
use super::{
    Accepted, ClaimRequest, Claimed, DeliveryFilter, DeliveryRecord, LeadFilter, LeadRecord, Settle, Settled,
    Store, StoreError, Unshown,
};
use crate::clock::{Clock, Timestamp};
use crate::delivery::standing::{Pace, Signal, Turn};
use crate::delivery::{Claim, Entry, State};
use crate::id::{DeliveryId, DestinationName, LeadId};
pub use url::Address;

/// How long a start waits for another process that migrates.
const MIGRATING: Duration = Duration::from_secs(11 * 60);

/// How long a stop waits for what is queued.
const CLOSING: Duration = Duration::from_secs(15);

/// Leads and deliveries in one PostgreSQL database.
pub struct Postgres {
    pool: pool::Shared,
    accepts: Batcher<accept::Draft>,
    settles: Batcher<settle::Verdict>,
    tasks: TaskTracker,
    clock: Clock,
}

/// What the server said, without its details: they quote rows, and rows hold personal data.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL says: {message} ({code})")]
struct Said {
    code: String,
    message: String,
}

/// A PostgreSQL error, as the store's. Nothing was done, or (a connection lost) it is not known whether it was.
fn failed(error: tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(said) => StoreError::Unavailable(Box::new(Said {
            code: said.code().code().to_owned(),
            message: said.message().to_owned(),
        })),
        None => StoreError::Unavailable(Box::new(error)),
    }
}

/// The server has undone the transaction, which waited for another one that waited for it.
fn is_deadlock(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else { return false };
    source.downcast_ref::<Said>().is_some_and(|said| said.code == SqlState::T_R_DEADLOCK_DETECTED.code())
}

/// A column's value.
fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A column that holds a count.
fn get_count(row: &Row, column: usize) -> Result<u32, StoreError> {
    let count: i64 = get(row, column)?;
    u32::try_from(count).map_err(|_| StoreError::Corrupt(format!("{count} where a small count should be")))
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` where a name should be")))
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 4)
}

fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// PostgreSQL's text cannot hold a zero character; a vendor's answer can.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The failure of a start, in words for whoever started the service.
fn not_opened(address: &Address, error: StoreError) -> StoreError {
    let StoreError::Unavailable(source) = error else { return error };
    let code = source.downcast_ref::<Said>().map(|said| SqlState::from_code(&said.code));
    let hint = match code {
        Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "let the user and password in store.url (DATABASE_URL) be ones that it knows"
        }
        Some(SqlState::INVALID_CATALOG_NAME) => {
            "make it with CREATE DATABASE, or let store.url (DATABASE_URL) name another"
        }
        Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
            "let the user own the database, or GRANT it CREATE on the schema public"
        }
        _ => {
            "see that it runs and can be reached from here; it must speak TLS with a certificate that is trusted (sslrootcert=FILE adds one), or store.url must say sslmode=disable"
        }
    };
    StoreError::Unusable { problem: format!("{} cannot be used", address.place()), hint, source }
}

impl Postgres {
    /// Connects to work in the database. A manual clock replaces the database's.
    ///
    /// # Errors
    /// Those of [`Self::open_for`].
    pub async fn open(address: &Address, clock: Clock) -> Result<Self, StoreError> {
        Self::open_for(Opening::Work, address, clock).await
    }

    /// Connects, and brings the schema up to date unless it is to be looked into alone.
    ///
    /// # Errors
    /// The database cannot be reached or used, is not ours, or is another release's.
    pub async fn open_for(opening: Opening, address: &Address, clock: Clock) -> Result<Self, StoreError> {
        let tasks = TaskTracker::new();
        let pool = Arc::new(Pool::new(address.ways(), address.tls()?, tasks.clone()));
        within(MIGRATING, schema::migrate(&pool, opening))
            .await
            .map_err(|error| not_opened(address, error))?;
        let accepts = Batcher::start(Arc::clone(&pool), &tasks);
        let settles = Batcher::start(Arc::clone(&pool), &tasks);
        Ok(Self { pool, accepts, settles, tasks, clock })
    }

    /// Whether the database holds a store already. Changes nothing.
    ///
    /// # Errors
    /// It cannot be reached or used.
    pub async fn is_there(address: &Address) -> Result<bool, StoreError> {
        let pool = Pool::new(address.ways(), address.tls()?, TaskTracker::new());
        within(SHORT, schema::is_there(&pool)).await.map_err(|error| not_opened(address, error))
    }

    /// The moment that stands in for the database's clock, if one does.
    fn now(&self) -> Option<i64> {
        self.clock.set_by_hand().map(Timestamp::as_millisecond)
    }
}

#[async_trait]
impl Store for Postgres {
    async fn accept(&self, entry: Arc<Entry>) -> Result<Accepted, StoreError> {
        let asked = Instant::now();
        self.accepts.run(accept::Draft::new(entry, self.now(), asked)?).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<Claimed, StoreError> {
        let asked = Instant::now();
        within(SHORT, claim::claim_due(&self.pool, &request, self.now(), asked)).await
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        self.settles.run(settle::Verdict::new(&settle, self.now())?).await
    }

    async fn release(&self, claim: &Claim) -> Result<bool, StoreError> {
        within(SHORT, write::release(&self.pool, &claim.delivery, claim.attempt, self.now())).await
    }

    async fn renew(&self, delivery: &DeliveryId, attempt: u32, lease: Duration) -> Result<bool, StoreError> {
        within(SHORT, write::renew(&self.pool, delivery, attempt, lease, self.now())).await
    }

    async fn finish_step(&self, delivery: &DeliveryId, name: &str, value: &str) -> Result<(), StoreError> {
        within(SHORT, write::finish_step(&self.pool, delivery, name, value)).await
    }

    async fn recall(&self, destination: &DestinationName, key: &str) -> Result<Option<String>, StoreError> {
        within(SHORT, read::recall(&self.pool, destination, key)).await
    }

    async fn remember(
        &self,
        destination: &DestinationName,
        key: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        within(SHORT, write::remember(&self.pool, destination, key, value)).await
    }

    async fn signal(&self, destination: &DestinationName, signal: Signal) -> Result<(), StoreError> {
        within(SHORT, share::signal_alone(&self.pool, destination.as_str(), signal, self.now())).await
    }

    async fn probe_now(&self, destination: &DestinationName) -> Result<(), StoreError> {
        within(SHORT, share::probe_now_alone(&self.pool, destination.as_str(), self.now())).await
    }

    async fn take_turn(&self, turn: &Turn, length: Duration) -> Result<bool, StoreError> {
        within(SHORT, share::take_turn(&self.pool, turn, length, self.now())).await
    }

    async fn end_turn(&self, turn: &Turn) -> Result<(), StoreError> {
        within(SHORT, share::end_turn(&self.pool, turn, self.now())).await
    }

    async fn pace(&self, name: &str, pace: Pace, patience: Duration) -> Result<Option<Duration>, StoreError> {
        within(SHORT, share::pace(&self.pool, name, pace, patience, self.now())).await
    }

    async fn rest(&self, name: &str, pace: Pace, wait: Duration) -> Result<(), StoreError> {
        within(SHORT, share::rest(&self.pool, name, pace, wait, self.now())).await
    }

    async fn next_due(&self, destination: &DestinationName) -> Result<Option<Duration>, StoreError> {
        within(SHORT, read::next_due(&self.pool, destination, self.now())).await
    }

    async fn lead(&self, id: LeadId) -> Result<Option<LeadRecord>, StoreError> {
        within(LONG, read::lead(&self.pool, id)).await
    }

    async fn leads(&self, filter: LeadFilter) -> Result<Vec<LeadRecord>, StoreError> {
        within(LONG, read::leads(&self.pool, &filter)).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        within(LONG, read::deliveries(&self.pool, &filter)).await
    }

    async fn replay(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
        let replay = write::Change::Replay { now: self.now() };
        within(SHORT, write::change_deliveries(&self.pool, deliveries, replay)).await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
        within(SHORT, write::change_deliveries(&self.pool, deliveries, write::Change::Cancel)).await
    }

    async fn consent(&self, lead: LeadId, at: Timestamp) -> Result<Option<u64>, StoreError> {
        within(SHORT, write::consent(&self.pool, lead, at, self.now())).await
    }

    async fn waited_for(&self) -> Result<Vec<DestinationName>, StoreError> {
        within(SHORT, read::waited_for(&self.pool)).await
    }

    async fn counts(&self) -> Result<Vec<(DestinationName, State, u64)>, StoreError> {
        within(SHORT, read::counts(&self.pool)).await
    }

    async fn unshown(&self, limit: u32) -> Result<Vec<Unshown>, StoreError> {
        within(SHORT, story::unshown(&self.pool, limit)).await
    }

    async fn shown(&self, told: Vec<Unshown>) -> Result<(), StoreError> {
        within(SHORT, story::shown(&self.pool, &told)).await
    }

    async fn keep(&self, name: &'static str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        within(SHORT, write::keep(&self.pool, name, &fresh)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        within(SHORT, write::ready(&self.pool)).await
    }

    async fn close(&self) {
        self.accepts.close();
        self.settles.close();
        self.tasks.close();
        // The batches end when their queues are empty, the connections when the pool lets go of them.
        let drained = async {
            self.accepts.ended().await;
            self.settles.ended().await;
        };
        let _ = tokio::time::timeout(CLOSING, drained).await;
        self.pool.close();
        let _ = tokio::time::timeout(CLOSING, self.tasks.wait()).await;
    }
}
