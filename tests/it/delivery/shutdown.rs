//! The end: what is unsent goes back, and nothing new begins.

use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::Clock;
use lead_intake::delivery::State;
use lead_intake::destination::{Destination, Start};
use lead_intake::store::DeliveryFilter;
use tokio::sync::{Notify, Semaphore, watch};

use super::destinations::{Slow, Told};
use super::{accepted, claimed_ahead, claimed_for_a_second, house, house_of};
use crate::support::soon;

#[tokio::test]
async fn a_shutdown_takes_back_what_was_not_sent_and_counts_nothing() {
    for waits_for_its_turn in [false, true] {
        let told = Told { hang: Some(Arc::new(Notify::new())), ..Told::default() };
        let hangs = Arc::clone(&told.hangs);
        let house = house(told, Start::Background, false);
        let id = accepted(house.submit(None, true).await);
        if waits_for_its_turn {
            soon(hangs.notified()).await;
        }
        house.stop.cancel();
        house.give_up.cancel();
        house.tracker.close();
        house.tracker.wait().await;
        let delivery = house.delivery(id).await;
        assert_eq!(delivery.state, State::Pending);
        assert!(
            delivery.history.is_empty() && delivery.due_at <= Some(Clock::system().now()),
            "{delivery:?}"
        );
    }
}

#[tokio::test]
async fn an_attempt_that_has_not_begun_when_time_is_up_sends_nothing() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let claim = claimed_for_a_second(&house).await;
    let delivery = claim.delivery.clone();
    house.stop.cancel();
    house.give_up.cancel();
    soon(house.lane.start(claim, ())).await.unwrap();
    assert!(slow.seen.borrow().came.is_empty());
    let found = house.delivery(delivery.lead).await;
    assert!(found.history.is_empty() && found.due_at <= Some(Clock::system().now()), "{found:?}");
}

#[tokio::test]
async fn what_a_lane_claimed_ahead_goes_back_unsent_at_a_shutdown() {
    let (house, slow) = claimed_ahead().await;
    house.stop.cancel();
    slow.let_go.add_permits(100);
    house.tracker.close();
    soon(house.tracker.wait()).await;
    assert_eq!(slow.seen.borrow().came.len(), 6, "those that were under way, and no more");
    for delivery in house.store.deliveries(DeliveryFilter::default()).await.unwrap() {
        let is_back = delivery.history.is_empty() && delivery.due_at <= Some(Clock::system().now());
        assert!(delivery.state == State::Delivered || is_back, "{delivery:?}");
    }
}

#[tokio::test]
async fn a_lead_that_comes_during_a_shutdown_is_stored_and_left_to_the_next_process() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    house.stop.cancel();
    let id = accepted(house.submit(None, true).await);
    house.tracker.close();
    soon(house.tracker.wait()).await;
    let delivery = house.delivery(id).await;
    assert!(delivery.attempts == 0 && delivery.due_at <= Some(Clock::system().now()), "{delivery:?}");
}
