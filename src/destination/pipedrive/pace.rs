//! How fast Pipedrive may be called, as its answers say.
//!
//! Two limits: a burst of calls within two seconds for each token, and a budget for each day that all
//! integrations of a company share. `Retry-After` is not documented; where it comes it is believed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Timestamp, after, until};
use crate::delivery::{DeliveryError, Fault};
use crate::destination::api::Reply;

/// The first pause after a burst too many: the length of Pipedrive's window. It doubles.
const WINDOW: Duration = Duration::from_secs(2);

/// After so many refusals in a row it is more than a burst.
const TOO_OFTEN: u32 = 5;

/// The pause then, and how often a used-up day is asked whether it is over.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The longest rest that is believed, be it ever so politely asked for.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of the burst window can be left: a larger number is in a unit that nobody documents.
const LONGEST_WINDOW: u64 = 60;

/// Refusals in a row.
#[derive(Debug, Default)]
pub(super) struct Streak(Mutex<(u32, Option<Instant>)>);

impl Streak {
    /// One more, of a call that began then; how many it makes. Calls that were under way when the last one was
    /// counted say nothing new.
    pub(super) fn refused(&self, began: Instant) -> u32 {
        let mut streak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, counted) = *streak;
        if counted.is_none_or(|counted| began >= counted) {
            *streak = (count.saturating_add(1), Some(Instant::now()));
        }
        streak.0
    }

    /// An answer of another kind ends it.
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
    }
}

/// What a refusal for the pace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// How long this delivery waits.
    pub(super) own: Duration,
    /// How long everybody waits.
    pub(super) all: Duration,
    /// Whether the day's budget is used up.
    daily: bool,
}

/// How long to rest after the `in_a_row`th refusal. `jitter` is a random number in `0.0..=1.0`.
pub(super) fn rest(reply: &Reply, in_a_row: u32, now: Timestamp, jitter: f64) -> Rest {
    let none_left = |name| reply.number(name) == Some(0);
    if none_left("x-daily-ratelimit-token-remaining") || none_left("x-daily-requests-left") {
        // All integrations come back at midnight: not in the very first minute.
        let own = until_midnight(now) + Duration::from_secs(60) + HOUR.mul_f64(jitter / 6.0);
        return Rest { own, all: own.min(HOUR), daily: true };
    }
    let sane = |wait: &Duration| !wait.is_zero() && *wait <= DAY;
    let reset = reply.number("x-ratelimit-reset").map(Duration::from_secs).filter(sane);
    let asked = reset.max(reply.retry_after.filter(sane));
    let wait = match in_a_row {
        TOO_OFTEN.. => asked.unwrap_or_default().max(HOUR),
        _ => asked.unwrap_or_else(|| WINDOW * 2_u32.saturating_pow(in_a_row.saturating_sub(1))),
    };
    Rest { own: wait, all: wait, daily: false }
}

impl Rest {
    /// The same as an error.
    pub(super) fn error(self) -> DeliveryError {
        let (code, detail) = if self.daily {
            (
                "pipedrive_daily_budget",
                "The company's calls to Pipedrive are used up for today (all integrations share them); they are renewed at midnight UTC, and it is tried again then. Let other integrations call less, or raise the plan.",
            )
        } else {
            (
                "pipedrive_429",
                "Pipedrive asked for fewer calls. Everything rests a while, and it is tried again.",
            )
        };
        let fault = Fault::Transient { retry_after: Some(self.own) };
        DeliveryError::new(fault, code, detail).holding_lane(self.all)
    }
}

/// How long to rest after an answer that used the last of the burst; what it says of itself is believed only
/// where it can be seconds.
pub(super) fn used_up(reply: &Reply) -> Option<Duration> {
    (reply.number("x-ratelimit-remaining") == Some(0)).then(|| {
        let left = reply.number("x-ratelimit-reset").filter(|left| (1..=LONGEST_WINDOW).contains(left));
        left.map_or(WINDOW, Duration::from_secs)
    })
}

/// How long until the next day begins (UTC).
fn until_midnight(now: Timestamp) -> Duration {
    let into = now.as_second().rem_euclid(86_400).unsigned_abs();
    let midnight = after(now, Duration::from_secs(86_400 - into));
    until(now, midnight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    fn reply(headers: &[(&'static str, &'static str)]) -> Reply {
        let pairs = headers.iter();
        let headers: HeaderMap = pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let status = StatusCode::TOO_MANY_REQUESTS;
        let retry_after = crate::net::retry_after(&headers, Timestamp::UNIX_EPOCH);
        Reply { status, headers, json: serde_json::Value::Null, said: String::new(), retry_after }
    }

    fn seconds(headers: &[(&'static str, &'static str)], in_a_row: u32) -> (u64, u64) {
        let rest = rest(&reply(headers), in_a_row, Timestamp::from_second(86_400 - 7_200).unwrap(), 0.0);
        (rest.own.as_secs(), rest.all.as_secs())
    }

    #[test]
    fn the_answer_says_how_long_and_without_its_word_the_pause_doubles() {
        assert_eq!(seconds(&[("x-ratelimit-reset", "7")], 1), (7, 7));
        assert_eq!(seconds(&[("x-ratelimit-reset", "0")], 1), (2, 2));
        assert_eq!(
            seconds(&[("x-ratelimit-reset", "1764000000")], 2),
            (4, 4),
            "that is no number of seconds"
        );
        for reset in ["0", "60", "1764000000"] {
            let both = [("x-ratelimit-reset", reset), ("retry-after", "120")];
            assert_eq!(seconds(&both, 1), (120, 120), "the later, of those that can be meant");
        }
        assert_eq!([1, 2, 3, 4].map(|times| seconds(&[], times).0), [2, 4, 8, 16]);
        assert_eq!(seconds(&[("x-ratelimit-reset", "7")], 5), (3_600, 3_600));
    }

    #[test]
    fn a_used_up_day_waits_for_midnight_and_is_asked_every_hour() {
        for name in ["x-daily-ratelimit-token-remaining", "x-daily-requests-left"] {
            assert_eq!(seconds(&[(name, "0"), ("x-ratelimit-reset", "2")], 1), (7_260, 3_600));
            assert_eq!(seconds(&[(name, "5")], 1), (2, 2));
        }
    }

    #[test]
    fn the_last_call_of_a_burst_is_followed_by_a_rest() {
        assert_eq!(used_up(&reply(&[("x-ratelimit-remaining", "3")])), None);
        assert_eq!(used_up(&reply(&[("x-ratelimit-remaining", "0")])), Some(WINDOW));
        let left = |left| used_up(&reply(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", left)]));
        assert_eq!((left("1"), left("1764000000")), (Some(Duration::from_secs(1)), Some(WINDOW)));
    }

    #[test]
    fn calls_that_were_under_way_together_are_one_refusal() {
        let streak = Streak::default();
        let began = Instant::now();
        assert_eq!([streak.refused(began), streak.refused(began)], [1, 1]);
        assert_eq!(streak.refused(Instant::now()), 2);
        streak.answered();
        assert_eq!(streak.refused(Instant::now()), 1);
    }
}
