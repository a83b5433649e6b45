//! Who hears that a destination has stopped, and that it works again.

use serde_json::json;
use stand_ins::hook::{Fault, Hook};
use stand_ins::mail_api::{self, MailApi, Vendor};
use stand_ins::smtp::{Mail, Mode, Smtp, Stage, What};

use crate::support::{Service, ada, soon};

async fn service(smtp: &Smtp, hook: &Hook, more: &[(&str, &str)]) -> Service {
    let (mail, crm) = (smtp.url(), hook.url());
    let mut variables = vec![
        ("SMTP_URL", mail.as_str()),
        ("EMAIL_FROM", "Example Ltd <hello@forms.example.com>"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
        ("CRM_WEBHOOK_URL", crm.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1ms"),
    ];
    variables.extend(more);
    Service::start(&variables).await
}

fn ours(mails: &[Mail]) -> Vec<&Mail> {
    let is_ours = |mail: &&Mail| mail.header("subject").is_some_and(|it| it.starts_with("lead-intake: "));
    mails.iter().filter(is_ours).collect()
}

#[tokio::test]
async fn operators_get_one_mail_when_a_destination_parks_and_one_when_it_recovers() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let to = ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com, night@example.com");
    let mut service = service(&smtp, &hook, &[to]).await;
    // The first try of the mail fails: it is tried again.
    hook.script().always(Fault::status(401));
    let id = service.accepted(&ada()).await;
    let mails = soon(smtp.until(|mails| ours(mails).len() == 1)).await;
    let parked = ours(&mails)[0];
    assert_eq!(parked.recipients, ["night@example.com", "ops@example.com"]);
    assert_eq!(parked.header("subject").unwrap(), "lead-intake: crm has stopped: somebody must act");
    assert_eq!(parked.header("auto-submitted").unwrap(), "auto-generated");
    let text = parked.part("text/plain").unwrap();
    assert!(
        text.contains("401 Unauthorized: check its secret and headers") && text.contains("Nothing is lost"),
        "{text}"
    );
    assert!(parked.wrong.is_empty(), "{:?}", parked.wrong);

    hook.script().mend();
    service.until_state(&id, "crm", "delivered").await;
    let mails = soon(smtp.until(|mails| ours(mails).len() == 2)).await;
    assert_eq!(ours(&mails)[1].header("subject").unwrap(), "lead-intake: crm works again");

    // Again, and after a restart: less than six hours later nobody is told.
    let folder = std::sync::Arc::clone(&service.folder);
    for restarted in [false, true] {
        if restarted {
            assert_eq!(service.terminate().await, 0);
            let database = format!("sqlite://{}", folder.path().join("data/lead-intake.db").display());
            service = self::service(&smtp, &hook, &[to, ("DATABASE_URL", &database)]).await;
        }
        hook.script().next(Fault::status(403));
        let id = service.accepted(&ada()).await;
        service.until_logged("the operators were told less than six hours ago").await;
        service.until_state(&id, "crm", "delivered").await;
        service.until_logged("destination recovered").await;
    }
    assert_eq!(ours(&smtp.mails()).len(), 2);
}

#[tokio::test]
async fn a_destination_that_a_restart_mended_is_told_to_work_again() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let mut first = service(&smtp, &hook, &[]).await;
    let database = format!("sqlite://{}", first.folder.path().join("data/lead-intake.db").display());
    hook.script().always(Fault::status(401));
    let id = first.accepted(&ada()).await;
    soon(smtp.until(|mails| ours(mails).len() == 1)).await;
    first.until_logged("the operators were told").await;
    assert_eq!(first.terminate().await, 0);
    hook.script().mend();
    let second = service(&smtp, &hook, &[("DATABASE_URL", &database)]).await;
    second.until_state(&id, "crm", "delivered").await;
    let mails = soon(smtp.until(|mails| ours(mails).len() == 2)).await;
    assert_eq!(ours(&mails)[1].header("subject").unwrap(), "lead-intake: crm works again");
}

#[tokio::test]
async fn a_destination_that_parked_before_the_process_began_is_told_if_it_was_not() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let mut first = service(&smtp, &hook, &[("SMTP_URL", "smtp://127.0.0.1:9?tls=none")]).await;
    let database = format!("sqlite://{}", first.folder.path().join("data/lead-intake.db").display());
    hook.script().always(Fault::status(401));
    first.accepted(&ada()).await;
    first.until_logged("the operators are not told yet").await;
    assert_eq!(first.terminate().await, 0);
    let _second = service(&smtp, &hook, &[("DATABASE_URL", &database)]).await;
    let mails = soon(smtp.until(|mails| ours(mails).len() == 1)).await;
    assert_eq!(ours(&mails)[0].header("subject").unwrap(), "lead-intake: crm has stopped: somebody must act");
}

/// Six hours apart is later, not never; and a moment that a wrong clock wrote is none.
#[tokio::test]
async fn who_was_told_too_short_a_time_ago_is_told_later() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let service = service(&smtp, &hook, &[]).await;
    let database = service.folder.path().join("data/lead-intake.db");
    let now = lead_intake::clock::Clock::system().now();
    let ago = std::time::Duration::from_secs(6 * 60 * 60 - 2);
    let ahead = std::time::Duration::from_secs(10 * 24 * 60 * 60);
    for (turn, told_at) in
        [now, now.checked_sub(ago).unwrap(), now.checked_add(ahead).unwrap()].iter().enumerate()
    {
        if turn > 0 {
            let set = "UPDATE memory SET value = ?1 WHERE key = 'operators told at'";
            let store = rusqlite::Connection::open(&database).unwrap();
            assert_eq!(store.execute(set, [told_at.to_string()]).unwrap(), 1);
        }
        hook.script().always(Fault::status(401));
        let id = service.accepted(&ada()).await;
        soon(smtp.until(|mails| ours(mails).len() == 2 * turn + 1)).await;
        hook.script().mend();
        service.until_state(&id, "crm", "delivered").await;
        soon(smtp.until(|mails| ours(mails).len() == 2 * turn + 2)).await;
        let forgotten = async {
            let asked = "SELECT count(*) FROM memory WHERE key = 'operators wait for'";
            let store = rusqlite::Connection::open(&database).unwrap();
            while store.query_row(asked, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        };
        soon(forgotten).await;
    }
}

#[tokio::test]
async fn without_a_word_the_team_is_told_and_a_mail_that_fails_is_tried_again() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let service = service(&smtp, &hook, &[("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__FORMS", "other")]).await;
    let mut lead = ada();
    lead["email"] = json!("noreply@example.com");
    hook.script().always(Fault::status(410));
    smtp.next(Stage::Dot, What::Say("451 4.3.0 later"));
    service.accepted(&lead).await;
    service.until_logged("the operators are not told yet").await;
    let mails = soon(smtp.until(|mails| ours(mails).len() == 1)).await;
    assert_eq!(ours(&mails)[0].recipients, ["sales@example.com"]);
}

/// A mail whose answer was lost may have arrived: one that is refused when it is repeated is not sent for ever.
#[tokio::test]
async fn operators_who_may_have_been_told_are_not_told_again_and_again() {
    let (smtp, hook) = (Smtp::start(Mode::Plain).await, Hook::start().await);
    let service = service(&smtp, &hook, &[("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__FORMS", "other")]).await;
    let mut lead = ada();
    lead["email"] = json!("noreply@example.com");
    hook.script().always(Fault::status(410));
    smtp.next(Stage::Dot, What::AcceptThenClose);
    smtp.next(Stage::Dot, What::Say("554 5.7.1 not this one"));
    service.accepted(&lead).await;
    service.until_logged("the operators are not told yet").await;
    service.until_logged("the operators were told").await;
    assert_eq!(ours(&smtp.mails()).len(), 1);
}

/// Over a mail API each operator's mail is a request of its own: who has it gets no second.
#[tokio::test]
async fn an_operator_who_was_told_gets_no_copy_for_the_other_s_sake() {
    let (api, hook) = (MailApi::start().await, Hook::start().await);
    let (base, crm) = (api.base_url(), hook.url());
    let service = Service::start(&[
        ("LEAD_INTAKE__MAIL__TRANSPORT", "postmark"),
        ("LEAD_INTAKE__MAIL__API_KEY", Vendor::Postmark.key()),
        ("LEAD_INTAKE__MAIL__BASE_URL", &base),
        ("EMAIL_FROM", "Example Ltd <hello@forms.example.com>"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__FORMS", "other"),
        ("LEAD_INTAKE__OPERATOR__MAIL_TO", "night@example.com, ops@example.com"),
        ("CRM_WEBHOOK_URL", &crm),
    ])
    .await;
    hook.script().always(Fault::status(401));
    api.script().next(mail_api::Fault::TakeThenAnswer(mail_api::Reply::json(
        200,
        &json!({ "ErrorCode": 0, "MessageID": "the-first" }),
    )));
    api.script().next(mail_api::Fault::Answer(mail_api::Reply::status(500)));
    let mut lead = ada();
    lead["email"] = json!("noreply@example.com");
    service.accepted(&lead).await;
    service.until_logged("the operators are not told yet").await;
    service.until_logged("the operators were told").await;
    let to: Vec<_> = api.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["night@example.com", "ops@example.com"]);
}
