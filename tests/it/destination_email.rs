//! The two mails, through the real binary, against an SMTP server on the loopback.

use serde_json::{Value, json};
use stand_ins::smtp::{Mail, Mode, PASSWORD, Smtp, Stage, What};

use crate::support::{Service, ada, binary, soon};

/// A service that sends the team's notification alone.
async fn notifying(smtp: &Smtp, more: &[(&str, &str)]) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, smtp.certificate()).unwrap();
    let url = smtp.url();
    let mut variables = vec![
        ("LEAD_INTAKE__MAIL__SMTP_URL", url.as_str()),
        ("LEAD_INTAKE__MAIL__FROM", "Example Ltd <hello@forms.example.com>"),
        ("LEAD_INTAKE__MAIL__CA_FILE", ca.to_str().unwrap()),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO", "sales@example.com, boss@example.com"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__RETRY", "1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__PROBE", "1ms"),
    ];
    variables.extend(more);
    let mut service = Service::start(&variables).await;
    service.beside = Some(folder);
    service
}

async fn sent(smtp: &Smtp, count: usize) -> Vec<Mail> {
    let mails = soon(smtp.until(|mails| mails.len() >= count)).await;
    for mail in &mails {
        assert!(mail.wrong.is_empty(), "{:?}", mail.wrong);
    }
    mails
}

#[tokio::test]
async fn the_team_and_the_visitor_each_get_their_mail_before_the_answer() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "Example Ltd <hello@forms.example.com>"),
        ("EMAIL_NOTIFY_TO", "sales@example.com,boss@example.com"),
    ])
    .await;
    let mut lead = ada();
    lead["name"] = json!("Ada <b>Lovelace</b>");
    let id = service.accepted(&lead).await;
    let mails = smtp.mails();
    assert_eq!(mails.len(), 2, "both are there when the answer comes");
    let to = |address: &str| mails.iter().find(|mail| mail.recipients.contains(&address.to_owned())).unwrap();

    let notification = to("sales@example.com");
    assert_eq!(notification.recipients, ["sales@example.com", "boss@example.com"]);
    assert_eq!(notification.from, "hello@forms.example.com");
    let header = |mail: &Mail, name: &str| mail.header(name).unwrap_or_default();
    assert_eq!(header(notification, "reply-to"), "ada@example.com");
    assert_eq!(header(notification, "auto-submitted"), "auto-generated");
    assert_eq!(header(notification, "message-id"), format!("<{id}_notification@forms.example.com>"));
    assert_eq!(header(notification, "subject"), "New lead from Ada <b>Lovelace</b> (Contact)");
    let (text, html) = (notification.part("text/plain").unwrap(), notification.part("text/html").unwrap());
    for expected in
        ["Ada <b>Lovelace</b>", "+44 20 7946 0018", "Message: Hello", "Topics: a, b", "Source: news", &id]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(html.contains("Ada &lt;b&gt;Lovelace&lt;&#x2f;b&gt;") && !html.contains("<b>Lovelace"), "{html}");

    let confirmation = to("ada@example.com");
    assert_eq!(header(confirmation, "subject"), "We have received your message");
    assert_eq!(header(confirmation, "auto-submitted"), "auto-generated");
    assert!(
        confirmation.header("reply-to").is_none()
            && confirmation.part("text/plain").unwrap().contains("Hello Ada,")
    );
    assert!(mails.iter().all(|mail| mail.wrong.is_empty()), "{:?}", mails[0].wrong);
    assert_eq!(
        service.delivery(&id, "confirmation").await["receipt"]["remote_id"],
        "2.0.0 queued as stand-in-1"
    );
}

#[tokio::test]
async fn without_consent_the_team_hears_of_it_and_the_visitor_gets_no_mail() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ])
    .await;
    let mut lead = ada();
    lead["consent_given"] = json!(false);
    let id = service.accepted(&lead).await;
    assert_eq!(service.delivery(&id, "confirmation").await["state"], "withheld");
    let mails = sent(&smtp, 1).await;
    assert!(mails.len() == 1 && mails[0].part("text/plain").unwrap().contains("not given"));
}

#[tokio::test]
async fn tls_is_kept_to_and_its_absence_sends_nothing() {
    for mode in [Mode::StartTls, Mode::Implicit] {
        let smtp = Smtp::start(mode).await;
        let service = notifying(&smtp, &[]).await;
        service.accepted(&ada()).await;
        assert_eq!(sent(&smtp, 1).await.len(), 1, "{mode:?}");
    }
    let smtp = Smtp::start(Mode::Stripped).await;
    let service = notifying(&smtp, &[("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__PROBE", "1h")]).await;
    let id = service.accepted(&ada()).await;
    let first = service.delivery(&id, "notification").await["history"][0].clone();
    assert_eq!((&first["outcome"], &first["code"]), (&json!("blocked"), &json!("smtp_starttls")));
    assert!(smtp.mails().is_empty());
}

#[tokio::test]
async fn what_each_answer_means_depends_on_its_stage() {
    for (stage, what, outcome, code) in [
        (Stage::Greeting, What::Say("421 4.3.2 later"), "transient", "smtp_connect_421"),
        (Stage::Greeting, What::Say("554 5.3.2 no"), "blocked", "smtp_connect_554"),
        (Stage::Greeting, What::Close, "transient", "smtp_connect"),
        (Stage::Hello, What::Say("502 5.5.1 no"), "blocked", "smtp_connect_502"),
        (Stage::Auth, What::Say("454 4.7.0 later"), "transient", "smtp_auth_454"),
        (Stage::Auth, What::Say("535 5.7.8 no"), "blocked", "smtp_auth_535"),
        (Stage::Sender, What::Say("451 4.3.0 later"), "transient", "smtp_sender_451"),
        (Stage::Sender, What::Say("550 5.7.1 not yours"), "blocked", "smtp_sender_550"),
        (Stage::Sender, What::Say("552 5.3.4 too big"), "rejected", "smtp_sender_552"),
        (Stage::Recipient, What::Say("421 4.7.0 bye"), "transient", "smtp_recipient_421"),
        (Stage::Data, What::Say("451 4.3.0 later"), "transient", "smtp_data_451"),
        (Stage::Data, What::Say("554 5.5.1 no"), "rejected", "smtp_data_554"),
        (Stage::Data, What::Say("250 2.0.0 what"), "transient", "smtp_data_250"),
        (Stage::Data, What::Close, "transient", "smtp_data"),
        (Stage::Dot, What::Say("452 4.3.1 full"), "transient", "smtp_body_452"),
        (Stage::Dot, What::Say("554 5.7.1 spam"), "rejected", "smtp_body_554"),
        (Stage::Dot, What::Say("530 5.7.0 spam"), "rejected", "smtp_body_530"),
        (Stage::Dot, What::Say("354 what"), "unknown", "smtp_body_354"),
        (Stage::Dot, What::Close, "unknown", "smtp_body"),
    ] {
        let smtp = Smtp::start(Mode::Plain).await;
        smtp.next(stage, what.clone());
        let service = notifying(&smtp, &[]).await;
        let id = service.accepted(&ada()).await;
        let first = service.delivery(&id, "notification").await["history"][0].clone();
        assert_eq!(
            (&first["outcome"], &first["code"]),
            (&json!(outcome), &json!(code)),
            "{stage:?} {what:?}"
        );
        match outcome {
            "rejected" => assert_eq!(service.delivery(&id, "notification").await["state"], "dead"),
            "unknown" => assert_eq!(service.delivery(&id, "notification").await["state"], "pending"),
            _ => {
                service.until_state(&id, "notification", "delivered").await;
                // The operators may have had a mail of their own.
                let mails = sent(&smtp, 1).await;
                let of_lead = |mail: &&Mail| mail.header("message-id").is_some_and(|it| it.contains(&id));
                assert_eq!(mails.iter().filter(of_lead).count(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_handshake_that_fails_sends_nothing_and_is_tried_again() {
    let meddled = "220 go\r\n250-meddled\r\n250 AUTH PLAIN";
    let more = "220 go\r\n250 x\r\n235 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 taken";
    for (stage, what, outcome, code) in [
        (Stage::StartTls, What::Say("454 4.7.0 TLS is not available"), "transient", "smtp_starttls_454"),
        (Stage::StartTls, What::Say("501 5.5.4 no"), "blocked", "smtp_starttls_501"),
        (Stage::StartTls, What::Close, "transient", "smtp_starttls"),
        (Stage::StartTls, What::Hang, "transient", "smtp_starttls"),
        (Stage::Handshake, What::Close, "transient", "smtp_starttls"),
        (Stage::Handshake, What::Hang, "transient", "smtp_starttls"),
        (Stage::Handshake, What::Say("this is no TLS"), "transient", "smtp_starttls"),
        // Answers that stand before the handshake are nobody's: the mail would seem to be taken. One alone is
        // noticed when the answer that belonged there comes.
        (Stage::StartTls, What::Say(meddled), "transient", "smtp_starttls smtp_auth_250"),
        (Stage::StartTls, What::Say(more), "transient", "smtp_starttls"),
    ] {
        let smtp = Smtp::start(Mode::StartTls).await;
        smtp.next(stage, what.clone());
        let service = notifying(&smtp, &[("LEAD_INTAKE__MAIL__COMMAND_TIMEOUT", "2s")]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "notification", "delivered").await;
        let first = &delivery["history"][0];
        assert_eq!(first["outcome"], outcome, "{stage:?} {what:?}: {first}");
        assert!(code.split(' ').any(|code| first["code"] == code), "{stage:?} {what:?}: {first}");
        let of_lead = |mail: &&Mail| mail.header("message-id").is_some_and(|it| it.contains(&id));
        assert_eq!(smtp.mails().iter().filter(of_lead).count(), 1, "{stage:?} {what:?}");
    }
    // A certificate that nobody vouches for.
    let (smtp, other) = (Smtp::start(Mode::StartTls).await, Smtp::start(Mode::StartTls).await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("other.pem");
    std::fs::write(&ca, other.certificate()).unwrap();
    let service = notifying(&smtp, &[("LEAD_INTAKE__MAIL__CA_FILE", ca.to_str().unwrap())]).await;
    let id = service.accepted(&ada()).await;
    let first = service.delivery(&id, "notification").await["history"][0].clone();
    assert_eq!((&first["outcome"], &first["code"]), (&json!("transient"), &json!("smtp_starttls")));
    assert!(first["detail"].as_str().unwrap().contains("certificate"), "{first}");
    assert!(smtp.mails().is_empty());
}

#[tokio::test]
async fn answers_in_pieces_or_of_several_lines_are_read_whole_and_half_of_one_decides_nothing() {
    let smtp = Smtp::start(Mode::Plain).await;
    for (stage, pieces) in [
        (Stage::Greeting, &["22", "0-stand-in\r\n220", " welcome\r\n"][..]),
        (Stage::Auth, &["235-2.7.0 come\r", "\n235 2.7.0 in\r\n"]),
        (Stage::Sender, &["250-2.1.0 fine\r\n", "250 2.1.0 ok\r\n"]),
        (Stage::Recipient, &["2", "5", "0 2.1.5 ok", "\r\n"]),
        (Stage::Data, &["354-go\r\n354", " on\r\n"]),
        (Stage::Dot, &["250-2.0.0 queued\r\n", "250 2.0.0 as", " many\r\n"]),
    ] {
        smtp.next(stage, What::Pieces(pieces));
    }
    let service = notifying(&smtp, &[]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.delivery(&id, "notification").await;
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    assert_eq!(delivery["receipt"]["remote_id"], "2.0.0 queued 2.0.0 as many");
    assert_eq!(sent(&smtp, 1).await.len(), 1);

    for half in [&b"250-2.0.0 queued\r\n"[..], b"25", b"250 2.0.0 \xff\xfe\r\n", b"yes\r\n"] {
        let smtp = Smtp::start(Mode::Plain).await;
        smtp.next(Stage::Dot, What::Bytes(half));
        let service = notifying(&smtp, &[]).await;
        let id = service.accepted(&ada()).await;
        let first = service.delivery(&id, "notification").await["history"][0].clone();
        assert_eq!((&first["outcome"], &first["code"]), (&json!("unknown"), &json!("smtp_body")), "{half:?}");
        assert!(first["detail"].as_str().unwrap().contains("marked as the same mail"), "{first}");
    }
}

#[tokio::test]
async fn a_goodbye_decides_nothing() {
    for what in [What::Hang, What::Close, What::Say("421 4.4.2 too slow"), What::Bytes(b"\xff")] {
        let smtp = Smtp::start(Mode::Plain).await;
        smtp.always(Stage::Quit, what.clone());
        let service = notifying(&smtp, &[("LEAD_INTAKE__INTAKE__DEADLINE", "30s")]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.delivery(&id, "notification").await;
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("delivered"), &json!(1)), "{what:?}");
        assert_eq!(sent(&smtp, 1).await.len(), 1, "{what:?}");
    }
}

#[tokio::test]
async fn a_login_by_question_and_answer_is_known_and_one_that_we_cannot_give_parks() {
    let smtp = Smtp::start(Mode::StartTls).await;
    smtp.offer("LOGIN");
    let service = notifying(&smtp, &[]).await;
    let id = service.accepted(&ada()).await;
    assert_eq!(service.delivery(&id, "notification").await["state"], "delivered");
    smtp.offer("CRAM-MD5");
    let id = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    let first = service.delivery(&id, "notification").await["history"][0].clone();
    assert_eq!((&first["outcome"], &first["code"]), (&json!("blocked"), &json!("smtp_auth")), "{first}");
    smtp.offer("PLAIN");
    service.until_state(&id, "notification", "delivered").await;
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_a_dead_letter_by_our_own_limit_or_by_the_server_s() {
    let smtp = Smtp::start(Mode::Plain).await;
    smtp.limit_size(100);
    let service = notifying(&smtp, &[]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "notification", "dead").await;
    let first = &delivery["history"][0];
    assert_eq!((&first["outcome"], &first["code"]), (&json!("rejected"), &json!("smtp_body_552")));
    assert!(first["detail"].as_str().unwrap().contains("too big"), "{first}");
    smtp.limit_size(1_000_000);
    assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
    service.until_state(&id, "notification", "delivered").await;

    let service = notifying(&smtp, &[("LEAD_INTAKE__MAIL__MAX_SIZE", "1KB")]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "notification", "dead").await;
    assert_eq!(delivery["history"][0]["code"], "too_large");
    assert_eq!(smtp.mails().len(), 1);
}

#[tokio::test]
async fn one_refused_recipient_does_not_keep_the_mail_from_the_others() {
    let smtp = Smtp::start(Mode::Plain).await;
    smtp.refuse(&["boss@example.com"]);
    let service = notifying(&smtp, &[]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.delivery(&id, "notification").await;
    assert_eq!(delivery["state"], "delivered");
    assert!(delivery["receipt"]["note"].as_str().unwrap().contains("boss@example.com"));
    assert_eq!(sent(&smtp, 1).await[0].recipients, ["sales@example.com"]);
}

/// RFC 5321 section 4.2.1: a 4yz asks for another try, and the one who has the mail gets no second.
#[tokio::test]
async fn a_recipient_who_is_refused_for_a_time_is_tried_again_alone() {
    let smtp = Smtp::start(Mode::Plain).await;
    let service = notifying(&smtp, &[]).await;
    smtp.next(Stage::Recipient, What::Say("450 4.2.0 greylisted"));
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "notification", "delivered").await;
    let mut reached: Vec<_> = sent(&smtp, 2).await.into_iter().map(|mail| mail.recipients).collect();
    reached.sort();
    assert_eq!(reached, [["boss@example.com"], ["sales@example.com"]]);
    assert_eq!(delivery["history"][0]["outcome"], "transient", "{delivery}");
}

#[tokio::test]
async fn an_answer_lost_after_the_dot_repeats_the_same_bytes_and_not_for_ever() {
    let smtp = Smtp::start(Mode::Plain).await;
    smtp.always(Stage::Dot, What::AcceptThenClose);
    let service = notifying(&smtp, &[]).await;
    let id = service.accepted(&ada()).await;
    // A server is given a minute to settle before each repeat; the test shortens the wait by hand.
    for lost in 1..=3_usize {
        soon(smtp.until(|mails| mails.len() == lost)).await;
        let wanted = if lost == 3 { "dead" } else { "pending" };
        let settled = |delivery: &Value| {
            delivery["history"].as_array().unwrap().len() == lost && delivery["state"] == wanted
        };
        soon(async { while !settled(&service.delivery(&id, "notification").await) {} }).await;
        service.hasten();
    }
    let mails = smtp.mails();
    assert!(mails.len() == 3 && mails[0].raw == mails[1].raw && mails[1].raw == mails[2].raw);
    assert_eq!(smtp.counts().len(), 1);

    // Whoever replays it knows that it had not arrived: it begins anew.
    assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
    soon(smtp.until(|mails| mails.len() == 4)).await;
    let lost_again = |delivery: &Value| delivery["history"].as_array().unwrap().len() == 4;
    soon(async { while !lost_again(&service.delivery(&id, "notification").await) {} }).await;
    assert_eq!(service.delivery(&id, "notification").await["state"], "pending");
}

#[tokio::test]
async fn nothing_that_a_visitor_typed_adds_a_header_a_recipient_or_a_line() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ])
    .await;
    let long = "x".repeat(5_000);
    let mut lead = ada();
    lead["email"] = json!("Ada@Bücher.Example");
    lead["name"] = json!("x".repeat(200));
    lead["form_name"] = json!("contact");
    lead["form_data"] = json!({
        "message": "first\r\n.\r\nMAIL FROM:<evil@example.com>\r\n\r\nsecond\rthird\u{0}fourth\n.\n..dots",
        "a\r\nBcc: evil@example.com": "b", "long": long,
    });
    let id = service.accepted(&lead).await;
    service.until_state(&id, "confirmation", "delivered").await;
    let mails = sent(&smtp, 2).await;
    assert_eq!(mails.len(), 2);
    for mail in &mails {
        assert_eq!((mail.count("bcc"), mail.count("subject"), mail.recipients.len()), (0, 1, 1));
        let text = mail.part("text/plain").unwrap();
        assert!(text.contains("..dots") && text.contains(&long) && !text.contains('\u{0}'));
    }
    assert!(mails.iter().any(|mail| mail.recipients == ["Ada@xn--bcher-kva.example"]));
    let (status, body) =
        service.submit(&json!({"name": "a\r\nBcc: x@y.z", "email": "a@b.test\r\nBcc: x@y.z"})).await;
    assert!(status == 400 && body["errors"]["fieldErrors"]["email"].is_array());
}

/// With a key the lead's id is known before it is sent: nothing between the parts of a mail may be.
#[tokio::test]
async fn no_visitor_adds_a_part_to_a_mail() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let to = [
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ];
    let boundaries = |mails: &[stand_ins::smtp::Mail]| -> Vec<String> {
        let of = |mail: &stand_ins::smtp::Mail| {
            let kind = mail.header("content-type").unwrap();
            kind.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        mails.iter().map(of).collect()
    };
    // The same form and key at another owner's service, or an earlier day's mail, tell what stands between the parts.
    let mut lead = ada();
    let key = [("Idempotency-Key", "known")];
    let first = Service::start(&to).await;
    assert_eq!(first.submit_with(&lead, &key).await.0, 200);
    let mut known = boundaries(&sent(&smtp, 2).await);
    known.push(format!("part_{}", first.submit_with(&lead, &key).await.1["id"].as_str().unwrap()));
    let parts = |boundary: &String| {
        format!("\n--{boundary}\nContent-Type: text/html\n\n<b>evil</b>\n--{boundary}--\n")
    };
    lead["form_data"] = json!({ "message": known.iter().map(parts).collect::<String>() });
    let second = Service::start(&to).await;
    assert_eq!(second.submit_with(&lead, &key).await.0, 200);
    for mail in sent(&smtp, 4).await.into_iter().skip(2) {
        let own = boundaries(std::slice::from_ref(&mail)).remove(0);
        assert!(!known.contains(&own), "{own}");
        assert!(!mail.part("text/html").unwrap().contains("<b>evil</b>"));
    }
}

#[tokio::test]
async fn a_mail_comes_from_our_domain_to_each_once_and_its_subject_stays_a_line() {
    let smtp = Smtp::start(Mode::Plain).await;
    let folder = tempfile::tempdir().unwrap();
    let subject = "{% for field in fields %}{{ field.value }}{% endfor %}";
    std::fs::write(folder.path().join("notification.subject.txt"), subject).unwrap();
    let service = notifying(
        &smtp,
        &[
            ("LEAD_INTAKE__MAIL__TEMPLATES", folder.path().to_str().unwrap()),
            (
                "LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO",
                "sales@example.com, sales@EXAMPLE.com, boss@example.com",
            ),
        ],
    )
    .await;
    let mut lead = ada();
    lead["form_data"] = json!({ "message": "x".repeat(5_000) });
    service.accepted(&lead).await;
    let mails = sent(&smtp, 1).await;
    assert_eq!(mails[0].hello, "forms.example.com");
    assert_eq!(mails[0].recipients, ["sales@example.com", "boss@example.com"]);
    assert_eq!(mails[0].header("subject").unwrap(), "x".repeat(200));
}

#[tokio::test]
async fn a_sender_s_name_with_a_line_end_is_found_before_any_lead() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("SMTP_URL", "smtps://mail.example.com"),
        ("EMAIL_FROM", "Example\r\nBcc: eve@example.com <hello@example.com>"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ];
    let ended = binary(folder.path(), &variables).arg("check").output().await.unwrap();
    let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("mail.from") && text.contains("no control characters"), "{text}");
}

#[tokio::test]
async fn a_mail_that_hangs_ends_in_its_time_and_does_not_poison_the_next() {
    // The answer to the whole mail has a time of its own, and the others have theirs.
    for (stage, a_command, the_mail) in
        [(Stage::Greeting, "200ms", "100s"), (Stage::Data, "200ms", "100s"), (Stage::Dot, "1h", "200ms")]
    {
        let smtp = Smtp::start(Mode::Plain).await;
        smtp.next(stage, What::Hang);
        let times = [
            ("LEAD_INTAKE__MAIL__COMMAND_TIMEOUT", a_command),
            ("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", the_mail),
        ];
        let service = notifying(&smtp, &times).await;
        let first = service.accepted(&ada()).await;
        let history = service.delivery(&first, "notification").await["history"][0].clone();
        let expected = if stage == Stage::Dot { "unknown" } else { "transient" };
        assert_eq!(history["outcome"], expected, "{stage:?}");
        let second = service.accepted(&ada()).await;
        assert_eq!(service.delivery(&second, "notification").await["state"], "delivered", "{stage:?}");
        let wanted = format!("<{second}_notification@forms.example.com>");
        assert!(smtp.mails().iter().any(|mail| mail.header("message-id") == Some(wanted.clone())));
    }
}

#[tokio::test]
async fn neither_a_robot_nor_we_ourselves_nor_an_address_that_had_one_today_get_a_confirmation() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ])
    .await;
    let mut lead = ada();
    for (address, state, code) in [
        ("MAILER-DAEMON@example.org", "cancelled", "robot"),
        ("noreply+forms@example.org", "cancelled", "robot"),
        ("HELLO@example.com", "cancelled", "our_own_address"),
        ("sales@EXAMPLE.com", "cancelled", "our_own_address"),
        ("grace@example.com", "delivered", "ok"),
        ("Grace@example.com", "cancelled", "enough_for_a_day"),
        ("grace+again@example.com", "cancelled", "enough_for_a_day"),
        ("joan@example.com", "delivered", "ok"),
    ] {
        lead["email"] = json!(address);
        let id = service.accepted(&lead).await;
        let delivery = service.delivery(&id, "confirmation").await;
        assert_eq!((&delivery["state"], &delivery["history"][0]["code"]), (&json!(state), &json!(code)));
        assert_eq!(service.delivery(&id, "notification").await["state"], "delivered", "{address}");
    }
    // What did not go was none of the day's share.
    lead["email"] = json!("lin@example.com");
    for (refused, state) in [(&["lin@example.com"][..], "dead"), (&[], "delivered"), (&[], "cancelled")] {
        smtp.refuse(refused);
        let id = service.accepted(&lead).await;
        assert_eq!(service.delivery(&id, "confirmation").await["state"], state);
    }
    let confirmations = smtp.mails().iter().filter(|mail| mail.recipients != ["sales@example.com"]).count();
    assert_eq!(confirmations, 3);
}

/// A mail that may have arrived keeps its place, whatever becomes of its repeats; and a mail to the visitor of
/// another name has a share as well.
#[tokio::test]
async fn a_confirmation_that_may_have_arrived_is_one_of_the_day_s() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__FORMS", "other"),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__FORMS", "other"),
        ("LEAD_INTAKE__DESTINATIONS__THANKS__TYPE", "email"),
        ("LEAD_INTAKE__DESTINATIONS__THANKS__AUDIENCE", "visitor"),
        ("LEAD_INTAKE__DESTINATIONS__THANKS__TEMPLATE", "confirmation"),
    ])
    .await;
    smtp.next(Stage::Dot, What::AcceptThenClose);
    let first = service.accepted(&ada()).await;
    service.until_delivery(&first, "thanks", |it| it["history"][0]["outcome"] == "unknown").await;
    smtp.next(Stage::Recipient, What::Say("550 5.1.1 no such user"));
    service.hasten();
    service.until_state(&first, "thanks", "dead").await;
    let second = service.accepted(&ada()).await;
    let delivery = service.until_state(&second, "thanks", "cancelled").await;
    assert_eq!(delivery["history"][0]["code"], "enough_for_a_day");
    assert_eq!(smtp.mails().len(), 1);
}

/// An address that forms take, as browsers do, and that can stand in no header (two dots, as old Japanese ones have).
#[tokio::test]
async fn the_team_hears_of_a_lead_whose_address_no_mail_can_go_to() {
    let smtp = Smtp::start(Mode::Plain).await;
    let service = notifying(&smtp, &[]).await;
    let mut lead = ada();
    lead["email"] = json!("taro..y@docomo.example");
    let id = service.accepted(&lead).await;
    service.until_state(&id, "notification", "delivered").await;
    let mail = &sent(&smtp, 1).await[0];
    assert!(mail.header("reply-to").is_none() && mail.part("text/plain").unwrap().contains("taro..y@docomo"));
}

/// The wait for the answer to the whole mail is never cut short by what came before: that would double the mail.
#[tokio::test]
async fn a_server_that_leaves_no_time_for_its_last_answer_gets_no_mail_yet() {
    const SLOW: [&str; 81] = {
        let mut pieces = [""; 81];
        pieces[80] = "250 2.1.5 at last\r\n";
        pieces
    };
    let smtp = Smtp::start(Mode::Plain).await;
    smtp.next(Stage::Recipient, What::Pieces(&SLOW));
    let times = [
        ("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", "3s"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TIMEOUT", "4500ms"),
    ];
    let service = notifying(&smtp, &times).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "notification", "delivered").await;
    let first = &delivery["history"][0];
    assert_eq!((&first["outcome"], &first["code"]), (&json!("transient"), &json!("smtp_data")), "{delivery}");
    assert!(first["detail"].as_str().unwrap().contains("too little time"), "{delivery}");
    assert_eq!(smtp.mails().len(), 1);
}

#[tokio::test]
async fn what_an_address_had_today_is_known_after_a_restart_and_its_last_place_goes_to_one() {
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let mut service = Service::start(&[
        ("SMTP_URL", url.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__PER_DAY", "2"),
    ])
    .await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "confirmation", "delivered").await;
    assert_eq!(service.terminate().await, 0);
    let service = service.again().await;
    let lead = ada();
    let ids = futures_util::future::join_all((0..4).map(|_| service.accepted(&lead))).await;
    let mut states = Vec::new();
    for id in &ids {
        let settled = service.until_delivery(id, "confirmation", |it| it["state"] != "pending").await;
        states.push(settled["state"].as_str().unwrap().to_owned());
    }
    states.sort();
    assert_eq!(states, ["cancelled", "cancelled", "cancelled", "delivered"]);
    assert_eq!(smtp.mails().iter().filter(|mail| mail.recipients == ["ada@example.com"]).count(), 2);
}

#[tokio::test]
async fn a_long_destination_name_leaves_the_boundary_within_its_limit() {
    let smtp = Smtp::start(Mode::Plain).await;
    let name = "N".repeat(40);
    let set = |key: &str| format!("LEAD_INTAKE__DESTINATIONS__{name}__{key}");
    let (kind, audience, template, to) = (set("TYPE"), set("AUDIENCE"), set("TEMPLATE"), set("TO"));
    let url = smtp.url();
    let service = Service::start(&[
        ("LEAD_INTAKE__MAIL__SMTP_URL", url.as_str()),
        ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
        (kind.as_str(), "email"),
        (audience.as_str(), "team"),
        (template.as_str(), "notification"),
        (to.as_str(), "sales@example.com"),
    ])
    .await;
    service.accepted(&ada()).await;
    let mails = sent(&smtp, 1).await;
    let kind = mails[0].header("content-type").unwrap();
    let boundary = kind.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(boundary.len() <= 70, "{boundary}");
    assert!(mails[0].part("text/html").is_some());
}

#[tokio::test]
async fn templates_can_be_replaced_and_a_wrong_login_is_found_before_any_lead() {
    let smtp = Smtp::start(Mode::Plain).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notification.subject.txt"), "Hurra {{ first_name }}").unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let service = notifying(&smtp, &[("LEAD_INTAKE__MAIL__TEMPLATES", &path)]).await;
    service.accepted(&ada()).await;
    assert_eq!(sent(&smtp, 1).await[0].header("subject").unwrap(), "Hurra Ada");
    smtp.next(Stage::Auth, What::Say("535 5.7.8 no"));
    let (code, text) = service.cli(&["check", "--online"]).await;
    assert!(
        code == 1 && text.contains("user and password in SMTP_URL") && !text.contains(PASSWORD),
        "{text}"
    );
    std::fs::write(folder.path().join("notification.txt"), "{{ broken").unwrap();
    let (code, text) = service.cli(&["check"]).await;
    assert!(code == 1 && text.contains("mail.templates") && text.contains("notification.txt"), "{text}");
}
