//! The work on a lead and the answer that it owes: whoever asked does it, and it goes on when they go away.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
        // Work that panics is not gone on with; it took the reply along, unless that had been given before. The lead
        // may be stored by then or not: whoever comes back with the same key finds out.
        if let Some(mut work) = self.work.take()
            && let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeadId;

    async fn answer<W: Future<Output = ()> + Send + 'static>(work: impl FnOnce(Reply) -> W) -> Answer {
        let tracker = TaskTracker::new();
        let answer = Carried::new(Instant::now(), tracker.clone(), work).await;
        assert!(tracker.is_empty(), "nothing of it goes on");
        answer
    }

    #[tokio::test]
    async fn work_that_panics_before_its_answer_is_503_and_not_gone_on_with() {
        let unavailable = Answer::Unavailable { retry_after: RETRY_AFTER };
        let at_once = answer(|reply| async move {
            assert!(reply.is_given(), "told to");
        });
        assert_eq!(at_once.await, unavailable);
        let later = answer(|reply| async move {
            tokio::task::yield_now().await;
            assert!(reply.is_given(), "told to");
        });
        assert_eq!(later.await, unavailable);
    }

    #[tokio::test]
    async fn work_that_panics_after_its_answer_changes_nothing_about_that() {
        let id = LeadId::fresh();
        let answered = answer(|mut reply| async move {
            reply.give(Answer::Accepted(id));
            assert!(!reply.is_given(), "told to");
        });
        assert_eq!(answered.await, Answer::Accepted(id));
    }

    #[tokio::test]
    async fn work_that_ends_without_an_answer_is_503() {
        let silent = answer(|reply| async move { drop(reply) });
        assert_eq!(silent.await, Answer::Unavailable { retry_after: RETRY_AFTER });
    }
}
