//! The one thread that writes. It takes whatever is waiting, does all of it in one transaction and
//! commits once, so that neighbours share the wait for the disk.
//!
//! What the clock says is read in the transaction, once for all of it: no command is done with a time that a clock
//! said before it was put right.
//!
//! A command that fails never fails its neighbours: the transaction is rolled back and each is done
//! again alone. A caller that goes away changes nothing: the command is done all the same.

use std::cell::{RefCell, RefMut};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::accept::Inserts;
use super::failed;
use super::tide::Tide;
use crate::clock::Clock;
use crate::store::StoreError;

/// The most commands in one transaction.
const BATCH: usize = 512;

/// From so many on, a transaction waits for neighbours that are on their way: it costs a sync and ten pages, whoever is in
/// it. Fewer never wait.
const COMPANY: usize = 4;

/// For so many it waits.
const ENOUGH: usize = 128;

/// How long at a time, as long as somebody comes.
const MOMENT: Duration = Duration::from_micros(200);

/// How often at most: where a sync takes longer than that, enough come meanwhile.
const MOMENTS: usize = 5;

/// The most commands that wait; beyond it the store says that it cannot.
const QUEUE: usize = 65_536;

/// What a transaction is done with: the connection, and what every lead needs at hand.
pub(super) struct Hand<'c> {
    db: &'c Connection,
    inserts: RefCell<Inserts<'c>>,
}

impl<'c> Hand<'c> {
    pub(super) fn of(db: &'c Connection) -> Self {
        Self { db, inserts: RefCell::new(Inserts::new(db)) }
    }

    /// The statements of an accept. One at a time has them.
    pub(super) fn inserts(&self) -> RefMut<'_, Inserts<'c>> {
        self.inserts.borrow_mut()
    }
}

impl Deref for Hand<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.db
    }
}

/// What runs inside a transaction.
trait Command: Send {
    fn run(&mut self, hand: &Hand<'_>, now: i64) -> Result<(), StoreError>;
    fn answer(&mut self, end: Result<(), StoreError>);
}

struct Work<T, F> {
    work: F,
    made: Option<T>,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T: Send, F: FnMut(&Hand<'_>, i64) -> Result<T, StoreError> + Send> Command for Work<T, F> {
    fn run(&mut self, hand: &Hand<'_>, now: i64) -> Result<(), StoreError> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.work)(hand, now)));
        self.made = Some(made.map_err(|_| StoreError::Corrupt("a statement panicked".to_owned()))??);
        Ok(())
    }

    fn answer(&mut self, end: Result<(), StoreError>) {
        let made = self.made.take();
        let answer =
            end.and_then(|()| made.ok_or_else(|| StoreError::Corrupt("nothing was made".to_owned())));
        if let Some(reply) = self.reply.take() {
            // Nobody listens when the caller has gone away; what was done stays done.
            let _ = reply.send(answer);
        }
    }
}

/// The way to the writing thread.
pub(super) struct Writer {
    queue: std::sync::Mutex<Option<SyncSender<Box<dyn Command>>>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread on its connection. To be called in a runtime, where the answers are given.
    pub(super) fn start(db: Connection, clock: Clock) -> Result<Self, StoreError> {
        let (queue, commands) = sync_channel(QUEUE);
        let runtime = Handle::current();
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write(&db, &commands, &runtime, &mut Tide::new(clock)))
            .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(Self { queue: std::sync::Mutex::new(Some(queue)), thread: std::sync::Mutex::new(Some(thread)) })
    }

    /// Does `work` in a transaction and returns once it is on the disk. `work` is given the time, in milliseconds
    /// since 1970. It may run twice; only the last run counts.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&Hand<'_>, i64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Work { work, made: None, reply: Some(reply) });
        let sent = match &*self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(queue) => queue.try_send(command).map_err(|error| match error {
                TrySendError::Full(_) => "its queue is full",
                TrySendError::Disconnected(_) => "its writer has stopped",
            }),
            None => Err("it is closed"),
        };
        sent.map_err(|why| StoreError::Unavailable(why.into()))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("its writer has stopped".into())))
    }

    /// Finishes what is queued and ends the thread. Blocks.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn write(db: &Connection, commands: &Receiver<Box<dyn Command>>, runtime: &Handle, tide: &mut Tide) {
    let hand = Hand::of(db);
    while let Some(mut batch) = gather(commands, || std::thread::sleep(MOMENT)) {
        let together = transact(&hand, tide, &mut batch);
        if together.is_ok() || batch.len() == 1 {
            give(runtime, batch, vec![together]);
            continue;
        }
        let mut alone = |command| transact(&hand, tide, std::slice::from_mut(command));
        let ends = batch.iter_mut().map(&mut alone).collect();
        give(runtime, batch, ends);
    }
    // The log is folded into the file; what cannot be folded now is at the next start.
    let _ = db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

/// Whatever waits, and when that is some, who comes while it `rests`. `None` when nobody can come any more.
fn gather<C>(commands: &Receiver<C>, rests: impl Fn()) -> Option<Vec<C>> {
    let mut batch = vec![commands.recv().ok()?];
    for rested in 0..=MOMENTS {
        let before = batch.len();
        batch.extend(commands.try_iter().take(BATCH - before));
        let is_worth_it = (COMPANY..ENOUGH).contains(&batch.len()) && batch.len() > before;
        if !is_worth_it || rested == MOMENTS {
            break;
        }
        rests();
    }
    Some(batch)
}

/// Answers a batch from within the runtime: waking its tasks one by one from here would cost this thread
/// a lock and a system call each.
fn give(runtime: &Handle, batch: Vec<Box<dyn Command>>, ends: Vec<Result<(), StoreError>>) {
    runtime.spawn(async move {
        let ends = ends.into_iter().chain(std::iter::repeat_with(|| Ok(())));
        for (mut command, end) in batch.into_iter().zip(ends) {
            command.answer(end);
        }
    });
}

fn transact(hand: &Hand<'_>, tide: &mut Tide, batch: &mut [Box<dyn Command>]) -> Result<(), StoreError> {
    // Checked at run time alone, for the statements at hand borrow the connection, too: this is the one place that begins.
    let transaction = Transaction::new_unchecked(hand, TransactionBehavior::Immediate).map_err(failed)?;
    let turned = tide.turn(&transaction)?;
    for command in batch {
        command.run(hand, turned.now)?;
    }
    transaction.commit().map_err(failed)?;
    tide.keep(&turned);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The batches that are made of what waits and of what comes in each rest, and how many rests there were.
    fn gathered(waits: usize, comes: &[usize]) -> (usize, usize) {
        let (queue, commands) = sync_channel(QUEUE);
        let send = |count| (0..count).for_each(|_| queue.send(()).unwrap());
        send(waits);
        let rests = Cell::new(0);
        let batch = gather(&commands, || {
            send(comes.get(rests.get()).copied().unwrap_or_default());
            rests.set(rests.get() + 1);
        });
        (batch.unwrap().len(), rests.get())
    }

    #[test]
    fn a_few_wait_for_nobody_and_many_for_those_on_their_way() {
        assert_eq!(gathered(1, &[5]), (1, 0));
        assert_eq!(gathered(COMPANY - 1, &[5]), (COMPANY - 1, 0));
        assert_eq!(gathered(COMPANY, &[]), (COMPANY, 1), "nobody comes");
        assert_eq!(gathered(COMPANY, &[5, 2, 0, 9]), (COMPANY + 7, 3), "until nobody comes");
        assert_eq!(gathered(ENOUGH, &[5]), (ENOUGH, 0));
        assert_eq!(gathered(ENOUGH - 1, &[5]), (ENOUGH + 4, 1));
        assert_eq!(gathered(COMPANY, &[1; 9]), (COMPANY + MOMENTS, MOMENTS), "and not for long");
        assert_eq!(gathered(BATCH + 1, &[5]), (BATCH, 0));
        let (queue, commands) = sync_channel::<()>(1);
        drop(queue);
        assert!(gather(&commands, || ()).is_none());
    }
}
