//! The note: what the form said, as the HTML that Pipedrive shows. Pure.
//!
//! Pipedrive takes comments and hidden elements out, so the mark by which a repeat knows the note stands in
//! its text.

use serde_json::Value;

use crate::lead::Lead;

/// The longest a single value gets, in characters.
const LONGEST_VALUE: usize = 10_000;

/// How long the note gets, in bytes: Pipedrive takes some 100 KB.
const LONGEST: usize = 80_000;

/// What stands at the end of what was cut.
const CUT: &str = " … [cut here; lead-intake keeps the whole text]";

/// The note of a lead. Everything that a visitor typed is escaped.
pub(super) fn html(lead: &Lead) -> String {
    let submitted = &lead.submitted;
    let source = &submitted.source;
    let maybe = |name: &str, value: &Option<String>| Some((name.to_owned(), value.clone()?));
    let fields = submitted.form_data.iter().map(|(name, value)| (label(name), text(value)));
    let more = source.more.iter().map(|(name, value): (_, &Value)| (label(name), text(value)));
    let rows = fields
        .chain([("Page".to_owned(), source.url.clone())])
        .chain(maybe("Referrer", &source.referrer))
        .chain(maybe("Campaign source", &source.utm_source))
        .chain(maybe("Campaign medium", &source.utm_medium))
        .chain(maybe("Campaign", &source.utm_campaign))
        .chain(maybe("Campaign content", &source.utm_content))
        .chain(maybe("Campaign term", &source.utm_term))
        .chain(more)
        .chain([("Form".to_owned(), submitted.form_name.to_string())]);
    let mut html = String::new();
    for (name, value) in rows.filter(|(_, value)| !value.trim().is_empty()) {
        let row = format!("<p><b>{}:</b> {}</p>", escape(&name), escape(&cut(value)));
        if html.len() + row.len() > LONGEST {
            html.push_str(&format!("<p>{CUT}</p>"));
            break;
        }
        html.push_str(&row);
    }
    format!("{html}<p>{}</p>", mark(lead))
}

/// The text by which a lead's note is known.
pub(super) fn mark(lead: &Lead) -> String {
    format!("lead-intake {}", lead.id)
}

fn cut(value: String) -> String {
    if value.chars().count() <= LONGEST_VALUE {
        return value;
    }
    let kept: String = value.chars().take(LONGEST_VALUE).collect();
    kept + CUT
}

/// `company_size` as a person would write it.
fn label(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.trim().chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A value as a person would write it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "Yes" } else { "No" }.to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Text as HTML that means nothing but itself; line ends stay visible.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push_str("<br>"),
            '\t' => html.push(' '),
            other if other.is_control() => {}
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_typed_is_markup() {
        assert_eq!(escape("<b onx='\"&\r\n\u{0}"), "&lt;b onx=&#39;&quot;&amp;<br>");
        assert_eq!(label("company_size"), "Company size");
        assert!(cut("x".repeat(LONGEST_VALUE + 1)).ends_with(CUT));
    }
}
