//! A world of its own for a round: vendors, a store, and replicas of the service with a wire to each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stand_ins::api::Api;
use stand_ins::google::Google;
use stand_ins::hook::Hook;
use stand_ins::hubspot::{self, HubSpot};
use stand_ins::pipedrive::{self, Pipedrive};
use stand_ins::smtp::{self, Smtp};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::base::{Base, Disk, Lent};
use crate::clock::{Clock, Clockwork};
use crate::plan::{Line, Plan, Trouble};
use crate::process::{Process, Recipe};
use crate::wire::{State, Wire};

/// The destinations that every lead goes to, in the words of variables.
const DESTINATIONS: [&str; 6] = ["SHEET", "NOTIFICATION", "CONFIRMATION", "CRM", "HUBSPOT", "PIPEDRIVE"];

/// How long a service tries to come up before what is in its way must end.
const STRUGGLE: Duration = Duration::from_secs(10);

/// How long a service may take to come up once nothing is in its way.
const START: Duration = Duration::from_secs(60);

/// How long whatever runs services waits before it starts one again that could not come up: where that may take minutes,
/// and otherwise.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));

/// What is longer in a long round, nearer to the defaults; and memory has less room, so that it is used up meanwhile.
const LONGER: [(&str, &str); 14] = [
    ("STORE__TIMEOUT", "2s"),
    ("INTAKE__DEADLINE", "2s"),
    ("INTAKE__FALLBACK_LEADS", "150"),
    ("SERVER__SHUTDOWN_TIMEOUT", "2s"),
    ("DESTINATIONS__SHEET__LOOK_AFTER", "10s"),
    ("DESTINATIONS__SHEET__TIMEOUT", "10s"),
    ("MAIL__COMMAND_TIMEOUT", "5s"),
    ("MAIL__FINAL_TIMEOUT", "5s"),
    ("DESTINATIONS__NOTIFICATION__TIMEOUT", "15s"),
    ("DESTINATIONS__CONFIRMATION__TIMEOUT", "15s"),
    ("DESTINATIONS__CRM__TIMEOUT", "5s"),
    ("DESTINATIONS__HUBSPOT__TIMEOUT", "8s"),
    ("DESTINATIONS__PIPEDRIVE__TIMEOUT", "10s"),
    ("DESTINATIONS__PIPEDRIVE__SETTLE", "2s"),
];

/// What is outside the service.
pub(crate) struct Vendors {
    pub(crate) google: Google,
    pub(crate) smtp: Smtp,
    pub(crate) hook: Hook,
    pub(crate) hubspot: HubSpot,
    pub(crate) pipedrive: Api<Pipedrive>,
}

impl Vendors {
    async fn start(plan: &Plan) -> Self {
        let vendors = Self {
            google: Google::start().await,
            smtp: Smtp::start(smtp::Mode::Plain).await,
            hook: Hook::start().await,
            hubspot: hubspot::start().await,
            pipedrive: pipedrive::start().await,
        };
        {
            let mut pipedrive = vendors.pipedrive.vendor();
            pipedrive.tokens = 1_000_000_000;
            pipedrive.search_lags = plan.lags;
        }
        vendors
    }

    /// Nothing goes wrong any more.
    pub(crate) fn mend(&self) {
        self.google.mend();
        self.smtp.mend();
        self.hook.script().mend();
        self.hubspot.mend();
        self.pipedrive.mend();
    }

    fn address(&self, line: Line) -> Option<SocketAddr> {
        let url = match line {
            Line::Sheet => self.google.base_url(),
            Line::Mail => self.smtp.url(),
            Line::Hook => self.hook.url(),
            Line::HubSpot => self.hubspot.url(),
            Line::Pipedrive => self.pipedrive.url(),
            Line::Front | Line::Database => return None,
        };
        let after = url.rsplit_once('@').map_or(url.trim_start_matches("http://"), |(_, address)| address);
        after.split(['/', '?']).next()?.parse().ok()
    }
}

/// One process of several, and its wires. They outlive it.
pub(crate) struct Replica {
    pub(crate) wires: BTreeMap<Line, Wire>,
    pub(crate) recipe: Recipe,
    /// How long, beyond that, it may be kept from coming up.
    kept_down: Option<Duration>,
    /// The running process; who kills it has the lock.
    pub(crate) process: Mutex<Option<Process>>,
    /// Whether it has tried to come up for so long that whatever is in its way must end.
    struggles: AtomicBool,
    /// What dead processes logged.
    pub(crate) logs: Mutex<Vec<Vec<String>>>,
}

impl Replica {
    /// Its wires of these lines are like this from now on.
    pub(crate) fn set(&self, lines: &[Line], state: State) {
        lines.iter().filter_map(|line| self.wire(*line)).for_each(|wire| wire.set(state));
    }

    /// The wire of this line.
    pub(crate) fn wire(&self, line: Line) -> Option<&Wire> {
        self.wires.get(&line)
    }

    /// Whether troubles must leave it in peace for a while: on a machine that is busy it needs that to come up.
    pub(crate) fn struggles(&self) -> bool {
        self.struggles.load(Ordering::Relaxed)
    }

    /// Starts the service, again and again until it listens: that is what runs services. `Err`: what it said,
    /// and it never came up.
    pub(crate) async fn start(&self) -> Result<(), String> {
        let mut slot = self.process.lock().await;
        let began = Instant::now();
        let up = async {
            loop {
                self.struggles.store(began.elapsed() > STRUGGLE, Ordering::Relaxed);
                let process = self.recipe.start().map_err(|error| error.to_string())?;
                if let Some(address) = process.listening().await {
                    self.wires[&Line::Front].lead_to(Some(address));
                    *slot = Some(process);
                    return Ok(());
                }
                self.logs.lock().await.push(process.kill().await);
                tokio::time::sleep(if self.kept_down.is_some() { AGAIN.0 } else { AGAIN.1 }).await;
            }
        };
        let limit = STRUGGLE + START + self.kept_down.unwrap_or_default();
        let came = tokio::time::timeout(limit, up).await;
        self.struggles.store(false, Ordering::Relaxed);
        match came {
            Ok(ended) => ended,
            Err(_) => {
                let logs = self.logs.lock().await;
                Err(logs.last().map(|lines| lines.join("\n")).unwrap_or_default())
            }
        }
    }

    /// SIGKILL, whatever it is doing.
    pub(crate) async fn kill(&self) {
        let process = self.process.lock().await.take();
        if let Some(process) = process {
            let log = process.kill().await;
            self.logs.lock().await.push(log);
        }
        self.wires[&Line::Front].lead_to(None);
    }
}

/// The world of a round.
pub(crate) struct World {
    pub(crate) vendors: Vendors,
    pub(crate) base: Base,
    pub(crate) disk: Option<Disk>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) clock: Option<Clock>,
    // Last: the disk in it is let go of before.
    _folder: TempDir,
}

impl World {
    /// Makes it. Nothing runs in it yet.
    pub(crate) async fn new(
        plan: &Plan,
        replicas: usize,
        binary: &Path,
        server: Option<Lent>,
        clockwork: Option<&Clockwork>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let vendors = Vendors::start(plan).await;
        let store = folder.path().join("store");
        std::fs::create_dir(&store).expect("a fresh folder takes a folder");
        let disk = (plan.trouble == Trouble::DiskFull).then(|| Disk::of(&store)).flatten();
        let base = match server {
            None => Base::sqlite(&store),
            Some(server) => Base::postgres(server, &format!("round_{}", plan.number)).await,
        };
        let moves = clockwork.filter(|_| plan.trouble == Trouble::Clock);
        let clock =
            moves.map(|it| it.clock(&folder.path().join("jump")).expect("a fresh folder takes a file"));
        let mut all = Vec::new();
        for _ in 0..replicas {
            let mut wires = BTreeMap::from([(Line::Front, Wire::start(None).await)]);
            for line in Line::VENDORS {
                wires.insert(line, Wire::start(vendors.address(line)).await);
            }
            if let Some(database) = base.address() {
                wires.insert(Line::Database, Wire::start(Some(database)).await);
            }
            let recipe = Recipe {
                binary: binary.to_owned(),
                folder: folder.path().to_owned(),
                variables: BTreeMap::new(),
                clock: clock.as_ref().map(Clock::variables).unwrap_or_default(),
                limit: disk.as_ref().and_then(Disk::limit),
            };
            all.push(Replica {
                wires,
                recipe,
                kept_down: plan.lasts,
                process: Mutex::default(),
                struggles: AtomicBool::new(false),
                logs: Mutex::default(),
            });
        }
        for replica in &mut all {
            vendors.google.stand_behind(&replica.wires[&Line::Sheet].url());
            replica.recipe.variables = variables(plan, &vendors, &base, &replica.wires);
        }
        Self { vendors, base, disk, replicas: all, clock, _folder: folder }
    }

    /// The wires of all replicas to vendors, or to the database, are like this from now on.
    pub(crate) fn set(&self, lines: &[Line], state: State) {
        self.replicas.iter().for_each(|replica| replica.set(lines, state));
    }
}

/// An ordinary configuration with waits that end within seconds, or, for troubles of minutes, within half a minute.
fn variables(
    plan: &Plan,
    vendors: &Vendors,
    base: &Base,
    wires: &BTreeMap<Line, Wire>,
) -> BTreeMap<String, String> {
    let url = |line: Line| wires[&line].url();
    let key = vendors.google.credentials().replace(&vendors.google.base_url(), &url(Line::Sheet));
    let mail = wires[&Line::Mail].address();
    let mut variables: BTreeMap<String, String> = [
        ("BIND", "127.0.0.1:0".to_owned()),
        ("RUST_LOG", "info".to_owned()),
        ("LEAD_INTAKE__LOG__FORMAT", "json".to_owned()),
        ("DATABASE_URL", base.url(wires.get(&Line::Database).map(Wire::address))),
        ("LEAD_INTAKE__STORE__TIMEOUT", "1s".to_owned()),
        ("LEAD_INTAKE__INTAKE__DEADLINE", "400ms".to_owned()),
        ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "500ms".to_owned()),
        ("GOOGLE_SHEETS_ID", vendors.google.spreadsheet_id()),
        ("GOOGLE_CREDENTIALS_JSON", key),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", url(Line::Sheet)),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1500ms".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "6000".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "6000".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__TIMEOUT", "3s".to_owned()),
        (
            "SMTP_URL",
            format!("smtp://{}:{}@{mail}?tls=none", stand_ins::smtp::USER, stand_ins::smtp::PASSWORD),
        ),
        ("EMAIL_FROM", "Torture <hello@our-company.test>".to_owned()),
        ("EMAIL_NOTIFY_TO", "sales@our-company.test".to_owned()),
        ("LEAD_INTAKE__MAIL__COMMAND_TIMEOUT", "1500ms".to_owned()),
        ("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", "1500ms".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TIMEOUT", "4s".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__TIMEOUT", "4s".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__PER_DAY", "0".to_owned()),
        ("CRM_WEBHOOK_URL", format!("{}/hook", url(Line::Hook))),
        ("LEAD_INTAKE__DESTINATIONS__CRM__TIMEOUT", "2s".to_owned()),
        ("HUBSPOT_ACCESS_TOKEN", hubspot::TOKEN.to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", url(Line::HubSpot)),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__TIMEOUT", "2s".to_owned()),
        ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN.to_owned()),
        ("PIPEDRIVE_DOMAIN", "our-company".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", url(Line::Pipedrive)),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__TIMEOUT", "3s".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__SETTLE", "500ms".to_owned()),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__CREATE", if plan.deals { "deal" } else { "lead" }.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if plan.deals {
        let name = format!("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__DEAL_FIELDS__{}", pipedrive::DEAL_TEXT);
        variables.insert(name.to_uppercase(), "id".to_owned());
    }
    let is_long = plan.lasts.is_some();
    // What no trouble of a round can use up.
    let (first, then) = if is_long { (["1s", "5s"], "20s") } else { (["200ms", "300ms"], "500ms") };
    let retry = first.into_iter().chain(std::iter::repeat_n(then, 300));
    let retry = retry.collect::<Vec<_>>().join(", ");
    if is_long {
        let longer = LONGER.map(|(name, value)| (format!("LEAD_INTAKE__{name}"), value.to_owned()));
        variables.extend(longer);
    }
    let (probe, slack) = if is_long { ("2s", "5s") } else { ("300ms", "500ms") };
    for name in DESTINATIONS {
        let mut set = |key: &str, value: &str| {
            variables.insert(format!("LEAD_INTAKE__DESTINATIONS__{name}__{key}"), value.to_owned());
        };
        set("RETRY", &retry);
        set("PROBE", probe);
        set("LEASE_SLACK", slack);
    }
    variables
}
