//! The steps that make the schema, the same names for both engines, and what a store misses of them.

use super::StoreError;

/// One step: a file of `migrations/`, applied once.
pub(super) struct Migration {
    /// Four digits and what it brings. One that takes away what an earlier release works with says so at its end:
    /// `0009_no_more_places_ends_0006` is the end of releases that know none after 0006.
    pub(super) name: &'static str,
    /// The statements.
    pub(super) sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        /// Every migration for SQLite, oldest first.
        pub(super) const SQLITE: &[Migration] = &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
        }),+];

        /// Every migration for PostgreSQL, oldest first.
        pub(super) const POSTGRES: &[Migration] = &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
        }),+];
    };
}

migrations!(
    "0001_leads_and_deliveries",
    "0002_what_waits_for_a_person",
    "0003_steps_and_memory",
    "0004_story",
    "0005_what_processes_share",
    "0006_places_for_a_day",
);

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// To work in it: what its schema misses is applied. A newer release may have been here, as long as it left what this
    /// one works with.
    Work,
    /// To look into it: nothing is changed.
    Look,
    /// To move all that it holds: what its schema misses is applied, and it holds nothing that this release does not know.
    Move,
}

impl Migration {
    /// What tells this migration from another of its name.
    pub(super) fn digest(&self) -> ring::digest::Digest {
        ring::digest::digest(&ring::digest::SHA256, self.sql.as_bytes())
    }
}

/// Which of `all` are to be applied to a store that holds `applied` (names and digests).
///
/// # Errors
/// The store is not ours, is a newer release's, or is to be looked into and misses something.
pub(super) fn missing(
    all: &'static [Migration],
    applied: &[(String, Vec<u8>)],
    opening: Opening,
) -> Result<Vec<&'static Migration>, StoreError> {
    let mut missing = Vec::new();
    for migration in all {
        match applied.iter().find(|(name, _)| name == migration.name) {
            Some((_, digest)) if digest == migration.digest().as_ref() => {}
            Some(_) => {
                let name = migration.name;
                return Err(StoreError::Corrupt(format!("migration {name} is not the one it was made with")));
            }
            None => missing.push(migration),
        }
    }
    let newest = all.last().map_or("", |migration| migration.name);
    let of_newer = |name: &&String| all.iter().all(|known| known.name != name.as_str());
    if let Some(name) = applied
        .iter()
        .map(|(name, _)| name)
        .filter(of_newer)
        .find(|name| opening == Opening::Move || ends(name, newest))
    {
        return Err(StoreError::Unusable {
            problem: "a newer release of lead-intake has changed it".to_owned(),
            hint: "use that release, or one that came after it",
            source: format!("this release does not know migration {name}").into(),
        });
    }
    if opening == Opening::Look && !missing.is_empty() {
        return Err(StoreError::Outdated);
    }
    Ok(missing)
}

/// Whether a migration leaves nothing to work with for releases that know none after `newest`.
fn ends(name: &str, newest: &str) -> bool {
    name.rsplit_once("_ends_").is_some_and(|(_, last)| newest.get(..4).is_none_or(|newest| newest <= last))
}
