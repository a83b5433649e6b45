//! What is wrong with a configuration: every problem with its place, and what to do next.

use std::fmt;

use serde::{Serialize, Serializer};

use super::place::Place;

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The setting, such as `destinations.crm.timeout`; empty when it is about none.
    pub path: String,
    /// Where it is written.
    #[serde(serialize_with = "as_text")]
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

fn as_text<S: Serializer>(place: &Place, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(place)
}

impl Problem {
    pub(super) fn new(path: impl fmt::Display, place: Place, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), place, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.path.as_str()) {
            (Place::BuiltIn, path) => write!(f, "{path}")?,
            (place, "") => write!(f, "{place}")?,
            (place, path) => write!(f, "{path}  ({place})")?,
        }
        write!(f, "\n    {}", sentence(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    → {}", sentence(hint))?;
        }
        Ok(())
    }
}

/// Begins with a capital where it begins with a word, and ends with a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase()).into_iter();
    let stop = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    first.chain(letters).chain(stop.chars()).collect()
}

/// All problems of a configuration: those of the file from top to bottom, then the variables', then
/// the flags'. Never empty, and never shows the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts and blacks out; `None` when there are none.
    pub(super) fn from(mut problems: Vec<Problem>, secrets: &[String]) -> Option<Self> {
        for problem in &mut problems {
            let texts = std::iter::once(&mut problem.message).chain(&mut problem.hint);
            texts.for_each(|text| black_out(text, secrets));
        }
        problems.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

fn black_out(text: &mut String, secrets: &[String]) {
    for secret in secrets {
        if text.contains(secret.as_str()) {
            *text = text.replace(secret.as_str(), "…");
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "The configuration has a problem.")?,
            count => writeln!(f, "The configuration has {count} problems.")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {}\n", problem.to_string().replace('\n', "\n  ")))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_next() {
        let place = Place::File { path: "lead.toml".into(), line: 3 };
        let problem =
            Problem::new("server.bnid", place, "there is no such setting").hint("did you mean `bind`?");
        let problems = Problems::from(vec![problem], &[]).unwrap();
        let expected = "The configuration has a problem.\n\n  server.bnid  (lead.toml:3)\n      \
                        There is no such setting.\n      → Did you mean `bind`?\n";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn a_secret_is_blacked_out_wherever_it_turns_up() {
        let place = Place::Variable("X".into());
        let problem = Problem::new("a", place, "`hunter2` is no URL").hint("not hunter2");
        let problems = Problems::from(vec![problem], &["hunter2".to_owned()]).unwrap();
        assert!(!problems.to_string().contains("hunter2"));
    }
}
