//! The crash proof in small: the real binary is killed 21 times while visitors send forms, vendors' networks break, the
//! disk fills, the database goes and comes back, and the clock jumps; then every promise is looked at. `torture/` is
//! the same with as many kills as you have the time for.
//!
//! Everything is drawn from a seed, so each run of these tests does the same. `LEAD_INTAKE_CRASH_SEED=7 cargo test --test
//! it crash::` draws from another one. Whatever breaks a promise is printed with the command that plays it again, and
//! with the folder that has all logs, what the vendors got and what the store says.

use std::path::PathBuf;

use torture::{Engine, Options, run};

use crate::support::postgres::is_here;

/// How many kills a round has: few, so that each round is short and there are many different ones.
const KILLS: usize = 3;

/// The seeds were chosen so that every trouble comes up in one of the rounds.
async fn every_promise_is_kept(engine: Engine, replicas: usize, rounds: usize, seed: u64) {
    #[expect(clippy::disallowed_methods, reason = "who runs the tests says so, not a setting of the service")]
    let other = std::env::var("LEAD_INTAKE_CRASH_SEED").ok();
    let seed = other.map_or(seed, |it| it.parse().expect("LEAD_INTAKE_CRASH_SEED is a number"));
    let options = Options {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_lead-intake")),
        seed,
        kills: rounds * KILLS,
        kills_a_round: KILLS,
        engine,
        replicas,
        jobs: rounds,
        round: None,
        long: false,
        keep: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash"),
    };
    println!("seed {seed}; to play it again: {options}");
    let tally = run(&options, |line| println!("{line}")).await;
    println!("{tally}");
    let broken: Vec<_> = tally.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{}\nto play it again: {options}", broken.join("\n"));
    assert_eq!((tally.rounds, tally.kills), (rounds, options.kills));
    assert!(tally.leads > tally.kills, "visitors came all the while: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_killed_service_keeps_its_promises() {
    // A clock that jumps, connections that are reset, a disk that fills.
    every_promise_is_kept(Engine::Sqlite, 1, 3, 161).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_killed_service_keeps_its_promises() {
    if is_here() {
        // Networks that swallow, a server that stops and starts.
        every_promise_is_kept(Engine::Postgres, 1, 2, 1584).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_of_which_one_after_the_other_is_killed_keep_their_promises() {
    if is_here() {
        // A server that stops and starts, and one that cannot be reached.
        every_promise_is_kept(Engine::Postgres, 3, 2, 548).await;
    }
}
