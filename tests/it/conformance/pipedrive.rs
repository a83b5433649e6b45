//! Pipedrive: the person, then a lead in the inbox, then a note. Most faults strike the creation of the lead, for nothing
//! is unique there and no key makes a repeat harmless.

use std::sync::Arc;

use serde_json::json;
use stand_ins::api::{Api, Fault, Reply};
use stand_ins::pipedrive::{self, Pipedrive, refuse, refuse_with};

use super::vendor::{AGES, Case, Has, Vendor, pairs};

type Crm = Api<Pipedrive>;

const SEARCH: &str = "GET /api/v2/persons/search";
const PERSON: &str = "POST /api/v2/persons";
const LEAD: &str = "POST /v1/leads";
const NOTE: &str = "POST /v1/notes";

pub(super) async fn start() -> Vendor<Crm> {
    let crm = Arc::new(pipedrive::start().await);
    Vendor {
        name: "pipedrive",
        is_inline: false,
        address: crm.url().replace("http://", ""),
        settings: Box::new(|_, address| {
            pairs(&[
                ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN),
                ("PIPEDRIVE_DOMAIN", "example"),
                ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", &format!("http://{address}")),
                ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__SETTLE", "1ms"),
            ])
        }),
        mend: |crm| crm.mend(),
        has: Box::new(|crm, id, address| {
            let vendor = crm.vendor();
            let is_theirs = |person: &&serde_json::Value| {
                person["emails"].as_array().is_some_and(|all| all.iter().any(|it| it["value"] == address))
            };
            let persons: Vec<_> = vendor.persons.iter().filter(is_theirs).collect();
            let leads: Vec<_> = vendor.leads.iter().filter(|lead| lead["origin_id"] == id).collect();
            let hangs = |note: &&serde_json::Value| leads.iter().any(|lead| note["lead_id"] == lead["id"]);
            let notes = vendor.notes.iter().filter(hangs).count();
            Has::of(&[(persons.len(), "person"), (leads.len(), "lead"), (notes, "note")])
        }),
        stand: crm,
        secret: pipedrive::TOKEN.to_owned(),
    }
}

fn on(call: &'static str, words: &'static str, fault: Fault) -> Case<Crm> {
    Case::new(words, move |crm: &Crm| crm.next(call, fault.clone()))
}

fn silent(call: &'static str, words: &'static str, fault: Fault) -> Case<Crm> {
    Case::hanging(words, move |crm: &Crm| crm.next(call, fault.clone()))
}

pub(super) fn cases() -> Vec<Case<Crm>> {
    let says = |status, error: &str| Fault::Answer(refuse(status, error));
    let capped = refuse_with(403, "feature_capping_deals_limit", "Deals limit reached");
    let schema = refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: title: too odd");
    let no_success = Reply::new(200, json!({ "success": false, "error": "Something failed" }));
    let no_id = Reply::new(201, json!({ "success": true, "data": {} }));
    let broken = refuse(500, "Internal server error");
    vec![
        Case::refused(),
        on(SEARCH, "502 with a page of HTML to the search", Fault::html(502)),
        on(PERSON, "The connection breaks before the person is made", Fault::Drop),
        on(PERSON, "The connection breaks after the person is made", Fault::ApplyThenDrop),
        on(LEAD, "The connection breaks before the lead is made", Fault::Drop),
        on(LEAD, "The connection breaks after the lead is made", Fault::ApplyThenDrop),
        on(NOTE, "The connection breaks after the note is made", Fault::ApplyThenDrop),
        silent(LEAD, "No answer in time, and no lead is made", Fault::Hang),
        silent(LEAD, "No answer in time, and the lead is made", Fault::ApplyThenHang),
        silent(LEAD, "201 after the lead is made, and the body stops half-way", Fault::ApplyThenStall),
        on(LEAD, "201 after the lead is made, and the JSON breaks off", Fault::ApplyThenCut),
        on(LEAD, "201 after the lead is made, without its id", Fault::ApplyThenAnswer(no_id)),
        on(LEAD, "200 after the lead is made, with `success: false`", Fault::ApplyThenAnswer(no_success)),
        on(LEAD, "302: it has moved", Fault::Answer(Reply::html(302))),
        on(LEAD, "400: a field that it does not take", Fault::Answer(schema)),
        on(LEAD, "401", Fault::Answer(pipedrive::unauthorized())),
        on(LEAD, "402: the account is closed", says(402, "Company account is not open")),
        on(LEAD, "403: the user may not do this", says(403, "no permission")),
        on(LEAD, "403: the plan's limit is reached", Fault::Answer(capped)),
        on(LEAD, "403 with a page of HTML: shut out", Fault::html(403)),
        on(LEAD, "404", says(404, "Person not found")),
        on(LEAD, "404 with a page of HTML", Fault::html(404)),
        on(LEAD, "409", says(409, "Conflict")),
        on(LEAD, "410", says(410, "this endpoint is no longer available")),
        on(LEAD, "422", says(422, "not like this")),
        on(LEAD, "429, without a word of when", pipedrive::too_many(&[])),
        on(LEAD, "429 with `x-ratelimit-reset: 2`", pipedrive::too_many(&[("x-ratelimit-reset", "2")])),
        on(LEAD, "429 with `Retry-After: 7200`", pipedrive::too_many(&[("retry-after", "7200")])),
        on(LEAD, "429 with a `Retry-After` of ages", pipedrive::too_many(&[("retry-after", AGES)])),
        on(LEAD, "500", Fault::Answer(broken.clone())),
        on(LEAD, "500 after the lead is made", Fault::ApplyThenAnswer(broken)),
        on(LEAD, "502 with a page of HTML", Fault::html(502)),
        on(LEAD, "503 with `Retry-After: 7200`", Fault::Answer(Reply::html(503).with("retry-after", "7200"))),
    ]
}
