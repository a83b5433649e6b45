//! What is sent: the bodies of the calls that create something. Pure.
//!
//! The shapes differ between the two versions of the API: version 2 has numbers and `custom_fields`, leads
//! (version 1) have `visible_to` as text and custom fields beside their own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::custom::Custom;
use super::item::Item;
use super::note;
use super::settings::Parsed;
use crate::lead::{Lead, Phone};

/// `POST /api/v2/persons`. Fields that exist with the Contact Sync alone are never sent: they are refused.
pub(super) fn person(lead: &Lead, parsed: &Parsed) -> Value {
    let submitted = &lead.submitted;
    let email = submitted.email.as_str();
    let name = match submitted.name.trim() {
        "" => email.split('@').next().unwrap_or(email),
        name => name,
    };
    let contact = |value: &str| json!([{ "value": value, "primary": true, "label": "work" }]);
    let mut body = json!({ "name": name, "emails": contact(email) });
    set(&mut body, "phones", submitted.phone.as_ref().map(Phone::as_str).map(contact));
    set(&mut body, "owner_id", parsed.owner_id.map(Value::from));
    set(&mut body, "visible_to", parsed.visible_to.map(Value::from));
    set(&mut body, "custom_fields", custom(lead, &parsed.person_fields).map(Value::Object));
    body
}

/// `POST /v1/leads`.
pub(super) fn lead(lead: &Lead, parsed: &Parsed, person: u64) -> Value {
    let title = parsed.title.fill(lead);
    let mut body = json!({ "title": title, "person_id": person, "origin_id": lead.id.to_string() });
    if let (Some(amount), Some(currency)) = (parsed.value, &parsed.currency) {
        set(&mut body, "value", Some(json!({ "amount": amount, "currency": currency })));
    }
    set(&mut body, "owner_id", parsed.owner_id.map(Value::from));
    set(&mut body, "label_ids", (!parsed.label_ids.is_empty()).then(|| json!(parsed.label_ids)));
    set(&mut body, "visible_to", parsed.visible_to.map(|it| Value::from(it.to_string())));
    for (key, value) in custom(lead, &parsed.deal_fields).into_iter().flatten() {
        set(&mut body, &key, Some(value));
    }
    body
}

/// `POST /api/v2/deals`.
pub(super) fn deal(lead: &Lead, parsed: &Parsed, person: u64) -> Value {
    let mut body = json!({ "title": parsed.title.fill(lead), "person_id": person });
    set(&mut body, "value", parsed.value.map(Value::from));
    set(&mut body, "currency", parsed.currency.clone().map(Value::from));
    set(&mut body, "pipeline_id", parsed.pipeline_id.map(Value::from));
    set(&mut body, "stage_id", parsed.stage_id.map(Value::from));
    set(&mut body, "owner_id", parsed.owner_id.map(Value::from));
    set(&mut body, "visible_to", parsed.visible_to.map(Value::from));
    set(&mut body, "custom_fields", custom(lead, &parsed.deal_fields).map(Value::Object));
    body
}

/// `POST /v1/notes`.
pub(super) fn note(lead: &Lead, on: &Item) -> Value {
    let (name, id) = on.reference();
    json!({ "content": note::html(lead), name: id })
}

/// The custom fields that the lead has a value for; a set that is empty is refused.
fn custom(lead: &Lead, fields: &BTreeMap<String, Custom>) -> Option<Map<String, Value>> {
    let filled: Map<_, _> =
        fields.iter().filter_map(|(key, custom)| Some((key.clone(), custom.value(lead)?))).collect();
    (!filled.is_empty()).then_some(filled)
}

fn set(body: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        body[key] = value;
    }
}
