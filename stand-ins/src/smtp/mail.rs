//! A mail that was accepted, and enough of MIME to read it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A mail as it came.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The name that the client greeted with.
    pub hello: String,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// The bytes, unstuffed.
    pub raw: Vec<u8>,
    /// What was wrong with how it came.
    pub wrong: Vec<String>,
}

impl Mail {
    /// A header's value, unfolded and decoded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.text(), name)
    }

    /// How often a header stands there.
    pub fn count(&self, name: &str) -> usize {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().filter(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:"))).count()
    }

    /// The decoded text of the part of this kind: `text/plain` or `text/html`.
    pub fn part(&self, kind: &str) -> Option<String> {
        let text = self.text();
        let boundary =
            header(&text, "content-type")?.split("boundary=\"").nth(1)?.split('"').next()?.to_owned();
        text.split(&format!("--{boundary}")).find_map(|part| {
            let part = part.trim_start_matches("\r\n");
            let is_it = header(part, "content-type")?.starts_with(kind);
            let body = part.split_once("\r\n\r\n")?.1;
            is_it.then(|| decoded(body, header(part, "content-transfer-encoding").as_deref()))
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

fn header(text: &str, name: &str) -> Option<String> {
    let head = text.split("\r\n\r\n").next()?.replace("\r\n ", " ").replace("\r\n\t", " ");
    let value = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })?;
    Some(words(&value))
}

/// Decodes RFC 2047 words in base64 and UTF-8.
fn words(value: &str) -> String {
    let parts: Vec<_> = value.split_whitespace().collect();
    let mut text = String::new();
    let mut before_was_word = true;
    for part in parts {
        let word = part.strip_prefix("=?utf-8?b?").and_then(|rest| rest.strip_suffix("?="));
        let decoded = word
            .and_then(|word| STANDARD.decode(word).ok())
            .map(|it| String::from_utf8_lossy(&it).into_owned());
        if !(text.is_empty() || (before_was_word && decoded.is_some())) {
            text.push(' ');
        }
        before_was_word = decoded.is_some();
        text.push_str(&decoded.unwrap_or_else(|| part.to_owned()));
    }
    text
}

fn decoded(body: &str, encoding: Option<&str>) -> String {
    match encoding {
        Some("base64") => {
            let packed: String = body.split_whitespace().collect();
            String::from_utf8_lossy(&STANDARD.decode(packed).unwrap_or_default()).into_owned()
        }
        Some("quoted-printable") => {
            let joined = body.replace("=\r\n", "");
            let (mut bytes, mut rest) = (Vec::new(), joined.as_bytes());
            while let [first, tail @ ..] = rest {
                let code = tail
                    .get(..2)
                    .and_then(|two| std::str::from_utf8(two).ok())
                    .and_then(|two| u8::from_str_radix(two, 16).ok());
                match (first, code) {
                    (b'=', Some(code)) => {
                        bytes.push(code);
                        rest = &tail[2..];
                    }
                    _ => {
                        bytes.push(*first);
                        rest = tail;
                    }
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => body.to_owned(),
    }
}
