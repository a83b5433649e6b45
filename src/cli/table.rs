//! Columns for people: a table where it fits, a paragraph for each row on a terminal that is too narrow for it.
//!
//! What a visitor or a vendor wrote is shown without its control characters: a terminal would obey them.

use terminal_size::{Width, terminal_size_of};

/// What stands between two columns.
const GAP: &str = "  ";

/// Prints rows under a head.
pub(super) fn print(head: &[&str], rows: &[Vec<String>]) {
    let width = terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width));
    say!("{}", laid_out(head, rows, width).trim_end_matches('\n'));
}

/// Says that a list ends at its limit, to a person who looks on.
pub(super) fn print_limit(count: usize, limit: u32) {
    if count == limit as usize && terminal_size_of(std::io::stdout()).is_some() {
        say!("\nThese are the newest {limit}; --limit shows more.");
    }
}

/// A count and its word.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Text on one line, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let plain = |it: char| match it {
        '\n' | '\r' | '\t' => ' ',
        it if it.is_control() => '\u{fffd}',
        it => it,
    };
    text.chars().map(plain).collect()
}

fn laid_out(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = (0..head.len()).map(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    });
    let columns: Vec<usize> = columns.collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&columns).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join(GAP).trim_end().to_owned() + "\n"
    };
    let needed = columns.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1);
    match width {
        Some(width) if needed > width => rows.iter().map(|row| paragraph(head, row, width)).collect(),
        _ => {
            let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
            std::iter::once(line(&mut head.iter().copied())).chain(body).collect()
        }
    }
}

/// A row as a few lines: what is between the first cell and the last is named.
fn paragraph(head: &[&str], row: &[String], width: usize) -> String {
    let last = row.len().saturating_sub(1);
    let cells = head.iter().zip(row).enumerate().filter(|(_, (_, cell))| !cell.is_empty());
    let mut lines = vec![String::new()];
    for (column, (name, cell)) in cells {
        let cell = match column {
            0 => cell.clone(),
            column if column == last => cell.clone(),
            _ => format!("{} {cell}", name.to_lowercase()),
        };
        add(&mut lines, &cell, GAP, width);
    }
    lines.join("\n") + "\n"
}

/// Adds a cell to the last line, or where it does not fit, to new ones that are indented.
fn add(lines: &mut Vec<String>, cell: &str, gap: &str, width: usize) {
    let Some(line) = lines.last_mut() else { return };
    let fits =
        |line: &str, more: &str| line.chars().count() + gap.chars().count() + more.chars().count() <= width;
    if line.trim().is_empty() {
        line.push_str(cell);
    } else if fits(line, cell) {
        line.push_str(gap);
        line.push_str(cell);
    } else if cell.chars().count() + GAP.len() <= width || !cell.contains(' ') {
        lines.push(format!("{GAP}{cell}"));
    } else {
        lines.push(GAP.to_owned());
        cell.split(' ').for_each(|word| add(lines, word, " ", width));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 4]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_table_that_does_not_fit_becomes_paragraphs() {
        let head = ["ID", "STATE", "DUE", "LAST"];
        let rows = [
            row(["lead_1/crm", "dead", "", "http_422 It was refused, for a reason that is long"]),
            row(["lead_2/crm", "pending", "soon", ""]),
        ];
        let table = "ID          STATE    DUE   LAST\n\
                     lead_1/crm  dead           http_422 It was refused, for a reason that is long\n\
                     lead_2/crm  pending  soon\n";
        assert_eq!(laid_out(&head, &rows, None), table);
        assert_eq!(laid_out(&head, &rows, Some(77)), table);
        let paragraphs = "lead_1/crm  state dead\n\
                          \x20 http_422 It was refused, for a\n\
                          \x20 reason that is long\n\
                          lead_2/crm  state pending  due soon\n";
        assert_eq!(laid_out(&head, &rows, Some(36)), paragraphs);
    }

    #[test]
    fn no_cell_speaks_to_the_terminal() {
        let rows = [row(["a", "b\x1b[2J\u{9b}1m", "c\r\nd", ""])];
        let text = laid_out(&["A", "B", "C", "D"], &rows, None);
        assert!(text.ends_with("a  b\u{fffd}[2J\u{fffd}1m  c  d\n"), "{text:?}");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "lead", "leads"), "1 lead");
        assert_eq!(counted(0, "lead", "leads"), "0 leads");
    }
}
