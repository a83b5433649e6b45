//! What each call does.

use serde_json::{Value, json};

use super::{
    DEAL_NUMBER, DEAL_TEXT, PERSON_NUMBER, PERSON_TEXT, Pipedrive, STAGES, USER, refuse, refuse_with,
};
use crate::api::{Call, Reply};

/// How many entries a page has when nobody asks for fewer.
const PAGE: usize = 100;

impl Pipedrive {
    pub(super) fn answer(&mut self, call: &Call, route: &[&str]) -> Reply {
        match (call.method.as_str(), route) {
            ("GET", ["v2", "persons", "search"]) => self.search(call),
            ("GET", ["v2", "persons"]) => self.list_persons(call),
            ("POST", ["v2", "persons"]) => self.create_person(&call.body),
            ("GET", ["v2", "persons", id]) => match self.person(id) {
                Some(person) => fine(200, &self.persons[person].clone()),
                None => refuse(404, "Person not found"),
            },
            ("PATCH", ["v2", "persons", id]) => self.change_person(id, &call.body),
            ("DELETE", ["v2", "persons", id]) => {
                self.delete_person(id.parse().unwrap_or_default());
                fine(200, &json!({ "id": id.parse::<u64>().ok() }))
            }
            ("GET", ["v2", "deals"]) => pages(call, &self.of(call, &self.deals, &["person_id"])),
            ("POST", ["v2", "deals"]) => self.create_deal(&call.body),
            ("GET", ["v1", "leads"]) => old_pages(call, &self.of(call, &self.leads, &["person_id"])),
            ("POST", ["v1", "leads"]) => self.create_lead(&call.body),
            ("GET", ["v1", "notes"]) => {
                old_pages(call, &self.of(call, &self.notes, &["lead_id", "deal_id", "person_id"]))
            }
            ("POST", ["v1", "notes"]) => self.create_note(&call.body),
            ("GET", ["v1", "users", "me"]) => {
                fine(200, &json!({ "id": USER, "name": "Integration", "company_domain": "example" }))
            }
            ("GET", ["v2", "pipelines"]) => {
                let all = STAGES.iter().map(|(id, _)| json!({ "id": id, "name": format!("Pipeline {id}") }));
                pages(call, &all.collect::<Vec<_>>())
            }
            ("GET", ["v2", "stages"]) => {
                let all = STAGES.iter().flat_map(|(pipeline, stages)| {
                    stages.iter().map(
                        move |id| json!({ "id": id, "pipeline_id": pipeline, "name": format!("Stage {id}") }),
                    )
                });
                pages(call, &all.collect::<Vec<_>>())
            }
            ("GET", ["v2", "personFields"]) => fields(call, &[PERSON_TEXT, PERSON_NUMBER]),
            ("GET", ["v2", "dealFields"]) => fields(call, &[DEAL_TEXT, DEAL_NUMBER]),
            ("GET", ["v1", "persons", ..]) if self.old_persons => fine(200, &json!(self.persons)),
            (_, ["v1", "persons" | "deals" | "itemSearch" | "pipelines" | "stages", ..]) => {
                refuse(410, "this endpoint is no longer available")
            }
            _ => refuse(404, "unknown method"),
        }
    }

    fn search(&self, call: &Call) -> Reply {
        let term = call.parameter("term").unwrap_or_default().to_lowercase();
        let exact = call.parameter("exact_match") == Some("true");
        if term.is_empty() || call.parameter("fields") != Some("email") || !exact {
            return refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: term");
        }
        let seen = self.persons.iter().filter(|person| {
            person["is_deleted"] == false
                && person["id"].as_u64().is_some_and(|id| !self.unseen.contains(&id))
        });
        // The index shows addresses and numbers bare.
        let bare = |list: &Value| {
            let all = list.as_array().into_iter().flatten();
            all.map(|it| it["value"].clone()).collect::<Vec<_>>()
        };
        let items = seen.filter_map(|person| {
            let emails = bare(&person["emails"]);
            let fits = emails.iter().any(|it| it.as_str().is_some_and(|it| it.to_lowercase() == term));
            fits.then(|| {
                json!({ "result_score": 0.5, "item": {
                "id": person["id"], "type": "person", "name": person["name"], "emails": emails,
                "phones": bare(&person["phones"]),
            } })
            })
        });
        let items: Vec<_> = items.collect();
        let body = json!({ "success": true, "data": { "items": items }, "additional_data": { "next_cursor": null } });
        Reply::new(200, body)
    }

    fn list_persons(&self, call: &Call) -> Reply {
        let since = call.parameter("updated_since").unwrap_or("1970-01-01T00:00:00Z");
        if since.len() != 20 || !since.ends_with('Z') {
            return refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: updated_since");
        }
        let all = self.persons.iter().filter(|it| {
            it["is_deleted"] == false && it["update_time"].as_str().is_some_and(|time| time >= since)
        });
        pages(call, &all.cloned().collect::<Vec<_>>())
    }

    pub(super) fn keep_person(&mut self, body: &Value) -> Value {
        let id = self.fresh();
        let mut person = json!({
            "id": id, "name": null, "emails": [], "phones": [], "owner_id": USER, "visible_to": 7,
            "custom_fields": {}, "is_deleted": false, "add_time": self.now(), "update_time": self.now(),
        });
        lay(&mut person, body);
        if self.search_lags {
            self.unseen.insert(id);
        }
        self.persons.push(person.clone());
        person
    }

    fn create_person(&mut self, body: &Value) -> Reply {
        match self.check_person(body, true) {
            Ok(()) => fine(self.created, &self.keep_person(body)),
            Err(refused) => refused,
        }
    }

    /// Lists are replaced whole: whoever adds an address sends the others too.
    fn change_person(&mut self, id: &str, body: &Value) -> Reply {
        let Some(at) = self.person(id) else { return refuse(404, "Person not found") };
        if let Err(refused) = self.check_person(body, false) {
            return refused;
        }
        lay(&mut self.persons[at], body);
        self.persons[at]["update_time"] = json!(self.now());
        fine(200, &self.persons[at])
    }

    fn person(&self, id: &str) -> Option<usize> {
        self.persons.iter().position(|it| it["id"].as_u64() == id.parse().ok())
    }

    fn create_deal(&mut self, body: &Value) -> Reply {
        if let Err(refused) = self.check_deal(body) {
            return refused;
        }
        let mut deal = json!({
            "id": self.fresh(), "status": "open", "pipeline_id": 1, "stage_id": 1, "owner_id": USER, "origin": "API",
            "origin_id": null, "custom_fields": {}, "is_deleted": false, "add_time": self.now(), "update_time": self.now(),
        });
        lay(&mut deal, body);
        self.deals.push(deal.clone());
        fine(self.created, &deal)
    }

    fn create_lead(&mut self, body: &Value) -> Reply {
        if let Err(refused) = self.check_lead(body) {
            return refused;
        }
        let id = format!("6f000000-0000-4000-8000-{:012x}", self.fresh());
        let mut lead = json!({
            "id": id, "owner_id": USER, "creator_id": USER, "label_ids": [], "value": null, "origin": "API",
            "origin_id": null, "is_archived": false, "add_time": self.now(), "update_time": self.now(), "visible_to": "7",
        });
        lay(&mut lead, body);
        self.leads.push(lead.clone());
        fine(201, &lead)
    }

    fn create_note(&mut self, body: &Value) -> Reply {
        if let Err(refused) = self.check_note(body) {
            return refused;
        }
        let mut note =
            json!({ "id": self.fresh(), "user_id": USER, "add_time": self.now(), "active_flag": true });
        lay(&mut note, body);
        note["content"] = json!(sanitised(body["content"].as_str().unwrap_or_default()));
        self.notes.push(note.clone());
        fine(200, &note)
    }

    /// The entries that hang on what the query names.
    fn of(&self, call: &Call, all: &[Value], keys: &[&str]) -> Vec<Value> {
        let plain = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
        let fits = |entry: &&Value| {
            keys.iter().all(|key| call.parameter(key).is_none_or(|id| plain(&entry[*key]) == id))
        };
        all.iter().filter(fits).cloned().collect()
    }
}

fn fine(status: u16, data: &Value) -> Reply {
    Reply::new(status, json!({ "success": true, "data": data, "additional_data": null }))
}

fn lay(entry: &mut Value, body: &Value) {
    for (key, value) in body.as_object().into_iter().flatten() {
        entry[key] = value.clone();
    }
}

/// Pages of version 2: by cursor.
fn pages(call: &Call, all: &[Value]) -> Reply {
    let limit: usize = call.parameter("limit").and_then(|it| it.parse().ok()).unwrap_or(PAGE);
    if limit > 500 {
        return refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: limit");
    }
    let from: usize = call.parameter("cursor").and_then(|it| it.parse().ok()).unwrap_or(0);
    let page: Vec<_> = all.iter().skip(from).take(limit).collect();
    let next = (from + limit < all.len()).then(|| (from + limit).to_string());
    let body = json!({ "success": true, "data": page, "additional_data": { "next_cursor": next } });
    Reply::new(200, body)
}

/// Pages of version 1: by number.
fn old_pages(call: &Call, all: &[Value]) -> Reply {
    let number = |name: &str| call.parameter(name).and_then(|it| it.parse::<usize>().ok());
    let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(PAGE));
    let page: Vec<_> = all.iter().skip(start).take(limit).collect();
    let more = start + limit < all.len();
    // With nothing to show the data is null, not an empty list.
    let data = if page.is_empty() { Value::Null } else { json!(page) };
    let mut pages = json!({ "start": start, "limit": limit, "more_items_in_collection": more });
    if more {
        pages["next_start"] = json!(start + limit);
    }
    Reply::new(200, json!({ "success": true, "data": data, "additional_data": { "pagination": pages } }))
}

fn fields(call: &Call, codes: &[&str]) -> Reply {
    let known = ["name", "title"].iter().chain(codes);
    let all = known
        .map(|code| json!({ "field_name": code, "field_code": code, "is_custom_field": code.len() == 40 }));
    pages(call, &all.collect::<Vec<_>>())
}

/// Comments and scripts do not survive.
fn sanitised(html: &str) -> String {
    let mut left = html.to_owned();
    for (open, close) in [("<!--", "-->"), ("<script", "</script>")] {
        while let Some(start) = left.find(open) {
            let end = left[start..].find(close).map_or(left.len(), |at| start + at + close.len());
            left.replace_range(start..end, "");
        }
    }
    left
}

/// The time as version 2 writes it.
pub(super) fn written(at: std::time::SystemTime) -> String {
    let seconds = at.duration_since(std::time::UNIX_EPOCH).map(|it| it.as_secs()).unwrap_or_default();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let z = day + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (date, month) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}
