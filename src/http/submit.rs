//! `POST /api/submit`: a JSON, urlencoded or multipart body becomes a submission, is validated, and
//! handed to the intake.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::multipart::MultipartRejection;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::{Extension, RequestExt};
use serde_json::Value;

use super::answer::{Refusal, invalid, refusal, taken};
use super::{Site, form, guard, onward, page};
use crate::id::IdempotencyKey;
use crate::intake::{Answer, Arrival};
use crate::lead::validate::validate;
use crate::lead::{Submission, Visitor};

/// The longest `User-Agent` that is kept, in characters.
const USER_AGENT: usize = 500;

pub(super) async fn submit(
    State(site): State<Arc<Site>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    request: Request,
) -> Response {
    let html = page::is_wanted(request.headers());
    // Nothing of the request is kept while its lead is on its way: hundreds are at once. Boxed, for it is large.
    let arrival = match Box::pin(arrival(&site, peer, request)).await {
        Ok(arrival) => arrival,
        Err(refusal) => return shown(refusal, html),
    };
    let form = html.then(|| arrival.lead.form_name.clone());
    match (site.door.submit(arrival).await, form) {
        (Answer::Accepted(_) | Answer::Repeat(_), Some(form)) => {
            onward(site.forms.rules(&form).thank_you.as_deref().unwrap_or(page::THANK_YOU))
        }
        (answer, _) => taken(answer, |refusal| shown(refusal, html)),
    }
}

/// What a request brings to the door.
async fn arrival(
    site: &Site,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    request: Request,
) -> Result<Arrival, Refusal> {
    let headers = request.headers().clone();
    if !guard::may_submit(&headers, &site.settings.allowed_origins) {
        let what_to_do = "This website may not send leads here. Its owner can allow it with ALLOWED_ORIGINS.";
        return Err(refusal(StatusCode::FORBIDDEN, what_to_do));
    }
    let late = |_| refusal(StatusCode::REQUEST_TIMEOUT, "The body took too long to arrive. Send it again.");
    let submission =
        tokio::time::timeout(site.settings.body_timeout, read(request, &headers)).await.map_err(late)??;
    let key = key(&headers, &submission);
    let lead = validate(&submission, |form| site.forms.rules(form));
    match (lead, key) {
        (Ok(lead), Ok(key)) => {
            let address = peer.map(|Extension(ConnectInfo(peer))| {
                guard::client(peer, &headers, &site.settings.trusted_proxies)
            });
            let ip_hash = address.map(|address| site.address_hash.of(address));
            Ok(Arrival { lead, key, visitor: Visitor { ip_hash, user_agent: user_agent(&headers) } })
        }
        (lead, key) => {
            let mut errors = lead.err().unwrap_or_default();
            errors.form_errors.extend(key.err());
            Err((StatusCode::BAD_REQUEST, errors))
        }
    }
}

/// A refusal, for a script or for a person.
fn shown((status, errors): Refusal, html: bool) -> Response {
    if html { page::invalid(status, &errors) } else { invalid(status, &errors) }
}

/// The body as a submission, by its content type.
async fn read(request: Request, headers: &HeaderMap) -> Result<Submission, Refusal> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut post = match named.as_str() {
        "application/json" => {
            return Submission::from_json(&whole(request).await?)
                .map_err(|error| refusal(StatusCode::BAD_REQUEST, &error.to_string()));
        }
        "application/x-www-form-urlencoded" => {
            Submission::from_pairs(form::urlencoded(&whole(request).await?))
        }
        "multipart/form-data" => {
            let parts = Multipart::from_request(request, &()).await;
            let parts = parts.map_err(|error: MultipartRejection| unread(error.status()))?;
            Submission::from_pairs(form::multipart(parts).await?)
        }
        _ => {
            return Err(refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send application/json, application/x-www-form-urlencoded or multipart/form-data.",
            ));
        }
    };
    if let Some(page) = headers.get(header::REFERER).and_then(|value| value.to_str().ok()) {
        post.set_page(page);
    }
    Ok(post)
}

async fn whole(request: Request) -> Result<Bytes, Refusal> {
    request.extract().await.map_err(|error: BytesRejection| unread(error.status()))
}

/// A body that could not be read to its end.
pub(super) fn unread(status: StatusCode) -> Refusal {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        refusal(status, "The body is too large. Send less.")
    } else {
        refusal(StatusCode::BAD_REQUEST, "The body cannot be read as what its content type says.")
    }
}

/// The idempotency key: the header's, or else the body's.
fn key(headers: &HeaderMap, submission: &Submission) -> Result<Option<IdempotencyKey>, String> {
    let typed = match (headers.get("idempotency-key"), submission.submission_id()) {
        (Some(value), _) => value.to_str().map_err(|_| ()).map(str::to_owned),
        (None, Some(Value::String(text))) => Ok(text.clone()),
        (None, Some(Value::Null) | None) => return Ok(None),
        (None, Some(_)) => Err(()),
    };
    typed
        .and_then(|text| text.parse().map_err(|_| ()))
        .map(Some)
        .map_err(|()| "An idempotency key is 1 to 255 printable ASCII characters.".to_owned())
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(value.chars().filter(|it| !it.is_control()).take(USER_AGENT).collect())
}
