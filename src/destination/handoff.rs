//! Who has the word over a delivery that waits inside its destination: the destination, which may
//! send it at any moment, or the shutdown, which wants it back unsent.

use std::sync::atomic::{AtomicU8, Ordering};

/// The state of one attempt's hand-over. A fresh one counts as sent, so that a destination that does
/// not queue need not know of it.
#[derive(Debug, Default)]
pub struct Handoff(AtomicU8);

const SENT: u8 = 0;
const QUEUED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Handoff {
    /// The destination has put it in a queue of its own: nothing is sent yet.
    pub fn queue(&self) {
        let _ = self.0.compare_exchange(SENT, QUEUED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The destination is about to send it. `false`: it has been withdrawn and must not be sent.
    pub fn take(&self) -> bool {
        self.0.compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire) != Err(WITHDRAWN)
    }

    /// Takes it back. `false`: it is too late, it may have been sent.
    pub fn withdraw(&self) -> bool {
        self.0.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_wins() {
        let handoff = Handoff::default();
        assert!(!handoff.withdraw(), "what never queued may have been sent");
        handoff.queue();
        assert!(handoff.withdraw());
        assert!(!handoff.take(), "what was withdrawn is not sent");

        let handoff = Handoff::default();
        handoff.queue();
        assert!(handoff.take());
        assert!(!handoff.withdraw());
    }
}
