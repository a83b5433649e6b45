//! What goes wrong beside the kills, for a bounded time: for seconds, again and again until the kills are over, or for
//! minutes on end.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use stand_ins::api::{Api, Fault, Reply, Vendor};
use stand_ins::google::{self, On};
use stand_ins::hook;
use stand_ins::smtp::{Stage, What};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::Disk;
use crate::plan::{Line, Plan, Trouble};
use crate::wire::State;
use crate::world::{Replica, Vendors, World};

/// How long a write that Google was late with takes: less than the service gives it.
const LATE: Duration = Duration::from_millis(500);

/// How often vendors misbehave in a long round, in milliseconds.
const NOW_AND_THEN: std::ops::Range<u64> = 1_000..10_000;

/// Brings the plan's trouble, again and again until it is enough, or for as long as it lasts; then all is as it was.
pub(crate) async fn bring(plan: &Plan, world: &World, enough: &CancellationToken) {
    let late = async {
        loop {
            tokio::time::sleep(LATE).await;
            world.vendors.google.apply_late();
        }
    };
    let trouble = async {
        match plan.lasts {
            Some(lasts) => stay(plan, world, lasts).await,
            None => storm(plan, world, enough).await,
        }
    };
    tokio::select! {
        () = trouble => {}
        () = late => {}
    }
    world.vendors.mend();
    world.vendors.google.apply_late();
    world.vendors.pipedrive.vendor().index();
    if let Some(clock) = &world.clock {
        clock.jump(0);
    }
}

async fn storm(plan: &Plan, world: &World, enough: &CancellationToken) {
    let mut rng = plan.rng.clone();
    while !enough.is_cancelled() {
        pause(rng.u64(100..600), enough).await;
        if enough.is_cancelled() {
            break;
        }
        if world.replicas.iter().any(Replica::struggles) {
            continue;
        }
        let lasts = rng.u64(300..2_500);
        match plan.trouble {
            Trouble::None => {}
            Trouble::Cut | Trouble::Swallowed => {
                let lines: Vec<_> = Line::VENDORS.into_iter().filter(|_| rng.bool()).collect();
                let how = if plan.trouble == Trouble::Cut { State::Cut } else { State::Swallowing };
                world.set(&lines, how);
                pause(lasts, enough).await;
                world.set(&lines, State::Whole);
            }
            Trouble::StoreCut => {
                world.set(&[Line::Database], if rng.bool() { State::Cut } else { State::Swallowing });
                pause(lasts, enough).await;
                world.set(&[Line::Database], State::Whole);
            }
            Trouble::StoreAway => {
                let _ = world.base.take_away().await;
                pause(lasts, enough).await;
                world.base.give_back().await;
            }
            Trouble::DiskFull => {
                if let Some(disk) = &world.disk {
                    disk.fill();
                    pause(lasts, enough).await;
                    disk.free();
                }
            }
            Trouble::Clock => {
                let Some(clock) = &world.clock else { continue };
                let hours = rng.i64(1..72) * if rng.bool() { 1 } else { -1 };
                clock.jump(hours * 3_600 + rng.i64(0..3_600));
                pause(lasts, enough).await;
                if rng.bool() {
                    clock.jump(0);
                }
            }
        }
        if plan.faults {
            misbehave(&world.vendors, &mut rng);
        }
    }
}

/// The trouble comes once, and stays.
async fn stay(plan: &Plan, world: &World, lasts: Duration) {
    let mut rng = plan.rng.clone();
    // By then something is under way.
    tokio::time::sleep(Duration::from_millis(rng.u64(500..5_000))).await;
    let until = Instant::now() + lasts;
    let lines: Vec<_> = match plan.trouble {
        Trouble::StoreCut => vec![Line::Database],
        _ => some(&Line::VENDORS, &mut rng),
    };
    let cut_off = some(&world.replicas.iter().collect::<Vec<_>>(), &mut rng);
    let set = |state| {
        // A whole vendor is away, but the database may be so for some of the processes alone.
        let those =
            if plan.trouble == Trouble::StoreCut { cut_off.clone() } else { world.replicas.iter().collect() };
        those.into_iter().for_each(|replica| replica.set(&lines, state));
    };
    match plan.trouble {
        Trouble::None | Trouble::Clock => {}
        Trouble::Cut => set(State::Cut),
        Trouble::Swallowed => set(State::Swallowing),
        Trouble::StoreCut => set(if rng.bool() { State::Cut } else { State::Swallowing }),
        Trouble::StoreAway => while !world.base.take_away().await {},
        Trouble::DiskFull => world.disk.iter().for_each(Disk::fill),
    }
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_millis(rng.u64(NOW_AND_THEN));
        tokio::time::sleep_until(next.min(until)).await;
        if plan.faults {
            misbehave(&world.vendors, &mut rng);
        }
    }
    match plan.trouble {
        Trouble::None | Trouble::Clock => {}
        Trouble::Cut | Trouble::Swallowed | Trouble::StoreCut => set(State::Whole),
        Trouble::StoreAway => world.base.give_back().await,
        Trouble::DiskFull => world.disk.iter().for_each(Disk::free),
    }
}

/// Some of them, at least one.
fn some<T: Copy>(all: &[T], rng: &mut Rng) -> Vec<T> {
    let certain = rng.usize(..all.len());
    all.iter().enumerate().filter(|(at, _)| *at == certain || rng.bool()).map(|(_, it)| *it).collect()
}

async fn pause(milliseconds: u64, enough: &CancellationToken) {
    tokio::select! {
        () = enough.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(milliseconds)) => {}
    }
}

/// One of many for each vendor: refused, done and not answered, answered by halves.
fn misbehave(vendors: &Vendors, rng: &mut Rng) {
    for _ in 0..rng.usize(1..4) {
        vendors.google.next(on(rng), google_fault(rng));
        vendors.hook.script().next(hook_fault(rng));
        any(&vendors.hubspot, &["POST", "PATCH", ""], rng);
        any(&vendors.pipedrive, &["POST /v1/notes", "POST /api/v2", "POST", "GET", ""], rng);
        let stages =
            [Stage::Greeting, Stage::Hello, Stage::Sender, Stage::Recipient, Stage::Data, Stage::Dot];
        let what = match rng.u8(..4) {
            0 => What::Close,
            1 => What::Say("421 4.3.0 later"),
            _ => What::Say("451 4.3.0 later"),
        };
        match (stages[rng.usize(..stages.len())], what) {
            // After the dot a broken connection may mean anything: once in a while, for that takes a minute.
            (Stage::Dot, What::Close) if rng.u8(..4) > 0 => {}
            (stage, what) => vendors.smtp.next(stage, what),
        }
    }
    if rng.u8(..4) == 0 {
        vendors.google.revoke_tokens();
    }
}

fn on(rng: &mut Rng) -> On {
    match rng.u8(..6) {
        0 => On::Reads,
        1 => On::Writes,
        2 => On::Any,
        _ => On::Appends,
    }
}

fn google_fault(rng: &mut Rng) -> google::Fault {
    use google::Fault;
    let all = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Html(502),
        Fault::Drop,
        Fault::Hang,
        Fault::ApplyThenStatus(500),
        Fault::ApplyThenStatus(503),
        Fault::ApplyThenDrop,
        Fault::ApplyThenHang,
        Fault::ApplyThenCut,
        Fault::ApplyThenEmpty,
        Fault::Late,
        Fault::TurnFirst,
        Fault::Slow(Duration::from_millis(300)),
    ];
    all[rng.usize(..all.len())].clone()
}

fn hook_fault(rng: &mut Rng) -> hook::Fault {
    use hook::Fault;
    let all = [
        Fault::status(500),
        Fault::retry_after(503, "1"),
        Fault::retry_after(429, "1"),
        Fault::TakeThenAnswer(500),
        Fault::Drop,
        Fault::TakeThenDrop,
        Fault::TakeThenHang,
        Fault::CutBody,
        Fault::Slow(Duration::from_millis(300)),
    ];
    all[rng.usize(..all.len())].clone()
}

fn any<V: Vendor>(api: &Api<V>, requests: &[&str], rng: &mut Rng) {
    let gateway = || Reply::new(502, Value::String("<html>bad gateway</html>".to_owned()));
    let all = [
        Fault::json(500, json!({})),
        Fault::html(502),
        Fault::ApplyThenAnswer(gateway()),
        Fault::Drop,
        Fault::ApplyThenDrop,
        Fault::ApplyThenHang,
        Fault::ApplyThenCut,
    ];
    api.next(requests[rng.usize(..requests.len())], all[rng.usize(..all.len())].clone());
}
