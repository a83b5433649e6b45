//! The composition root: everything is put together here, started in order and stopped in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::State;
use crate::destination::registry::Tools;
use crate::dispatch::alerts::Operators;
use crate::dispatch::commons::Shared;
use crate::dispatch::story::Story;
use crate::dispatch::{Alerts, Lane, Lanes, Surroundings};
use crate::http::{self, AddressHash, Outside, Site};
use crate::id::ProcessId;
use crate::intake::fallback::Fallback;
use crate::intake::{Intake, Patience};
use crate::net::Net;
use crate::store::{self, Store, StoreError};

/// How long a fresh key for address hashes is, in bytes.
const ADDRESS_KEY: usize = 32;

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store, in its own words.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port.
    #[error("cannot listen on {0}; is another service there? Set BIND to a free address")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The system's source of randomness.
    #[error("the system has no randomness to make a key from")]
    Random,
}

/// The running service.
pub struct App {
    address: SocketAddr,
    store: Arc<dyn Store>,
    tracker: TaskTracker,
    listening: TaskTracker,
    stop_listening: CancellationToken,
    stop: CancellationToken,
    give_up: CancellationToken,
    draining: CancellationToken,
    drain: Duration,
    shutdown_timeout: Duration,
}

impl App {
    /// Opens the store, starts the lanes and listens.
    ///
    /// # Errors
    /// The store cannot be opened or the port cannot be had.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let store = store::connect::open(&config.store, clock.clone()).await?;
        let address_hash = address_hash(&config.server, store.as_ref()).await?;
        let listener = TcpListener::bind(config.server.bind)
            .await
            .map_err(|error| StartError::Listen(config.server.bind, error))?;
        let address = listener.local_addr().map_err(|error| StartError::Listen(config.server.bind, error))?;

        let (tracker, stop, give_up) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let (alerts, heard) = Alerts::heard();
        let around = Surroundings {
            store: Arc::clone(&store),
            clock: clock.clone(),
            tracker: tracker.clone(),
            stop: stop.clone(),
            give_up: give_up.clone(),
            settled: Arc::default(),
            alerts,
        };
        let commons = Shared::new(Arc::clone(&store), ProcessId::fresh(), tracker.clone());
        let tools = Tools { net: Net::new(), tracker: tracker.clone(), commons: commons.clone() };
        let (mut lanes, mut fallback, mut boards) = (Vec::new(), None, Vec::new());
        for configured in config.destinations {
            let nature = configured.parsed.nature();
            let built = configured.parsed.build(&configured.name, &tools);
            boards.extend(built.board.map(|board| (configured.name.clone(), board)));
            let lane = Lane::new(configured.name, nature, configured.lane, built.destination, around.clone());
            if let (Some(home), None) = (built.fallback, &fallback) {
                let room = config.intake.fallback_leads;
                fallback = Some(Fallback::new(home, Arc::clone(&lane), clock.clone(), room));
            }
            lanes.push(lane);
        }
        let lanes = Lanes::new(lanes);
        lanes.probe_now().await;
        lanes.run();
        if !boards.is_empty() {
            tracker.spawn(Story::new(boards, lanes.clone(), around.clone(), commons).run());
        }
        if let Some(messenger) = config.operator_mail {
            let messenger = messenger.build(tools.net.clone(), clock.clone());
            let operators =
                Operators { messenger, store: Arc::clone(&store), clock: clock.clone(), stop: stop.clone() };
            tracker.spawn(operators.run(heard));
        }
        warn_of_removed(store.as_ref(), &lanes).await;

        let patience = Patience { deadline: config.intake.deadline, commit: config.store.timeout };
        let intake =
            Intake::new(Arc::clone(&store), lanes.clone(), clock, tracker.clone(), patience, fallback);
        let draining = CancellationToken::new();
        let outside = Outside::new(Site {
            door: Arc::new(intake),
            forms: config.forms,
            settings: config.server.clone(),
            store: Arc::clone(&store),
            lanes: lanes.clone(),
            address_hash,
            operator_token: config.operator.token,
            draining: draining.clone(),
        });
        let (listening, stop_listening) = (TaskTracker::new(), CancellationToken::new());
        let (drain, shutdown_timeout) = (config.server.drain, config.server.shutdown_timeout);
        let until = stop_listening.clone();
        listening.spawn(async move { http::serve::serve(listener, &outside, &config.server, &until).await });
        let names: Vec<_> = lanes.iter().map(|lane| lane.name().as_str()).collect();
        info!(version = env!("CARGO_PKG_VERSION"), %address, destinations = names.join(" "), "listening");
        if names.is_empty() {
            warn!("no destination is configured: leads are stored and go nowhere");
        }
        Ok(Self {
            address,
            store,
            tracker,
            listening,
            stop_listening,
            stop,
            give_up,
            draining,
            drain,
            shutdown_timeout,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where leads are kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Ends in order: a proxy is told to send nobody any more, and has time to notice; nothing new comes in; open
    /// requests and attempts end on their own up to the limit; then what is queued and unsent is released, the rest
    /// settles as unknown, and the store closes.
    pub async fn stop(self) {
        self.draining.cancel();
        info!("stopping");
        tokio::time::sleep(self.drain).await;
        self.stop_listening.cancel();
        self.stop.cancel();
        self.listening.close();
        self.tracker.close();
        let ended = async {
            self.listening.wait().await;
            self.tracker.wait().await;
        };
        if tokio::time::timeout(self.shutdown_timeout, ended).await.is_err() {
            warn!("attempts are still under way; taking back what is unsent");
            self.give_up.cancel();
            // What is given up settles once more, and the store answers or fails within its own time.
            let _ = tokio::time::timeout(LAST_SETTLEMENTS, self.tracker.wait()).await;
        }
        self.store.close().await;
        info!("stopped");
    }
}

/// How long the last settlements of a shutdown may take.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(5);

/// The configured key, or the one that was made at the first start.
async fn address_hash(settings: &http::Settings, store: &dyn Store) -> Result<AddressHash, StartError> {
    if let Some(key) = &settings.ip_hash_key {
        return Ok(AddressHash::new(key.expose().as_bytes()));
    }
    let mut fresh = vec![0; ADDRESS_KEY];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut fresh)
        .map_err(|_| StartError::Random)?;
    Ok(AddressHash::new(&store.keep("ip_hash_key", fresh).await?))
}

/// Deliveries of destinations that are no longer configured wait for a person.
async fn warn_of_removed(store: &dyn Store, lanes: &Lanes) {
    for (destination, state, count) in store.counts().await.unwrap_or_default() {
        if state == State::Pending && lanes.get(&destination).is_none() {
            warn!(
                %destination, count,
                "deliveries wait for a destination that is no longer configured: configure it again, or \
                 cancel them with `lead-intake deliveries cancel`"
            );
        }
    }
}
