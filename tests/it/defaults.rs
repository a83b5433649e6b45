//! What nobody sets: the numbers that README, the interface and the vendors' contracts name.

use std::time::Duration;

use lead_intake::config::{Config, DEFAULT, Inputs, load};
use lead_intake::destination::Start;

fn good(variables: &[(&str, &str)]) -> Config {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Inputs { variables, ..Inputs::default() }).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_service_that_nobody_configured_is_as_promised() {
    let Config { server, intake, store, log, .. } = good(&[]);
    assert_eq!(server.bind.to_string(), "0.0.0.0:8080");
    assert!(server.allowed_origins.is_empty(), "only our own pages may send leads from a browser");
    assert!(server.trusted_proxies.is_empty(), "nobody's word for an address is believed");
    assert_eq!((server.body_limit, server.max_connections), (64 << 10, 10_000));
    let times = [server.header_timeout, server.body_timeout, server.drain, server.shutdown_timeout];
    assert_eq!(times, [10, 30, 0, 25].map(Duration::from_secs));
    assert_eq!((intake.deadline.as_secs(), intake.fallback_leads), (5, 1_000));
    assert_eq!((store.url.expose(), store.timeout.as_secs()), ("sqlite://data/lead-intake.db", 2));
    assert_eq!(format!("{} {:?} {}", log.filter, log.format, log.buffer), "info Auto 8388608");
}

#[test]
fn every_destination_that_a_variable_turns_on_is_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.json");
    let text = r#"{"type": "service_account", "client_email": "a@b.test", "private_key": "-----BEGIN PRIVATE KEY-----",
        "token_uri": "https://oauth2.googleapis.com/token"}"#;
    std::fs::write(&key, text).unwrap();
    let config = good(&[
        ("GOOGLE_SHEETS_ID", "sheet-1"),
        ("GOOGLE_APPLICATION_CREDENTIALS", key.to_str().unwrap()),
        ("SMTP_URL", "smtps://user:password@mail.test"),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "team@example.com"),
        ("HUBSPOT_ACCESS_TOKEN", "pat-1"),
        ("PIPEDRIVE_API_TOKEN", "0123456789"),
        ("PIPEDRIVE_DOMAIN", "example"),
        ("CRM_WEBHOOK_URL", "https://crm.test/x"),
        ("ZAPIER_WEBHOOK_URL", "https://zapier.test/x"),
        ("MAKE_WEBHOOK_URL", "https://make.test/x"),
    ]);
    let (minute, hour) = (60, 60 * 60);
    let mut schedule = vec![5, 30, 2 * minute, 10 * minute, 30 * minute, hour, 3 * hour, 6 * hour, 12 * hour];
    schedule.extend([24 * hour; 7]);
    let mut found = Vec::new();
    for destination in &config.destinations {
        let (name, lane) = (destination.name.as_str(), &destination.lane);
        let waits: Vec<_> = lane.retry.iter().map(Duration::as_secs).collect();
        assert_eq!((waits, lane.probe.as_secs()), (schedule.clone(), minute), "{name}");
        assert_eq!(lane.lease_slack.as_secs(), 30, "{name}");
        assert!(lane.forms.is_none(), "every form feeds {name}");
        found.push((name, lane.timeout.as_secs(), lane.start, lane.concurrency, lane.requires_consent));
    }
    found.sort_by_key(|it| it.0);
    let expected = [
        ("confirmation", 180, Start::Inline, 16, true),
        ("crm", 10, Start::Background, 16, true),
        ("hubspot", 30, Start::Background, 4, true),
        ("make", 10, Start::Background, 16, true),
        ("notification", 180, Start::Inline, 16, false),
        ("pipedrive", 60, Start::Background, 4, true),
        ("sheet", 90, Start::Inline, 10_000, false),
        ("zapier", 10, Start::Background, 16, true),
    ];
    assert_eq!(found, expected);
}

/// What a destination keeps to itself stands in the file that the defaults are read from.
#[test]
fn what_only_a_destination_reads_is_as_promised() {
    for (section, settings) in [
        (
            "mail",
            &[
                "allow_http = false",
                "command_timeout = \"30s\"",
                "final_timeout = \"120s\"",
                "max_size = \"10MB\"",
            ][..],
        ),
        (
            "types.google_sheets",
            &[
                "base_url = \"https://sheets.googleapis.com\"",
                "allow_http = false",
                "tab = \"Leads\"",
                "failed_tab = \"Failed Integrations\"",
                "listen_every = \"30s\"",
                "max_columns = 60",
                "writes_per_minute = 60",
                "reads_per_minute = 60",
                "look_after = \"200s\"",
                "append_size = \"1500KB\"",
            ],
        ),
        (
            "types.hubspot",
            &[
                "base_url = \"https://api.hubapi.com\"",
                "allow_http = false",
                "api_version = \"2026-09\"",
                "properties = { firstname = \"first_name\", lastname = \"last_name\", phone = \"phone\" }",
                "keep_existing = []",
                "new_contact = { lifecyclestage = \"lead\" }",
                "on_unknown_property = \"reject\"",
            ],
        ),
        (
            "types.pipedrive",
            &[
                "allow_http = false",
                "create = \"lead\"",
                "title = \"{name} ({form_name})\"",
                "label_ids = []",
                "note = true",
                "settle = \"10s\"",
            ],
        ),
        (
            "types.webhook",
            &["headers = {}", "timestamp = false", "flavour = \"plain\"", "allow_http = false"],
        ),
        ("known.notification", &["audience = \"team\"", "template = \"notification\""]),
        ("known.confirmation", &["audience = \"visitor\"", "template = \"confirmation\"", "per_day = 1"]),
        ("known.zapier", &["timestamp = true"]),
        ("known.make", &["timestamp = true", "flavour = \"make\""]),
    ] {
        let (_, text) = DEFAULT.split_once(&format!("\n[{section}]\n")).unwrap();
        let text = text.split("\n[").next().unwrap();
        for setting in settings {
            assert!(text.lines().any(|line| line == *setting), "[{section}] {setting}");
        }
    }
}
