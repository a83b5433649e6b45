//! The calls to Google that are made, each with its own time limit.

use std::time::Duration;

use google_sheets4::Sheets;
use google_sheets4::api::{
    AddSheetRequest, AppendDimensionRequest, BatchUpdateSpreadsheetRequest, BatchUpdateValuesRequest,
    CellData, DeleteDuplicatesRequest, DimensionRange, ExtendedValue, GridCoordinate, GridProperties,
    GridRange, Request, RowData, Scope, Sheet, SheetProperties, UpdateCellsRequest,
    UpdateSheetPropertiesRequest, ValueRange,
};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;
use tokio::time::timeout;

use super::a1::{corner, letters, quoted};
use super::columns::Header;
use super::failure::{Failure, Heard};
use super::settings::Parsed;
use super::token::Tokens;

/// How long a read may take.
const READ: Duration = Duration::from_secs(15);

/// How long a write may take.
const WRITE: Duration = Duration::from_secs(60);

/// What may stand in a path as it is (RFC 3986 section 2.3): a `#`, a `?` or a space in a tab's name
/// would otherwise end the path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How many rows a tab of ours begins with.
const ROWS: i32 = 1_000;

pub(super) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// A tab: its number and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tab {
    pub(super) sheet_id: i32,
    pub(super) title: String,
    pub(super) columns: usize,
}

/// Where appended rows went.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    /// The range, as Google writes it.
    pub(super) range: String,
    /// How many rows.
    pub(super) rows: usize,
}

/// One spreadsheet at Google.
pub(super) struct Api {
    hub: Sheets<Connector>,
    tokens: Tokens,
    spreadsheet: String,
    /// No call takes longer than an attempt may.
    longest: Duration,
}

/// Makes a call and tells its failure; a token that Google refuses is dropped and the call made once more.
macro_rules! call {
    ($api:ident, $limit:expr, $call:expr) => {{
        let mut fresh = false;
        loop {
            let mut heard = Heard::default();
            let made = $call.clear_scopes().add_scope(Scope::Spreadsheet).delegate(&mut heard);
            match timeout($limit.min($api.longest), made.doit()).await {
                Err(_) => break Err(Failure::Lost("timeout".to_owned())),
                Ok(Ok((_, answer))) => break Ok(answer),
                Ok(Err(error)) => {
                    let failure = heard.understood(error);
                    if failure.is_stale_token() && !std::mem::replace(&mut fresh, true) {
                        $api.tokens.drop_current().await;
                        continue;
                    }
                    break Err(failure);
                }
            }
        }
    }};
}

impl Api {
    pub(super) fn new(parsed: &Parsed) -> Self {
        let connector = connector();
        let tokens = Tokens::new(parsed.key.clone(), connector.clone());
        let mut hub = Sheets::new(Client::builder(TokioExecutor::new()).build(connector), tokens.clone());
        hub.base_url(parsed.base_url.clone());
        Self { hub, tokens, spreadsheet: parsed.spreadsheet_id.clone(), longest: parsed.timeout }
    }

    /// The address that the sheet must be shared with.
    pub(super) fn account(&self) -> &str {
        self.tokens.account()
    }

    /// The tab of this name and its first row, in one read. `None`: there is no such tab.
    pub(super) async fn head(&self, title: &str) -> Result<Option<(Tab, Header)>, Failure> {
        let fields = "sheets(properties(sheetId,title,gridProperties(columnCount)),data(rowData(values(formattedValue))))";
        let range = format!("{}!1:1", quoted(title));
        let asked = call!(
            self,
            READ,
            self.hub.spreadsheets().get(&self.spreadsheet).add_ranges(&range).param("fields", fields)
        );
        let book = match asked {
            Err(Failure::Refused { status: 400, message, .. })
                if message.starts_with("Unable to parse range") =>
            {
                return Ok(None);
            }
            asked => asked?,
        };
        let sheet = book.sheets.unwrap_or_default().into_iter().next();
        let Some((sheet, tab)) =
            sheet.and_then(|sheet| Some((tab(&sheet)?, sheet))).map(|(tab, sheet)| (sheet, tab))
        else {
            return Err(Failure::Lost("no_tab_in_answer".to_owned()));
        };
        let row = sheet.data.and_then(|data| data.into_iter().next()).and_then(|data| data.row_data);
        let cells =
            row.and_then(|rows| rows.into_iter().next()).and_then(|row| row.values).unwrap_or_default();
        let header = Header(cells.into_iter().map(|cell| cell.formatted_value.unwrap_or_default()).collect());
        Ok(Some((tab, header)))
    }

    /// Every tab.
    pub(super) async fn tabs(&self) -> Result<Vec<Tab>, Failure> {
        let fields = "sheets(properties(sheetId,title,gridProperties(columnCount)))";
        let book = call!(self, READ, self.hub.spreadsheets().get(&self.spreadsheet).param("fields", fields))?;
        Ok(book.sheets.unwrap_or_default().iter().filter_map(tab).collect())
    }

    /// Makes a tab. One that is there already is as good.
    pub(super) async fn add_tab(&self, title: &str, columns: usize) -> Result<(), Failure> {
        let grid = GridProperties {
            row_count: Some(ROWS),
            column_count: i32::try_from(columns).ok(),
            frozen_row_count: Some(1),
            ..GridProperties::default()
        };
        let properties = SheetProperties {
            title: Some(title.to_owned()),
            grid_properties: Some(grid),
            ..SheetProperties::default()
        };
        let add = Request {
            add_sheet: Some(AddSheetRequest { properties: Some(properties) }),
            ..Request::default()
        };
        match self.update(vec![add]).await {
            Err(Failure::Refused { status: 400, message, .. }) if message.contains("already exists") => {
                Ok(())
            }
            end => end,
        }
    }

    /// Writes a tab's name as it is: nothing changes, and an account that may only read is refused.
    pub(super) async fn touch(&self, tab: &Tab) -> Result<(), Failure> {
        let same = UpdateSheetPropertiesRequest {
            fields: "title".parse().ok(),
            properties: Some(SheetProperties {
                sheet_id: Some(tab.sheet_id),
                title: Some(tab.title.clone()),
                ..SheetProperties::default()
            }),
        };
        self.update(vec![Request { update_sheet_properties: Some(same), ..Request::default() }]).await
    }

    /// Writes headers from `first` on, with room made for them, in one write.
    pub(super) async fn add_headers(&self, tab: &Tab, first: usize, names: &[String]) -> Result<(), Failure> {
        let number = |it: usize| i32::try_from(it).ok();
        let mut requests = Vec::new();
        let lacking = (first + names.len()).saturating_sub(tab.columns);
        if lacking > 0 {
            let room = AppendDimensionRequest {
                dimension: Some("COLUMNS".to_owned()),
                length: number(lacking),
                sheet_id: Some(tab.sheet_id),
            };
            requests.push(Request { append_dimension: Some(room), ..Request::default() });
        }
        let cell = |name: &String| CellData {
            user_entered_value: Some(ExtendedValue {
                string_value: Some(name.clone()),
                ..ExtendedValue::default()
            }),
            ..CellData::default()
        };
        let cells = UpdateCellsRequest {
            fields: "userEnteredValue".parse().ok(),
            rows: Some(vec![RowData { values: Some(names.iter().map(cell).collect()) }]),
            start: Some(GridCoordinate {
                sheet_id: Some(tab.sheet_id),
                row_index: Some(0),
                column_index: number(first),
            }),
            ..UpdateCellsRequest::default()
        };
        requests.push(Request { update_cells: Some(cells), ..Request::default() });
        self.update(requests).await
    }

    async fn update(&self, requests: Vec<Request>) -> Result<(), Failure> {
        let request = BatchUpdateSpreadsheetRequest {
            requests: Some(requests),
            ..BatchUpdateSpreadsheetRequest::default()
        };
        call!(self, WRITE, self.hub.spreadsheets().batch_update(request.clone(), &self.spreadsheet))
            .map(|_| ())
    }

    /// Appends rows below the table that begins at the header's `first` column. Literal text: nothing is
    /// parsed as a formula, a number or a date.
    pub(super) async fn append(
        &self,
        tab: &Tab,
        first: usize,
        rows: Vec<Vec<Value>>,
    ) -> Result<Appended, Failure> {
        let sent = rows.len();
        let range = format!("{}!{}1", quoted(&tab.title), letters(first));
        let range = utf8_percent_encode(&range, IN_PATH).to_string();
        let values = ValueRange { values: Some(rows), ..ValueRange::default() };
        let answer = call!(
            self,
            WRITE,
            self.hub
                .spreadsheets()
                .values_append(values.clone(), &self.spreadsheet, &range)
                .value_input_option("RAW")
                .insert_data_option("INSERT_ROWS")
        )?;
        let Some(updates) = answer.updates else { return Err(Failure::Lost("empty_answer".to_owned())) };
        let range = updates.updated_range.unwrap_or_default();
        let rows = usize::try_from(updates.updated_rows.unwrap_or(0)).unwrap_or(0);
        // Under a filter Google has answered 200 and put rows elsewhere, or nowhere; and a tab that has just
        // taken the name of ours has no header yet.
        let is_below = corner(&range).is_some_and(|(column, row)| column == letters(first) && row > 1);
        if rows != sent || !is_below {
            return Err(Failure::misplaced());
        }
        Ok(Appended { range, rows })
    }

    /// Removes, in each of these stretches (its first row and its last, from 1), every row that says the same as one above
    /// it there, in all columns but these. Google compares and removes in one step, so whatever people sort meanwhile, no other row
    /// can go.
    pub(super) async fn remove_repeats(
        &self,
        tab: &Tab,
        rows: &[(usize, usize)],
        but: &[usize],
    ) -> Result<(), Failure> {
        let number = |it: usize| i32::try_from(it).ok();
        let compared: Vec<_> = (0..tab.columns)
            .filter(|column| !but.contains(column))
            .map(|column| DimensionRange {
                dimension: Some("COLUMNS".to_owned()),
                sheet_id: Some(tab.sheet_id),
                start_index: number(column),
                end_index: number(column + 1),
            })
            .collect();
        let remove = |(first, last): &(usize, usize)| DeleteDuplicatesRequest {
            comparison_columns: Some(compared.clone()),
            range: Some(GridRange {
                sheet_id: Some(tab.sheet_id),
                start_row_index: number(first.saturating_sub(1)),
                end_row_index: number(*last),
                ..GridRange::default()
            }),
        };
        let request = |rows| Request { delete_duplicates: Some(remove(rows)), ..Request::default() };
        // From the bottom: what moves up below a row that goes is done with.
        self.update(rows.iter().rev().map(request).collect()).await
    }

    /// Whole columns below the header, each as texts from the second row on.
    pub(super) async fn columns(&self, tab: &Tab, places: &[usize]) -> Result<Vec<Vec<String>>, Failure> {
        let range =
            |place: &usize| format!("{}!{letters}2:{letters}", quoted(&tab.title), letters = letters(*place));
        let ranges: Vec<_> = places.iter().map(range).collect();
        let answer = call!(self, READ, {
            let mut call = self.hub.spreadsheets().values_batch_get(&self.spreadsheet);
            for range in &ranges {
                call = call.add_ranges(range);
            }
            call.value_render_option("UNFORMATTED_VALUE").major_dimension("ROWS")
        })?;
        let text = |row: Vec<Value>| match row.into_iter().next() {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let read = answer.value_ranges.unwrap_or_default();
        if read.len() != places.len() {
            return Err(Failure::Lost("cut_answer".to_owned()));
        }
        Ok(read
            .into_iter()
            .map(|range| range.values.unwrap_or_default().into_iter().map(text).collect())
            .collect())
    }

    /// Writes texts into single cells: row (from 1), column (from 0) and text.
    pub(super) async fn write(&self, tab: &Tab, cells: &[(usize, usize, String)]) -> Result<(), Failure> {
        let data = cells.iter().map(|(row, place, text)| ValueRange {
            range: Some(format!("{}!{}{row}", quoted(&tab.title), letters(*place))),
            values: Some(vec![vec![Value::String(text.clone())]]),
            ..ValueRange::default()
        });
        let request = BatchUpdateValuesRequest {
            value_input_option: Some("RAW".to_owned()),
            data: Some(data.collect()),
            ..BatchUpdateValuesRequest::default()
        };
        call!(self, WRITE, self.hub.spreadsheets().values_batch_update(request.clone(), &self.spreadsheet))
            .map(|_| ())
    }
}

/// How connections to Google are made.
pub(super) fn connector() -> Connector {
    let tls = rustls::ClientConfig::builder()
        .with_platform_verifier()
        .expect("the platform's certificate roots can be read")
        .with_no_client_auth();
    hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build()
}

fn tab(sheet: &Sheet) -> Option<Tab> {
    let properties = sheet.properties.as_ref()?;
    let columns = properties.grid_properties.as_ref().and_then(|grid| grid.column_count).unwrap_or(0);
    Some(Tab {
        sheet_id: properties.sheet_id?,
        title: properties.title.clone()?,
        columns: usize::try_from(columns).unwrap_or(0),
    })
}
