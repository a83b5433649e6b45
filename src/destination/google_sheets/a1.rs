//! A1 notation: how Google names tabs, columns and cells.

/// A tab's name as A1 notation wants it: quoted, for a bare one could be a range of that name.
pub(super) fn quoted(title: &str) -> String {
    format!("'{}'", title.replace('\'', "''"))
}

/// Where a range begins: the column's letters and the row.
pub(super) fn corner(range: &str) -> Option<(&str, usize)> {
    let first = range.rsplit('!').next()?.split(':').next()?;
    let at = first.find(|it: char| !it.is_ascii_uppercase())?;
    Some((&first[..at], first[at..].parse().ok()?))
}

/// A column's letters: 0 is `A`, 26 is `AA`.
pub(super) fn letters(mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + u8::try_from(column % 26).unwrap_or(0)));
        match (column / 26).checked_sub(1) {
            Some(rest) => column = rest,
            None => return letters.into_iter().rev().collect(),
        }
    }
}

/// `Leads!A7:Q9` as `Leads!A` and 7.
pub(super) fn first_row(range: &str) -> (&str, usize) {
    let first = range.split(':').next().unwrap_or_default();
    let digits = first.len() - first.bytes().rev().take_while(u8::is_ascii_digit).count();
    (&first[..digits], first[digits..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_is_written_so_that_no_name_is_misread() {
        assert_eq!(quoted("It's #1"), "'It''s #1'");
        let names: Vec<_> = [0, 25, 26, 51, 52, 701, 702].into_iter().map(letters).collect();
        assert_eq!(names, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
        assert_eq!(corner("'Is this A1:B2!'!AA10:AB12"), Some(("AA", 10)));
        assert_eq!(first_row("Leads!A7:Q9"), ("Leads!A", 7));
        assert_eq!([corner("Leads!C:D"), corner("")], [None, None]);
    }
}
