//! A private PostgreSQL server for this process: made in a temporary folder, reached by a socket there, and gone with
//! the process, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::NoTls;

/// Serves on the port that it is given until its input ends; obeys `stop` and `start` before. PgBouncer, where it is
/// installed, stands before it in transaction mode, with fewer connections than a store would like.
const SCRIPT: &str = r#"
set -eu
cd /
port=$1
dir=$(mktemp -d /tmp/lead-intake-postgres.XXXXXX)
bin=$(ls -d /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | sort -V | tail -n 1)
pid= pooler=
start() {
    "$bin/postgres" -D "$dir/data" -k "$dir" -p "$port" -c listen_addresses=127.0.0.1 -c max_connections=200 >>"$dir/log" 2>&1 &
    pid=$!
    until "$bin/pg_isready" -q -h "$dir" -p "$port" -U lead -d postgres; do kill -0 $pid; sleep 0.1; done
}
stop() { kill -INT $pid; wait $pid || true; }
trap 'kill -QUIT $pid 2>/dev/null || true; [ -z "$pooler" ] || kill -KILL $pooler; wait || true; rm -rf "$dir"' EXIT
"$bin/initdb" -D "$dir/data" -U lead -A trust -E UTF8 --locale=C.UTF-8 >"$dir/log" 2>&1
start
PATH=$PATH:/usr/sbin
if command -v pgbouncer >/dev/null; then
    cat >"$dir/pooler.ini" <<END
[databases]
* = host=$dir port=$port user=lead
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = $dir
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile = $dir/pooler.log
END
    pgbouncer -q "$dir/pooler.ini" >/dev/null 2>&1 &
    pooler=$!
    until [ -S "$dir/.s.PGSQL.6432" ]; do kill -0 $pooler; sleep 0.1; done
fi
echo "$dir"
while read -r word; do "$word"; echo done; done
"#;

/// One server.
pub(crate) struct Server {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) folder: String,
    pub(crate) port: u16,
}

fn is_installed() -> bool {
    let found = Command::new("sh")
        .args(["-c", "ls -d /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | grep -q ."])
        .status();
    found.is_ok_and(|status| status.success())
}

pub(crate) fn is_needed() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the test runner says so, not a setting of the service")]
    ["CI", "LEAD_INTAKE_NEED_POSTGRES"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Whether the PostgreSQL half can be run. Where it must be, it is a failure that it cannot.
pub(crate) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| {
        let here = is_installed();
        #[expect(
            clippy::disallowed_methods,
            reason = "the test runner says so, not a setting of the service"
        )]
        let needed = ["CI", "LEAD_INTAKE_NEED_POSTGRES"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(here || !needed, "PostgreSQL is not installed: apt-get install postgresql");
        if !here {
            eprintln!(
                "PostgreSQL IS NOT INSTALLED: EVERYTHING ABOUT IT IS LEFT OUT (apt-get install postgresql)"
            );
        }
        here
    })
}

impl Server {
    /// Makes and starts one. The server refuses to run as root, so root lends it another user.
    pub(crate) fn start() -> Self {
        // Below those that the system lends to whoever connects: it is still free when the server starts again.
        let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let number = std::iter::repeat_with(|| fastrand::u16(15_000..32_000)).find(is_free).unwrap();
        let port = number.to_string();
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|ended| ended.stdout == b"0\n");
        let mut command = if is_root {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "bash",
                "-c",
                SCRIPT,
                "postgres",
                &port,
            ]);
            command
        } else {
            let mut command = Command::new("bash");
            command.args(["-c", SCRIPT, "postgres", &port]);
            command
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let output = BufReader::new(output);
        let mut server = Self { _child: child, input, output, folder: String::new(), port: number };
        server.folder = server.line();
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "PostgreSQL did not start");
        line.trim().to_owned()
    }

    /// `stop` or `start`.
    pub(crate) fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
        self.line();
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://lead@/{database}?host={}&port={}", self.folder, self.port)
    }

    /// The same database through PgBouncer, where that is installed.
    pub(crate) fn pooled(&self, url: &str) -> Option<String> {
        let here = std::path::Path::new(&self.folder).join(".s.PGSQL.6432").exists();
        assert!(here || !is_needed(), "PgBouncer is not installed: apt-get install pgbouncer");
        here.then(|| url.replace(&format!("port={}", self.port), "port=6432"))
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test ends with its tasks")]
        tokio::spawn(connection);
        client
    }

    /// A database of its own for a test; its URL.
    pub(crate) async fn database(&self) -> String {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        self.url(&name)
    }
}

/// The server that tests share.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}
