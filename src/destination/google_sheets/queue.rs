//! The rows that wait for the writer, and whether it is at work: it runs while there are any, so that nothing has to
//! stop it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::delivery::Outcome;
use crate::destination::Handoff;
use crate::id::LeadId;
use crate::lead::Digest;

/// What a cell takes in an append beyond its text.
const CELL: usize = 4;

/// What is particular about a row.
#[derive(Clone, Copy, Default)]
pub(super) struct Errand {
    /// It may be in the sheet already.
    pub(super) looks: bool,
    /// The sheet is the only home that the lead has.
    pub(super) keeps: bool,
}

/// A row that waits.
pub(super) struct Waiting {
    pub(super) lead: LeadId,
    /// What tells it from another submission under the same key.
    pub(super) digest: Digest,
    pub(super) cells: Vec<(String, String)>,
    pub(super) errand: Errand,
    pub(super) deadline: Instant,
    pub(super) handoff: Arc<Handoff>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

impl Waiting {
    fn size(&self) -> usize {
        self.cells.iter().map(|(_, text)| text.len() + text.len() / 8 + CELL).sum::<usize>() + 200
    }

    /// Answers for it.
    pub(super) fn give(self, outcome: Outcome) {
        // Nobody listens when the attempt was given up.
        let _ = self.answer.send(outcome);
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue(Mutex<Line>);

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    is_served: bool,
}

impl Queue {
    /// Adds a row. `true`: the caller must serve the queue.
    pub(super) fn push(&self, waiting: Waiting) -> bool {
        let mut line = self.line();
        line.waiting.push_back(waiting);
        !std::mem::replace(&mut line.is_served, true)
    }

    /// Whether nothing waits; then it is served no more.
    pub(super) fn is_done(&self) -> bool {
        let mut line = self.line();
        if line.waiting.is_empty() {
            line.is_served = false;
        }
        !line.is_served
    }

    /// Whether a row waits whose lead has no other home.
    pub(super) fn keeps(&self) -> bool {
        self.line().waiting.iter().any(|row| row.errand.keeps)
    }

    /// As many rows as fit into one append of `most` bytes. One that was withdrawn, or whose time is over, is left
    /// out: its caller has spoken for it. A second row of the same lead, which a visitor who clicked twice while the
    /// store went away can bring, waits, and looks for the first.
    pub(super) fn group(&self, most: usize) -> Vec<Waiting> {
        let mut line = self.line();
        let (mut group, mut again, mut size) = (Vec::new(), Vec::new(), 0);
        let mut leads = HashSet::new();
        while let Some(next) = line.waiting.front() {
            size += next.size();
            if !group.is_empty() && size > most {
                break;
            }
            let Some(mut next) = line.waiting.pop_front() else { break };
            if leads.contains(&next.lead) {
                next.errand.looks = true;
                again.push(next);
            } else if next.deadline > Instant::now() && next.handoff.take() {
                leads.insert(next.lead);
                group.push(next);
            }
        }
        again.into_iter().rev().for_each(|waiting| line.waiting.push_front(waiting));
        group
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees the queue when whoever serves it panics: it must not be left with a writer that is gone.
pub(super) struct Served<'a>(pub(super) &'a Queue);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut line = self.0.line();
            line.is_served = false;
            // Their callers hear that nobody answers, and withdraw or settle as unknown.
            line.waiting.clear();
        }
    }
}
