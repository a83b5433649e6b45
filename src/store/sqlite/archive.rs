//! The store as a whole, for a move: rows as they are.

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, Value as Held, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, params, params_from_iter};

use super::write::change;
use super::{Sqlite, failed};
use crate::store::StoreError;
use crate::store::archive::record::{Record, Row, Value};
use crate::store::archive::tables::{OF_A_LEAD, Table};
use crate::store::archive::{Archive, Mark};

#[async_trait]
impl Archive for Sqlite {
    async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        self.read(mark).await
    }

    async fn change_mark(&self, from: &'static [Option<Mark>], to: Option<Mark>) -> Result<bool, StoreError> {
        self.writer.run(move |db, _| change_mark(db, from, to)).await
    }

    async fn newest(&self) -> Result<Option<(i64, String)>, StoreError> {
        self.read(|db| {
            db.query_row("SELECT seq, id FROM leads ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(failed)
        })
        .await
    }

    async fn count(&self, table: &'static Table) -> Result<u64, StoreError> {
        self.read(|db| {
            let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, table.condition());
            db.query_row(&sql, [], |row| row.get(0)).map(i64::unsigned_abs).map_err(failed)
        })
        .await
    }

    async fn records(&self, after: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.read(move |db| records(db, after, limit)).await
    }

    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.read(move |db| {
            let mut values: Vec<Value> = after.unwrap_or_default().into_iter().take(table.key).collect();
            let key = table.key_list();
            let (is_more, order) = match values.len() {
                0 => ("true".to_owned(), key.clone()),
                count => (format!("({key}) > ({})", vec!["?"; count].join(", ")), key.clone()),
            };
            values.push(Value::Integer(limit.into()));
            let (list, name, condition) = (table.list(), table.name, table.condition());
            let sql =
                format!("SELECT {list} FROM {name} WHERE {condition} AND {is_more} ORDER BY {order} LIMIT ?");
            select(db, table, &sql, params_from_iter(&values))
        })
        .await
    }

    async fn write(&self, records: Vec<Record>) -> Result<bool, StoreError> {
        self.writer
            .run(move |db, _| {
                let is_filling = mark(db)? == Some(Mark::Filling);
                if is_filling {
                    records.iter().try_for_each(|record| write(db, record))?;
                }
                Ok(is_filling)
            })
            .await
    }

    async fn fill(&self, table: &'static Table, rows: Vec<Row>, first: bool) -> Result<bool, StoreError> {
        self.writer
            .run(move |db, _| {
                let is_filling = mark(db)? == Some(Mark::Filling);
                if is_filling && first {
                    change(db, &format!("DELETE FROM {} WHERE {}", table.name, table.condition()), [])?;
                }
                if is_filling {
                    insert(db, table, "ON CONFLICT DO NOTHING", &rows)?;
                }
                Ok(is_filling)
            })
            .await
    }
}

fn mark(db: &Connection) -> Result<Option<Mark>, StoreError> {
    let found: Option<Vec<u8>> = db
        .prepare_cached("SELECT value FROM kept WHERE name = ?1")
        .and_then(|mut select| select.query_row([Mark::NAME], |row| row.get(0)).optional())
        .map_err(failed)?;
    found.map(|bytes| Mark::from_bytes(&bytes)).transpose()
}

fn change_mark(db: &Connection, from: &[Option<Mark>], to: Option<Mark>) -> Result<bool, StoreError> {
    let found = mark(db)?;
    if !from.contains(&found) {
        return Ok(false);
    }
    if found == to {
        return Ok(true);
    }
    match to {
        Some(mark) => change(
            db,
            "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            params![Mark::NAME, mark.as_str().as_bytes()],
        )?,
        None => change(db, "DELETE FROM kept WHERE name = ?1", [Mark::NAME])?,
    };
    Ok(true)
}

fn records(db: &Connection, after: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
    // One snapshot; it ends with this function.
    let snapshot = db.unchecked_transaction().map_err(failed)?;
    let mut tables = Vec::new();
    let mut last = after;
    for table in &OF_A_LEAD {
        let (list, name, place) = (table.list(), table.name, table.first());
        let rows = if tables.is_empty() {
            let sql = format!("SELECT {list} FROM {name} WHERE {place} > ?1 ORDER BY {place} LIMIT ?2");
            let leads = select(&snapshot, table, &sql, params![after, limit])?;
            if let Some(Value::Integer(place)) = leads.last().and_then(|lead| lead.first()) {
                last = *place;
            }
            leads
        } else {
            let key = table.key_list();
            let sql =
                format!("SELECT {list} FROM {name} WHERE {place} > ?1 AND {place} <= ?2 ORDER BY {key}");
            select(&snapshot, table, &sql, params![after, last])?
        };
        tables.push(rows);
    }
    Record::gather(tables)
}

fn select(
    db: &Connection,
    table: &Table,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Row>, StoreError> {
    let mut select = db.prepare_cached(sql).map_err(failed)?;
    let rows = select.query_map(values, |row| {
        (0..table.columns.len())
            .map(|column| Ok(read(row.get_ref(column)?)))
            .collect::<rusqlite::Result<Row>>()
    });
    rows.and_then(Iterator::collect).map_err(failed)
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Nothing,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        // Every column has a type (STRICT), and none is a real number.
        ValueRef::Real(number) => Value::Text(number.to_string()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Nothing => ToSqlOutput::Owned(Held::Null),
            Self::Integer(number) => ToSqlOutput::Owned(Held::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// Writes a lead; if it is there already, over all that belongs to it.
fn write(db: &Connection, record: &Record) -> Result<(), StoreError> {
    let mut tables = OF_A_LEAD.iter().zip(&record.rows);
    let Some((leads, own)) = tables.next() else { return Ok(()) };
    if insert(db, leads, "ON CONFLICT (seq) DO NOTHING", own)? == 0 {
        for table in OF_A_LEAD.iter().skip(1).rev() {
            let sql = format!("DELETE FROM {} WHERE {} = ?1", table.name, table.first());
            change(db, &sql, [record.place])?;
        }
        let set = leads.columns.iter().skip(1).map(|(name, _)| format!("{name} = excluded.{name}"));
        let over = format!("ON CONFLICT (seq) DO UPDATE SET {}", set.collect::<Vec<_>>().join(", "));
        insert(db, leads, &over, own)?;
    }
    tables.try_for_each(|(table, rows)| insert(db, table, "", rows).map(drop))
}

/// Inserts rows; how many there were to insert.
fn insert(db: &Connection, table: &Table, conflict: &str, rows: &[Row]) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let marks = vec!["?"; table.columns.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({marks}) {conflict}", table.name, table.list());
    let mut insert = db.prepare_cached(&sql).map_err(failed)?;
    rows.iter()
        .try_fold(0, |count, row| Ok(count + insert.execute(params_from_iter(row)).map_err(failed)? as u64))
}
