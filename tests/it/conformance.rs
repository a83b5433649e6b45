//! What every destination must do, whatever its vendor is like: the same troubles, the same end. What is
//! particular to one stands in its own file.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stand_ins::google::{Google, On};
use stand_ins::hook::Hook;
use stand_ins::mail_api::{MailApi, Vendor};
use stand_ins::smtp::{self, Smtp, Stage, What};
use stand_ins::{api, google, hook, hubspot, mail_api, pipedrive};

use crate::support::{Service, ada, soon};

/// What happens to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It does not work at all for a while.
    Down,
    /// It does what it is asked, once, and the answer is lost.
    LosesAnswer,
    /// It does what it is asked, once, and the answer never comes.
    Hangs,
    /// It does not know us any more.
    RefusesUs,
}

const TROUBLES: [Trouble; 4] = [Trouble::Down, Trouble::LosesAnswer, Trouble::Hangs, Trouble::RefusesUs];

type Count = Box<dyn Fn(&str, &str) -> usize>;

/// A destination and its vendor's stand-in.
struct Row {
    name: &'static str,
    variables: Vec<(String, String)>,
    make: Box<dyn Fn(Trouble)>,
    mend: Box<dyn Fn()>,
    /// How many different things of the lead (its id, its address) are there.
    there: Count,
    secret: String,
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn webhook() -> Row {
    let hook = Arc::new(Hook::start().await);
    let (making, mending, looking) = (Arc::clone(&hook), Arc::clone(&hook), Arc::clone(&hook));
    Row {
        name: "crm",
        variables: pairs(&[
            ("CRM_WEBHOOK_URL", &hook.url()),
            ("CRM_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.script().always(hook::Fault::status(503)),
            Trouble::LosesAnswer => making.script().next(hook::Fault::TakeThenDrop),
            Trouble::Hangs => making.script().next(hook::Fault::TakeThenHang),
            Trouble::RefusesUs => making.script().always(hook::Fault::status(401)),
        }),
        mend: Box::new(move || mending.script().mend()),
        there: Box::new(move |id, _| looking.taken().keys().filter(|key| key.contains(id)).count()),
        secret: "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
    }
}

async fn sheet() -> Row {
    let google = Arc::new(Google::start().await);
    let (making, mending, looking) = (Arc::clone(&google), Arc::clone(&google), Arc::clone(&google));
    Row {
        name: "sheet",
        variables: pairs(&[
            ("GOOGLE_SHEETS_ID", &google.spreadsheet_id()),
            ("GOOGLE_CREDENTIALS_JSON", &google.credentials()),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &google.base_url()),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "60000"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "60000"),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.always(On::Any, google::Fault::Status(503)),
            Trouble::LosesAnswer => making.next(On::Appends, google::Fault::ApplyThenDrop),
            Trouble::Hangs => making.next(On::Appends, google::Fault::ApplyThenHang),
            Trouble::RefusesUs => {
                making.always(On::Any, google::Fault::Forbidden("The caller does not have permission"));
            }
        }),
        mend: Box::new(move || mending.mend()),
        there: Box::new(move |id, _| {
            let known = looking.tabs().contains(&"Leads".to_owned());
            if known { looking.records("Leads").iter().filter(|row| row["id"] == id).count() } else { 0 }
        }),
        secret: "PRIVATE KEY".to_owned(),
    }
}

async fn mail() -> Row {
    let server = Arc::new(Smtp::start(smtp::Mode::Plain).await);
    let (making, mending, looking) = (Arc::clone(&server), Arc::clone(&server), Arc::clone(&server));
    Row {
        name: "notification",
        variables: pairs(&[
            ("LEAD_INTAKE__MAIL__SMTP_URL", &server.url()),
            ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
            ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO", "sales@example.com"),
            ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com"),
            ("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", "300ms"),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.always(Stage::Greeting, What::Say("421 4.3.2 down")),
            Trouble::LosesAnswer => making.next(Stage::Dot, What::AcceptThenClose),
            Trouble::Hangs => making.next(Stage::Dot, What::Hang),
            Trouble::RefusesUs => making.always(Stage::Auth, What::Say("535 5.7.8 no")),
        }),
        mend: Box::new(move || mending.mend()),
        there: Box::new(move |id, _| looking.counts().keys().filter(|message| message.contains(id)).count()),
        secret: smtp::PASSWORD.to_owned(),
    }
}

async fn mail_api(vendor: Vendor) -> Row {
    let server = Arc::new(MailApi::start().await);
    let (making, mending, looking) = (Arc::clone(&server), Arc::clone(&server), Arc::clone(&server));
    let refused = match vendor {
        Vendor::Resend => mail_api::Reply::resend(401, "missing_api_key", "Missing API key."),
        Vendor::Postmark => mail_api::Reply::postmark(401, 10, "No account is known by this token."),
        Vendor::SendGrid => mail_api::Reply::sendgrid(401, "The authorization grant is invalid.", None),
    };
    Row {
        name: "notification",
        variables: pairs(&[
            ("LEAD_INTAKE__MAIL__TRANSPORT", vendor.word()),
            ("LEAD_INTAKE__MAIL__API_KEY", vendor.key()),
            ("LEAD_INTAKE__MAIL__BASE_URL", &server.base_url()),
            ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
            ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO", "sales@example.com"),
            ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com"),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.script().always(mail_api::Fault::Answer(mail_api::Reply::page(503))),
            Trouble::LosesAnswer => making.script().next(mail_api::Fault::TakeThenDrop),
            Trouble::Hangs => making.script().next(mail_api::Fault::TakeThenHang),
            Trouble::RefusesUs => making.script().always(mail_api::Fault::Answer(refused.clone())),
        }),
        mend: Box::new(move || mending.script().mend()),
        there: Box::new(move |id, _| {
            let mails = looking.mails();
            let ours = mails.iter().filter(|mail| mail.text.contains(id) || mail.delivery.contains(id));
            ours.map(|mail| &mail.delivery).collect::<std::collections::HashSet<_>>().len()
        }),
        secret: vendor.key().to_owned(),
    }
}

async fn crm_hubspot() -> Row {
    let crm = Arc::new(hubspot::start().await);
    let (making, mending, looking) = (Arc::clone(&crm), Arc::clone(&crm), Arc::clone(&crm));
    let refused = json!({"status": "error", "message": "no", "category": "INVALID_AUTHENTICATION"});
    Row {
        name: "hubspot",
        variables: pairs(&[
            ("HUBSPOT_ACCESS_TOKEN", hubspot::TOKEN),
            ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", &crm.url()),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.always(api::Fault::html(503)),
            Trouble::LosesAnswer => making.next("POST", api::Fault::ApplyThenDrop),
            Trouble::Hangs => making.next("POST", api::Fault::ApplyThenHang),
            Trouble::RefusesUs => making.always(api::Fault::json(401, refused.clone())),
        }),
        mend: Box::new(move || mending.mend()),
        there: Box::new(move |_, address| {
            looking.vendor().contacts.iter().filter(|contact| contact.properties["email"] == address).count()
        }),
        secret: hubspot::TOKEN.to_owned(),
    }
}

async fn crm_pipedrive() -> Row {
    let crm = Arc::new(pipedrive::start().await);
    let (making, mending, looking) = (Arc::clone(&crm), Arc::clone(&crm), Arc::clone(&crm));
    Row {
        name: "pipedrive",
        variables: pairs(&[
            ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN),
            ("PIPEDRIVE_DOMAIN", "example"),
            ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", &crm.url()),
            ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__SETTLE", "1ms"),
        ]),
        make: Box::new(move |trouble| match trouble {
            Trouble::Down => making.always(api::Fault::html(503)),
            Trouble::LosesAnswer => making.next("POST /v1/leads", api::Fault::ApplyThenDrop),
            Trouble::Hangs => making.next("POST /v1/leads", api::Fault::ApplyThenHang),
            Trouble::RefusesUs => making.always(api::Fault::Answer(pipedrive::unauthorized())),
        }),
        mend: Box::new(move || mending.mend()),
        there: Box::new(move |id, _| {
            looking.vendor().leads.iter().filter(|lead| lead["origin_id"] == id).count()
        }),
        secret: pipedrive::TOKEN.to_owned(),
    }
}

/// Waits until the delivery is so; with `hastens`, what waits for its time is made due, in the place of a wait.
async fn until(
    service: &Service,
    id: &str,
    name: &str,
    hastens: bool,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    soon(async {
        loop {
            let hasten = "UPDATE deliveries SET due_at = 0
                          WHERE state = 'pending' AND open_since IS NULL AND due_at > 0";
            if hastens {
                store.execute(hasten, []).unwrap();
            }
            let delivery = service.delivery(id, name).await;
            if fits(&delivery) {
                return delivery;
            }
        }
    })
    .await
}

async fn holds(row: Row, trouble: Trouble) {
    let name = row.name;
    let mut variables = row.variables.clone();
    // Nothing is tried again before `until` makes it due: the schedule is never used up meanwhile.
    for (key, value) in [("RETRY", "1h, 1h, 1h"), ("PROBE", "1ms"), ("TIMEOUT", "2s")] {
        variables
            .push((format!("LEAD_INTAKE__DESTINATIONS__{}__{key}", name.to_uppercase()), value.to_owned()));
    }
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let service = Service::start(&variables).await;
    (row.make)(trouble);
    let mut lead = ada();
    let address = "conformance@example.com";
    lead["email"] = json!(address);
    let id = service.accepted(&lead).await;
    let tried = until(&service, &id, name, false, |it| !it["history"].as_array().unwrap().is_empty()).await;
    let first = tried["history"][0].clone();
    let outcome = first["outcome"].as_str().unwrap();
    let expected: &[&str] = match trouble {
        Trouble::Down => &["transient", "unknown"],
        Trouble::LosesAnswer | Trouble::Hangs => &["unknown"],
        Trouble::RefusesUs => &["blocked"],
    };
    assert!(expected.contains(&outcome), "{name} {trouble:?}: {first}");
    assert!(first["detail"].as_str().unwrap().len() > 20, "a person reads what to do: {first}");
    if trouble == Trouble::RefusesUs {
        service.until_logged("destination parked").await;
        assert_eq!(service.health().await["destinations"][name], "parked", "{name}");
    }
    (row.mend)();
    let delivery = until(&service, &id, name, true, |it| it["state"] == "delivered").await;
    assert_eq!((row.there)(&id, address), 1, "{name} {trouble:?}: once, whatever was lost: {delivery}");
    let said = format!("{delivery}{}", service.log());
    assert!(!said.contains(&row.secret), "{name} {trouble:?}: a secret was said");
    assert!(!service.log().contains(address), "{name} {trouble:?}: an address was logged");
}

/// A test for each destination: every trouble, one after the other.
macro_rules! conforms {
    ($($test:ident: $row:expr;)*) => {$(
        #[tokio::test]
        async fn $test() {
            for trouble in TROUBLES {
                let row: Row = $row.await;
                // The sheet gives an append a minute, for Google does; its own file has what hangs there.
                if trouble != Trouble::Hangs || row.name != "sheet" {
                    holds(row, trouble).await;
                }
            }
        }
    )*};
}

conforms! {
    a_webhook_conforms: webhook();
    the_sheet_conforms: sheet();
    mail_over_smtp_conforms: mail();
    mail_over_resend_conforms: mail_api(Vendor::Resend);
    mail_over_postmark_conforms: mail_api(Vendor::Postmark);
    mail_over_sendgrid_conforms: mail_api(Vendor::SendGrid);
    hubspot_conforms: crm_hubspot();
    pipedrive_conforms: crm_pipedrive();
}
