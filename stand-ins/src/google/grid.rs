//! A tab as a grid of typed cells, with Google's idea of what a table is.

use serde_json::{Value, json};

/// The most characters in a cell.
const LONGEST_CELL: usize = 50_000;

/// The most cells in a spreadsheet.
const MOST_CELLS: usize = 10_000_000;

/// The most columns of a tab.
const MOST_COLUMNS: usize = 18_278;

/// One tab.
#[derive(Clone, Debug)]
pub struct Tab {
    /// Its number, which survives a rename.
    pub sheet_id: i64,
    /// Its name.
    pub title: String,
    /// How many rows the grid has, filled or not.
    pub row_count: usize,
    /// How many columns the grid has.
    pub column_count: usize,
    /// The cells, as far as any is filled: strings, numbers, booleans, null where empty.
    pub cells: Vec<Vec<Value>>,
}

/// A rectangle: rows and columns from zero, the ends excluded and open where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) rows: (usize, Option<usize>),
    pub(super) columns: (usize, Option<usize>),
}

impl Tab {
    pub(super) fn new(sheet_id: i64, title: &str, row_count: usize, column_count: usize) -> Self {
        Self { sheet_id, title: title.to_owned(), row_count, column_count, cells: Vec::new() }
    }

    pub(super) fn properties(&self, index: usize) -> Value {
        json!({
            "sheetId": self.sheet_id, "title": self.title, "index": index, "sheetType": "GRID",
            "gridProperties": {"rowCount": self.row_count, "columnCount": self.column_count},
        })
    }

    pub(super) fn cell(&self, row: usize, column: usize) -> &Value {
        self.cells.get(row).and_then(|row| row.get(column)).unwrap_or(&Value::Null)
    }

    pub(super) fn is_filled(&self, row: usize, column: usize) -> bool {
        !matches!(self.cell(row, column), Value::Null) && self.cell(row, column) != ""
    }

    /// Puts a value; null leaves the cell as it is.
    pub(super) fn put(&mut self, row: usize, column: usize, value: Value) {
        if value.is_null() {
            return;
        }
        if self.cells.len() <= row {
            self.cells.resize(row + 1, Vec::new());
        }
        let cells = &mut self.cells[row];
        if cells.len() <= column {
            cells.resize(column + 1, Value::Null);
        }
        cells[column] = if value == "" { Value::Null } else { value };
    }

    /// Removes every row of these that says the same in these columns as one above it there; how many. What is left
    /// of them moves up, and nothing else does.
    pub(super) fn delete_repeats(&mut self, (first, end): (usize, usize), columns: &[usize]) -> usize {
        let mut seen: Vec<Vec<Value>> = Vec::new();
        let (end, mut left) = (end.min(self.cells.len()), Vec::new());
        for row in first..end {
            let says: Vec<_> = columns.iter().map(|column| shown(self.cell(row, *column), true)).collect();
            if !seen.contains(&says) {
                seen.push(says);
                left.push(std::mem::take(&mut self.cells[row]));
            }
        }
        let removed = end.saturating_sub(first) - left.len();
        left.resize(left.len() + removed, Vec::new());
        self.cells.splice(first..end.max(first), left);
        removed
    }

    /// The values of an area: trailing empty rows and cells left out, gaps as empty text.
    pub(super) fn read(&self, area: Area, typed: bool) -> Vec<Vec<Value>> {
        let last = area.rows.1.unwrap_or(self.row_count).min(self.cells.len());
        let mut rows: Vec<Vec<Value>> = (area.rows.0..last)
            .map(|row| {
                let end = area.columns.1.unwrap_or(self.column_count).min(self.cells[row].len());
                let mut cells: Vec<_> = (area.columns.0..end.max(area.columns.0))
                    .map(|column| shown(self.cell(row, column), typed))
                    .collect();
                while cells.last().is_some_and(|cell| cell == "") {
                    cells.pop();
                }
                cells
            })
            .collect();
        while rows.last().is_some_and(Vec::is_empty) {
            rows.pop();
        }
        rows
    }

    /// The tables that an area touches: contiguous blocks of filled cells. The last one counts.
    pub(super) fn table(&self, area: Area) -> Option<Area> {
        let last_row = area.rows.1.unwrap_or(self.row_count).min(self.cells.len());
        let seed = (area.rows.0..last_row).rev().find_map(|row| {
            let end = area.columns.1.unwrap_or(self.column_count).min(self.cells[row].len());
            (area.columns.0..end).find(|column| self.is_filled(row, *column)).map(|column| (row, column))
        })?;
        Some(self.region(seed))
    }

    /// The block around a cell: grown until an empty line runs along each side.
    fn region(&self, (row, column): (usize, usize)) -> Area {
        let (mut top, mut bottom, mut left, mut right) = (row, row, column, column);
        loop {
            let filled_row = |row: usize, left: usize, right: usize| {
                (left.saturating_sub(1)..=right + 1).any(|column| self.is_filled(row, column))
            };
            let filled_column = |column: usize, top: usize, bottom: usize| {
                (top.saturating_sub(1)..=bottom + 1).any(|row| self.is_filled(row, column))
            };
            let before = (top, bottom, left, right);
            while filled_row(bottom + 1, left, right) {
                bottom += 1;
            }
            while top > 0 && filled_row(top - 1, left, right) {
                top -= 1;
            }
            while filled_column(right + 1, top, bottom) {
                right += 1;
            }
            while left > 0 && filled_column(left - 1, top, bottom) {
                left -= 1;
            }
            if before == (top, bottom, left, right) {
                return Area { rows: (top, Some(bottom + 1)), columns: (left, Some(right + 1)) };
            }
        }
    }

    /// How many rows there are down to the last that holds anything.
    pub(super) fn filled_rows(&self) -> usize {
        let holds = |row: &usize| (0..self.cells[*row].len()).any(|column| self.is_filled(*row, column));
        (0..self.cells.len()).rev().find(holds).map_or(0, |row| row + 1)
    }

    /// Writes a block of cells from a corner on, or nothing when it is too wide for the grid.
    pub(super) fn write(
        &mut self,
        (row, column): (usize, usize),
        rows: Vec<Vec<Value>>,
    ) -> Result<(), String> {
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        if column + width > self.column_count {
            return Err(format!(
                "Attempting to write column: {}, beyond the last requested column of: {}",
                column + width - 1,
                self.column_count.saturating_sub(1)
            ));
        }
        for (down, cells) in rows.into_iter().enumerate() {
            cells
                .into_iter()
                .enumerate()
                .for_each(|(across, value)| self.put(row + down, column + across, value));
        }
        Ok(())
    }

    /// A person sorts the rows below the header by a column.
    pub fn sort_by(&mut self, column: usize) {
        let rows = self.cells.get_mut(1..).unwrap_or_default();
        rows.sort_by_cached_key(|row| row.get(column).map(|cell| shown(cell, false).to_string()));
    }

    /// A person turns the rows below the header upside down.
    pub fn turn(&mut self) {
        self.cells.get_mut(1..).unwrap_or_default().reverse();
    }

    /// A person puts an empty column before this one.
    pub fn insert_column(&mut self, column: usize) {
        self.column_count += 1;
        for cells in self.cells.iter_mut().filter(|cells| cells.len() > column) {
            cells.insert(column, Value::Null);
        }
    }

    /// A person deletes a column.
    pub fn delete_column(&mut self, column: usize) {
        self.column_count = self.column_count.saturating_sub(1);
        for cells in self.cells.iter_mut().filter(|cells| cells.len() > column) {
            cells.remove(column);
        }
    }

    /// A person deletes a row.
    pub fn delete_row(&mut self, row: usize) {
        self.row_count = self.row_count.saturating_sub(1);
        if row < self.cells.len() {
            self.cells.remove(row);
        }
    }

    /// A person leaves a row empty in the middle of the others.
    pub fn insert_blank_row(&mut self, row: usize) {
        self.row_count += 1;
        self.insert_rows(row, 1);
    }

    /// A person types into a cell; empty text empties it.
    pub fn set(&mut self, row: usize, column: usize, text: &str) {
        self.put(row, column, json!(text));
        self.row_count = self.row_count.max(row + 1);
        self.column_count = self.column_count.max(column + 1);
    }

    /// Pushes down what is at `row` and below; the caller sees to the size of the grid.
    pub(super) fn insert_rows(&mut self, row: usize, count: usize) {
        if row < self.cells.len() {
            self.cells.splice(row..row, std::iter::repeat_n(Vec::new(), count));
        }
    }
}

fn shown(cell: &Value, typed: bool) -> Value {
    match cell {
        Value::Null => json!(""),
        Value::Bool(it) if !typed => json!(if *it { "TRUE" } else { "FALSE" }),
        Value::Number(it) if !typed => json!(it.to_string()),
        other => other.clone(),
    }
}

/// Checks values that are about to be written.
pub(super) fn fits<'a>(values: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    for value in values {
        if value.as_str().is_some_and(|text| text.chars().count() > LONGEST_CELL) {
            return Err(
                "Your input contains more than the maximum of 50000 characters in a single cell.".to_owned()
            );
        }
        if value.is_array() || value.is_object() {
            return Err("Invalid values: struct_value is not a cell".to_owned());
        }
    }
    Ok(())
}

/// Whether a tab of this size fits beside `others`, the cells of the other tabs.
pub(super) fn has_room(others: usize, rows: usize, columns: usize) -> Result<(), String> {
    if columns > MOST_COLUMNS {
        return Err(format!("This action would exceed the limit of {MOST_COLUMNS} columns in a tab."));
    }
    if others.saturating_add(rows.saturating_mul(columns)) > MOST_CELLS {
        return Err(format!(
            "This action would increase the number of cells in the workbook above the limit of {MOST_CELLS} cells."
        ));
    }
    Ok(())
}

/// Reads A1 notation: `'My tab'!A1:C`, `Leads!2:2`. A title without quotes must be a plain word.
pub(super) fn parse_a1(text: &str) -> Option<(String, Area)> {
    let (title, cells) = if let Some(rest) = text.strip_prefix('\'') {
        let mut title = String::new();
        let mut letters = rest.char_indices().peekable();
        let end = loop {
            let (at, letter) = letters.next()?;
            match (letter, letters.peek().map(|(_, next)| *next)) {
                ('\'', Some('\'')) => {
                    letters.next();
                    title.push('\'');
                }
                ('\'', _) => break at + 1,
                _ => title.push(letter),
            }
        };
        let cells = &rest[end..];
        match cells.strip_prefix('!') {
            Some("") => return None,
            Some(cells) => (title, cells),
            None if cells.is_empty() => (title, cells),
            None => return None,
        }
    } else {
        let (title, cells) = text.split_once('!').unwrap_or((text, ""));
        if !title.chars().all(|it| it.is_alphanumeric() || it == '_') {
            return None;
        }
        (title.to_owned(), cells)
    };
    if cells.is_empty() {
        return Some((title, Area::default()));
    }
    let (from, to) = cells.split_once(':').unwrap_or((cells, cells));
    let ((row, column), (last_row, last_column)) = (corner(from)?, corner(to)?);
    let area = Area {
        rows: (row.unwrap_or(0), last_row.map(|row| row + 1)),
        columns: (column.unwrap_or(0), last_column.map(|column| column + 1)),
    };
    Some((title, area))
}

/// `B7`, `B` or `7`, from zero.
fn corner(text: &str) -> Option<(Option<usize>, Option<usize>)> {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let (letters, digits) = text.split_at(letters);
    if (letters.is_empty() && digits.is_empty()) || letters.len() > 3 {
        return None;
    }
    let column = letters.bytes().fold(0, |sum, letter| sum * 26 + usize::from(letter - b'A') + 1);
    let row = if digits.is_empty() { None } else { Some(digits.parse::<usize>().ok()?.checked_sub(1)?) };
    Some((row, column.checked_sub(1)))
}

/// `B7`, from zero.
pub(super) fn name(row: usize, column: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = column + 1;
    while rest > 0 {
        letters.push(char::from(b'A' + u8::try_from((rest - 1) % 26).unwrap_or(0)));
        rest = (rest - 1) / 26;
    }
    format!("{}{}", letters.iter().rev().collect::<String>(), row + 1)
}

/// A range as answers write it.
pub(super) fn a1(title: &str, rows: (usize, usize), columns: (usize, usize)) -> String {
    let plain = title.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    let title = if plain { title.to_owned() } else { format!("'{}'", title.replace('\'', "''")) };
    format!("{title}!{}:{}", name(rows.0, columns.0), name(rows.1 - 1, columns.1 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Google's guide to appending: tables A1:C2 and B4:D6.
    fn example() -> Tab {
        let mut tab = Tab::new(0, "Sheet1", 1_000, 26);
        for (rows, columns) in [((0, 2), (0, 3)), ((3, 6), (1, 4))] {
            for row in rows.0..rows.1 {
                (columns.0..columns.1).for_each(|column| tab.put(row, column, json!("x")));
            }
        }
        tab
    }

    #[test]
    fn an_append_picks_the_last_table_in_its_range() {
        let tab = example();
        let end = |range: &str| {
            let (_, area) = parse_a1(range).unwrap();
            tab.table(area).map(|table| name(table.rows.1.unwrap(), table.columns.0))
        };
        for range in ["Sheet1", "Sheet1!B4", "Sheet1!C5:D5", "Sheet1!B2:D4", "Sheet1!A3:G10"] {
            assert_eq!(end(range).as_deref(), Some("B7"), "{range}");
        }
        assert_eq!(end("Sheet1!A1").as_deref(), Some("A3"));
        assert_eq!((end("Sheet1!E4"), end("Sheet1!A4")), (None, None));
    }

    #[test]
    fn a1_is_read_and_written() {
        assert_eq!(parse_a1("'It''s #1'!B2:B").unwrap().0, "It's #1");
        assert_eq!(parse_a1("Leads!2:2").unwrap().1, Area { rows: (1, Some(2)), columns: (0, None) });
        assert_eq!(parse_a1("My tab!A1"), None);
        assert_eq!(a1("Leads", (0, 9), (0, 28)), "Leads!A1:AB9");
    }
}
