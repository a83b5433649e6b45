//! HubSpot: a contact, created, or on a conflict updated.

use std::sync::Arc;

use serde_json::{Value, json};
use stand_ins::api::{Fault, Reply};
use stand_ins::hubspot::{self, HubSpot};

use super::vendor::{AGES, Case, Has, Vendor, pairs};

pub(super) async fn start() -> Vendor<HubSpot> {
    let crm = Arc::new(hubspot::start().await);
    Vendor {
        name: "hubspot",
        is_inline: false,
        address: crm.url().replace("http://", ""),
        settings: Box::new(|_, address| {
            pairs(&[
                ("HUBSPOT_ACCESS_TOKEN", hubspot::TOKEN),
                ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", &format!("http://{address}")),
            ])
        }),
        mend: |crm| crm.mend(),
        has: Box::new(|crm, _, address| {
            let vendor = crm.vendor();
            let ours = vendor.contacts.iter().filter(|contact| contact.properties["email"] == address);
            Has::of(&[(ours.count(), "contact")])
        }),
        stand: crm,
        secret: hubspot::TOKEN.to_owned(),
    }
}

fn met(words: &'static str, fault: Fault) -> Case<HubSpot> {
    Case::new(words, move |crm: &HubSpot| crm.next("POST", fault.clone()))
}

fn silent(words: &'static str, fault: Fault) -> Case<HubSpot> {
    Case::hanging(words, move |crm: &HubSpot| crm.next("POST", fault.clone()))
}

fn error(status: u16, category: &str, message: &str) -> Fault {
    Fault::json(status, json!({"status": "error", "message": message, "category": category}))
}

fn conflict(message: &str) -> Fault {
    error(409, "CONFLICT", message)
}

fn bad(property: &str, code: &str) -> Fault {
    let errors: Value = json!([{"message": "no", "code": code, "context": {"propertyName": [property]}}]);
    let message = "Property values were not valid";
    Fault::json(
        400,
        json!({"status": "error", "message": message, "category": "VALIDATION_ERROR", "errors": errors}),
    )
}

/// The visitor's address is in the account already, under another's hands.
fn known(crm: &HubSpot) {
    let properties = [("email", "conformance@example.org"), ("lifecyclestage", "customer")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    crm.vendor().contacts.push(hubspot::Contact { id: "17".to_owned(), properties, secondary: Vec::new() });
}

pub(super) fn cases() -> Vec<Case<HubSpot>> {
    let scopes = json!({"status": "error", "category": "MISSING_SCOPES", "message": "This app hasn't been granted all required scopes.",
        "errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}]});
    let limited = |policy: &str| Fault::Answer(hubspot::limited(policy));
    let with = |reply: Reply| Fault::Answer(reply.with("retry-after", "7200"));
    let for_ages = |reply: Reply| Fault::Answer(reply.with("retry-after", AGES));
    vec![
        Case::refused(),
        met("The connection breaks before the contact is made", Fault::Drop),
        met("The connection breaks after the contact is made", Fault::ApplyThenDrop),
        silent("No answer in time, and no contact is made", Fault::Hang),
        silent("No answer in time, and the contact is made", Fault::ApplyThenHang),
        silent("201 after the contact is made, and the body stops half-way", Fault::ApplyThenStall),
        met("201 after the contact is made, and the JSON breaks off", Fault::ApplyThenCut),
        met(
            "201 after the contact is made, without its id",
            Fault::ApplyThenAnswer(Reply::new(201, json!({}))),
        ),
        met("302: it has moved", Fault::html(302)),
        met("400: a property that is not there", bad("shoe_size", "PROPERTY_DOESNT_EXIST")),
        met("400: a value that is none of the options", bad("lifecyclestage", "INVALID_OPTION")),
        met("400: the address is none", bad("email", "INVALID_EMAIL")),
        met("401", error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")),
        met("403: the token lacks a scope", Fault::json(403, scopes)),
        met("403 with a page of HTML", Fault::html(403)),
        met("404", error(404, "OBJECT_NOT_FOUND", "resource not found")),
        Case::new("409: the address is known", known),
        Case::new("409: the address is known, and the update is lost after it is made", |crm: &HubSpot| {
            known(crm);
            crm.next("PATCH", Fault::ApplyThenDrop);
        }),
        met("409 that names no contact, and there is none", conflict("Contact already exists.")),
        met("413", error(413, "X", "Too large")),
        met("422", error(422, "VALIDATION_ERROR", "This cannot be processed")),
        met("423: the contact is locked", error(423, "LOCKED", "Resource is locked")),
        met("429: ten seconds' calls are used up", limited("TEN_SECONDLY_ROLLING")),
        met("429: the day's calls are used up", limited("DAILY")),
        met("429 with `Retry-After: 7200`", with(hubspot::limited("TEN_SECONDLY_ROLLING"))),
        met("429 with a `Retry-After` of ages", for_ages(hubspot::limited("TEN_SECONDLY_ROLLING"))),
        met("477: the account moves to another data centre", with(Reply::new(477, Value::Null))),
        met("500", error(500, "INTERNAL_ERROR", "internal error")),
        met("502 with a page of HTML, after the contact is made", Fault::ApplyThenAnswer(Reply::html(502))),
        met("503 with `Retry-After: 7200`", with(Reply::html(503))),
        met("503 with a `Retry-After` of ages", for_ages(Reply::html(503))),
        met("524 with a page of HTML", Fault::html(524)),
    ]
}
