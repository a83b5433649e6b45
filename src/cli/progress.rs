//! How far a long command is: one line that is written over where a person looks on, a line at every tenth
//! elsewhere. On the standard error, so that the answer stays alone on the standard output.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::moving::{Phase, Progress};

/// How often a person sees another number.
const BLINK: Duration = Duration::from_millis(100);

/// How long a rate needs to mean something.
const SETTLED: Duration = Duration::from_secs(1);

/// Shows progress.
pub(super) struct Meter {
    is_terminal: bool,
    phase: Option<Phase>,
    began: Instant,
    shown: Option<Instant>,
    tenths: u64,
}

impl Meter {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, phase: None, began: Instant::now(), shown: None, tenths: 0 }
    }

    pub(super) fn tell(&mut self, progress: Progress) {
        let now = Instant::now();
        if self.phase != Some(progress.phase) {
            self.end();
            (self.phase, self.began, self.tenths) = (Some(progress.phase), now, 0);
        }
        let line = line(progress, now.duration_since(self.began));
        if self.is_terminal {
            if self.shown.is_none_or(|shown| now.duration_since(shown) >= BLINK) {
                self.shown = Some(now);
                let mut out = std::io::stderr().lock();
                // Nobody is told when the terminal has gone away.
                let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
            }
            return;
        }
        let tenths = tenths(progress);
        if tenths > self.tenths {
            self.tenths = tenths;
            eprintln!("{line}");
        }
    }

    /// Leaves the terminal's line free.
    pub(super) fn end(&mut self) {
        if self.is_terminal && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn tenths(progress: Progress) -> u64 {
    (progress.done * 10).checked_div(progress.total).unwrap_or(10).min(10)
}

/// At most 80 characters, up to a thousand million leads.
fn line(progress: Progress, passed: Duration) -> String {
    let Progress { phase, done, total } = progress;
    let what = match phase {
        Phase::Copying => "Copying",
        Phase::Comparing => "Comparing",
    };
    let percent = (done * 100).checked_div(total).unwrap_or(100).min(100);
    let so_far = format!("{what}: {done} of {total} leads, {percent} %");
    if passed < SETTLED {
        return so_far;
    }
    let rate = (done as f64 / passed.as_secs_f64()) as u64;
    let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
    let left = match left {
        _ if done == 0 || done >= total => String::new(),
        0..120 => format!(", {left} s left"),
        120..7_200 => format!(", {} min left", left / 60),
        _ => format!(", {} h left", left / 3_600),
    };
    format!("{so_far}, {rate} a second{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let at = |done, total, seconds| {
            line(Progress { phase: Phase::Copying, done, total }, Duration::from_secs(seconds))
        };
        assert_eq!(at(0, 0, 0), "Copying: 0 of 0 leads, 100 %");
        assert_eq!(at(50, 200, 5), "Copying: 50 of 200 leads, 25 %, 10 a second, 15 s left");
        assert_eq!(at(200, 200, 5), "Copying: 200 of 200 leads, 100 %, 40 a second");
        assert!(at(999_999_998, 999_999_999, 999).len() <= 80);
        // A source that grew meanwhile.
        assert_eq!(at(300, 200, 5), "Copying: 300 of 200 leads, 100 %, 60 a second");
    }
}
