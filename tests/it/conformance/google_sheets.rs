//! Google Sheets: the token, then the append of the lead's row.

use std::sync::Arc;

use serde_json::json;
use stand_ins::google::{Fault, Google, On, TokenFault};

use super::vendor::{Case, Has, Vendor, pairs};

pub(super) async fn start() -> Vendor<Google> {
    let google = Arc::new(Google::start().await);
    Vendor {
        name: "sheet",
        is_inline: true,
        address: google.base_url().replace("http://", ""),
        settings: Box::new(|google, address| {
            pairs(&[
                ("GOOGLE_SHEETS_ID", &google.spreadsheet_id()),
                ("GOOGLE_CREDENTIALS_JSON", &google.credentials()),
                ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &format!("http://{address}")),
                ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
                ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "60000"),
                ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "60000"),
            ])
        }),
        mend: |google| {
            google.mend();
            google.apply_late();
        },
        has: Box::new(|google, id, _| {
            let known = google.tabs().contains(&"Leads".to_owned());
            let rows = if known { google.records("Leads") } else { Vec::new() };
            Has::of(&[(rows.iter().filter(|row| row["id"] == id).count(), "row")])
        }),
        stand: google,
        secret: "PRIVATE KEY".to_owned(),
    }
}

const API_OFF: &str = "Google Sheets API has not been used in project 1 before or it is disabled.";

const NO_TOKEN: &str = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.";

const FULL: &str =
    "This action would increase the number of cells in the workbook above the limit of 10000000 cells.";

fn append(words: &'static str, fault: Fault) -> Case<Google> {
    Case::new(words, move |google: &Google| google.next(On::Appends, fault.clone()))
}

fn any(words: &'static str, fault: Fault) -> Case<Google> {
    Case::new(words, move |google: &Google| google.always(On::Any, fault.clone()))
}

fn silent(words: &'static str, fault: Fault) -> Case<Google> {
    Case::hanging(words, move |google: &Google| google.next(On::Appends, fault.clone()))
}

fn token(words: &'static str, fault: TokenFault) -> Case<Google> {
    Case::new(words, move |google: &Google| google.token_script().next(fault.clone()))
}

/// The tab as we make it, so that people's hands find something.
fn tab_of_ours(google: &Google) {
    google.edit("Leads", |tab| {
        tab.cells = vec![vec![json!("id"), json!("name"), json!("email")]];
    });
}

pub(super) fn cases() -> Vec<Case<Google>> {
    vec![
        Case::refused(),
        append("The connection breaks before the row is written", Fault::Drop),
        append("The connection breaks after the row is written", Fault::ApplyThenDrop),
        append("The connection breaks, and the row is written minutes later", Fault::Late),
        silent("No answer in time, and the row is not written", Fault::Hang),
        silent("No answer in time, and the row is written", Fault::ApplyThenHang),
        silent("200 after the row is written, and the body stops half-way", Fault::ApplyThenStall),
        append("200 after the row is written, and the JSON breaks off", Fault::ApplyThenCut),
        append("200 after the row is written, without a word of where", Fault::ApplyThenEmpty),
        append("200, and no row was written (a filter)", Fault::LoseRow),
        Case::new("200, and the row was written elsewhere (a filter)", |google: &Google| {
            tab_of_ours(google);
            google.next(On::Appends, Fault::PutAt("H9"));
        }),
        append("400: Google does not take the row", Fault::Status(400)),
        append(
            "400: the tab was renamed a moment ago",
            Fault::Refuse(400, "Unable to parse range: 'Leads'!A1"),
        ),
        append("400: the spreadsheet is full", Fault::Refuse(400, FULL)),
        Case::new("400: the tab is protected", |google: &Google| {
            tab_of_ours(google);
            google.protect("Leads", 400);
        }),
        Case::new("The tab has no column `id`", |google: &Google| {
            google.edit("Leads", |tab| tab.cells = vec![vec![json!("name"), json!("email")]]);
        })
        .mended_by(tab_of_ours),
        Case::new("401: the token was revoked", |google: &Google| {
            google.next(On::Appends, Fault::Status(401));
        }),
        any("401, with a fresh token too", Fault::Status(401)),
        any("403: the sheet is not shared", Fault::Refuse(403, "The caller does not have permission")),
        any("403: the Sheets API is off", Fault::Refuse(403, API_OFF)),
        append("403 as if there were no token", Fault::Refuse(403, NO_TOKEN)),
        any("404: the spreadsheet was deleted", Fault::Status(404)),
        append("429: the quota of a minute is used up", Fault::Quota),
        append("429 with `Retry-After: 7200`", Fault::QuotaFor(7_200)),
        append("429 with a `Retry-After` of ages", Fault::QuotaFor(u64::MAX)),
        append("500", Fault::Status(500)),
        append("500 after the row is written", Fault::ApplyThenStatus(500)),
        append("502 with a page of HTML", Fault::Html(502)),
        append("503", Fault::Status(503)),
        token("No token: the key was revoked (400 `invalid_grant`)", TokenFault::invalid_grant()),
        token("No token: 503 with JSON", TokenFault::unavailable()),
        token("No token: 502 with a page of HTML", TokenFault::Answer(502, "<html></html>".to_owned())),
        token("No token: 200 without an expiry", TokenFault::NoExpiry),
        token("No token: the connection breaks", TokenFault::Drop),
        Case::hanging("No token: no answer in time", |google: &Google| {
            google.token_script().next(TokenFault::Hang);
        }),
    ]
}
