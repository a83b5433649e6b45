//! What a submission must be, and what becomes of it.

use lead_intake::lead::validate::{FieldErrors, FormRules, validate};
use lead_intake::lead::{NewLead, Submission};
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(body: &Value) -> Result<NewLead, FieldErrors> {
    let rules = FormRules { region: Some("GB".into()), thank_you: None };
    validate(&Submission::from_json(body.to_string().as_bytes()).unwrap(), |_| &rules)
}

fn good() -> Value {
    json!({
        "email": "Ada@Example.com", "name": " Ada ", "phone": "020 7946 0018",
        "source": {"url": "https://example.com/contact", "utm_source": "google", "gclid": "x1"},
        "submitted_at": "2026-11-24T09:30:00", "timezone": "Europe/Berlin", "form_name": "contact",
        "form_data": {"message": "Hello"}, "budget": 7, "consent_given": true, "ip_address": "1.2.3.4",
    })
}

#[test]
fn a_good_submission_is_parsed_into_types() {
    let lead = check(&good()).unwrap();
    let body = serde_json::to_value(&lead).unwrap();
    assert_eq!(body["phone"], "+442079460018");
    assert_eq!(body["name"], "Ada");
    assert_eq!(body["submitted_at"], "2026-11-24T08:30:00Z");
    assert_eq!(body["source"]["gclid"], "x1");
    assert_eq!(body["form_data"], json!({"message": "Hello", "budget": 7}));
    assert!(body.get("ip_address").is_none());
}

#[test]
fn a_number_that_does_not_fit_loses_no_digit() {
    let body = good().to_string().replace("\"Hello\"", "12345678901234567890123");
    let rules = FormRules::default();
    let lead = validate(&Submission::from_json(body.as_bytes()).unwrap(), |_| &rules);
    assert_eq!(lead.unwrap().form_data["message"], "12345678901234567890123");
}

#[test]
fn what_nobody_sees_in_a_name_refuses_no_lead() {
    for (typed, name) in [
        ("\u{202b}דנה\u{202c}\u{200f} \u{200f}כהן", "דנה כהן"),
        ("Ada\tKing\n", "Ada King"),
        ("\u{feff}Ada\u{200b} Lovelace\u{061c}", "Ada Lovelace"),
    ] {
        let mut body = good();
        body["name"] = json!(typed);
        assert_eq!(check(&body).unwrap().name, name, "{typed:?}");
    }
    let mut body = good();
    body["name"] = json!("\u{061c}\u{200b}");
    assert!(check(&body).is_err(), "nothing is no name");
}

#[test]
fn every_error_comes_in_one_answer() {
    let bad = json!({
        "email": "no", "name": "", "source": {"url": 7}, "timezone": "Mars/Base", "submitted_at": "soon",
        "consent_given": "yes", "phone": "1",
    });
    let errors = check(&bad).unwrap_err();
    let paths: Vec<_> = errors.field_errors.keys().map(String::as_str).collect();
    let expected = ["consent_given", "email", "form_name", "name", "source.url", "submitted_at", "timezone"];
    assert_eq!(paths, expected, "the phone's region is the form's, and the form is not known");
}

#[test]
fn a_form_post_is_the_same_submission() {
    let pairs = [
        ("email", "ada@example.com"),
        ("name", "Ada"),
        ("form_name", "contact"),
        ("utm_source", "google"),
        ("consent_given", "on"),
        ("colour", "red"),
        ("colour", "blue"),
    ];
    let mut post = Submission::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    post.set_page("https://example.com/contact");
    let lead = validate(&post, |_| const { &FormRules { region: None, thank_you: None } }).unwrap();
    assert!(lead.consent_given);
    assert_eq!(lead.source.url, "https://example.com/contact");
    assert_eq!(lead.source.utm_source.as_deref(), Some("google"));
    assert_eq!(lead.form_data["colour"], json!(["red", "blue"]));
    let silent = Submission::from_pairs([("email".to_owned(), "a@example.com".to_owned())]);
    let rules = FormRules::default();
    assert!(!validate(&silent, |_| &rules).unwrap_err().field_errors.contains_key("consent_given"));
}

#[test]
fn a_body_that_nests_too_deep_or_is_no_object_is_refused() {
    let deep = format!("{{\"form_data\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    assert!(Submission::from_json(deep.as_bytes()).is_err());
    for body in ["[]", "7", "", "{", "\u{7f}"] {
        assert!(Submission::from_json(body.as_bytes()).is_err());
    }
}

#[test]
fn the_order_of_keys_does_not_make_another_submission() {
    let mut other = good();
    let first = other.as_object_mut().unwrap().shift_remove("email").unwrap();
    other["email"] = first;
    assert_eq!(check(&good()).unwrap().digest(), check(&other).unwrap().digest());
    other["name"] = json!("Eve");
    assert_ne!(check(&good()).unwrap().digest(), check(&other).unwrap().digest());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".*", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn validation_never_panics(field in "email|name|phone|source|timezone|submitted_at|form_name|form_data", value in any_json()) {
        let mut body = good();
        body[field] = value;
        let _ = check(&body);
    }

    #[test]
    fn bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Submission::from_json(&body);
    }

    #[test]
    fn validation_is_idempotent(name in "\\PC{1,50}", message in any_json()) {
        let mut body = good();
        body["name"] = name.into();
        body["form_data"] = json!({ "message": message });
        if let Ok(lead) = check(&body) {
            prop_assert_eq!(check(&serde_json::to_value(&lead).unwrap()).unwrap(), lead);
        }
    }
}
