//! Bringing the schema up to date, in one transaction under a lock of that transaction: a second process that
//! starts at the same time waits, and no pooler can lose the lock.

use tokio_postgres::types::Type;

use super::get;
use super::pool::{Pool, Purpose, SHORT, within};
use crate::store::StoreError;
use crate::store::migrations::{self, Opening};

/// The lock's name: "lead-int" as a number.
const LOCK: i64 = 0x6c65_6164_2d69_6e74;

/// Whether a release of ours has been here.
pub(super) async fn is_there(pool: &Pool) -> Result<bool, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking.query("SELECT to_regclass('migrations') IS NOT NULL", &[]).await?;
    asking.commit().await?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

pub(super) async fn migrate(pool: &Pool, opening: Opening) -> Result<(), StoreError> {
    // A server that takes the connection and says nothing is no migration to be waited for.
    let change = within(SHORT, pool.begin(Purpose::Migrate)).await?;
    // In another encoding there are names that no lead can be stored under, each time that it is sent.
    let encoding = change.query("SELECT current_setting('server_encoding')", &[]).await?;
    let encoding: String = encoding.first().map_or(Ok(String::new()), |row| get(row, 0))?;
    if encoding != "UTF8" {
        return Err(StoreError::Unusable {
            problem: format!("the database is encoded in {encoding}, in which many names cannot be written"),
            hint: "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and let store.url (DATABASE_URL) name it",
            source: "leads are UTF-8".into(),
        });
    }
    let look = opening == Opening::Look;
    if !look {
        change.query("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    }
    // Another migration may take its time; whoever works in the tables holds none of them for long.
    change.script("SET LOCAL lock_timeout = '30s'").await?;
    // Asked first: a user who may not create tables can still use those that are there.
    let there = change.query("SELECT to_regclass('migrations') IS NOT NULL", &[]).await?;
    let there = there.first().map_or(Ok(false), |row| get::<bool>(row, 0))?;
    if !there && !look {
        change
            .script("CREATE TABLE migrations (name TEXT COLLATE \"C\" PRIMARY KEY, digest BYTEA NOT NULL)")
            .await?;
    }
    let rows = change.query("SELECT name, digest FROM migrations", &[]).await?;
    let applied: Vec<(String, Vec<u8>)> =
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_, StoreError>>()?;
    for migration in migrations::missing(migrations::POSTGRES, &applied, opening)? {
        change.script(migration.sql).await?;
        change
            .execute(
                "INSERT INTO migrations (name, digest) VALUES ($1, $2)",
                &[(&migration.name, Type::TEXT), (&migration.digest().as_ref(), Type::BYTEA)],
            )
            .await?;
    }
    change.commit().await
}
