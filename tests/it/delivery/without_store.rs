//! While the store takes nothing, and after that.

use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::Clock;
use lead_intake::delivery::{Receipt, State};
use lead_intake::destination::{Destination, Start};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Patience};
use tokio::sync::{Semaphore, watch};

use super::destinations::{Slow, Told};
use super::{DEADLINE, accepted, house, house_of, house_set, others_run};
use crate::support::soon;

#[tokio::test]
async fn what_an_attempt_brought_is_held_until_the_store_takes_it() {
    let slow = Arc::new(Slow { let_go: Semaphore::new(0), seen: watch::Sender::default() });
    let destination: Arc<dyn Destination> = Arc::<Slow>::clone(&slow);
    let house = house_of(destination, Start::Background, false, Duration::from_secs(3_600), Clock::system());
    let id = accepted(house.submit(None, true).await);
    soon(slow.seen.subscribe().wait_for(|crowd| crowd.here == 1)).await.unwrap();
    let held = house.held();
    slow.let_go.add_permits(1);
    others_run().await;
    assert!(house.store.ready().await.is_err(), "whoever asked before has heard the same");
    drop(held);
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!((delivery.history.len(), slow.seen.borrow().came.len()), (1, 1));
}

#[tokio::test]
async fn a_lane_goes_on_after_a_time_without_a_store() {
    let house = house(Told::default(), Start::Background, false);
    house.store.ready().await.unwrap();
    let held = house.held();
    house.lane.wake();
    others_run().await;
    assert!(house.store.ready().await.is_err(), "whoever asked before has heard the same");
    drop(held);
    let id = house.waiting_lead().await;
    house.lane.wake();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_commit_that_comes_after_the_answer_is_a_lead_like_any_other() {
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_millis(20) };
    let house = house_set(Arc::new(Told::default()), Clock::system(), patience, |lane| lane);
    let id = LeadId::of_key(&"contact".parse().unwrap(), &"late".parse().unwrap());
    soon(async {
        // On a slow day the store gives up before it is let go.
        while house.store.lead(id).await.unwrap().is_none() {
            let held = house.held();
            assert!(matches!(house.submit(Some("late"), true).await, Answer::Unavailable { .. }));
            drop(held);
            let _ = house.store.ready().await;
        }
    })
    .await;
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!(delivery.receipt, Some(Receipt::of("try 1")), "its first attempt is made now");
}
