//! The page `docs/faults.md`: a frame, and a section for each destination. Each section is kept by the test that saw it,
//! so that one destination can be tested, or written anew, alone.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::SECTIONS;
use super::row::{HEAD, Row};

/// What stands above the sections.
const INTRODUCTION: &str = include_str!("introduction.md");

/// One section at a time is written.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares a destination's section with what was seen, or writes it.
pub(super) fn keep(title: &str, rows: &[Row]) {
    let rows: String = rows.iter().map(Row::markdown).collect();
    compare(title, &format!("{HEAD}{rows}"));
}

/// Compares everything but the sections, or writes it.
pub(super) fn frame(sections: &[&str]) {
    let mut list = INTRODUCTION.trim_end().to_owned();
    list.push_str("\n\n");
    for title in sections {
        let _ = writeln!(list, "- [{title}](#{})", title.to_lowercase().replace(' ', "-"));
    }
    compare("", &list);
}

/// `title` is empty for what stands above the sections.
fn compare(title: &str, seen: &str) {
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let mut parts = parts(&page);
    let kept = parts.iter().find(|(name, _)| name == title).map(|(_, text)| text.trim().to_owned());
    if kept.as_deref() == Some(seen.trim())
        && parts.iter().skip(1).map(|(name, _)| name.as_str()).eq(SECTIONS.iter().copied())
    {
        return;
    }
    if !is_to_be_written() {
        panic!(
            "docs/faults.md is not what was seen{}.\nSay so in the page, if it is meant: LEAD_INTAKE_WRITE_DOCS=1 cargo test --test it conformance\n\n{}",
            if title.is_empty() {
                " above its sections, or lacks one".to_owned()
            } else {
                format!(" in its section “{title}”")
            },
            difference(&kept.unwrap_or_default(), seen),
        );
    }
    parts.retain(|(name, _)| name != title);
    parts.push((title.to_owned(), seen.to_owned()));
    let order = |name: &str| SECTIONS.iter().position(|section| *section == name).map_or(0, |at| at + 1);
    parts.retain(|(name, _)| name.is_empty() || SECTIONS.contains(&name.as_str()));
    parts.sort_by_key(|(name, _)| order(name));
    let page: Vec<_> = parts
        .iter()
        .map(|(name, text)| {
            if name.is_empty() {
                format!("{}\n", text.trim())
            } else {
                format!("## {name}\n\n{}\n", text.trim())
            }
        })
        .collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, page.join("\n")).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says it, not who runs the service")]
fn is_to_be_written() -> bool {
    std::env::var_os("LEAD_INTAKE_WRITE_DOCS").is_some_and(|value| value == "1")
}

/// The page's parts: what stands above the sections, and each section by its title.
fn parts(page: &str) -> Vec<(String, String)> {
    let mut parts = vec![(String::new(), String::new())];
    for line in page.lines() {
        match line.strip_prefix("## ") {
            Some(title) if SECTIONS.contains(&title) => parts.push((title.to_owned(), String::new())),
            _ => {
                if let Some((_, text)) = parts.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    parts
}

/// The lines that are only in one of both.
fn difference(kept: &str, seen: &str) -> String {
    let mut text = String::new();
    for (sign, ones, others) in [('-', kept, seen), ('+', seen, kept)] {
        for line in ones.trim().lines().filter(|line| !others.lines().any(|other| other == *line)) {
            let _ = writeln!(text, "{sign} {line}");
        }
    }
    if text.is_empty() { "The lines are the same, and their order is not.".to_owned() } else { text }
}
