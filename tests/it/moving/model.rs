//! Whatever happens to a store between its moves, its copy is the same after each.

use std::sync::Arc;

use lead_intake::clock::Clock;
use lead_intake::delivery::standing::Signal;
use lead_intake::delivery::{Birth, Claim, Kind, Receipt, Settlement};
use lead_intake::id::DeliveryId;
use lead_intake::store::archive::tables::OF_THE_STORE;
use lead_intake::store::archive::{Archive, Mark};
use lead_intake::store::postgres::{Address, Postgres};
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{ClaimRequest, Settle, Store, moving};
use proptest::prelude::*;

use super::filled::{HOUR, accept, lead};
use crate::support::postgres::{is_here, shared};

#[derive(Clone, Debug)]
enum Event {
    Accept { withheld: bool, claimed: bool },
    Claim,
    Settle(Settlement),
    Step(usize),
    Consent(usize),
    Replay(usize),
    Cancel(usize),
    Remember(u8, bool),
    Show,
    Move,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<(bool, bool)>().prop_map(|(withheld, claimed)| Event::Accept { withheld, claimed }),
        2 => Just(Event::Claim),
        2 => Just(Event::Settle(Settlement::Delivered(Receipt::of("1")))),
        2 => any::<bool>().prop_map(|counted| Event::Settle(Settlement::Retry { wait: HOUR, counted })),
        2 => Just(Event::Settle(Settlement::Dead)),
        1 => (0_usize..9).prop_map(Event::Step),
        1 => (0_usize..9).prop_map(Event::Consent),
        1 => (0_usize..9).prop_map(Event::Replay),
        1 => (0_usize..9).prop_map(Event::Cancel),
        1 => any::<(u8, bool)>().prop_map(|(key, forget)| Event::Remember(key % 4, forget)),
        1 => Just(Event::Show),
        3 => Just(Event::Move),
    ]
}

async fn happen(store: &dyn Store, event: Event, ids: &mut Vec<DeliveryId>, claims: &mut Vec<Claim>) {
    let at = |ids: &[DeliveryId], index: usize| ids.get(index % ids.len().max(1)).cloned();
    match event {
        Event::Accept { withheld, claimed } => {
            let lead = lead();
            let birth = match (withheld, claimed) {
                (true, _) => Birth::Withheld,
                (_, true) => Birth::Claimed { lease: HOUR },
                _ => Birth::Due,
            };
            claims.extend(accept(store, &lead, &[("crm", Kind::Crm, birth)]).await);
            ids.push(DeliveryId { lead: lead.id, destination: "crm".parse().unwrap() });
        }
        Event::Claim => {
            let request =
                ClaimRequest { destination: "crm".parse().unwrap(), limit: 2, lease: HOUR, rest: HOUR };
            claims.extend(store.claim_due(request).await.unwrap().claims);
        }
        Event::Settle(settlement) => {
            let Some(claim) = claims.pop() else { return };
            let signal = (settlement == Settlement::Dead).then_some(Signal::Refused { rest: HOUR });
            let now = Clock::system().now();
            let attempt = lead_intake::delivery::Attempt {
                number: claim.attempt,
                started_at: now,
                finished_at: now,
                outcome: lead_intake::delivery::AttemptOutcome::Unknown,
                code: "x".to_owned(),
                detail: "\0".to_owned(),
            };
            store.settle(Settle { claim, attempt, settlement, signal }).await.unwrap();
        }
        Event::Step(index) => {
            let Some(id) = at(ids, index) else { return };
            store.finish_step(&id, "person", &index.to_string()).await.unwrap();
        }
        Event::Consent(index) => {
            let Some(id) = at(ids, index) else { return };
            store.consent(id.lead, Clock::system().now()).await.unwrap();
        }
        Event::Replay(index) => drop(store.replay(at(ids, index).as_slice()).await.unwrap()),
        Event::Cancel(index) => drop(store.cancel(at(ids, index).as_slice()).await.unwrap()),
        Event::Remember(key, forget) => {
            let value = if forget { "" } else { "\0 value" };
            store.remember(&"crm".parse().unwrap(), &key.to_string(), value).await.unwrap();
        }
        Event::Show => store.shown(store.unshown(2).await.unwrap()).await.unwrap(),
        Event::Move => {}
    }
}

async fn follow(from: Arc<dyn Archive>, to: Arc<dyn Archive>, events: Vec<Event>) {
    let (mut ids, mut claims) = (Vec::new(), Vec::new());
    for event in events.into_iter().chain([Event::Move]) {
        let is_move = matches!(event, Event::Move);
        happen(from.as_ref(), event, &mut ids, &mut claims).await;
        if is_move {
            let moved = moving::run(from.as_ref(), to.as_ref(), &mut |_| ()).await.unwrap();
            assert_eq!(moved.comparison.difference, None);
            assert_eq!(moved.comparison.leads(), ids.len() as u64);
            let again = moving::run(from.as_ref(), to.as_ref(), &mut |_| ()).await.unwrap();
            assert_eq!((again.written, again.unchanged), (0, ids.len() as u64));
        }
    }
    from.close().await;
    to.close().await;
}

fn on_a_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

async fn database() -> Arc<dyn Archive> {
    let address = Address::parse(&shared().database().await).unwrap();
    Arc::new(Postgres::open(&address, Clock::system()).await.unwrap())
}

fn file(folder: &tempfile::TempDir, name: &str) -> Arc<dyn Archive> {
    Arc::new(Sqlite::open(&folder.path().join(name), Clock::system()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_a_store_that_no_move_is_filling() {
    let folder = tempfile::tempdir().unwrap();
    let from = file(&folder, "from.db");
    accept(from.as_ref(), &lead(), &[("crm", Kind::Crm, Birth::Due)]).await;
    from.remember(&"crm".parse().unwrap(), "key", "1").await.unwrap();
    let mut targets = vec![file(&folder, "to.db")];
    if is_here() {
        targets.push(database().await);
    }
    let memory = OF_THE_STORE.iter().find(|table| table.name == "memory").unwrap();
    for to in targets {
        for (mark, takes) in [
            (None, false),
            (Some(Mark::Whole), false),
            (Some(Mark::Used), false),
            (Some(Mark::Filling), true),
        ] {
            assert!(to.change_mark(&[None, Some(Mark::Whole), Some(Mark::Used)], mark).await.unwrap());
            assert!(!to.change_mark(&[], None).await.unwrap());
            assert_eq!(to.mark().await.unwrap(), mark);
            let rows = from.rows(memory, None, 9).await.unwrap();
            assert_eq!(to.write(from.records(i64::MIN, 9).await.unwrap()).await.unwrap(), takes);
            assert_eq!(to.fill(memory, rows, true).await.unwrap(), takes);
            assert_eq!(to.newest().await.unwrap().is_some(), takes);
            assert_eq!(to.count(memory).await.unwrap(), u64::from(takes));
        }
        to.close().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn a_copy_follows_its_source_from_file_to_file(events in prop::collection::vec(event(), 1..40)) {
        on_a_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            follow(file(&folder, "from.db"), file(&folder, "to.db"), events).await;
        });
    }

    #[test]
    fn a_copy_follows_its_source_to_postgres(events in prop::collection::vec(event(), 1..40)) {
        if is_here() {
            on_a_runtime(async {
                let folder = tempfile::tempdir().unwrap();
                follow(file(&folder, "from.db"), database().await, events).await;
            });
        }
    }

    #[test]
    fn a_copy_follows_its_source_from_postgres(events in prop::collection::vec(event(), 1..40)) {
        if is_here() {
            on_a_runtime(async {
                let folder = tempfile::tempdir().unwrap();
                follow(database().await, file(&folder, "to.db"), events).await;
            });
        }
    }
}
