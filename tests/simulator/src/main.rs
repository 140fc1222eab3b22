//! `wagate-simulator`: the simulator and its control API as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use wagate_simulator::{Options, Simulator, control};

/// A simulated WhatsApp to try clients against; no phone and no internet needed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:7100")]
    listen: SocketAddr,
    /// Where the control API answers.
    #[arg(long, default_value = "127.0.0.1:7101")]
    control: SocketAddr,
    /// A file to write both addresses to, one a line, once they can be used.
    #[arg(long)]
    ready: Option<PathBuf>,
    /// Phone numbers to make at the start, separated by commas.
    #[arg(long, value_delimiter = ',')]
    people: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the simulator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), wagate_simulator::Error> {
    let options = Options { listen: arguments.listen, ..Options::default() };
    let simulator = Simulator::start(options).await?;
    for number in &arguments.people {
        simulator.phone(number)?;
    }
    let address = control::serve(&simulator, arguments.control).await?;
    tracing::info!(url = simulator.url(), control = %format_args!("http://{address}"), "ready");
    if let Some(path) = &arguments.ready {
        let lines = format!("{}\nhttp://{address}\n", simulator.url());
        std::fs::write(path, lines).map_err(wagate_simulator::Error::Listen)?;
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "no signals here: running until killed");
        std::future::pending::<()>().await;
    }
    simulator.stop().await;
    Ok(())
}
