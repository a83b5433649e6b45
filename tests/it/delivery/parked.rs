//! A destination whose credentials or settings are wrong, and its way back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lead_intake::clock::Clock;
use lead_intake::delivery::{DeliveryError, Receipt, State};
use lead_intake::destination::{Destination, Parcel, Start};
use lead_intake::dispatch::gate::Condition;
use lead_intake::store::DeliveryRecord;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::destinations::{Closing, Told};
use super::{accepted, failing, house, house_of, house_probing};
use crate::support::soon;

#[tokio::test]
async fn a_blocked_destination_is_parked_and_costs_no_lead_its_budget() {
    let blocked = (0..6).map(|_| DeliveryError::blocked("http_401", "Wrong token."));
    let failures = blocked.chain((0..3).map(|_| DeliveryError::transient("http_503", "Busy.")));
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state != State::Pending).await;
    assert_eq!((delivery.state, delivery.history.len()), (State::Delivered, 10), "all three waits were left");
    assert_eq!(house.lane.condition(), Condition::Ok);
}

#[tokio::test]
async fn a_parked_destination_gets_no_new_lead() {
    let blocked = failing([DeliveryError::blocked("http_401", "Wrong token.")]);
    let house = house_probing(blocked, Start::Inline, false, Duration::from_secs(3_600));
    let first = accepted(house.submit(None, true).await);
    assert_eq!((house.delivery(first).await.history.len(), house.lane.condition()), (1, Condition::Parked));
    let second = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(second).await.attempts, 0, "it waits for a probe to go in");
}

/// Refuses us, lets a probe in, and keeps whoever comes then.
#[derive(Default)]
struct Mended {
    asked: AtomicUsize,
    keeps: Notify,
}

#[async_trait]
impl Destination for Mended {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => Err(DeliveryError::blocked("http_401", "Wrong token.")),
            1 => Ok(Receipt::of("probed")),
            _ => {
                self.keeps.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_destination_that_works_again_gets_new_leads_one_by_one() {
    let mended = Arc::new(Mended::default());
    let probe = Duration::from_millis(1);
    let house = house_of(Arc::<Mended>::clone(&mended), Start::Background, false, probe, Clock::system());
    let first = accepted(house.submit(None, true).await);
    house.until(first, |it| it.state == State::Delivered).await;
    accepted(house.submit(None, true).await);
    soon(mended.keeps.notified()).await;
    let third = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(third).await.attempts, 0, "four could be under way, had it never been parked");
}

#[tokio::test]
async fn what_a_lane_claimed_ahead_goes_back_unsent_when_its_destination_parks() {
    let closing = Arc::new(Closing { open: CancellationToken::new(), takes: 60, asked: AtomicUsize::new(0) });
    let destination: Arc<dyn Destination> = Arc::<Closing>::clone(&closing);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(accepted(house.submit(None, true).await));
    }
    closing.open.cancel();
    soon(async {
        while house.lane.condition() != Condition::Parked {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut taken, mut refused) = (0, 0);
    for id in ids {
        // A claim that is not begun is a delivery that is due far away and has no history.
        let at_rest = |delivery: &DeliveryRecord| {
            let due_in = delivery.due_at.map(|due| lead_intake::clock::until(Clock::system().now(), due));
            delivery.state == State::Delivered
                || due_in.is_some_and(|due_in| due_in < Duration::from_secs(30))
        };
        let delivery = house.until(id, at_rest).await;
        taken += usize::from(delivery.state == State::Delivered);
        refused += delivery.history.iter().filter(|attempt| attempt.code == "http_401").count();
        let began = delivery.history.len();
        assert!(began <= 1 && (began == 1 || delivery.attempts <= 1), "{delivery:?}");
    }
    assert_eq!((taken, house.lane.condition()), (60, Condition::Parked));
    // Those that were under way, and no more: four permits, and the one that said no first.
    assert!((1..=4).contains(&refused), "{refused} leads were sent to a destination that does not know us");
}

#[tokio::test]
async fn a_poison_lead_dies_alone() {
    let house = house(Told { poison: Some(Mutex::default()), ..Told::default() }, Start::Background, false);
    let poison = accepted(house.submit(None, true).await);
    house.until(poison, |delivery| !delivery.history.is_empty()).await;
    let other = accepted(house.submit(None, true).await);
    house.until(other, |delivery| delivery.state == State::Delivered).await;
    let dead = house.until(poison, |delivery| delivery.state != State::Pending).await;
    assert_eq!(dead.state, State::Dead);
    assert!(dead.history.last().unwrap().detail.ends_with("it is this lead that is refused."), "{dead:?}");
    assert_eq!(house.lane.condition(), Condition::Ok);
}

/// Lets the first lead in, when it is told to; nobody else, as a token that is revoked meanwhile.
#[derive(Default)]
struct Revoked {
    asked: AtomicUsize,
    comes: Notify,
    let_in: Notify,
}

#[async_trait]
impl Destination for Revoked {
    async fn deliver(&self, _: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            self.comes.notify_one();
            self.let_in.notified().await;
            return Ok(Receipt::of("late"));
        }
        Err(DeliveryError::blocked("http_401", "Wrong token."))
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_lead_that_goes_in_late_opens_nothing_and_kills_nobody() {
    let revoked = Arc::new(Revoked::default());
    let probe = Duration::from_millis(1);
    let house = house_of(Arc::<Revoked>::clone(&revoked), Start::Background, false, probe, Clock::system());
    let late = accepted(house.submit(None, true).await);
    soon(revoked.comes.notified()).await;
    let refused = accepted(house.submit(None, true).await);
    house.until(refused, |it| !it.history.is_empty()).await;
    assert_eq!(house.lane.condition(), Condition::Parked);
    revoked.let_in.notify_one();
    house.until(late, |it| it.state == State::Delivered).await;
    let tried = house.delivery(refused).await.history.len();
    let probed = house.until(refused, |it| it.history.len() > tried + 2).await;
    assert_eq!((probed.state, house.lane.condition()), (State::Pending, Condition::Parked));
}
