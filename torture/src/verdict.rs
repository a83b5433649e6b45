//! Whether the promises were kept: what visitors were told, what the store says, and what the vendors have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use stand_ins::pipedrive::DEAL_TEXT;

use crate::visitors::{DOMAIN, Submission};
use crate::world::Vendors;

/// What is said of a mail that may not be sent a third time, and of a lead that alone is refused: dead letters
/// that are rightly dead.
const RIGHTLY_DEAD: [&str; 2] = ["Its answer was lost before as well", "Other leads went in meanwhile"];

/// What a service never says unless something is wrong with itself.
const FAULTS_OF_OURS: [&str; 4] = ["panicked", "overran its deadline", "a fault of ours", "cannot be read"];

/// Where a lead goes only with consent.
const NEED_CONSENT: [&str; 4] = ["confirmation", "crm", "hubspot", "pipedrive"];

/// The tab of leads.
const TAB: &str = "Leads";

/// A round in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Forms that were answered 200.
    pub(crate) answered: usize,
    pub(crate) leads: usize,
    pub(crate) deliveries: usize,
    pub(crate) dead: usize,
    /// Calls of the webhook and mails beyond the first of each: allowed, with the same key.
    pub(crate) repeats: usize,
}

/// Everything that is known at the end of a round.
pub(crate) struct Evidence<'a> {
    pub(crate) submissions: &'a [Submission],
    /// The store's records, as `leads export --json` has them.
    pub(crate) records: &'a [Value],
    pub(crate) vendors: &'a Vendors,
    /// Every line that was logged.
    pub(crate) logs: &'a [String],
    /// Whether Pipedrive was to get deals.
    pub(crate) deals: bool,
}

/// A lead with its deliveries, as the store has it.
struct Lead<'a> {
    id: &'a str,
    email: &'a str,
    mark: &'a str,
    consent: bool,
    deliveries: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Lead<'a> {
    fn of(record: &'a Value) -> Self {
        let lead = &record["lead"];
        let deliveries = record["deliveries"].as_array().into_iter().flatten();
        let named = |it: &'a Value| Some((it["id"].as_str()?.split_once('/')?.1, it));
        Self {
            id: lead["id"].as_str().unwrap_or_default(),
            email: lead["email"].as_str().unwrap_or_default(),
            mark: lead["form_data"]["mark"].as_str().unwrap_or_default(),
            consent: lead["consent_given"] == true,
            deliveries: deliveries.filter_map(named).collect(),
        }
    }

    fn state(&self, destination: &str) -> &str {
        self.deliveries.get(destination).and_then(|it| it["state"].as_str()).unwrap_or("nowhere")
    }

    /// How often something of it may be at a destination, by what the store says.
    fn may_be(&self, destination: &str) -> std::ops::RangeInclusive<usize> {
        match self.state(destination) {
            "delivered" => 1..=1,
            // It may have arrived all the same, and nobody could say so.
            "dead" | "pending" => 0..=1,
            _ => 0..=0,
        }
    }
}

/// What was promised and not kept, each with the lead; and the round in numbers.
pub(crate) fn judge(evidence: &Evidence<'_>) -> (Vec<String>, Count) {
    let leads: Vec<_> = evidence.records.iter().map(Lead::of).collect();
    let mut wrong = Vec::new();
    told(evidence.submissions, &leads, &mut wrong);
    leads.iter().for_each(|lead| ended(lead, &mut wrong));
    sheet(evidence.vendors, &leads, &mut wrong);
    let calls = evidence.vendors.hook.taken();
    let mut repeats = arrived("crm", &leads, calls, |id| format!("{id}_crm"), &mut wrong);
    for name in ["notification", "confirmation"] {
        let id = |id: &str| format!("<{id}_{name}@our-company.test>");
        let mails = evidence.vendors.smtp.counts().into_iter();
        let mails = mails.filter(|(id, _)| id.contains(&format!("_{name}@"))).collect();
        repeats += arrived(name, &leads, mails, id, &mut wrong);
    }
    hubspot(evidence.vendors, &leads, &mut wrong);
    pipedrive(evidence, &leads, &mut wrong);
    for line in evidence.logs {
        if line.contains(DOMAIN) {
            wrong.push(format!("a log line holds a visitor's address: {line}"));
        }
        if FAULTS_OF_OURS.iter().any(|fault| line.contains(fault)) {
            wrong.push(format!("the service says that it failed: {line}"));
        }
    }
    let dead = |lead: &Lead<'_>| lead.deliveries.values().filter(|it| it["state"] == "dead").count();
    let count = Count {
        answered: evidence.submissions.iter().filter(|it| !it.ids.is_empty()).count(),
        leads: leads.len(),
        deliveries: leads.iter().map(|lead| lead.deliveries.len()).sum(),
        dead: leads.iter().map(dead).sum(),
        repeats,
    };
    (wrong, count)
}

/// The leads that visitors were told of and the store does not have.
pub(crate) fn missing(submissions: &[Submission], records: &[Value]) -> BTreeSet<String> {
    let stored: BTreeSet<_> = records.iter().filter_map(|it| it["lead"]["id"].as_str()).collect();
    let told = submissions.iter().flat_map(|it| &it.ids);
    told.filter(|id| !stored.contains(id.as_str())).cloned().collect()
}

/// Every 200 is stored, as it was sent and under one id; nothing else is.
fn told(submissions: &[Submission], leads: &[Lead<'_>], wrong: &mut Vec<String>) {
    let mut stored: HashMap<&str, Vec<&Lead<'_>>> = HashMap::new();
    for lead in leads {
        stored.entry(lead.mark).or_default().push(lead);
    }
    for it in submissions {
        let ours = stored.remove(it.mark.as_str()).unwrap_or_default();
        let who = format!("form {} (sent {} times)", it.mark, it.sent);
        for id in &it.ids {
            if !ours.iter().any(|lead| lead.id == *id) {
                wrong.push(format!("LOST: {who} was answered 200 with {id}, and the store has no such lead"));
            }
        }
        let most = if it.key.is_some() { 1 } else { it.sent };
        if ours.len() > most {
            let ids: Vec<_> = ours.iter().map(|lead| lead.id).collect();
            wrong.push(format!("{who} is stored {} times: {ids:?}", ours.len()));
        }
        if ours.iter().any(|lead| it.body["email"] != lead.email) {
            wrong.push(format!("{who} is stored with another address"));
        }
        wrong.extend(it.strange.iter().map(|answer| format!("{who} was answered {answer}")));
    }
    wrong.extend(stored.keys().map(|mark| format!("nobody sent the form {mark}, and it is stored")));
}

/// Every delivery is delivered, rightly withheld, or a dead letter for a reason.
fn ended(lead: &Lead<'_>, wrong: &mut Vec<String>) {
    for (destination, delivery) in &lead.deliveries {
        let withheld = !lead.consent && NEED_CONSENT.contains(destination);
        let last = delivery["history"].as_array().and_then(|history| history.last());
        let detail = last.and_then(|it| it["detail"].as_str()).unwrap_or_default();
        let fits = match delivery["state"].as_str() {
            Some("delivered") => !withheld,
            Some("withheld") => withheld,
            Some("dead") => !withheld && RIGHTLY_DEAD.iter().any(|reason| detail.contains(reason)),
            _ => false,
        };
        if !fits {
            let state = &delivery["state"];
            wrong.push(format!(
                "{}/{destination} (consent: {}) is {state}: {delivery}",
                lead.id, lead.consent
            ));
        }
    }
    if lead.deliveries.len() != 6 {
        wrong.push(format!("{} goes to {} destinations, not to 6", lead.id, lead.deliveries.len()));
    }
}

/// Each lead's row is there exactly once, and it is that lead's.
fn sheet(vendors: &Vendors, leads: &[Lead<'_>], wrong: &mut Vec<String>) {
    let mut rows: HashMap<String, Vec<HashMap<String, String>>> = HashMap::new();
    for row in vendors.google.records(TAB) {
        rows.entry(row.get("id").cloned().unwrap_or_default()).or_default().push(row);
    }
    for lead in leads {
        let ours = rows.remove(lead.id).unwrap_or_default();
        if !lead.may_be("sheet").contains(&ours.len()) {
            let state = lead.state("sheet");
            wrong.push(format!("{} is in the sheet {} times and {state} there", lead.id, ours.len()));
        }
        for row in ours {
            let is = |name: &str, value: &str| row.get(name).is_some_and(|cell| cell == value);
            if !is("email", lead.email) || !is("mark", lead.mark) {
                wrong.push(format!("the row of {} is another's: {row:?}", lead.id));
            }
        }
    }
    wrong.extend(
        rows.keys().map(|id| format!("the sheet has a row of {id:?}, and the store has no such lead")),
    );
}

/// Everything that is delivered arrived at least once under its own key, and nothing that may not. How often
/// something arrived again.
fn arrived(
    destination: &str,
    leads: &[Lead<'_>],
    mut counts: HashMap<String, usize>,
    key: impl Fn(&str) -> String,
    wrong: &mut Vec<String>,
) -> usize {
    let mut repeats = 0;
    for lead in leads {
        let count = counts.remove(&key(lead.id)).unwrap_or(0);
        let state = lead.state(destination);
        let fits = match state {
            "delivered" => count > 0,
            "dead" | "pending" => true,
            _ => count == 0,
        };
        if !fits {
            wrong.push(format!("{}/{destination} is {state} and arrived {count} times", lead.id));
        }
        repeats += count.saturating_sub(1);
    }
    wrong.extend(counts.keys().map(|id| format!("{destination} got {id}, and the store has no such lead")));
    repeats
}

/// One contact for each address.
fn hubspot(vendors: &Vendors, leads: &[Lead<'_>], wrong: &mut Vec<String>) {
    let mut contacts: HashMap<String, usize> = HashMap::new();
    for contact in &vendors.hubspot.vendor().contacts {
        *contacts.entry(contact.properties.get("email").cloned().unwrap_or_default()).or_default() += 1;
    }
    for lead in leads.iter().filter(|lead| lead.state("hubspot") == "delivered") {
        let count = contacts.get(lead.email).copied().unwrap_or(0);
        if count != 1 {
            wrong.push(format!("{} has {count} contacts in HubSpot for its address", lead.id));
        }
    }
    wrong.extend(
        contacts
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(email, count)| format!("HubSpot has {count} contacts of {email}")),
    );
}

/// One person for each address, and for each lead one lead or deal of that person, with one note.
fn pipedrive(evidence: &Evidence<'_>, leads: &[Lead<'_>], wrong: &mut Vec<String>) {
    let books = evidence.vendors.pipedrive.vendor();
    let mut persons: HashMap<&str, Vec<&Value>> = HashMap::new();
    for person in books.persons.iter().filter(|person| person["is_deleted"] == false) {
        let email = person["emails"][0]["value"].as_str().unwrap_or_default();
        persons.entry(email).or_default().push(&person["id"]);
    }
    for (email, ids) in persons.iter().filter(|(_, ids)| ids.len() > 1) {
        wrong.push(format!("Pipedrive has {} persons of {email}: {ids:?}", ids.len()));
    }
    let items = if evidence.deals { &books.deals } else { &books.leads };
    let of = |item: &Value| {
        let own = if evidence.deals { &item["custom_fields"][DEAL_TEXT] } else { &item["origin_id"] };
        own.as_str().unwrap_or_default().to_owned()
    };
    let mut by_lead: HashMap<String, Vec<&Value>> = HashMap::new();
    for item in items {
        by_lead.entry(of(item)).or_default().push(item);
    }
    let key = if evidence.deals { "deal_id" } else { "lead_id" };
    for lead in leads {
        let ours = by_lead.remove(lead.id).unwrap_or_default();
        let (may_be, state) = (lead.may_be("pipedrive"), lead.state("pipedrive"));
        if !may_be.contains(&ours.len()) {
            wrong.push(format!("{} is in Pipedrive {} times and {state} there", lead.id, ours.len()));
        }
        let mark = format!("lead-intake {}", lead.id);
        let has = |note: &&Value| note["content"].as_str().is_some_and(|text| text.contains(&mark));
        let notes: Vec<_> = books.notes.iter().filter(has).collect();
        if !may_be.contains(&notes.len()) {
            wrong.push(format!("{} has {} notes in Pipedrive and is {state} there", lead.id, notes.len()));
        }
        for item in ours {
            let theirs = persons.get(lead.email).is_some_and(|ids| ids.contains(&&item["person_id"]));
            if !theirs {
                wrong.push(format!("what Pipedrive has of {} hangs on another person", lead.id));
            }
            if notes.iter().any(|note| note[key] != item["id"]) {
                wrong.push(format!("the note of {} hangs on something else in Pipedrive", lead.id));
            }
        }
    }
    wrong.extend(by_lead.keys().map(|id| format!("Pipedrive has {id:?}, and the store has no such lead")));
}
