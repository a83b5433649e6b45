//! No table and no column is forgotten: what a move knows is what the engines have.

use std::collections::{BTreeMap, BTreeSet};

use lead_intake::store::archive::Mark;
use lead_intake::store::archive::tables::{LEFT_OUT, OF_A_LEAD, OF_THE_STORE, Table};

use super::filled::open;
use super::said;
use crate::support::postgres::{is_here, shared};

/// Table, then column and whether the key has it.
type Schema = BTreeMap<String, BTreeSet<(String, bool)>>;

fn known() -> Schema {
    let columns = |table: &Table| {
        let columns = table.columns.iter().enumerate();
        columns.map(|(at, (name, _))| ((*name).to_owned(), at < table.key)).collect()
    };
    OF_A_LEAD.iter().chain(&OF_THE_STORE).map(|table| (table.name.to_owned(), columns(table))).collect()
}

fn compare(engine: &str, mut there: Schema) {
    for (name, why) in LEFT_OUT {
        assert!(
            there.remove(name).is_some(),
            "{engine} has no table {name}, which is left out because {why}"
        );
    }
    let known = known();
    for (table, columns) in &there {
        let moved = known.get(table).unwrap_or_else(|| {
            panic!("a move of {engine} forgets the table {table}: say in src/store/archive/tables.rs what becomes of it")
        });
        assert_eq!(columns, moved, "a move of {engine} knows other columns of {table}");
    }
    assert_eq!(there.len(), known.len(), "{engine} lacks a table that moves");
}

#[tokio::test]
async fn a_move_knows_every_table_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leads.db");
    open(&path).close().await;
    let db = rusqlite::Connection::open(&path).unwrap();
    let mut select = db
        .prepare(
            "SELECT m.name, c.name, c.pk > 0 FROM sqlite_master m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
        )
        .unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    let mut there = Schema::new();
    for row in rows {
        let (table, column): (String, (String, bool)) = row.unwrap();
        there.entry(table).or_default().insert(column);
    }
    compare("SQLite", there);
}

#[tokio::test]
async fn a_move_knows_every_table_of_postgres() {
    if !is_here() {
        return;
    }
    let url = shared().database().await;
    said(&url, &["migrate"]).await;
    let name = url.split("@/").nth(1).unwrap().split('?').next().unwrap();
    let rows = shared()
        .connect(name)
        .await
        .query(
            "SELECT c.relname, a.attname, coalesce(a.attnum = ANY(i.indkey), false)
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
             WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace",
            &[],
        )
        .await
        .unwrap();
    let mut there = Schema::new();
    for row in rows {
        there.entry(row.get(0)).or_default().insert((row.get(1), row.get(2)));
    }
    compare("PostgreSQL", there);
}

#[test]
fn neither_the_mark_of_a_move_nor_what_a_clock_said_ever_moves() {
    let kept = OF_THE_STORE.iter().find(|table| table.name == "kept").unwrap();
    assert_eq!(kept.except, Some(format!("name IN ('{}', 'clock')", Mark::NAME).as_str()));
}
