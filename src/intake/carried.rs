//! The work on a lead and the answer that it owes: whoever asked does it, and it goes on when they go away.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::{Answer, RETRY_AFTER};

/// Who waits for the answer, until it is given once.
pub(super) struct Reply {
    to: Option<oneshot::Sender<Answer>>,
    pub(super) deadline: Instant,
}

impl Reply {
    pub(super) fn is_given(&self) -> bool {
        self.to.is_none()
    }

    pub(super) fn give(&mut self, answer: Answer) {
        if let Some(to) = self.to.take() {
            // Nobody listens when the client has hung up; that changes nothing.
            let _ = to.send(answer);
        }
    }
}

/// The work on a lead, done by whoever waits for the answer: a task of its own would cost every submit a
/// way to another thread and back. What is left of it once the answer is given, or when the caller goes away,
/// goes on without them.
pub(super) struct Carried {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answer: oneshot::Receiver<Answer>,
    tracker: TaskTracker,
}

impl Carried {
    /// The work that `begin` makes of the reply it is to give.
    pub(super) fn new<W>(deadline: Instant, tracker: TaskTracker, begin: impl FnOnce(Reply) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (to, answer) = oneshot::channel();
        let work = Box::pin(begin(Reply { to: Some(to), deadline }));
        Self { work: Some(work), answer, tracker }
    }
}

impl Future for Carried {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        // Taken out first: work that panics is not gone on with.
        if let Some(mut work) = self.work.take()
            && work.as_mut().poll(context).is_pending()
        {
            self.work = Some(work);
        }
        match self.answer.try_recv() {
            Ok(answer) => Poll::Ready(answer),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Closed) => {
                error!("a submit failed; this is a fault of ours");
                Poll::Ready(Answer::Unavailable { retry_after: RETRY_AFTER })
            }
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tracker.spawn_on(work, &runtime);
        }
    }
}
