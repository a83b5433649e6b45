//! The Pipedrive destination, through the real binary, against a stand-in on the loopback.

mod answers;
mod deals;
mod lookups;
mod made;
mod pace;
mod settings;
mod stand_in;
mod steps;

use serde_json::{Value, json};
use stand_ins::api::Api;
use stand_ins::pipedrive::{Pipedrive, TOKEN};

use crate::support::{Service, ada};

const SEARCH: &str = "GET /api/v2/persons/search";

const PERSON: &str = "POST /api/v2/persons";

const LEAD: &str = "POST /v1/leads";

const DEAL: &str = "POST /api/v2/deals";

const NOTE: &str = "POST /v1/notes";

/// `LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__…`
fn setting(key: &str) -> String {
    format!("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__{key}")
}

async fn service(vendor: &Api<Pipedrive>, settings: &[(&str, &str)]) -> Service {
    service_with(vendor, settings, &[]).await
}

/// The same with further variables.
async fn service_with(vendor: &Api<Pipedrive>, settings: &[(&str, &str)], more: &[(&str, &str)]) -> Service {
    let mut all = vec![
        (setting("BASE_URL"), vendor.url()),
        (setting("RETRY"), ["1ms"; 12].join(", ")),
        (setting("PROBE"), "1ms".to_owned()),
        (setting("SETTLE"), "1ms".to_owned()),
        ("PIPEDRIVE_API_TOKEN".to_owned(), TOKEN.to_owned()),
        ("PIPEDRIVE_DOMAIN".to_owned(), "example".to_owned()),
    ];
    all.extend(settings.iter().map(|(key, value)| (setting(key), (*value).to_owned())));
    let mut pairs: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.extend(more);
    Service::start(&pairs).await
}

/// Ada, from another address.
fn from(address: &str) -> Value {
    let mut lead = ada();
    lead["email"] = json!(address);
    lead
}

fn count(vendor: &Api<Pipedrive>, line: &str) -> usize {
    vendor.calls().iter().filter(|call| call.line() == line).count()
}

/// How many persons and leads there are.
fn persons_and_leads(vendor: &Api<Pipedrive>) -> (usize, usize) {
    let books = vendor.vendor();
    (books.persons.len(), books.leads.len())
}

fn codes(delivery: &Value) -> Vec<String> {
    let history = delivery["history"].as_array().unwrap().iter();
    history.map(|attempt| attempt["code"].as_str().unwrap().to_owned()).collect()
}

/// How many persons have an address, how many leads and deals they have, and how many notes name our lead.
fn made(vendor: &Api<Pipedrive>, address: &str, id: &str) -> (usize, usize, usize) {
    let books = vendor.vendor();
    let has = |person: &&Value| {
        let mut emails = person["emails"].as_array().unwrap().iter();
        emails.any(|email| email["value"].as_str().unwrap().eq_ignore_ascii_case(address))
    };
    let persons: Vec<_> = books.persons.iter().filter(has).map(|person| &person["id"]).collect();
    let items = books.leads.iter().chain(&books.deals).filter(|item| persons.contains(&&item["person_id"]));
    let notes = books.notes.iter().filter(|note| note["content"].as_str().unwrap().contains(id));
    (persons.len(), items.count(), notes.count())
}
