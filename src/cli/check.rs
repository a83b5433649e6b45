//! `lead-intake check`

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{Common, Failure, print_json};
use crate::config;
use crate::delivery::State;
use crate::destination::commons::Alone;
use crate::destination::registry::Tools;
use crate::net::Net;
use crate::store::archive::Mark;
use crate::store::{self, StoreError};

#[derive(Args)]
pub(super) struct Check {
    /// Also tries every credential, without sending a lead
    #[arg(long)]
    online: bool,
}

/// What was found about one thing.
struct Finding {
    subject: String,
    code: Option<String>,
    text: String,
}

impl Check {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let config = match config::load(&common.inputs()) {
            Ok(config) => config,
            Err(problems) if common.json => {
                print_json(&json!({ "ok": false, "problems": problems }))?;
                return Err(Failure::Said);
            }
            Err(problems) => {
                say!("{problems}");
                return Err(Failure::Said);
            }
        };
        let mut findings = Vec::new();
        // A store that is not there yet will be made by serve; one that is there is looked into.
        let there = match config.store.is_there().await {
            Ok(false) => None,
            Ok(true) => Some(store::connect::open_to_look(&config.store).await),
            Err(error) => Some(Err(error)),
        };
        if let Some(opened) = there {
            match opened {
                Ok(store) => {
                    if matches!(store.mark().await, Ok(Some(Mark::Filling))) {
                        findings.push(Finding {
                            subject: "store.url".to_owned(),
                            code: Some("half_moved".to_owned()),
                            text: "The store is half of a move, and the service will not work in it. Run `lead-intake migrate --from … --to …` again until it says that both hold the same.".to_owned(),
                        });
                    }
                    for (name, state, count) in store.counts().await.unwrap_or_default() {
                        let removed = config.destinations.iter().all(|configured| configured.name != name);
                        if state == State::Pending && removed {
                            findings.push(Finding {
                                subject: format!("destinations.{name}"),
                                code: Some("removed".to_owned()),
                                text: format!("{count} deliveries wait for it, but it is no longer configured. Configure it again, or run `lead-intake deliveries cancel --destination {name}`."),
                            });
                        }
                    }
                    store.close().await;
                }
                Err(StoreError::Outdated) => findings.push(Finding {
                    subject: "store.url".to_owned(),
                    code: None,
                    text: "An earlier release made its schema; `lead-intake serve` brings it up to date."
                        .to_owned(),
                }),
                Err(error) => findings.push(Finding {
                    subject: "store.url".to_owned(),
                    code: Some("unavailable".to_owned()),
                    text: crate::report::Chain(&error).to_string(),
                }),
            }
        }
        let names: Vec<_> =
            config.destinations.iter().map(|configured| configured.name.to_string()).collect();
        if self.online {
            let tools = Tools { net: Net::new(), tracker: TaskTracker::new(), commons: Arc::new(Alone) };
            for configured in config.destinations {
                let built = configured.parsed.build(&configured.name, &tools);
                let end = tokio::time::timeout(configured.lane.timeout, built.destination.check()).await;
                let (code, text) = match end {
                    Ok(Ok(())) => (None, "ok".to_owned()),
                    Ok(Err(error)) => (Some(error.code), error.detail),
                    Err(_) => (Some("timeout".to_owned()), "It did not answer in its `timeout`.".to_owned()),
                };
                findings.push(Finding { subject: format!("destinations.{}", configured.name), code, text });
            }
        }
        report(common, &names, &findings)
    }
}

fn report(common: &Common, names: &[String], findings: &[Finding]) -> Result<(), Failure> {
    let problems: Vec<_> = findings.iter().filter(|finding| finding.code.is_some()).collect();
    if common.json {
        let listed: Vec<_> = problems
            .iter()
            .map(|finding| json!({ "path": finding.subject, "code": finding.code, "message": finding.text }))
            .collect();
        print_json(&json!({ "ok": problems.is_empty(), "destinations": names, "problems": listed }))?;
    } else {
        for finding in findings {
            let mark = if finding.code.is_some() { "✗" } else { "✓" };
            say!("{mark} {}: {}", finding.subject, finding.text);
        }
        if problems.is_empty() {
            let list = if names.is_empty() {
                "none (leads are stored and go nowhere)".to_owned()
            } else {
                names.join(", ")
            };
            say!("The configuration is fine. Destinations: {list}.");
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Said) }
}
