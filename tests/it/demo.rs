//! `lead-intake demo`, as a new user types it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{ada, soon};

#[tokio::test]
async fn one_command_shows_a_lead_travel_to_every_vendor_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lead-intake"));
    command.arg("demo").env_clear().env("TMPDIR", temporary.path()).current_dir(temporary.path());
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let url = soon(async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if let Some(at) = line.find("http://") {
                return line[at..].split(' ').next().unwrap().to_owned();
            }
        }
    })
    .await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("data-lead-intake=\"contact\""));
    let script = page.split("<script src=\"").nth(1).unwrap().split('"').next().unwrap();
    let service = script.strip_suffix("/form.js").unwrap();
    assert!(client.get(script).send().await.unwrap().status().is_success());

    let vendor = |name: &str, how: &str| client.post(format!("{url}/vendors/{name}/{how}")).send();
    assert_eq!(vendor("webhook", "down").await.unwrap().status().as_u16(), 204);
    let post = client.post(format!("{service}/api/submit")).header("Origin", &url).json(&ada());
    assert!(post.send().await.unwrap().status().is_success());
    let until = async |fits: fn(&Value) -> bool| {
        soon(async {
            loop {
                let state: Value =
                    client.get(format!("{url}/state")).send().await.unwrap().json().await.unwrap();
                if fits(&state) {
                    return state;
                }
            }
        })
        .await
    };
    let state = until(|state| state["calls"][0]["answered"] == 503).await;
    assert_eq!(state["sheet"][1][3], "Ada Lovelace");
    assert_eq!(state["mails"].as_array().unwrap().len(), 2);
    assert_eq!(state["down"]["webhook"], true);
    vendor("webhook", "up").await.unwrap();
    until(|state| {
        let deliveries = state["leads"][0]["deliveries"].as_array().unwrap();
        deliveries.len() == 6 && deliveries.iter().all(|delivery| delivery["state"] == "delivered")
    })
    .await;

    let state = until(|state| state["sheet"][1][16] == "TRUE").await;
    assert_eq!(state["contacts"][0]["properties"]["firstname"], "Ada");
    assert_eq!(
        (&state["pipedrive"]["persons"][0]["name"], &state["pipedrive"]["notes"]),
        (&"Ada Lovelace".into(), &1.into())
    );
    assert_eq!(state["pipedrive"]["deals"].as_array().unwrap().len(), 1);

    let id = demo.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &id]).status().await.unwrap();
    assert!(soon(demo.wait()).await.unwrap().success());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
