//! What every destination must do, whatever its vendor is like: each meets every fault that its vendor's contract
//! knows, is mended, and has the lead in the end. What is particular to one stands in its own file.
//!
//! The table `docs/faults.md` is what these tests saw. It is checked in, and a test fails where it is out of date;
//! `LEAD_INTAKE_WRITE_DOCS=1 cargo test --test it conformance` writes it anew.

mod email;
mod google_sheets;
mod hubspot;
mod mail_api;
mod page;
mod pipedrive;
mod play;
mod row;
mod vendor;
mod webhook;

use stand_ins::mail_api::Vendor::{Postmark, Resend, SendGrid};

/// A test for each destination: a section of the table.
macro_rules! conforms {
    ($($test:ident: $title:literal, $start:expr, $cases:expr;)*) => {
        /// The sections, in their order.
        const SECTIONS: &[&str] = &[$($title),*];

        $(#[tokio::test]
        async fn $test() {
            page::keep($title, &play::all(|| $start, $cases).await);
        })*
    };
}

conforms! {
    the_sheet_conforms: "Google Sheets", google_sheets::start(), google_sheets::cases();
    a_notification_over_smtp_conforms: "Notification over SMTP", email::start("notification"), email::to_the_team();
    a_confirmation_over_smtp_conforms: "Confirmation over SMTP", email::start("confirmation"), email::to_the_visitor();
    mail_over_resend_conforms: "Mail over Resend", mail_api::start(Resend), mail_api::at_resend();
    mail_over_postmark_conforms: "Mail over Postmark", mail_api::start(Postmark), mail_api::at_postmark();
    mail_over_sendgrid_conforms: "Mail over SendGrid", mail_api::start(SendGrid), mail_api::at_sendgrid();
    a_webhook_conforms: "A webhook", webhook::start("crm"), webhook::anywhere();
    zapier_conforms: "Zapier", webhook::start("zapier"), webhook::at_zapier();
    make_conforms: "Make", webhook::start("make"), webhook::at_make();
    hubspot_conforms: "HubSpot", hubspot::start(), hubspot::cases();
    pipedrive_conforms: "Pipedrive", pipedrive::start(), pipedrive::cases();
}

#[test]
fn the_table_has_these_sections_and_says_what_its_words_mean() {
    page::frame(SECTIONS);
}
