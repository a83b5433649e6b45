//! `[destinations.NAME]`: what every destination takes, and what its type takes.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::place::{Path, Place};
use super::problems::Problem;
use super::section::{read, unknown};
use super::suggest;
use super::tree::{Node, Value};
use super::typed::fields_of;
use crate::destination::registry::{Parsed, TYPES};
use crate::destination::{LaneSettings, SettingProblem, Start};
use crate::destination::{email, google_sheets, hubspot, pipedrive, webhook};
use crate::id::DestinationName;

/// A destination as it is configured.
pub struct Configured {
    /// Its name.
    pub name: DestinationName,
    /// How it is fed.
    pub lane: LaneSettings,
    /// What its type needs.
    pub parsed: Parsed,
}

/// What the built-in file says of destinations.
pub(super) struct Defaults {
    /// `[types.all]` and `[types.TYPE]`.
    pub(super) types: Node,
    /// `[known.NAME]`: destinations that a variable turns on.
    pub(super) known: Node,
}

/// Whether any destination is a mail, so that `[mail]` is needed.
pub(super) fn need_mail(section: Option<&Node>, defaults: &Defaults) -> bool {
    let tables = section.and_then(Node::entries).into_iter().flatten();
    let kind = |name: &str, table: &Node| {
        let own = table.get(&Path::of("type")).cloned();
        own.or_else(|| defaults.known.get(&Path::of(name).join("type")).cloned())
    };
    tables.into_iter().any(|(name, table)| kind(name, table).is_some_and(|kind| kind.text() == Some("email")))
}

/// Reads every destination.
pub(super) fn destinations(
    section: Option<&Node>,
    defaults: &Defaults,
    mail: Option<&Arc<email::Mail>>,
    problems: &mut Vec<Problem>,
) -> Vec<Configured> {
    let tables = section.and_then(Node::entries).into_iter().flatten();
    let mut found: Vec<_> =
        tables.filter_map(|(name, table)| destination(name, table, defaults, mail, problems)).collect();
    email::introduce(found.iter_mut().filter_map(|it| match &mut it.parsed {
        Parsed::Email(mail) => Some(&mut **mail),
        _ => None,
    }));
    found
}

fn destination(
    name: &str,
    given: &Node,
    defaults: &Defaults,
    mail: Option<&Arc<email::Mail>>,
    problems: &mut Vec<Problem>,
) -> Option<Configured> {
    let at = Path::of("destinations").join(name);
    let mut fail = |path: &Path, place: &Place, message: String, hint: String| {
        problems.push(Problem::new(path, place.clone(), message).hint(hint));
    };
    let parsed_name = name.parse().map_err(|error| {
        fail(&at, &given.place, format!("{error}"), "rename it".to_owned());
    });
    if given.entries().is_none() {
        fail(&at, &given.place, "this should be a table".to_owned(), format!("write [destinations.{name}]"));
        return None;
    }
    let one = Path::of(name);
    let mut merged = Node::table(given.place.clone());
    if let Some(known) = defaults.known.get(&one) {
        merged.lay(known);
    }
    merged.lay(given);
    let written = merged.remove(&Path::of("type"));
    let Some(kind) = written.as_ref().and_then(Node::text) else {
        fail(
            &at.join("type"),
            &given.place,
            "`type` is missing".to_owned(),
            suggest::instead("", TYPES.to_vec()),
        );
        return None;
    };
    if !TYPES.contains(&kind) {
        let place = written.as_ref().map_or(&given.place, |node| &node.place);
        fail(
            &at.join("type"),
            place,
            format!("there is no type `{kind}`"),
            suggest::instead(kind, TYPES.to_vec()),
        );
        return None;
    }
    let mut base =
        defaults.types.get(&Path::of("all")).cloned().unwrap_or_else(|| Node::table(Place::BuiltIn));
    for layer in [defaults.types.get(&Path::of(kind)), defaults.known.get(&one)].into_iter().flatten() {
        base.lay(layer);
    }
    base.remove(&Path::of("type"));
    let mut whole = base.clone();
    whole.lay(&merged);
    let reader = Reader { at: &at, whole, base: &base, mail };
    let lane = reader.lane(kind, problems);
    let parsed = reader.typed(kind, problems);
    Some(Configured { name: parsed_name.ok()?, lane: lane?, parsed: parsed? })
}

struct Reader<'a> {
    at: &'a Path,
    whole: Node,
    base: &'a Node,
    mail: Option<&'a Arc<email::Mail>>,
}

impl Reader<'_> {
    fn lane(&self, kind: &str, problems: &mut Vec<Problem>) -> Option<LaneSettings> {
        let lane: LaneSettings =
            read(self.only(fields_of::<LaneSettings>()), self.at, Some(self.base), problems)?;
        let mut wrong = |key: &str, message: &str, hint: &str| {
            problems.push(self.problem(&SettingProblem::new(key, message, hint)));
        };
        if lane.start == Start::Inline && !matches!(kind, "google_sheets" | "email") {
            wrong("start", "a form never waits for a CRM or webhook", "take it out, or write \"background\"");
        }
        if lane.concurrency == 0 {
            wrong("concurrency", "at least one attempt must be allowed", "write 1 or more");
        }
        if lane.timeout.is_zero() || lane.timeout > std::time::Duration::from_secs(600) {
            wrong("timeout", "an attempt takes more than nothing and at most ten minutes", "write \"10s\"");
        }
        Some(lane)
    }

    fn typed(&self, kind: &str, problems: &mut Vec<Problem>) -> Option<Parsed> {
        match kind {
            "email" => match self.mail {
                Some(mail) => self.parse::<email::Settings, _>(problems, |it| {
                    it.parse(Arc::clone(mail)).map(|parsed| Parsed::Email(Box::new(parsed)))
                }),
                // What is wrong with `[mail]` has been said.
                None => None,
            },
            "google_sheets" => self.parse::<google_sheets::Settings, _>(problems, |it| {
                it.parse().map(|parsed| Parsed::GoogleSheets(Box::new(parsed)))
            }),
            "hubspot" => self.parse::<hubspot::Settings, _>(problems, |it| {
                it.parse().map(|parsed| Parsed::HubSpot(Box::new(parsed)))
            }),
            "pipedrive" => self.parse::<pipedrive::Settings, _>(problems, |it| {
                it.parse().map(|parsed| Parsed::Pipedrive(Box::new(parsed)))
            }),
            "webhook" => self.parse::<webhook::Settings, _>(problems, |it| {
                it.parse().map(|parsed| Parsed::Webhook(Box::new(parsed)))
            }),
            _ => None,
        }
    }

    fn parse<S: DeserializeOwned, P>(
        &self,
        problems: &mut Vec<Problem>,
        parse: impl FnOnce(S) -> Result<P, Vec<SettingProblem>>,
    ) -> Option<P> {
        let own = fields_of::<S>();
        let common = fields_of::<LaneSettings>();
        for (key, node) in self.whole.entries().into_iter().flatten() {
            if !own.contains(&key.as_str()) && !common.contains(&key.as_str()) {
                let names = own.iter().chain(common).copied().collect();
                let problem = Problem::new(self.at.join(key), node.place.clone(), "");
                problems.push(unknown(problem, suggest::instead(key, names)));
            }
        }
        let settings = read(self.only(own), self.at, Some(self.base), problems)?;
        parse(settings).map_err(|wrong| problems.extend(wrong.iter().map(|it| self.problem(it)))).ok()
    }

    /// The table with these keys alone.
    fn only(&self, keys: &[&str]) -> Node {
        let mut node = self.whole.clone();
        if let Value::Table(table) = &mut node.value {
            table.retain(|key, _| keys.contains(&key.as_str()));
        }
        node
    }

    fn problem(&self, wrong: &SettingProblem) -> Problem {
        let place = self.whole.get(&Path::of(&wrong.key)).unwrap_or(&self.whole).place.clone();
        let at = wrong.key.split('.').fold(self.at.clone(), |at, step| at.join(step));
        Problem::new(at, place, &wrong.message).hint(&wrong.hint)
    }
}
