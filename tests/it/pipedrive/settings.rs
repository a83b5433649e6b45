//! The settings, checked and kept secret.

use stand_ins::api::Fault;
use stand_ins::pipedrive::{self, DEAL_NUMBER, DEAL_TEXT, TOKEN, refuse};

use super::{LEAD, NOTE, PERSON, SEARCH, made, service, setting};
use crate::support::{Service, ada, binary};

#[tokio::test]
async fn a_configured_id_that_pipedrive_does_not_know_parks_and_says_which() {
    for (create, key, value, says) in [
        ("deal", "STAGE_ID", "99", "`stage_id` = 99"),
        ("deal", "PIPELINE_ID", "9", "`pipeline_id` = 9"),
        ("lead", "OWNER_ID", "5", "`owner_id` = 5"),
        ("lead", "LABEL_IDS", "00000000-0000-0000-0000-000000000000", "`label_ids` = 00000000"),
    ] {
        let vendor = pipedrive::start().await;
        let service = service(&vendor, &[("CREATE", create), (key, value), ("PROBE", "1h")]).await;
        let id = service.accepted(&ada()).await;
        service.until_logged("destination parked").await;
        let delivery = service.delivery(&id, "pipedrive").await;
        let detail = delivery["history"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(says) && detail.contains("configured"), "{detail}");
        assert_eq!(delivery["history"][0]["code"], "pipedrive_err_schema_validation_failed");
    }
    // A field's key may be wrong, or this lead's value: a dead letter that names it.
    let vendor = pipedrive::start().await;
    let fields = format!("{{ {DEAL_NUMBER} = 'form_data.message' }}");
    let service = service(&vendor, &[("DEAL_FIELDS", &fields)]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "dead").await;
    let detail = delivery["history"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(DEAL_NUMBER) && detail.contains("`deal_fields`"), "{detail}");
}

#[tokio::test]
async fn the_token_and_what_a_visitor_typed_are_in_no_url_log_or_error() {
    let vendor = pipedrive::start().await;
    let echo = |status| refuse(status, &format!("bad ada@example.com {TOKEN}"));
    for (on, fault) in [
        (SEARCH, Fault::Answer(echo(500))),
        (PERSON, Fault::ApplyThenDrop),
        (LEAD, Fault::Answer(echo(401))),
        (NOTE, Fault::ApplyThenAnswer(echo(502))),
    ] {
        vendor.next(on, fault);
    }
    let mut service = {
        let (base, retry) = (vendor.url(), ["1ms"; 9].join(", "));
        Service::start(&[
            ("RUST_LOG", "trace"),
            ("PIPEDRIVE_API_TOKEN", TOKEN),
            ("PIPEDRIVE_DOMAIN", "example"),
            (&setting("BASE_URL"), &base),
            (&setting("RETRY"), &retry),
            (&setting("PROBE"), "1ms"),
            (&setting("SETTLE"), "1ms"),
        ])
        .await
    };
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
    for call in vendor.calls() {
        assert_eq!(call.headers["x-api-token"], TOKEN);
        assert!(!format!("{} {:?} {}", call.path, call.query, call.body).contains(TOKEN));
        assert!(!call.headers.contains_key("authorization"));
    }
    assert_eq!(service.terminate().await, 0);
    let log = service.log();
    for secret in [TOKEN, "ada@example.com", "ada%40example", "Lovelace", "7946 0018"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "`{secret}` is in the log: {}", line.unwrap_or_default());
    }
    assert!(!delivery.to_string().contains(TOKEN), "{delivery}");
    let folder = &service.folder;
    let files = std::fs::read_dir(folder.path().join("data")).unwrap();
    for file in files.map(|file| std::fs::read(file.unwrap().path()).unwrap()) {
        assert!(!file.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "the store holds no token");
    }
}

/// What `check` says, and how it ends.
async fn check(online: bool, settings: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<_> = settings.to_vec();
    let mut command = binary(folder.path(), &pairs);
    command.arg("check");
    if online {
        command.arg("--online");
    }
    let ended = command.output().await.unwrap();
    let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    (ended.status.code().unwrap(), text)
}

#[tokio::test]
async fn check_online_tries_the_token_and_what_the_configuration_names() {
    let vendor = pipedrive::start().await;
    let url = vendor.url();
    let good = format!("{{ {DEAL_TEXT} = 'id' }}");
    let unknown = format!("{{ {} = 'email' }}", "c".repeat(40));
    let key = |key: &str| setting(key);
    let online = async |token: &str, settings: &[(String, &str)]| {
        let base = key("BASE_URL");
        let mut all = vec![("PIPEDRIVE_API_TOKEN", token), ("PIPEDRIVE_DOMAIN", "example"), (&base, &url)];
        all.extend(settings.iter().map(|(name, value)| (name.as_str(), *value)));
        check(true, &all).await
    };
    let deal = (key("CREATE"), "deal");
    let (code, text) = online(
        TOKEN,
        &[deal.clone(), (key("PIPELINE_ID"), "2"), (key("STAGE_ID"), "11"), (key("DEAL_FIELDS"), &good)],
    )
    .await;
    assert_eq!((code, text.contains("✓ destinations.pipedrive")), (0, true), "{text}");
    for (token, settings, says) in [
        ("wrong", vec![], "Pipedrive does not know the token"),
        (
            TOKEN,
            vec![deal.clone(), (key("PIPELINE_ID"), "3")],
            "It has the pipelines 1 (Pipeline 1), 2 (Pipeline 2)",
        ),
        (TOKEN, vec![deal.clone(), (key("STAGE_ID"), "4")], "`stage_id` is 4"),
        (
            TOKEN,
            vec![deal, (key("PIPELINE_ID"), "1"), (key("STAGE_ID"), "12")],
            "is a stage of another pipeline",
        ),
        (TOKEN, vec![(key("PERSON_FIELDS"), unknown.as_str())], "Pipedrive has no field cccc"),
    ] {
        let (code, text) = online(token, &settings).await;
        assert!(code == 1 && text.contains(says), "{says}: {text}");
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert!(vendor.calls().iter().all(|call| call.method == "GET"), "nothing is created");
}

#[tokio::test]
async fn every_problem_of_the_settings_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = "[destinations.a]\ntype = 'pipedrive'\napi_token = 'hunter two'\ndomain = 'crm.example.com'\n\
        create = 'lead'\ntitle = '{nmae}'\nvalue = -1\nstage_id = 3\nlabel_ids = ['red']\nvisible_to = 2\n\
        [destinations.a.person_fields]\nnotes = 'email'\n1111111111111111111111111111111111111111 = 'mail'\n\
        [destinations.b]\ntype = 'pipedrive'\napi_token = 'x'\ncreate = 'person'\ncurrency = 'euro'\n\
        [destinations.c]\ntype = 'pipedrive'\napi_token = 'x'\ndomain = 'x'\nbase_url = 'http://far.test'\ntitel = 'x'\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (code, said) = check(false, &[("LEAD_INTAKE_CONFIG", path)]).await;
    assert_eq!(code, 1);
    for expected in [
        &format!("destinations.a.api_token  ({path}:3)"),
        &format!("destinations.a.domain  ({path}:4)"),
        &format!("destinations.a.title  ({path}:6)"),
        "no field `nmae`",
        &format!("destinations.a.value  ({path}:7)"),
        &format!("destinations.a.stage_id  ({path}:8)"),
        &format!("destinations.a.label_ids  ({path}:9)"),
        &format!("destinations.a.visible_to  ({path}:10)"),
        &format!("destinations.a.person_fields.notes  ({path}:12)"),
        "no field `mail`",
        "destinations.b.domain",
        "PIPEDRIVE_DOMAIN",
        &format!("destinations.b.currency  ({path}:18)"),
        "id you mean `title`?",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
    assert!(!said.contains("hunter two"), "{said}");
    let (_, half) = check(false, &[("PIPEDRIVE_DOMAIN", "example")]).await;
    assert!(half.contains("`api_token` is missing") && half.contains("PIPEDRIVE_API_TOKEN"), "{half}");
    for domain in ["example", "Example.pipedrive.com", "https://example.pipedrive.com/"] {
        let (code, text) = check(false, &[("PIPEDRIVE_API_TOKEN", "x"), ("PIPEDRIVE_DOMAIN", domain)]).await;
        assert_eq!(
            (code, text.as_str()),
            (0, "The configuration is fine. Destinations: pipedrive.\n"),
            "{domain}"
        );
    }
}
