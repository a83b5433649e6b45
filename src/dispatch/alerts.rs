//! Tells the operators when a destination parks, and when it works again: one mail each, and no more than
//! one that it parked in six hours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp, until};
use crate::delivery::Attempt;
use crate::destination::{Messenger, News};
use crate::id::DestinationName;
use crate::report::Chain;
use crate::store::{Store, StoreError};

/// The least time between two mails that one destination has parked.
const APART: Duration = Duration::from_secs(6 * 60 * 60);

/// How long to wait before a mail is tried again, for each try; then as long as the last again and again.
const AGAIN: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
];

/// How long to wait for a store that is away.
const STORE_REST: Duration = Duration::from_secs(10);

/// What the store remembers a mail under: when it was sent, and whether it has still to be taken back.
const SENT_AT: &str = "operators told at";
const IS_OPEN: &str = "operators wait for";

/// What has happened to a destination.
#[derive(Debug)]
pub struct Alert {
    destination: DestinationName,
    /// Why it parked; `None`: it works again.
    why: Option<String>,
    at: Timestamp,
}

/// Where lanes say what has happened. Nobody need listen.
#[derive(Clone, Debug, Default)]
pub struct Alerts(Option<UnboundedSender<Alert>>);

impl Alerts {
    /// Somebody listens.
    pub fn heard() -> (Self, UnboundedReceiver<Alert>) {
        let (say, hear) = unbounded_channel();
        (Self(Some(say)), hear)
    }

    pub(super) fn say(&self, destination: &DestinationName, why: Option<String>, at: Timestamp) {
        if let Some(say) = &self.0 {
            // The listener is gone only at the end of the process.
            let _ = say.send(Alert { destination: destination.clone(), why, at });
        }
    }
}

/// Who turns alerts into mails.
pub struct Operators {
    /// How they are told.
    pub messenger: Arc<dyn Messenger>,
    /// Where is kept who was told when: a restart forgets nothing.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// No further mails from here on.
    pub stop: CancellationToken,
}

/// An alert that has still to be told.
struct Pending {
    alert: Alert,
    /// The tries of the mail that failed.
    earlier: Vec<Attempt>,
    at: Instant,
}

/// Why nobody was told.
enum Untold {
    /// The store was away: nothing was sent.
    Store(String),
    /// The mail failed.
    Mail(Attempt),
}

impl From<StoreError> for Untold {
    fn from(error: StoreError) -> Self {
        Self::Store(Chain(&error).to_string())
    }
}

impl Operators {
    /// Tells until the stop. A newer word of a destination takes the place of one that could not be told:
    /// nobody hears that something has stopped which works again.
    pub async fn run(self, mut alerts: UnboundedReceiver<Alert>) {
        let mut pending: BTreeMap<DestinationName, Pending> = BTreeMap::new();
        loop {
            let next = pending.values().map(|it| (it.at, it.alert.destination.clone())).min();
            let due = async {
                match &next {
                    Some((at, _)) => tokio::time::sleep_until(*at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = due => {
                    let Some(due) = next.and_then(|(_, name)| pending.remove(&name)) else { continue };
                    let told = tokio::select! {
                        () = self.stop.cancelled() => return,
                        told = self.tell(&due.alert, &due.earlier) => told,
                    };
                    let Pending { alert, mut earlier, .. } = due;
                    let name = alert.destination.clone();
                    let wait = match told {
                        Ok(None) => continue,
                        Ok(Some(wait)) => wait,
                        Err(Untold::Store(why)) => {
                            warn!(destination = %name, why, "the operators are not told yet");
                            STORE_REST
                        }
                        Err(Untold::Mail(attempt)) => {
                            warn!(destination = %name, why = attempt.code, "the operators are not told yet");
                            let wait = AGAIN[earlier.len().min(AGAIN.len() - 1)];
                            earlier.push(attempt);
                            wait
                        }
                    };
                    pending.insert(name, Pending { alert, earlier, at: Instant::now() + wait });
                }
                alert = alerts.recv() => {
                    let Some(alert) = alert else { return };
                    pending.insert(alert.destination.clone(), Pending { alert, earlier: Vec::new(), at: Instant::now() });
                }
            }
        }
    }

    /// Sends the mail that the alert is worth, if any; `Some`: it is not worth one before so long.
    async fn tell(&self, alert: &Alert, earlier: &[Attempt]) -> Result<Option<Duration>, Untold> {
        let Alert { destination: name, why, at } = alert;
        let Some(why) = why else {
            if self.store.recall(name, IS_OPEN).await?.is_none() {
                return Ok(None);
            }
            let subject = format!("{name} works again");
            let text = format!(
                "The destination `{name}` has worked again since {at}. What waited for it is being delivered."
            );
            self.send(alert, earlier, "back", &subject, &text).await?;
            self.store.remember(name, IS_OPEN, "").await?;
            return Ok(None);
        };
        if self.store.recall(name, IS_OPEN).await?.is_some() {
            return Ok(None);
        }
        let before = self.store.recall(name, SENT_AT).await?;
        let before = before.and_then(|at| at.parse::<Timestamp>().ok());
        let now = self.clock.now();
        // A clock that was ahead may have written it.
        let since = before.filter(|before| *before <= now).map(|before| until(before, now));
        if let Some(wait) = since.and_then(|since| APART.checked_sub(since)).filter(|wait| !wait.is_zero()) {
            info!(destination = %name, "the operators were told less than six hours ago; they are told then, if it is still so");
            return Ok(Some(wait));
        }
        let subject = format!("{name} has stopped: somebody must act");
        let text = format!(
            "The destination `{name}` has taken no leads since {at}.\n\n{why}\n\n\
             Nothing is lost: its deliveries wait, cost nothing, and are sent when it is mended. It is tried \
             from time to time with one of them.\n\n\
             `lead-intake check --online` says more, and `lead-intake deliveries list --destination {name} \
             --state pending` what waits. You are told when it works again."
        );
        self.send(alert, earlier, "parked", &subject, &text).await?;
        self.store.remember(name, IS_OPEN, "yes").await?;
        self.store.remember(name, SENT_AT, &now.to_string()).await?;
        Ok(None)
    }

    async fn send(
        &self,
        alert: &Alert,
        earlier: &[Attempt],
        what: &str,
        subject: &str,
        text: &str,
    ) -> Result<(), Untold> {
        let id = format!("{}_{what}_{}", alert.destination, alert.at.as_second());
        let started_at = self.clock.now();
        let news = News { id: &id, subject, text, at: alert.at, earlier };
        self.messenger.tell(news).await.map_err(|error| {
            Untold::Mail(Attempt {
                number: u32::try_from(earlier.len() + 1).unwrap_or(u32::MAX),
                started_at,
                finished_at: self.clock.now(),
                outcome: error.fault.outcome(),
                code: error.code,
                detail: error.detail,
            })
        })?;
        info!(destination = %alert.destination, what, "the operators were told");
        Ok(())
    }
}
