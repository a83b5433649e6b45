//! `lead-intake demo`, as a new user types it.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{ada, soon};

/// A running demo, its page, and somebody who looks at it.
struct Demo {
    process: Child,
    client: reqwest::Client,
    url: String,
    page: String,
    service: String,
}

impl Demo {
    async fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lead-intake"));
        command.arg("demo").args(arguments).env_clear().env("TMPDIR", folder).current_dir(folder);
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
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
        let script = page.split("<script src=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(client.get(script).send().await.unwrap().status().is_success());
        let service = script.strip_suffix("/form.js").unwrap().to_owned();
        Self { process, client, url, page, service }
    }

    async fn switch(&self, vendor: &str, how: &str) {
        let switched = self.client.post(format!("{}/vendors/{vendor}/{how}", self.url)).send().await.unwrap();
        assert_eq!(switched.status().as_u16(), 204);
    }

    async fn submit(&self) {
        let post = self.client.post(format!("{}/api/submit", self.service));
        let answer = post.header("Origin", &self.url).json(&ada()).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    async fn until(&self, fits: fn(&Value) -> bool) -> Value {
        soon(async {
            loop {
                let state = self.client.get(format!("{}/state", self.url)).send().await.unwrap();
                let state: Value = state.json().await.unwrap();
                if fits(&state) {
                    return state;
                }
            }
        })
        .await
    }

    /// Ctrl-C.
    async fn interrupt(mut self) {
        let id = self.process.id().unwrap().to_string();
        Command::new("kill").args(["-INT", &id]).status().await.unwrap();
        assert!(soon(self.process.wait()).await.unwrap().success());
    }
}

fn has_arrived_everywhere(state: &Value) -> bool {
    let deliveries = state["leads"][0]["deliveries"].as_array().unwrap();
    deliveries.len() == 6 && deliveries.iter().all(|delivery| delivery["state"] == "delivered")
}

#[tokio::test]
async fn one_command_shows_a_lead_travel_to_every_vendor_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let demo = Demo::start(temporary.path(), &[]).await;
    assert!(demo.page.contains("data-lead-intake=\"contact\""));
    assert!(demo.page.contains("<span>Mail server<small>closes with 421</small></span>"));

    demo.switch("webhook", "down").await;
    demo.submit().await;
    let state = demo.until(|state| state["calls"][0]["answered"] == 503).await;
    assert_eq!(state["sheet"][1][3], "Ada Lovelace");
    assert_eq!(state["mails"].as_array().unwrap().len(), 2);
    assert_eq!(state["down"]["webhook"], true);
    demo.switch("webhook", "up").await;
    demo.until(has_arrived_everywhere).await;

    let state = demo.until(|state| state["sheet"][1][16] == "TRUE").await;
    assert_eq!(state["contacts"][0]["properties"]["firstname"], "Ada");
    assert_eq!(
        (&state["pipedrive"]["persons"][0]["name"], &state["pipedrive"]["notes"]),
        (&"Ada Lovelace".into(), &1.into())
    );
    assert_eq!(state["pipedrive"]["deals"].as_array().unwrap().len(), 1);

    demo.interrupt().await;
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_mail_api_takes_the_demos_mails_goes_down_and_is_mended() {
    for (word, name) in [("resend", "Resend"), ("postmark", "Postmark"), ("sendgrid", "SendGrid")] {
        let temporary = tempfile::tempdir().unwrap();
        let demo = Demo::start(temporary.path(), &["--mail", word]).await;
        assert!(demo.page.contains(&format!("<span>{name}<small>answers 500</small></span>")));
        assert!(demo.page.contains(&format!("stand-ins of Google Sheets, {name}, HubSpot")));
        demo.switch("mail", "down").await;
        demo.submit().await;
        let refused = demo.until(|state| {
            let deliveries = state["leads"][0]["deliveries"].as_array();
            let mails = deliveries.into_iter().flatten().filter(|delivery| {
                ["notification", "confirmation"].contains(&delivery["destination"].as_str().unwrap())
            });
            mails.filter(|delivery| delivery["attempts"][0]["outcome"] == "transient").count() == 2
        });
        let state = refused.await;
        assert_eq!((&state["down"]["mail"], &state["mails"]), (&true.into(), &Value::Array(Vec::new())));
        demo.switch("mail", "up").await;
        let state = demo.until(has_arrived_everywhere).await;
        let mut readers: Vec<_> = state["mails"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mail| {
                assert!(mail["html"].as_str().unwrap().contains("Ada"));
                (mail["team"].as_bool().unwrap(), mail["to"].as_str().unwrap())
            })
            .collect();
        readers.sort_unstable();
        assert_eq!(readers, [(false, "ada@example.com"), (true, "sales@your-company.example")]);
        demo.interrupt().await;
    }
}
