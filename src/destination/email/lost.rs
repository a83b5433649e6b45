//! Mails whose answer was lost: they may have arrived, so they are repeated, and not for ever.

use std::time::Duration;

use crate::clock::{Timestamp, until};
use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Fault};

/// How long a server is given to settle before a mail whose answer was lost is sent again.
pub(super) const SETTLE: Duration = Duration::from_secs(60);

/// How many lost answers are followed by another try.
const REPEATS: usize = 2;

/// How the codes of a lost answer begin.
const CODES: [&str; 4] = ["smtp_body", "resend_", "postmark_", "sendgrid_"];

/// What a repeat does where the mail was taken after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It makes a second mail.
    Doubles,
    /// Nothing, for this long: the vendor remembers the key.
    HarmlessFor(Duration),
}

/// Whether a failure whose answer was lost is followed by another try, in the fault and in words.
/// Any other failure stays as it is.
pub(super) fn bound(
    mut error: DeliveryError,
    repeat: Repeat,
    earlier: &[Attempt],
    now: Timestamp,
) -> DeliveryError {
    if !matches!(error.fault, Fault::Unknown { .. }) {
        return error;
    }
    if !error.detail.ends_with('.') {
        error.detail.push('.');
    }
    let lost = lost(earlier);
    let is_over = match repeat {
        Repeat::Doubles => lost.len() >= REPEATS,
        Repeat::HarmlessFor(span) => lost.iter().any(|attempt| until(attempt.started_at, now) >= span),
    };
    if is_over {
        error.fault = Fault::Rejected;
        error.detail.push_str(
            " Its answer was lost before as well. It has most likely arrived; replay it only if it has not.",
        );
    } else {
        error.detail.push_str(" It is sent once more, marked as the same mail.");
    }
    error
}

/// Those of the newest attempts that lost the answer to the whole mail. A dead letter that was replayed
/// begins anew: whoever replays it knows that the mail had not arrived.
fn lost(earlier: &[Attempt]) -> Vec<&Attempt> {
    let since_replay = earlier.iter().rev().take_while(|it| it.outcome != AttemptOutcome::Rejected);
    let is_lost = |it: &&Attempt| {
        it.outcome == AttemptOutcome::Unknown && CODES.iter().any(|code| it.code.starts_with(code))
    };
    since_replay.filter(is_lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * 3_600).unwrap()
    }

    fn attempt(hours: i64, outcome: AttemptOutcome) -> Attempt {
        Attempt {
            number: 1,
            started_at: at(hours),
            finished_at: at(hours),
            outcome,
            code: "resend_timeout".to_owned(),
            detail: String::new(),
        }
    }

    fn fault(repeat: Repeat, earlier: &[Attempt], now: i64) -> Fault {
        bound(DeliveryError::unknown("resend_timeout", ""), repeat, earlier, at(now)).fault
    }

    #[test]
    fn a_repeat_that_may_double_is_made_twice_and_a_harmless_one_while_the_key_is_known() {
        use AttemptOutcome::{Rejected, Unknown};
        let day = Repeat::HarmlessFor(Duration::from_secs(20 * 3_600));
        let lost: Vec<_> = [0, 1, 2].into_iter().map(|hours| attempt(hours, Unknown)).collect();
        assert_ne!(fault(Repeat::Doubles, &lost[..1], 3), Fault::Rejected);
        assert_eq!(fault(Repeat::Doubles, &lost[..2], 3), Fault::Rejected);
        assert_ne!(fault(day, &lost, 19), Fault::Rejected);
        assert_eq!(fault(day, &lost, 20), Fault::Rejected);
        let others = [0, 1].map(|hours| Attempt { code: "shutdown".to_owned(), ..attempt(hours, Unknown) });
        assert_ne!(fault(Repeat::Doubles, &others, 3), Fault::Rejected, "no answer to a whole mail was lost");
        let replayed = [lost[0].clone(), lost[1].clone(), attempt(2, Rejected)];
        assert_ne!(fault(Repeat::Doubles, &replayed, 30), Fault::Rejected);
        assert_ne!(fault(day, &replayed, 30), Fault::Rejected);
    }
}
