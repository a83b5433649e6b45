//! A wire on the loopback between two parties. It can be cut, it can swallow what is sent, and it can be told
//! to stop at the very request that somebody waits for: before it arrives, after it has been answered but
//! before the answer arrives, or so that it arrives only when its sender is dead.
//!
//! It knows of requests only that HTTP/1.1 and SMTP send each in a piece of its own that begins, or ends, in a
//! certain way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a request that arrives late is given to be answered.
const LATE: Duration = Duration::from_secs(2);

/// How the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Whole.
    Whole,
    /// Every connection is reset, and so is every new one.
    Cut,
    /// Nothing that is sent arrives, and nobody is told.
    Swallowing,
}

/// Which piece is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A request whose first line begins so and has this in it.
    Line(&'static str, &'static str),
    /// A piece that ends so.
    End(&'static str),
    /// Any piece from the client.
    Any,
}

impl Ask {
    fn fits(self, piece: &[u8]) -> bool {
        match self {
            Self::Line(begins, has) => {
                let line = piece.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line);
                line.starts_with(begins) && line.contains(has)
            }
            Self::End(end) => piece.ends_with(end.as_bytes()),
            Self::Any => true,
        }
    }
}

/// Where on its way a request is when the wire stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It never arrives.
    Before,
    /// It arrives after its sender's death.
    Late,
    /// It has been done and answered; the answer never arrives.
    After,
}

/// A wire that stops once.
struct Trap {
    ask: Ask,
    when: When,
    left: u32,
    reached: Option<oneshot::Sender<()>>,
    released: CancellationToken,
}

/// Holds what a [`Wire::stop_at`] has stopped, until it is dropped.
pub(crate) struct Hold {
    reached: oneshot::Receiver<()>,
    released: CancellationToken,
}

impl Hold {
    /// Waits until it came to that. Never ends when the trap was replaced.
    pub(crate) async fn reached(&mut self) {
        if (&mut self.reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.released.cancel();
    }
}

/// A wire. Torn when dropped.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    to: Mutex<Option<SocketAddr>>,
    state: watch::Sender<State>,
    trap: Mutex<Option<Trap>>,
    /// How many connections came while it swallowed.
    swallows: watch::Sender<u32>,
}

impl Wire {
    /// A wire to `to`; without an end every caller is refused.
    #[expect(clippy::disallowed_methods, reason = "a wire's task ends with the wire")]
    pub(crate) async fn start(to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = watch::Sender::new(State::Whole);
        let shared = Arc::new(Shared {
            to: Mutex::new(to),
            state,
            trap: Mutex::default(),
            swallows: watch::Sender::default(),
        });
        let ours = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        open.spawn(carry(client, Arc::clone(&ours)));
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self { address, shared, task }
    }

    /// Its near end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its near end as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it leads from now on.
    pub(crate) fn lead_to(&self, to: Option<SocketAddr>) {
        *locked(&self.shared.to) = to;
    }

    /// How it is from now on. What was swallowed stays lost: those connections are cut.
    pub(crate) fn set(&self, state: State) {
        self.shared.state.send_replace(state);
    }

    /// Stops at the `nth` piece that fits.
    pub(crate) fn stop_at(&self, ask: Ask, when: When, nth: u32) -> Hold {
        let (reached, heard) = oneshot::channel();
        let released = CancellationToken::new();
        let trap = Trap { ask, when, left: nth, reached: Some(reached), released: released.clone() };
        *locked(&self.shared.trap) = Some(trap);
        Hold { reached: heard, released }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a piece met.
struct Sprung {
    when: When,
    reached: Option<oneshot::Sender<()>>,
    released: CancellationToken,
}

impl Shared {
    fn spring(&self, piece: &[u8]) -> Option<Sprung> {
        let mut slot = locked(&self.trap);
        let trap = slot.as_mut().filter(|trap| !trap.released.is_cancelled() && trap.ask.fits(piece))?;
        trap.left = trap.left.saturating_sub(1);
        if trap.left > 0 {
            return None;
        }
        let Trap { when, reached, released, .. } = slot.take()?;
        Some(Sprung { when, reached, released })
    }
}

/// Carries one connection.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let is = *state.borrow_and_update();
    let to = *locked(&shared.to);
    match (is, to) {
        (State::Cut, _) | (_, None) => reset(&client),
        (State::Swallowing, _) => {
            shared.swallows.send_modify(|count| *count += 1);
            let _ = state.wait_for(|state| *state != State::Swallowing).await;
            reset(&client);
        }
        (State::Whole, Some(to)) => {
            let Ok(server) = TcpStream::connect(to).await else { return reset(&client) };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            relay(client, server, &shared, state).await;
        }
    }
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    shared: &Shared,
    mut state: watch::Receiver<State>,
) {
    let (mut sent, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut held: Option<Sprung> = None;
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let Some(piece) = read.ok().filter(|count| *count > 0).map(|count| &sent[..count]) else { return };
                if let Some(mut sprung) = shared.spring(piece) {
                    if sprung.when == When::After {
                        held = Some(sprung);
                    } else {
                        tell(&mut sprung);
                        sprung.released.cancelled().await;
                        if sprung.when == When::Late && server.write_all(piece).await.is_ok() {
                            let _ = tokio::time::timeout(LATE, server.read(&mut answered)).await;
                        }
                        return reset(&client);
                    }
                }
                if server.write_all(piece).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Some(count) = read.ok().filter(|count| *count > 0) else { return };
                if let Some(mut sprung) = held.take() {
                    tell(&mut sprung);
                    sprung.released.cancelled().await;
                    return reset(&client);
                }
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
            changed = state.changed() => {
                let is = *state.borrow_and_update();
                if changed.is_err() {
                    return;
                }
                match is {
                    State::Whole => {}
                    State::Cut => {
                        reset(&server);
                        return reset(&client);
                    }
                    State::Swallowing => {
                        let _ = state.wait_for(|state| *state != State::Swallowing).await;
                        reset(&server);
                        return reset(&client);
                    }
                }
            }
        }
    }
}

fn tell(sprung: &mut Sprung) {
    if let Some(reached) = sprung.reached.take() {
        let _ = reached.send(());
    }
}

/// The other side sees a reset, not an end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says back what it hears, and remembers it.
    async fn echo() -> (SocketAddr, watch::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (heard, hears) = watch::channel(Vec::new());
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test ends with its tasks")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut piece = vec![0; 1_000];
                while let Ok(count @ 1..) = stream.read(&mut piece).await {
                    heard.send_modify(|all| all.extend_from_slice(&piece[..count]));
                    let _ = stream.write_all(&piece[..count]).await;
                }
            }
        });
        (address, hears)
    }

    async fn say(stream: &mut TcpStream, text: &str) -> std::io::Result<usize> {
        stream.write_all(text.as_bytes()).await?;
        stream.read(&mut [0; 1_000]).await
    }

    #[tokio::test]
    async fn a_request_is_stopped_where_it_is_said() {
        let (address, mut hears) = echo().await;
        let wire = Wire::start(Some(address)).await;
        for (when, arrives) in [(When::Before, false), (When::Late, true), (When::After, true)] {
            let mut hold = wire.stop_at(Ask::Line("POST ", "/b"), when, 2);
            let mut client = TcpStream::connect(wire.address()).await.unwrap();
            for line in ["GET /b\r\n", "POST /a\r\n", "POST /b/1\r\n"] {
                assert_eq!(say(&mut client, line).await.unwrap(), line.len());
            }
            let text = format!("POST /b/{when:?}\r\n");
            client.write_all(text.as_bytes()).await.unwrap();
            hold.reached().await;
            let has = |heard: &Vec<u8>| String::from_utf8_lossy(heard).contains(&text);
            assert_eq!(has(&hears.borrow()), when == When::After, "{when:?}");
            drop(hold);
            assert!(client.read(&mut [0; 10]).await.is_err(), "the answer never comes: {when:?}");
            if arrives {
                hears.wait_for(has).await.unwrap();
            } else {
                assert!(!has(&hears.borrow()));
            }
            let mut client = TcpStream::connect(wire.address()).await.unwrap();
            assert!(say(&mut client, "POST /b/again\r\n").await.is_ok(), "it stops once");
        }
    }

    #[tokio::test]
    async fn a_wire_is_cut_swallows_and_is_mended() {
        let (address, _hears) = echo().await;
        let wire = Wire::start(Some(address)).await;
        let mut before = TcpStream::connect(wire.address()).await.unwrap();
        say(&mut before, "one").await.unwrap();
        wire.set(State::Cut);
        assert!(before.read(&mut [0; 10]).await.is_err());
        let mut during = TcpStream::connect(wire.address()).await.unwrap();
        assert!(!matches!(say(&mut during, "two").await, Ok(1..)));
        wire.set(State::Swallowing);
        let mut during = TcpStream::connect(wire.address()).await.unwrap();
        during.write_all(b"three").await.unwrap();
        wire.shared.swallows.subscribe().wait_for(|count| *count == 1).await.unwrap();
        wire.set(State::Whole);
        assert!(during.read(&mut [0; 10]).await.is_err(), "what was swallowed is lost");
        let mut after = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(say(&mut after, "four").await.unwrap(), 4);
        wire.lead_to(None);
        let mut nowhere = TcpStream::connect(wire.address()).await.unwrap();
        assert!(!matches!(say(&mut nowhere, "five").await, Ok(1..)));
    }
}
