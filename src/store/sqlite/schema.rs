//! Opening the file and bringing its schema up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::failed;
use crate::store::StoreError;
use crate::store::migrations::{self, Opening};

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;

/// Opens the file for writing, creates it and its folder if need be, and applies what is missing. To look into it, nothing
/// of that is done.
pub(super) fn open_writer(path: &Path, busy: Duration, opening: Opening) -> Result<Connection, StoreError> {
    // One thread uses it, so SQLite need not lock what it does.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if opening != Opening::Look {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                unusable(format!("the folder {} cannot be made", folder.display()), Box::new(error))
            })?;
        }
    }
    let mut db = Connection::open_with_flags(path, flags).map_err(|error| not_opened(path, error))?;
    prepare(&db, busy).map_err(|error| not_opened(path, error))?;
    if opening == Opening::Look {
        if !db.table_exists(None, "migrations").map_err(|error| not_opened(path, error))? {
            return Err(StoreError::Unusable {
                problem: format!("the file {} is a database of another program", path.display()),
                hint: "let store.url (DATABASE_URL) name the store that `lead-intake serve` uses",
                source: "it has no table `migrations`".into(),
            });
        }
        migrations::missing(migrations::SQLITE, &applied(&db, path)?, opening)?;
        return Ok(db);
    }
    owner_only(path)?;
    make(&db).map_err(|error| not_opened(path, error))?;
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for migration in migrations::missing(migrations::SQLITE, &applied(&change, path)?, opening)? {
        change.execute_batch(migration.sql).map_err(failed)?;
        let row = (migration.name, migration.digest().as_ref().to_owned());
        change.execute("INSERT INTO migrations (name, digest) VALUES (?1, ?2)", row).map_err(failed)?;
    }
    change.commit().map_err(failed)?;
    Ok(db)
}

/// Why the file cannot be used, in words for whoever started the service.
fn not_opened(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => {
            unusable(format!("the file {} cannot be made or opened", path.display()), Box::new(error))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            unusable(format!("the file {} cannot be written", path.display()), Box::new(error))
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Unusable {
            problem: format!("the file {} is damaged, or is no SQLite database", path.display()),
            hint: "let store.url (DATABASE_URL) name another file, or bring back a backup of this one",
            source: Box::new(error),
        },
        _ => failed(error),
    }
}

fn unusable(problem: String, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    let hint = "let store.url (DATABASE_URL) name a file in a folder that this user may write (in a container: on the volume)";
    StoreError::Unusable { problem, hint, source }
}

/// Opens the file for reading alone.
pub(super) fn open_reader(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(busy).map_err(failed)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(db)
}

/// What each connection that writes is told.
fn prepare(db: &Connection, busy: Duration) -> rusqlite::Result<()> {
    db.busy_timeout(busy)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else a statement whose plan could be another with other values is compiled anew each time that it is used.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 4000;")
}

/// WAL, which with synchronous FULL means that a commit is on the disk when it returns. A new file gets pages of 8 KiB: each
/// is written by two system calls.
fn make(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL;
         CREATE TABLE IF NOT EXISTS migrations (
             name TEXT PRIMARY KEY, digest BLOB NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )
}

/// Names and digests of the migrations that the file holds.
fn applied(db: &Connection, path: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let ask = || -> rusqlite::Result<_> {
        db.prepare("SELECT name, digest FROM migrations")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    ask().map_err(|error| not_opened(path, error))
}

/// The file holds personal data: nobody but its owner reads it.
#[cfg(unix)]
fn owner_only(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| StoreError::Unavailable(Box::new(error)))
}

#[cfg(not(unix))]
fn owner_only(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test can pull the plug; SQLite says what it would do.
    #[test]
    fn a_commit_is_on_the_disk_when_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let db = open_writer(&folder.path().join("leads.db"), Duration::ZERO, Opening::Work).unwrap();
        let said =
            |what: &str| db.pragma_query_value(None, what, |row| row.get::<_, rusqlite::types::Value>(0));
        assert_eq!(said("journal_mode").unwrap(), "wal".to_owned().into());
        assert_eq!(said("synchronous").unwrap(), 2.into(), "FULL");
        assert_eq!(said("foreign_keys").unwrap(), 1.into());
    }
}
