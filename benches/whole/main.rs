//! How fast the whole is, in one table: every row beside what it is to be measured by, in the same run, for the load
//! generator and the vendors share the machine.
//!
//! `cargo bench --bench whole`, or some rows alone: `cargo bench --bench whole -- accept claims`

mod accept;
mod backlog;
mod claims;
mod hook;
#[path = "../support/load.rs"]
mod load;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it belongs to the tests, which do more with it")]
mod postgres;
mod service;
mod submit;
#[path = "../support/vendor.rs"]
mod vendor;

use std::time::Instant;

/// One line of the table.
pub(crate) struct Row {
    what: String,
    measured: String,
    aim: &'static str,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, measured: impl Into<String>, aim: &'static str) -> Self {
        Self { what: what.into(), measured: measured.into(), aim }
    }
}

/// The middle of some numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|it| it == name);
    let began = Instant::now();
    let mut count = 0;
    let mut say = |rows: Vec<Row>| {
        for row in rows {
            println!("| {} | {} | {} |", row.what, row.measured, row.aim);
            count += 1;
        }
    };
    println!("| what | measured | aim |\n| --- | --- | --- |");
    if wanted("service") {
        say(service::rows().await);
    }
    if wanted("accept") {
        say(accept::rows().await);
    }
    if wanted("hook") {
        say(hook::rows().await);
    }
    if wanted("submit") {
        say(submit::rows().await);
    }
    if wanted("claims") {
        say(claims::rows().await);
    }
    if wanted("backlog") {
        say(backlog::rows().await);
    }
    println!("\n{} rows in {:.0} s", count, began.elapsed().as_secs_f64());
}
