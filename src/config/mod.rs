//! The configuration: built-in defaults < file < environment < flags, all of its problems at once,
//! each with its place and a hint.
//!
//! Settings live beside the code that they configure; this module only composes them. A value's
//! default stands in `config/default.toml` and nowhere else.

mod destinations;
pub mod load;
mod place;
mod problems;
mod section;
mod suggest;
mod tree;
mod typed;
mod variables;

pub use destinations::Configured;
pub use load::Inputs;
pub use place::Place;
pub use problems::{Problem, Problems};

use std::sync::Arc;

use serde::Deserialize;

use self::destinations::Defaults;
use self::place::Path;
use self::tree::{Node, Value};
use crate::destination::email;
use crate::destination::registry::Parsed;
use crate::http::Forms;
use crate::id::FormName;
use crate::lead::validate::FormRules;
use crate::secret::Secret;
use crate::units::SettingProblem;
use crate::{http, intake, store, telemetry};

/// Every option with its default; `lead-intake` carries it.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The name of the form whose rules hold for every form that has no section.
const DEFAULT_FORM: &str = "default";

/// Settings whose values are never shown.
const SECRETS: [&str; 11] = [
    "url",
    "secret",
    "token",
    "access_token",
    "api_token",
    "api_key",
    "credentials_json",
    "ip_hash_key",
    "smtp_url",
    "headers",
    "previous_secret",
];

/// Everything that was configured, believed.
pub struct Config {
    /// `[server]`
    pub server: http::Settings,
    /// `[intake]`
    pub intake: intake::Settings,
    /// `[store]`
    pub store: store::Settings,
    /// `[forms.NAME]`
    pub forms: Forms,
    /// `[destinations.NAME]`
    pub destinations: Vec<Configured>,
    /// `[operator]`
    pub operator: Operator,
    /// How operators are told, where there is a way.
    pub operator_mail: Option<email::Notice>,
    /// `[log]`
    pub log: telemetry::Settings,
}

/// `[operator]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// What an operator's requests carry as a bearer token. With it, `/metrics` asks for it.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Who is told by mail when a destination parks: a list, or one text with commas. Nobody given: whom
    /// the team's mails go to.
    #[serde(default)]
    pub mail_to: Vec<String>,
}

/// Reads the configuration.
///
/// # Errors
/// Every problem at once.
pub fn load(inputs: &Inputs) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let mut built_in = tree::parse_built_in(DEFAULT);
    let defaults = Defaults { types: taken(&mut built_in, "types"), known: taken(&mut built_in, "known") };
    let mut names = Node::table(Place::BuiltIn);
    names.put(&Path::of("destinations"), defaults.known.clone());
    let given = load::gather(inputs, &names, &mut problems);
    let mut whole = built_in.clone();
    whole.lay(&given);

    let server = read(&whole, "server", &built_in, &mut problems);
    let intake = read(&whole, "intake", &built_in, &mut problems);
    let store = read(&whole, "store", &built_in, &mut problems);
    let operator = read(&whole, "operator", &built_in, &mut problems);
    let log = read(&whole, "log", &built_in, &mut problems);
    let forms = forms(whole.get(&Path::of("forms")), &mut problems);
    let section = whole.get(&Path::of("destinations"));
    let is_wanted = given.get(&Path::of("mail")).is_some() || destinations::need_mail(section, &defaults);
    let mail = is_wanted.then(|| mail(&whole, &built_in, &mut problems)).flatten().map(Arc::new);
    let destinations = destinations::destinations(section, &defaults, mail.as_ref(), &mut problems);
    let operator_mail = match (mail, &operator) {
        (Some(mail), Some(operator)) => notice(operator, mail, &destinations, &whole, &mut problems),
        _ => None,
    };
    checked(server.as_ref(), http::Settings::problems, "server", &whole, &mut problems);
    checked(store.as_ref(), store::Settings::problems, "store", &whole, &mut problems);
    checked(log.as_ref(), telemetry::Settings::problems, "log", &whole, &mut problems);
    if let Some(problems) = Problems::from(problems, &secrets(&given)) {
        return Err(problems);
    }
    match (server, intake, store, operator, log) {
        (Some(server), Some(intake), Some(store), Some(operator), Some(log)) => {
            Ok(Config { server, intake, store, forms, destinations, operator, operator_mail, log })
        }
        _ => unreachable!("a section that is missing has been reported"),
    }
}

fn taken(tree: &mut Node, name: &str) -> Node {
    tree.remove(&Path::of(name)).unwrap_or_else(|| Node::table(Place::BuiltIn))
}

fn read<T: serde::de::DeserializeOwned>(
    whole: &Node,
    name: &str,
    built_in: &Node,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let at = Path::of(name);
    let node = whole.get(&at).cloned().unwrap_or_else(|| Node::table(Place::BuiltIn));
    section::read(node, &at, built_in.get(&at), problems)
}

/// Adds what a section has to say about values that fit their types and yet cannot be used.
fn checked<T>(
    section: Option<&T>,
    check: fn(&T) -> Vec<SettingProblem>,
    name: &str,
    whole: &Node,
    problems: &mut Vec<Problem>,
) {
    for wrong in section.map(check).unwrap_or_default() {
        add(wrong, name, whole, problems);
    }
}

fn add(wrong: SettingProblem, name: &str, whole: &Node, problems: &mut Vec<Problem>) {
    let path = Path::of(name).join(&wrong.key);
    // What is missing has no place of its own: its section has.
    let node = whole.get(&path).or_else(|| whole.get(&Path::of(name)));
    let place = node.map_or(Place::BuiltIn, |node| node.place.clone());
    problems.push(Problem::new(&path, place, wrong.message).hint(wrong.hint));
}

/// `[mail]`, believed.
fn mail(whole: &Node, built_in: &Node, problems: &mut Vec<Problem>) -> Option<email::Mail> {
    let settings: email::MailSettings = read(whole, "mail", built_in, problems)?;
    settings
        .parse()
        .map_err(|wrong| wrong.into_iter().for_each(|wrong| add(wrong, "mail", whole, problems)))
        .ok()
}

/// Who of the operators is told by mail.
fn notice(
    operator: &Operator,
    mail: Arc<email::Mail>,
    destinations: &[Configured],
    whole: &Node,
    problems: &mut Vec<Problem>,
) -> Option<email::Notice> {
    let mails = destinations.iter().filter_map(|it| match &it.parsed {
        Parsed::Email(mail) => Some(&**mail),
        _ => None,
    });
    email::Notice::parse(&operator.mail_to, mail, mails.take(1))
        .map_err(|wrong| add(wrong, "operator", whole, problems))
        .ok()
        .flatten()
}

fn forms(section: Option<&Node>, problems: &mut Vec<Problem>) -> Forms {
    let mut forms = Forms::default();
    for (name, node) in section.and_then(Node::entries).into_iter().flatten() {
        let at = Path::of("forms").join(name);
        let Some(rules) = section::read::<FormRules>(node.clone(), &at, None, problems) else { continue };
        for wrong in rules.problems() {
            let place = node.get(&Path::of(&wrong.key)).unwrap_or(node).place.clone();
            problems.push(Problem::new(at.join(&wrong.key), place, wrong.message).hint(wrong.hint));
        }
        if name == DEFAULT_FORM {
            forms.default = rules;
            continue;
        }
        match name.parse::<FormName>() {
            Ok(name) => {
                forms.named.insert(name, rules);
            }
            Err(error) => problems.push(Problem::new(&at, node.place.clone(), error.to_string())),
        }
    }
    forms
}

/// The texts that no problem may show.
fn secrets(node: &Node) -> Vec<String> {
    fn collect(node: &Node, secret: bool, texts: &mut Vec<String>) {
        match &node.value {
            Value::Table(table) => {
                table
                    .iter()
                    .for_each(|(key, node)| collect(node, secret || SECRETS.contains(&key.as_str()), texts));
            }
            Value::List(list) => list.iter().for_each(|node| collect(node, secret, texts)),
            // A bare scheme tells nothing, and the hint has to name it.
            Value::Text(text) | Value::Loose(text) if secret && text.len() > 3 && !text.ends_with("://") => {
                texts.push(text.clone());
                texts.push(format!("{text:?}").trim_matches('"').to_owned());
            }
            Value::Integer(number) if secret && number.unsigned_abs() > 999 => texts.push(number.to_string()),
            Value::Float(number) if secret => texts.push(number.to_string()),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    collect(node, false, &mut texts);
    texts
}
