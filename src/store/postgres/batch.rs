//! Neighbours share a transaction: a task takes whatever is waiting, does all of it with one statement and commits
//! once. Where that pays, it begins another one while the server is at the first.
//!
//! A command that the server refuses never fails its neighbours: each is done again alone. A caller that goes away
//! changes nothing: the command is done all the same.

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::pool::{Shared, refused};
use crate::store::StoreError;

/// The most commands in one transaction.
const BATCH: usize = 512;

/// How many must wait for another transaction to be begun beside one that is under way: each costs the server half a
/// millisecond before its first row.
const WORTH_ANOTHER: usize = 128;

/// The most commands that wait; beyond it the store says that it cannot.
const QUEUE: usize = 65_536;

/// What can be done for many at once.
pub(super) trait Command: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;
    /// The most transactions at once.
    const AT_ONCE: usize;
    /// What it is about. Nothing is touched twice at the same time.
    type About: Eq + Hash + Send;
    fn about(&self) -> Self::About;
    /// Does all of them in one transaction; an answer for each, in their order.
    fn run(
        pool: &Shared,
        batch: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

struct Waiting<C: Command> {
    command: C,
    reply: oneshot::Sender<Result<C::Answer, StoreError>>,
}

/// The way to the task.
pub(super) struct Batcher<C: Command> {
    queue: Mutex<Option<mpsc::Sender<Waiting<C>>>>,
    ended: watch::Receiver<()>,
}

impl<C: Command> Batcher<C> {
    pub(super) fn start(pool: Shared, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (running, ended) = watch::channel(());
        tasks.spawn(async move {
            work(pool, waiting).await;
            drop(running);
        });
        Self { queue: Mutex::new(Some(queue)), ended }
    }

    pub(super) async fn run(&self, command: C) -> Result<C::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.try_send(Waiting { command, reply }).map_err(|_| "its queue is full"),
            None => Err("it is closed"),
        };
        sent.map_err(|why| StoreError::Unavailable(why.into()))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("its writer has stopped".into())))
    }

    /// Takes no more; what is queued is still done.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until everything that was queued is done.
    pub(super) async fn ended(&self) {
        // Its sender is dropped when the task ends; nothing is ever sent.
        let _ = self.ended.clone().changed().await;
    }
}

async fn work<C: Command>(pool: Shared, mut queue: mpsc::Receiver<Waiting<C>>) {
    let (mut held, mut touched) = (VecDeque::new(), HashSet::new());
    let mut under_way = FuturesUnordered::new();
    let mut is_open = true;
    loop {
        while held.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            held.push_back(next);
        }
        let has_room = under_way.len() < C::AT_ONCE;
        if has_room && (under_way.is_empty() || held.len() >= WORTH_ANOTHER) {
            // The second about the same thing waits for the first one's end, and so sees what that did.
            let (batch, later): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|waiting| touched.insert(waiting.command.about()));
            held = later.into();
            if !batch.is_empty() {
                let about: Vec<_> = batch.iter().map(|waiting| waiting.command.about()).collect();
                let serving = serve(&pool, batch);
                under_way.push(async move {
                    serving.await;
                    about
                });
                continue;
            }
        }
        tokio::select! {
            Some(about) = under_way.next() => about.iter().for_each(|it| {
                touched.remove(it);
            }),
            next = queue.recv(), if is_open && has_room && held.len() < BATCH => match next {
                Some(next) => held.push_back(next),
                None => is_open = false,
            },
            else => return,
        }
    }
}

async fn serve<C: Command>(pool: &Shared, batch: Vec<Waiting<C>>) {
    let (commands, replies): (Vec<C>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.command, waiting.reply)).unzip();
    let mut failure = match C::run(pool, &commands).await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Nobody listens when the caller has gone away; what was done stays done.
                let _ = reply.send(Ok(answer));
            }
            return;
        }
        Err(error) => error,
    };
    let many = commands.len() > 1;
    for (command, reply) in commands.iter().zip(replies) {
        // Once the server is gone there is no use in asking it for each.
        if many && refused(&failure) {
            match C::run(pool, std::slice::from_ref(command)).await {
                Ok(mut answer) => {
                    let answer =
                        answer.pop().ok_or_else(|| StoreError::Corrupt("nothing was made".to_owned()));
                    let _ = reply.send(answer);
                }
                Err(error) => {
                    let _ = reply.send(Err(again(&error)));
                    failure = error;
                }
            }
        } else {
            let _ = reply.send(Err(again(&failure)));
        }
    }
}

/// The same failure for another caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(what) => StoreError::Corrupt(what.clone()),
        other => StoreError::Unavailable(crate::report::Chain(other).to_string().into()),
    }
}
