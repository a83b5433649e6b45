//! Bringing the schema up to date, in one transaction under a lock of that transaction: a second process that
//! starts at the same time waits, and no pooler can lose the lock.

use tokio_postgres::types::Type;

use super::get;
use super::pool::{Pool, Purpose, SHORT, within};
use crate::store::StoreError;

/// Every migration, oldest first.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_leads_and_deliveries", include_str!("../../../migrations/postgres/0001_leads_and_deliveries.sql")),
    (
        "0002_what_waits_for_a_person",
        include_str!("../../../migrations/postgres/0002_what_waits_for_a_person.sql"),
    ),
    ("0003_steps_and_memory", include_str!("../../../migrations/postgres/0003_steps_and_memory.sql")),
    ("0004_story", include_str!("../../../migrations/postgres/0004_story.sql")),
    ("0005_what_processes_share", include_str!("../../../migrations/postgres/0005_what_processes_share.sql")),
    ("0006_places_for_a_day", include_str!("../../../migrations/postgres/0006_places_for_a_day.sql")),
];

/// The lock's name: "lead-int" as a number.
const LOCK: i64 = 0x6c65_6164_2d69_6e74;

/// Whether a release of ours has been here.
pub(super) async fn is_there(pool: &Pool) -> Result<bool, StoreError> {
    let asking = pool.begin(Purpose::Read).await?;
    let rows = asking.query("SELECT to_regclass('migrations') IS NOT NULL", &[]).await?;
    asking.commit().await?;
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

pub(super) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
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
    change.query("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    // Another migration may take its time; whoever works in the tables holds none of them for long.
    change.script("SET LOCAL lock_timeout = '30s'").await?;
    // Asked first: a user who may not create tables can still use those that are there.
    let there = change.query("SELECT to_regclass('migrations') IS NOT NULL", &[]).await?;
    if !there.first().map_or(Ok(false), |row| get::<bool>(row, 0))? {
        change
            .script("CREATE TABLE migrations (name TEXT COLLATE \"C\" PRIMARY KEY, digest BYTEA NOT NULL)")
            .await?;
    }
    let rows = change.query("SELECT name, digest FROM migrations", &[]).await?;
    let applied: Vec<(String, Vec<u8>)> =
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_, StoreError>>()?;
    if applied.iter().any(|(name, _)| MIGRATIONS.iter().all(|(known, _)| known != name)) {
        return Err(StoreError::Corrupt("it was written by a newer release of lead-intake".to_owned()));
    }
    for (name, sql) in MIGRATIONS {
        let digest = ring::digest::digest(&ring::digest::SHA256, sql.as_bytes());
        match applied.iter().find(|(applied, _)| applied == name) {
            Some((_, applied)) if applied == digest.as_ref() => {}
            Some(_) => {
                return Err(StoreError::Corrupt(format!("migration {name} is not the one it was made with")));
            }
            None => {
                change.script(sql).await?;
                change
                    .execute(
                        "INSERT INTO migrations (name, digest) VALUES ($1, $2)",
                        &[(name, Type::TEXT), (&digest.as_ref(), Type::BYTEA)],
                    )
                    .await?;
            }
        }
    }
    change.commit().await
}
