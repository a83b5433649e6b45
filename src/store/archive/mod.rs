//! What an engine gives and takes when a whole store moves: rows as they are, and nothing understood of them.
//!
//! [`tables`] says which tables a store consists of and what is left out on purpose; adding a table there is all
//! that a move needs to know of it. [`record`] is a lead with every row that belongs to it, and the digests.
//!
//! A lead keeps its place (`seq`) in the order of acceptance, so that two stores can be compared by reading both in
//! that order, and no engine ever makes a place up that another one uses.
//!
//! A store that is a target carries a [`Mark`]. It says that nobody but a move has written to it, which is what
//! lets a move overwrite anything there, and what a service must not take for a whole store. A store that a service has
//! opened carries one that says so, from before its first lead: no move writes to it any more.

pub mod record;
pub mod tables;

use async_trait::async_trait;

use self::record::{Record, Row};
use self::tables::Table;
use super::{Store, StoreError};

/// What a store says of itself. Kept in the table `kept`, under [`Mark::NAME`], and never moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is being filled; what it holds has not been found equal to its source.
    Filling,
    /// It was found equal to its source, and nothing but a move has written to it since.
    Whole,
    /// A service or a command has worked in it, and may at this moment.
    Used,
}

impl Mark {
    /// The name of the row.
    pub const NAME: &'static str = "move";

    /// The word that the row holds.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Whole => "whole",
            Self::Used => "used",
        }
    }

    /// The mark that a row's value is.
    ///
    /// # Errors
    /// It is none that this release writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let found = [Self::Filling, Self::Whole, Self::Used]
            .into_iter()
            .find(|mark| mark.as_str().as_bytes() == bytes);
        found.ok_or_else(|| StoreError::Corrupt("its mark of a move is none that is known".to_owned()))
    }
}

/// A store that can be read and written whole. Every method is one transaction, as in [`Store`].
#[async_trait]
pub trait Archive: Store {
    /// Its mark; a store that was made and never opened to work in it has none.
    async fn mark(&self) -> Result<Option<Mark>, StoreError>;

    /// Puts `to` in the place of its mark, if that is one of `from`. Returns whether it was.
    async fn change_mark(&self, from: &'static [Option<Mark>], to: Option<Mark>) -> Result<bool, StoreError>;

    /// The place and the id of the lead that was accepted last.
    async fn newest(&self) -> Result<Option<(i64, String)>, StoreError>;

    /// How many rows of a table move.
    async fn count(&self, table: &'static Table) -> Result<u64, StoreError>;

    /// The leads after a place, in order, each with all that belongs to it.
    async fn records(&self, after: i64, limit: u32) -> Result<Vec<Record>, StoreError>;

    /// Rows of a table that belongs to no lead, in the order of its key, after the row `after`.
    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError>;

    /// Writes these leads over whatever the store has of them. `false`, and nothing is written, unless the store is
    /// marked as filling.
    async fn write(&self, records: Vec<Record>) -> Result<bool, StoreError>;

    /// Adds rows to a table that belongs to no lead, after emptying it if they are its `first`. `false`, and nothing is
    /// written, unless the store is marked as filling.
    async fn fill(&self, table: &'static Table, rows: Vec<Row>, first: bool) -> Result<bool, StoreError>;
}
