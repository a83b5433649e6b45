//! Cells of rows that nothing is known of but what their columns hold: read, given alone, and given as arrays.

use std::borrow::Cow;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::get;
use crate::store::StoreError;
use crate::store::archive::record::{Row as Cells, Value, text};
use crate::store::archive::tables::Holds;

/// A cell of an answer.
pub(super) fn read(row: &Row, column: usize, holds: Holds) -> Result<Value, StoreError> {
    let value = match holds {
        Holds::Integer => get::<Option<i64>>(row, column)?.map(Value::Integer),
        Holds::Flag => get::<Option<bool>>(row, column)?.map(|flag| Value::Integer(flag.into())),
        Holds::Text => get::<Option<String>>(row, column)?.map(Value::Text),
        Holds::Bytes => get::<Option<Vec<u8>>>(row, column)?.map(Value::Bytes),
    };
    Ok(value.unwrap_or(Value::Nothing))
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

fn words(value: Option<&Value>) -> Option<Cow<'_, str>> {
    match value {
        Some(Value::Text(it)) => Some(text(it)),
        _ => None,
    }
}

fn bytes(value: Option<&Value>) -> Option<&[u8]> {
    match value {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The type of a cell.
pub(super) fn kind(holds: Holds) -> Type {
    match holds {
        Holds::Integer => Type::INT8,
        Holds::Flag => Type::BOOL,
        Holds::Text => Type::TEXT,
        Holds::Bytes => Type::BYTEA,
    }
}

/// A cell, as a statement takes it.
pub(super) fn one(holds: Holds, value: &Value) -> Box<dyn ToSql + Sync + Send> {
    match holds {
        Holds::Integer => Box::new(number(Some(value))),
        Holds::Flag => Box::new(number(Some(value)).map(|flag| flag != 0)),
        Holds::Text => Box::new(words(Some(value)).map(Cow::into_owned)),
        Holds::Bytes => Box::new(bytes(Some(value)).map(<[u8]>::to_vec)),
    }
}

/// A column of many rows, as an array.
pub(super) fn many<'r>(
    holds: Holds,
    at: usize,
    rows: &[&'r Cells],
) -> (Box<dyn ToSql + Sync + Send + 'r>, Type) {
    let values = rows.iter().map(|row| row.get(at));
    match holds {
        Holds::Integer => (Box::new(values.map(number).collect::<Vec<_>>()), Type::INT8_ARRAY),
        Holds::Flag => {
            let flags = values.map(|value| number(value).map(|flag| flag != 0));
            (Box::new(flags.collect::<Vec<_>>()), Type::BOOL_ARRAY)
        }
        Holds::Text => (Box::new(values.map(words).collect::<Vec<_>>()), Type::TEXT_ARRAY),
        Holds::Bytes => (Box::new(values.map(bytes).collect::<Vec<_>>()), Type::BYTEA_ARRAY),
    }
}
