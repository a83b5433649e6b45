//! A whole store moves to another one, of any engine: `lead-intake migrate --from … --to …`.
//!
//! # What is promised
//! - **Everything moves**, row by row as it is ([`tables`](super::archive::tables)): a lead keeps its id and its place,
//!   a delivery its state, due date and attempts. One that is under way at the source (a lease) stays so, and its
//!   attempt is known as lost at the target when the lease ends, as after a crash.
//! - **Nothing is written down about how far a move came**: both stores are read side by side in the order of
//!   acceptance (`walk.rs`), and what the target lacks or has otherwise is written, some hundred leads in a transaction. So
//!   a move that was killed goes on where it stopped, one that is repeated changes nothing, and one that is repeated
//!   after the source went on brings what has changed.
//! - **A target that is ahead is never written to.** While only moves have written to it, it carries a
//!   [`Mark`]; the first service or command that works in it puts another there before it does, and from then on a move
//!   compares and writes nothing, even where there is no lead yet. A store without a mark is filled only while it has no
//!   leads. A lead is never removed: a target that holds one which the source lacks is refused.
//! - **No service runs on half a store**: until source and target were found equal the mark says so, and opening the
//!   store to work in it fails.
//! - **The end is a comparison** of every row of both sides (`verify.rs`), whatever was written before.
//! - Memory holds some pages of leads, however many there are.
//!
//! The source is only read, but its schema is brought up to date. It may be in use meanwhile; what it changes behind
//! the move is found by the comparison, and brought by the next run. No service may run on the target.

mod verify;
mod walk;

use futures_util::future::try_join;

use self::walk::{Step, Walk};
use super::StoreError;
use super::archive::record::Record;
pub use super::archive::record::Sum;
use super::archive::tables::{OF_THE_STORE, Table};
use super::archive::{Archive, Mark};
pub use verify::{Compared, Comparison, Difference};

/// How many leads are read or written in one transaction.
const PAGE: u32 = 256;

/// How many rows of the store's own tables are.
const ROWS: u32 = 2_000;

/// How far a move is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// How many leads it has done.
    pub done: u64,
    /// How many the source had when it began.
    pub total: u64,
}

/// What a move does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It brings what the target lacks.
    Copying,
    /// It reads both sides once more.
    Comparing,
}

/// Hears how far it is.
pub type Tell<'t> = &'t mut (dyn FnMut(Progress) + Send);

/// What a move did and found.
#[derive(Debug)]
pub struct Moved {
    /// How many leads were written.
    pub written: u64,
    /// How many were there already, and the same.
    pub unchanged: u64,
    /// What the comparison at the end found.
    pub comparison: Comparison,
}

/// Why a move did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The source failed.
    #[error("the source failed; nothing is lost, and the same command goes on where this one stopped")]
    From(#[source] StoreError),
    /// The target failed.
    #[error("the target failed; nothing is lost, and the same command goes on where this one stopped")]
    To(#[source] StoreError),
    /// The source is itself half a copy.
    #[error("the source is itself the target of a move that has not ended; end that one first")]
    SourceUnfinished,
    /// The target has data of its own.
    #[error(
        "the target is in use: no move has filled it, or a service or a command has worked in it, and it differs from the source ({0}). Nothing was written. Move to a new store instead, in which none has"
    )]
    TargetInUse(Difference),
    /// The target has a lead that the source lacks.
    #[error(
        "the target holds {0}, which the source lacks; nothing was written over it. Is this the right source? To start afresh, empty the target"
    )]
    TargetAhead(String),
    /// Somebody has begun to work in the target.
    #[error(
        "a service or a command has begun to work in the target while it was filled: stop it, empty the target and move again"
    )]
    TakenOver,
}

/// Moves everything and compares.
///
/// # Errors
/// See [`MoveError`]. A difference that the comparison finds is none.
pub async fn run(from: &dyn Archive, to: &dyn Archive, tell: Tell<'_>) -> Result<Moved, MoveError> {
    if from.mark().await.map_err(MoveError::From)? == Some(Mark::Filling) {
        return Err(MoveError::SourceUnfinished);
    }
    let newest = to.newest().await.map_err(MoveError::To)?;
    let mark = to.mark().await.map_err(MoveError::To)?;
    if mark == Some(Mark::Used) || (mark.is_none() && newest.is_some()) {
        let comparison = verify::compare(from, to, tell).await?;
        return match comparison.difference {
            Some(difference) => Err(MoveError::TargetInUse(difference)),
            None => Ok(Moved { written: 0, unchanged: comparison.leads(), comparison }),
        };
    }
    if let Some((place, id)) = newest
        && from.newest().await.map_err(MoveError::From)?.is_none_or(|(last, _)| last < place)
    {
        return Err(MoveError::TargetAhead(id));
    }
    let any = &[None, Some(Mark::Filling), Some(Mark::Whole)];
    if !to.change_mark(any, Some(Mark::Filling)).await.map_err(MoveError::To)? {
        return Err(MoveError::TakenOver);
    }
    let (written, unchanged) = copy_leads(from, to, tell).await?;
    for table in &OF_THE_STORE {
        copy_table(from, to, table).await?;
    }
    let comparison = verify::compare(from, to, tell).await?;
    if comparison.difference.is_none()
        && !to.change_mark(&[Some(Mark::Filling)], Some(Mark::Whole)).await.map_err(MoveError::To)?
    {
        return Err(MoveError::TakenOver);
    }
    Ok(Moved { written, unchanged, comparison })
}

/// Writes what the target lacks, and reads on meanwhile. Returns how many leads were written, and how many had no need.
async fn copy_leads(from: &dyn Archive, to: &dyn Archive, tell: Tell<'_>) -> Result<(u64, u64), MoveError> {
    let total = from.count(walk::leads()).await.map_err(MoveError::From)?;
    let (mut walk, mut batch) = (Walk::new(from, to), Vec::new());
    let (mut written, mut unchanged) = (0, 0);
    loop {
        written += batch.len() as u64;
        try_join(walk.fill(), write(to, std::mem::take(&mut batch))).await?;
        tell(Progress { phase: Phase::Copying, done: written + unchanged, total });
        while batch.len() < PAGE as usize
            && let Some(step) = walk.step()
        {
            match step {
                Step::Same(..) => unchanged += 1,
                Step::Missing(record) | Step::Differs { from: record, .. } => batch.push(record),
                Step::Extra(record) => return Err(MoveError::TargetAhead(record.id().to_owned())),
            }
        }
        if batch.is_empty() && walk.is_over() {
            return Ok((written, unchanged));
        }
    }
}

async fn write(to: &dyn Archive, batch: Vec<Record>) -> Result<(), MoveError> {
    if batch.is_empty() || to.write(batch).await.map_err(MoveError::To)? {
        Ok(())
    } else {
        Err(MoveError::TakenOver)
    }
}

/// Brings a table that belongs to no lead, as a whole: it is small beside the leads, and rows vanish from it.
async fn copy_table(from: &dyn Archive, to: &dyn Archive, table: &'static Table) -> Result<(), MoveError> {
    let (theirs, ours) = try_join(sum(from, table, MoveError::From), sum(to, table, MoveError::To)).await?;
    if theirs == ours {
        return Ok(());
    }
    let (mut after, mut first) = (None, true);
    loop {
        let rows = from.rows(table, after, ROWS).await.map_err(MoveError::From)?;
        after = rows.last().cloned();
        if !first && rows.is_empty() {
            return Ok(());
        }
        if !to.fill(table, rows, first).await.map_err(MoveError::To)? {
            return Err(MoveError::TakenOver);
        }
        if after.is_none() {
            return Ok(());
        }
        first = false;
    }
}

async fn sum(
    archive: &dyn Archive,
    table: &'static Table,
    failed: fn(StoreError) -> MoveError,
) -> Result<Sum, MoveError> {
    let (mut sum, mut after) = (Sum::default(), None);
    loop {
        let rows = archive.rows(table, after, ROWS).await.map_err(failed)?;
        rows.iter().for_each(|row| sum.add(row));
        after = rows.last().cloned();
        if after.is_none() {
            return Ok(sum);
        }
    }
}
