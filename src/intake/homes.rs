//! While the store cannot commit: the second home is asked beside it, and whichever takes the lead first answers for it.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::error;

use super::carried::Reply;
use super::fallback::Fallback;
use super::{Answer, Intake, RETRY_AFTER, Start};
use crate::delivery::plan::Verdict;
use crate::delivery::{Claim, Entry, Fault, Outcome};
use crate::dispatch::gate::Condition;
use crate::id::LeadId;
use crate::store::{Accepted, StoreError};

impl Intake {
    /// The store cannot commit, or has not yet: the second home is asked, and whichever takes the lead
    /// first answers for it. A commit that comes late is a fact like any other.
    pub(super) async fn without_store(
        &self,
        entry: &Entry,
        mut starts: Vec<Start<'_>>,
        late: impl Future<Output = Result<Accepted, StoreError>>,
        mut reply: Reply,
    ) {
        let id = entry.lead.id;
        let goes = |fallback: &&Fallback| {
            let start = starts.iter().find(|start| Arc::ptr_eq(start.lane, fallback.lane()));
            start.is_some_and(|start| {
                start.verdict == Verdict::Goes && start.lane.condition() != Condition::Parked
            })
        };
        let fallback =
            self.fallback.as_ref().filter(goes).filter(|fallback| fallback.reserve(id, entry.digest));
        let Some(fallback) = fallback else {
            reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            if let Ok(accepted) = late.await {
                self.accepted(entry, accepted, starts, &mut reply).await;
            }
            return;
        };
        let (asked, asked_at) = (self.clock.now(), Instant::now());
        let (kept, accepted) = both(fallback.keep(entry), late, id, &mut reply).await;
        let took = asked_at.elapsed();
        match (kept, accepted) {
            (Ok(receipt), Err(_) | Ok(Accepted::Repeat)) => {
                // The permit goes back; the others are claimed by their lanes once they are stored.
                drop(starts);
                fallback.enter(self.store.as_ref(), entry.clone(), &receipt).await;
                self.lanes.iter().for_each(|lane| lane.wake());
            }
            (Err(error), Ok(Accepted::New(claims))) if error.fault == Fault::Rejected => {
                // The sheet cannot be its home, which says nothing of its row.
                fallback.forget(id);
                self.begin(claims, starts);
            }
            (kept, Ok(Accepted::New(claims))) => {
                let is_homes = |claim: &Claim| claim.delivery.destination == *fallback.lane().name();
                let (homes, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_homes);
                let was_kept = kept.is_ok();
                let permit = starts
                    .iter_mut()
                    .find(|start| Arc::ptr_eq(start.lane, fallback.lane()))
                    .and_then(|start| start.permit.take());
                self.begin(others, starts);
                let mut outcome: Option<Outcome> = Some(kept);
                for claim in homes {
                    let Some(outcome) = outcome.take() else { break };
                    fallback.lane().finish(claim, asked, took, outcome).await;
                }
                // Born due rather than claimed: the row is a fact all the same.
                if let Some(Ok(receipt)) = outcome {
                    fallback.enter(self.store.as_ref(), entry.clone(), &receipt).await;
                } else if was_kept {
                    fallback.entered(id).await;
                } else {
                    fallback.forget(id);
                }
                drop(permit);
            }
            (Ok(_), Ok(Accepted::Conflict)) => {
                // Its mark is the only whole copy, and stays.
                error!(lead = %id, "the store has another submission of this key; this one is in the sheet alone: run `lead-intake leads import`, and compare them");
                fallback.forget(id);
            }
            (Err(_), Ok(Accepted::Repeat | Accepted::Conflict) | Err(_)) => {
                fallback.forget(id);
                reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            }
        }
    }
}

/// Waits for both homes. The first that takes the lead answers for it; at the deadline, or when both
/// have failed, nobody has.
async fn both(
    keep: impl Future<Output = Outcome>,
    late: impl Future<Output = Result<Accepted, StoreError>>,
    id: LeadId,
    reply: &mut Reply,
) -> (Outcome, Result<Accepted, StoreError>) {
    let (mut keep, mut late) = (std::pin::pin!(keep), std::pin::pin!(late));
    let (mut kept, mut accepted) = (None, None);
    loop {
        tokio::select! {
            outcome = &mut keep, if kept.is_none() => {
                if outcome.is_ok() {
                    reply.give(Answer::Accepted(id));
                }
                kept = Some(outcome);
            }
            answer = &mut late, if accepted.is_none() => {
                match answer {
                    Ok(Accepted::New(_)) => reply.give(Answer::Accepted(id)),
                    Ok(Accepted::Repeat) => reply.give(Answer::Repeat(id)),
                    Ok(Accepted::Conflict) => reply.give(Answer::Conflict),
                    Err(_) => {}
                }
                accepted = Some(answer);
            }
            () = tokio::time::sleep_until(reply.deadline), if !reply.is_given() => {
                reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            }
        }
        match (kept, accepted) {
            (Some(kept), Some(accepted)) => return (kept, accepted),
            others => (kept, accepted) = others,
        }
    }
}
