//! The team's notification over the mail APIs.

use std::sync::Arc;

use serde_json::json;
use stand_ins::mail_api::{Fault, MailApi, Reply, Vendor as Api};

use super::vendor::{AGES, Case, Has, Vendor, pairs};

pub(super) async fn start(api: Api) -> Vendor<MailApi> {
    let server = Arc::new(MailApi::start().await);
    Vendor {
        name: "notification",
        is_inline: true,
        address: server.base_url().replace("http://", ""),
        settings: Box::new(move |_, address| {
            pairs(&[
                ("LEAD_INTAKE__MAIL__TRANSPORT", api.word()),
                ("LEAD_INTAKE__MAIL__API_KEY", api.key()),
                ("LEAD_INTAKE__MAIL__BASE_URL", &format!("http://{address}")),
                ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
                ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO", "sales@example.com"),
                ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com"),
            ])
        }),
        mend: |server| {
            server.script().mend();
            server.suppress(&[]);
        },
        has: Box::new(move |server, id, _| {
            let mails = server.mails();
            let ours: Vec<_> = mails.iter().filter(|mail| mail.delivery.contains(id)).collect();
            let keys: std::collections::HashSet<_> = ours.iter().map(|mail| &mail.delivery).collect();
            let key = match api {
                Api::Resend => "key",
                Api::Postmark => "`Metadata` and `Message-ID`",
                Api::SendGrid => "`custom_args` and `Message-ID`",
            };
            Has::under_one_key(ours.len(), keys.len(), "mail", key)
        }),
        stand: server,
        secret: api.key().to_owned(),
    }
}

fn met(words: &'static str, fault: Fault) -> Case<MailApi> {
    Case::new(words, move |server: &MailApi| server.script().next(fault.clone()))
}

fn says(words: &'static str, reply: Reply) -> Case<MailApi> {
    met(words, Fault::Answer(reply))
}

fn silent(words: &'static str, fault: Fault) -> Case<MailApi> {
    Case::hanging(words, move |server: &MailApi| server.script().next(fault.clone()))
}

/// What a network and a gateway do, whoever's API stands behind them.
fn everywhere() -> Vec<Case<MailApi>> {
    vec![
        Case::refused(),
        met("The connection breaks before the mail is taken", Fault::Drop),
        met("The connection breaks after the mail is taken", Fault::TakeThenDrop),
        silent("No answer in time, and the mail is not taken", Fault::Hang),
        silent("No answer in time, and the mail is taken", Fault::TakeThenHang),
        met("The mail is taken, and the answer breaks off", Fault::TakeThenCut),
        says("302: it has moved", Reply::page(302)),
        says("403 with a page of HTML", Reply::page(403)),
        says("502 with a page of HTML", Reply::page(502)),
        says("503 with `Retry-After: 7200`", Reply::page(503).with("retry-after", "7200")),
        says("503 with a `Retry-After` of ages", Reply::page(503).with("retry-after", AGES)),
    ]
}

fn after_everywhere(own: Vec<Case<MailApi>>) -> Vec<Case<MailApi>> {
    let mut cases = everywhere();
    cases.extend(own);
    cases
}

pub(super) fn at_resend() -> Vec<Case<MailApi>> {
    let error = Reply::resend;
    after_everywhere(vec![
        met(
            "200 after the mail is taken, without an id",
            Fault::TakeThenAnswer(Reply::json(200, &json!({}))),
        ),
        says("401: no key", error(401, "missing_api_key", "Missing API key.")),
        says("403: a wrong key", error(403, "invalid_api_key", "API key is invalid.")),
        says(
            "403: the domain is not verified",
            error(403, "validation_error", "The domain is not verified."),
        ),
        says("404", error(404, "not_found", "The endpoint was not found.")),
        says(
            "409: the same mail is being worked on",
            error(409, "concurrent_idempotent_requests", "This key is being worked on."),
        ),
        says(
            "409: a mail with other words went out under this key",
            error(409, "invalid_idempotent_request", "This key had another body."),
        ),
        says("422 with field errors", error(422, "validation_error", "Invalid `to` field.")),
        says("429", error(429, "rate_limit_exceeded", "Too many requests.")),
        says(
            "429 with `Retry-After: 7200`",
            error(429, "rate_limit_exceeded", "Too many requests.").with("retry-after", "7200"),
        ),
        says(
            "429: the quota of a day is used up",
            error(429, "daily_quota_exceeded", "You have reached your daily quota."),
        ),
        says(
            "429: the quota of a month is used up",
            error(429, "monthly_quota_exceeded", "You have reached your monthly quota."),
        ),
        says("500", error(500, "application_error", "Something went wrong.")),
    ])
}

pub(super) fn at_postmark() -> Vec<Case<MailApi>> {
    let error = Reply::postmark;
    after_everywhere(vec![
        met(
            "200 after the mail is taken, without an id",
            Fault::TakeThenAnswer(Reply::json(200, &json!({}))),
        ),
        says("401: a wrong token", error(401, 10, "No account is known by this token.")),
        says("404", Reply::status(404)),
        says("413: too large", Reply::status(413)),
        says("422 with field errors (300)", error(422, 300, "Invalid 'To' address.")),
        says(
            "422: the sender is not confirmed (400)",
            error(422, 400, "The sender signature was not found."),
        ),
        Case::new("422: the recipient is suppressed after a bounce (406)", |server: &MailApi| {
            server.suppress(&["sales@example.com"]);
        }),
        says(
            "422: the account waits for approval (412)",
            error(422, 412, "Your account is pending approval."),
        ),
        says("429", error(429, 0, "Too many requests.")),
        says("429 with `Retry-After: 7200`", error(429, 0, "Too many requests.").with("retry-after", "7200")),
        says("500", Reply::status(500)),
    ])
}

pub(super) fn at_sendgrid() -> Vec<Case<MailApi>> {
    let error = Reply::sendgrid;
    after_everywhere(vec![
        met("200 in the place of 202, after the mail is taken", Fault::TakeThenAnswer(Reply::status(200))),
        says(
            "400 with field errors",
            error(400, "Does not contain a valid address.", Some("personalizations.0.to")),
        ),
        says("401: a wrong key", error(401, "The provided authorization grant is invalid.", None)),
        says("401: the credits are used up", error(401, "Maximum credits exceeded", None)),
        says(
            "403: the sender is not verified",
            error(403, "The from address does not match a verified Sender Identity.", Some("from")),
        ),
        says("403: the key may not send", error(403, "access forbidden", None)),
        says("404", error(404, "not found", None)),
        says("413: too large", error(413, "The payload is too large.", None)),
        says("429", error(429, "too many requests", None)),
        says(
            "429 with `Retry-After: 7200`",
            error(429, "too many requests", None).with("retry-after", "7200"),
        ),
        says("500", error(500, "internal error", None)),
    ])
}
