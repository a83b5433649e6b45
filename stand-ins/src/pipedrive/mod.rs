//! Pipedrive: persons, deals, leads and notes, as far as lead-intake needs them.
//!
//! Nothing is unique there and no key makes a repeat harmless, so the books show every double. What the
//! vendor's documents leave open is a switch: the status of a creation, how long the search lags, whether
//! the budget is told in headers.

mod calls;
mod rules;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::api::{Api, Call, Fault, Reply, Vendor};

/// The one token that it knows.
pub const TOKEN: &str = "7b1c0ffee7b1c0ffee7b1c0ffee7b1c0ffee7b1c";

/// A custom text field of persons.
pub const PERSON_TEXT: &str = "1111111111111111111111111111111111111111";
/// A custom numeric field of persons.
pub const PERSON_NUMBER: &str = "2222222222222222222222222222222222222222";
/// A custom text field of deals and leads.
pub const DEAL_TEXT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// A custom numeric field of deals and leads.
pub const DEAL_NUMBER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A label of leads.
pub const LABEL: &str = "f08b42a0-4e75-11ea-9643-03698ef1cfd6";

/// The user that the token belongs to.
pub const USER: u64 = 77;

/// The pipelines, and the stages of each.
pub const STAGES: [(u64, &[u64]); 2] = [(1, &[1, 2, 3]), (2, &[11, 12])];

/// A company's Pipedrive.
pub struct Pipedrive {
    /// Persons, deleted ones too.
    pub persons: Vec<Value>,
    /// Leads in the inbox.
    pub leads: Vec<Value>,
    /// Deals.
    pub deals: Vec<Value>,
    /// Notes.
    pub notes: Vec<Value>,
    /// The status of what version 2 created: 200 by the documents, 201 in practice of others.
    pub created: u16,
    /// The persons that the search index does not show yet, until [`Pipedrive::index`].
    pub unseen: BTreeSet<u64>,
    /// Whether new persons are not in the search index at once.
    pub search_lags: bool,
    /// What is left of the day's tokens.
    pub tokens: u64,
    /// What is left of the burst; `None`: more than is ever asked for.
    pub burst: Option<u64>,
    /// Whether version 1's persons still answer, long after their end.
    pub old_persons: bool,
    /// Whether answers tell of the budgets.
    pub tells: bool,
    /// How far its clock is behind ours.
    pub behind: Duration,
    next_id: u64,
}

impl Default for Pipedrive {
    fn default() -> Self {
        Self {
            persons: Vec::new(),
            leads: Vec::new(),
            deals: Vec::new(),
            notes: Vec::new(),
            created: 200,
            unseen: BTreeSet::new(),
            search_lags: false,
            tokens: 30_000,
            burst: None,
            old_persons: false,
            tells: true,
            behind: Duration::ZERO,
            next_id: 1,
        }
    }
}

impl Pipedrive {
    /// Everything that was written so far is in the search index.
    pub fn index(&mut self) {
        self.unseen.clear();
    }

    /// A person that somebody else made; the id.
    pub fn add_person(&mut self, name: &str, email: &str) -> u64 {
        let body = json!({ "name": name, "emails": [{ "value": email, "primary": true, "label": "work" }] });
        self.keep_person(&body)["id"].as_u64().unwrap_or_default()
    }

    /// Deletes a person, as a user does: it stays for 30 days.
    pub fn delete_person(&mut self, id: u64) {
        for person in self.persons.iter_mut().filter(|person| person["id"] == id) {
            person["is_deleted"] = json!(true);
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// What a call costs of the day's tokens.
    fn cost(call: &Call, route: &[&str]) -> u64 {
        match (call.method.as_str(), route) {
            ("GET", ["v2", "persons", "search"]) | ("GET", ["v1", "leads"]) => 20,
            ("GET", ["v2", "persons", _]) => 1,
            ("GET", ["v1", "users", _]) => 2,
            ("GET", ["v2", "pipelines" | "stages"]) => 5,
            ("GET", _) | ("POST", ["v1", _]) => 10,
            ("DELETE", _) => 3,
            _ => 5,
        }
    }

    /// Takes a call from the budgets, or refuses it.
    fn charge(&mut self, cost: u64) -> Option<Reply> {
        let day_is_over = self.tokens < cost;
        let burst_is_over = self.burst == Some(0);
        if day_is_over {
            self.tokens = 0;
        }
        if day_is_over || burst_is_over {
            let body = json!({ "success": false, "error": "Rate limit exceeded", "errorCode": 429 });
            return Some(Reply::new(429, body));
        }
        self.tokens -= cost;
        self.burst = self.burst.map(|left| left - 1);
        None
    }

    fn clock(&self) -> SystemTime {
        UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap_or_default() - self.behind
    }

    fn now(&self) -> String {
        calls::written(self.clock())
    }

    fn telling(&self, reply: Reply) -> Reply {
        let reply = reply.with("date", &httpdate::fmt_http_date(self.clock()));
        if !self.tells {
            return reply;
        }
        let left = self.burst.unwrap_or(20).to_string();
        let reply = reply.with("x-ratelimit-limit", "20").with("x-ratelimit-remaining", &left);
        reply
            .with("x-ratelimit-reset", "2")
            .with("x-daily-ratelimit-token-remaining", &self.tokens.to_string())
    }
}

impl Vendor for Pipedrive {
    fn handle(&mut self, call: &Call) -> Reply {
        let segments = call.segments();
        let route: Vec<_> = segments.iter().map(String::as_str).collect();
        // Version 1 stands with and without /api, version 2 with it alone.
        let route = match route.as_slice() {
            ["api", rest @ ..] if matches!(rest.first(), Some(&("v1" | "v2"))) => rest,
            rest @ ["v1", ..] => rest,
            _ => return refuse(404, "unknown method"),
        };
        if call.headers.get("x-api-token").map(String::as_str) != Some(TOKEN) {
            return unauthorized();
        }
        if let Some(refused) = self.charge(Self::cost(call, route)) {
            return self.telling(refused);
        }
        let reply = self.answer(call, route);
        self.telling(reply)
    }
}

/// A refusal as most of the API words it.
pub fn refuse(status: u16, error: &str) -> Reply {
    let info = "Please check developers.pipedrive.com";
    let body = json!({ "success": false, "error": error, "error_info": info, "data": null, "additional_data": null });
    Reply::new(status, body)
}

/// A refusal with a code.
pub fn refuse_with(status: u16, code: &str, error: &str) -> Reply {
    let mut reply = refuse(status, error);
    reply.body["code"] = json!(code);
    reply
}

/// What a wrong token meets.
pub fn unauthorized() -> Reply {
    let mut reply = refuse(401, "unauthorized access");
    reply.body["errorCode"] = json!(401);
    reply
}

/// 429 with these headers; nothing is done.
pub fn too_many(headers: &[(&str, &str)]) -> Fault {
    let body = json!({ "success": false, "error": "Rate limit exceeded", "errorCode": 429 });
    let bare = Reply::new(429, body);
    Fault::Answer(headers.iter().fold(bare, |reply, (name, value)| reply.with(name, value)))
}

/// Starts it on a free port.
pub async fn start() -> Api<Pipedrive> {
    Api::start(Pipedrive::default()).await
}
