//! From each vendor's JSON to one shape, and what the vendor would not like about it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Call, Vendor};

/// A mail that was taken.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Who took it.
    pub vendor: Vendor,
    /// Who it is from, as it was written; at SendGrid `name <address>` of its parts.
    pub from: String,
    /// Its one recipient.
    pub to: String,
    /// Who gets the answers.
    pub reply_to: Option<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The page.
    pub html: String,
    /// Further headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The delivery: a tag at Resend, metadata at Postmark, a custom argument at SendGrid.
    pub delivery: String,
    /// Resend's idempotency key.
    pub key: Option<String>,
    /// The whole body.
    pub raw: Vec<u8>,
    /// Taken, and never sent on: the recipient is suppressed.
    pub dropped: bool,
}

/// The most characters of an idempotency key.
const LONGEST_KEY: usize = 256;

/// Reads a mail.
pub(super) fn mail(vendor: Vendor, call: &Call) -> Result<Mail, String> {
    let header = |name: &str| call.headers.get(name).map(String::as_str).unwrap_or_default();
    if !header("content-type").starts_with("application/json") {
        return Err("the body should be application/json".to_owned());
    }
    if header("user-agent").is_empty() {
        return Err("a client should say who it is".to_owned());
    }
    let body: Value = serde_json::from_slice(&call.raw).map_err(|error| error.to_string())?;
    let body = body.as_object().ok_or("the body should be an object")?;
    let mut mail = match vendor {
        Vendor::Resend => resend(body),
        Vendor::Postmark => postmark(body),
        Vendor::SendGrid => sendgrid(body),
    }?;
    if mail.subject.is_empty() || mail.text.is_empty() || mail.html.is_empty() {
        return Err("a subject, a text and a page are needed".to_owned());
    }
    if mail.to.is_empty() || !mail.to.contains('@') || mail.to.contains([',', ' ', '<']) {
        return Err("one plain address is needed".to_owned());
    }
    if vendor == Vendor::Resend {
        let key = call.headers.get("idempotency-key").ok_or("the key is missing")?;
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err("a key is 1 to 256 characters".to_owned());
        }
        mail.key = Some(key.clone());
    }
    mail.raw.clone_from(&call.raw);
    Ok(mail)
}

fn resend(body: &Map<String, Value>) -> Result<Mail, String> {
    only(body, &["from", "to", "subject", "text", "html", "reply_to", "headers", "tags"])?;
    let [tag] = list(body, "tags")? else { return Err("one tag is enough".to_owned()) };
    let plain = |it: char| it.is_ascii_alphanumeric() || "_-".contains(it);
    let (name, value) = (text(object(tag)?, "name")?, text(object(tag)?, "value")?);
    if name != "delivery" || !value.chars().all(plain) {
        return Err("a tag is letters, digits, _ and -".to_owned());
    }
    let [to] = list(body, "to")? else { return Err("one recipient a request".to_owned()) };
    Ok(Mail {
        vendor: Vendor::Resend,
        from: text(body, "from")?,
        to: to.as_str().unwrap_or_default().to_owned(),
        reply_to: body.get("reply_to").map(|_| text(body, "reply_to")).transpose()?,
        subject: text(body, "subject")?,
        text: text(body, "text")?,
        html: text(body, "html")?,
        headers: headers(body.get("headers"))?,
        delivery: value,
        key: None,
        raw: Vec::new(),
        dropped: false,
    })
}

fn postmark(body: &Map<String, Value>) -> Result<Mail, String> {
    only(
        body,
        &[
            "From",
            "To",
            "ReplyTo",
            "Subject",
            "TextBody",
            "HtmlBody",
            "MessageStream",
            "Headers",
            "Metadata",
            "TrackOpens",
            "TrackLinks",
        ],
    )?;
    if text(body, "MessageStream")? != "outbound" {
        return Err("there is no such stream".to_owned());
    }
    let mut headers = BTreeMap::new();
    for header in list(body, "Headers")? {
        let header = object(header)?;
        only(header, &["Name", "Value"])?;
        headers.insert(text(header, "Name")?.to_ascii_lowercase(), text(header, "Value")?);
    }
    let metadata = object(body.get("Metadata").ok_or("the metadata is missing")?)?;
    let delivery = text(metadata, "delivery")?;
    if delivery.len() > 80 {
        return Err("metadata is at most 80 characters".to_owned());
    }
    Ok(Mail {
        vendor: Vendor::Postmark,
        from: text(body, "From")?,
        to: text(body, "To")?,
        reply_to: body.get("ReplyTo").map(|_| text(body, "ReplyTo")).transpose()?,
        subject: text(body, "Subject")?,
        text: text(body, "TextBody")?,
        html: text(body, "HtmlBody")?,
        headers,
        delivery,
        key: None,
        raw: Vec::new(),
        dropped: false,
    })
}

fn sendgrid(body: &Map<String, Value>) -> Result<Mail, String> {
    only(
        body,
        &[
            "personalizations",
            "from",
            "reply_to",
            "subject",
            "content",
            "headers",
            "custom_args",
            "tracking_settings",
        ],
    )?;
    let [one] = list(body, "personalizations")? else { return Err("one personalization".to_owned()) };
    let [to] = list(object(one)?, "to")? else { return Err("one recipient a request".to_owned()) };
    let [plain, page] = list(body, "content")? else { return Err("a text and a page".to_owned()) };
    let (plain, page) = (object(plain)?, object(page)?);
    if text(plain, "type")? != "text/plain" || text(page, "type")? != "text/html" {
        return Err("the text comes before the page".to_owned());
    }
    let from = object(body.get("from").ok_or("`from` is missing")?)?;
    let address = text(from, "email")?;
    let from = match from.get("name") {
        Some(_) => format!("{} <{address}>", text(from, "name")?),
        None => address,
    };
    let reply_to = body.get("reply_to").map(|it| text(object(it)?, "email")).transpose()?;
    let arguments = object(body.get("custom_args").ok_or("the custom arguments are missing")?)?;
    Ok(Mail {
        vendor: Vendor::SendGrid,
        from,
        to: text(object(to)?, "email")?,
        reply_to,
        subject: text(body, "subject")?,
        text: text(plain, "value")?,
        html: text(page, "value")?,
        headers: headers(body.get("headers"))?,
        delivery: text(arguments, "delivery")?,
        key: None,
        raw: Vec::new(),
        dropped: false,
    })
}

fn only(body: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("there is no field {name}")),
        None => Ok(()),
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| "an object is due".to_owned())
}

fn list<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], String> {
    body.get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| format!("{name} should be a list"))
}

fn text(body: &Map<String, Value>, name: &str) -> Result<String, String> {
    body.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{name} should be text"))
}

fn headers(value: Option<&Value>) -> Result<BTreeMap<String, String>, String> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let all = object(value)?;
    all.keys().map(|name| Ok((name.to_ascii_lowercase(), text(all, name)?))).collect()
}
