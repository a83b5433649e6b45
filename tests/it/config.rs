//! The configuration as an operator meets it: every problem at once, with its place and a hint, and no
//! secret in any of them.

use std::collections::BTreeMap;

use lead_intake::config::{Config, DEFAULT, Inputs, load};

use crate::support::binary;

fn inputs(variables: &[(&str, &str)]) -> Inputs {
    let variables: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Inputs { variables, ..Inputs::default() }
}

fn good(variables: &[(&str, &str)]) -> Config {
    load(&inputs(variables)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(variables: &[(&str, &str)]) -> String {
    match load(&inputs(variables)) {
        Ok(_) => panic!("it was believed"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = good(&[]);
    assert_eq!(config.server.bind.to_string(), "0.0.0.0:8080");
    assert_eq!(config.server.body_limit, 65_536);
    assert!(config.destinations.is_empty());
}

#[test]
fn a_variable_alone_turns_a_destination_on_and_another_changes_it() {
    let config = good(&[
        ("CRM_WEBHOOK_URL", "https://crm.test/x"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__TIMEOUT", "3s"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__FORMS", "contact, quote"),
        ("MAKE_WEBHOOK_URL", ""),
        ("ALLOWED_ORIGINS", "https://a.test, https://b.test"),
    ]);
    let [crm] = config.destinations.as_slice() else { panic!("one destination") };
    assert_eq!((crm.name.as_str(), crm.lane.timeout.as_secs()), ("crm", 3));
    assert_eq!(crm.lane.forms.as_ref().map(Vec::len), Some(2));
    assert_eq!(crm.lane.retry.len(), 16);
    assert_eq!(config.server.allowed_origins.len(), 2);
}

#[test]
fn a_file_s_line_and_the_variable_are_named_and_all_problems_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = "[server]\nbnid = '1.2.3.4:5'\nbody_limit = 64\n\n[destinations.n8n]\ntype = 'webhok'\n\n\
                [destinations.other]\ntype = 'webhook'\nurl = 'http://far.test/?key=hunter2'\nstart = 'inline'\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let said = wrong(&[
        ("LEAD_INTAKE_CONFIG", path),
        ("BIND", "nonsense"),
        ("LEAD_INTAKE__SERVR__BIND", "x"),
        ("LEAD_INTAKE_BIND", "x"),
        ("CRM_WEBHOOK_URL", "https://crm.test"),
        ("CRM_WEBHOOK_URL_FILE", "/nowhere"),
    ]);
    for expected in [
        &format!("server.bnid  ({path}:2)"),
        "Did you mean `bind`?",
        &format!("server.body_limit  ({path}:3)"),
        &format!("destinations.n8n.type  ({path}:6)"),
        "Did you mean `webhook`?",
        &format!("destinations.other.url  ({path}:10)"),
        "Plain http is accepted to loopback addresses only",
        &format!("destinations.other.start  ({path}:11)"),
        "server.bind  (variable BIND)",
        "Did you mean `server`?",
        "There is no variable LEAD_INTAKE_BIND",
        "CRM_WEBHOOK_URL and CRM_WEBHOOK_URL_FILE are both set",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_value_that_fits_its_type_and_cannot_be_used_is_told_with_what_to_do() {
    for (variable, value, said, hint) in [
        ("RUST_LOG", "lead_intake=loud", "is no filter", "Write \"info\""),
        ("RUST_LOG", "[submit]=debug", "spans", "Write \"info\""),
        ("LEAD_INTAKE__LOG__BUFFER", "1KiB", "Hardly a line fits", "8MiB"),
        ("DATABASE_URL", "mysql://x/y", "no engine that lead-intake knows", "sqlite://"),
        ("DATABASE_URL", "sqlite://", "names no file", "sqlite://"),
        ("ALLOWED_ORIGINS", "https://a.test/page", "is no origin", "scheme and host alone"),
        ("TRUSTED_PROXIES", "10.0.0.0/99", "neither an address nor a network", "10.0.0.0/8"),
        ("LEAD_INTAKE__SERVER__MAX_CONNECTIONS", "0", "Nobody could connect", "10000"),
        ("LEAD_INTAKE__SERVER__BODY_LIMIT", "10B", "No lead fits", "64KiB"),
        ("LEAD_INTAKE__FORMS__CONTACT__REGION", "Britain", "no region of phone numbers", "ISO 3166"),
        ("LEAD_INTAKE__FORMS__CONTACT__THANK_YOU", "ftp://a.test", "no address of a page", "https://"),
        ("LEAD_INTAKE__FORMS__CONTACT__REGOIN", "GB", "There is no such setting", "Did you mean `region`?"),
        ("LEAD_INTAKE__INTAKE__DEADLINE", "5", "is not a duration", "with its unit"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__CONCURRENCY", "0", "At least one attempt", "1 or more"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__TIMEOUT", "11m", "at most ten minutes", "\"10s\""),
        (
            "LEAD_INTAKE__DESTINATIONS__CRM__TIMEUOT",
            "9s",
            "There is no such setting",
            "Did you mean `timeout`?",
        ),
        ("LEAD_INTAKE__DESTINATIONS__CRM__START", "inline", "never waits for a CRM", "background"),
        (
            "LEAD_INTAKE__DESTINATIONS__CRM__HEADERS",
            "{ webhook-id = \"x\" }",
            "set by lead-intake itself",
            "Take it out",
        ),
        ("CRM_WEBHOOK_SECRET", "whsec_c2hvcnQ=", "24 to 64 bytes", "whsec_$(head"),
        ("CRM_WEBHOOK_URL", "http://far.test/x", "Plain http", "allow_http"),
    ] {
        let fine = if variable == "CRM_WEBHOOK_URL" {
            ("BIND", "127.0.0.1:1")
        } else {
            ("CRM_WEBHOOK_URL", "https://crm.test/x")
        };
        let told = wrong(&[fine, (variable, value)]);
        assert!(told.starts_with("The configuration has a problem.") && told.contains(said), "{told}");
        assert!(told.contains(hint), "{told}");
    }
    let mail = [
        ("SMTP_URL", "smtps://mail.test"),
        ("EMAIL_FROM", "hello@a.test"),
        ("EMAIL_NOTIFY_TO", "sales@a.test"),
        ("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", "150s"),
    ];
    let told = wrong(&mail);
    for part in ["destinations.notification.timeout", "leaves too little time", "Write at least \"225s\""] {
        assert!(told.contains(part), "{told}");
    }
    let http =
        [("CRM_WEBHOOK_URL", "http://far.test/x"), ("LEAD_INTAKE__DESTINATIONS__CRM__ALLOW_HTTP", "true")];
    assert_eq!(good(&http).destinations.len(), 1);
}

#[test]
fn what_stands_nearer_wins_flags_over_variables_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lead.toml");
    std::fs::write(&file, "[server]\nbind = '127.0.0.1:1'\nbody_limit = '1MiB'\n[intake]\ndeadline = '1s'\n")
        .unwrap();
    let mut given = inputs(&[("BIND", "127.0.0.1:2"), ("LEAD_INTAKE__INTAKE__DEADLINE", "2s")]);
    given.file = Some(file);
    let read = |given: &Inputs| load(given).unwrap_or_else(|problems| panic!("{problems}"));
    let config = read(&given);
    assert_eq!((config.server.bind.port(), config.intake.deadline.as_secs()), (2, 2));
    assert_eq!(config.server.body_limit, 1 << 20);
    given.bind = Some("127.0.0.1:3".to_owned());
    assert_eq!(read(&given).server.bind.port(), 3);
}

/// The items of a list, in the file and in a variable, what stands beside them, and what follows.
#[test]
fn every_item_of_a_list_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = "[server]\nallowed_origins = ['https://a.test/path', 'https://b.test', 'foo']\nbody_limit = '1XB'\nnope = 1\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let said = wrong(&[("LEAD_INTAKE_CONFIG", path), ("TRUSTED_PROXIES", "10.0.0.0/8, nah, neither")]);
    for part in [
        "has 6 problems",
        "server.allowed_origins[0]  (",
        "server.allowed_origins[2]  (",
        "server.body_limit  (",
        "server.nope  (",
        "server.trusted_proxies[1]  (variable TRUSTED_PROXIES)",
        "server.trusted_proxies[2]  (variable TRUSTED_PROXIES)",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_or_of_the_wrong_type_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    for text in [
        "store = 'postgres://u:hunter2secret@h/d'",
        "mail = 'smtps://u:hunter2secret@h'",
        "[destinations]\ncrm = 'https://h/hunter2secret'",
        "[operator]\ntoken = 998877665544",
        "[destinations.x]\ntype = 'webhook'\nurl = 'https://h/'\nheaders = { a = 998877665544 }",
    ] {
        std::fs::write(&path, text).unwrap();
        let said = wrong(&[("LEAD_INTAKE_CONFIG", path.to_str().unwrap())]);
        assert!(!said.contains("hunter2secret") && !said.contains("998877665544"), "{text}\n{said}");
        assert!(!said.contains("struct"), "{said}");
    }
}

/// For a Service that is named as we are, and for one of another name that begins so.
#[test]
fn what_kubernetes_says_of_services_is_no_setting() {
    good(&[
        ("LEAD_INTAKE_PORT", "tcp://10.0.0.1:8080"),
        ("LEAD_INTAKE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("LEAD_INTAKE_SERVICE_HOST", "10.0.0.1"),
        ("LEAD_INTAKE_SERVICE_PORT", "8080"),
        ("LEAD_INTAKE_SERVICE_PORT_HTTP", "8080"),
        ("LEAD_INTAKE_POSTGRES_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
    ]);
    for name in
        ["LEAD_INTAKE_BIND", "LEAD_INTAKE_SERVER_BIND", "LEAD_INTAKE_SUPPORT", "LEAD_INTAKE__SERVICE_PORT"]
    {
        assert!(wrong(&[(name, "x")]).contains(name));
    }
}

#[test]
fn a_secret_can_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, "https://crm.test/secret\n").unwrap();
    assert_eq!(good(&[("CRM_WEBHOOK_URL_FILE", path.to_str().unwrap())]).destinations.len(), 1);
    let said = wrong(&[("CRM_WEBHOOK_URL_FILE", "/nowhere/at/all")]);
    assert!(said.contains("variable CRM_WEBHOOK_URL_FILE (/nowhere/at/all)"), "{said}");
    // Any other secret, too; what ends in `_file` by its own name is no twin.
    let (secret, path) = ("LEAD_INTAKE__DESTINATIONS__CRM__SECRET", path.to_str().unwrap());
    std::fs::write(path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let (twin, crm) = (format!("{secret}_FILE"), ("CRM_WEBHOOK_URL", "https://crm.test/x"));
    good(&[crm, (&twin, path)]);
    let mails =
        [("SMTP_URL", "smtps://mail.test"), ("EMAIL_FROM", "a@b.test"), ("EMAIL_NOTIFY_TO", "c@b.test")];
    let files = [(twin.as_str(), "/nowhere"), ("LEAD_INTAKE__MAIL__CA_FILE", "/no/ca.pem")];
    let said = wrong(&[&[crm][..], &mails, &files].concat());
    assert!(said.contains(&format!("variable {twin} (/nowhere)")) && said.contains("mail.ca_file"), "{said}");
    let said = wrong(&[crm, (&twin, path), (secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    assert!(said.contains(&format!("{secret} and {twin} are both set")), "{said}");
}

/// A problem hides no other: neither one of its own section, nor one of the mails that a wrong `[mail]` is for.
#[test]
fn what_does_not_fit_its_type_hides_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = "[server]\nbind = 'localhost:8080'\nmax_connections = 0\n[store]\nurl = 'sqlite::memory:'\ntimeout = '0s'\n\
                [mail]\nsmtp_url = 7\nfrom = 'nobody'\n[forms.contact]\nregion = 'Britain'\nthank_you = 7\n\
                [destinations.crm]\ntype = 'webhook'\nurl = 'ftp://x'\nsecret = 'short'\nrequires_consent = 'of course'\n\
                concurrency = 0\nprobe = '2h'\nlease_slack = '2h'\nretry = ['48h']\n\
                [destinations.team]\ntype = 'email'\naudience = 'team'\nto = ['nobody']\ntemplate = 7\n";
    std::fs::write(&path, text).unwrap();
    let said = wrong(&[("LEAD_INTAKE_CONFIG", path.to_str().unwrap())]);
    for setting in [
        "server.bind",
        "server.max_connections",
        "store.url",
        "store.timeout",
        "mail.smtp_url",
        "mail.from",
        "forms.contact.region",
        "forms.contact.thank_you",
        "destinations.crm.url",
        "destinations.crm.secret",
        "destinations.crm.requires_consent",
        "destinations.crm.concurrency",
        "destinations.crm.probe",
        "destinations.crm.lease_slack",
        "destinations.crm.retry",
        "destinations.team.to",
        "destinations.team.template",
    ] {
        let lines = said.lines().filter(|line| line.split("  ").any(|word| word.trim() == setting));
        assert_eq!(lines.count(), 1, "{setting}:\n{said}");
    }
    assert!(
        said.contains("Write numbers, such as \"127.0.0.1:8080\"") && said.contains("lost with the process"),
        "{said}"
    );
}

#[test]
fn half_of_a_destination_is_a_problem() {
    let said = wrong(&[("CRM_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    assert!(said.contains("`url` is missing") && said.contains("CRM_WEBHOOK_URL"), "{said}");
    assert!(!said.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
}

#[test]
fn every_option_of_the_default_file_is_read_and_has_its_sentence() {
    let mut before = "";
    for line in DEFAULT.lines() {
        let line = line.trim();
        let is_setting = !line.starts_with('#') && line.contains(" = ");
        let known = [
            "type = ",
            "timestamp = true",
            "flavour = \"make\"",
            "body_timeout",
            "template",
            "audience",
            "requires_consent = false",
        ];
        if is_setting && !known.iter().any(|start| line.starts_with(start)) {
            assert!(before.starts_with('#'), "`{line}` has no sentence above it");
        }
        before = line;
    }
}

#[tokio::test]
async fn check_says_everything_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let fine = binary(folder.path(), &[("CRM_WEBHOOK_URL", "https://crm.test/x")])
        .arg("check")
        .output()
        .await
        .unwrap();
    assert_eq!(fine.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&fine.stdout), "The configuration is fine. Destinations: crm.\n");
    let wrong = [("CRM_WEBHOOK_URL", "nonsense"), ("BIND", "x")];
    let ended = binary(folder.path(), &wrong).args(["check", "--json"]).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((said["ok"].as_bool(), said["problems"].as_array().unwrap().len()), (Some(false), 2));
    assert!(!folder.path().join("data").exists(), "check makes nothing");
    let serve = binary(folder.path(), &wrong).output().await.unwrap();
    assert_eq!(serve.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&serve.stderr).contains("2 problems"));
    let usage = binary(folder.path(), &[]).arg("srve").output().await.unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn the_example_is_a_configuration_but_for_the_key_that_it_names() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/example.toml");
    let said = wrong(&[("LEAD_INTAKE_CONFIG", path)]);
    assert!(said.contains("has a problem.") && said.contains("destinations.sheet.credentials"), "{said}");
}
