//! The texts of the mails: a subject, a text and an HTML page each, made from templates that escape what
//! a visitor typed.

use std::path::Path;

use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};
use serde_json::Value as Json;

use crate::lead::Lead;

/// The built-in templates by file name.
const BUILT_IN: [(&str, &str); 6] = [
    ("notification.subject.txt", include_str!("../../../config/templates/notification.subject.txt")),
    ("notification.txt", include_str!("../../../config/templates/notification.txt")),
    ("notification.html", include_str!("../../../config/templates/notification.html")),
    ("confirmation.subject.txt", include_str!("../../../config/templates/confirmation.subject.txt")),
    ("confirmation.txt", include_str!("../../../config/templates/confirmation.txt")),
    ("confirmation.html", include_str!("../../../config/templates/confirmation.html")),
];

/// The three files of a mail.
const PARTS: [&str; 3] = ["subject.txt", "txt", "html"];

/// The longest subject, in characters: a longer word would break the header's line (RFC 5322 section 2.1.1).
const LONGEST_SUBJECT: usize = 200;

/// All templates, compiled.
pub(super) struct Templates(Environment<'static>);

/// What a mail says.
pub(super) struct Texts {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

impl Templates {
    /// The built-in templates, and what a folder has in their place or besides.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, String> {
        let mut environment = Environment::new();
        // A block on a line of its own leaves no empty line behind.
        let mut syntax = SyntaxConfig::builder();
        environment.set_syntax(
            syntax.trim_blocks(true).lstrip_blocks(true).build().map_err(|error| error.to_string())?,
        );
        for (name, text) in BUILT_IN {
            environment.add_template(name, text).map_err(|error| format!("{name}: {error}"))?;
        }
        let Some(folder) = folder else { return Ok(Self(environment)) };
        let unread = |error: std::io::Error| format!("`{}` cannot be read: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !PARTS.iter().any(|part| name.ends_with(&format!(".{part}"))) {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(unread)?;
            environment.add_template_owned(name.clone(), text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(Self(environment))
    }

    /// Whether there is a mail of this name.
    pub(super) fn has(&self, mail: &str) -> Result<(), String> {
        match PARTS
            .iter()
            .map(|part| format!("{mail}.{part}"))
            .find(|name| self.0.get_template(name).is_err())
        {
            Some(name) => Err(format!("there is no template {name}")),
            None => Ok(()),
        }
    }

    /// Fills a mail in.
    pub(super) fn fill(&self, mail: &str, lead: &Lead, sender: &str) -> Result<Texts, minijinja::Error> {
        let values = values(lead, sender);
        let part = |part: &str| self.0.get_template(&format!("{mail}.{part}"))?.render(&values);
        let subject: String =
            part("subject.txt")?.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
        let subject: String =
            subject.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST_SUBJECT).collect();
        Ok(Texts { subject, text: clean(&part("txt")?), html: clean(&part("html")?) })
    }
}

/// Bare carriage returns and NULs have no place in a mail (RFC 5321 section 4.1.1.4).
fn clean(text: &str) -> String {
    text.chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t')).collect()
}

/// What templates can speak of.
fn values(lead: &Lead, sender: &str) -> Value {
    let submitted = &lead.submitted;
    let zone = TimeZone::get(&submitted.timezone).unwrap_or(TimeZone::UTC);
    let time = |at: jiff::Timestamp| zone.to_datetime(at).strftime("%-d %B %Y, %H:%M").to_string();
    let fields = submitted
        .form_data
        .iter()
        .map(|(name, value)| context! { name => label(name), value => plain(value) });
    let source = &submitted.source;
    let campaign = [
        ("Source", &source.utm_source),
        ("Medium", &source.utm_medium),
        ("Campaign", &source.utm_campaign),
        ("Content", &source.utm_content),
        ("Term", &source.utm_term),
    ];
    let campaign =
        campaign.into_iter().filter_map(|(name, value)| Some(context! { name, value => value.as_ref()? }));
    context! {
        zone => submitted.timezone.as_str(),
        id => lead.id.to_string(),
        name => submitted.name.as_str(),
        first_name => submitted.name.split_whitespace().next().unwrap_or_default(),
        email => submitted.email.as_str(),
        phone => submitted.phone.as_ref().map(crate::lead::Phone::as_str),
        form => label(submitted.form_name.as_str()),
        page => source.url.as_str(),
        referrer => source.referrer.as_deref(),
        campaign => campaign.collect::<Vec<_>>(),
        fields => fields.collect::<Vec<_>>(),
        consent => submitted.consent_given,
        consent_time => submitted.consent_timestamp.map(time),
        received => time(lead.received_at),
        sender,
    }
}

/// `company_size` as a person would write it.
fn label(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.trim().chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn plain(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Bool(yes) => if *yes { "Yes" } else { "No" }.to_owned(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
