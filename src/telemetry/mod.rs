//! The log: JSON lines, or text on a terminal, to standard error. Other crates are heard from `info` up
//! only, whatever the filter says: at `debug` some of them print tokens.
//!
//! A service hands its lines to a thread of its own (`queue`), for standard error may be a pipe that nobody reads. A
//! command writes them itself, in their order with what it prints.

mod queue;

use std::io::IsTerminal;
use std::panic;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use tracing::error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::units::{self, SettingProblem};
use queue::Queue;

/// The smallest buffer, in bytes: some lines fit into it.
const SMALLEST_BUFFER: usize = 4 * 1024;

/// How long the end of a process waits for whoever reads its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What waits to be written, in a process that is a service.
static QUEUE: OnceLock<&Queue> = OnceLock::new();

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `info`, or directives such as `lead_intake=debug`.
    pub filter: String,
    /// How lines are written.
    pub format: Format,
    /// How much of the log may wait for a slow reader, in bytes; more is dropped and counted.
    #[serde(with = "units::size")]
    pub buffer: usize,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Settings {
    /// Values that fit their types and yet cannot be used.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let why = match self.filter.parse::<Targets>() {
            Err(error) => Some(format!("this is no filter: {error}")),
            // Taken for a part of a target's name otherwise, and no line would have such a target.
            Ok(_) if self.filter.contains('[') => {
                Some("this is no filter: spans are not told apart".to_owned())
            }
            Ok(_) => None,
        };
        let problem =
            why.map(|why| SettingProblem::new("filter", why, "write \"info\" or \"lead_intake=debug\""));
        let too_small = (self.buffer < SMALLEST_BUFFER).then(|| {
            SettingProblem::new("buffer", "hardly a line fits into this", "write \"8MiB\", or 4KiB at least")
        });
        problem.into_iter().chain(too_small).collect()
    }
}

/// Starts the log of a service. Once in a process; a second call changes nothing.
pub fn start(settings: &Settings) {
    // As long as the process, and so is what writes it.
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(settings.buffer)));
    let writer = std::thread::Builder::new().name("log".to_owned());
    match writer.spawn(|| queue.write_to(std::io::stderr())) {
        Ok(_) => {
            subscribe(settings, BoxMakeWriter::new(*QUEUE.get_or_init(|| queue)));
        }
        // Better a log that can be waited for than none.
        Err(_) => subscribe(settings, BoxMakeWriter::new(std::io::stderr)),
    }
}

/// Starts the log of a command: what is wrong alone. Once in a process; a second call changes nothing.
pub fn start_in_command(settings: &Settings) {
    let settings = Settings { filter: "warn".to_owned(), ..settings.clone() };
    subscribe(&settings, BoxMakeWriter::new(std::io::stderr));
}

fn subscribe(settings: &Settings, writer: BoxMakeWriter) {
    // However little somebody wants to read, that lines are missing and that we panicked is among it.
    let filter =
        settings.filter.parse::<Targets>().unwrap_or_default().with_target(module_path!(), LevelFilter::WARN);
    let ours =
        filter_fn(|event| event.target().starts_with("lead_intake") || *event.level() <= LevelFilter::INFO);
    let on_terminal = std::io::stderr().is_terminal();
    let is_json = match settings.format {
        Format::Auto => !on_terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let lines = if is_json {
        fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
    } else {
        fmt::layer().with_ansi(on_terminal).with_target(false).with_writer(writer).boxed()
    };
    // A subscriber that is there already was set by a test.
    let _ = tracing_subscriber::registry().with(lines.with_filter(ours)).with(filter).try_init();
}

/// The end of a process: `main` holds it, so that the last lines are written however `main` is left. Whoever
/// does not read them for a second has had their time.
#[must_use]
pub struct LastLines(());

impl LastLines {
    /// From now on a panic of a service is a line of its log, too.
    pub fn of_process() -> Self {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if QUEUE.get().is_none() {
                return usual(panic);
            }
            let at = panic.location().map(ToString::to_string).unwrap_or_default();
            // Words that were put together while it ran may quote a lead.
            let why = panic.payload().downcast_ref::<&str>().copied().unwrap_or("see there");
            error!(at, why, "panicked: a fault of ours");
        }));
        Self(())
    }

    /// Says why the process ends, behind all that was logged.
    pub fn say(&self, text: &str) {
        match QUEUE.get() {
            Some(queue) => queue.push(format!("{text}\n").as_bytes(), true),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.get() {
            queue.flush(LAST_LINES);
        }
    }
}
