//! What Pipedrive takes: types, required fields, known ids and keys. Version 2 is strict about types.

use serde_json::Value;

use super::{
    DEAL_NUMBER, DEAL_TEXT, LABEL, PERSON_NUMBER, PERSON_TEXT, Pipedrive, STAGES, USER, refuse, refuse_with,
};
use crate::api::Reply;

/// Fields of persons that exist with the Contact Sync alone.
const CONTACT_SYNC: [&str; 5] = ["job_title", "notes", "im", "birthday", "postal_address"];

type Checked = Result<(), Reply>;

fn invalid(what: &str) -> Reply {
    refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", &format!("Validation failed: {what}"))
}

fn need(fits: bool, what: &str) -> Checked {
    if fits { Ok(()) } else { Err(invalid(what)) }
}

/// A field that may be absent but must be of its type.
fn may_be(body: &Value, key: &str, fits: impl Fn(&Value) -> bool, what: &str) -> Checked {
    need(body.get(key).is_none_or(fits), &format!("{key}: {what}"))
}

fn fields(body: &Value) -> impl Iterator<Item = (&String, &Value)> {
    body.as_object().into_iter().flatten()
}

fn only(body: &Value, known: &[&str]) -> Checked {
    need(body.is_object(), "the body is no object")?;
    match fields(body).find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, _)) => Err(invalid(&format!("{key} is not allowed"))),
        None => Ok(()),
    }
}

fn custom<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, text: &str, number: &str) -> Checked {
    for (key, value) in fields {
        let fits = match key.as_str() {
            it if it == text => value.as_str().is_some_and(|it| it.chars().count() <= 255),
            it if it == number => value.is_number(),
            _ => return Err(invalid(&format!("custom_fields: unknown field {key}"))),
        };
        need(fits || value.is_null(), &format!("custom_fields.{key}: wrong type"))?;
    }
    Ok(())
}

fn contacts(body: &Value, key: &str) -> Checked {
    let one = |it: &Value| it["value"].is_string() && it["primary"].is_boolean() && it["label"].is_string();
    may_be(body, key, |it| it.as_array().is_some_and(|all| all.iter().all(one)), "a list of objects")
}

fn owner(body: &Value) -> Checked {
    may_be(body, "owner_id", Value::is_u64, "an integer")?;
    need(body.get("owner_id").is_none_or(|it| *it == USER), "owner_id: there is no such user")
}

impl Pipedrive {
    pub(super) fn check_person(&self, body: &Value, is_new: bool) -> Checked {
        if fields(body).any(|(key, _)| CONTACT_SYNC.contains(&key.as_str())) {
            return Err(refuse(403, "Contact Sync is not set up for this company"));
        }
        only(
            body,
            &["name", "emails", "phones", "owner_id", "org_id", "visible_to", "label_ids", "custom_fields"],
        )?;
        let named = body["name"].as_str().is_some_and(|name| !name.trim().is_empty());
        need(named || (!is_new && body.get("name").is_none()), "name: a text is required")?;
        contacts(body, "emails")?;
        contacts(body, "phones")?;
        owner(body)?;
        may_be(body, "visible_to", visible, "1, 3, 5 or 7")?;
        may_be(body, "custom_fields", Value::is_object, "an object")?;
        custom(fields(&body["custom_fields"]), PERSON_TEXT, PERSON_NUMBER)
    }

    pub(super) fn check_deal(&self, body: &Value) -> Checked {
        let known = [
            "title",
            "person_id",
            "org_id",
            "value",
            "currency",
            "pipeline_id",
            "stage_id",
            "owner_id",
            "visible_to",
            "custom_fields",
        ];
        only(body, &known)?;
        self.check_title(body)?;
        may_be(body, "value", Value::is_number, "a number")?;
        may_be(body, "currency", Value::is_string, "a text")?;
        may_be(body, "person_id", |it| self.knows_person(it), "there is no such person")?;
        owner(body)?;
        may_be(body, "visible_to", visible, "1, 3, 5 or 7")?;
        let pipeline = body["pipeline_id"].as_u64();
        may_be(body, "pipeline_id", |it| STAGES.iter().any(|(id, _)| it == id), "there is no such pipeline")?;
        let fits = |stage: &Value| {
            let mut of = STAGES.iter().filter(|(id, _)| pipeline.is_none_or(|pipeline| pipeline == *id));
            of.any(|(_, stages)| stages.iter().any(|it| stage == it))
        };
        may_be(body, "stage_id", fits, "there is no such stage in the pipeline")?;
        may_be(body, "custom_fields", Value::is_object, "an object")?;
        custom(fields(&body["custom_fields"]), DEAL_TEXT, DEAL_NUMBER)
    }

    /// Leads are of version 1: custom fields stand beside the others, visibility is a text.
    pub(super) fn check_lead(&self, body: &Value) -> Checked {
        let known = [
            "title",
            "person_id",
            "organization_id",
            "value",
            "owner_id",
            "label_ids",
            "origin_id",
            "visible_to",
        ];
        need(body.is_object(), "the body is no object")?;
        self.check_title(body)?;
        need(body.get("person_id").is_some(), "person_id or organization_id is required")?;
        if !self.knows_person(&body["person_id"]) {
            return Err(refuse(404, "Person not found"));
        }
        let whole = |it: &Value| it["amount"].is_number() && it["currency"].is_string();
        may_be(body, "value", whole, "needs amount and currency")?;
        owner(body)?;
        let label = |it: &Value| it.as_array().is_some_and(|all| all.iter().all(|it| it == LABEL));
        may_be(body, "label_ids", label, "there is no such label")?;
        may_be(body, "origin_id", Value::is_string, "a text")?;
        may_be(
            body,
            "visible_to",
            |it| it.is_string() && visible(&it.as_str().and_then(|it| it.parse().ok()).unwrap_or_default()),
            "\"1\", \"3\", \"5\" or \"7\"",
        )?;
        custom(fields(body).filter(|(key, _)| !known.contains(&key.as_str())), DEAL_TEXT, DEAL_NUMBER)
    }

    pub(super) fn check_note(&self, body: &Value) -> Checked {
        only(body, &["content", "lead_id", "deal_id", "person_id"])?;
        need(body["content"].as_str().is_some_and(|it| !it.is_empty()), "content: a text is required")?;
        let has = |all: &[Value], id: &Value| all.iter().any(|it| it["id"] == *id);
        let hangs = [("lead_id", &self.leads), ("deal_id", &self.deals), ("person_id", &self.persons)]
            .into_iter()
            .any(|(key, all)| body.get(key).is_some_and(|id| has(all, id)));
        need(hangs, "one of deal_id, lead_id, person_id is required")
    }

    fn check_title(&self, body: &Value) -> Checked {
        let fits = body["title"].as_str().is_some_and(|it| !it.is_empty() && it.chars().count() <= 255);
        need(fits, "title: a text of at most 255 characters is required")
    }

    fn knows_person(&self, id: &Value) -> bool {
        id.is_u64() && self.persons.iter().any(|it| it["id"] == *id && it["is_deleted"] == false)
    }
}

fn visible(it: &Value) -> bool {
    [1, 3, 5, 7].iter().any(|known| it == known)
}
