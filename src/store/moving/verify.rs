//! Every row of both sides, read, counted and compared.

use std::fmt;

use futures_util::future::try_join;

use super::walk::{Step, Walk, leads};
use super::{MoveError, Phase, Progress, Tell, sum};
use crate::store::archive::Archive;
use crate::store::archive::record::{Record, Sum};
use crate::store::archive::tables::{OF_A_LEAD, OF_THE_STORE, Table};

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// Each table, on both sides.
    pub tables: Vec<Compared>,
    /// Where the sides differ first, if they do.
    pub difference: Option<Difference>,
}

impl Comparison {
    /// How many leads the source has.
    pub fn leads(&self) -> u64 {
        self.tables.first().map_or(0, |leads| leads.from.rows)
    }
}

/// A table on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// Its name.
    pub table: &'static str,
    /// The source's rows.
    pub from: Sum,
    /// The target's rows.
    pub to: Sum,
}

/// Where two stores differ first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The target lacks a lead.
    Missing {
        /// Its id.
        lead: String,
    },
    /// The source lacks a lead.
    Extra {
        /// Its id.
        lead: String,
    },
    /// A lead has other rows.
    Rows {
        /// Its id.
        lead: String,
        /// In this table first.
        table: &'static str,
    },
    /// A table that belongs to no lead has other rows, or rows that no lead owns.
    Table(&'static str),
}

impl Difference {
    /// The lead's id, where it is one lead that differs.
    pub fn lead(&self) -> Option<&str> {
        match self {
            Self::Missing { lead } | Self::Extra { lead } | Self::Rows { lead, .. } => Some(lead),
            Self::Table(_) => None,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { lead } => write!(f, "{lead} is missing at the target"),
            Self::Extra { lead } => write!(f, "{lead} is at the target alone"),
            Self::Rows { lead, table } => write!(f, "{lead} is not the same in the table {table}"),
            Self::Table(table) => write!(f, "the table {table} is not the same"),
        }
    }
}

/// Reads both sides. Writes nothing.
pub(super) async fn compare(
    from: &dyn Archive,
    to: &dyn Archive,
    tell: Tell<'_>,
) -> Result<Comparison, MoveError> {
    let total = from.count(leads()).await.map_err(MoveError::From)?;
    let mut tables: Vec<Compared> = OF_A_LEAD.iter().map(unread).collect();
    let (mut walk, mut difference, mut done) = (Walk::new(from, to), None, 0);
    while !walk.is_over() {
        walk.fill().await?;
        while let Some(step) = walk.step() {
            let (theirs, ours, found) = match step {
                Step::Same(theirs, ours) => (Some(theirs), Some(ours), None),
                Step::Missing(theirs) => {
                    let lead = theirs.id().to_owned();
                    (Some(theirs), None, Some(Difference::Missing { lead }))
                }
                Step::Extra(ours) => {
                    let lead = ours.id().to_owned();
                    (None, Some(ours), Some(Difference::Extra { lead }))
                }
                Step::Differs { from, to, table } => {
                    let found = Difference::Rows { lead: from.id().to_owned(), table: table.name };
                    (Some(from), Some(to), Some(found))
                }
            };
            add(&mut tables, theirs.as_ref(), |compared| &mut compared.from);
            add(&mut tables, ours.as_ref(), |compared| &mut compared.to);
            difference = difference.or(found);
            done += u64::from(theirs.is_some());
        }
        tell(Progress { phase: Phase::Comparing, done, total });
    }
    for table in &OF_THE_STORE {
        let (from, to) = try_join(sum(from, table, MoveError::From), sum(to, table, MoveError::To)).await?;
        tables.push(Compared { table: table.name, from, to });
    }
    // What the walk read is all there is: no row belongs to a lead that is not there.
    for (compared, table) in tables.iter().zip(OF_A_LEAD.iter().chain(&OF_THE_STORE)) {
        let counts = try_join(async { from.count(table).await.map_err(MoveError::From) }, async {
            to.count(table).await.map_err(MoveError::To)
        });
        let is_whole = counts.await? == (compared.from.rows, compared.to.rows);
        if difference.is_none() && !(is_whole && compared.from == compared.to) {
            difference = Some(Difference::Table(compared.table));
        }
    }
    Ok(Comparison { tables, difference })
}

fn unread(table: &Table) -> Compared {
    Compared { table: table.name, from: Sum::default(), to: Sum::default() }
}

fn add(tables: &mut [Compared], record: Option<&Record>, side: fn(&mut Compared) -> &mut Sum) {
    for (compared, rows) in tables.iter_mut().zip(record.map_or(&[][..], |record| &record.rows)) {
        rows.iter().for_each(|row| side(compared).add(row));
    }
}
