//! `lead-intake serve`

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, Failure};
use crate::app::App;
use crate::clock::Clock;
use crate::telemetry;

#[derive(Args, Default)]
pub(super) struct Serve {
    /// The address and port to listen on; also BIND
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
}

impl Serve {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let mut inputs = common.inputs();
        inputs.bind = self.bind;
        let config = common.load(&inputs)?;
        telemetry::start(&config.log);
        // Before the start, so that no signal is missed.
        let stopped = stopped()?;
        let app = App::start(config, Clock::system()).await?;
        stopped.await;
        app.stop().await;
        Ok(())
    }
}

/// Ends with the first SIGTERM or SIGINT.
pub(super) fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
