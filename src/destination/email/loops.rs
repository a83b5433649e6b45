//! Whom no confirmation is sent to, so that two robots never write to each other for ever and a form is
//! no means to fill a stranger's mailbox.

use std::time::Duration;

use lettre::Address;

use crate::destination::commons::{Guest, Ours};
use crate::id::DeliveryId;
use crate::lead::Email;

/// Mailboxes behind which no customer sits (RFC 2142).
const ROBOTS: [&str; 8] =
    ["postmaster", "mailer-daemon", "noreply", "no-reply", "donotreply", "do-not-reply", "bounce", "bounces"];

/// How long a confirmation counts.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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

/// How many confirmations an address gets within a day, from all processes together. They are places that a
/// delivery has for a day: its attempts are one mail and have one place.
pub(super) struct Share {
    ours: Ours,
    per_day: u32,
}

impl Share {
    /// At most `per_day` of the destination `ours`; 0 is no limit.
    pub(super) fn new(ours: Ours, per_day: u32) -> Self {
        Self { ours, per_day }
    }

    /// Whether this delivery's mail may go. `None`: nobody can be asked.
    pub(super) async fn admits(&self, address: &Email, delivery: &DeliveryId, attempt: u32) -> Option<bool> {
        let Self { ours, per_day } = self;
        if *per_day == 0 {
            return Some(true);
        }
        let guest = Guest { name: &delivery.to_string(), comes_again: attempt > 1 };
        ours.commons.take_place(&self.name(address), *per_day, guest, DAY).await
    }

    /// It did not go after all: another may.
    pub(super) async fn give_back(&self, address: &Email, delivery: &DeliveryId) {
        let Self { ours, per_day } = self;
        ours.commons.leave_place(&self.name(address), *per_day, &delivery.to_string()).await;
    }

    fn name(&self, address: &Email) -> String {
        format!("{} to {}", self.ours.name, address.without_tag().fingerprint())
    }
}
