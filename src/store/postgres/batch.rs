//! Neighbours share a transaction: a task takes whatever is waiting, does all of it with one statement and commits
//! once.
//!
//! A command that the server refuses never fails its neighbours: each is done again alone. A caller that goes away
//! changes nothing: the command is done all the same.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::pool::{Shared, refused};
use crate::store::StoreError;

/// The most commands in one transaction.
const BATCH: usize = 512;

/// The most commands that wait; beyond it the store says that it cannot.
const QUEUE: usize = 65_536;

/// What can be done for many at once.
pub(super) trait Command: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;
    /// What it is about. No statement touches the same thing twice.
    fn about(&self) -> String;
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
    let mut held = VecDeque::new();
    loop {
        if held.is_empty() {
            let Some(first) = queue.recv().await else { return };
            held.push_back(first);
        }
        while held.len() < BATCH {
            let Ok(next) = queue.try_recv() else { break };
            held.push_back(next);
        }
        let mut about = HashSet::new();
        // The second about the same thing waits for the next turn, and so sees what the first did.
        let (batch, later): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|waiting| about.insert(waiting.command.about()));
        held = later.into();
        serve(&pool, batch).await;
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
