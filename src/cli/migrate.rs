//! `lead-intake migrate`: the schema of one store, or with `--from` and `--to` a whole store into another.

use std::convert::Infallible;

use clap::Args;

use super::{Common, Failure, SERVED, is_there, moving};
use crate::secret::Secret;
use crate::store::connect;

#[derive(Args)]
pub(super) struct Migrate {
    /// The store to move, sqlite://PATH or postgres://…; the configured one, if absent
    #[arg(long, value_name = "URL", value_parser = secret)]
    from: Option<Secret>,
    /// Where to: a store that is new, or that only this command has written to; the configured one, if absent
    #[arg(long, value_name = "URL", value_parser = secret)]
    to: Option<Secret>,
}

/// A URL may hold a password, so that clap must not be the one to find it wrong: it would print it.
fn secret(url: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(url))
}

impl Migrate {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        if self.from.is_some() || self.to.is_some() {
            return moving::run(common, self.from, self.to).await;
        }
        let settings = common.store_settings()?;
        // A database was made by a person, so its name is no typing error; a file is.
        if !settings.is_server() {
            is_there(&settings, SERVED).await?;
        }
        connect::bring_up_to_date(&settings).await?;
        if common.json {
            say!("{{\"ok\":true}}");
        } else {
            say!("The store's schema is up to date.");
        }
        Ok(())
    }
}
