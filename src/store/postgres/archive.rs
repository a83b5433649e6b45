//! The store as a whole, for a move: rows as they are, a page or a batch in a few statements.

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};

use super::cells::{kind, many, one, read};
use super::pool::{LONG, Purpose, Transaction, Value as Given, within};
use super::{Postgres, get};
use crate::store::StoreError;
use crate::store::archive::record::{Record, Row, Value};
use crate::store::archive::tables::{OF_A_LEAD, Table};
use crate::store::archive::{Archive, Mark};

/// The lock under which the mark changes: our own, and not the migrations'.
const LOCK: i64 = 0x6c65_6164_6d61_726b;

#[async_trait]
impl Archive for Postgres {
    async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        within(LONG, async {
            let asking = self.pool.begin(Purpose::Read).await?;
            let found = mark(&asking, "").await?;
            asking.commit().await?;
            Ok(found)
        })
        .await
    }

    async fn change_mark(&self, from: &'static [Option<Mark>], to: Option<Mark>) -> Result<bool, StoreError> {
        within(LONG, async {
            let change = self.pool.begin(Purpose::Write).await?;
            // A row that is not there cannot be locked, and processes that start together all come here.
            change.query("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
            let found = mark(&change, "FOR UPDATE").await?;
            let fits = from.contains(&found);
            if fits && found != to {
                change.execute("DELETE FROM kept WHERE name = $1", &[(&Mark::NAME, Type::TEXT)]).await?;
                if let Some(mark) = to {
                    let values: [Given<'_>; 2] =
                        [(&Mark::NAME, Type::TEXT), (&mark.as_str().as_bytes(), Type::BYTEA)];
                    change.execute("INSERT INTO kept (name, value) VALUES ($1, $2)", &values).await?;
                }
            }
            change.commit().await?;
            Ok(fits)
        })
        .await
    }

    async fn newest(&self) -> Result<Option<(i64, String)>, StoreError> {
        within(LONG, async {
            let asking = self.pool.begin(Purpose::Read).await?;
            let rows = asking.query("SELECT seq, id FROM leads ORDER BY seq DESC LIMIT 1", &[]).await?;
            asking.commit().await?;
            rows.first().map(|row| Ok((get(row, 0)?, get(row, 1)?))).transpose()
        })
        .await
    }

    async fn count(&self, table: &'static Table) -> Result<u64, StoreError> {
        within(LONG, async {
            let asking = self.pool.begin(Purpose::Read).await?;
            let sql = format!("SELECT count(*) FROM {} WHERE {}", table.name, table.condition());
            let rows = asking.query(&sql, &[]).await?;
            asking.commit().await?;
            rows.first().map_or(Ok(0), |row| get::<i64>(row, 0)).map(i64::unsigned_abs)
        })
        .await
    }

    async fn records(&self, after: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
        within(LONG, async {
            let asking = self.pool.begin(Purpose::Read).await?;
            let (mut tables, mut last) = (Vec::new(), after);
            for table in &OF_A_LEAD {
                let (list, name, place) = (table.list(), table.name, table.first());
                let rows = if tables.is_empty() {
                    let sql =
                        format!("SELECT {list} FROM {name} WHERE {place} > $1 ORDER BY {place} LIMIT $2");
                    let values: [Given<'_>; 2] = [(&after, Type::INT8), (&i64::from(limit), Type::INT8)];
                    let leads = select(&asking, table, &sql, &values).await?;
                    if let Some(Value::Integer(place)) = leads.last().and_then(|lead| lead.first()) {
                        last = *place;
                    }
                    leads
                } else {
                    let key = table.key_list();
                    let sql = format!(
                        "SELECT {list} FROM {name} WHERE {place} > $1 AND {place} <= $2 ORDER BY {key}"
                    );
                    select(&asking, table, &sql, &[(&after, Type::INT8), (&last, Type::INT8)]).await?
                };
                tables.push(rows);
            }
            asking.commit().await?;
            Record::gather(tables)
        })
        .await
    }

    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let values: Vec<_> = table.columns.iter().zip(after.into_iter().flatten()).take(table.key).collect();
        let after: Vec<Box<dyn ToSql + Sync + Send>> =
            values.iter().map(|((_, holds), value)| one(*holds, value)).collect();
        let limit = i64::from(limit);
        let mut given: Vec<Given<'_>> = vec![(&limit, Type::INT8)];
        given.extend(
            after
                .iter()
                .zip(&values)
                .map(|(value, ((_, holds), _))| -> Given<'_> { (&**value, kind(*holds)) }),
        );
        let key = table.key_list();
        let marks: Vec<_> = (2..given.len() + 1).map(|number| format!("${number}")).collect();
        let is_more =
            if marks.is_empty() { "true".to_owned() } else { format!("({key}) > ({})", marks.join(", ")) };
        let (list, name, condition) = (table.list(), table.name, table.condition());
        let sql =
            format!("SELECT {list} FROM {name} WHERE {condition} AND {is_more} ORDER BY {key} LIMIT $1");
        within(LONG, async {
            let asking = self.pool.begin(Purpose::Read).await?;
            let rows = select(&asking, table, &sql, &given).await?;
            asking.commit().await?;
            Ok(rows)
        })
        .await
    }

    async fn write(&self, records: Vec<Record>) -> Result<bool, StoreError> {
        within(LONG, async {
            let change = self.pool.begin(Purpose::Write).await?;
            unhurried(&change).await?;
            let is_filling = mark(&change, "FOR UPDATE").await? == Some(Mark::Filling);
            if is_filling {
                clear(&change, &records).await?;
                for (index, table) in OF_A_LEAD.iter().enumerate() {
                    let rows: Vec<&Row> =
                        records.iter().filter_map(|record| record.rows.get(index)).flatten().collect();
                    insert(&change, table, &rows).await?;
                }
                // The next lead that a service accepts comes after these.
                let behind =
                    "SELECT setval(pg_get_serial_sequence('leads', 'seq'), max(seq)) FROM leads HAVING max(seq) > 0";
                change.query(behind, &[]).await?;
            }
            change.commit().await?;
            Ok(is_filling)
        })
        .await
    }

    async fn fill(&self, table: &'static Table, rows: Vec<Row>, first: bool) -> Result<bool, StoreError> {
        within(LONG, async {
            let change = self.pool.begin(Purpose::Write).await?;
            unhurried(&change).await?;
            let is_filling = mark(&change, "FOR UPDATE").await? == Some(Mark::Filling);
            if is_filling {
                if first {
                    let sql = format!("DELETE FROM {} WHERE {}", table.name, table.condition());
                    change.execute(&sql, &[]).await?;
                }
                insert(&change, table, &rows.iter().collect::<Vec<_>>()).await?;
            }
            change.commit().await?;
            Ok(is_filling)
        })
        .await
    }
}

async fn mark(asking: &Transaction<'_>, lock: &str) -> Result<Option<Mark>, StoreError> {
    let sql = format!("SELECT value FROM kept WHERE name = $1 {lock}");
    let rows = asking.query(&sql, &[(&Mark::NAME, Type::TEXT)]).await?;
    rows.first().map(|row| Mark::from_bytes(get(row, 0)?)).transpose()
}

/// No visitor waits for a move, and its batches are large.
async fn unhurried(change: &Transaction<'_>) -> Result<(), StoreError> {
    change.script("SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '30s'").await
}

async fn select(
    asking: &Transaction<'_>,
    table: &Table,
    sql: &str,
    values: &[Given<'_>],
) -> Result<Vec<Row>, StoreError> {
    let rows = asking.query(sql, values).await?;
    let read = |row| {
        let columns = table.columns.iter().enumerate();
        columns.map(|(column, (_, holds))| read(row, column, *holds)).collect()
    };
    rows.iter().map(read).collect()
}

/// Takes away what the store has of these leads already, but for their own rows.
async fn clear(change: &Transaction<'_>, records: &[Record]) -> Result<(), StoreError> {
    let places: Vec<i64> = records.iter().map(|record| record.place).collect();
    let rows =
        change.query("SELECT seq FROM leads WHERE seq = ANY($1)", &[(&places, Type::INT8_ARRAY)]).await?;
    let there: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    if there.is_empty() {
        return Ok(());
    }
    for table in OF_A_LEAD.iter().skip(1).rev() {
        let sql = format!("DELETE FROM {} WHERE {} = ANY($1)", table.name, table.first());
        change.execute(&sql, &[(&there, Type::INT8_ARRAY)]).await?;
    }
    Ok(())
}

/// Inserts rows by one statement. A lead that is there is written over.
async fn insert(change: &Transaction<'_>, table: &Table, rows: &[&Row]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns: Vec<_> =
        table.columns.iter().enumerate().map(|(at, (_, holds))| many(*holds, at, rows)).collect();
    let values: Vec<Given<'_>> =
        columns.iter().map(|(value, kind)| -> Given<'_> { (&**value, kind.clone()) }).collect();
    let marks: Vec<_> = (1..=values.len()).map(|number| format!("${number}")).collect();
    let conflict = if table.first() == "seq" {
        let set = table.columns.iter().skip(1).map(|(name, _)| format!("{name} = excluded.{name}"));
        format!("ON CONFLICT (seq) DO UPDATE SET {}", set.collect::<Vec<_>>().join(", "))
    } else {
        "ON CONFLICT DO NOTHING".to_owned()
    };
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({}) {conflict}",
        table.name,
        table.list(),
        marks.join(", ")
    );
    change.execute(&sql, &values).await.map(drop)
}
