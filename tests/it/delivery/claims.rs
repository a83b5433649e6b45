//! Claims: whose they are, how long they last, and how many a lane may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lead_intake::clock::{Clock, after};
use lead_intake::delivery::State;
use lead_intake::destination::{Destination, Start};
use lead_intake::intake::Patience;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::destinations::{Closing, Told};
use super::{DEADLINE, accepted, claimed_ahead, claimed_for_a_second, house_of, house_set};
use crate::support::soon;

#[tokio::test]
async fn a_claim_that_would_end_within_its_attempt_is_renewed_before_anything_is_sent() {
    let clock = Clock::manual("2027-01-15T08:00:00Z".parse().unwrap());
    let patience = Patience { deadline: DEADLINE, commit: DEADLINE };
    let (hang, hangs) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = Told { hang: Some(Arc::clone(&hang)), hangs: Arc::clone(&hangs), ..Told::default() };
    let house = house_set(Arc::new(told), clock.clone(), patience, |lane| lane);
    let claim = claimed_for_a_second(&house).await;
    let id = claim.delivery.lead;
    let attempt = house.lane.start(claim, ());
    soon(hangs.notified()).await;
    assert_eq!(house.delivery(id).await.due_at, Some(after(clock.now(), house.lane.lease())));
    hang.notify_one();
    soon(attempt).await.unwrap();
    assert_eq!(house.delivery(id).await.state, State::Delivered);
}

#[tokio::test]
async fn a_claim_that_is_another_s_by_now_sends_nothing() {
    let clock = Clock::manual("2027-01-15T08:00:00Z".parse().unwrap());
    let patience = Patience { deadline: DEADLINE, commit: DEADLINE };
    let house = house_set(Arc::new(Told::default()), clock, patience, |lane| lane);
    let claim = claimed_for_a_second(&house).await;
    let delivery = claim.delivery.clone();
    assert_eq!(house.store.cancel(std::slice::from_ref(&delivery)).await.unwrap(), 1);
    soon(house.lane.start(claim, ())).await.unwrap();
    let found = house.delivery(delivery.lead).await;
    assert_eq!((found.state, found.history.len()), (State::Cancelled, 0));
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_puts_no_second_attempt_beside_the_first() {
    let clock = Clock::manual(Clock::system().now());
    let closing = Arc::new(Closing { open: CancellationToken::new(), takes: 1, asked: AtomicUsize::new(0) });
    let destination: Arc<dyn Destination> = Arc::<Closing>::clone(&closing);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), clock.clone());
    let id = accepted(house.submit(None, true).await);
    house.until(id, |delivery| delivery.attempts == 1).await;
    // Its lease is over, by this clock; its attempt is not.
    clock.advance(Duration::from_secs(3_600));
    house.lane.wake();
    house.until(id, |delivery| delivery.attempts == 2).await;
    closing.open.cancel();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
    house.stop.cancel();
    house.tracker.close();
    house.tracker.wait().await;
    assert_eq!((closing.asked.load(Ordering::SeqCst), house.delivery(id).await.state), (1, State::Delivered));
}

#[tokio::test]
async fn a_backlog_however_large_leaves_a_quarter_of_the_permits_to_new_leads() {
    let (house, slow) = claimed_ahead().await;
    let new = accepted(house.submit(None, true).await);
    soon(slow.seen.subscribe().wait_for(|crowd| crowd.came.contains(&new))).await.unwrap();
    assert_eq!(slow.seen.borrow().came.len(), 7, "nobody had to end before");
}
