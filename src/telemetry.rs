//! The log: JSON lines, or text on a terminal, to standard error. Other crates are heard from `info` up
//! only, whatever the filter says: at `debug` some of them print tokens.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::units::SettingProblem;

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `info`, or directives such as `lead_intake=debug`.
    pub filter: String,
    /// How lines are written.
    pub format: Format,
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
        let parsed = EnvFilter::builder().parse(&self.filter);
        let problem = parsed.err().map(|error| {
            SettingProblem::new(
                "filter",
                format!("this is no filter: {error}"),
                "write \"info\" or \"lead_intake=debug\"",
            )
        });
        problem.into_iter().collect()
    }
}

/// Starts the log. Once in a process; a second call changes nothing.
pub fn start(settings: &Settings) {
    let filter = EnvFilter::builder().parse_lossy(&settings.filter);
    let ours =
        filter_fn(|event| event.target().starts_with("lead_intake") || *event.level() <= LevelFilter::INFO);
    let on_terminal = std::io::stderr().is_terminal();
    let is_json = match settings.format {
        Format::Auto => !on_terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let lines = if is_json {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_ansi(on_terminal).with_target(false).with_writer(std::io::stderr).boxed()
    };
    // A subscriber that is there already was set by a test.
    let _ = tracing_subscriber::registry().with(lines.with_filter(ours)).with(filter).try_init();
}
