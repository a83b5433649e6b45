//! What a stand-in does instead of the ordinary.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Faults to come: those queued are used up one a request, and then the standing one, if any.
pub struct Script<F>(Mutex<Plan<F>>);

struct Plan<F> {
    queued: VecDeque<F>,
    standing: Option<F>,
}

impl<F: Clone> Script<F> {
    /// Nothing planned: the stand-in behaves.
    pub fn new() -> Self {
        Self(Mutex::new(Plan { queued: VecDeque::new(), standing: None }))
    }

    /// The next request meets `fault`; those after it the faults queued later.
    pub fn next(&self, fault: F) {
        self.plan().queued.push_back(fault);
    }

    /// The next `count` requests meet `fault`.
    pub fn times(&self, count: usize, fault: F) {
        self.plan().queued.extend(std::iter::repeat_n(fault, count));
    }

    /// Every request meets `fault` until [`Script::mend`].
    pub fn always(&self, fault: F) {
        self.plan().standing = Some(fault);
    }

    /// All is well again, from the next request on.
    pub fn mend(&self) {
        let mut plan = self.plan();
        plan.queued.clear();
        plan.standing = None;
    }

    /// Whether anything is planned.
    pub fn is_planned(&self) -> bool {
        let plan = self.plan();
        !plan.queued.is_empty() || plan.standing.is_some()
    }

    /// Whether something is planned that fits.
    pub fn is_planned_for(&self, fits: impl Fn(&F) -> bool) -> bool {
        let plan = self.plan();
        plan.queued.iter().chain(&plan.standing).any(fits)
    }

    /// What this request meets.
    pub fn take(&self) -> Option<F> {
        let mut plan = self.plan();
        plan.queued.pop_front().or_else(|| plan.standing.clone())
    }

    /// What a request meets for which only some faults will do; the others stay for those they fit.
    pub fn take_if(&self, fits: impl Fn(&F) -> bool) -> Option<F> {
        let mut plan = self.plan();
        match plan.queued.iter().position(&fits) {
            Some(first) => plan.queued.remove(first),
            None => plan.standing.clone().filter(fits),
        }
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan<F>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<F: Clone> Default for Script<F> {
    fn default() -> Self {
        Self::new()
    }
}
