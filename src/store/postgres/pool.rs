//! Connections and the transactions on them. A connection that saw any error is never used again, so that
//! what a failover or a pooler did to it cannot reach the next caller.
//!
//! Nothing here outlives its transaction on the server: no prepared statement, no session setting, no session
//! lock. So PgBouncer may give every transaction to another connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::{Said, failed};
use crate::store::StoreError;

/// The most connections of one process.
const CONNECTIONS: usize = 10;

/// How long an idle connection has to show that it still works.
const ANSWERS: Duration = Duration::from_secs(1);

/// How long a whole transaction may take, the wait for a connection included.
pub(super) const SHORT: Duration = Duration::from_secs(10);

/// The same where the answer can be long, as an export is.
pub(super) const LONG: Duration = Duration::from_secs(70);

/// What a transaction is for: how it begins. The timeouts end with it.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Write,
    Read,
    Migrate,
}

impl Purpose {
    fn begin(self) -> &'static str {
        match self {
            // A commit is on the disk when it returns, even where the database's default says otherwise.
            Self::Write => {
                "BEGIN ISOLATION LEVEL READ COMMITTED;
                 SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s';
                 SET LOCAL idle_in_transaction_session_timeout = '10s';
                 SELECT set_config('synchronous_commit', 'on', true)
                 WHERE current_setting('synchronous_commit') = 'off'"
            }
            Self::Read => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                 SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '2s';
                 SET LOCAL idle_in_transaction_session_timeout = '10s'"
            }
            Self::Migrate => {
                "BEGIN ISOLATION LEVEL READ COMMITTED;
                 SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = 0;
                 SET LOCAL idle_in_transaction_session_timeout = '60s'"
            }
        }
    }
}

/// The process's connections to one database.
pub(super) struct Pool {
    ways: Vec<Config>,
    /// The one that led somewhere last.
    way: AtomicUsize,
    tls: MakeRustlsConnect,
    permits: Semaphore,
    idle: Mutex<Vec<Client>>,
    tasks: TaskTracker,
}

impl Pool {
    /// With one way or several to the same database.
    pub(super) fn new(ways: Vec<Config>, tls: MakeRustlsConnect, tasks: TaskTracker) -> Self {
        let (permits, idle) = (Semaphore::new(CONNECTIONS), Mutex::new(Vec::new()));
        Self { ways, way: AtomicUsize::new(0), tls, permits, idle, tasks }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the first host that takes writes, beginning with the one that did so last. One that takes the
    /// connection and says nothing is passed over while there is time for the others.
    async fn connect(&self) -> Result<Client, StoreError> {
        let count = self.ways.len();
        let patience = if count == 1 { SHORT } else { SHORT / u32::try_from(count + 1).unwrap_or(u32::MAX) };
        let first = self.way.load(Ordering::Relaxed);
        let mut failure = StoreError::Unavailable("it names no host".into());
        for (index, way) in self.ways.iter().enumerate().cycle().skip(first).take(count) {
            let made = within(patience, async { way.connect(self.tls.clone()).await.map_err(failed) }).await;
            match made {
                Ok((client, connection)) => {
                    // It ends with its client; what went wrong is told by whatever was asked of the client.
                    self.tasks.spawn(async move { drop(connection.await) });
                    self.way.store(index, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Begins a transaction on a connection that answers.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<Transaction<'_>, StoreError> {
        let closed = |_| StoreError::Unavailable("it is closed".into());
        let permit = self.permits.acquire().await.map_err(closed)?;
        loop {
            let kept = self.idle().pop();
            let Some(client) = kept else {
                let client = self.connect().await?;
                client.batch_execute(purpose.begin()).await.map_err(failed)?;
                return Ok(Transaction { pool: self, client, _permit: permit });
            };
            let begun = tokio::time::timeout(ANSWERS, client.batch_execute(purpose.begin())).await;
            if let Ok(Ok(())) = begun {
                return Ok(Transaction { pool: self, client, _permit: permit });
            }
            // The server went away while the connection was idle; nothing was asked of it yet. Its neighbours will be
            // no better.
            self.idle().clear();
        }
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }
}

/// An open transaction. Dropped without a commit, it takes its connection with it, and the server rolls back.
pub(super) struct Transaction<'p> {
    pool: &'p Pool,
    client: Client,
    _permit: SemaphorePermit<'p>,
}

/// A value and its type: without a prepared statement the server is told both at once.
pub(super) type Value<'v> = (&'v (dyn ToSql + Sync), Type);

impl Transaction<'_> {
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.client.query_typed(sql, values).await.map_err(failed)
    }

    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.client.execute_typed(sql, values).await.map_err(failed)
    }

    /// Several statements without values.
    pub(super) async fn script(&self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).await.map_err(failed)
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let Self { pool, client, _permit } = self;
        client.batch_execute("COMMIT").await.map_err(failed)?;
        if !pool.permits.is_closed() {
            pool.idle().push(client);
        }
        Ok(())
    }
}

/// Ends what takes longer than it may: a server that is gone without a word does not say so.
pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("no answer in {} s", time.as_secs()).into());
    tokio::time::timeout(time, work).await.map_err(late)?
}

/// Whether the server itself refused: then nothing was done, and it is still there to be asked again.
pub(super) fn refused(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(source) if source.is::<Said>())
}

/// A pool that several may hold.
pub(super) type Shared = Arc<Pool>;
