//! What a row and its header are.

use serde_json::json;
use stand_ins::google::Google;

use super::{HEADER, SHORT_DEADLINE, grouped, named, service};
use crate::support::{ada, soon};

#[tokio::test]
async fn the_tab_and_its_header_are_made_and_the_row_is_there_when_the_answer_comes() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let mut lead = ada();
    lead["form_data"] = json!({"message": "=1+2", "zip": "007", "budget": 5000, "topics": ["a", "b"], "none": null, "email": "second@example.com"});
    let id = service.accepted(&lead).await;
    let rows = google.rows("Leads");
    let header: Vec<_> =
        HEADER.into_iter().chain(["message", "zip", "budget", "topics", "form_data.email"]).collect();
    assert_eq!(rows[0], header);
    let row = google.records("Leads").remove(0);
    let expected = [
        ("id", id.as_str()),
        ("form_name", "contact"),
        ("name", "Ada Lovelace"),
        ("email", "ada@example.com"),
        ("phone", "+44 20 7946 0018"),
        ("url", "https://example.com/contact?utm_source=news"),
        ("referrer", ""),
        ("utm_source", "news"),
        ("timezone", "Europe/London"),
        ("consent_given", "TRUE"),
        ("crm_synced", ""),
        ("message", "=1+2"),
        ("zip", "007"),
        ("budget", "5000"),
        ("topics", "[\"a\",\"b\"]"),
        ("form_data.email", "second@example.com"),
    ];
    for (name, text) in expected {
        assert_eq!(row[name], text, "{name}");
    }
    assert!(!row["submitted_at"].is_empty() && !row["consent_timestamp"].is_empty());
    let delivery = service.delivery(&id, "sheet").await;
    assert_eq!(
        (&delivery["state"], &delivery["receipt"]["remote_id"]),
        (&json!("delivered"), &json!("Leads!A2"))
    );
}

#[tokio::test]
async fn rows_begin_where_the_header_begins() {
    let google = Google::start().await;
    google.edit("Leads", |tab| tab.cells = vec![vec![json!(""), json!("id"), json!("name")]]);
    let service = service(&google, &[]).await;
    let ids = [service.accepted(&ada()).await, service.accepted(&ada()).await];
    for (row, id) in ids.iter().enumerate() {
        assert_eq!(google.rows("Leads")[row + 1][..3], ["", id.as_str(), "Ada Lovelace"]);
        let delivery = service.delivery(id, "sheet").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{delivery}");
    }
}

#[tokio::test]
async fn an_append_is_no_larger_than_the_settings_say() {
    let google = Google::start().await;
    let size = ("LEAD_INTAKE__DESTINATIONS__SHEET__APPEND_SIZE", "10KB");
    let service = service(&google, &[SHORT_DEADLINE, size]).await;
    let message = "x".repeat(3_000);
    let leads: Vec<_> =
        (0..10).map(|it| named(&format!("Lead {it}"), &json!({"message": message}))).collect();
    grouped(&google, &service, &leads).await;
    soon(google.until(|seen| seen.calls.iter().map(|call| call.rows).sum::<usize>() >= 10)).await;
    assert!(google.seen().calls.iter().all(|call| call.rows <= 3), "{:?}", google.seen().calls);
}

#[tokio::test]
async fn rows_that_google_refuses_are_told_apart_and_do_not_fail_their_neighbours() {
    let google = Google::start().await;
    let service = service(&google, &[SHORT_DEADLINE]).await;
    google.refuse("poison");
    let names = ["First", "poison 1", "Second", "Third", "poison 2", "poison 3", "Fourth"];
    let leads: Vec<_> = names.iter().map(|name| named(name, &json!({}))).collect();
    let sent = grouped(&google, &service, &leads).await;
    for (name, id) in names.iter().zip(&sent) {
        let state = if name.contains("poison") { "dead" } else { "delivered" };
        let delivery = service.until_state(id, "sheet", state).await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{name}: {delivery}");
        if state == "dead" {
            let detail = delivery["history"][0]["detail"].as_str().unwrap();
            assert!(detail.starts_with("Google refuses this row. It said: "), "{detail}");
        }
    }
    let refused = google.seen().calls.iter().any(|call| call.rows > 1 && call.status == Some(400));
    assert!(refused, "a whole group was refused");
    let mut there = google.records("Leads");
    there.sort_by(|one, other| one["name"].cmp(&other["name"]));
    let there: Vec<_> = there.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(there, ["First", "Fourth", "Second", "Third"], "each once");
}

#[tokio::test]
async fn without_consent_the_owner_s_sheet_still_gets_the_lead() {
    let google = Google::start().await;
    let service = service(&google, &[("CRM_WEBHOOK_URL", "https://crm.test/x")]).await;
    let mut lead = ada();
    lead["consent_given"] = json!(false);
    let id = service.accepted(&lead).await;
    let row = google.records("Leads").remove(0);
    assert_eq!(
        (row["id"].as_str(), row["consent_given"].as_str(), row["crm_synced"].as_str()),
        (id.as_str(), "FALSE", "FALSE")
    );
    assert_eq!(service.delivery(&id, "crm").await["state"], "withheld");
}
