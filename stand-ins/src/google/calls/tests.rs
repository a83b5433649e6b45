//! The contract, method by method.

use super::*;

fn call(method: &str, rest: &str, query: &[(&str, &str)], body: Value) -> Option<Call> {
    let query: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Call::read(method, rest, &query, body)
}

const RAW: (&str, &str) = ("valueInputOption", "RAW");
const INSERT: (&str, &str) = ("insertDataOption", "INSERT_ROWS");

fn update(book: &mut Book, range: &str, values: &Value) -> Result<Value, Refusal> {
    let body = json!({"values": values});
    book.apply(&call("PUT", &format!("/values/{range}"), &[RAW], body).unwrap())
}

fn append(book: &mut Book, range: &str, query: &[(&str, &str)], values: &Value) -> Result<Value, Refusal> {
    let body = json!({"values": values});
    book.apply(&call("POST", &format!("/values/{range}:append"), query, body).unwrap())
}

fn batch(book: &mut Book, requests: &Value) -> Result<Value, Refusal> {
    book.apply(&call("POST", ":batchUpdate", &[], json!({"requests": requests})).unwrap())
}

fn read(book: &mut Book, range: &str) -> Result<Value, Refusal> {
    book.apply(&call("GET", &format!("/values/{range}"), &[], Value::Null).unwrap())
}

fn message(refusal: &Refusal) -> &str {
    refusal.1["error"]["message"].as_str().unwrap()
}

#[test]
fn one_range_is_answered_bare_and_several_as_a_list() {
    let mut book = Book::new("b");
    update(&mut book, "Sheet1!A1", &json!([["a", "", "c"], [], ["d"]])).unwrap();
    let bare = read(&mut book, "Sheet1").unwrap();
    assert_eq!(bare["range"], "Sheet1!A1:Z1000");
    assert_eq!(bare["values"], json!([["a", "", "c"], [], ["d"]]));
    assert_eq!(read(&mut book, "Sheet1!A9:B10").unwrap().get("values"), None);
    let query = [("ranges", "Sheet1!A1"), ("ranges", "Sheet1!A3")];
    let list = book.apply(&call("GET", "/values:batchGet", &query, Value::Null).unwrap()).unwrap();
    assert_eq!(list["valueRanges"][1]["values"], json!([["d"]]));
}

#[test]
fn appended_rows_push_down_what_lies_below_only_when_inserted() {
    for (query, last) in [(&[RAW, INSERT][..], "foot"), (&[RAW][..], "new")] {
        let mut book = Book::new("b");
        update(&mut book, "Sheet1!A1", &json!([["id"], ["1"]])).unwrap();
        update(&mut book, "Sheet1!A4", &json!([["foot"]])).unwrap();
        let done = append(&mut book, "Sheet1!A1", query, &json!([["new"], ["new"]])).unwrap();
        assert_eq!(
            (&done["tableRange"], &done["updates"]["updatedRange"]),
            (&json!("Sheet1!A1:A2"), &json!("Sheet1!A3:A4"))
        );
        let rows = read(&mut book, "Sheet1").unwrap();
        assert_eq!(rows["values"].as_array().unwrap().last().unwrap(), &json!([last]));
    }
}

#[test]
fn null_skips_a_cell_and_text_stays_as_it_is() {
    let mut book = Book::new("b");
    update(&mut book, "Sheet1!A1", &json!([["a", "b", "=1+2", "007", "'x"]])).unwrap();
    update(&mut book, "Sheet1!A1", &json!([["z", null, null]])).unwrap();
    assert_eq!(read(&mut book, "Sheet1").unwrap()["values"], json!([["z", "b", "=1+2", "007", "'x"]]));
}

#[test]
fn a_range_cut_off_by_a_hash_is_no_known_route() {
    assert!(call("POST", "/values/'It's ", &[RAW], json!({})).is_none());
    let whole = call("POST", "/values/%27It%27%27s%20%231%27%21A1:append", &[RAW], json!({}));
    assert!(matches!(whole, Some(Call::Append { range, .. }) if range == "'It''s #1'!A1"));
    assert!(call("PUT", "/values/A1", &[("valueInputOption", "USER_ENTERED")], json!({})).is_none());
}

#[test]
fn a_missing_tab_and_a_place_past_the_grid_are_400() {
    let mut book = Book::new("b");
    let missing = read(&mut book, "'Leads'!A1").unwrap_err();
    assert_eq!((missing.0, message(&missing)), (400, "Unable to parse range: 'Leads'!A1"));
    for range in ["'Sheet1'A1", "'Sheet1'!", "Sheet1!AAAAAAAAAAAAAAAAAAAAAAAA1", "Sheet1!A0"] {
        assert_eq!(read(&mut book, range).unwrap_err().0, 400, "{range}");
    }
    let past = update(&mut book, "Sheet1!A1001", &json!([["x"]])).unwrap_err();
    assert!(message(&past).ends_with("exceeds grid limits. Max rows: 1000, max columns: 26"), "{past:?}");
    let small = update(&mut book, "Sheet1!A1:B2", &json!([["x"], ["x"], ["x"]])).unwrap_err();
    assert!(message(&small).contains("tried writing to row [3]"), "{small:?}");
}

#[test]
fn only_what_makes_the_grid_larger_counts_against_the_most_cells() {
    let mut book = Book::new("b");
    let sheet = |title: &str, rows: usize| {
        let size = json!({"rowCount": rows, "columnCount": 10});
        json!([{"addSheet": {"properties": {"title": title, "gridProperties": size}}}])
    };
    batch(&mut book, &sheet("Leads", 997_400)).unwrap();
    assert_eq!(batch(&mut book, &sheet("More", 1)).unwrap_err().0, 400);
    update(&mut book, "Leads!A1", &json!([["id"], ["1"]])).unwrap();
    append(&mut book, "Leads!A1", &[RAW], &json!([["2"]])).unwrap();
    let full = append(&mut book, "Leads!A1", &[RAW, INSERT], &json!([["3"]])).unwrap_err();
    assert!(message(&full).contains("above the limit of 10000000 cells"), "{full:?}");
    let room = json!([{"appendDimension": {"sheetId": 1, "dimension": "ROWS", "length": 1}}]);
    assert_eq!(batch(&mut book, &room).unwrap_err().0, 400);
    assert_eq!(read(&mut book, "Leads").unwrap()["values"], json!([["id"], ["1"], ["2"]]));
}

#[test]
fn a_cell_holds_fifty_thousand_characters_and_no_more() {
    let mut book = Book::new("b");
    update(&mut book, "Sheet1!A1", &json!([["é".repeat(50_000)]])).unwrap();
    let long = "é".repeat(50_001);
    assert_eq!(append(&mut book, "Sheet1!A1", &[RAW], &json!([["ok"], [long]])).unwrap_err().0, 400);
    let row = json!({"values": [{"userEnteredValue": {"stringValue": long}}]});
    assert_eq!(
        batch(&mut book, &json!([{"appendCells": {"sheetId": 0, "rows": [row]}}])).unwrap_err().0,
        400
    );
    assert_eq!(book.tabs[0].filled_rows(), 1);
}

#[test]
fn a_batch_is_done_whole_or_not_at_all() {
    let cell = |text: &str| json!({"values": [{"userEnteredValue": {"stringValue": text}}]});
    let mut book = Book::new("b");
    let fine =
        json!({"appendCells": {"sheetId": 0, "rows": [cell("a"), cell("b")], "fields": "userEnteredValue"}});
    let lost = json!({"appendCells": {"sheetId": 7, "rows": [cell("c")]}});
    let refused = batch(&mut book, &json!([fine, lost])).unwrap_err();
    assert_eq!(message(&refused), "Invalid requests[1].appendCells: No grid with id: 7");
    assert_eq!(book.tabs[0].filled_rows(), 0);
    let done = batch(&mut book, &json!([fine, {"addSheet": {"properties": {"title": "Leads"}}}])).unwrap();
    assert_eq!(
        (&done["replies"][0], &done["replies"][1]["addSheet"]["properties"]["sheetId"]),
        (&json!({}), &json!(1))
    );
    let again = batch(&mut book, &json!([{"addSheet": {"properties": {"title": "Leads"}}}])).unwrap_err();
    assert!(message(&again).contains("A sheet with the name \"Leads\" already exists."), "{again:?}");
    let wide: Vec<_> = (0..27).map(|_| json!({"userEnteredValue": {"stringValue": "x"}})).collect();
    let rows = json!([cell("ok"), {"values": wide}]);
    let refused = batch(&mut book, &json!([{"appendCells": {"sheetId": 0, "rows": rows}}])).unwrap_err();
    assert!(
        message(&refused).contains("write column: 26, beyond the last requested column of: 25"),
        "{refused:?}"
    );
    assert_eq!(book.tabs[0].filled_rows(), 2, "a batch of one that is refused leaves nothing behind");
}

#[test]
fn what_the_stand_in_cannot_hold_is_refused() {
    let mut book = Book::new("b");
    let formula = json!({"values": [{"userEnteredValue": {"formulaValue": "=1"}}]});
    assert!(batch(&mut book, &json!([{"appendCells": {"sheetId": 0, "rows": [formula]}}])).is_err());
    let past = json!({"start": {"sheetId": 0, "rowIndex": 1_000}, "rows": [{"values": [{}]}]});
    assert!(batch(&mut book, &json!([{"updateCells": past}])).is_err());
    assert!(batch(&mut book, &json!([{"deleteSheet": {"sheetId": 0}}])).is_err());
    assert!(batch(&mut book, &json!([])).is_err());
}

#[test]
fn several_ranges_are_updated_together_and_a_range_is_cleared() {
    let mut book = Book::new("b");
    let two = |second: &str| {
        let data =
            json!([{"range": "Sheet1!A1", "values": [["a", "b"]]}, {"range": second, "values": [["c"]]}]);
        call("POST", "/values:batchUpdate", &[], json!({"valueInputOption": "RAW", "data": data})).unwrap()
    };
    assert!(book.apply(&two("None!A1")).is_err());
    assert_eq!(book.tabs[0].filled_rows(), 0);
    let done = book.apply(&two("Sheet1!A2")).unwrap();
    assert_eq!((&done["totalUpdatedCells"], &done["totalUpdatedRows"]), (&json!(3), &json!(2)));
    book.apply(&call("POST", "/values/Sheet1!A1:B1:clear", &[], json!({})).unwrap()).unwrap();
    assert_eq!(read(&mut book, "Sheet1").unwrap()["values"], json!([[], ["c"]]));
}

#[test]
fn a_persons_hands_move_the_cells() {
    let mut book = Book::new("b");
    update(&mut book, "Sheet1!A1", &json!([["id", "name"], ["2", "b"], ["1", "a"]])).unwrap();
    let tab = &mut book.tabs[0];
    tab.sort_by(0);
    tab.insert_column(0);
    tab.set(0, 0, "note");
    tab.insert_blank_row(2);
    assert_eq!((tab.row_count, tab.column_count), (1_001, 27));
    let rows = read(&mut book, "Sheet1").unwrap();
    assert_eq!(rows["values"], json!([["note", "id", "name"], ["", "1", "a"], [], ["", "2", "b"]]));
    // The blank row cuts the table in two: a header anchor lands in the middle of the sheet.
    let done = append(&mut book, "Sheet1!A1", &[RAW, INSERT], &json!([["", "3"]])).unwrap();
    assert_eq!(done["updates"]["updatedRange"], "Sheet1!A3:B3");
    book.tabs[0].delete_row(2);
    book.tabs[0].delete_column(0);
    let rows = read(&mut book, "Sheet1").unwrap();
    assert_eq!(rows["values"], json!([["id", "name"], ["1", "a"], [], ["2", "b"]]));
}

#[test]
fn the_quota_body_names_reads_and_writes_apart() {
    for (kind, word) in [(Kind::Read, "Read"), (Kind::Append, "Write"), (Kind::Write, "Write")] {
        let (code, body) = crate::google::answer::quota(kind);
        assert_eq!((code, &body["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
        assert_eq!(body["error"]["details"][0]["reason"], "RATE_LIMIT_EXCEEDED");
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.starts_with(&format!("Quota exceeded for quota metric '{word} requests'")), "{text}");
    }
}

#[test]
fn thirty_thousand_rows_are_appended_and_read() {
    let mut book = Book::new("b");
    update(&mut book, "Sheet1!A1", &json!([["id", "name"]])).unwrap();
    for block in 0..60 {
        let rows: Vec<_> = (0..500).map(|row| json!([format!("L-{}", block * 500 + row), "x"])).collect();
        append(&mut book, "Sheet1!A1", &[RAW, INSERT], &json!(rows)).unwrap();
    }
    assert_eq!(read(&mut book, "Sheet1!A:A").unwrap()["values"].as_array().unwrap().len(), 30_001);
}
