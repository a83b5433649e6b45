//! Destinations that do as they are told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lead_intake::delivery::{DeliveryError, Receipt};
use lead_intake::destination::{Destination, Parcel};
use lead_intake::id::LeadId;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(super) type Answers = VecDeque<Result<Receipt, DeliveryError>>;

/// Gives the planned answers, then says yes. A hanging one waits until it is let go.
#[derive(Default)]
pub(super) struct Told {
    pub(super) answers: Mutex<Answers>,
    pub(super) hang: Option<Arc<Notify>>,
    /// Told when one hangs.
    pub(super) hangs: Arc<Notify>,
    pub(super) panics: bool,
    /// After the planned answers nothing comes any more.
    pub(super) falls_silent: bool,
    /// The first lead that comes is refused ever after, as if we were not known.
    pub(super) poison: Option<Mutex<Option<LeadId>>>,
}

#[async_trait]
impl Destination for Told {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        if let Some(hang) = &self.hang {
            parcel.handoff.queue();
            self.hangs.notify_one();
            hang.notified().await;
        }
        assert!(!self.panics, "told to");
        if let Some(first) = &self.poison
            && *first.lock().unwrap().get_or_insert(parcel.lead.id) == parcel.lead.id
        {
            return Err(DeliveryError::blocked("http_403", "No."));
        }
        let answer = self.answers.lock().unwrap().pop_front();
        if answer.is_none() && self.falls_silent {
            std::future::pending::<()>().await;
        }
        answer.unwrap_or_else(|| Ok(Receipt::of(format!("try {}", parcel.attempt))))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// Takes leads once it is open, and after so many none any more: we are not known.
pub(super) struct Closing {
    pub(super) open: CancellationToken,
    pub(super) takes: usize,
    pub(super) asked: AtomicUsize,
}

#[async_trait]
impl Destination for Closing {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.open.cancelled().await;
        if self.asked.fetch_add(1, Ordering::SeqCst) < self.takes {
            return Ok(Receipt::of("taken"));
        }
        Err(DeliveryError::blocked("http_401", "Wrong token."))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// Keeps every lead until it is let go; remembers who came, and how many were there at once.
pub(super) struct Slow {
    pub(super) let_go: Semaphore,
    pub(super) seen: watch::Sender<Crowd>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    pub(super) came: Vec<LeadId>,
    pub(super) here: usize,
    pub(super) most: usize,
}

#[async_trait]
impl Destination for Slow {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        self.seen.send_modify(|crowd| {
            crowd.came.push(parcel.lead.id);
            crowd.here += 1;
            crowd.most = crowd.most.max(crowd.here);
        });
        self.let_go.acquire().await.unwrap().forget();
        self.seen.send_modify(|crowd| crowd.here -= 1);
        Ok(Receipt::of("taken"))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}
