//! From a table of the tree to a typed section, through all of its problems and not only the first:
//! what cannot be used is reported, replaced by its default, and reading goes on.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::place::{Path, Place};
use super::problems::Problem;
use super::suggest;
use super::tree::{Node, Value};
use super::variables;
use crate::units::SettingProblem;

/// A section has fewer settings than this; a bound for a loop that ends when all are readable.
const MOST_PROBLEMS: usize = 1_000;

/// A section as it could be read.
pub(super) struct Reading<T> {
    section: T,
    /// Where something else stands than what was given; and whether that is all that was wrong.
    repaired: Vec<Path>,
    is_sound: bool,
}

impl<T> Reading<T> {
    /// Goes on to what is wrong with values that fit their types, and tells it, but for what was reported already.
    ///
    /// `None`: there is a problem.
    pub(super) fn believe<P>(
        self,
        check: impl FnOnce(T) -> Result<P, Vec<SettingProblem>>,
        mut tell: impl FnMut(&SettingProblem),
    ) -> Option<P> {
        match check(self.section) {
            Ok(believed) => self.is_sound.then_some(believed),
            Err(wrong) => {
                let is_known =
                    |key: &str| self.repaired.iter().any(|path| path.0.first().is_some_and(|it| it == key));
                wrong
                    .iter()
                    .filter(|it| !is_known(it.key.split('.').next().unwrap_or("")))
                    .for_each(&mut tell);
                None
            }
        }
    }
}

/// Reads the section that stands at `at` of the file. `defaults` is what stands in for a value that
/// cannot be used.
///
/// `None`: a value is missing or wrong and nothing can stand in for it; the problem is among `problems`.
pub(super) fn read<T: DeserializeOwned>(
    mut node: Node,
    at: &Path,
    defaults: Option<&Node>,
    problems: &mut Vec<Problem>,
) -> Option<Reading<T>> {
    let before = problems.len();
    let (mut repaired, mut stopgaps) = (Vec::new(), BTreeMap::new());
    for _ in 0..MOST_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, T>(node.clone()) {
            Ok(section) => return Some(Reading { section, repaired, is_sound: problems.len() == before }),
            Err(error) => error,
        };
        let inside = found(&mut node, &path_of(error.path()));
        if node.get(&inside).is_some_and(|culprit| matches!(culprit.value, Value::Hole)) {
            stopgaps.insert(inside.clone(), STOPGAPS.iter());
        }
        if let Some(stopgap) = stopgaps.get_mut(&inside) {
            let value = stopgap.next()?;
            node.put(&inside, Node { place: Place::BuiltIn, value: value() });
            continue;
        }
        match repair(&mut node, at, &inside, &error.inner().to_string(), defaults, problems) {
            Some(path) => repaired.push(path),
            None => return None,
        }
    }
    None
}

/// What is tried in the place of a value that cannot be used and has no default, so that reading can go
/// on to the next problem. None of it is ever used: a section with a problem is not given out.
const STOPGAPS: [fn() -> Value; 8] = [
    || Value::Text("a".to_owned()),
    || Value::Text("1s".to_owned()),
    || Value::Text("1KiB".to_owned()),
    || Value::Text("127.0.0.1:1".to_owned()),
    || Value::Integer(1),
    || Value::Boolean(false),
    || Value::List(Vec::new()),
    || Value::Table(BTreeMap::new()),
];

/// Reports one error and takes its cause out of the way: where that was. `None`: there is no way past it.
fn repair(
    node: &mut Node,
    at: &Path,
    inside: &Path,
    message: &str,
    defaults: Option<&Node>,
    problems: &mut Vec<Problem>,
) -> Option<Path> {
    let full = |inside: &Path| Path(at.0.iter().chain(&inside.0).cloned().collect());
    if let Some(key) = quoted(message, "missing field ") {
        let missing = inside.join(key);
        let path = full(&missing);
        let place = node.get(inside).map_or(Place::BuiltIn, |table| table.place.clone());
        let problem = Problem::new(&path, place, format!("`{key}` is missing"));
        problems.push(problem.hint(variables::how_to_set(&path)));
        node.put(&missing, Node { place: Place::BuiltIn, value: Value::Hole });
        return Some(missing);
    }
    let Some(culprit) = node.get(inside) else {
        problems.push(Problem::new(full(inside), node.place.clone(), message));
        return None;
    };
    let problem = Problem::new(full(inside), culprit.place.clone(), "");
    if message.starts_with("unknown field ") {
        let known = message.split('`').skip(3).step_by(2).collect();
        problems.push(unknown(problem, suggest::instead(inside.last(), known)));
        node.remove(inside);
        return Some(inside.clone());
    }
    let fallback = defaults.and_then(|defaults| defaults.get(inside));
    problems.push(wrong(problem, message, fallback));
    let stuck = matches!(culprit.value, Value::Hole) || culprit.place == Place::BuiltIn;
    if stuck {
        return None;
    }
    let hole = Node { place: Place::BuiltIn, value: Value::Hole };
    let instead = fallback.cloned().unwrap_or(hole);
    match node.get_mut(inside) {
        Some(there) => *there = instead,
        None => node.put(inside, instead),
    }
    Some(inside.clone())
}

/// A key that nothing reads.
pub(super) fn unknown(problem: Problem, hint: String) -> Problem {
    Problem { message: "there is no such setting".to_owned(), hint: Some(hint), ..problem }
}

/// A value that cannot be used. What follows a semicolon in the message says what to do about it.
fn wrong(problem: Problem, message: &str, fallback: Option<&Node>) -> Problem {
    let plain = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let message = match plain.and_then(|rest| rest.split_once(", expected ")) {
        // What stands there may be the secret of the setting that should be below it.
        Some((_, expected)) if expected.starts_with("struct ") || expected.starts_with("a map") => {
            "this is a value, but it should be a section; write [its.name] and its settings below".to_owned()
        }
        Some((found, expected)) => format!("this is {}, but it should be {expected}", article(found)),
        None => message.to_owned(),
    };
    let (message, hint) = match message.split_once("; ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (message, fallback.map(|default| format!("the default is {}", default.written()))),
    };
    Problem { message, hint, ..problem }
}

/// `string "x"` with its article, for serde leaves it out.
fn article(found: &str) -> String {
    match found.as_bytes().first() {
        Some(b'a' | b'e' | b'i' | b'o' | b'u') => format!("an {found}"),
        _ => format!("a {found}"),
    }
}

/// The name in backticks that stands behind `prefix`.
fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// Where in the tree that is: a variable's list becomes one whose items can be told apart, and what was taken out of a
/// list does not count.
fn found(node: &mut Node, path: &Path) -> Path {
    let mut real = Path::default();
    for step in &path.0 {
        let index = step.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        let mut step = step.clone();
        if let (Some(index), Some(here)) = (index, node.get_mut(&real)) {
            if matches!(here.value, Value::Loose(_)) {
                *here = here.clone().listed();
            }
            if let Value::List(list) = &here.value {
                let mut left = (0..list.len()).filter(|at| !matches!(list[*at].value, Value::Hole));
                step = left.nth(index).map_or(step, |at| format!("[{at}]"));
            }
        }
        real = real.join(&step);
    }
    real
}

fn path_of(path: &serde_path_to_error::Path) -> Path {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(format!("[{index}]")),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    Path(steps.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::{parse_built_in, parse_file};
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Sample {
        #[serde(with = "crate::units::duration")]
        wait: Duration,
        count: u8,
        needed: String,
        also: String,
        #[serde(default)]
        maybe: Option<u8>,
    }

    #[test]
    fn all_problems_of_a_section_are_found_at_once() {
        let defaults = parse_built_in("wait = '3s'\ncount = 1");
        let (file, _) = parse_file("wait = 5\ncount = 'many'\nneeded = []\nmaybe = 300\ncuont = 2\n", "f");
        let mut node = defaults.clone();
        node.lay(&file);
        let mut problems = Vec::new();
        let read = read::<Sample>(node, &Path::of("s"), Some(&defaults), &mut problems).unwrap();
        let mut beside = Vec::new();
        let check = |_| {
            let wrong = |key: &str| SettingProblem::new(key, "wrong", "");
            Err::<(), _>(vec![wrong("count"), wrong("needed"), wrong("maybe.x"), wrong("other")])
        };
        assert_eq!(read.believe(check, |wrong| beside.push(wrong.key.clone())), None);
        assert_eq!(beside, ["other"], "what was reported is not reported again");
        let mut found: Vec<_> =
            problems.iter().map(|p| format!("{} {} {} {:?}", p.path, p.place, p.message, p.hint)).collect();
        found.sort();
        let expected = [
            "s.also f:1 `also` is missing Some(\"set it in the file, or by LEAD_INTAKE__S__ALSO\")",
            "s.count f:2 this is a string \"many\", but it should be u8 Some(\"the default is 1\")",
            "s.cuont f:5 there is no such setting Some(\"did you mean `count`?\")",
            "s.maybe f:4 this is an integer `300`, but it should be u8 None",
            "s.needed f:3 this is a sequence, but it should be a string None",
            "s.wait f:1 this is an integer `5`, but it should be a string Some(\"the default is \\\"3s\\\"\")",
        ];
        assert_eq!(found, expected);
    }
}
