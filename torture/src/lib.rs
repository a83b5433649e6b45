//! Kills the real service, again and again, and sees whether it keeps what it promises.
//!
//! A **round** is a world of its own: fresh vendors, a fresh store, one or more replicas of the binary, and a
//! wire between each of them and everything else. Visitors send forms all the while. Something else goes wrong
//! for a bounded time, and the service is killed with SIGKILL at points with names: when it says something, or
//! when a request is on its way, has been done, or has been answered. Then there is peace; everything must come
//! to its end, and the verdict compares what visitors were told, what the store says, and what the vendors have.
//!
//! In a **long** round the trouble stays for two to five minutes on end. They are real ones: the service's timeouts,
//! its waits for a turn and its attempts to come back follow monotonic time, which no trick of ours moves, and PostgreSQL's
//! due dates its own clock. Its settings are nearer to the defaults, and retries are twenty seconds apart.
//!
//! Everything is drawn from a seed, so a round can be played again: the same plan, if not the same threads.
//!
//! It knows the service from outside alone: its variables, its log, its commands.

mod base;
mod clock;
mod plan;
#[expect(dead_code, clippy::unwrap_used, reason = "the tests' own server; they use all of it")]
#[path = "../../tests/it/support/postgres.rs"]
mod postgres;
mod process;
mod round;
mod trouble;
mod verdict;
mod visitors;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use base::{Disk, Lent};
use clock::Clockwork;
pub use plan::Engine;
use plan::{Means, Plan};
use postgres::Server;
use round::Ended;
use world::World;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary.
    pub binary: PathBuf,
    /// Where everything is drawn from.
    pub seed: u64,
    /// How many kills, all rounds together.
    pub kills: usize,
    /// How many a round has.
    pub kills_a_round: usize,
    /// The store.
    pub engine: Engine,
    /// How many processes share it.
    pub replicas: usize,
    /// How many rounds are played side by side.
    pub jobs: usize,
    /// Only this round.
    pub round: Option<u64>,
    /// Whether troubles last for minutes.
    pub long: bool,
    /// Where what is known of a broken promise is kept.
    pub keep: PathBuf,
}

/// What it came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rounds that were played.
    pub rounds: usize,
    /// Kills.
    pub kills: usize,
    /// How often each point was struck, and how often it did not come to that in time and it was at random.
    pub points: BTreeMap<&'static str, (usize, usize)>,
    /// How often each trouble was met.
    pub troubles: BTreeMap<String, usize>,
    /// Forms that were answered 200.
    pub answered: usize,
    /// Leads that were stored: those, and some whose visitors never heard of it.
    pub leads: usize,
    /// Their deliveries.
    pub deliveries: usize,
    /// Dead letters among them, each for a reason.
    pub dead: usize,
    /// Calls and mails that came again, with the same key.
    pub repeats: usize,
    /// Every promise that was broken.
    pub broken: Vec<Broken>,
    /// How long all of it took.
    pub took: Duration,
}

/// A round in which something promised was not kept.
#[derive(Debug)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// The round.
    pub round: u64,
    /// What went wrong beside the kills.
    pub trouble: String,
    /// The points where the service was killed, in order.
    pub points: Vec<&'static str>,
    /// What is wrong, each with its lead.
    pub wrong: Vec<String>,
    /// Where all that is known is kept.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, round, trouble, points, wrong, kept } = self;
        writeln!(
            f,
            "BROKEN in round {round} of seed {seed} (trouble: {trouble}; killed at {})",
            points.join(", ")
        )?;
        for line in wrong.iter().take(20) {
            writeln!(f, "  - {line}")?;
        }
        if wrong.len() > 20 {
            writeln!(f, "  … and {} more", wrong.len() - 20)?;
        }
        match kept {
            Some(folder) => write!(f, "  logs and all: {}", folder.display()),
            None => write!(f, "  the logs could not be kept"),
        }
    }
}

impl fmt::Display for Options {
    /// The command that plays the same rounds again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, kills, kills_a_round, replicas, .. } = self;
        let engine = match self.engine {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        };
        write!(
            f,
            "cargo build && cargo run -p torture -- --seed {seed} --kills {kills} --kills-a-round {kills_a_round} --engine {engine} --replicas {replicas}{}",
            if self.long { " --long" } else { "" }
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} kills in {} rounds and {seconds:.0} s: {} forms answered 200, {} leads, {} deliveries, {} rightly dead, {} came again with the same key",
            self.kills, self.rounds, self.answered, self.leads, self.deliveries, self.dead, self.repeats
        )?;
        let troubles: Vec<_> = self.troubles.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "troubles: {}", troubles.join(", "))?;
        let points = self.points.iter().map(|(name, (met, missed))| match missed {
            0 => format!("{name} {met}"),
            _ => format!("{name} {met} (+{missed} at random)"),
        });
        write!(f, "points: {}", points.collect::<Vec<_>>().join(", "))
    }
}

/// Plays the rounds. `tell` hears of each as it ends.
///
/// # Panics
/// When the machine itself fails: no folder, no port, no PostgreSQL.
pub async fn run(options: &Options, mut tell: impl FnMut(&str)) -> Tally {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let clockwork = Clockwork::build().map(Arc::new);
    let means = Means {
        engine: options.engine,
        replicas: options.replicas,
        clock: clockwork.is_some(),
        disk: options.engine == Engine::Sqlite && can_fill(),
        long: options.long,
    };
    if !means.clock {
        tell("THE CLOCK IS NOT MOVED: there is no C compiler (cc)");
    }
    if options.engine == Engine::Sqlite && !means.disk {
        tell("NO DISK IS FILLED: that needs the right to mount a tmpfs (root), or `prlimit`");
    }
    let mut plans = plans(options, means).into_iter();
    let (mut playing, mut servers, mut tally) = (JoinSet::new(), Vec::new(), Tally::default());
    loop {
        while playing.len() < options.jobs {
            let Some(plan) = plans.next() else { break };
            let server = match options.engine {
                Engine::Sqlite => None,
                Engine::Postgres => {
                    Some(servers.pop().unwrap_or_else(|| Lent::new(Mutex::new(Server::start()))))
                }
            };
            let (options, clockwork) = (options.clone(), clockwork.clone());
            playing.spawn(async move {
                let lent = server.as_ref().map(Arc::clone);
                let world =
                    World::new(&plan, options.replicas, &options.binary, lent, clockwork.as_deref()).await;
                let keep = options.keep.join(format!("seed-{}", options.seed));
                (round::play(plan, world, &keep).await, server)
            });
        }
        let Some(ended) = playing.join_next().await else { break };
        let (ended, server) = ended.expect("a round comes to its end");
        servers.extend(server);
        tell(&line(&ended));
        tally.add(options.seed, ended, &mut tell);
    }
    tally.took = began.elapsed();
    tally
}

fn plans(options: &Options, means: Means) -> Vec<Plan> {
    let most = options.kills_a_round.max(1);
    let draw = |number: u64, kills| Plan::draw(options.seed, number, kills, means);
    match options.round {
        Some(number) => vec![draw(number, options.kills.min(most))],
        None => {
            let rounds = options.kills.div_ceil(most);
            let kills = |number: usize| most.min(options.kills - number * most);
            (0..rounds).map(|number| draw(number as u64, kills(number))).collect()
        }
    }
}

fn can_fill() -> bool {
    tempfile::tempdir().is_ok_and(|folder| Disk::of(&folder.path().join("disk")).is_some())
}

fn line(ended: &Ended) -> String {
    let Ended { plan, wrong, count, kills, took, .. } = ended;
    let points: Vec<_> =
        kills.iter().map(|(name, met)| if *met { (*name).to_owned() } else { format!("({name})") }).collect();
    let lasts = plan.lasts.map(|it| format!(" for {} s", it.as_secs())).unwrap_or_default();
    format!(
        "round {}: {}, {:?}{lasts}{}: {} leads, {} dead, {} again, {:.1} s, killed at {}",
        plan.number,
        if wrong.is_empty() { "kept" } else { "BROKEN" },
        plan.trouble,
        if plan.faults { " and vendors' faults" } else { "" },
        count.leads,
        count.dead,
        count.repeats,
        took.as_secs_f64(),
        points.join(" ")
    )
}

impl Tally {
    fn add(&mut self, seed: u64, ended: Ended, tell: &mut impl FnMut(&str)) {
        let Ended { plan, wrong, kept, count, kills, .. } = ended;
        self.rounds += 1;
        self.kills += kills.len();
        for (name, met) in &kills {
            let (struck, missed) = self.points.entry(name).or_default();
            *if *met { struck } else { missed } += 1;
        }
        *self.troubles.entry(format!("{:?}", plan.trouble)).or_default() += 1;
        self.answered += count.answered;
        self.leads += count.leads;
        self.deliveries += count.deliveries;
        self.dead += count.dead;
        self.repeats += count.repeats;
        if !wrong.is_empty() {
            let points = kills.iter().map(|(name, _)| *name).collect();
            let trouble = format!("{:?}", plan.trouble);
            let broken = Broken { seed, round: plan.number, trouble, points, wrong, kept };
            tell(&broken.to_string());
            self.broken.push(broken);
        }
    }
}
