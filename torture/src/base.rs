//! The store under the service: how it is named, and how it is taken away and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::postgres::Server;

/// How large a small disk is: a store with a few hundred leads fits twice.
const DISK: u64 = 16 << 20;

/// The file that takes up what is left of it.
const BALLAST: &str = "ballast";

/// A PostgreSQL server that rounds use one after another.
pub(crate) type Lent = Arc<Mutex<Server>>;

/// A round's store.
pub(crate) enum Base {
    /// A file.
    Sqlite {
        file: PathBuf,
        /// The file locked by another process.
        lock: Mutex<Option<rusqlite::Connection>>,
    },
    /// A database of its own.
    Postgres { server: Lent, database: String },
}

impl Base {
    /// A file in this folder.
    pub(crate) fn sqlite(folder: &Path) -> Self {
        Self::Sqlite { file: folder.join("leads.db"), lock: Mutex::default() }
    }

    /// A fresh database.
    pub(crate) async fn postgres(server: Lent, name: &str) -> Self {
        let connecting = locked(&server).url("postgres");
        let (client, connection) = tokio_postgres::connect(&connecting, tokio_postgres::NoTls)
            .await
            .expect("the server that was started can be reached");
        let made = format!("CREATE DATABASE {name}");
        tokio::select! {
            made = client.batch_execute(&made) => made.expect("a database can be made"),
            ended = connection => ended.expect("the connection holds"),
        }
        Self::Postgres { server, database: name.to_owned() }
    }

    /// Where the database listens; `None` for a file.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres { server, .. } => Some((Ipv4Addr::LOCALHOST, locked(server).port).into()),
        }
    }

    /// `DATABASE_URL`, over this wire.
    pub(crate) fn url(&self, over: Option<SocketAddr>) -> String {
        match (self, over) {
            (Self::Sqlite { file, .. }, _) => format!("sqlite://{}", file.display()),
            (Self::Postgres { database, .. }, Some(wire)) => {
                format!("postgres://lead@{wire}/{database}?sslmode=disable")
            }
            (Self::Postgres { server, database }, None) => locked(server).url(database),
        }
    }

    /// Takes it away: a lock on the file, the server's stop.
    pub(crate) async fn take_away(&self) {
        match self {
            Self::Sqlite { file, lock } => {
                let Ok(connection) = rusqlite::Connection::open(file) else { return };
                let _ = connection.busy_timeout(std::time::Duration::from_secs(1));
                if connection.execute_batch("BEGIN IMMEDIATE").is_ok() {
                    *locked(lock) = Some(connection);
                }
            }
            Self::Postgres { server, .. } => tell(server, "stop").await,
        }
    }

    /// Gives it back.
    pub(crate) async fn give_back(&self) {
        match self {
            Self::Sqlite { lock, .. } => drop(locked(lock).take()),
            Self::Postgres { server, .. } => tell(server, "start").await,
        }
    }
}

async fn tell(server: &Lent, word: &'static str) {
    let server = Arc::clone(server);
    let told = tokio::task::spawn_blocking(move || locked(&server).tell(word));
    told.await.expect("the server obeys");
}

/// A disk that can be filled: a small file system of its own in memory.
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one here. It needs root.
    pub(crate) fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=0700"), "tmpfs"]).arg(folder);
        let mounted = mount.stderr(std::process::Stdio::null()).status().ok()?.success();
        mounted.then(|| Self { folder: folder.to_owned() })
    }

    /// Not a byte more can be written.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let Ok(mut file) = std::fs::File::create(self.folder.join(BALLAST)) else { return };
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        let _ = std::fs::remove_file(self.folder.join(BALLAST));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may not have let go of it yet.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
