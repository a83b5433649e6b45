//! Webhooks: any URL, a Zapier catch hook, a Make hook.

use std::sync::Arc;

use stand_ins::hook::{Fault, Hook};

use super::vendor::{AGES, Case, Has, Vendor, pairs};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// `name` is a destination that one variable turns on.
pub(super) async fn start(name: &'static str) -> Vendor<Hook> {
    let hook = Arc::new(Hook::start().await);
    let address = hook.url().replace("http://", "").replace("/hook", "");
    Vendor {
        name,
        is_inline: false,
        address,
        settings: Box::new(move |_, address| {
            let url = format!("http://{address}/hook");
            match name {
                "crm" => {
                    pairs(&[("CRM_WEBHOOK_URL", &url), ("CRM_WEBHOOK_SECRET", &format!("whsec_{SECRET}"))])
                }
                name => pairs(&[(&format!("{}_WEBHOOK_URL", name.to_uppercase()), &url)]),
            }
        }),
        mend: |hook| hook.script().mend(),
        has: Box::new(|hook, id, _| {
            let taken = hook.taken();
            let ours: Vec<_> =
                taken.iter().filter(|(key, _)| key.contains(id)).map(|(_, times)| *times).collect();
            Has::under_one_key(ours.iter().sum(), ours.len(), "call", "`webhook-id`")
        }),
        stand: hook,
        secret: if name == "crm" { SECRET.to_owned() } else { "not to be found".to_owned() },
    }
}

fn met(words: &'static str, fault: Fault) -> Case<Hook> {
    Case::new(words, move |hook: &Hook| hook.script().next(fault.clone()))
}

fn silent(words: &'static str, fault: Fault) -> Case<Hook> {
    Case::hanging(words, move |hook: &Hook| hook.script().next(fault.clone()))
}

fn says(status: u16, body: &str) -> Fault {
    Fault::Answer { status, headers: vec![], body: body.to_owned() }
}

/// What any URL can do.
pub(super) fn anywhere() -> Vec<Case<Hook>> {
    let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    let moved = Fault::Answer {
        status: 302,
        headers: vec![("location".to_owned(), "https://elsewhere.example/".to_owned())],
        body: String::new(),
    };
    vec![
        Case::refused(),
        met("The connection breaks before the lead is taken", Fault::Drop),
        met("The connection breaks after the lead is taken", Fault::TakeThenDrop),
        silent("No answer in time, and the lead is not taken", Fault::Hang),
        silent("No answer in time, and the lead is taken", Fault::TakeThenHang),
        met("200, and the body breaks off", Fault::CutBody),
        met("200, and the body never ends", Fault::EndlessBody),
        silent("200, and the body stops half-way", Fault::TakeThenStall),
        met("302: it has moved", moved),
        met("400 with field errors", says(400, r#"{"errors":{"phone":["is no number"]}}"#)),
        met("401", Fault::status(401)),
        met("403", Fault::status(403)),
        met("404", Fault::status(404)),
        met("408", Fault::status(408)),
        met("409", Fault::status(409)),
        met("410", Fault::status(410)),
        met("413", Fault::status(413)),
        met("422 with field errors", says(422, r#"{"errors":{"budget":["is missing"]}}"#)),
        met("429", Fault::status(429)),
        met("429 with `Retry-After: 7200`", Fault::retry_after(429, "7200")),
        met("429 with a `Retry-After` of ages", Fault::retry_after(429, AGES)),
        met("500", Fault::status(500)),
        met("500 after the lead is taken", Fault::TakeThenAnswer(500)),
        met("502 with a page of HTML", says(502, page)),
        met("503 with `Retry-After: 7200`", Fault::retry_after(503, "7200")),
    ]
}

/// What Zapier does in its own way.
pub(super) fn at_zapier() -> Vec<Case<Hook>> {
    let success = r#"{"status":"success"}"#;
    vec![
        Case::lying("The Zap is off or gone: Zapier answers 200 all the same", move |hook: &Hook| {
            hook.script().next(says(200, success));
        }),
        Case::refused(),
        met("The connection breaks after the lead is taken", Fault::TakeThenDrop),
        silent("No answer in time, and the lead is taken", Fault::TakeThenHang),
        met("410: the hook was unsubscribed", Fault::status(410)),
        met("413: larger than 10 MB", Fault::status(413)),
        met("429: more than 30 calls a second", Fault::status(429)),
        met("500", Fault::status(500)),
        met("502 with a page of HTML", says(502, "<html><body><h1>502 Bad Gateway</h1></body></html>")),
    ]
}

/// What Make does in its own way.
pub(super) fn at_make() -> Vec<Case<Hook>> {
    vec![
        Case::refused(),
        met("400: “Queue is full.”", Fault::make_queue_full()),
        met("400 of the scenario's own", says(400, "The budget is missing.")),
        met("410: the scenario is off", Fault::make_gone()),
        met("413: larger than 5 MB", Fault::status(413)),
        met("429: more than 300 calls in 10 seconds", Fault::status(429)),
        met("The connection breaks after the lead is taken", Fault::TakeThenDrop),
        silent("No answer in time, and the lead is taken", Fault::TakeThenHang),
        met("500 of the scenario's own, after the lead is taken", Fault::TakeThenAnswer(500)),
    ]
}
