//! `POST /api/submit` as a form sees it, with a door that takes everything and remembers it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use lead_intake::clock::Clock;
use lead_intake::config::Inputs;
use lead_intake::dispatch::Lanes;
use lead_intake::http::{AddressHash, Door, Forms, Outside, Site};
use lead_intake::id::LeadId;
use lead_intake::intake::{Answer, Arrival};
use lead_intake::store::sqlite::Sqlite;
use serde_json::{Value, json};

#[derive(Clone, Default)]
struct Taking(Arc<Mutex<Vec<Arrival>>>, Option<Answer>);

impl Door for Taking {
    fn submit(&self, arrival: Arrival) -> BoxFuture<'_, Answer> {
        self.0.lock().unwrap().push(arrival);
        Box::pin(async { self.1.unwrap_or_else(|| Answer::Accepted(LeadId::fresh())) })
    }
}

fn site(door: &Taking) -> Site {
    let inputs = Inputs {
        variables: [("LEAD_INTAKE__SERVER__BODY_LIMIT".to_owned(), "4KiB".to_owned())].into(),
        ..Inputs::default()
    };
    let config = lead_intake::config::load(&inputs).unwrap_or_else(|problems| panic!("{problems}"));
    let folder = tempfile::tempdir().unwrap();
    Site {
        door: Arc::new(door.clone()),
        forms: Forms::default(),
        settings: config.server,
        store: Arc::new(Sqlite::open(&folder.path().join("leads.db"), Clock::system()).unwrap()),
        lanes: Lanes::default(),
        address_hash: AddressHash::new(b"key"),
        operator_token: None,
        draining: tokio_util::sync::CancellationToken::new(),
    }
}

async fn send(
    door: &Taking,
    kind: &str,
    key: Option<&str>,
    body: impl Into<Body>,
) -> (StatusCode, Value, bool) {
    let mut request = Request::post("/api/submit")
        .header(header::CONTENT_TYPE, kind)
        .header(header::REFERER, "https://example.com/page");
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let response = Outside::new(site(door)).answer(request.body(body.into()).unwrap()).await;
    let (status, retry) = (response.status(), response.headers().contains_key(header::RETRY_AFTER));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default(), retry)
}

fn good() -> Value {
    json!({
        "email": "ada@example.com", "name": "Ada", "source": {"url": "https://example.com/"},
        "form_name": "contact", "consent_given": true, "submission_id": "from-the-body",
    })
}

#[tokio::test]
async fn a_good_body_is_taken_and_answered_with_its_id() {
    let door = Taking::default();
    let (status, body, _) =
        send(&door, "application/json; charset=utf-8", Some("k-1"), good().to_string()).await;
    assert_eq!((status, &body["success"]), (StatusCode::OK, &json!(true)));
    assert!(body["id"].as_str().unwrap().parse::<LeadId>().is_ok());
    send(&door, "application/json", None, good().to_string()).await;
    let taken = door.0.lock().unwrap();
    assert_eq!(taken[0].key.as_ref().unwrap().as_str(), "k-1", "the header wins");
    assert_eq!(taken[1].key.as_ref().unwrap().as_str(), "from-the-body");
}

#[tokio::test]
async fn form_bodies_are_taken_too() {
    let door = Taking::default();
    let body = "email=ada%40example.com&name=Ada&form_name=contact&consent_given=on&utm_source=x&size=L";
    assert_eq!(send(&door, "application/x-www-form-urlencoded", None, body).await.0, StatusCode::OK);
    let fields = [("email", "ada@example.com"), ("name", "Ada"), ("form_name", "contact"), ("size", "L")];
    let parts = fields.map(|(name, value)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    // As browsers send it: a hidden field that a script did not fill, and a file input in which nothing was chosen.
    let empty = "--b\r\nContent-Disposition: form-data; name=\"url\"\r\n\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"submission_id\"\r\n\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"cv\"; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n\r\n";
    let body = format!("{}{empty}--b--\r\n", parts.concat());
    assert_eq!(send(&door, "multipart/form-data; boundary=b", None, body).await.0, StatusCode::OK);
    let taken = door.0.lock().unwrap();
    for arrival in taken.iter() {
        assert_eq!(arrival.lead.source.url, "https://example.com/page");
        assert_eq!(arrival.lead.form_data["size"], "L");
    }
    assert_eq!((taken[0].lead.consent_given, taken[1].lead.consent_given), (true, false));
}

/// A hidden field that says no for those who leave the box beside it, as ASP.NET renders it, and one that is empty for another
/// layout of the page.
#[tokio::test]
async fn a_field_that_comes_twice_loses_nothing() {
    let door = Taking::default();
    let body = "email=ada%40example.com&email=&name=Ada&form_name=contact&consent_given=true&consent_given=false&utm_source=x&utm_source=";
    assert_eq!(send(&door, "application/x-www-form-urlencoded", None, body).await.0, StatusCode::OK);
    let taken = door.0.lock().unwrap();
    let lead = &taken[0].lead;
    assert_eq!((lead.email.as_str(), lead.consent_given), ("ada@example.com", true));
    assert_eq!(lead.source.utm_source.as_deref(), Some("x"));
}

/// Pages that say that they are in Latin-1 are sent in Windows-1252.
#[tokio::test]
async fn a_form_of_an_old_page_keeps_its_letters() {
    let door = Taking::default();
    let rest = "email=ada%40example.com&form_name=contact";
    for body in ["name=Ren%E9+%80", "name=Ren%C3%A9+%E2%82%AC", "name=Ren\u{e9}+\u{20ac}"] {
        let (kind, body) =
            ("Application/X-WWW-Form-URLEncoded; charset=x", format!("{rest}&&{body}&empty&=&a=b=c"));
        assert_eq!(send(&door, kind, None, body).await.0, StatusCode::OK);
    }
    let mut part = b"--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nRen\xe9 \x80\r\n".to_vec();
    for (name, value) in [("email", "ada@example.com"), ("form_name", "contact"), ("a", "b=c")] {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        part.extend_from_slice(head.as_bytes());
    }
    part.extend_from_slice(b"--b--\r\n");
    assert_eq!(send(&door, "multipart/form-data; boundary=b", None, part).await.0, StatusCode::OK);
    for arrival in door.0.lock().unwrap().iter() {
        assert_eq!((arrival.lead.name.as_str(), &arrival.lead.form_data["a"]), ("René €", &json!("b=c")));
    }
}

#[tokio::test]
async fn no_field_of_a_json_body_is_lost() {
    let door = Taking::default();
    let mut body = good();
    for (name, value) in [("message", json!("outer")), ("id", json!(4711)), ("received_at", json!("morning"))]
    {
        body[name] = value;
    }
    body["ip_address"] = json!("1.2.3.4");
    body["source"]["url"] = json!(format!("https://example.com/?gclid={}", "x".repeat(2_000)));
    for (data, expected) in [
        (json!(null), json!({"message": "outer", "id": 4711, "received_at": "morning"})),
        (
            json!({"message": "inner"}),
            json!({"message": ["inner", "outer"], "id": 4711, "received_at": "morning"}),
        ),
        (json!({"message": "outer"}), json!({"message": "outer", "id": 4711, "received_at": "morning"})),
    ] {
        body["form_data"] = data;
        assert_eq!(send(&door, "application/json", None, body.to_string()).await.0, StatusCode::OK);
        let taken = door.0.lock().unwrap().pop().unwrap();
        assert_eq!(json!(taken.lead.form_data), expected);
    }
}

#[tokio::test]
async fn whatever_is_wrong_has_the_one_shape_and_nothing_is_taken() {
    let door = Taking::default();
    let file =
        "--b\r\nContent-Disposition: form-data; name=\"cv\"; filename=\"cv.pdf\"\r\n\r\nx\r\n--b--\r\n";
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(5_000));
    for (kind, body, expected) in [
        ("application/json", "{}", StatusCode::BAD_REQUEST),
        ("application/json", "{", StatusCode::BAD_REQUEST),
        ("application/json", long.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
        ("text/plain", "hello", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("multipart/form-data; boundary=b", file, StatusCode::BAD_REQUEST),
        ("multipart/form-data", "x", StatusCode::BAD_REQUEST),
    ] {
        let (status, body, _) = send(&door, kind, None, body.to_owned()).await;
        assert_eq!((status, &body["success"]), (expected, &json!(false)), "{kind}");
        assert!(body["errors"]["formErrors"].is_array() && body["errors"]["fieldErrors"].is_object());
    }
    // All else is as it should be.
    let fields = [("email", "ada@example.com"), ("name", "Ada"), ("form_name", "contact")];
    let parts = fields.map(|(name, value)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    let (status, body, _) =
        send(&door, "multipart/form-data; boundary=b", None, format!("{}{file}", parts.concat())).await;
    let said = body["errors"]["formErrors"][0].as_str().unwrap();
    assert!(status == StatusCode::BAD_REQUEST && said.starts_with("Files are not taken."), "{body}");
    let key = "x".repeat(256);
    assert_eq!(
        send(&door, "application/json", Some(&key), good().to_string()).await.0,
        StatusCode::BAD_REQUEST
    );
    assert!(door.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_conflict_is_422_and_no_home_is_503_with_a_time() {
    let conflict = Taking(Arc::default(), Some(Answer::Conflict));
    let (status, _, _) = send(&conflict, "application/json", None, good().to_string()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let full = Taking(Arc::default(), Some(Answer::Unavailable { retry_after: Duration::from_secs(5) }));
    let (status, _, has_time) = send(&full, "application/json", None, good().to_string()).await;
    assert_eq!((status, has_time), (StatusCode::SERVICE_UNAVAILABLE, true));
}

/// A door that fails in the middle of its work, and says what it was given.
struct Panicking;

impl Door for Panicking {
    fn submit(&self, arrival: Arrival) -> BoxFuture<'_, Answer> {
        Box::pin(async move { panic!("{}", arrival.lead.email.as_str()) })
    }
}

#[tokio::test]
async fn a_fault_of_ours_is_answered_in_the_one_shape_and_quotes_nothing() {
    let site = Site { door: Arc::new(Panicking), ..site(&Taking::default()) };
    let request = Request::post("/api/submit").header(header::CONTENT_TYPE, "application/json");
    let response = Outside::new(site).answer(request.body(Body::from(good().to_string())).unwrap()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert!(said["success"] == json!(false) && said["errors"]["formErrors"][0].is_string(), "{said}");
    assert!(!said.to_string().contains("ada@"), "{said}");
}
