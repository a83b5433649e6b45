//! The Sheets v4 methods, on the grid.

use serde_json::{Value, json};

use super::grid::{self, Area, Tab, a1, parse_a1};

/// What a call is, for quotas and faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any read.
    Read,
    /// `values.append`.
    Append,
    /// Any other write.
    Write,
}

/// A call, told from its method and path.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Get { ranges: Vec<String> },
    ValuesGet { range: String, typed: bool },
    BatchGet { ranges: Vec<String>, typed: bool },
    Append { range: String, insert: bool, body: Value },
    Update { range: String, body: Value },
    Clear { range: String },
    ValuesBatchUpdate { body: Value },
    BatchUpdate { body: Value },
}

/// An error, as Google writes it.
pub(super) type Refusal = (u16, Value);

/// `{"error": {…}}`
pub(super) fn refusal(code: u16, message: &str) -> Refusal {
    let status = match code {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    (code, json!({"error": {"code": code, "message": message, "status": status}}))
}

impl Call {
    /// `rest` is the path behind the spreadsheet's id, percent-decoding not yet done.
    pub(super) fn read(method: &str, rest: &str, query: &[(String, String)], body: Value) -> Option<Self> {
        let all = |name: &str| {
            query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let one = |name: &str| all(name).pop().unwrap_or_default();
        let decoded =
            |range: &str| percent_encoding::percent_decode_str(range).decode_utf8_lossy().into_owned();
        let raw = || one("valueInputOption") == "RAW";
        match (method, rest) {
            ("GET", "") => Some(Self::Get { ranges: all("ranges") }),
            ("POST", ":batchUpdate") => Some(Self::BatchUpdate { body }),
            ("GET", "/values:batchGet") => Some(Self::BatchGet {
                ranges: all("ranges"),
                typed: one("valueRenderOption") == "UNFORMATTED_VALUE",
            }),
            ("POST", "/values:batchUpdate") if body["valueInputOption"] == "RAW" => {
                Some(Self::ValuesBatchUpdate { body })
            }
            ("GET", _) => {
                let range = decoded(rest.strip_prefix("/values/")?);
                Some(Self::ValuesGet { range, typed: one("valueRenderOption") == "UNFORMATTED_VALUE" })
            }
            ("PUT", _) if raw() => {
                Some(Self::Update { range: decoded(rest.strip_prefix("/values/")?), body })
            }
            ("POST", _) => {
                let (range, verb) = rest.strip_prefix("/values/")?.rsplit_once(':')?;
                match verb {
                    "append" if raw() => {
                        let insert = one("insertDataOption") == "INSERT_ROWS";
                        Some(Self::Append { range: decoded(range), insert, body })
                    }
                    "clear" => Some(Self::Clear { range: decoded(range) }),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Get { .. } | Self::ValuesGet { .. } | Self::BatchGet { .. } => Kind::Read,
            Self::Append { .. } => Kind::Append,
            _ => Kind::Write,
        }
    }

    /// How many rows an append carries.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Append { body, .. } => body["values"].as_array().map_or(0, Vec::len),
            _ => 0,
        }
    }
}

/// The spreadsheet.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) id: String,
    pub(super) tabs: Vec<Tab>,
    pub(super) next_sheet_id: i64,
}

impl Book {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), tabs: vec![Tab::new(0, "Sheet1", 1_000, 26)], next_sheet_id: 1 }
    }

    /// Does a call; what it would answer.
    pub(super) fn apply(&mut self, call: &Call) -> Result<Value, Refusal> {
        match call {
            Call::Get { ranges } => self.get(ranges),
            Call::ValuesGet { range, typed } => self.read(range, *typed),
            Call::BatchGet { ranges, typed } => {
                let answers =
                    ranges.iter().map(|range| self.read(range, *typed)).collect::<Result<Vec<_>, _>>()?;
                Ok(json!({"spreadsheetId": self.id, "valueRanges": answers}))
            }
            Call::Append { range, insert, body } => self.append(range, *insert, body),
            Call::Update { range, body } => self.update(range, body),
            Call::Clear { range } => {
                let (tab, area) = self.find(range)?;
                let last = area.rows.1.unwrap_or(tab.cells.len()).min(tab.cells.len());
                for row in area.rows.0..last {
                    let end = area.columns.1.unwrap_or(usize::MAX).min(tab.cells[row].len());
                    (area.columns.0..end).for_each(|column| tab.cells[row][column] = Value::Null);
                }
                Ok(json!({"spreadsheetId": self.id, "clearedRange": range}))
            }
            Call::ValuesBatchUpdate { body } => {
                let parts = body["data"].as_array().map_or(&[][..], Vec::as_slice);
                let answers = self.all_or_nothing(parts, |book, _, part| {
                    book.update(part["range"].as_str().unwrap_or_default(), part)
                })?;
                let sum = |name: &str| answers.iter().filter_map(|answer| answer[name].as_u64()).sum::<u64>();
                Ok(json!({
                    "spreadsheetId": self.id, "totalUpdatedRows": sum("updatedRows"),
                    "totalUpdatedCells": sum("updatedCells"), "responses": answers,
                }))
            }
            Call::BatchUpdate { body } => {
                let requests = body["requests"].as_array().map_or(&[][..], Vec::as_slice);
                if requests.is_empty() {
                    return Err(refusal(400, "Must specify at least one request."));
                }
                let replies = self.all_or_nothing(requests, |book, position, request| {
                    let (name, what) = request
                        .as_object()
                        .and_then(|request| request.iter().next())
                        .ok_or_else(|| refusal(400, &format!("Invalid requests[{position}]: empty")))?;
                    let wrong =
                        |why: String| refusal(400, &format!("Invalid requests[{position}].{name}: {why}"));
                    book.one(name, what).map_err(wrong)
                })?;
                Ok(json!({"spreadsheetId": self.id, "replies": replies}))
            }
        }
    }

    /// Does every part of a batch, or none. A part that is refused changes nothing by itself, so a
    /// batch of one needs no copy of the spreadsheet to go back to.
    fn all_or_nothing(
        &mut self,
        parts: &[Value],
        mut each: impl FnMut(&mut Self, usize, &Value) -> Result<Value, Refusal>,
    ) -> Result<Vec<Value>, Refusal> {
        let before = (parts.len() > 1).then(|| self.clone());
        let done = parts.iter().enumerate().map(|(at, part)| each(self, at, part)).collect();
        if let (Err(_), Some(before)) = (&done, before) {
            *self = before;
        }
        done
    }

    /// Whether a tab may grow to this size, beside the others.
    fn room(&self, sheet_id: Option<i64>, rows: usize, columns: usize) -> Result<(), String> {
        let others = self.tabs.iter().filter(|tab| Some(tab.sheet_id) != sheet_id);
        let cells = others.map(|tab| tab.row_count * tab.column_count).sum::<usize>();
        grid::has_room(cells, rows, columns)
    }

    fn find(&mut self, range: &str) -> Result<(&mut Tab, Area), Refusal> {
        let unreadable = || refusal(400, &format!("Unable to parse range: {range}"));
        let (title, area) = parse_a1(range).ok_or_else(unreadable)?;
        let tab = self.tabs.iter_mut().find(|tab| tab.title == title).ok_or_else(unreadable)?;
        let past = area.rows.0 >= tab.row_count || area.columns.0 >= tab.column_count;
        if past {
            return Err(refusal(
                400,
                &format!(
                    "Range ({range}) exceeds grid limits. Max rows: {}, max columns: {}",
                    tab.row_count, tab.column_count
                ),
            ));
        }
        Ok((tab, area))
    }

    fn get(&mut self, ranges: &[String]) -> Result<Value, Refusal> {
        if ranges.is_empty() {
            let tabs: Vec<_> = self
                .tabs
                .iter()
                .enumerate()
                .map(|(index, tab)| json!({"properties": tab.properties(index)}))
                .collect();
            return Ok(json!({"spreadsheetId": self.id, "sheets": tabs}));
        }
        let mut sheets = Vec::new();
        for range in ranges {
            let (tab, area) = self.find(range)?;
            let cell = |value: &Value| if value == "" { json!({}) } else { json!({"formattedValue": value}) };
            let rows: Vec<_> = tab
                .read(area, false)
                .iter()
                .map(|row| json!({"values": row.iter().map(cell).collect::<Vec<_>>()}))
                .collect();
            sheets.push(json!({"properties": tab.properties(0), "data": [{"rowData": rows}]}));
        }
        Ok(json!({"spreadsheetId": self.id, "sheets": sheets}))
    }

    fn read(&mut self, range: &str, typed: bool) -> Result<Value, Refusal> {
        let (tab, area) = self.find(range)?;
        let values = tab.read(area, typed);
        let rows = (area.rows.0, area.rows.1.unwrap_or(tab.row_count));
        let columns = (area.columns.0, area.columns.1.unwrap_or(tab.column_count));
        let mut answer = json!({"range": a1(&tab.title, rows, columns), "majorDimension": "ROWS"});
        if !values.is_empty() {
            answer["values"] = json!(values);
        }
        Ok(answer)
    }

    fn values(body: &Value) -> Result<Vec<Vec<Value>>, Refusal> {
        let values: Vec<Vec<Value>> = serde_json::from_value(body["values"].clone())
            .map_err(|_| refusal(400, "Invalid value at 'data.values'"))?;
        grid::fits(values.iter().flatten()).map_err(|why| refusal(400, &why))?;
        Ok(values)
    }

    fn append(&mut self, range: &str, insert: bool, body: &Value) -> Result<Value, Refusal> {
        let values = Self::values(body)?;
        let id = self.id.clone();
        let (tab, area) = self.find(range)?;
        let table = tab.table(area);
        let (row, column) = table.map_or((area.rows.0, area.columns.0), |table| {
            (table.rows.1.unwrap_or_default(), table.columns.0)
        });
        let (sheet_id, width) = (tab.sheet_id, values.iter().map(Vec::len).max().unwrap_or(0));
        let is_insert = insert && table.is_some();
        let columns = tab.column_count.max(column + width);
        let rows =
            if is_insert { tab.row_count + values.len() } else { tab.row_count.max(row + values.len()) };
        self.room(Some(sheet_id), rows, columns).map_err(|why| refusal(400, &why))?;
        let (tab, _) = self.find(range)?;
        if is_insert {
            tab.insert_rows(row, values.len());
        }
        (tab.row_count, tab.column_count) = (rows, columns);
        let count = values.len();
        for (down, cells) in values.into_iter().enumerate() {
            cells
                .into_iter()
                .enumerate()
                .for_each(|(across, value)| tab.put(row + down, column + across, value));
        }
        let updated = a1(&tab.title, (row, row + count.max(1)), (column, column + width.max(1)));
        let mut answer = json!({
            "spreadsheetId": id,
            "updates": {"spreadsheetId": id, "updatedRange": updated, "updatedRows": count, "updatedColumns": width, "updatedCells": count * width},
        });
        if let Some(Area { rows: (top, Some(bottom)), columns: (left, Some(right)) }) = table {
            answer["tableRange"] = json!(a1(&tab.title, (top, bottom), (left, right)));
        }
        Ok(answer)
    }

    /// What an append does where Google has lost its way: the rows are put at this place.
    pub(super) fn put_at(&mut self, place: &str, body: &Value) -> Result<Value, Refusal> {
        let count = Self::values(body)?.len();
        if let Some((title, area)) = parse_a1(place)
            && let Some(tab) = self.tabs.iter_mut().find(|tab| tab.title == title)
        {
            tab.column_count = tab.column_count.max(area.columns.0 + 100);
        }
        let (tab, area) = self.find(place)?;
        if tab.is_filled(area.rows.0, area.columns.0) {
            tab.row_count += count;
            tab.insert_rows(area.rows.0, count);
        }
        let updates = self.update(place, body)?;
        Ok(json!({"spreadsheetId": self.id, "tableRange": place, "updates": updates}))
    }

    /// An append beside one of another program, which writes to the place that it found free before. Rows that
    /// were inserted have pushed that place down; rows that were only written there are written over.
    pub(super) fn race(
        &mut self,
        range: &str,
        insert: bool,
        body: &Value,
        other: &[&str],
    ) -> Result<Value, Refusal> {
        let answer = self.append(range, insert, body)?;
        let place = answer["updates"]["updatedRange"].as_str().unwrap_or_default().to_owned();
        let first = place.split(':').next().unwrap_or_default();
        let theirs = json!({"values": [other]});
        if insert {
            self.append(range, true, &theirs)?
        } else {
            self.update(first, &theirs)?
        };
        Ok(answer)
    }

    /// The tabs that a call writes to, and what it writes, as text.
    pub(super) fn written(&self, call: &Call) -> (Vec<String>, String) {
        let of_range = |range: &str| parse_a1(range).map(|(title, _)| title);
        let of_id = |request: &Value| {
            let what = request.as_object()?.values().next()?;
            let places = [&what["sheetId"], &what["start"]["sheetId"], &what["range"]["sheetId"]];
            let id = places.into_iter().find_map(Value::as_i64)?;
            self.tabs.iter().find(|tab| tab.sheet_id == id).map(|tab| tab.title.clone())
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        match call {
            Call::Append { range, body, .. } | Call::Update { range, body } => {
                (of_range(range).into_iter().collect(), body.to_string())
            }
            Call::Clear { range } => (of_range(range).into_iter().collect(), String::new()),
            Call::ValuesBatchUpdate { body } => {
                let ranges = list(&body["data"]);
                let tabs = ranges.iter().filter_map(|part| of_range(part["range"].as_str()?)).collect();
                (tabs, body.to_string())
            }
            Call::BatchUpdate { body } => {
                (list(&body["requests"]).iter().filter_map(of_id).collect(), body.to_string())
            }
            Call::Get { .. } | Call::ValuesGet { .. } | Call::BatchGet { .. } => (Vec::new(), String::new()),
        }
    }

    fn update(&mut self, range: &str, body: &Value) -> Result<Value, Refusal> {
        let values = Self::values(body)?;
        let id = self.id.clone();
        let (tab, area) = self.find(range)?;
        let (rows, width) = (values.len(), values.iter().map(Vec::len).max().unwrap_or(0));
        let (row, column) = (area.rows.0, area.columns.0);
        if area.rows.1.is_some_and(|end| row + rows > end && range.contains(':')) {
            return Err(refusal(
                400,
                &format!(
                    "Requested writing within range [{range}], but tried writing to row [{}]",
                    row + rows
                ),
            ));
        }
        if row + rows > tab.row_count || column + width > tab.column_count {
            return Err(refusal(
                400,
                &format!(
                    "Range ({range}) exceeds grid limits. Max rows: {}, max columns: {}",
                    tab.row_count, tab.column_count
                ),
            ));
        }
        for (down, cells) in values.into_iter().enumerate() {
            cells
                .into_iter()
                .enumerate()
                .for_each(|(across, value)| tab.put(row + down, column + across, value));
        }
        let updated = a1(&tab.title, (row, row + rows.max(1)), (column, column + width.max(1)));
        Ok(
            json!({"spreadsheetId": id, "updatedRange": updated, "updatedRows": rows, "updatedColumns": width, "updatedCells": rows * width}),
        )
    }

    /// One request of a batchUpdate; its reply.
    fn one(&mut self, name: &str, what: &Value) -> Result<Value, String> {
        if name == "addSheet" {
            let properties = &what["properties"];
            let title = properties["title"].as_str().unwrap_or("Sheet").to_owned();
            if self.tabs.iter().any(|tab| tab.title.eq_ignore_ascii_case(&title)) {
                return Err(format!(
                    "A sheet with the name \"{title}\" already exists. Please enter another name."
                ));
            }
            let size = |name: &str, default: u64| {
                usize::try_from(properties["gridProperties"][name].as_u64().unwrap_or(default)).unwrap_or(1)
            };
            let (rows, columns) = (size("rowCount", 1_000), size("columnCount", 26));
            self.room(None, rows, columns)?;
            let tab = Tab::new(self.next_sheet_id, &title, rows, columns);
            self.next_sheet_id += 1;
            let reply = json!({"addSheet": {"properties": tab.properties(self.tabs.len())}});
            self.tabs.push(tab);
            return Ok(reply);
        }
        let places = [
            &what["sheetId"],
            &what["start"]["sheetId"],
            &what["properties"]["sheetId"],
            &what["range"]["sheetId"],
        ];
        let sheet_id = places.into_iter().find_map(Value::as_i64).unwrap_or(0);
        let tab = self
            .tabs
            .iter()
            .position(|tab| tab.sheet_id == sheet_id)
            .ok_or_else(|| format!("No grid with id: {sheet_id}"))?;
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(0);
        match name {
            "updateSheetProperties" if what["fields"] == "title" => {
                let title = what["properties"]["title"].as_str().unwrap_or_default();
                self.tabs[tab].title = title.to_owned();
            }
            "appendDimension" => {
                let (mut rows, mut columns) = (self.tabs[tab].row_count, self.tabs[tab].column_count);
                match what["dimension"].as_str() {
                    Some("ROWS") => rows += number(&what["length"]),
                    Some("COLUMNS") => columns += number(&what["length"]),
                    _ => return Err("No dimension specified.".to_owned()),
                }
                self.room(Some(sheet_id), rows, columns)?;
                (self.tabs[tab].row_count, self.tabs[tab].column_count) = (rows, columns);
            }
            "updateCells" => {
                let start = (number(&what["start"]["rowIndex"]), number(&what["start"]["columnIndex"]));
                let rows = entered(&what["rows"])?;
                let last = self.tabs[tab].row_count;
                if start.0 + rows.len() > last {
                    let row = start.0 + rows.len() - 1;
                    return Err(format!(
                        "Attempting to write row: {row}, beyond the last requested row of: {}",
                        last.saturating_sub(1)
                    ));
                }
                self.tabs[tab].write(start, rows)?;
            }
            "appendCells" => {
                let rows = entered(&what["rows"])?;
                let row = self.tabs[tab].filled_rows();
                let height = self.tabs[tab].row_count.max(row + rows.len());
                self.room(Some(sheet_id), height, self.tabs[tab].column_count)?;
                self.tabs[tab].write((row, 0), rows)?;
                self.tabs[tab].row_count = height;
            }
            "deleteDuplicates" => {
                let columns = what["comparisonColumns"].as_array().into_iter().flatten();
                let columns: Vec<_> =
                    columns.flat_map(|it| number(&it["startIndex"])..number(&it["endIndex"])).collect();
                let removed = self.tabs[tab].delete_repeats(
                    (number(&what["range"]["startRowIndex"]), number(&what["range"]["endRowIndex"])),
                    &columns,
                );
                return Ok(json!({"deleteDuplicates": {"duplicatesRemovedCount": removed}}));
            }
            _ => return Err("the stand-in does not know this request".to_owned()),
        }
        Ok(json!({}))
    }
}

/// The values of a request's cells. What the stand-in cannot hold is refused, not left out.
fn entered(rows: &Value) -> Result<Vec<Vec<Value>>, String> {
    let value = |cell: &Value| match cell.get("userEnteredValue") {
        None => Ok(json!("")),
        Some(entered) => ["stringValue", "numberValue", "boolValue"]
            .iter()
            .find_map(|kind| entered.get(kind))
            .cloned()
            .ok_or_else(|| "the stand-in holds text, numbers and booleans alone".to_owned()),
    };
    let rows: Vec<Vec<Value>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row["values"].as_array().into_iter().flatten().map(value).collect())
        .collect::<Result<_, String>>()?;
    grid::fits(rows.iter().flatten())?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
