//! From a URL to an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::sqlite::Sqlite;
use super::{Store, StoreError};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::units::{self, SettingProblem};

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `sqlite://PATH`. A secret, for another engine's URL may hold a password.
    pub url: Secret,
    /// How long a submit waits for a commit.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Settings {
    /// Values that fit their types and yet cannot be used.
    pub fn problems(&self) -> Vec<SettingProblem> {
        self.path().err().into_iter().collect()
    }

    /// The file that the URL names.
    ///
    /// # Errors
    /// It names none.
    pub fn path(&self) -> Result<PathBuf, SettingProblem> {
        let hint = "write sqlite:// and a path, such as \"sqlite://data/lead-intake.db\" or \"sqlite:///data/leads.db\"";
        let url = self.url.expose();
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
        match path {
            Some(path) if !path.is_empty() && !path.contains('?') => Ok(PathBuf::from(path)),
            Some(_) => Err(SettingProblem::new("url", "this names no file", hint)),
            None if url.starts_with("postgres") => {
                Err(SettingProblem::new("url", "this release keeps leads in SQLite alone", hint))
            }
            None => Err(SettingProblem::new("url", "this is no engine that lead-intake knows", hint)),
        }
    }
}

/// Opens the store and brings its schema up to date.
///
/// # Errors
/// It cannot be opened, or is not ours.
pub async fn open(settings: &Settings, clock: Clock) -> Result<Arc<dyn Store>, StoreError> {
    let path = settings.path().map_err(|problem| StoreError::Corrupt(problem.message))?;
    let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, clock)).await;
    let store = opened.unwrap_or_else(|error| Err(StoreError::Unavailable(Box::new(error))))?;
    Ok(Arc::new(store))
}
