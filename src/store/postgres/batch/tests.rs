//! Which commands share a transaction, and which transactions are under way at once: with a server that is told when to
//! end one. The connections are never used.

use std::sync::Arc;

use futures_util::future::{JoinAll, join_all};
use tokio::sync::Semaphore;

use super::*;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::{Address, Said};

/// What the transactions see.
struct Server {
    /// What each was about, as they began.
    begun: watch::Sender<Vec<Vec<String>>>,
    /// What those are about that are under way.
    touched: Mutex<HashSet<String>>,
    /// How many may end.
    ends: Semaphore,
    /// What it refuses.
    refuses: Option<&'static str>,
    is_gone: bool,
}

impl Default for Server {
    fn default() -> Self {
        let (begun, touched, ends) = (watch::Sender::default(), Mutex::default(), Semaphore::new(0));
        Self { begun, touched, ends, refuses: None, is_gone: false }
    }
}

/// Something to be done about a lead.
struct Touch {
    lead: String,
    server: Arc<Server>,
}

impl Command for Touch {
    type Answer = String;
    type About = String;

    const AT_ONCE: usize = 2;

    fn about(&self) -> String {
        self.lead.clone()
    }

    async fn run(_: &Shared, batch: &[Self]) -> Result<Vec<String>, StoreError> {
        let Some(Self { server, .. }) = batch.first() else { return Ok(Vec::new()) };
        let leads: Vec<_> = batch.iter().map(|touch| touch.lead.clone()).collect();
        server.begun.send_modify(|begun| begun.push(leads.clone()));
        for lead in &leads {
            assert!(server.touched.lock().unwrap().insert(lead.clone()), "{lead} is touched twice at once");
        }
        server.ends.acquire().await.unwrap().forget();
        for lead in &leads {
            server.touched.lock().unwrap().remove(lead);
        }
        if server.is_gone {
            return Err(StoreError::Unavailable("the connection is lost".into()));
        }
        if leads.iter().any(|lead| server.refuses == Some(lead)) {
            let said = Said { code: "23514".to_owned(), message: "no".to_owned() };
            return Err(StoreError::Unavailable(Box::new(said)));
        }
        Ok(leads)
    }
}

impl Server {
    /// Waits until so many transactions have begun and whoever can go on has gone on; how large each was.
    async fn began(&self, number: usize) -> Vec<usize> {
        let mut begun = self.begun.subscribe();
        let wait = begun.wait_for(|begun| begun.len() >= number);
        drop(tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap().unwrap());
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.begun.borrow().iter().map(Vec::len).collect()
    }
}

/// A batcher before this server.
fn batcher(server: Server) -> (Arc<Server>, Batcher<Touch>) {
    let address = Address::parse("postgres://nobody@127.0.0.1/leads?sslmode=disable").unwrap();
    let tasks = TaskTracker::new();
    let pool = Arc::new(Pool::new(address.ways(), address.tls().unwrap(), tasks.clone()));
    (Arc::new(server), Batcher::start(pool, &tasks))
}

type Answered<'b> = JoinAll<std::pin::Pin<Box<dyn Future<Output = Result<String, StoreError>> + 'b>>>;

/// Queues these in their order.
fn queued<'b>(
    batcher: &'b Batcher<Touch>,
    server: &Arc<Server>,
    leads: impl IntoIterator<Item = impl ToString>,
) -> Answered<'b> {
    let one = |lead: String| {
        let mut run = Box::pin(batcher.run(Touch { lead, server: Arc::clone(server) }));
        // The first poll queues it; nothing of it is done before the test waits for something.
        assert!(futures_util::FutureExt::now_or_never(&mut run).is_none());
        run as std::pin::Pin<Box<dyn Future<Output = _> + 'b>>
    };
    join_all(leads.into_iter().map(|lead| one(lead.to_string())).collect::<Vec<_>>())
}

fn all_ok(answers: Vec<Result<String, StoreError>>) -> Vec<String> {
    answers.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_second_transaction_is_begun_beside_the_first_where_that_pays_and_never_a_third() {
    let (server, batcher) = batcher(Server::default());
    let first = queued(&batcher, &server, ["first"]);
    assert_eq!(server.began(1).await, [1], "alone it waits for nobody");
    let few = queued(&batcher, &server, 1..WORTH_ANOTHER);
    assert_eq!(server.began(1).await, [1], "too few to begin another one for");
    let one_more = queued(&batcher, &server, [WORTH_ANOTHER]);
    assert_eq!(server.began(2).await, [1, WORTH_ANOTHER]);
    let many = queued(&batcher, &server, (0..=BATCH).map(|number| format!("of many {number}")));
    assert_eq!(server.began(2).await, [1, WORTH_ANOTHER], "two are enough");
    server.ends.add_permits(1);
    assert_eq!(server.began(3).await, [1, WORTH_ANOTHER, BATCH], "and no more than these in one");
    server.ends.add_permits(3);
    assert_eq!(all_ok(first.await), ["first"]);
    let numbers = |upto: std::ops::Range<usize>| upto.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(all_ok(few.await), numbers(1..WORTH_ANOTHER), "each has its own answer");
    assert_eq!((all_ok(one_more.await).len(), all_ok(many.await).len()), (1, BATCH + 1));
}

#[tokio::test]
async fn nothing_is_touched_twice_at_the_same_time() {
    let (server, batcher) = batcher(Server::default());
    let first = queued(&batcher, &server, ["lead"]);
    assert_eq!(server.began(1).await, [1]);
    let again = queued(&batcher, &server, ["lead"]);
    let others = queued(&batcher, &server, 0..WORTH_ANOTHER);
    assert_eq!(server.began(2).await, [1, WORTH_ANOTHER], "all but the lead that is touched");
    server.ends.add_permits(2);
    assert_eq!(server.began(3).await, [1, WORTH_ANOTHER, 1], "it has its turn");
    server.ends.add_permits(1);
    assert_eq!(
        (all_ok(first.await), all_ok(again.await)),
        (vec!["lead".to_owned()], vec!["lead".to_owned()])
    );
    assert_eq!(all_ok(others.await).len(), WORTH_ANOTHER);
}

#[tokio::test]
async fn two_about_the_same_lead_that_wait_together_go_one_after_the_other() {
    let (server, batcher) = batcher(Server::default());
    let answers = queued(&batcher, &server, ["lead", "other", "lead"]);
    assert_eq!(server.began(1).await, [2]);
    server.ends.add_permits(1);
    assert_eq!(server.began(2).await, [2, 1]);
    server.ends.add_permits(1);
    assert_eq!(all_ok(answers.await).len(), 3);
}

#[tokio::test]
async fn one_that_the_server_refuses_fails_no_neighbour() {
    let (server, batcher) = batcher(Server { refuses: Some("bad"), ..Server::default() });
    let answers = queued(&batcher, &server, ["one", "bad", "two"]);
    server.ends.add_permits(4);
    let answers: Vec<_> = answers.await.into_iter().map(Result::ok).collect();
    assert_eq!(answers, [Some("one".to_owned()), None, Some("two".to_owned())]);
    assert_eq!(server.began(4).await, [3, 1, 1, 1], "each is done again alone");
    let alone = queued(&batcher, &server, ["bad"]);
    server.ends.add_permits(2);
    assert!(alone.await[0].is_err());
    assert_eq!(server.began(5).await, [3, 1, 1, 1, 1], "what was alone already is not");
}

#[tokio::test]
async fn a_server_that_is_gone_is_not_asked_for_each() {
    let (server, batcher) = batcher(Server { is_gone: true, ..Server::default() });
    let answers = queued(&batcher, &server, ["one", "two", "three"]);
    server.ends.add_permits(4);
    assert!(answers.await.iter().all(Result::is_err));
    assert_eq!(server.began(1).await, [3]);
}

#[tokio::test]
async fn whoever_goes_away_and_whoever_closes_leave_everything_that_waits_to_be_done() {
    let (server, batcher) = batcher(Server::default());
    let first = queued(&batcher, &server, ["first"]);
    assert_eq!(server.began(1).await, [1]);
    drop(queued(&batcher, &server, ["left"]));
    batcher.close();
    assert_eq!(server.began(1).await, [1]);
    assert!(batcher.run(Touch { lead: "late".to_owned(), server: Arc::clone(&server) }).await.is_err());
    server.ends.add_permits(2);
    batcher.ended().await;
    assert_eq!(*server.begun.borrow(), [["first"], ["left"]]);
    assert_eq!(all_ok(first.await), ["first"]);
}
