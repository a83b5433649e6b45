//! HubSpot's contacts, as far as a lead needs them: unique addresses, strict properties, its errors in
//! their several shapes, its limits' headers, and the forms API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::{Api, Call, Reply, Vendor};

/// The token that is accepted.
pub const TOKEN: &str = "pat-na1-stand-in";

/// Lifecycle stages in the order in which a contact goes through them; it never goes back.
const STAGES: [&str; 5] = ["subscriber", "lead", "marketingqualifiedlead", "opportunity", "customer"];

/// A running HubSpot.
pub type HubSpot = Api<Books>;

/// What a property takes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// Digits.
    Integer,
    /// One of these values.
    OneOf(Vec<String>),
    /// Nothing: HubSpot sets it itself.
    ReadOnly,
}

/// A contact.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Its id: digits.
    pub id: String,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// Further addresses that are its own.
    pub secondary: Vec<String>,
}

/// An account.
pub struct Books {
    /// What the token may do.
    pub scopes: BTreeSet<String>,
    /// Every contact.
    pub contacts: Vec<Contact>,
    /// The properties that there are.
    pub properties: BTreeMap<String, Kind>,
    /// A property that the account's rules demand of new contacts; enforced by the version 2026-09.
    pub required: Option<String>,
    /// Whether errors lack their list, as some do.
    pub bare_errors: bool,
    /// Calls left in the interval, and the interval's length in milliseconds, as the headers say.
    pub remaining: (u64, u64),
    /// When the day's calls are counted anew.
    pub resets_at: String,
    /// What was submitted to forms.
    pub submissions: Vec<Value>,
    next_id: u64,
}

impl Default for Books {
    fn default() -> Self {
        let text =
            ["email", "firstname", "lastname", "phone", "company", "hubspot_owner_id", "hs_legal_basis"];
        let mut properties: BTreeMap<_, _> =
            text.into_iter().map(|name| (name.to_owned(), Kind::Text)).collect();
        properties.insert("numemployees".to_owned(), Kind::Integer);
        properties.insert("lifecyclestage".to_owned(), Kind::OneOf(STAGES.map(str::to_owned).to_vec()));
        properties.insert("hs_analytics_source".to_owned(), Kind::ReadOnly);
        Self {
            scopes: [
                "crm.objects.contacts.read",
                "crm.objects.contacts.write",
                "crm.schemas.contacts.read",
                "forms",
            ]
            .map(str::to_owned)
            .into(),
            contacts: Vec::new(),
            properties,
            required: None,
            bare_errors: false,
            remaining: (189, 10_000),
            resets_at: String::new(),
            submissions: Vec::new(),
            next_id: 6_000,
        }
    }
}

/// An account with the properties that every account has.
///
/// # Panics
/// When the loopback has no free port.
pub async fn start() -> HubSpot {
    Api::start(Books::default()).await
}

impl Contact {
    fn has(&self, address: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(address);
        self.properties.get("email").is_some_and(|own| is(own)) || self.secondary.iter().any(|own| is(own))
    }

    fn object(&self) -> Value {
        json!({
            "id": self.id, "properties": self.properties, "archived": false,
            "createdAt": "2026-11-23T10:00:00.000Z", "updatedAt": "2026-11-23T10:00:00.000Z",
        })
    }

    /// Takes over what was sent: an empty text clears, a lifecycle never goes back.
    fn take(&mut self, sent: &BTreeMap<String, String>) {
        for (name, value) in sent {
            let stage = |value: &str| STAGES.iter().position(|stage| *stage == value);
            let is_back = name == "lifecyclestage"
                && self.properties.get(name).is_some_and(|own| stage(own) > stage(value));
            if value.is_empty() {
                self.properties.remove(name);
            } else if !is_back {
                self.properties.insert(name.clone(), value.clone());
            }
        }
    }
}

impl Books {
    /// The contact with this address.
    pub fn contact(&self, address: &str) -> Option<&Contact> {
        self.contacts.iter().find(|contact| contact.has(address))
    }

    fn error(&self, status: u16, category: &str, message: &str, errors: Value) -> Reply {
        let mut body = json!({
            "status": "error", "message": message, "category": category,
            "correlationId": "aeb5f871-7f07-4993-9211-075dc63e7cbf",
        });
        if !self.bare_errors && !errors.is_null() {
            body["errors"] = errors;
        }
        Reply::new(status, body)
    }

    fn lacks(&self, scope: &str) -> Option<Reply> {
        (!self.scopes.contains(scope)).then(|| {
            let errors = json!([{
                "message": "One or more of the following scopes are required.",
                "context": { "requiredGranularScopes": [scope] },
            }]);
            let message = "This app hasn't been granted all required scopes to make this call.";
            self.error(403, "MISSING_SCOPES", message, errors)
        })
    }

    /// The properties of a body, or the 400 that names every bad one.
    fn sent(&self, call: &Call) -> Result<BTreeMap<String, String>, Reply> {
        let Some(given) = call.body["properties"].as_object() else {
            return Err(self.error(400, "VALIDATION_ERROR", "Invalid input JSON", Value::Null));
        };
        let (mut sent, mut bad) = (BTreeMap::new(), Vec::new());
        for (name, value) in given {
            match self.fault_of(name, value) {
                Some((code, text)) => bad.push((name, code, text)),
                None => {
                    sent.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
                }
            }
        }
        if bad.is_empty() {
            return Ok(sent);
        }
        let list: Vec<_> = bad
            .iter()
            .map(|(name, code, text)| json!({ "isValid": false, "message": text, "error": code, "name": name }))
            .collect();
        let errors: Vec<_> = bad
            .iter()
            .map(|(name, code, text)| json!({ "message": text, "code": code, "context": { "propertyName": [name] } }))
            .collect();
        let message = format!("Property values were not valid: {}", Value::Array(list));
        Err(self.error(400, "VALIDATION_ERROR", &message, Value::Array(errors)))
    }

    fn fault_of(&self, name: &str, value: &Value) -> Option<(&'static str, String)> {
        let Some(kind) = self.properties.get(name) else {
            return Some(("PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist")));
        };
        let Some(text) = value.as_str() else {
            return Some(("INVALID_TYPE", format!("{name} was no text")));
        };
        match kind {
            Kind::ReadOnly => Some(("READ_ONLY_VALUE", format!("\"{name}\" is a read only property"))),
            Kind::Integer if text.parse::<i64>().is_err() && !text.is_empty() => {
                Some(("INVALID_INTEGER", format!("{text} was not a valid number.")))
            }
            Kind::OneOf(options) if !options.iter().any(|option| option == text) && !text.is_empty() => {
                Some(("INVALID_OPTION", format!("{text} was not one of the allowed options")))
            }
            _ if name == "email" && !text.contains('@') => {
                Some(("INVALID_EMAIL", format!("Email address {text} is invalid")))
            }
            Kind::Text | Kind::Integer | Kind::OneOf(_) => None,
        }
    }

    fn create(&mut self, call: &Call, version: &str) -> Reply {
        let sent = match self.sent(call) {
            Ok(sent) => sent,
            Err(reply) => return reply,
        };
        if !["email", "firstname", "lastname"].iter().any(|name| sent.contains_key(*name)) {
            return self.error(
                400,
                "VALIDATION_ERROR",
                "At least one of email, firstname or lastname is needed",
                Value::Null,
            );
        }
        if let Some(required) =
            self.required.as_ref().filter(|name| version == "2026-09" && !sent.contains_key(*name))
        {
            let errors = json!([{ "message": "required", "code": "REQUIRED_FIELD", "context": { "propertyName": [required] } }]);
            return self.error(400, "VALIDATION_ERROR", "A required property is missing", errors);
        }
        let address = sent.get("email").cloned().unwrap_or_default();
        if let Some(there) = self.contact(&address).filter(|_| !address.is_empty()) {
            let message = format!("Contact already exists. Existing ID: {}", there.id);
            return self.error(409, "CONFLICT", &message, Value::Null);
        }
        self.next_id += 1;
        let mut contact =
            Contact { id: self.next_id.to_string(), properties: BTreeMap::new(), secondary: Vec::new() };
        contact.take(&sent);
        contact.properties.insert("email".to_owned(), address.to_lowercase());
        let object = contact.object();
        self.contacts.push(contact);
        Reply::new(201, object)
    }

    fn update(&mut self, call: &Call, which: &str) -> Reply {
        let by_email = call.parameter("idProperty") == Some("email");
        let fits = |contact: &Contact| if by_email { contact.has(which) } else { contact.id == which };
        let Some(at) = self.contacts.iter().position(fits) else {
            return Reply::new(404, json!({ "status": "error", "message": "resource not found" }));
        };
        match self.sent(call) {
            Ok(sent) => {
                self.contacts[at].take(&sent);
                Reply::new(200, self.contacts[at].object())
            }
            Err(reply) => reply,
        }
    }

    fn route(&mut self, call: &Call) -> Reply {
        let segments = call.segments();
        let segments: Vec<_> = segments.iter().map(String::as_str).collect();
        let given = call.headers.get("authorization").map(String::as_str);
        if given != Some(&format!("Bearer {TOKEN}")) {
            let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication.";
            return self.error(401, "INVALID_AUTHENTICATION", message, Value::Null);
        }
        let is_json = call.headers.get("content-type").is_some_and(|kind| kind == "application/json");
        if call.method != "GET" && !is_json {
            return Reply::new(415, Value::Null);
        }
        match (call.method.as_str(), segments.as_slice()) {
            ("POST", ["crm", "objects", version @ ("v3" | "2026-03" | "2026-09"), "contacts"]) => {
                self.lacks("crm.objects.contacts.write").unwrap_or_else(|| self.create(call, version))
            }
            ("PATCH", ["crm", "objects", "v3" | "2026-03" | "2026-09", "contacts", which]) => {
                self.lacks("crm.objects.contacts.write").unwrap_or_else(|| self.update(call, which))
            }
            ("GET", ["crm", "properties", "v3" | "2026-03" | "2026-09", "contacts"]) => {
                let names: Vec<_> = self.properties.keys().map(|name| json!({ "name": name })).collect();
                self.lacks("crm.schemas.contacts.read")
                    .unwrap_or_else(|| Reply::new(200, json!({ "results": names })))
            }
            ("GET", ["account-info", _, "api-usage", "daily", "private-apps"]) => {
                Reply::new(200, json!({ "results": [{ "resetsAt": self.resets_at }] }))
            }
            ("POST", ["submissions", "v3", "integration", "secure", "submit", _, _]) => {
                self.submissions.push(call.body.clone());
                Reply::new(200, json!({ "inlineMessage": "Thanks." }))
            }
            _ => Reply::new(404, json!({ "status": "error", "message": "resource not found" })),
        }
    }
}

impl Vendor for Books {
    fn handle(&mut self, call: &Call) -> Reply {
        let (remaining, interval) = self.remaining;
        self.route(call)
            .with("x-hubspot-ratelimit-max", "190")
            .with("x-hubspot-ratelimit-remaining", &remaining.to_string())
            .with("x-hubspot-ratelimit-interval-milliseconds", &interval.to_string())
    }
}

/// A 429 of the named policy.
pub fn limited(policy: &str) -> Reply {
    let limit = policy.to_lowercase();
    Reply::new(
        429,
        json!({
            "status": "error", "message": format!("You have reached your {limit} limit."),
            "errorType": "RATE_LIMIT", "policyName": policy,
            "correlationId": "c033cdaa-2c40-4a64-ae48-b4cec88dad24",
        }),
    )
}
