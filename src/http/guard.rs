//! Who may call, and from where: origins, proxies, and the visitor's address as a keyed hash.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, Method, header};
use ring::hmac;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::settings::{Network, Origin};

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Lets browsers send leads from the allowed websites (Fetch, CORS protocol).
pub(super) fn cors(allowed: &[Origin]) -> CorsLayer {
    let origins = if allowed.contains(&Origin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(allowed.iter().filter_map(|origin| match origin {
            Origin::Site(site) => HeaderValue::from_str(site).ok(),
            Origin::Any => None,
        }))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::HeaderName::from_static("idempotency-key")])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT)
}

/// Whether a submit may come from where it says it comes from. Without an `Origin` no browser page is
/// behind it; our own pages are known by the `Host` that they were loaded from.
pub(super) fn may_submit(headers: &HeaderMap, allowed: &[Origin]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    let fits = |allowed: &Origin| match allowed {
        Origin::Any => true,
        Origin::Site(site) => site == origin,
    };
    own || allowed.iter().any(fits)
}

/// The visitor's address: the peer's, or, when that is a proxy we trust, the nearest one before it that
/// is not. `X-Forwarded-For` goes before `Forwarded` (RFC 7239).
pub(super) fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.ip().to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let mut way = listed(headers, "x-forwarded-for", |element| Some(element));
    if way.is_empty() {
        way = listed(headers, "forwarded", |element| {
            element.split(';').find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                name.eq_ignore_ascii_case("for").then_some(value)
            })
        });
    }
    let mut nearest = peer;
    for hop in way.into_iter().rev() {
        // What cannot be read ends the way: nothing before it can be believed.
        let Some(address) = hop else { break };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

fn listed(headers: &HeaderMap, name: &str, part: fn(&str) -> Option<&str>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(|element| part(element.trim()).and_then(address)).collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `"[2001:db8::1]:80"`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let with_port = || text.parse::<SocketAddr>().map(|socket| socket.ip());
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    text.parse::<IpAddr>()
        .or_else(|_| with_port())
        .or_else(|_| bare())
        .ok()
        .map(|address| address.to_canonical())
}

/// Turns addresses into what is kept of them: the same visitor has the same hash, and nobody without
/// the key can tell the address.
#[derive(Clone)]
pub struct AddressHash(hmac::Key);

impl AddressHash {
    /// The hash under `key`.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// 32 hexadecimal digits.
    pub(super) fn of(&self, address: IpAddr) -> String {
        let tag = hmac::sign(&self.0, address.to_string().as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&tag.as_ref()[..16]);
        format!("{:032x}", u128::from_be_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[(&'static str, &str)], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in forwarded {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<_> = trusted.iter().map(|it| Network::try_from((*it).to_owned()).unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let xff = "x-forwarded-for";
        assert_eq!(from("9.9.9.9:1", &[(xff, "1.1.1.1")], &[]), "9.9.9.9");
        assert_eq!(from("10.0.0.1:1", &[(xff, "1.1.1.1")], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(from("10.0.0.1:1", &[(xff, "6.6.6.6, 1.1.1.1, 10.0.0.2")], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(from("10.0.0.1:1", &[(xff, "6.6.6.6"), (xff, "1.1.1.1")], &["10.0.0.1"]), "1.1.1.1");
        assert_eq!(from("10.0.0.1:1", &[(xff, "1.1.1.1, nonsense")], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(from("[::ffff:10.0.0.1]:1", &[(xff, "1.1.1.1")], &["10.0.0.1"]), "1.1.1.1");
        let forwarded = ("forwarded", "for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.3");
        assert_eq!(from("10.0.0.1:1", &[forwarded], &["10.0.0.0/8"]), "2001:db8::1");
    }

    #[test]
    fn an_origin_is_ours_allowed_or_refused() {
        let asks = |origin: Option<&str>, allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("leads.test:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            let allowed: Vec<_> =
                allowed.iter().map(|it| Origin::try_from((*it).to_owned()).unwrap()).collect();
            may_submit(&headers, &allowed)
        };
        assert!(asks(None, &[]));
        assert!(asks(Some("https://leads.test:8080"), &[]));
        assert!(asks(Some("https://shop.test"), &["https://shop.test/"]));
        assert!(asks(Some("null"), &["*"]));
        assert!(!asks(Some("null"), &["https://shop.test"]));
        assert!(!asks(Some("https://shop.test.evil.test"), &["https://shop.test"]));
        assert!(!asks(Some("http://shop.test"), &["https://shop.test"]));
    }
}
