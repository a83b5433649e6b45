//! People and other programs that work in the same spreadsheet.

use serde_json::{Value, json};
use stand_ins::google::{Fault, Google, On};

use super::{ids, named, service};
use crate::support::ada;

#[tokio::test]
async fn a_person_may_reorder_add_and_sort_columns_and_rows() {
    let google = Google::start().await;
    google.edit("Leads", |tab| {
        for (column, name) in ["Owner", "email", "id", "note"].into_iter().enumerate() {
            tab.cells.resize(2, Vec::new());
            tab.cells[0].resize(4, Value::Null);
            tab.cells[0][column] = json!(name);
        }
        tab.cells[1] = vec![json!("Eve"), json!("old@example.com"), json!("lead_old"), json!("mine")];
    });
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    let rows = google.rows("Leads");
    assert_eq!(rows[0][..4], ["Owner", "email", "id", "note"]);
    assert_eq!(rows[1][..4], ["Eve", "old@example.com", "lead_old", "mine"]);
    assert_eq!(rows[2][..3], ["", "ada@example.com", id.as_str()], "found by name");
    assert!(rows[0].contains(&"message".to_owned()));
}

#[tokio::test]
async fn a_tab_without_an_id_column_is_left_alone() {
    let google = Google::start().await;
    google.edit("Leads", |tab| tab.cells = vec![vec![json!("name"), json!("email")], vec![json!("Eve")]]);
    let before = google.rows("Leads");
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    let detail = service.delivery(&id, "sheet").await["history"][0]["detail"].to_string();
    assert!(detail.contains("no column `id`"), "{detail}");
    assert_eq!(google.rows("Leads"), before);
}

#[tokio::test]
async fn rows_that_google_puts_elsewhere_are_noticed_and_stand_once_where_they_belong() {
    // Beside the table, as if another one were meant; near the top; in another tab, above its first row.
    for (place, in_place) in [("'Leads'!AA2", false), ("'Leads'!A2", true), ("'Sheet1'!A1", false)] {
        let google = Google::start().await;
        let service = service(&google, &[]).await;
        let first = service.accepted(&ada()).await;
        google.next(On::Appends, Fault::PutAt(place));
        let second = service.accepted(&named("Second", &json!({}))).await;
        let delivery = service.until_state(&second, "sheet", "delivered").await;
        let mut there = ids(&google);
        there.retain(|id| !id.is_empty());
        assert_eq!(there.iter().filter(|id| **id == second).count(), 1, "{place}: {there:?}");
        assert_eq!(there.iter().filter(|id| **id == first).count(), 1, "{place}: {there:?}");
        let first = &delivery["history"][0];
        if in_place {
            assert_eq!(first["outcome"], "delivered", "it is below the header, and whole: {delivery}");
        } else {
            assert_eq!((&first["outcome"], &first["code"]), (&json!("unknown"), &json!("misplaced")));
            assert!(first["detail"].as_str().unwrap().contains("looked at before it is sent again"));
        }
    }
}

#[tokio::test]
async fn another_program_that_appends_at_the_same_moment_loses_no_row_and_takes_none() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let first = service.accepted(&ada()).await;
    // A note of the owner's, one empty row below the table.
    google.edit("Leads", |tab| tab.set(3, 0, "lead_noted_by_hand"));
    google.next(On::Appends, Fault::Race(&["lead_of_another_program"]));
    let second = service.accepted(&named("Second", &json!({}))).await;
    let third = service.accepted(&named("Third", &json!({}))).await;
    let there = ids(&google);
    for id in [&*first, &second, &third, "lead_of_another_program", "lead_noted_by_hand"] {
        assert_eq!(there.iter().filter(|there| *there == id).count(), 1, "{id}: {there:?}");
    }
}

#[tokio::test]
async fn a_tab_that_took_the_old_name_of_ours_gets_no_leads() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let first = service.accepted(&ada()).await;
    google.edit("Leads", |tab| tab.title = "Leads of last year".to_owned());
    google.edit("Leads", |_| {});
    let second = service.accepted(&named("Second", &json!({}))).await;
    let third = service.accepted(&named("Third", &json!({}))).await;
    for id in [&second, &third] {
        service.until_state(id, "sheet", "delivered").await;
    }
    let mut there: Vec<_> =
        google.records("Leads of last year").into_iter().map(|row| row["id"].clone()).collect();
    there.sort();
    let mut wanted = [first, second, third.clone()];
    wanted.sort();
    assert_eq!(there, wanted, "a tab is known by its number");
    // What was on its way in the moment of the change may stand in the new tab as well, and nothing after it.
    let strays = google.rows("Leads");
    assert!(strays.len() <= 1 && !format!("{strays:?}").contains(&third), "{strays:?}");
}

#[tokio::test]
async fn a_tab_that_is_renamed_is_followed_and_an_odd_name_is_no_trouble() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__TAB", "It's #1? 100%/A")]).await;
    service.accepted(&ada()).await;
    assert_eq!(google.records("It's #1? 100%/A").len(), 1);
    google.edit("It's #1? 100%/A", |tab| tab.title = "Renamed".to_owned());
    let id = service.accepted(&named("Second", &json!({}))).await;
    service.until_state(&id, "sheet", "delivered").await;
    assert_eq!(google.records("Renamed").len(), 2);
    assert_eq!(google.tabs(), ["Sheet1", "Renamed"]);
}
