//! The merged configuration before it has types: a tree whose every value remembers its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Path, Place};
use super::problems::Problem;

/// A value and where it is written. Has no `Debug`: it may hold secrets.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The entries of a table.
pub(super) type Table = BTreeMap<String, Node>;

/// A value.
#[derive(Clone)]
pub(super) enum Value {
    Table(Table),
    List(Vec<Node>),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Text of a variable or flag, which becomes whatever type the setting has.
    Loose(String),
    /// Stands where a problem has been reported, so that reading can go on to the next one.
    Hole,
}

impl Node {
    /// An empty table.
    pub(super) fn table(place: Place) -> Self {
        Self { place, value: Value::Table(Table::new()) }
    }

    /// The text of a variable or flag.
    pub(super) fn loose(place: Place, text: impl Into<String>) -> Self {
        Self { place, value: Value::Loose(text.into()) }
    }

    /// The entries, when it is a table.
    pub(super) fn entries(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The entries, when it is a table.
    pub(super) fn entries_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text, when it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Loose(text) => Some(text),
            _ => None,
        }
    }

    /// One step down.
    fn step(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(table) => table.get(key),
            Value::List(list) => list.get(position(key)?),
            _ => None,
        }
    }

    /// The node at the end of `path`.
    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, key| node.step(key))
    }

    /// The node at the end of `path`.
    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, key| match &mut node.value {
            Value::Table(table) => table.get_mut(key),
            Value::List(list) => list.get_mut(position(key)?),
            _ => None,
        })
    }

    /// Puts `node` at the end of `path`, with tables on the way.
    pub(super) fn put(&mut self, path: &Path, node: Node) {
        let place = node.place.clone();
        let mut here = self;
        for key in &path.0 {
            if here.entries().is_none() {
                *here = Node::table(place.clone());
            }
            let Some(table) = here.entries_mut() else { return };
            here = table.entry(key.clone()).or_insert_with(|| Node::table(place.clone()));
        }
        *here = node;
    }

    /// Takes away what stands at the end of `path`.
    pub(super) fn remove(&mut self, path: &Path) -> Option<Node> {
        let (last, way) = path.0.split_last()?;
        self.get_mut(&Path(way.to_vec()))?.entries_mut()?.remove(last)
    }

    /// Lays `over` on top: tables are joined, everything else is replaced.
    pub(super) fn lay(&mut self, over: &Node) {
        match (&mut self.value, &over.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (key, node) in above {
                    match below.get_mut(key) {
                        Some(there) => there.lay(node),
                        None => {
                            below.insert(key.clone(), node.clone());
                        }
                    }
                }
                self.place = over.place.clone();
            }
            _ => *self = over.clone(),
        }
    }

    /// How the value is written, for a hint.
    pub(super) fn written(&self) -> String {
        match &self.value {
            Value::Text(text) | Value::Loose(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(yes) => yes.to_string(),
            Value::List(list) => {
                format!("[{}]", list.iter().map(Node::written).collect::<Vec<_>>().join(", "))
            }
            Value::Table(_) | Value::Hole => "…".to_owned(),
        }
    }
}

/// The position that a step such as `[2]` names.
fn position(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Reads a TOML text. What cannot be read becomes problems; the rest is still returned.
pub(super) fn parse(text: &str, place_of: &dyn Fn(usize) -> Place) -> (Node, Vec<Problem>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let line =
        |offset: usize| 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
    let at = |offset: usize| place_of(line(offset));
    // Only the message: the parser's own rendering quotes the line, which may hold a secret.
    let problems = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Problem::new("", at(offset), format!("this is not TOML: {}", error.message()))
        })
        .collect();
    let mut builder = Builder { at: &at, problems };
    let value = builder.table(document.into_inner());
    (Node { place: place_of(1), value }, builder.problems)
}

/// Reads one TOML value, as a variable may hold it: `["a", "b"]` or `{ a = "b" }`.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let at = |_| place.clone();
    let mut builder = Builder { at: &at, problems: Vec::new() };
    let node = builder.node(value, None);
    builder.problems.is_empty().then_some(node)
}

struct Builder<'a> {
    at: &'a dyn Fn(usize) -> Place,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn table(&mut self, table: DeTable<'_>) -> Value {
        let mut entries = Table::new();
        for (key, value) in table {
            let start = key.span().start;
            entries.insert(key.into_inner().into_owned(), self.node(value, Some(start)));
        }
        Value::Table(entries)
    }

    /// `start` is where the key stands: an operator looks for the key, not for the value.
    fn node(&mut self, value: Spanned<DeValue<'_>>, start: Option<usize>) -> Node {
        let place = (self.at)(start.unwrap_or(value.span().start));
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Boolean(yes) => Value::Boolean(yes),
            DeValue::Datetime(moment) => Value::Text(moment.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => self.too_large(&place),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => self.too_large(&place),
            },
            DeValue::Array(list) => Value::List(list.into_iter().map(|item| self.node(item, None)).collect()),
            DeValue::Table(table) => self.table(table),
        };
        Node { place, value }
    }

    fn too_large(&mut self, place: &Place) -> Value {
        self.problems.push(Problem::new("", place.clone(), "this number is too large"));
        Value::Hole
    }
}

/// Reads the file of an operator.
pub(super) fn parse_file(text: &str, path: &str) -> (Node, Vec<Problem>) {
    let path: Arc<str> = path.into();
    parse(text, &move |line| Place::File { path: Arc::clone(&path), line })
}

/// Reads what is embedded in the binary.
///
/// # Panics
/// When it is not TOML: a test reads it.
pub(super) fn parse_built_in(text: &str) -> Node {
    let (node, problems) = parse(text, &|_| Place::BuiltIn);
    assert!(problems.is_empty(), "config/default.toml is TOML");
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_later_layers_win() {
        let (mut below, problems) = parse_file("a = 1\n[b]\nc = \"x\"\nd = [1,\n 2]\n", "one.toml");
        assert!(problems.is_empty());
        let place = |node: &Node, path: &str| node.get(&Path::of(path)).unwrap().place.to_string();
        assert_eq!(place(&below, "b.c"), "one.toml:3");
        assert_eq!(place(&below, "b.d.[1]"), "one.toml:5");
        let (above, _) = parse_file("[b]\nd = []", "two.toml");
        below.lay(&above);
        assert_eq!(place(&below, "b.c"), "one.toml:3");
        assert_eq!(place(&below, "b.d"), "two.toml:2");
    }

    #[test]
    fn a_broken_line_is_named_and_not_quoted() {
        let (_, problems) = parse_file("a = 1\ntoken = hunter2\n", "one.toml");
        assert_eq!(problems[0].place.to_string(), "one.toml:2");
        assert!(!problems[0].message.contains("hunter2"), "{}", problems[0].message);
    }
}
