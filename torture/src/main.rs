//! `lead-intake-torture`: as many kills as you have the time for.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use torture::{Engine, Options, run};

/// Kills the real lead-intake under load, at named points and at random, while vendors fail, networks break, disks
/// fill, databases go and clocks jump; and sees after every round whether a promise was broken.
#[derive(Parser)]
#[command(name = "lead-intake-torture")]
struct Arguments {
    /// Where everything is drawn from; a fresh one unless given
    #[arg(long)]
    seed: Option<u64>,
    /// How many kills, all rounds together
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// How many a round has
    #[arg(long, default_value_t = 5, value_name = "KILLS")]
    kills_a_round: usize,
    /// The store
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    engine: Store,
    /// How many processes share the store
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,
    /// How many rounds are played side by side
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Only this round of the seed
    #[arg(long)]
    round: Option<u64>,
    /// Let each trouble last for two to five minutes on end: networks cut or swallowing, databases gone, disks full
    #[arg(long)]
    long: bool,
    /// The binary; the one beside this one unless given
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Where what is known of a broken promise is kept
    #[arg(long, value_name = "FOLDER", default_value = "target/torture")]
    keep: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    /// A file
    Sqlite,
    /// A server of its own
    Postgres,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("lead-intake"));
    let Some(binary) = arguments.binary.or_else(beside).and_then(|path| path.canonicalize().ok()) else {
        eprintln!("there is no lead-intake beside this: build it, or say --binary PATH");
        return ExitCode::from(2);
    };
    let options = Options {
        binary,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        kills: arguments.kills,
        kills_a_round: arguments.kills_a_round,
        engine: match arguments.engine {
            Store::Sqlite => Engine::Sqlite,
            Store::Postgres => Engine::Postgres,
        },
        replicas: usize::from(arguments.replicas),
        jobs: arguments.jobs.max(1),
        round: arguments.round,
        long: arguments.long,
        keep: arguments.keep,
    };
    if options.engine == Engine::Sqlite && options.replicas > 1 {
        eprintln!("replicas share a PostgreSQL: say --engine postgres");
        return ExitCode::from(2);
    }
    println!("seed {}", options.seed);
    let tally = run(&options, |line| println!("{line}")).await;
    println!("{tally}");
    if tally.broken.is_empty() {
        println!("every promise was kept (seed {})", options.seed);
        return ExitCode::SUCCESS;
    }
    println!("{} rounds BROKE a promise (seed {})", tally.broken.len(), options.seed);
    ExitCode::FAILURE
}
