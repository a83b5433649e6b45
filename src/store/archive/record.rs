//! Rows without an engine: compared and summed up the same whichever engine they came from.
//!
//! PostgreSQL's text cannot hold a zero character and keeps U+FFFD in its place, so the two count as the same.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use ring::digest::{Context, SHA256};

use super::tables::{OF_A_LEAD, Table};
use crate::store::StoreError;

/// A column's value. It may be personal data, so it has no `Debug`.
#[derive(Clone)]
pub enum Value {
    /// Nothing.
    Nothing,
    /// A number, or a flag as 0 or 1.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row's values, in the order of its table's columns.
pub type Row = Vec<Value>;

/// Text as every engine can hold it.
pub fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => text(one).cmp(&text(two)),
            (Self::Bytes(one), Self::Bytes(two)) => one.cmp(two),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Self::Nothing => b'0',
            Self::Integer(_) => b'i',
            Self::Text(_) => b's',
            Self::Bytes(_) => b'b',
        }
    }

    fn fold(&self, hash: &mut Context) {
        hash.update(&[self.rank()]);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Nothing => {}
            Self::Integer(number) => part(&number.to_be_bytes()),
            Self::Text(it) => part(text(it).as_bytes()),
            Self::Bytes(bytes) => part(bytes),
        }
    }
}

/// A lead with every row that belongs to it.
pub struct Record {
    /// Its place in the order of acceptance.
    pub place: i64,
    /// The rows of each table of [`OF_A_LEAD`], by their keys.
    pub rows: Vec<Vec<Row>>,
}

impl Record {
    /// Makes leads of the rows of each table of [`OF_A_LEAD`], which come in the order of their keys.
    ///
    /// # Errors
    /// A row belongs to none of these leads.
    pub fn gather(tables: Vec<Vec<Row>>) -> Result<Vec<Self>, StoreError> {
        let mut tables = tables.into_iter();
        let mut records: Vec<Self> = Vec::new();
        for lead in tables.next().unwrap_or_default() {
            let mut rows: Vec<Vec<Row>> = OF_A_LEAD.iter().map(|_| Vec::new()).collect();
            let place = place(&lead)?;
            if let Some(own) = rows.first_mut() {
                own.push(lead);
            }
            records.push(Self { place, rows });
        }
        for (index, rows) in tables.enumerate() {
            let mut of = records.iter_mut().peekable();
            for row in rows {
                let place = place(&row)?;
                while of.next_if(|record| record.place < place).is_some() {}
                let record = of.peek_mut().filter(|record| record.place == place);
                let theirs = record.and_then(|record| record.rows.get_mut(index + 1));
                theirs.ok_or_else(|| StoreError::Corrupt("a row belongs to no lead".to_owned()))?.push(row);
            }
        }
        for rows in records.iter_mut().flat_map(|record| &mut record.rows) {
            // Engines sort a zero character otherwise than what stands for it.
            rows.sort();
        }
        Ok(records)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self.rows.first().and_then(|own| own.first()).and_then(|lead| lead.get(1)) {
            Some(Value::Text(id)) => id,
            _ => "",
        }
    }

    /// The first table whose rows are not the same in both.
    pub fn differs(&self, other: &Self) -> Option<&'static Table> {
        let pairs = self.rows.iter().zip(&other.rows).zip(&OF_A_LEAD);
        pairs.into_iter().find(|((own, theirs), _)| own != theirs).map(|(_, table)| table)
    }
}

fn place(row: &Row) -> Result<i64, StoreError> {
    match row.first() {
        Some(Value::Integer(place)) => Ok(*place),
        _ => Err(StoreError::Corrupt("a row names no lead".to_owned())),
    }
}

/// The digest of any number of rows, in any order: the sum of their SHA-256 digests, taken as four numbers each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many rows.
    pub rows: u64,
    parts: [u64; 4],
}

impl Sum {
    /// Adds a row.
    pub fn add(&mut self, row: &[Value]) {
        let mut hash = Context::new(&SHA256);
        row.iter().for_each(|value| value.fold(&mut hash));
        self.rows += 1;
        for (part, bytes) in self.parts.iter_mut().zip(hash.finish().as_ref().chunks_exact(8)) {
            let bytes = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            *part = part.wrapping_add(bytes);
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| write!(f, "{part:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(place: i64, name: &str) -> Row {
        vec![Value::Integer(place), Value::Text(name.to_owned())]
    }

    #[test]
    fn a_sum_knows_every_value_and_its_column_but_no_order() {
        let sum = |rows: &[Row]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let both = sum(&[row(1, "a"), row(2, "b")]);
        assert_eq!(both, sum(&[row(2, "b"), row(1, "a")]));
        assert_ne!(both, sum(&[row(2, "a"), row(1, "b")]));
        assert_ne!(both, sum(&[row(1, "a")]));
        assert_ne!(
            sum(&[vec![Value::Nothing, Value::Integer(1)]]),
            sum(&[vec![Value::Integer(1), Value::Nothing]])
        );
        assert_eq!(sum(&[row(1, "a\0")]), sum(&[row(1, "a\u{fffd}")]));
        assert_eq!(both.to_string().len(), 64);
    }

    #[test]
    fn rows_find_their_leads() {
        let leads = vec![row(3, "lead_3"), row(7, "lead_7")];
        let none = || vec![Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let deliveries = vec![row(3, "b\0"), row(3, "b!"), row(7, "a")];
        let found = Record::gather([vec![leads.clone(), deliveries], none()].concat()).unwrap();
        assert_eq!(
            found.iter().map(|record| (record.place, record.id())).collect::<Vec<_>>(),
            [(3, "lead_3"), (7, "lead_7")]
        );
        assert!(found[0].rows[1] == [row(3, "b!"), row(3, "b\u{fffd}")] && found[1].rows[1] == [row(7, "a")]);
        assert_eq!(found[0].differs(&found[1]).map(|table| table.name), Some("leads"));
        assert!(Record::gather([vec![leads, vec![row(4, "a")]], none()].concat()).is_err());
    }
}
