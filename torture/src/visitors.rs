//! Visitors of a website: each sends one form after another, and what is not answered again with the same key,
//! as form.js does. Some are impatient, some click twice, some have no key.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many visitors there are at once.
const VISITORS: usize = 5;

/// How long one waits for an answer.
const ANSWER: Duration = Duration::from_secs(6);

/// How long one tries on after the round's kills are over.
const TRIES_ON: Duration = Duration::from_secs(30);

/// How long a visitor waits before the next form, and before the same once more, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pause: Range<u64>,
    again: Range<u64>,
}

impl Pace {
    /// For a round of seconds.
    pub(crate) const BUSY: Self = Self { pause: 10..80, again: 30..200 };

    /// For one of minutes: everything that they sent is compared in the end.
    pub(crate) const CALM: Self = Self { pause: 500..5_000, again: 200..2_000 };
}

/// The domain of every address that visitors have: it must never be seen in a log.
pub(crate) const DOMAIN: &str = "visitors.test";

/// A form that was sent, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    /// Its own mark: it stands in a field of the form.
    pub(crate) mark: String,
    /// What was posted.
    pub(crate) body: Value,
    /// The idempotency key, if it had one.
    pub(crate) key: Option<String>,
    /// How often it was sent.
    pub(crate) sent: usize,
    /// The ids that a 200 named.
    pub(crate) ids: Vec<String>,
    /// Answers that no visitor may get: anything but 200 and 503.
    pub(crate) strange: Vec<String>,
}

/// Everything that was sent.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<Submission>>);

impl Ledger {
    pub(crate) fn all(&self) -> Vec<Submission> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Submission>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Submission)) {
        if let Some(submission) = self.locked().get_mut(at) {
            change(submission);
        }
    }
}

/// Visitors on their way.
pub(crate) struct Visitors {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

struct Visitor {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    client: reqwest::Client,
    fronts: Vec<String>,
    pace: Pace,
    name: String,
    rng: Rng,
}

impl Visitors {
    /// Sends them to these addresses of the service, any of which will do.
    pub(crate) fn start(fronts: &[String], pace: &Pace, rng: &mut Rng) -> Self {
        let (ledger, stop) = (Arc::<Ledger>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build();
        let client = client.expect("a client needs nothing");
        for number in 0..VISITORS {
            let visitor = Visitor {
                ledger: Arc::clone(&ledger),
                stop: Arc::clone(&stop),
                client: client.clone(),
                fronts: fronts.to_vec(),
                pace: pace.clone(),
                name: format!("v{number}"),
                rng: rng.fork(),
            };
            tasks.spawn(visitor.run());
        }
        Self { ledger, stop, tasks }
    }

    /// Lets them finish what they are at; everything that was sent.
    pub(crate) async fn end(mut self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        Arc::clone(&self.ledger)
    }
}

impl Visitor {
    async fn run(mut self) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let at = self.fill_in(number);
            self.send(at).await;
            let pause = self.rng.u64(self.pace.pause.clone());
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// A form, filled in and noted down.
    fn fill_in(&mut self, number: usize) -> usize {
        let rng = &mut self.rng;
        let mark = format!("{}-{number}", self.name);
        // Some people send more than one form, and not only from one window.
        let person = if rng.u8(..4) == 0 { format!("p{}", rng.u8(..6)) } else { mark.clone() };
        let body = json!({
            "email": format!("{person}@{DOMAIN}"), "name": format!("Visitor {person}"),
            "source": {"url": "https://example.com/contact"}, "form_name": "contact",
            "consent_given": rng.u8(..8) > 0,
            "form_data": {"mark": mark, "message": "x".repeat(rng.usize(1..2_000))},
        });
        let key = (rng.u8(..8) > 0).then(|| format!("key-{mark}"));
        let submission = Submission { mark, body, key, sent: 0, ids: Vec::new(), strange: Vec::new() };
        let mut all = self.ledger.locked();
        all.push(submission);
        all.len() - 1
    }

    async fn send(&mut self, at: usize) {
        let has_key = self.ledger.locked()[at].key.is_some();
        let clicks_twice = has_key && self.rng.u8(..12) == 0;
        let patience = if self.rng.u8(..12) == 0 { 1 } else { usize::MAX };
        let (mut tries, mut since_stop) = (0, None);
        loop {
            tries += 1;
            let taken = if clicks_twice {
                let (one, other) = (self.pick(), self.pick());
                let (one, other) = tokio::join!(self.post(at, &one), self.post(at, &other));
                one || other
            } else {
                let front = self.pick();
                self.post(at, &front).await
            };
            // Without a key a repeat would be another lead.
            if taken || !has_key || tries >= patience {
                break;
            }
            if self.stop.load(Ordering::Relaxed)
                && since_stop.get_or_insert_with(Instant::now).elapsed() > TRIES_ON
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(self.pace.again.clone()))).await;
        }
        if has_key && self.rng.u8(..12) == 0 {
            let front = self.pick();
            self.post(at, &front).await;
        }
    }

    fn pick(&mut self) -> String {
        self.fronts[self.rng.usize(..self.fronts.len())].clone()
    }

    /// Whether it was taken.
    async fn post(&self, at: usize, front: &str) -> bool {
        let (body, key) = {
            let mut all = self.ledger.locked();
            all[at].sent += 1;
            (all[at].body.clone(), all[at].key.clone())
        };
        let mut request = self.client.post(format!("{front}/api/submit")).json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let Ok(answer) = request.send().await else { return false };
        let status = answer.status().as_u16();
        let Ok(said) = answer.json::<Value>().await else {
            // Cut off in the middle: the visitor has seen no answer.
            return false;
        };
        match (status, said["id"].as_str()) {
            (200, Some(id)) => {
                self.ledger.change(at, |it| it.ids.push(id.to_owned()));
                true
            }
            (503, _) => false,
            _ => {
                self.ledger.change(at, |it| it.strange.push(format!("{status} {said}")));
                false
            }
        }
    }
}
