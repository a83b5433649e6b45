//! What a submit waits for, and what becomes of it.

use std::sync::Arc;

use futures_util::FutureExt;
use lead_intake::delivery::{DeliveryError, Receipt, State};
use lead_intake::destination::Start;
use lead_intake::dispatch::gate::Condition;
use lead_intake::id::LeadId;
use lead_intake::intake::Answer;
use tokio::sync::Notify;

use super::destinations::Told;
use super::{DEADLINE, accepted, failing, house};

#[tokio::test]
async fn an_inline_lead_is_delivered_when_the_answer_comes() {
    let house = house(Told::default(), Start::Inline, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.delivery(id).await;
    assert_eq!((delivery.state, delivery.receipt), (State::Delivered, Some(Receipt::of("try 1"))));
}

#[tokio::test]
async fn a_form_never_waits_for_a_background_destination() {
    let hang = Arc::new(Notify::new());
    let told = Told { hang: Some(Arc::clone(&hang)), ..Told::default() };
    let house = house(told, Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    assert_eq!(house.delivery(id).await.state, State::Pending);
    hang.notify_one();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_commit_changes_nothing() {
    let house = house(Told::default(), Start::Background, false);
    let mut submit = Box::pin(house.submit(Some("once"), true));
    assert!(submit.as_mut().now_or_never().is_none(), "the store has not answered yet");
    drop(submit);
    let id = LeadId::of_key(&"contact".parse().unwrap(), &"once".parse().unwrap());
    while house.store.lead(id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    // Its first attempt is made now, not when its lease has ended.
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    assert_eq!(delivery.receipt, Some(Receipt::of("try 1")));
}

#[tokio::test]
async fn a_form_does_not_wait_for_a_destination_that_keeps_failing() {
    let failures = (0..3).map(|_| DeliveryError::transient("http_503", "Busy."));
    let house = house(Told { falls_silent: true, ..failing(failures) }, Start::Inline, false);
    let first = accepted(house.submit(None, true).await);
    house.until(first, |delivery| delivery.history.len() == 3).await;
    assert_eq!(house.lane.condition(), Condition::Failing);
    let answer = tokio::time::timeout(DEADLINE / 2, house.submit(None, true)).await;
    let second = accepted(answer.expect("it would have been answered at the deadline"));
    assert_eq!(house.delivery(second).await.state, State::Pending);
}

#[tokio::test]
async fn without_consent_it_is_withheld() {
    let house = house(Told::default(), Start::Background, true);
    let id = accepted(house.submit(None, false).await);
    let delivery = house.delivery(id).await;
    assert_eq!((delivery.state, delivery.attempts), (State::Withheld, 0));
}

#[tokio::test]
async fn a_repeat_gets_the_first_id_and_sends_nothing_again() {
    let house = house(Told::default(), Start::Inline, false);
    let first = accepted(house.submit(Some("k"), true).await);
    assert_eq!(house.submit(Some("k"), true).await, Answer::Repeat(first));
    assert_eq!(house.submit(Some("k"), false).await, Answer::Conflict);
    assert_eq!(house.delivery(first).await.history.len(), 1);
}
