//! From a URL to an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::archive::{Archive, Mark};
use super::migrations::Opening;
use super::postgres::{Address, Postgres};
use super::sqlite::Sqlite;
use super::{Store, StoreError};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::units::{self, SettingProblem};

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `sqlite://PATH` or `postgres://…`. A secret, for it may hold a password.
    pub url: Secret,
    /// How long a submit waits for a commit.
    #[serde(with = "units::limit")]
    pub timeout: Duration,
}

impl Settings {
    /// The store at a URL.
    pub fn of(url: Secret) -> Self {
        Self { url, timeout: Duration::ZERO }
    }

    /// Whether both lead to the same file or database, as far as their words tell.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.place(), other.place()) {
            (Ok(Place::File(one)), Ok(Place::File(two))) => {
                let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
                real(&one) == real(&two)
            }
            (Ok(Place::Server(one)), Ok(Place::Server(two))) => one.is_same(&two),
            _ => false,
        }
    }

    /// Values that fit their types and yet cannot be used.
    pub fn problems(&self) -> Vec<SettingProblem> {
        self.place().err().into_iter().collect()
    }

    /// Where the URL leads to.
    ///
    /// # Errors
    /// Nowhere that is known.
    fn place(&self) -> Result<Place, SettingProblem> {
        let hint = "write sqlite:// and a path, such as \"sqlite://data/lead-intake.db\" or \"sqlite:///data/leads.db\", or postgres://USER:PASSWORD@HOST/DATABASE";
        let url = self.url.expose();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let unread = |why| SettingProblem::new("url", format!("this is no PostgreSQL URL ({why})"), hint);
            return Address::parse(url).map(|address| Place::Server(Box::new(address))).map_err(unread);
        }
        match url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) {
            Some(":memory:") => {
                Err(SettingProblem::new("url", "what is in memory alone is lost with the process", hint))
            }
            Some(path) if !path.is_empty() && !path.contains('?') => Ok(Place::File(PathBuf::from(path))),
            Some(_) => Err(SettingProblem::new("url", "this names no file", hint)),
            None => Err(SettingProblem::new("url", "this is no engine that lead-intake knows", hint)),
        }
    }

    /// Whether the store is kept by a server, not in a file.
    pub fn is_server(&self) -> bool {
        matches!(self.place(), Ok(Place::Server(_)))
    }

    /// Whether a store is there already. Makes and changes nothing.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn is_there(&self) -> Result<bool, StoreError> {
        match self.place().map_err(|problem| StoreError::Corrupt(problem.message))? {
            // An empty file is one that somebody made for a store.
            Place::File(path) => Ok(std::fs::metadata(path).is_ok_and(|file| file.len() > 0)),
            Place::Server(address) => Postgres::is_there(&address).await,
        }
    }

    /// The place in words, without any secret.
    pub fn place_name(&self) -> String {
        match self.place() {
            Ok(Place::File(path)) => path.display().to_string(),
            Ok(Place::Server(address)) => address.place(),
            Err(problem) => problem.message,
        }
    }
}

/// Where a store is.
enum Place {
    File(PathBuf),
    Server(Box<Address>),
}

/// Opens the store to work in it, and brings its schema up to date. From then on no move writes to it.
///
/// # Errors
/// It cannot be opened, is not ours, or is half of a move.
pub async fn open(settings: &Settings, clock: Clock) -> Result<Arc<dyn Store>, StoreError> {
    let store = opened(settings, clock, Opening::Work).await?;
    if store.change_mark(&[None, Some(Mark::Whole), Some(Mark::Used)], Some(Mark::Used)).await? {
        return Ok(store);
    }
    store.close().await;
    Err(StoreError::Unusable {
        problem: format!("{} is half of a move", settings.place_name()),
        hint: "run `lead-intake migrate --from … --to …` again until it says that both sides are the same",
        source: "no move has found it equal to its source".into(),
    })
}

/// Brings the store's schema up to date, and makes the store if need be.
///
/// # Errors
/// It cannot be opened, or is not ours.
pub async fn bring_up_to_date(settings: &Settings) -> Result<(), StoreError> {
    opened(settings, Clock::system(), Opening::Work).await?.close().await;
    Ok(())
}

/// Opens the store to look into it.
///
/// # Errors
/// It cannot be opened, is not ours, or its schema is an earlier release's.
pub async fn open_to_look(settings: &Settings) -> Result<Arc<dyn Archive>, StoreError> {
    opened(settings, Clock::system(), Opening::Look).await
}

/// Opens the store to move it or to move another into it, and brings its schema up to date.
///
/// # Errors
/// It cannot be opened, is not ours, or a newer release has changed it.
pub async fn open_to_move(settings: &Settings) -> Result<Arc<dyn Archive>, StoreError> {
    opened(settings, Clock::system(), Opening::Move).await
}

async fn opened(settings: &Settings, clock: Clock, opening: Opening) -> Result<Arc<dyn Archive>, StoreError> {
    match settings.place().map_err(|problem| StoreError::Corrupt(problem.message))? {
        Place::File(path) => {
            let opened = tokio::task::spawn_blocking(move || Sqlite::open_for(opening, &path, clock)).await;
            let store = opened.unwrap_or_else(|error| Err(StoreError::Unavailable(Box::new(error))))?;
            Ok(Arc::new(store))
        }
        Place::Server(address) => Ok(Arc::new(Postgres::open_for(opening, &address, clock).await?)),
    }
}
