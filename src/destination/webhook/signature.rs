//! The symmetric signature of Standard Webhooks 1.0.0: `v1,` and the base64 HMAC-SHA256 over
//! `id.timestamp.body`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// A secret's length, in bytes, as the standard has it.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// A signing key.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// Reads `whsec_…`, or the base64 alone.
    ///
    /// # Errors
    /// A sentence that does not show the secret.
    pub fn parse(secret: &str) -> Result<Self, &'static str> {
        let secret = secret.trim();
        let bytes = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap_or(secret))
            .map_err(|_| "this is no signing secret: `whsec_` and base64")?;
        if !LENGTH.contains(&bytes.len()) {
            return Err("a signing secret holds 24 to 64 bytes");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Signs the very bytes that are sent; `seconds` is the Unix time of this attempt.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one that the specification's own libraries are tested with.
    #[test]
    fn it_signs_as_the_published_vector_says() {
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        for secret in ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
            let signature =
                Key::parse(secret).unwrap().sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
            assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        }
    }

    #[test]
    fn a_secret_is_24_to_64_bytes() {
        let of = |bytes: usize| Key::parse(&format!("whsec_{}", STANDARD.encode(vec![7; bytes])));
        assert!(of(24).is_ok() && of(64).is_ok());
        assert!(of(23).is_err() && of(65).is_err() && Key::parse("whsec_?").is_err());
    }
}
