//! The types that a lead's fields are parsed into, once.

use std::fmt;

use ring::digest::{SHA256, digest};
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};
use serde::{Deserialize, Serialize};
use validator::ValidateEmail;

/// An e-mail address, kept as typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

/// A phone number: E.164 where the form's region is known, otherwise as typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(String);

impl Email {
    /// An address that a mail can be sent to over the public net: a plain ASCII local part and a
    /// domain with a dot in it, no literal (RFC 5321 section 4.1.2, less its quoted forms).
    ///
    /// # Errors
    /// A sentence for the visitor.
    pub fn parse(typed: &str) -> Result<Self, String> {
        let typed = typed.trim();
        let wrong = || "Enter a valid e-mail address, such as name@example.com.".to_owned();
        let email = Self(typed.to_owned());
        let (local, domain) = email.parts().ok_or_else(wrong)?;
        let plain = local.is_ascii() && !local.contains('"') && local.len() <= 64;
        let public = domain.contains('.') && domain.parse::<std::net::IpAddr>().is_err();
        let fits = plain && public && local.len() + domain.len() < 254 && typed.chars().all(is_visible);
        (fits && format!("{local}@{domain}").validate_email()).then_some(email).ok_or_else(wrong)
    }

    /// As typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For an envelope and for comparing: the domain in ASCII and lower case (RFC 5891).
    pub fn ascii(&self) -> String {
        self.parts().map_or_else(|| self.0.clone(), |(local, domain)| format!("{local}@{domain}"))
    }

    /// A hash that is the same however the address is capitalised, and does not tell whose it is: for
    /// remembering an address. SHA-256 in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, self.ascii().to_lowercase().as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The mailbox without a tag: what stands behind a `+` most providers ignore (RFC 5233).
    pub fn without_tag(&self) -> Self {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        match local.split_once('+') {
            Some((mailbox, _)) if !mailbox.is_empty() => Self(format!("{mailbox}@{domain}")),
            _ => self.clone(),
        }
    }

    fn parts(&self) -> Option<(&str, String)> {
        let (local, domain) = self.0.rsplit_once('@')?;
        let domain = idna::domain_to_ascii_strict(domain).ok()?;
        (!local.is_empty()).then_some((local, domain))
    }
}

impl Phone {
    /// A number: E.164 when `region` (ISO 3166, such as `GB`) is known, otherwise as typed.
    ///
    /// # Errors
    /// A sentence for the visitor.
    pub fn parse(typed: &str, region: Option<&str>) -> Result<Self, String> {
        // Address books put marks around a number, so that it reads from left to right.
        let typed: String = typed.chars().filter(|it| !is_direction(*it)).collect();
        let typed = typed.trim();
        if typed.chars().count() > 50 || !typed.chars().all(is_visible) {
            return Err("Enter a phone number of at most 50 characters.".to_owned());
        }
        let Some(region) = region else { return Ok(Self(typed.to_owned())) };
        PHONE_NUMBER_UTIL
            .parse(typed, region.parse::<Region>().ok())
            .ok()
            .filter(|number| PHONE_NUMBER_UTIL.is_valid_number(number))
            .map(|number| Self(number.format_as(PhoneNumberFormat::E164).into_owned()))
            .ok_or_else(|| {
                "Enter a valid phone number, with its country code if it is from abroad.".to_owned()
            })
    }

    /// E.164, or as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Neither a control nor a character that shows nothing and hides something.
pub(super) fn is_visible(it: char) -> bool {
    !it.is_control()
        && !is_direction(it)
        && !matches!(it, '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A mark that says in which direction text runs (Unicode Standard Annex 9, section 2).
pub(super) fn is_direction(it: char) -> bool {
    matches!(it, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The joiner and the non-joiner, without which Persian, Sinhala or Malayalam names cannot be written (UAX 31, section 2.3).
pub(super) fn is_joiner(it: char) -> bool {
    matches!(it, '\u{200c}' | '\u{200d}')
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_typed_and_compared_in_ascii() {
        let email = Email::parse(" Ada@Bücher.Example ").unwrap();
        assert_eq!(
            (email.as_str(), email.ascii().as_str()),
            ("Ada@Bücher.Example", "Ada@xn--bcher-kva.example")
        );
        for wrong in [
            "",
            "ada",
            "@x.test",
            "a@localhost",
            "a@127.0.0.1",
            "a@[::1]",
            "\"a b\"@x.test",
            "a@x.test,b@y.test",
            "<a@x.test>",
            "a\r\nb@x.test",
            "a\u{200b}@x.test",
            "é@x.test",
            "a@x_y.test",
        ] {
            assert!(Email::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_known_region_makes_it_e164() {
        assert_eq!(Phone::parse("020 7946 0018", Some("GB")).unwrap().as_str(), "+442079460018");
        assert_eq!(Phone::parse("+1 650 253 0000", Some("GB")).unwrap().as_str(), "+16502530000");
        assert!(Phone::parse("12", Some("GB")).is_err());
        assert_eq!(Phone::parse("call 12", None).unwrap().as_str(), "call 12");
        let copied = "\u{202a}+44 20 7946 0018\u{202c}";
        assert_eq!(Phone::parse(copied, Some("GB")).unwrap().as_str(), "+442079460018");
        assert_eq!(Phone::parse(copied, None).unwrap().as_str(), "+44 20 7946 0018");
    }
}
