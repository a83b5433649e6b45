//! One round: load, trouble, kills; then peace, and the verdict.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plan::{At, Kill, Line, Plan};
use crate::process::Process;
use crate::trouble;
use crate::verdict::{self, Count, Evidence};
use crate::visitors::{Pace, Submission, Visitors};
use crate::world::{Replica, World};

/// How long a kill waits for its point before it strikes at random.
const WAIT: Duration = Duration::from_millis(1_500);

/// How long one waits whose point is at the sheet: a dead process has its turn for ten seconds more.
const SHEETS_WAIT: Duration = Duration::from_secs(12);

/// How long one waits in a long round.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// How long everything may take to end once nothing is in its way: in a round of seconds, and in a long one.
const PEACE: (Duration, Duration) = (Duration::from_secs(150), Duration::from_secs(400));

/// How long the service may take to tell how it is.
const ANSWER: Duration = Duration::from_secs(5);

/// How long all has been quiet before leads are brought home from the sheet, and before that is tried again.
const IMPORT: Duration = Duration::from_secs(2);

/// The column in which the sheet keeps a whole lead for the store.
const MARK: &str = "lead_intake_mark";

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(250);

/// What a round came to.
pub(crate) struct Ended {
    pub(crate) plan: Plan,
    /// What was promised and not kept.
    pub(crate) wrong: Vec<String>,
    /// Where everything that is known of it is kept, if something was wrong.
    pub(crate) kept: Option<PathBuf>,
    pub(crate) count: Count,
    /// The points where it was killed, and whether it came to them in time.
    pub(crate) kills: Vec<(&'static str, bool)>,
    pub(crate) took: Duration,
}

/// Plays the round.
pub(crate) async fn play(plan: Plan, world: World, keep: &Path) -> Ended {
    let began = Instant::now();
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build();
    let client = client.expect("a client needs nothing");
    let mut round = Round { plan, world, client, kills: Vec::new(), wrong: Vec::new() };
    let submissions = round.storm().await;
    let records = match submissions.is_empty() {
        true => Vec::new(),
        false => round.peace(&submissions).await,
    };
    let mut logs = Vec::new();
    for replica in &round.world.replicas {
        replica.kill().await;
        logs.extend(std::mem::take(&mut *replica.logs.lock().await));
    }
    // A store that was never made has been told of.
    if !submissions.is_empty() {
        match round.world.base.orphans().await {
            Ok(0) => {}
            Ok(count) => round.wrong.push(format!("{count} deliveries are there without their lead")),
            Err(said) => round.wrong.push(format!("the store cannot be read: {said}")),
        }
    }
    let lines: Vec<_> = logs.iter().flatten().cloned().collect();
    let (wrong, count) = verdict::judge(&Evidence {
        submissions: &submissions,
        records: &records,
        vendors: &round.world.vendors,
        logs: &lines,
        deals: round.plan.deals,
    });
    round.wrong.extend(wrong);
    let kept = (!round.wrong.is_empty())
        .then(|| keep_evidence(keep, &round, &submissions, &records, &logs).ok())
        .flatten();
    let Round { plan, wrong, kills, .. } = round;
    Ended { plan, wrong, kept, count, kills, took: began.elapsed() }
}

struct Round {
    plan: Plan,
    world: World,
    client: reqwest::Client,
    kills: Vec<(&'static str, bool)>,
    wrong: Vec<String>,
}

impl Round {
    /// Load, trouble and kills; what was sent.
    async fn storm(&mut self) -> Vec<Submission> {
        for replica in &self.world.replicas {
            if let Err(said) = replica.start().await {
                self.wrong.push(format!("the service does not start:\n{said}"));
                return Vec::new();
            }
        }
        let fronts: Vec<_> = self.world.replicas.iter().map(|it| it.wires[&Line::Front].url()).collect();
        let mut rng = self.plan.rng.clone();
        let is_long = self.plan.lasts.is_some();
        let pace = if is_long { Pace::CALM } else { Pace::BUSY };
        let visitors = Visitors::start(&fronts, &pace, &mut rng);
        let enough = CancellationToken::new();
        let wait = if is_long { LONG_WAIT } else { WAIT };
        let kills = async {
            let (mut reached, mut wrong) = (Vec::new(), Vec::new());
            let mut due = Instant::now();
            for kill in &self.plan.kills {
                let replica = &self.world.replicas[kill.victim];
                // Those that have waited for the service to come up make no long round longer.
                due = if is_long { due } else { Instant::now() } + Duration::from_millis(kill.calm);
                tokio::time::sleep_until(due).await;
                reached.push((kill.point.name, strike(replica, kill, wait, &mut rng).await));
                tokio::time::sleep(Duration::from_millis(kill.dead)).await;
                if let Err(said) = replica.start().await {
                    wrong.push(format!("the service does not come back:\n{said}"));
                }
            }
            enough.cancel();
            (reached, wrong)
        };
        let trouble = trouble::bring(&self.plan, &self.world, &enough);
        let ((reached, wrong), ()) = tokio::join!(kills, trouble);
        self.kills = reached;
        self.wrong.extend(wrong);
        visitors.end().await.all()
    }

    /// Waits until nothing is left to do; what the store says then.
    async fn peace(&mut self, submissions: &[Submission]) -> Vec<Value> {
        let peace = if self.plan.lasts.is_some() { PEACE.1 } else { PEACE.0 };
        let until = Instant::now() + peace;
        let (mut imported, mut tried) = (false, Instant::now());
        loop {
            self.see_to_it_that_they_run().await;
            let is_over = Instant::now() > until;
            if self.is_idle().await || is_over {
                // What the sheet kept while the store was away, and whose process died: what README says.
                if !imported && (tried.elapsed() > IMPORT || is_over) {
                    tried = Instant::now();
                    let (done, _, said) = self.world.replicas[0].recipe.run(&["leads", "import"]).await;
                    let log = said.lines().map(str::to_owned).collect();
                    self.world.replicas[0].logs.lock().await.push(log);
                    imported = done || is_over;
                    if !done && is_over {
                        self.wrong.push(format!("`leads import` fails: {said}"));
                    }
                    continue;
                }
                match self.records(submissions).await {
                    Ok((records, is_all)) if is_over || is_all && (imported || self.no_mark_is_left()) => {
                        return records;
                    }
                    Err(said) if is_over => {
                        self.wrong.push(format!("the leads cannot be read: {said}"));
                        return Vec::new();
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the sheet keeps no lead that the store may not have: its process may have died before it saw to it.
    fn no_mark_is_left(&self) -> bool {
        let is_empty = |row: &HashMap<String, String>| row.get(MARK).is_none_or(String::is_empty);
        self.world.vendors.google.records("Leads").iter().all(is_empty)
    }

    /// Every lead, as an operator gets them, and whether that is all that was answered for and all is done.
    async fn records(&self, submissions: &[Submission]) -> Result<(Vec<Value>, bool), String> {
        let (done, text, said) = self.world.replicas[0].recipe.run(&["leads", "export", "--json"]).await;
        if !done {
            return Err(said);
        }
        let record = |line: &str| serde_json::from_str(line).map_err(|error| error.to_string());
        let records: Vec<Value> = text.lines().map(record).collect::<Result<_, _>>()?;
        let is_all = verdict::missing(submissions, &records).is_empty() && self.is_idle().await;
        Ok((records, is_all))
    }

    /// A service that ended by itself is a broken promise: nothing is in its way now.
    async fn see_to_it_that_they_run(&mut self) {
        for replica in &self.world.replicas {
            let mut slot = replica.process.lock().await;
            let ended = slot.as_mut().and_then(Process::has_ended);
            let gone = slot.is_none();
            drop(slot);
            if let Some(how) = ended {
                self.wrong.push(format!("the service ended by itself: {how}"));
                replica.kill().await;
            } else if !gone {
                continue;
            }
            if replica.start().await.is_err() {
                self.wrong.push("the service does not come back".to_owned());
            }
        }
    }

    /// Whether no delivery is pending, by the service's own metrics.
    async fn is_idle(&self) -> bool {
        let url = format!("{}/metrics", self.world.replicas[0].wires[&Line::Front].url());
        let Ok(answer) = self.client.get(url).send().await else { return false };
        let Ok(text) = answer.text().await else { return false };
        let pending =
            |line: &&str| line.starts_with("lead_intake_deliveries{") && line.contains("state=\"pending\"");
        text.contains("lead_intake_store_ok 1")
            && text.lines().filter(pending).all(|line| line.ends_with(" 0"))
    }
}

/// Kills a replica at the point, or at random when it does not come to that. Whether it came to that.
async fn strike(replica: &Replica, kill: &Kill, wait: Duration, rng: &mut fastrand::Rng) -> bool {
    let moment = Duration::from_millis(rng.u64(..300));
    let reached = match kill.point.at {
        At::Random => {
            tokio::time::sleep(moment).await;
            true
        }
        At::Log(message) => {
            let slot = replica.process.lock().await;
            let Some(process) = slot.as_ref() else { return false };
            // Its start has been logged before.
            let (nth, from) = if message == "listening" { (1, 0) } else { (kill.nth, process.count()) };
            matches!(tokio::time::timeout(wait, process.said(message, nth, from)).await, Ok(Some(_)))
        }
        At::Wire(line, ask, when) => {
            let Some(wire) = replica.wire(line) else { return false };
            let mut hold = wire.stop_at(ask, when, kill.nth);
            let wait = if line == Line::Sheet { SHEETS_WAIT } else { wait };
            let reached = tokio::time::timeout(wait, hold.reached()).await.is_ok();
            // Held until it is dead.
            replica.kill().await;
            return reached;
        }
        At::Start => {
            replica.kill().await;
            if let Ok(process) = replica.recipe.start() {
                tokio::time::sleep(moment / 4).await;
                replica.logs.lock().await.push(process.kill().await);
            }
            true
        }
        At::Stop => {
            let slot = replica.process.lock().await;
            let Some(process) = slot.as_ref() else { return false };
            process.ask_to_stop().await;
            tokio::time::sleep(moment).await;
            true
        }
    };
    replica.kill().await;
    reached
}

/// Writes down all that is known.
fn keep_evidence(
    keep: &Path,
    round: &Round,
    submissions: &[Submission],
    records: &[Value],
    logs: &[Vec<String>],
) -> std::io::Result<PathBuf> {
    let folder = keep.join(format!("round-{}", round.plan.number));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("plan.txt"), format!("{:#?}\n{:#?}\n", round.plan, round.kills))?;
    std::fs::write(folder.join("wrong.txt"), round.wrong.join("\n"))?;
    for (number, lines) in logs.iter().enumerate() {
        std::fs::write(folder.join(format!("service-{number:03}.log")), lines.join("\n"))?;
    }
    let lines = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join("\n");
    std::fs::write(folder.join("sent.txt"), lines(&mut submissions.iter().map(|it| format!("{it:?}"))))?;
    std::fs::write(folder.join("leads.jsonl"), lines(&mut records.iter().map(Value::to_string)))?;
    let vendors = &round.world.vendors;
    let rows = vendors.google.rows("Leads").into_iter().map(|row| row.join("\t"));
    std::fs::write(folder.join("sheet.tsv"), lines(&mut rows.into_iter()))?;
    let calls: Vec<_> = vendors.google.seen().calls.iter().map(|call| format!("{call:?}")).collect();
    std::fs::write(folder.join("google.txt"), calls.join("\n"))?;
    let taken: BTreeMap<_, _> = vendors.hook.taken().into_iter().collect();
    std::fs::write(folder.join("hook.json"), json!(taken).to_string())?;
    let calls = vendors.pipedrive.calls().into_iter().chain(vendors.hubspot.calls());
    let calls = calls.map(|it| format!("{:?} {} {:?} {}", it.answered, it.line(), it.query, it.body));
    std::fs::write(folder.join("crm.txt"), lines(&mut calls.into_iter()))?;
    if let crate::base::Base::Sqlite { file, .. } = &round.world.base {
        let name = file.file_name().unwrap_or_default();
        std::fs::copy(file, folder.join(name))?;
    }
    Ok(folder)
}
