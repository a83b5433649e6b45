//! Three processes at one database: no leader, and none that knows of the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use stand_ins::api::Fault::Slow;
use stand_ins::google::Fault::Wait;
use stand_ins::google::{Google, Kind, On};
use stand_ins::hook::{Fault, Hook};
use stand_ins::pipedrive;
use stand_ins::smtp::{Mode, Smtp};

use crate::support::postgres::{Server, is_here, is_needed, shared};
use crate::support::{Service, ada, soon};

/// Three of them, all configured alike.
async fn three(variables: &[(&str, &str)]) -> Vec<Service> {
    let database = shared().database().await;
    let mut all = variables.to_vec();
    all.push(("DATABASE_URL", &database));
    let all = &all;
    join_all((0..3).map(|_| Service::start(all))).await
}

fn named(name: &str) -> Value {
    let mut lead = ada();
    lead["name"] = json!(name);
    lead["email"] = json!(format!("{name}@example.com"));
    lead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spreadsheet_has_one_writer_one_header_and_one_quota() {
    if !is_here() {
        return;
    }
    let google = Google::start().await;
    let (id, key, url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    let replicas = three(&[
        ("GOOGLE_SHEETS_ID", &id),
        ("GOOGLE_CREDENTIALS_JSON", &key),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &url),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1ms, 1ms, 1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "600"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "600"),
    ])
    .await;
    let began = Instant::now();
    // Every process meets new fields all the time, the same ones and others.
    let streams = replicas.iter().enumerate().map(|(which, replica)| async move {
        let mut ids = Vec::new();
        for turn in 0..12 {
            let mut lead = named(&format!("ada{which}x{turn}"));
            lead["form_data"] = json!({ format!("shared {turn}"): "x", format!("own {which} {turn}"): "y" });
            ids.push(replica.accepted(&lead).await);
        }
        ids
    });
    let mut ids: Vec<_> = join_all(streams).await.concat();
    for id in &ids {
        replicas[0].until_state(id, "sheet", "delivered").await;
    }
    let elapsed = began.elapsed().as_secs_f64();
    let mut there: Vec<_> = google.records("Leads").into_iter().map(|row| row["id"].clone()).collect();
    ids.sort();
    there.sort();
    assert_eq!(there, ids, "each id exactly once");
    let header = google.rows("Leads")[0].clone();
    assert_eq!(header.iter().collect::<HashSet<_>>().len(), header.len(), "each column once: {header:?}");
    for row in google.records("Leads") {
        let name = row["name"].trim_start_matches("ada").split('x').collect::<Vec<_>>().join(" ");
        assert_eq!(row[&format!("own {name}")], "y", "in its own column");
    }
    // 600 a minute, a sixth of them kept for marks: 83 at once, and 417 spread over the minute.
    let seen = google.seen();
    let writes = seen.calls.iter().filter(|call| call.kind != Kind::Read).count();
    assert!(writes as f64 <= 84.0 + elapsed * 417.0 / 60.0, "{writes} writes in {elapsed} s");
    assert!(seen.calls.iter().all(|call| call.status != Some(429)), "{:?}", seen.calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_one_parked_is_parked_for_all_and_operators_are_told_once() {
    if !is_here() {
        return;
    }
    let (hook, smtp) = (Hook::start().await, Smtp::start(Mode::Plain).await);
    let (url, mail) = (hook.url(), smtp.url());
    hook.script().always(Fault::status(401));
    let mut replicas = three(&[
        ("CRM_WEBHOOK_URL", &url),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1h"),
        ("LEAD_INTAKE__MAIL__SMTP_URL", &mail),
        ("LEAD_INTAKE__MAIL__FROM", "hello@forms.example.com"),
        ("LEAD_INTAKE__OPERATOR__MAIL_TO", "ops@example.com"),
    ])
    .await;
    let first = replicas[0].accepted(&named("first")).await;
    for replica in &replicas {
        soon(async { while replica.health().await["destinations"]["crm"] != "parked" {} }).await;
    }
    let mut ids = vec![first];
    for (replica, name) in replicas.iter().zip(["second", "third", "fourth"]) {
        ids.push(replica.accepted(&named(name)).await);
    }
    assert_eq!(hook.calls().len(), 1, "nobody tries what another one knows to be refused");
    hook.script().mend();
    // A restart of one is how all of them hear of better settings.
    assert_eq!(replicas[1].terminate().await, 0);
    replicas[1] = replicas[1].again().await;
    for id in &ids {
        replicas[2].until_state(id, "crm", "delivered").await;
    }
    for replica in &replicas {
        soon(async { while replica.health().await["destinations"]["crm"] != "ok" {} }).await;
    }
    let subjects = |mails: &[stand_ins::smtp::Mail]| -> Vec<String> {
        mails.iter().filter_map(|mail| mail.header("subject").map(|it| it.to_string())).collect()
    };
    let mails = soon(smtp.until(|mails| subjects(mails).len() == 2)).await;
    assert_eq!(
        subjects(&mails),
        ["lead-intake: crm has stopped: somebody must act", "lead-intake: crm works again"]
    );
    assert!(hook.taken().values().all(|times| *times == 1), "{:?}", hook.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leads_of_one_address_at_three_processes_are_one_person_in_pipedrive() {
    if !is_here() {
        return;
    }
    let crm = pipedrive::start().await;
    let url = crm.url();
    let replicas = three(&[
        ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN),
        ("PIPEDRIVE_DOMAIN", "example"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", &url),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__RETRY", "1ms, 1ms, 1ms, 1ms, 1ms, 1ms"),
    ])
    .await;
    // The search index is slow and shows nobody who was just made: only turns and a common memory help.
    crm.vendor().search_lags = true;
    for _ in 0..6 {
        crm.next("GET /api/v2/persons/search", Slow(Duration::from_millis(300)));
    }
    let lead = ada();
    let leads = replicas.iter().chain(&replicas).map(|replica| replica.accepted(&lead));
    for id in join_all(leads).await {
        replicas[0].until_state(&id, "pipedrive", "delivered").await;
    }
    let books = crm.vendor();
    assert_eq!((books.persons.len(), books.leads.len()), (1, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_gets_one_confirmation_a_day_from_three_processes_together() {
    if !is_here() {
        return;
    }
    let smtp = Smtp::start(Mode::Plain).await;
    let url = smtp.url();
    let replicas = three(&[
        ("SMTP_URL", &url),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
    ])
    .await;
    let lead = named("grace");
    let ids = join_all(replicas.iter().map(|replica| replica.accepted(&lead))).await;
    let mut states = Vec::new();
    for id in &ids {
        let settled = replicas[0].until_delivery(id, "confirmation", |it| it["state"] != "pending").await;
        states.push(settled["state"].as_str().unwrap().to_owned());
    }
    states.sort();
    assert_eq!(states, ["cancelled", "cancelled", "delivered"]);
    assert_eq!(smtp.mails().iter().filter(|mail| mail.recipients == ["grace@example.com"]).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_was_at_is_taken_over_by_another() {
    if !is_here() {
        return;
    }
    let hook = Hook::start().await;
    let url = hook.url();
    hook.script().next(Fault::TakeThenHang);
    let database = shared().database().await;
    let variables = [
        ("CRM_WEBHOOK_URL", url.as_str()),
        ("DATABASE_URL", &database),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1ms"),
    ];
    let mut replicas = join_all((0..2).map(|_| Service::start(&variables))).await;
    let id = replicas[0].accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    replicas[0].kill().await;
    // In the place of a wait for the end of the lease.
    let name = database.split(['/', '?']).nth(3).unwrap();
    let own = shared().connect(name).await;
    own.batch_execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'").await.unwrap();
    let delivery = replicas[1].until_state(&id, "crm", "delivered").await;
    assert_eq!((&delivery["history"][0]["code"], &delivery["attempts"]), (&json!("lost"), &json!(2)));
    let calls = hook.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].id(), calls[1].id(), "the repeat looks like the first");
}

/// The same lead at both while neither can know of the other: two rows, and one answer.
async fn one_lead_to_both(replicas: &[Service], google: &Google) -> Value {
    let (lead, key) = (ada(), [("Idempotency-Key", "k")]);
    google.next(On::Appends, Wait);
    let first = replicas[0].submit_with(&lead, &key);
    let second = async {
        // The first one has looked, and found nothing.
        soon(google.until(|seen| seen.waited == 1)).await;
        let answer = replicas[1].submit_with(&lead, &key).await;
        google.go_on();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.0, &first), (200, &second));
    assert_eq!(google.records("Leads").len(), 2);
    first.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_a_lead_that_comes_to_two_processes_is_one_row() {
    if !is_here() {
        return;
    }
    let (google, mut server) = (Google::start().await, Server::start());
    let (id, key, url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    let database = server.database().await;
    let variables = [
        ("GOOGLE_SHEETS_ID", id.as_str()),
        ("GOOGLE_CREDENTIALS_JSON", &key),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &url),
        ("LEAD_INTAKE__STORE__TIMEOUT", "300ms"),
        ("DATABASE_URL", &database),
    ];
    let replicas = join_all((0..2).map(|_| Service::start(&variables))).await;
    server.tell("stop");
    let mut ids = Vec::new();
    for replica in &replicas {
        assert_eq!(replica.get("/health/ready").await.0, 200, "leads are taken all the same");
        let (status, body) = replica.submit_with(&ada(), &[("Idempotency-Key", "k")]).await;
        assert_eq!(status, 200, "{body}");
        ids.push(body["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    server.tell("start");
    let delivery = replicas[0].until_state(&ids[0], "sheet", "delivered").await;
    assert!(delivery["receipt"].is_object());
    assert_eq!(google.records("Leads").len(), 1);
}

/// Two processes with one sheet; `users` are who they are to the database.
async fn two(google: &Google, database: &str, users: [&str; 2]) -> Vec<Service> {
    let (id, key, url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    join_all(users.map(async |user| {
        let database = database.replace("postgres://lead@", &format!("postgres://{user}@"));
        Service::start(&[
            ("GOOGLE_SHEETS_ID", id.as_str()),
            ("GOOGLE_CREDENTIALS_JSON", &key),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &url),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__TIMEOUT", "3s"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__LEASE_SLACK", "1ms"),
            ("LEAD_INTAKE__STORE__TIMEOUT", "300ms"),
            ("DATABASE_URL", &database),
        ])
        .await
    }))
    .await
}

/// Waits until the sheet has one row, which bears no mark; its id.
async fn one_row_without_a_mark(google: &Google) -> String {
    soon(async {
        loop {
            let rows = google.records("Leads");
            if let [row] = rows.as_slice()
                && row.get("lead_intake_mark").is_none_or(String::is_empty)
            {
                return row["id"].clone();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_a_lead_that_comes_to_two_processes_at_once_ends_as_one_row() {
    if !is_here() {
        return;
    }
    let (google, mut server) = (Google::start().await, Server::start());
    let replicas = two(&google, &server.database().await, ["lead", "lead"]).await;
    server.tell("stop");
    let answer = one_lead_to_both(&replicas, &google).await;
    server.tell("start");
    let id = one_row_without_a_mark(&google).await;
    assert_eq!(answer["id"], json!(id));
    replicas[0].until_state(&id, "sheet", "delivered").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_one_process_keeps_while_another_one_can_store_it_ends_as_one_row() {
    if !is_here() {
        return;
    }
    let (google, server) = (Google::start().await, Server::start());
    let own = server.connect("postgres").await;
    own.batch_execute("CREATE ROLE cut_off SUPERUSER LOGIN").await.unwrap();
    let replicas = two(&google, &server.database().await, ["cut_off", "lead"]).await;
    let cut = "ALTER ROLE cut_off NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cut_off'";
    own.batch_execute(cut).await.unwrap();
    one_lead_to_both(&replicas, &google).await;
    own.batch_execute("ALTER ROLE cut_off LOGIN").await.unwrap();
    let id = one_row_without_a_mark(&google).await;
    replicas[0].until_state(&id, "sheet", "delivered").await;
}

/// A port that nobody has, for a process that keeps it over a restart.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that ends with the test, however that ends.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy with our configuration, before processes on these ports.
fn proxy(folder: &std::path::Path, ports: &[u16]) -> Option<(Program, u16)> {
    let haproxy = ["/usr/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/sbin/haproxy"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    assert!(haproxy.is_some() || !is_needed(), "HAProxy is not installed: apt-get install haproxy");
    let front = port();
    let ours = include_str!("../../config/haproxy.cfg");
    let template = "    server-template process 3 lead-intake:8080 resolvers docker init-addr none\n";
    let servers: String = ports.iter().map(|port| format!("    server p{port} 127.0.0.1:{port}\n")).collect();
    let text = ours.replace(template, &servers).replace("bind :8080", &format!("bind 127.0.0.1:{front}"));
    assert!(text.contains(&servers) && text.contains(&front.to_string()), "the file has changed");
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(haproxy?);
    command.args(["-db", "-f"]).arg(file).stdout(std::process::Stdio::null());
    Some((Program(command.stderr(std::process::Stdio::null()).spawn().unwrap()), front))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_drops_no_request_and_loses_no_lead() {
    if !is_here() {
        return;
    }
    let hook = Hook::start().await;
    let url = hook.url();
    let database = shared().database().await;
    let ports = [port(), port(), port()];
    let folder = tempfile::tempdir().unwrap();
    let mut replicas = Vec::new();
    for port in ports {
        let bind = format!("127.0.0.1:{port}");
        let variables = [
            ("CRM_WEBHOOK_URL", url.as_str()),
            ("DATABASE_URL", &database),
            ("BIND", &bind),
            ("LEAD_INTAKE__SERVER__DRAIN", "3s"),
        ];
        replicas.push(Service::start(&variables).await);
    }
    let Some((child, front)) = proxy(folder.path(), &ports) else { return };
    let address = format!("http://127.0.0.1:{front}/api/submit");
    let client = replicas[0].client().clone();
    soon(async {
        while !client
            .get(format!("http://127.0.0.1:{front}/health/ready"))
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
        {}
    })
    .await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let visitors = (0..4).map(|which| {
        let (client, address, done) = (client.clone(), address.clone(), Arc::clone(&done));
        async move {
            let mut ids = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let lead = named(&format!("v{which}x{}", ids.len()));
                let answer = client.post(&address).json(&lead).send().await.unwrap();
                assert_eq!(answer.status(), 200, "no request is dropped");
                let body: Value = answer.json().await.unwrap();
                ids.push(body["id"].as_str().unwrap().to_owned());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ids
        }
    });
    let update = async {
        for replica in &mut replicas {
            assert_eq!(replica.terminate().await, 0);
            *replica = replica.again().await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (ids, ()) = soon(async { tokio::join!(join_all(visitors), update) }).await;
    drop(child);
    let ids = ids.concat();
    assert!(ids.len() > 100, "{}", ids.len());
    let taken = soon(hook.until(|calls| calls.len() >= ids.len())).await;
    let taken: HashSet<_> = taken.iter().map(|call| call.id().to_owned()).collect();
    for id in ids {
        assert!(taken.contains(&format!("{id}_crm")), "{id} went on its way");
    }
}
