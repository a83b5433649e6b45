//! `[destinations.NAME]`: what every destination takes, and what its type takes.

use std::sync::Arc;
use std::time::Duration;

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

/// How long an attempt may take.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(600);

/// What times in the store may be, so that with all that is added to them they stay below
/// [`LONGEST_WAIT`](crate::delivery::LONGEST_WAIT).
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_PROBE: Duration = Duration::from_secs(60 * 60);
const LONGEST_SLACK: Duration = Duration::from_secs(60 * 60);

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
    if let (Some(lane), Some(Parsed::Email(_)), Some(mail)) = (&lane, &parsed, mail)
        && lane.timeout < mail.least_timeout()
    {
        let message =
            "this leaves too little time for what comes before the wait for the answer to the whole mail";
        let least = mail.least_timeout().as_millis().div_ceil(1_000);
        let hint = format!("write at least \"{least}s\", half as long again as `mail.final_timeout`");
        problems.push(reader.problem(&SettingProblem::new("timeout", message, hint)));
        return None;
    }
    Some(Configured { name: parsed_name.ok()?, lane: lane?, parsed: parsed? })
}

/// Values that fit their types and yet cannot be used.
fn lane_problems(lane: &LaneSettings, kind: &str) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    let mut wrong = |key: &str, message: &str, hint: &str| {
        problems.push(SettingProblem::new(key, message, hint));
    };
    if lane.start == Start::Inline && !matches!(kind, "google_sheets" | "email") {
        wrong("start", "a form never waits for a CRM or webhook", "take it out, or write \"background\"");
    }
    if lane.concurrency == 0 {
        wrong("concurrency", "at least one attempt must be allowed", "write 1 or more");
    }
    if lane.timeout > LONGEST_ATTEMPT {
        wrong("timeout", "an attempt takes more than nothing and at most ten minutes", "write \"10s\"");
    }
    // No moment in the store is further ahead than a wait can be: what is, a clock that was wrong has written.
    if lane.retry.iter().any(|wait| *wait > LONGEST_RETRY) {
        wrong("retry", "a wait is a day at most", "write \"24h\" as often as it takes");
    }
    if lane.probe.is_zero() || lane.probe > LONGEST_PROBE {
        wrong(
            "probe",
            "it is more than nothing and an hour at most, for it doubles four times",
            "write \"1m\"",
        );
    }
    if lane.lease_slack > LONGEST_SLACK {
        wrong(
            "lease_slack",
            "so long would a crash hold up what was under way; an hour is the most",
            "write \"30s\"",
        );
    }
    problems
}

struct Reader<'a> {
    at: &'a Path,
    whole: Node,
    base: &'a Node,
    mail: Option<&'a Arc<email::Mail>>,
}

impl Reader<'_> {
    fn lane(&self, kind: &str, problems: &mut Vec<Problem>) -> Option<LaneSettings> {
        let read = read(self.only(fields_of::<LaneSettings>()), self.at, Some(self.base), problems)?;
        let check = |lane: LaneSettings| match lane_problems(&lane, kind) {
            wrong if wrong.is_empty() => Ok(lane),
            wrong => Err(wrong),
        };
        read.believe(check, |wrong| problems.push(self.problem(wrong)))
    }

    fn typed(&self, kind: &str, problems: &mut Vec<Problem>) -> Option<Parsed> {
        match kind {
            "email" => self.parse::<email::Settings, _>(problems, |it| {
                it.parse(self.mail).map(|parsed| Parsed::Email(Box::new(parsed)))
            }),
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
        let read = read(self.only(own), self.at, Some(self.base), problems)?;
        read.believe(parse, |wrong| problems.push(self.problem(wrong)))
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
