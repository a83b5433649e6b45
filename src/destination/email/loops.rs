//! Whom no confirmation is sent to, so that two robots never write to each other for ever and a form is
//! no means to fill a stranger's mailbox.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::Address;
use tokio::time::Instant;

use crate::id::DeliveryId;

/// Mailboxes behind which no customer sits (RFC 2142).
const ROBOTS: [&str; 8] =
    ["postmaster", "mailer-daemon", "noreply", "no-reply", "donotreply", "do-not-reply", "bounce", "bounces"];

/// How long a confirmation counts.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The most confirmations that are remembered; beyond it the oldest is forgotten.
const REMEMBERED: usize = 100_000;

/// Whether a robot reads what is sent there.
pub(super) fn is_robot(address: &Address) -> bool {
    let user = address.user().to_ascii_lowercase();
    let mailbox = user.split('+').next().unwrap_or_default();
    ROBOTS.contains(&mailbox)
}

/// Whether two addresses are one: mailboxes tell capitals apart on paper (RFC 5321, 2.4) and nowhere else.
pub(super) fn is_same(one: &Address, other: &Address) -> bool {
    AsRef::<str>::as_ref(one).eq_ignore_ascii_case(other.as_ref())
}

/// Who got a confirmation within a day, in the memory of this process.
#[derive(Default)]
pub(super) struct Lately(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    order: VecDeque<(Instant, String, DeliveryId)>,
    of_address: HashMap<String, Vec<DeliveryId>>,
}

impl Lately {
    /// Whether this delivery's mail may go, as one of at most `per_day` to its address. A delivery that
    /// was let go before is let go again: its attempts are one mail.
    pub(super) fn admits(&self, address: &Address, delivery: &DeliveryId, per_day: usize) -> bool {
        let address = address.to_string().to_ascii_lowercase();
        let mut memory = self.memory();
        memory.forget_older_than(DAY);
        let sent = memory.of_address.entry(address.clone()).or_default();
        if sent.contains(delivery) {
            return true;
        }
        if sent.len() >= per_day {
            return false;
        }
        sent.push(delivery.clone());
        memory.order.push_back((Instant::now(), address, delivery.clone()));
        if memory.order.len() > REMEMBERED {
            memory.forget_oldest();
        }
        true
    }

    /// It did not go after all: another may.
    pub(super) fn forget(&self, delivery: &DeliveryId) {
        let mut memory = self.memory();
        if let Some(at) = memory.order.iter().rposition(|(_, _, other)| other == delivery)
            && let Some((_, address, delivery)) = memory.order.remove(at)
        {
            memory.forget_one(&address, &delivery);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn forget_older_than(&mut self, age: Duration) {
        while self.order.front().is_some_and(|(at, ..)| at.elapsed() >= age) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, address, delivery)) = self.order.pop_front() {
            self.forget_one(&address, &delivery);
        }
    }

    fn forget_one(&mut self, address: &str, delivery: &DeliveryId) {
        if let Some(sent) = self.of_address.get_mut(address) {
            sent.retain(|other| other != delivery);
            if sent.is_empty() {
                self.of_address.remove(address);
            }
        }
    }
}
