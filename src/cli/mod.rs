//! The command line. Each command is a file; what all share is here.
//!
//! Exit codes: 0 done, 1 problem found, 2 wrong usage.

/// Prints a line for whoever asked. Whoever reads no further, as `head` does, has what they wanted.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::say(format_args!($($text)*))
    };
}

mod check;
mod deliveries;
#[cfg(feature = "demo")]
mod demo;
mod export;
mod health;
mod import;
mod leads;
mod migrate;
mod moving;
mod progress;
mod serve;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, Inputs};
use crate::report::Chain;
use crate::store::{self, Store};
use crate::telemetry;

/// Takes the leads of website forms, and never loses one.
#[derive(Parser)]
#[command(name = "lead-intake", version, arg_required_else_help = false)]
struct Command {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: Option<What>,
}

/// What every command takes.
#[derive(Args, Clone)]
struct Common {
    /// The configuration file (TOML); also LEAD_INTAKE_CONFIG
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Runs the service (also without any command)
    Serve(serve::Serve),
    /// Runs the service against local stand-ins of every vendor, with a page to try it on
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Finds every problem of the configuration
    Check(check::Check),
    /// Asks a running service how it is; for a container's health check
    Health(health::Health),
    /// What came in
    #[command(subcommand)]
    Leads(leads::Leads),
    /// What is on its way, arrived or stuck
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Brings the store's schema up to date (serve does so too), or moves a whole store to another
    ///
    /// With --from or --to everything is copied from one store into another, of any
    /// engine: leads, deliveries with their states and due dates, attempts, and what
    /// destinations remember. Then both are compared, row by row. A move that was
    /// stopped goes on when the same command is run again.
    ///
    /// A first run may be made while the service works on the source: it takes most of
    /// the time. Then stop the service, run the command once more, which brings what
    /// has changed, and start the service on the target. A target that is in use is
    /// never written to.
    ///
    /// A password in an argument can be seen by other users of the machine: let
    /// DATABASE_URL (or DATABASE_URL_FILE) name that store, and only the other one be
    /// an argument.
    #[command(verbatim_doc_comment)]
    Migrate(migrate::Migrate),
}

/// Why a command did not do what it was asked.
enum Failure {
    /// It said so itself.
    Said,
    /// This has still to be said.
    Because(String),
    /// This is wrong with what was asked for.
    Usage(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Because(Chain(&error).to_string())
    }
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    // One TLS provider for the whole process; a second one cannot be set by anybody later.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Command { common, what } = Command::parse();
    // Dropped last, when the runtime is gone.
    let last_lines = telemetry::LastLines::of_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match what.unwrap_or(What::Serve(serve::Serve::default())) {
            What::Serve(serve) => serve.run(&common).await,
            #[cfg(feature = "demo")]
            What::Demo(demo) => demo.run().await,
            What::Check(check) => check.run(&common).await,
            What::Health(health) => health.run(&common).await,
            What::Leads(leads) => leads.run(&common).await,
            What::Deliveries(deliveries) => deliveries.run(&common).await,
            What::Migrate(migrate) => migrate.run(&common).await,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::FAILURE,
        Err(Failure::Because(why)) => {
            last_lines.say(&format!("error: {why}"));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => {
            last_lines.say(&format!("error: {why}\n\nFor more information, try '--help'."));
            ExitCode::from(2)
        }
    }
}

impl Common {
    fn inputs(&self) -> Inputs {
        Inputs { file: self.config.clone(), ..Inputs::from_process() }
    }

    /// The configuration; its problems are said here.
    fn load(&self, inputs: &Inputs) -> Result<Config, Failure> {
        config::load(inputs).map_err(|problems| {
            eprintln!("{problems}");
            Failure::Said
        })
    }

    /// Where the configured store is, for the commands that use it alone. They log warnings alone.
    fn store_settings(&self) -> Result<store::Settings, Failure> {
        let config = self.load(&self.inputs())?;
        telemetry::start_in_command(&config.log);
        Ok(config.store)
    }

    /// The store, for the commands that look into it.
    async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        let settings = self.store_settings()?;
        is_there(&settings, SERVED).await?;
        Ok(store::connect::open_to_look(&settings).await?)
    }

    /// The store, for the commands that change what is in it.
    async fn store_to_change(&self) -> Result<Arc<dyn Store>, Failure> {
        let settings = self.store_settings()?;
        is_there(&settings, SERVED).await?;
        Ok(store::connect::open(&settings, Clock::system()).await?)
    }
}

/// A moment, as people write it.
fn moment(text: &str) -> Result<Timestamp, &'static str> {
    text.parse()
        .map_err(|_| "write it with its offset, such as 2026-11-24T09:30:00Z or 2026-11-24T10:30:00+01:00")
}

/// What to see to where there is no store.
const SERVED: &str = "does store.url (DATABASE_URL) name the one that `lead-intake serve` uses?";

/// A command makes no store by mistake.
async fn is_there(settings: &store::Settings, hint: &str) -> Result<(), Failure> {
    if settings.is_there().await? {
        return Ok(());
    }
    Err(Failure::Because(format!("there is no store at {}: {hint}", settings.place_name())))
}

fn say(text: std::fmt::Arguments<'_>) {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("standard output: {error}"),
        _ => {}
    }
}

/// Prints one JSON value a line.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    say!("{}", serde_json::to_string(value)?);
    Ok(())
}
