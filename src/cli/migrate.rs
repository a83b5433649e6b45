//! `lead-intake migrate`

use clap::Args;

use super::{Common, Failure};

#[derive(Args)]
pub(super) struct Migrate {}

impl Migrate {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        // Opening the store is what migrates it.
        common.store_to_migrate().await?.close().await;
        if common.json {
            println!("{{\"ok\":true}}");
        } else {
            println!("The store's schema is up to date.");
        }
        Ok(())
    }
}
