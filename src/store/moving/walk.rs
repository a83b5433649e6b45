//! Two stores read side by side, in the order in which their leads were accepted.

use std::collections::VecDeque;

use futures_util::future::try_join;

use super::{MoveError, PAGE};
use crate::store::StoreError;
use crate::store::archive::Archive;
use crate::store::archive::record::Record;
use crate::store::archive::tables::{OF_A_LEAD, Table};

/// The table of the leads themselves.
pub(super) fn leads() -> &'static Table {
    let [leads, ..] = &OF_A_LEAD;
    leads
}

/// What is at the next place.
pub(super) enum Step {
    /// The same lead, with the same rows.
    Same(Record, Record),
    /// A lead that the target lacks.
    Missing(Record),
    /// The same lead with other rows in a table, the first of them.
    Differs { from: Record, to: Record, table: &'static Table },
    /// A lead that the source lacks.
    Extra(Record),
}

/// One of the two.
struct Side<'a> {
    archive: &'a dyn Archive,
    read: VecDeque<Record>,
    after: i64,
    ended: bool,
}

impl<'a> Side<'a> {
    fn new(archive: &'a dyn Archive) -> Self {
        Self { archive, read: VecDeque::new(), after: i64::MIN, ended: false }
    }

    /// Reads a page ahead.
    async fn fill(&mut self) -> Result<(), StoreError> {
        if self.ended || self.read.len() >= PAGE as usize {
            return Ok(());
        }
        let page = self.archive.records(self.after, PAGE).await?;
        self.after = page.last().map_or(self.after, |record| record.place);
        self.ended = page.len() < PAGE as usize;
        self.read.extend(page);
        Ok(())
    }

    /// Whether what is next is known.
    fn is_ready(&self) -> bool {
        self.ended || !self.read.is_empty()
    }
}

/// Both.
pub(super) struct Walk<'a> {
    from: Side<'a>,
    to: Side<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(from: &'a dyn Archive, to: &'a dyn Archive) -> Self {
        Self { from: Side::new(from), to: Side::new(to) }
    }

    /// Reads ahead on both sides.
    pub(super) async fn fill(&mut self) -> Result<(), MoveError> {
        let Self { from, to } = self;
        let from = async { from.fill().await.map_err(MoveError::From) };
        let to = async { to.fill().await.map_err(MoveError::To) };
        try_join(from, to).await.map(drop)
    }

    /// What is next; `None` until more is read, or at the end.
    pub(super) fn step(&mut self) -> Option<Step> {
        if !self.from.is_ready() || !self.to.is_ready() {
            return None;
        }
        let (from, to) = (&mut self.from.read, &mut self.to.read);
        let key = |record: &Record| record.place;
        match (from.front().map(key), to.front().map(key)) {
            (Some(theirs), Some(ours)) if theirs == ours => {
                let (theirs, ours) = (from.pop_front()?, to.pop_front()?);
                if theirs.id() != ours.id() {
                    // The target's comes first, and the source's is still to come.
                    from.push_front(theirs);
                    return Some(Step::Extra(ours));
                }
                Some(match theirs.differs(&ours) {
                    None => Step::Same(theirs, ours),
                    Some(table) => Step::Differs { from: theirs, to: ours, table },
                })
            }
            (Some(theirs), Some(ours)) if ours < theirs => to.pop_front().map(Step::Extra),
            (None, Some(_)) => to.pop_front().map(Step::Extra),
            (Some(_), _) => from.pop_front().map(Step::Missing),
            (None, None) => None,
        }
    }

    /// Whether both sides have been read to their ends.
    pub(super) fn is_over(&self) -> bool {
        let over = |side: &Side<'_>| side.ended && side.read.is_empty();
        over(&self.from) && over(&self.to)
    }
}
