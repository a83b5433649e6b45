//! A request and its answer: who may call, what goes wrong, and then what the spreadsheet does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::calls::{Call, Kind, Refusal, refusal};
use super::{Fault, Logged, MINUTE, Shared, State, Tab, TokenFault, token};
use crate::serve::{Dropped, StalledBody};

type Reply = Response<BoxBody<Bytes, Dropped>>;

pub(super) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    if head.uri.path() == "/token" {
        return grant(&shared, &body).await;
    }
    let authorization =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let query = head.uri.query().map(form).unwrap_or_default();
    let spreadsheet = head.uri.path().strip_prefix("/v4/spreadsheets/");
    let parsed = spreadsheet.and_then(|rest| {
        let end = rest.find(['/', ':']).unwrap_or(rest.len());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some((rest[..end].to_owned(), Call::read(head.method.as_str(), &rest[end..], &query, body)?))
    });
    let Some((id, call)) = parsed else {
        return Ok(reply(
            404,
            "text/html",
            "<html><title>Error 404 (Not Found)!!1</title></html>".to_owned(),
        ));
    };
    let (kind, rows) = (call.kind(), call.rows());
    let fault = shared.faults.take_if(|(on, _)| on.fits(kind)).map(|(_, fault)| fault);
    let latency = shared.state().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if let Some(Fault::Slow(wait)) = &fault {
        tokio::time::sleep(*wait).await;
    }
    if let Some(Fault::Wait) = &fault {
        shared.seen.send_modify(|seen| seen.waited += 1);
        shared.gate.acquire().await.map_err(|_| Dropped)?.forget();
    }
    let reply = met(&shared, authorization.as_deref(), &id, call, fault.as_ref());
    let status = match &reply {
        Met::Reply(reply) => Some(reply.status().as_u16()),
        Met::Closed | Met::Silent => None,
    };
    shared.seen.send_modify(|seen| seen.calls.push(Logged { kind, path, rows, status }));
    match reply {
        Met::Reply(reply) => Ok(reply),
        Met::Closed => Err(Dropped),
        Met::Silent => std::future::pending().await,
    }
}

/// What becomes of a call.
enum Met {
    Reply(Reply),
    Closed,
    Silent,
}

fn met(shared: &Shared, authorization: Option<&str>, id: &str, mut call: Call, fault: Option<&Fault>) -> Met {
    let mut state = shared.state();
    let refused = |(code, body): Refusal| Met::Reply(json_reply(code, &body));
    if let Err(refusal) = state.admit(authorization, id, call.kind()) {
        return refused(refusal);
    }
    match fault {
        Some(Fault::Status(code)) => return refused(refusal(*code, message(*code))),
        Some(Fault::Refuse(code, why)) => return refused(refusal(*code, why)),
        Some(Fault::Html(code)) => {
            return Met::Reply(reply(*code, "text/html", "<html><title>Error</title></html>".to_owned()));
        }
        Some(Fault::Quota) => return refused(quota(call.kind())),
        Some(Fault::QuotaFor(seconds)) => {
            let (code, body) = quota(call.kind());
            let mut reply = json_reply(code, &body);
            reply.headers_mut().insert("retry-after", (*seconds).into());
            return Met::Reply(reply);
        }
        Some(Fault::Drop) => return Met::Closed,
        Some(Fault::Hang) => return Met::Silent,
        Some(Fault::Late) => {
            state.late.push(call);
            return Met::Closed;
        }
        _ => {}
    }
    if let (Some(Fault::LoseRow), Call::Append { body, .. }) = (fault, &mut call)
        && let Some(values) = body["values"].as_array_mut()
    {
        values.pop();
    }
    if let Some(Fault::TurnFirst) = fault {
        state.book.tabs.iter_mut().for_each(Tab::turn);
    }
    if let Err(refusal) = state.permits(&call) {
        return refused(refusal);
    }
    let applied = match (fault, &call) {
        (Some(Fault::PutAt(place)), Call::Append { body, .. }) => state.book.put_at(place, body),
        (Some(Fault::Race(row)), Call::Append { range, insert, body }) => {
            state.book.race(range, *insert, body, row)
        }
        _ => state.book.apply(&call),
    };
    let done = match applied {
        Ok(done) => done,
        Err(refusal) => return refused(refusal),
    };
    match fault {
        Some(Fault::ApplyThenStatus(code)) => refused(refusal(*code, message(*code))),
        Some(Fault::ApplyThenDrop) => Met::Closed,
        Some(Fault::ApplyThenHang) => Met::Silent,
        Some(Fault::ApplyThenCut) => {
            Met::Reply(reply(200, "application/json", "{\"spreadsheetId\":\"st".to_owned()))
        }
        Some(Fault::ApplyThenStall) => Met::Reply(stalled(&done)),
        Some(Fault::ApplyThenEmpty) => Met::Reply(json_reply(200, &json!({}))),
        _ => Met::Reply(json_reply(200, &done)),
    }
}

impl State {
    /// Token, share, spreadsheet and quota.
    fn admit(&mut self, authorization: Option<&str>, id: &str, kind: Kind) -> Result<(), Refusal> {
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(refusal(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
            ));
        };
        if self.tokens.get(token).is_none_or(|ends| *ends < Instant::now()) {
            return Err(refusal(401, message(401)));
        }
        if id != self.book.id {
            return Err(refusal(404, message(404)));
        }
        if !self.is_shared || (kind != Kind::Read && !self.is_writable) {
            return Err(refusal(403, message(403)));
        }
        let Some((reads, writes)) = self.quota else { return Ok(()) };
        let (times, limit) =
            if kind == Kind::Read { (&mut self.reads, reads) } else { (&mut self.writes, writes) };
        let now = Instant::now();
        while times.front().is_some_and(|time| now.duration_since(*time) >= MINUTE) {
            times.pop_front();
        }
        if times.len() >= limit {
            return Err(quota(kind));
        }
        times.push_back(now);
        Ok(())
    }
}

impl State {
    /// Whether the tab may be written to, and no row is one that Google will not have.
    fn permits(&self, call: &Call) -> Result<(), Refusal> {
        let (tabs, body) = self.book.written(call);
        if let Some((_, code)) = self.protected.iter().find(|(title, _)| tabs.contains(title)) {
            return Err(refusal(
                *code,
                "You are trying to edit a protected cell or object. Please contact the spreadsheet owner to remove protection if you need to edit.",
            ));
        }
        match self.refused.iter().find(|text| body.contains(text.as_str())) {
            Some(_) => Err(refusal(400, message(400))),
            None => Ok(()),
        }
    }
}

async fn grant(shared: &Shared, body: &[u8]) -> Result<Reply, Dropped> {
    shared.seen.send_modify(|seen| seen.token_requests += 1);
    let fault = shared.token_faults.take();
    match fault {
        Some(TokenFault::Answer(code, body)) => return Ok(reply(code, "application/json", body)),
        Some(TokenFault::Hang) => return std::future::pending().await,
        Some(TokenFault::Drop) => return Err(Dropped),
        Some(TokenFault::NoExpiry) | None => {}
    }
    let audiences: Vec<_> = shared.state().names.iter().map(|name| format!("{name}/token")).collect();
    if let Err(error) = token::grant(body, &audiences) {
        return Ok(json_reply(400, &error));
    }
    let mut state = shared.state();
    state.issued += 1;
    let token = format!("ya29.stand-in-{}", state.issued);
    state.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(3_600));
    let mut answer = json!({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"});
    if let (Some(TokenFault::NoExpiry), Some(fields)) = (fault, answer.as_object_mut()) {
        fields.remove("expires_in");
    }
    Ok(json_reply(200, &answer))
}

fn message(code: u16) -> &'static str {
    match code {
        400 => "Invalid values[1][1]: list_value",
        401 => {
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
        }
        403 => "The caller does not have permission",
        404 => "Requested entity was not found.",
        503 => "The service is currently unavailable.",
        _ => "Internal error encountered.",
    }
}

pub(super) fn quota(kind: Kind) -> Refusal {
    let (word, metric, limit) = match kind {
        Kind::Read => ("Read", "read_requests", "ReadRequestsPerMinutePerUser"),
        Kind::Append | Kind::Write => ("Write", "write_requests", "WriteRequestsPerMinutePerUser"),
    };
    let text = format!(
        "Quota exceeded for quota metric '{word} requests' and limit '{word} requests per minute per user' of service 'sheets.googleapis.com' for consumer 'project_number:1'."
    );
    let (code, mut body) = refusal(429, &text);
    body["error"]["details"] = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com",
        "metadata": {"service": "sheets.googleapis.com", "consumer": "projects/1", "quota_limit": limit,
            "quota_metric": format!("sheets.googleapis.com/{metric}"), "quota_limit_value": "60"},
    }]);
    (code, body)
}

/// Form-decodes a query.
fn form(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// A 200 that promises its whole body and gives half of it.
fn stalled(body: &Value) -> Reply {
    let text = body.to_string();
    let mut reply = Response::new(StalledBody { text: text.into(), is_begun: false }.boxed());
    let kind = hyper::header::HeaderValue::from_static("application/json; charset=UTF-8");
    reply.headers_mut().insert("content-type", kind);
    reply
}

fn json_reply(code: u16, body: &Value) -> Reply {
    reply(code, "application/json; charset=UTF-8", body.to_string())
}

fn reply(code: u16, kind: &'static str, body: String) -> Reply {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    reply
}
