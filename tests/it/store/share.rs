//! What the processes that share a store know together.

use lead_intake::delivery::DeliveryError;
use lead_intake::delivery::retry::RetryPolicy;
use lead_intake::delivery::standing::{LONGEST_PACE, Pace, Signal, Standing, TURN_SLACK, Turn, Turned};
use lead_intake::destination::Commons;
use lead_intake::destination::commons::Guest;
use lead_intake::dispatch::commons::Shared;
use lead_intake::id::{DestinationName, ProcessId};
use lead_intake::store::Settled;

use tokio_util::task::TaskTracker;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Engine {
    async fn lane(&self, limit: usize) -> (Vec<Claim>, Standing) {
        let request =
            ClaimRequest { destination: "crm".parse().unwrap(), limit, lease: 20 * REST, rest: REST };
        let claimed = self.store.claim_due(request).await.unwrap();
        (claimed.claims, claimed.standing)
    }

    /// The claim was blocked, or not; what the gate of this process made of it.
    async fn ends(&self, claim: Claim, signal: Option<Signal>) -> Settled {
        let blocked = Err(DeliveryError::blocked("http_401", ""));
        let settlement = RetryPolicy::new(Vec::new()).settle(0, &blocked, 0.5);
        let attempt = Attempt { number: claim.attempt, outcome: AttemptOutcome::Blocked, ..lost(1) };
        self.store.settle(Settle { claim, attempt, settlement, signal }).await.unwrap()
    }
}

pub(super) async fn a_parked_destination_gives_one_probe_at_a_time_and_ever_more_rarely(engine: Engine) {
    for _ in 0..4 {
        engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    }
    let (mut claims, standing) = engine.lane(1).await;
    assert_eq!(standing, Standing::default());
    let refused = Some(Signal::Refused { rest: REST });
    assert_eq!(engine.ends(claims.remove(0), refused).await.turned, Some(Turned::Parked));
    let mut probed = Vec::new();
    for rests in [1, 2, 4, 8, 16, 16] {
        let (claims, standing) = engine.lane(10).await;
        assert_eq!((claims.len(), standing.probe_in), (0, Some(rests * REST)));
        engine.clock.advance(rests * REST - SECOND);
        assert!(engine.lane(10).await.0.is_empty());
        engine.clock.advance(SECOND);
        assert!(engine.lane(0).await.0.is_empty(), "who only looks takes no probe");
        let (mut claims, standing) = engine.lane(10).await;
        assert_eq!(claims.len(), 1, "one probe, however much is due");
        assert!(standing.probe_in > Some(Duration::ZERO), "the next one is further away already");
        assert!(engine.lane(10).await.0.is_empty(), "another process gets none");
        probed.push(claims[0].delivery.lead);
        assert_eq!(engine.ends(claims.remove(0), None).await.turned, None);
    }
    probed.truncate(4);
    probed.sort();
    probed.dedup();
    assert_eq!(probed.len(), 4, "the probes go round");

    engine.store.probe_now(&"crm".parse().unwrap()).await.unwrap();
    assert_eq!(engine.lane(10).await.0.len(), 1, "a person has mended it");
    assert_eq!(engine.lane(10).await.1.probe_in, Some(2 * REST), "and the rests begin anew");
    let crm: DestinationName = "crm".parse().unwrap();
    engine.store.replay(&[DeliveryId { lead: LeadId::fresh(), destination: crm.clone() }]).await.unwrap();
    assert_eq!(engine.lane(10).await.0.len(), 1, "so has one who replays");
    engine.store.signal(&crm, Signal::Works).await.unwrap();
    let (claims, standing) = engine.lane(10).await;
    assert_eq!((claims.len(), standing.probe_in), (2, None));
    assert_eq!(standing.recovered_at, Some(engine.clock.now()));
}

pub(super) async fn a_parked_destination_is_probed_by_what_a_clock_that_lied_put_too_far_away(
    engine: Engine,
) {
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    let crm: DestinationName = "crm".parse().unwrap();
    let far = ClaimRequest { destination: crm.clone(), limit: 1, lease: 30 * 60 * 60 * SECOND, rest: REST };
    assert_eq!(engine.store.claim_due(far).await.unwrap().claims.len(), 1);
    engine.store.signal(&crm, Signal::Refused { rest: REST }).await.unwrap();
    assert!(engine.lane(10).await.0.is_empty());
    engine.clock.advance(REST);
    assert_eq!(engine.lane(10).await.0.len(), 1);
}

pub(super) async fn a_destination_is_turned_by_one_signal_and_every_process_learns_of_it(engine: Engine) {
    for _ in 0..4 {
        engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    }
    let (claims, _) = engine.lane(4).await;
    let other = engine.home.open(&engine.clock).await;
    let mut turned = Vec::new();
    for (claim, signal) in claims.into_iter().zip([
        Signal::Refused { rest: REST },
        Signal::Refused { rest: REST },
        Signal::Works,
        Signal::Works,
    ]) {
        turned.push(engine.ends(claim, Some(signal)).await.turned);
    }
    assert_eq!(turned, [Some(Turned::Parked), None, Some(Turned::Recovered), None]);
    other.signal(&"crm".parse().unwrap(), Signal::Refused { rest: REST }).await.unwrap();
    assert_eq!(engine.lane(1).await.1.probe_in, Some(REST));
}

pub(super) async fn a_pause_holds_every_claim_until_it_is_over(engine: Engine) {
    let crm = "crm".parse().unwrap();
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    engine.store.signal(&crm, Signal::Holds(30 * SECOND)).await.unwrap();
    engine.store.signal(&crm, Signal::Holds(10 * SECOND)).await.unwrap();
    let (claims, standing) = engine.lane(5).await;
    assert_eq!((claims.len(), standing.held_for), (0, Some(30 * SECOND)), "the longer pause holds");
    engine.clock.advance(30 * SECOND);
    let (claims, standing) = engine.lane(5).await;
    assert_eq!((claims.len(), standing.held_for), (1, None));
    // A clock that lied.
    engine.store.signal(&crm, Signal::Holds(26 * 60 * 60 * SECOND)).await.unwrap();
    engine.store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    assert_eq!(engine.lane(5).await.0.len(), 1);
}

pub(super) async fn a_turn_is_had_by_one_process_until_it_ends(engine: Engine) {
    let turn = |holder: &str, number| Turn { name: "sheet".to_owned(), holder: holder.to_owned(), number };
    let take =
        async |holder: &str, number| engine.store.take_turn(&turn(holder, number), REST).await.unwrap();
    let end = async |holder: &str, number| engine.store.end_turn(&turn(holder, number)).await.unwrap();
    assert!(take("a", 1).await && !take("b", 1).await);
    assert!(take("a", 2).await, "who has it can take it again");
    end("a", 1).await;
    assert!(!take("b", 1).await, "the end of an earlier turn ends no later one");
    end("b", 2).await;
    assert!(!take("b", 1).await, "nobody ends another's");
    end("a", 2).await;
    assert!(take("b", 1).await);
    engine.clock.advance(REST - SECOND);
    assert!(!take("a", 3).await);
    assert!(take("b", 1).await, "and can lengthen it");
    engine.clock.advance(REST - SECOND);
    assert!(!take("a", 3).await);
    engine.clock.advance(SECOND);
    assert!(take("a", 3).await, "it is over");
    assert!(!take("b", 1).await, "for who had it, too");
    let lied = REST + TURN_SLACK + SECOND;
    assert!(engine.store.take_turn(&turn("a", 3), lied).await.unwrap() && take("b", 1).await);
}

pub(super) async fn who_asks_for_a_place_again_has_one_and_not_two(engine: Engine) {
    let shared = Shared::new(Arc::clone(&engine.store), ProcessId::fresh(), TaskTracker::new());
    let take = async |name: &str, comes_again| {
        shared.take_place("ada", 3, Guest { name, comes_again }, REST).await.unwrap()
    };
    assert!(take("a", false).await && take("b", false).await && take("c", false).await);
    assert!(!take("d", false).await, "there are three");
    shared.leave_place("ada", 3, "a").await;
    assert!(take("b", true).await, "the first place is free now, and so it moves");
    assert!(take("d", false).await, "into the one that it has left");
    assert!(
        !take("e", false).await && take("c", true).await && take("d", true).await && take("b", true).await
    );
    // The day of the first ends before that of the last.
    engine.clock.advance(REST - SECOND);
    assert!(take("d", true).await);
    engine.clock.advance(SECOND);
    assert!(take("d", true).await && take("e", false).await && take("f", false).await);
    assert!(!take("g", false).await);
}

pub(super) async fn calls_are_paced_together_and_a_rest_is_kept(engine: Engine) {
    let pace = Pace { every: 2 * SECOND, burst: 3 };
    let book = async |patience| engine.store.pace("writes", pace, patience).await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..5 {
        waits.push(book(100 * SECOND).await.unwrap().as_secs());
    }
    assert_eq!(waits, [0, 0, 0, 2, 4], "a burst, and then one after the other");
    assert_eq!(book(5 * SECOND).await, None);
    assert_eq!(book(6 * SECOND).await, Some(6 * SECOND), "what was refused was not booked");
    assert_eq!(engine.store.pace("reads", pace, Duration::ZERO).await.unwrap(), Some(Duration::ZERO));
    engine.clock.advance(100 * SECOND);
    assert_eq!(book(Duration::ZERO).await, Some(Duration::ZERO));
    engine.store.rest("writes", pace, 30 * SECOND).await.unwrap();
    assert_eq!(book(29 * SECOND).await, None);
    assert_eq!(book(30 * SECOND).await, Some(30 * SECOND));
    assert_eq!(book(40 * SECOND).await, Some(32 * SECOND), "no burst after a rest");
    // A clock that lied: nothing is booked so far ahead.
    engine.clock.advance(LONGEST_PACE);
    engine.store.rest("writes", Pace { every: 60 * SECOND, burst: 6 }, 4 * LONGEST_PACE).await.unwrap();
    assert_eq!(book(Duration::ZERO).await, Some(Duration::ZERO));
}
