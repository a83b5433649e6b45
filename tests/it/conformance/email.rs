//! The two mails over SMTP, stage by stage.

use std::sync::Arc;

use stand_ins::smtp::{self, Smtp, Stage, What};

use super::vendor::{Case, Has, Vendor, pairs};

/// `name` is `notification` (to the team) or `confirmation` (to the visitor).
pub(super) async fn start(name: &'static str) -> Vendor<Smtp> {
    let server = Arc::new(Smtp::start(smtp::Mode::Plain).await);
    let url = server.url();
    let address = url.split(['@', '?']).nth(1).unwrap().to_owned();
    Vendor {
        name,
        is_inline: true,
        settings: Box::new({
            let own = address.clone();
            move |server, address| {
                let url = server.url().replace(&own, address);
                let mut settings = pairs(&[
                    ("LEAD_INTAKE__MAIL__SMTP_URL", &url),
                    ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
                    ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com"),
                ]);
                if name == "notification" {
                    settings.extend(pairs(&[(
                        "LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO",
                        "sales@example.com",
                    )]));
                }
                settings
            }
        }),
        address,
        mend: |server| server.mend(),
        has: Box::new(|server, id, _| {
            let counts = server.counts();
            let ours: Vec<_> =
                counts.iter().filter(|(key, _)| key.contains(id)).map(|(_, times)| *times).collect();
            Has::under_one_key(ours.iter().sum(), ours.len(), "mail", "`Message-ID`")
        }),
        stand: server,
        secret: smtp::PASSWORD.to_owned(),
    }
}

fn at(words: &'static str, stage: Stage, what: What) -> Case<Smtp> {
    Case::new(words, move |server: &Smtp| server.next(stage, what.clone()))
}

fn silent(words: &'static str, stage: Stage) -> Case<Smtp> {
    Case::hanging(words, move |server: &Smtp| server.next(stage, What::Hang))
}

/// Everything that a mail server can do.
pub(super) fn to_the_team() -> Vec<Case<Smtp>> {
    vec![
        Case::refused(),
        at("421 for a greeting", Stage::Greeting, What::Say("421 4.3.2 Try later")),
        at("554 for a greeting", Stage::Greeting, What::Say("554 5.7.1 We do not talk to you")),
        at("The connection breaks before the greeting", Stage::Greeting, What::Close),
        silent("No greeting in time", Stage::Greeting),
        at("502 to EHLO", Stage::Hello, What::Say("502 5.5.1 Not known")),
        at("454 to AUTH", Stage::Auth, What::Say("454 4.7.0 Try later")),
        at("535 to AUTH: a wrong password", Stage::Auth, What::Say("535 5.7.8 Wrong credentials")),
        at("451 to MAIL", Stage::Sender, What::Say("451 4.3.0 Try later")),
        at("530 to MAIL: no login", Stage::Sender, What::Say("530 5.7.0 Authentication required")),
        at("550 to MAIL: not our sender", Stage::Sender, What::Say("550 5.7.1 Not your address")),
        at("552 to MAIL: too large", Stage::Sender, What::Say("552 5.3.4 Too big")),
        at("450 to RCPT: greylisted", Stage::Recipient, What::Say("450 4.2.0 Greylisted")),
        at("550 to RCPT: no such mailbox", Stage::Recipient, What::Say("550 5.1.1 No such mailbox")),
        at("552 to RCPT: too many recipients", Stage::Recipient, What::Say("552 5.5.3 Too many")),
        at("421 to RCPT", Stage::Recipient, What::Say("421 4.7.0 Goodbye")),
        at("451 to DATA", Stage::Data, What::Say("451 4.3.0 Try later")),
        at("554 to DATA", Stage::Data, What::Say("554 5.5.1 No")),
        at("250 to DATA, which makes no sense", Stage::Data, What::Say("250 2.0.0 Fine")),
        at("The connection breaks before the mail is sent", Stage::Data, What::Close),
        at("452 after the final dot", Stage::Dot, What::Say("452 4.3.1 Disk full")),
        at("554 after the final dot: spam", Stage::Dot, What::Say("554 5.7.1 Looks like spam")),
        at("354 after the final dot, which makes no sense", Stage::Dot, What::Say("354 Go on")),
        at("The connection breaks after the final dot, and the mail is not taken", Stage::Dot, What::Close),
        at(
            "The connection breaks after the final dot, and the mail is taken",
            Stage::Dot,
            What::AcceptThenClose,
        ),
        silent("No answer to the final dot in time", Stage::Dot),
        at("250 after the final dot, in pieces", Stage::Dot, What::Pieces(&["250 2.0", ".0 que", "ued\r\n"])),
        at("Half of an answer after the final dot, and the mail is taken", Stage::Dot, What::Bytes(b"25")),
        at("No goodbye to QUIT", Stage::Quit, What::Close),
    ]
}

/// The same server, and what is particular to a mail to whoever filled in the form.
pub(super) fn to_the_visitor() -> Vec<Case<Smtp>> {
    vec![
        Case::refused(),
        at("421 for a greeting", Stage::Greeting, What::Say("421 4.3.2 Try later")),
        at("535 to AUTH: a wrong password", Stage::Auth, What::Say("535 5.7.8 Wrong credentials")),
        at("450 to RCPT: greylisted", Stage::Recipient, What::Say("450 4.2.0 Greylisted")),
        at(
            "550 to RCPT: the visitor mistyped the address",
            Stage::Recipient,
            What::Say("550 5.1.1 No such mailbox"),
        ),
        at("452 after the final dot", Stage::Dot, What::Say("452 4.3.1 Disk full")),
        at("554 after the final dot: spam", Stage::Dot, What::Say("554 5.7.1 Looks like spam")),
        at(
            "The connection breaks after the final dot, and the mail is taken",
            Stage::Dot,
            What::AcceptThenClose,
        ),
        silent("No answer to the final dot in time", Stage::Dot),
    ]
}
