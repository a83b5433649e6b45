//! The log has readers that are slow, stuck or gone, and no lead waits for them.

use std::process::Stdio;

use lead_intake::telemetry::{self, Format, LastLines, Settings};
use serde_json::Value;
use tokio::net::unix::pipe;
use tokio::process::Command;

use crate::support::{Service, ada, binary, soon};

/// What a pipe (64 KiB) and the reader's own buffer hold, in bytes, and somewhat more.
const FULL: usize = 80 * 1024;

/// So many leads log a line of some 190 bytes each: more than a pipe, its reader and 32 KiB beside hold.
const LEADS: usize = 800;

async fn take(service: &Service, leads: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..leads {
        ids.push(soon(service.accepted(&ada())).await);
    }
    ids
}

fn parsed(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn accepted(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .filter(|line| line["message"] == "accepted")
        .filter_map(|line| line["lead"].as_str())
        .collect()
}

/// How many lines are said to be missing.
fn dropped(lines: &[Value]) -> u64 {
    let notices =
        lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with("log lines were dropped"));
    notices.map(|line| line["lines"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn no_lead_waits_for_whoever_reads_the_log_and_no_line_is_lost() {
    let mut service = Service::start(&[]).await;
    let unread = service.leave_unread().await;
    let ids = take(&service, LEADS).await;
    assert_eq!(soon(service.health()).await["status"], "ok");
    drop(unread);
    assert_eq!(service.terminate().await, 0);
    let log = service.log();
    let lines = parsed(&log);
    assert!(log.len() > FULL, "the pipe was full: {} bytes", log.len());
    assert_eq!(accepted(&lines), ids, "every line, in its order");
    assert_eq!(dropped(&lines), 0);
    assert_eq!(lines.last().unwrap()["message"], "stopped", "the last line is written, too");
}

#[tokio::test]
async fn what_may_not_wait_for_a_reader_is_dropped_and_counted() {
    let mut service = Service::start(&[("LEAD_INTAKE__LOG__BUFFER", "32KiB")]).await;
    let unread = service.leave_unread().await;
    let ids = take(&service, LEADS).await;
    drop(unread);
    service.until_logged("log lines were dropped").await;
    let after = take(&service, 1).await;
    assert_eq!(service.terminate().await, 0);
    let lines = parsed(&service.log());
    let (said, missing) = (accepted(&lines), dropped(&lines));
    assert!(missing > 0);
    assert_eq!(said.len() as u64 + missing, LEADS as u64 + 1, "each line is there or counted");
    let kept = said.len() - 1;
    assert_eq!(said[..kept], ids[..kept], "the newest are dropped");
    assert_eq!(said[kept], after[0], "what comes later is written again");
    let notice = lines.iter().position(|line| line["lines"].is_u64()).unwrap();
    assert_eq!(lines[notice - 1]["lead"], ids[kept - 1].as_str(), "said where they are missing");
}

#[tokio::test]
async fn a_service_ends_though_nobody_reads_its_log() {
    let mut service = Service::start(&[]).await;
    let _unread = service.leave_unread().await;
    take(&service, LEADS).await;
    service.ask_to_end().await;
    assert_eq!(service.end().await, 0);
}

#[tokio::test]
async fn a_start_that_fails_ends_though_nobody_reads_why() {
    let (sender, _reader) = pipe::pipe().unwrap();
    soon(sender.writable()).await.unwrap();
    // Whole pages, so that the last one leaves no byte free.
    while sender.try_write(&[b'\n'; 4096]).is_ok() {}
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(folder.path(), &[("BIND", &address)]);
    command.stderr(Stdio::from(sender.into_blocking_fd().unwrap()));
    let ended = soon(command.status()).await.unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn a_panic_is_a_line_of_the_log_and_quotes_nobody() {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "--nocapture", "log::a_service_that_panics"]);
    let ended = soon(process.output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    let lines = parsed(&said);
    assert_eq!(lines.len(), 2, "{said}");
    for (line, why) in lines.iter().zip(["a word of ours", "see there"]) {
        assert_eq!((&line["level"], &line["why"]), (&"ERROR".into(), &why.into()), "{said}");
        assert!(line["at"].as_str().unwrap().starts_with("tests/it/log.rs:"), "{said}");
    }
}

#[test]
#[ignore = "the process that a_panic_is_a_line_of_the_log_and_quotes_nobody listens to"]
fn a_service_that_panics() {
    let _last_lines = LastLines::of_process();
    telemetry::start(&Settings { filter: "off".to_owned(), format: Format::Json, buffer: 1 << 20 });
    let email = ada()["email"].clone();
    assert!(std::thread::spawn(|| panic!("a word of ours")).join().is_err());
    assert!(std::thread::spawn(move || panic!("{email} is no number")).join().is_err());
}
