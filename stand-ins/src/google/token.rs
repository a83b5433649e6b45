//! The token endpoint: service accounts trade a signed JWT for an access token (RFC 7523).

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

/// A key that is worth nothing: it opens this stand-in alone.
pub(super) const KEY: &str = include_str!("test_key.pem");

/// The account that the key belongs to.
pub(super) const ACCOUNT: &str = "leads@stand-in.iam.gserviceaccount.com";

const SCOPE: &str = "https://www.googleapis.com/auth/spreadsheets";

/// How far our clocks may differ, in seconds.
const SKEW: i64 = 300;

/// What a token request meets instead of a token.
#[derive(Clone, Debug)]
pub enum TokenFault {
    /// This status and body.
    Answer(u16, String),
    /// A token without `expires_in`.
    NoExpiry,
    /// No answer at all.
    Hang,
    /// The connection is closed.
    Drop,
}

impl TokenFault {
    /// A revoked or deleted key.
    pub fn invalid_grant() -> Self {
        let body = json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
        Self::Answer(400, body.to_string())
    }

    /// An outage with a JSON body, which yup-oauth2 would take for an answer.
    pub fn unavailable() -> Self {
        let body = json!({"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}});
        Self::Answer(503, body.to_string())
    }
}

/// Checks a token request; what is wrong with it, as Google says it.
pub(super) fn grant(body: &[u8], audiences: &[String]) -> Result<(), Value> {
    let form: HashMap<String, String> = String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            let value = value.replace('+', " ");
            (name.to_owned(), percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
        })
        .collect();
    let refuse = |error: &str, why: &str| json!({"error": error, "error_description": why});
    if form.get("grant_type").map(String::as_str) != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err(refuse("unsupported_grant_type", "Invalid grant_type"));
    }
    let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
    let claims = claims(assertion).ok_or_else(|| refuse("invalid_grant", "Invalid JWT Signature."))?;
    let now = i64::try_from(UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX);
    let number = |name: &str| claims[name].as_i64().unwrap_or(0);
    let short =
        number("exp") - number("iat") <= 3_600 && (number("iat") - now).abs() <= SKEW && number("exp") > now;
    if !short {
        return Err(refuse(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
        ));
    }
    if claims["iss"] != ACCOUNT {
        return Err(refuse("invalid_grant", "Invalid grant: account not found"));
    }
    if !audiences.iter().any(|audience| claims["aud"] == audience.as_str()) {
        return Err(refuse("invalid_grant", "Invalid JWT: Failed audience check."));
    }
    if claims["scope"] != SCOPE {
        return Err(refuse("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
    }
    Ok(())
}

/// The claims of a JWT whose signature is right.
fn claims(jwt: &str) -> Option<Value> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let pem: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).ok()?).ok()?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref().to_vec());
    public.verify(signed.as_bytes(), &decode(signature)?).ok()?;
    serde_json::from_slice(&decode(signed.split('.').nth(1)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(body: &[u8]) -> Result<(), Value> {
        grant(body, &[AUDIENCE.to_owned()])
    }

    const AUDIENCE: &str = "http://127.0.0.1:1/token";

    /// A token request as yup-oauth2 makes it, its claims changed by `change`.
    fn request(change: impl FnOnce(&mut Value)) -> String {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut claims = json!({"iss": ACCOUNT, "aud": AUDIENCE, "iat": now, "exp": now + 3_595, "sub": null, "scope": SCOPE});
        change(&mut claims);
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE.encode(bytes);
        let head = encode(br#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
        let pem: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        pair.sign(&ring::signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        let assertion = format!("{signed}.{}", encode(&signature)).replace('=', "%3D");
        format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}")
    }

    #[test]
    fn a_signed_request_is_granted_padding_and_all() {
        assert_eq!(granted(request(|_| ()).as_bytes()), Ok(()));
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said_as_google_says_it() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str, &str); 6] = [
            (|claims| claims["iss"] = json!("eve@example.com"), "invalid_grant", "account not found"),
            (|claims| claims["aud"] = json!("http://elsewhere/token"), "invalid_grant", "audience"),
            (
                |claims| claims["scope"] = json!("https://www.googleapis.com/auth/drive"),
                "invalid_scope",
                "scope",
            ),
            (
                |claims| claims["exp"] = json!(claims["iat"].as_u64().unwrap() + 3_601),
                "invalid_grant",
                "short-lived",
            ),
            (
                |claims| claims["iat"] = json!(claims["iat"].as_u64().unwrap() - 1_800),
                "invalid_grant",
                "short-lived",
            ),
            (
                |claims| {
                    claims["iat"] = json!(claims["iat"].as_u64().unwrap() - 200);
                    claims["exp"] = json!(claims["iat"].as_u64().unwrap() + 100);
                },
                "invalid_grant",
                "short-lived",
            ),
        ];
        for (change, error, why) in cases {
            let refused = granted(request(change).as_bytes()).unwrap_err();
            assert_eq!(refused["error"], error, "{refused}");
            assert!(refused["error_description"].as_str().unwrap().contains(why), "{refused}");
        }
    }

    #[test]
    fn a_request_that_was_tampered_with_has_a_wrong_signature() {
        let [one, two] = [request(|_| ()), request(|claims| claims["exp"] = claims["iat"].clone())];
        let swapped = format!("{}.{}", one.rsplit_once('.').unwrap().0, two.rsplit_once('.').unwrap().1);
        for body in [swapped.as_str(), &one[..one.len() - 20], "assertion=x", ""] {
            let refused = granted(body.as_bytes()).unwrap_err();
            assert!(
                ["invalid_grant", "unsupported_grant_type"].contains(&refused["error"].as_str().unwrap())
            );
        }
        assert_eq!(granted(swapped.as_bytes()).unwrap_err()["error_description"], "Invalid JWT Signature.");
    }
}
