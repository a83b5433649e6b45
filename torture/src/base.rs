//! The store under the service: how it is named, and how it is taken away and given back.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::SimpleQueryMessage;

use crate::postgres::Server;

/// How large a small disk is: a store with a few hundred leads fits, and its WAL, which grows to 32 MB before it is
/// written back.
const DISK: u64 = 64 << 20;

/// The file that takes up what is left of it.
const BALLAST: &str = "ballast";

const ORPHANS: &str =
    "SELECT count(*) FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM leads l WHERE l.seq = d.lead)";

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
        let made = ask(&connecting, &format!("CREATE DATABASE {name}")).await;
        made.expect("a database can be made");
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

    /// How many deliveries are there without their lead: the schema does not forbid it.
    pub(crate) async fn orphans(&self) -> Result<i64, String> {
        match self {
            Self::Sqlite { file, .. } => {
                let own = rusqlite::Connection::open(file).map_err(|error| error.to_string())?;
                own.query_row(ORPHANS, [], |row| row.get(0)).map_err(|error| error.to_string())
            }
            Self::Postgres { server, database } => {
                let url = locked(server).url(database);
                let count = ask(&url, ORPHANS).await.map_err(|error| error.to_string())?;
                count.and_then(|count| count.parse().ok()).ok_or_else(|| "no count".to_owned())
            }
        }
    }

    /// Takes it away: a lock on the file, the server's stop. Whether it is away: a file may be too busy to be locked.
    pub(crate) async fn take_away(&self) -> bool {
        match self {
            Self::Sqlite { file, lock } => {
                let Ok(connection) = rusqlite::Connection::open(file) else { return false };
                let _ = connection.busy_timeout(std::time::Duration::from_secs(1));
                let is_locked = connection.execute_batch("BEGIN IMMEDIATE").is_ok();
                if is_locked {
                    *locked(lock) = Some(connection);
                }
                is_locked
            }
            Self::Postgres { server, .. } => {
                tell(server, "stop").await;
                true
            }
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

/// The first value that PostgreSQL answers, as text.
async fn ask(url: &str, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let answer = tokio::select! {
        answer = client.simple_query(sql) => answer?,
        ended = connection => return ended.map(|()| None),
    };
    let mut rows = answer.iter().filter_map(|it| match it {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.next())
}

async fn tell(server: &Lent, word: &'static str) {
    let server = Arc::clone(server);
    let told = tokio::task::spawn_blocking(move || locked(&server).tell(word));
    told.await.expect("the server obeys");
}

/// A disk that can be filled for the service.
pub(crate) enum Disk {
    /// A small file system of its own in memory. Mounting it needs root.
    Small { folder: PathBuf },
    /// The kernel lets none of the service's files grow. Anybody can tell it so of processes of their own.
    Limit(Limit),
}

impl Disk {
    /// One for this folder; `None`: neither can be had.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        Self::mount(folder).or_else(|| Limit::is_here().then(|| Self::Limit(Limit::default())))
    }

    fn mount(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=0700"), "tmpfs"]).arg(folder);
        let mounted = mount.stderr(std::process::Stdio::null()).status().ok()?.success();
        mounted.then(|| Self::Small { folder: folder.to_owned() })
    }

    /// What processes are started under.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            Self::Small { .. } => None,
            Self::Limit(limit) => Some(limit.clone()),
        }
    }

    /// Not a byte more can be written, by a process that runs nor by any later one.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let folder = match self {
            Self::Small { folder } => folder,
            Self::Limit(limit) => return limit.set(true),
        };
        let Ok(mut file) = std::fs::File::create(folder.join(BALLAST)) else { return };
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        match self {
            Self::Small { folder } => drop(std::fs::remove_file(folder.join(BALLAST))),
            Self::Limit(limit) => limit.set(false),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Small { folder } = self {
            // Lazily: a process that was just killed may not have let go of it yet.
            let _ = Command::new("umount").arg("-l").arg(folder).status();
        }
    }
}

/// Whether the files of a process may grow (RLIMIT_FSIZE, the part that may be raised again).
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit(Arc<Mutex<Limited>>);

#[derive(Debug, Default)]
struct Limited {
    is_full: bool,
    /// The process that lives under it.
    process: Option<u32>,
}

impl Limit {
    fn is_here() -> bool {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg("--version").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        prlimit.status().is_ok_and(|ended| ended.success())
    }

    fn set(&self, is_full: bool) {
        let mut limited = locked(&self.0);
        limited.is_full = is_full;
        if let Some(process) = limited.process {
            let size = if is_full { "--fsize=0:" } else { "--fsize=unlimited:" };
            // One that has just been killed needs no limit.
            let mut prlimit = Command::new("prlimit");
            prlimit.arg("--pid").arg(process.to_string()).arg(size).stderr(std::process::Stdio::null());
            let _ = prlimit.status();
        }
    }

    /// Starts a process that lives under the limit from now on. It is told of it by an error, as on a full disk, not
    /// by a signal.
    pub(crate) fn start<T>(
        &self,
        start: impl FnOnce(&'static str) -> std::io::Result<T>,
        id: impl FnOnce(&T) -> Option<u32>,
    ) -> std::io::Result<T> {
        let mut limited = locked(&self.0);
        let started = start(match limited.is_full {
            true => r#"trap "" XFSZ; ulimit -S -f 0; exec "$0" "$@""#,
            false => r#"trap "" XFSZ; exec "$0" "$@""#,
        })?;
        limited.process = id(&started);
        Ok(started)
    }

    /// It has ended.
    pub(crate) fn ended(&self) {
        locked(&self.0).process = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    /// Writes into a file whenever it is asked to, and says whether it could.
    const WRITER: &str =
        r#"while read -r word; do if echo "$word" 2>/dev/null >>"$1"; then echo yes; else echo no; fi; done"#;

    #[test]
    fn under_the_limit_no_file_grows_and_nobody_dies_of_it() {
        if !Limit::is_here() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let disk = Disk::Limit(Limit::default());
        let limit = disk.limit().unwrap();
        let start = || {
            let spawn = |script| {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh", "-c", WRITER, "sh"]).arg(&file);
                shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
            };
            limit.start(spawn, |child| Some(child.id())).unwrap()
        };
        let ask = |writer: &mut std::process::Child| {
            let mut said = String::new();
            writer.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
            BufReader::new(writer.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
            said.trim() == "yes"
        };
        let mut early = start();
        assert!(ask(&mut early));
        disk.fill();
        let mut late = (ask(&mut early), start());
        assert_eq!((late.0, ask(&mut late.1)), (false, false));
        disk.free();
        assert!(ask(&mut late.1));
        for mut writer in [early, late.1] {
            drop(writer.stdin.take());
            assert!(writer.wait().unwrap().success());
        }
    }
}
