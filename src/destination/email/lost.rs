//! Mails whose answer was lost: they may have arrived, so they are repeated, and not for ever.

use std::time::Duration;

use lettre::Address;

use super::fates::names_as_lost;
use super::message::Sending;
use crate::clock::{Timestamp, until};
use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Fault};

/// How long a server is given to settle before a mail whose answer was lost is sent again.
pub(super) const SETTLE: Duration = Duration::from_secs(60);

/// How many lost answers are followed by another try.
const REPEATS: usize = 2;

/// How the codes of a lost answer begin.
const CODES: [&str; 4] = ["smtp_body", "resend_", "postmark_", "sendgrid_"];

/// What a person reads of a mail that is not repeated.
const ENOUGH: &str =
    "Its answer was lost before as well. It has most likely arrived; replay it only if it has not.";

/// What a repeat does where the mail was taken after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It makes a second mail.
    Doubles,
    /// Nothing, for this long: the vendor remembers the key.
    HarmlessFor(Duration),
}

impl Repeat {
    /// Whether so many lost answers, oldest first, are enough. Where the vendor no longer remembers the key one
    /// repeat is made nevertheless: a mail that comes twice is better than one that never came.
    fn is_enough(self, lost: &[Timestamp]) -> bool {
        match self {
            Self::Doubles => lost.len() > REPEATS,
            Self::HarmlessFor(span) => {
                matches!((lost.first(), lost.last()), (Some(first), Some(last)) if until(*first, *last) >= span)
            }
        }
    }

    /// Why this recipient's mail is not sent again, if it is not.
    pub(super) fn refuses(self, sending: &Sending<'_>, to: &Address) -> Option<DeliveryError> {
        let lost = lost(sending.earlier, to);
        self.is_enough(&lost).then(|| DeliveryError::rejected("answers_lost", ENOUGH))
    }

    /// Whether a failure whose answer was lost is followed by another try, in the fault and in words.
    /// Any other failure stays as it is.
    pub(super) fn bound(
        self,
        mut error: DeliveryError,
        sending: &Sending<'_>,
        to: &Address,
    ) -> DeliveryError {
        if !matches!(error.fault, Fault::Unknown { .. }) {
            return error;
        }
        if !error.detail.ends_with('.') {
            error.detail.push('.');
        }
        let mut lost = lost(sending.earlier, to);
        lost.push(sending.now);
        error.detail.push(' ');
        if self.is_enough(&lost) {
            error.fault = Fault::Rejected;
            error.detail.push_str(ENOUGH);
        } else {
            error.detail.push_str("It is sent once more, marked as the same mail.");
        }
        error
    }
}

/// How often the answer for this recipient was lost already.
pub(super) fn count(earlier: &[Attempt], to: &Address) -> usize {
    lost(earlier, to).len()
}

/// When those of the newest attempts began that lost the answer for this recipient. A dead letter that was
/// replayed begins anew: whoever replays it knows that the mail had not arrived.
fn lost(earlier: &[Attempt], to: &Address) -> Vec<Timestamp> {
    let since_replay = earlier.iter().rev().take_while(|it| it.outcome != AttemptOutcome::Rejected);
    let is_lost = |it: &&Attempt| {
        names_as_lost(it, to).unwrap_or_else(|| {
            it.outcome == AttemptOutcome::Unknown && CODES.iter().any(|code| it.code.starts_with(code))
        })
    };
    let mut lost: Vec<_> = since_replay.filter(is_lost).map(|attempt| attempt.started_at).collect();
    lost.reverse();
    lost
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

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

    fn boss() -> Address {
        "boss@example.com".parse().unwrap()
    }

    fn sending(earlier: &[Attempt], now: i64) -> Sending<'_> {
        let (event, deadline) = (String::new(), Instant::now());
        Sending { event, written_at: at(0), earlier, deadline, now: at(now) }
    }

    fn fault(repeat: Repeat, earlier: &[Attempt], now: i64) -> Fault {
        let error = DeliveryError::unknown("resend_timeout", "");
        repeat.bound(error, &sending(earlier, now), &boss()).fault
    }

    const DAY: Repeat = Repeat::HarmlessFor(Duration::from_secs(20 * 3_600));

    #[test]
    fn a_repeat_that_may_double_is_made_twice_and_a_harmless_one_while_the_key_is_known() {
        use AttemptOutcome::{Rejected, Unknown};
        let lost: Vec<_> = [0, 1, 2].into_iter().map(|hours| attempt(hours, Unknown)).collect();
        assert_ne!(fault(Repeat::Doubles, &lost[..1], 3), Fault::Rejected);
        assert_eq!(fault(Repeat::Doubles, &lost[..2], 3), Fault::Rejected);
        assert_ne!(fault(DAY, &lost, 19), Fault::Rejected);
        assert_eq!(fault(DAY, &lost, 20), Fault::Rejected);
        let others = [0, 1].map(|hours| Attempt { code: "shutdown".to_owned(), ..attempt(hours, Unknown) });
        assert_ne!(fault(Repeat::Doubles, &others, 3), Fault::Rejected, "no answer to a whole mail was lost");
        let replayed = [lost[0].clone(), lost[1].clone(), attempt(2, Rejected)];
        assert_ne!(fault(Repeat::Doubles, &replayed, 30), Fault::Rejected);
        assert_ne!(fault(DAY, &replayed, 30), Fault::Rejected);
    }

    #[test]
    fn lost_answers_are_counted_for_each_recipient() {
        use AttemptOutcome::Unknown;
        let named = |hours, detail: &str| Attempt { detail: detail.to_owned(), ..attempt(hours, Unknown) };
        let of = |name: &str, hours| named(hours, &format!("The answer was lost for: {name}@example.com. "));
        let other = [of("sales", 0), of("sales", 1), of("sales", 2)];
        assert_ne!(fault(Repeat::Doubles, &other, 3), Fault::Rejected);
        assert!(Repeat::Doubles.refuses(&sending(&other, 3), &boss()).is_none());
        let ours = [of("boss", 0), named(1, ""), of("boss", 20)];
        assert_eq!(count(&ours, &boss()), 3);
        for repeat in [Repeat::Doubles, DAY] {
            assert!(repeat.refuses(&sending(&ours, 21), &boss()).is_some());
            assert!(repeat.refuses(&sending(&ours[..2], 21), &boss()).is_none());
        }
    }
}
