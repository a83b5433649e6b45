//! What only PostgreSQL can be asked: two processes at one database, and a server that goes away and comes back.

use super::*;
use crate::support::postgres::Server;

async fn open(url: &str) -> Arc<Postgres> {
    Arc::new(Postgres::open(&Address::parse(url).unwrap(), Clock::system()).await.unwrap())
}

fn request(lease: Duration) -> ClaimRequest {
    ClaimRequest { destination: "crm".parse().unwrap(), limit: 7, lease, rest: REST }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_share_one_schema_and_never_a_claim() {
    if !is_here() {
        return;
    }
    let url = shared().database().await;
    let stores = futures_util::future::join_all((0..4).map(|_| open(&url))).await;
    let leads: Vec<_> = (0..120).map(|_| lead()).collect();
    // Every lead reaches every process, in another order.
    let accepts = stores.iter().enumerate().flat_map(|(turn, store)| {
        let mut leads = leads.clone();
        leads.rotate_left(turn * 31);
        leads.into_iter().map(move |lead| store.accept(entry(&lead, Birth::Due)))
    });
    let ends = futures_util::future::join_all(accepts).await;
    assert_eq!(ends.iter().filter(|end| matches!(end, Ok(Accepted::New(_)))).count(), 120);
    assert_eq!(ends.iter().filter(|end| matches!(end, Ok(Accepted::Repeat))).count(), 360);
    let claims = (0..80).map(|turn| stores[turn % 4].claim_due(request(LEASE)));
    let claims = futures_util::future::join_all(claims).await;
    let mut ids: Vec<_> =
        claims.into_iter().flat_map(|claimed| claimed.unwrap().claims).map(|claim| claim.delivery).collect();
    ids.sort();
    let claimed = ids.len();
    ids.dedup();
    assert_eq!((claimed, ids.len()), (120, 120));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_finish_a_lead_at_once_tell_its_story_once() {
    if !is_here() {
        return;
    }
    let url = shared().database().await;
    let (one, other) = (open(&url).await, open(&url).await);
    for _ in 0..20 {
        let lead = lead();
        let of = |name: &str, kind| Planned { destination: name.parse().unwrap(), kind, birth: Birth::Due };
        let deliveries = vec![of("crm", Kind::Crm), of("sheet", Kind::Sheet)];
        let both = Entry { lead: Arc::clone(&lead), digest: lead.submitted.digest(), deliveries };
        one.accept(Arc::new(both)).await.unwrap();
        let sheet = ClaimRequest { destination: "sheet".parse().unwrap(), ..request(LEASE) };
        let crm = one.claim_due(request(LEASE)).await.unwrap().claims.remove(0);
        let sheet = other.claim_due(sheet).await.unwrap().claims.remove(0);
        let settle = |claim| Settle {
            claim,
            attempt: Attempt { outcome: AttemptOutcome::Delivered, ..lost(1) },
            settlement: Settlement::Delivered(Receipt::of("7")),
            signal: None,
        };
        let (first, second) = tokio::join!(one.settle(settle(crm)), other.settle(settle(sheet)));
        assert!(first.unwrap().changed && second.unwrap().changed);
        let told = one.unshown(10).await.unwrap();
        assert_eq!((told.len(), told[0].lead, &told[0].destination), (1, lead.id, &None));
        one.shown(told).await.unwrap();
    }
}

#[tokio::test]
async fn leases_are_kept_by_the_databases_clock() {
    if !is_here() {
        return;
    }
    let store = open(&shared().database().await).await;
    store.accept(entry(&lead(), Birth::Claimed { lease: LEASE })).await.unwrap();
    let crm = "crm".parse().unwrap();
    let wait = store.next_due(&crm).await.unwrap().unwrap();
    assert!(wait <= LEASE && wait > LEASE / 2, "{wait:?}");
    store.accept(entry(&lead(), Birth::Due)).await.unwrap();
    assert_eq!(store.next_due(&crm).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(store.claim_due(request(Duration::ZERO)).await.unwrap().claims.len(), 1);
    let again = store.claim_due(request(LEASE)).await.unwrap().claims;
    assert_eq!((again.len(), again[0].attempt, again[0].earlier.len()), (1, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_unavailable_and_one_that_is_back_goes_on() {
    if !is_here() {
        return;
    }
    let mut server = Server::start();
    let url = server.database().await;
    let store = open(&url).await;
    let before = lead();
    store.accept(entry(&before, Birth::Due)).await.unwrap();
    server.tell("stop");
    let during = lead();
    assert!(matches!(store.accept(entry(&during, Birth::Due)).await, Err(StoreError::Unavailable(_))));
    assert!(store.ready().await.is_err());
    assert!(store.lead(before.id).await.is_err());
    server.tell("start");
    store.ready().await.unwrap();
    assert!(store.lead(during.id).await.unwrap().is_none());
    assert!(matches!(store.accept(entry(&before, Birth::Due)).await.unwrap(), Accepted::Repeat));
    store.accept(entry(&during, Birth::Due)).await.unwrap();
    assert_eq!(store.claim_due(request(LEASE)).await.unwrap().claims.len(), 2);
    // Its idle connections are cut; the next callers never notice.
    server.tell("stop");
    server.tell("start");
    assert!(matches!(store.accept(entry(&before, Birth::Due)).await.unwrap(), Accepted::Repeat));
    store.close().await;
    assert!(store.ready().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_waits_in_a_circle_is_done_again() {
    if !is_here() {
        return;
    }
    let url = shared().database().await;
    let store = open(&url).await;
    let leads = [lead(), lead()];
    for lead in &leads {
        store.accept(entry(lead, Birth::Due)).await.unwrap();
    }
    let name = url.split(['/', '?']).nth(3).unwrap();
    let (other, watch) = (shared().connect(name).await, shared().connect(name).await);
    let rows =
        other.query("SELECT seq FROM leads ORDER BY id = $1", &[&leads[1].id.to_string()]).await.unwrap();
    let seqs: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    // The server ends the circle at the first who has waited so long.
    for alone in
        ["UPDATE deliveries SET state = 'dead', due_at = NULL", "SET deadlock_timeout = '3s'", "BEGIN"]
    {
        other.batch_execute(alone).await.unwrap();
    }
    let hold = "SELECT 1 FROM deliveries WHERE lead = $1 FOR UPDATE";
    other.query(hold, &[&seqs[1]]).await.unwrap();
    let ids = leads.map(|lead| DeliveryId { lead: lead.id, destination: "crm".parse().unwrap() });
    let replay = async { store.replay(&ids).await.unwrap() };
    let tangle = async {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1";
        while watch.query(waiting, &[&name]).await.unwrap().is_empty() {}
        // On a machine so slow that the replay has looked for a circle already, this one is the one that is undone.
        let _ = other.query(hold, &[&seqs[0]]).await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    assert_eq!(tokio::join!(replay, tangle).0, 2);
}

#[tokio::test]
async fn a_schema_that_is_not_ours_is_refused() {
    if !is_here() {
        return;
    }
    let url = shared().database().await;
    let address = Address::parse(&url).unwrap();
    assert!(!Postgres::is_there(&address).await.unwrap());
    open(&url).await.close().await;
    assert!(Postgres::is_there(&address).await.unwrap());
    let name = url.split(['/', '?']).nth(3).unwrap();
    let own = shared().connect(name).await;
    own.batch_execute("UPDATE migrations SET digest = ''").await.unwrap();
    let refused = Postgres::open(&address, Clock::system()).await.err().unwrap().to_string();
    assert!(refused.contains("not the one"), "{refused}");
    let gone = Address::parse(&shared().url("nowhere")).unwrap();
    let refused = Postgres::open(&gone, Clock::system()).await.err().unwrap().to_string();
    assert!(refused.contains("CREATE DATABASE"), "{refused}");
}

#[tokio::test]
async fn a_certificate_is_verified() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = std::path::Path::new(&server.folder);
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&folder.metadata().unwrap());
    std::os::unix::fs::chown(&key, Some(owner), None).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let own = server.connect("postgres").await;
    let (certificate, key) = (certificate.display(), key.display());
    for sql in [
        format!("ALTER SYSTEM SET ssl_cert_file = '{certificate}'"),
        format!("ALTER SYSTEM SET ssl_key_file = '{key}'"),
    ] {
        own.batch_execute(&sql).await.unwrap();
    }
    let url = format!("postgres://lead@127.0.0.1:{}/postgres", server.port);
    let there = async |query: String| {
        let address = Address::parse(&format!("{url}?{query}")).unwrap();
        Postgres::is_there(&address).await.map_err(|error| lead_intake::report::Chain(&error).to_string())
    };
    let trusted = format!("sslmode=verify-full&sslrootcert={certificate}");
    assert!(there(trusted.clone()).await.is_err(), "it speaks no TLS yet");
    own.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    own.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let speaks = async { while there(trusted.clone()).await.is_err() {} };
    crate::support::soon(speaks).await;
    for untrusted in ["sslmode=require", "sslmode=prefer"] {
        let refused = there(untrusted.to_owned()).await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
    }
    assert_eq!(there("sslmode=disable".to_owned()).await, Ok(false));
}

#[tokio::test]
async fn a_server_that_takes_no_more_writes_is_left_for_one_that_does() {
    if !is_here() {
        return;
    }
    let (one, other) = (shared(), Server::start());
    let own = one.connect("postgres").await;
    own.batch_execute("CREATE DATABASE failover").await.unwrap();
    other.connect("postgres").await.batch_execute("CREATE DATABASE failover").await.unwrap();
    open(&other.url("failover")).await.close().await;
    let both =
        format!("postgres://lead@127.0.0.1:{},127.0.0.1:{}/failover?sslmode=disable", one.port, other.port);
    let store = open(&both).await;
    let lead = lead();
    store.accept(entry(&lead, Birth::Due)).await.unwrap();
    own.batch_execute("ALTER DATABASE failover SET default_transaction_read_only = on").await.unwrap();
    own.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'failover'")
        .await
        .unwrap();
    // The other one never heard of it.
    assert!(matches!(store.accept(entry(&lead, Birth::Due)).await.unwrap(), Accepted::New(_)));
    store.ready().await.unwrap();
}
