//! `lead-intake demo`

use clap::Args;

use super::{Failure, serve::stopped};
use crate::demo;

#[derive(Args)]
pub(super) struct Demo {
    /// The page's port; any free one, if absent
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// What the mails are sent by
    #[arg(long, value_enum, default_value_t)]
    mail: demo::Transport,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let stopped = stopped()?;
        let demo = demo::Demo::start(self.port, self.mail).await?;
        println!(
            "\n  lead-intake is running with local stand-ins of every vendor.\n  Open {} in a browser. Ctrl-C ends it and leaves nothing behind.\n",
            demo.url()
        );
        stopped.await;
        demo.stop().await;
        Ok(())
    }
}
