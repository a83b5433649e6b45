//! Attempts that fail, and what follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lead_intake::clock::Clock;
use lead_intake::delivery::{DeliveryError, State};
use lead_intake::destination::{LaneSettings, Start};
use lead_intake::intake::Patience;

use super::destinations::Told;
use super::{DEADLINE, accepted, failing, house, house_set};

#[tokio::test]
async fn failures_are_retried_and_every_attempt_is_kept() {
    let failures =
        [DeliveryError::transient("http_503", "Busy."), DeliveryError::unknown("timeout", "No answer.")];
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Delivered).await;
    let codes: Vec<_> = delivery.history.iter().map(|attempt| attempt.code.as_str()).collect();
    assert_eq!(codes, ["http_503", "timeout", "ok"]);
}

#[tokio::test]
async fn a_schedule_that_is_used_up_ends_as_a_dead_letter_and_a_replay_brings_it_home() {
    let failures = (0..4).map(|_| DeliveryError::transient("http_500", "Broken."));
    let house = house(failing(failures), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert_eq!(delivery.history.len(), 4);
    assert_eq!(house.store.replay(&[delivery.id]).await.unwrap(), 1);
    house.lane.wake();
    house.until(id, |delivery| delivery.state == State::Delivered).await;
}

#[tokio::test]
async fn a_rejected_lead_is_a_dead_letter_at_once() {
    let house = house(failing([DeliveryError::rejected("http_422", "No.")]), Start::Background, false);
    let id = accepted(house.submit(None, true).await);
    assert_eq!(house.until(id, |delivery| delivery.state == State::Dead).await.history.len(), 1);
}

#[tokio::test]
async fn a_panic_is_an_unknown_outcome_and_harms_nobody_else() {
    let house = house(Told { panics: true, ..Told::default() }, Start::Inline, false);
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert!(delivery.history.iter().all(|attempt| attempt.code == "panic"));
}

#[tokio::test]
async fn what_failed_together_does_not_return_together() {
    let failures = (0..8).map(|_| DeliveryError::transient("http_503", "Busy."));
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_secs(10) };
    let house = house_set(Arc::new(failing(failures)), Clock::system(), patience, |lane| LaneSettings {
        retry: vec![Duration::from_secs(3_600)],
        ..lane
    });
    let mut waits = BTreeSet::new();
    for _ in 0..8 {
        let id = accepted(house.submit(None, true).await);
        let failed = house.until(id, |delivery| delivery.history.len() == 1).await;
        let wait = lead_intake::clock::until(failed.history[0].finished_at, failed.due_at.unwrap());
        waits.insert(wait.as_secs());
    }
    // A fifth to either side is 24 minutes; by chance they are not all within one.
    assert!(waits.last().unwrap() - waits.first().unwrap() > 60, "{waits:?}");
}

#[tokio::test]
async fn an_attempt_that_does_not_come_back_in_its_time_is_given_up() {
    let patience = Patience { deadline: DEADLINE, commit: Duration::from_secs(10) };
    let told = Told { falls_silent: true, ..Told::default() };
    let house = house_set(Arc::new(told), Clock::system(), patience, |lane| LaneSettings {
        timeout: Duration::from_millis(10),
        retry: Vec::new(),
        ..lane
    });
    let id = accepted(house.submit(None, true).await);
    let delivery = house.until(id, |delivery| delivery.state == State::Dead).await;
    assert_eq!(delivery.history[0].code, "overrun");
}
