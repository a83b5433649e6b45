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
use serde::de::DeserializeOwned;

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

    let mut sections = Sections { whole: &whole, built_in: &built_in, problems: &mut problems };
    let server = sections.read("server", none_of(http::Settings::problems));
    let intake = sections.read("intake", Ok);
    let store = sections.read("store", none_of(store::Settings::problems));
    let operator = sections.read("operator", Ok);
    let log = sections.read("log", none_of(telemetry::Settings::problems));
    let section = whole.get(&Path::of("destinations"));
    let is_wanted = given.get(&Path::of("mail")).is_some() || destinations::need_mail(section, &defaults);
    let mail = is_wanted.then(|| sections.read("mail", email::MailSettings::parse)).flatten().map(Arc::new);
    let forms = forms(whole.get(&Path::of("forms")), &mut problems);
    let destinations = destinations::destinations(section, &defaults, mail.as_ref(), &mut problems);
    let operator_mail = match (mail, &operator) {
        (Some(mail), Some(operator)) => notice(operator, mail, &destinations, &whole, &mut problems),
        _ => None,
    };
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

/// The sections of which there is one.
struct Sections<'a> {
    whole: &'a Node,
    built_in: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Sections<'_> {
    fn read<T: DeserializeOwned, P>(
        &mut self,
        name: &str,
        check: impl FnOnce(T) -> Result<P, Vec<SettingProblem>>,
    ) -> Option<P> {
        let at = Path::of(name);
        let node = self.whole.get(&at).cloned().unwrap_or_else(|| Node::table(Place::BuiltIn));
        let read = section::read(node, &at, self.built_in.get(&at), self.problems)?;
        read.believe(check, |wrong| add(wrong, name, self.whole, self.problems))
    }
}

/// A check of a section that is as it should be where nothing is wrong with it.
fn none_of<T>(
    problems: impl FnOnce(&T) -> Vec<SettingProblem>,
) -> impl FnOnce(T) -> Result<T, Vec<SettingProblem>> {
    |section| {
        let problems = problems(&section);
        if problems.is_empty() { Ok(section) } else { Err(problems) }
    }
}

fn add(wrong: &SettingProblem, name: &str, whole: &Node, problems: &mut Vec<Problem>) {
    let path = Path::of(name).join(&wrong.key);
    // What is missing has no place of its own: its section has.
    let node = whole.get(&path).or_else(|| whole.get(&Path::of(name)));
    let place = node.map_or(Place::BuiltIn, |node| node.place.clone());
    problems.push(Problem::new(&path, place, &wrong.message).hint(&wrong.hint));
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
        .map_err(|wrong| add(&wrong, "operator", whole, problems))
        .ok()
        .flatten()
}

fn forms(section: Option<&Node>, problems: &mut Vec<Problem>) -> Forms {
    let mut forms = Forms::default();
    for (name, node) in section.and_then(Node::entries).into_iter().flatten() {
        let at = Path::of("forms").join(name);
        let Some(read) = section::read::<FormRules>(node.clone(), &at, None, problems) else { continue };
        let rules = read.believe(none_of(FormRules::problems), |wrong| {
            let place = node.get(&Path::of(&wrong.key)).unwrap_or(node).place.clone();
            problems.push(Problem::new(at.join(&wrong.key), place, &wrong.message).hint(&wrong.hint));
        });
        let rules = rules.unwrap_or_default();
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
