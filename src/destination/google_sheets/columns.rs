//! From a lead to a row: which column holds what. Pure.

use serde_json::Value;

use crate::lead::Lead;

/// The columns that every sheet has, in the order in which they are made.
pub(super) const CORE: [&str; 17] = [
    "id",
    "submitted_at",
    "form_name",
    "name",
    "email",
    "phone",
    "url",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
    "timezone",
    "consent_given",
    "consent_timestamp",
    SYNCED,
];

/// The column for form fields that got none of their own.
pub(super) const OVERFLOW: &str = "form_data";

/// The column that says whether all CRMs have a lead.
pub(super) const SYNCED: &str = "crm_synced";

/// What may be different in two rows of one lead: when it came, and what we write into a row later.
pub(super) const PASSING: [&str; 4] = ["submitted_at", "consent_timestamp", SYNCED, MARK];

/// The column that holds a whole lead as JSON while the store does not have it.
pub(super) const MARK: &str = "lead_intake_mark";

/// The longest text in a cell, in UTF-16 units: Google takes 50,000 characters.
const LONGEST: usize = 49_000;

/// What stands at the end of a text that was cut.
const CUT: &str = " … [cut here; lead-intake keeps the whole text]";

/// The longest name of a column of its own, in characters.
const LONGEST_NAME: usize = 100;

/// The names of the columns that every sheet has.
pub(super) fn core() -> impl Iterator<Item = &'static str> {
    CORE.into_iter()
}

/// A lead's cells before they have places: name and text.
pub(super) fn cells(lead: &Lead, crm_planned: bool) -> Vec<(String, String)> {
    let submitted = &lead.submitted;
    let source = &submitted.source;
    let time = |at: Option<crate::clock::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let maybe = |text: &Option<String>| text.clone().unwrap_or_default();
    let values = [
        lead.id.to_string(),
        time(submitted.submitted_at),
        submitted.form_name.to_string(),
        submitted.name.clone(),
        submitted.email.as_str().to_owned(),
        submitted.phone.as_ref().map(|phone| phone.as_str().to_owned()).unwrap_or_default(),
        source.url.clone(),
        maybe(&source.referrer),
        maybe(&source.utm_source),
        maybe(&source.utm_medium),
        maybe(&source.utm_campaign),
        maybe(&source.utm_content),
        maybe(&source.utm_term),
        submitted.timezone.clone(),
        yes(submitted.consent_given),
        time(submitted.consent_timestamp),
        if crm_planned { yes(false) } else { String::new() },
    ];
    let own = core().map(str::to_owned).zip(values);
    let fields = submitted.form_data.iter().map(|(name, value)| (column(name), text(value)));
    own.chain(fields).map(|(name, text)| (name, cut(text))).collect()
}

/// How the sheet says yes and no.
pub(super) fn yes(it: bool) -> String {
    if it { "TRUE" } else { "FALSE" }.to_owned()
}

/// The column of a form field: its own name, unless that is taken.
fn column(field: &str) -> String {
    let field = field.trim();
    let taken = core().any(|name| name == field) || [OVERFLOW, MARK, ""].contains(&field);
    if taken { format!("{OVERFLOW}.{field}") } else { field.to_owned() }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How long Google thinks a text is.
pub(super) fn length(text: &str) -> usize {
    if text.len() <= LONGEST { text.len() } else { text.encode_utf16().count() }
}

/// Whether a text fits into a cell whole.
pub(super) fn fits(text: &str) -> bool {
    length(text) <= LONGEST
}

pub(super) fn cut(text: String) -> String {
    if fits(&text) {
        return text;
    }
    let (mut room, mut end) = (LONGEST - CUT.encode_utf16().count(), 0);
    for letter in text.chars() {
        let Some(left) = room.checked_sub(letter.len_utf16()) else { break };
        room = left;
        end += letter.len_utf8();
    }
    format!("{}{CUT}", &text[..end])
}

/// The header row, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header(pub(super) Vec<String>);

impl Header {
    /// The place of a column, from zero.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|header| header.trim() == name)
    }

    /// Whether the row holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|header| header.trim().is_empty())
    }

    /// The first column that is in use: rows are anchored there.
    pub(super) fn first(&self) -> usize {
        self.0.iter().position(|header| !header.trim().is_empty()).unwrap_or(0)
    }

    /// The place of the id column.
    ///
    /// # Errors
    /// There is none, or more than one: nothing may be written.
    pub(super) fn id(&self) -> Result<usize, &'static str> {
        match self.0.iter().filter(|header| header.trim() == "id").count() {
            1 => Ok(self.position("id").unwrap_or(0)),
            0 => Err(
                "The tab's first row has no column `id`. Put the header back, or give an empty tab in `tab`.",
            ),
            _ => Err("The tab's first row has more than one column `id`. Rename the others."),
        }
    }

    /// The columns that these rows need and the header lacks, in order: columns of our own as many as it
    /// takes, form fields up to `most`, and then one for what is left.
    pub(super) fn missing(&self, rows: &[&[(String, String)]], most: usize) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let is_ours = |name: &str| core().any(|core| core == name) || [OVERFLOW, MARK].contains(&name);
        let extra = self.0.iter().filter(|name| !name.trim().is_empty() && !is_ours(name.trim())).count();
        let mut room = most.saturating_sub(extra);
        let mut overflows = false;
        for (name, text) in rows.iter().copied().flatten() {
            if text.is_empty() || self.position(name).is_some() || missing.contains(name) {
                continue;
            }
            if is_ours(name) {
                missing.push(name.clone());
            } else if room > 0 && name.chars().count() <= LONGEST_NAME {
                room -= 1;
                missing.push(name.clone());
            } else {
                overflows = true;
            }
        }
        if overflows && self.position(OVERFLOW).is_none() {
            missing.push(OVERFLOW.to_owned());
        }
        missing
    }

    /// A lead's row from the first column on. Every cell is text, and none is null, for a null is a cell
    /// that is left out.
    pub(super) fn row(&self, cells: &[(String, String)]) -> Vec<Value> {
        let first = self.first();
        let mut row = vec![String::new(); self.0.len().saturating_sub(first)];
        let mut overflow = serde_json::Map::new();
        for (name, text) in cells.iter().filter(|(_, text)| !text.is_empty()) {
            match self.position(name) {
                Some(place) => row[place - first] = text.clone(),
                None => {
                    overflow.insert(name.clone(), Value::String(text.clone()));
                }
            }
        }
        if let (false, Some(place)) = (overflow.is_empty(), self.position(OVERFLOW)) {
            row[place - first] = cut(Value::Object(overflow).to_string());
        }
        row.into_iter().map(Value::String).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn header(names: &[&str]) -> Header {
        Header(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn columns_are_found_by_name_wherever_they_stand() {
        let header = header(&["", "email", "mine", "id"]);
        let row = header.row(&cells(&[("id", "lead_1"), ("email", "a@b.c")]));
        assert_eq!(row, ["a@b.c", "", "lead_1"]);
        assert_eq!((header.first(), header.id()), (1, Ok(3)));
        assert!(self::header(&["id", "id"]).id().is_err() && self::header(&["x"]).id().is_err());
    }

    #[test]
    fn fields_get_columns_until_there_are_enough_and_then_share_one() {
        let header = header(&["id", "own"]);
        let (first, second) =
            (cells(&[("id", "1"), ("a", "x"), ("b", "y")]), cells(&[("b", "z"), ("c", "w"), ("d", "")]));
        assert_eq!(header.missing(&[&first, &second], 10), ["a", "b", "c"]);
        assert_eq!(header.missing(&[&first, &second], 2), ["a", OVERFLOW], "a person's own column counts");
        let full = self::header(&["id", "a", OVERFLOW]);
        assert_eq!(full.row(&first), ["1", "x", "{\"b\":\"y\"}"]);
    }

    #[test]
    fn a_field_named_like_a_column_of_ours_is_told_apart() {
        assert_eq!(
            (column("email"), column("form_data"), column(""), column("size")),
            ("form_data.email".into(), "form_data.form_data".into(), "form_data.".into(), "size".into())
        );
    }

    #[test]
    fn a_long_text_is_cut_visibly_and_never_inside_a_letter() {
        let long = cut("😀".repeat(30_000));
        assert!(length(&long) <= LONGEST && long.ends_with(CUT));
        assert_eq!(cut("x".repeat(LONGEST)).len(), LONGEST);
    }
}
