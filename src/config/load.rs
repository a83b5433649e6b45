//! Gathers the layers of the configuration: built-in defaults < file < environment < flags. The one
//! place that reads the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::place::{Path, Place, fold};
use super::problems::Problem;
use super::tree::{self, Node};
use super::{suggest, variables};

/// What an operator gives a process.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// `--config`, which wins over `LEAD_INTAKE_CONFIG`.
    pub file: Option<PathBuf>,
    /// `--bind`, which wins over `BIND`.
    pub bind: Option<String>,
}

impl Inputs {
    /// The environment of this process, and no flags. A variable that is not UTF-8 is read with its
    /// odd bytes replaced, so that a problem can name it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process() -> Self {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { variables, ..Self::default() }
    }

    /// A variable's value; one that is empty counts as not set.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Every section that a file may have.
const SECTIONS: [&str; 8] = ["server", "intake", "store", "forms", "mail", "destinations", "operator", "log"];

/// The operator's layers on top of each other, without the built-in defaults.
pub(super) fn gather(inputs: &Inputs, known: &Node, problems: &mut Vec<Problem>) -> Node {
    let mut tree = file(inputs, problems);
    let mut above = Node::table(Place::BuiltIn);
    named_variables(inputs, &mut above, problems);
    free_variables(inputs, &tree, known, &mut above, problems);
    if let Some(bind) = &inputs.bind {
        above.put(&Path::of("server.bind"), Node::loose(Place::Flag("--bind".into()), bind));
    }
    tree.lay(&above);
    let unknown: Vec<_> =
        tree.entries().into_iter().flatten().map(|(name, node)| (name.clone(), node.place.clone())).collect();
    for (name, place) in unknown.into_iter().filter(|(name, _)| !SECTIONS.contains(&name.as_str())) {
        let hint = suggest::instead(&name, SECTIONS.to_vec());
        problems.push(Problem::new(&name, place, "there is no such section").hint(hint));
        tree.remove(&Path::of(&name));
    }
    tree
}

fn file(inputs: &Inputs, problems: &mut Vec<Problem>) -> Node {
    let named = inputs.file.clone().map(|path| (path, Place::Flag("--config".into()))).or_else(|| {
        let path = inputs.variable(variables::CONFIG)?;
        Some((path.into(), Place::Variable(variables::CONFIG.into())))
    });
    let Some((path, named_by)) = named else { return Node::table(Place::BuiltIn) };
    let shown = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let (node, wrong) = tree::parse_file(&text, &shown);
            problems.extend(wrong);
            node
        }
        Err(error) => {
            let problem = Problem::new("", named_by, format!("`{shown}` cannot be read: {error}"));
            problems.push(problem.hint("give the path of a TOML file that this user may read"));
            Node::table(Place::BuiltIn)
        }
    }
}

/// The variables with a name of their own, and their `_FILE` twins.
fn named_variables(inputs: &Inputs, tree: &mut Node, problems: &mut Vec<Problem>) {
    for variable in variables::ALL.iter().filter(|variable| !variable.path.is_empty()) {
        let path = Path::of(variable.path);
        let twin = format!("{}_FILE", variable.name);
        let node = match (inputs.variable(variable.name), inputs.variable(&twin)) {
            (None, None) => continue,
            (Some(_), Some(_)) => {
                problems.push(both(&path, variable.name, &twin));
                continue;
            }
            (Some(value), None) => Node::loose(Place::Variable(variable.name.into()), value),
            (None, Some(file)) => match in_file(&path, &twin, file) {
                Ok(node) => node,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            },
        };
        tree.put(&path, node);
    }
    // Each of those that send mail turns both mails on; what is missing is then reported.
    let mail: Vec<_> = variables::MAIL.iter().filter_map(|(_, path)| tree.get(&Path::of(path))).collect();
    if let Some(place) = mail.first().map(|node| node.place.clone()) {
        for name in ["destinations.notification", "destinations.confirmation", "mail"] {
            if tree.get(&Path::of(name)).is_none() {
                tree.put(&Path::of(name), Node::table(place.clone()));
            }
        }
    }
}

fn both(path: &Path, variable: &str, twin: &str) -> Problem {
    let message = format!("{variable} and {twin} are both set");
    Problem::new(path, Place::Variable(twin.into()), message).hint("keep one of them")
}

/// What the file holds that a `_FILE` twin names.
fn in_file(path: &Path, twin: &str, file: &str) -> Result<Node, Problem> {
    let place = Place::VariableFile { variable: twin.into(), path: file.into() };
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Node::loose(place, text.trim_end_matches(['\r', '\n']))),
        Err(error) => Err(Problem::new(path, place, format!("the file cannot be read: {error}"))),
    }
}

/// Whether a variable is one that Kubernetes gives every container for a Service whose name begins with ours (its
/// documentation, "Accessing the Service"): nobody has set it.
fn is_of_kubernetes(name: &str) -> bool {
    let port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    let told = |mark: &str| name.split_once(mark).is_some_and(|(_, rest)| port(rest));
    !name.contains("__") && (name.ends_with("_SERVICE_HOST") || told("_SERVICE_PORT") || told("_PORT"))
}

/// `LEAD_INTAKE__SECTION__KEY`, and for a secret its twin `LEAD_INTAKE__SECTION__KEY_FILE`.
fn free_variables(inputs: &Inputs, file: &Node, known: &Node, tree: &mut Node, problems: &mut Vec<Problem>) {
    let ours =
        inputs.variables.keys().filter(|name| name.starts_with("LEAD_INTAKE_") && !is_of_kubernetes(name));
    for name in ours.filter(|name| inputs.variable(name).is_some() && *name != variables::CONFIG) {
        let place = Place::Variable(Arc::from(name.as_str()));
        let Some(rest) = name.strip_prefix("LEAD_INTAKE__").filter(|rest| rest.contains("__")) else {
            let hint =
                "a setting is written LEAD_INTAKE__SECTION__KEY, with two underscores between its parts";
            problems.push(Problem::new("", place, format!("there is no variable {name}")).hint(hint));
            continue;
        };
        let value = inputs.variable(name).unwrap_or_default();
        // Where a setting of the name is there, as `ca_file` is, it is no twin.
        let secret = name.strip_suffix("_FILE").filter(|_| {
            let key = rest.rsplit("__").next().and_then(|key| key.strip_suffix("_FILE")).unwrap_or_default();
            super::SECRETS.iter().any(|secret| fold(secret) == fold(key))
        });
        let rest = secret.and(rest.strip_suffix("_FILE")).unwrap_or(rest);
        let mut path = Path::default();
        for part in rest.split("__") {
            let there = [&*tree, file, known].into_iter().find_map(|layer| {
                let entries = layer.get(&path)?.entries()?;
                entries.keys().find(|key| fold(key) == fold(part)).cloned()
            });
            path = path.join(&there.unwrap_or_else(|| part.to_ascii_lowercase()));
        }
        match secret {
            None => tree.put(&path, Node::loose(place, value)),
            Some(plain) if inputs.variable(plain).is_some() => problems.push(both(&path, plain, name)),
            Some(_) => match in_file(&path, name, value) {
                Ok(node) => tree.put(&path, node),
                Err(problem) => problems.push(problem),
            },
        }
    }
}
