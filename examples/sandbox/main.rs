//! wagate without a phone: the daemon and a simulated WhatsApp, together in one process.
//!
//! `cargo run --example sandbox` starts both, says how to use them with `curl`, and runs until it
//! is interrupted. `cargo run --example sandbox -- --check` plays the life of a session by itself,
//! over HTTP, and says which step failed if one did.
//!
//! - `world.rs`: the simulator, and the daemons started beside it.
//! - `tour.rs`: what to try.
//! - `story.rs`: the life of a session, step by step. `steps.rs`: running and timing one.
//! - `readme.rs`: the README's lines, as a newcomer pastes them.
//! - `stream.rs`: reading server-sent events. `camera.rs`: reading a QR code off an image.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

#[path = "../support/failure.rs"]
mod failure;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/http.rs"]
mod http;

mod camera;
mod readme;
mod steps;
mod story;
mod stream;
mod tour;
mod world;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use tokio_util::task::TaskTracker;
use wagate::{
    config::{Config, Level, Log},
    lifecycle::{Signals, Stop},
    telemetry,
};

use crate::{
    failure::{Chain, Failure},
    world::World,
};

/// wagate and a simulated WhatsApp, together: no phone and no internet needed
#[derive(Debug, Parser)]
#[command(name = "sandbox")]
struct Arguments {
    /// Play the life of a session over HTTP, and exit with 0 if every step worked
    #[arg(long)]
    check: bool,
    /// Where the daemon keeps its state [default: a directory that is removed at the end]
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
    /// Where the daemon listens [default: a free port of this machine]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the simulator's control API listens [default: a free port of this machine]
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.check {
        // The library reports as errors what its client could not finish when it was stopped.
        let filter = "whatsapp_rust=off,wacore=off".to_owned();
        let log = Log { level: Level::Warn, filter, ..Log::default() };
        telemetry::init(&Config { log, ..Config::default() }).ok();
        return match Box::pin(check(&arguments)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                println!("FAILED: {failed}");
                ExitCode::FAILURE
            }
        };
    }
    let log = Log { level: Level::Info, ..Log::default() };
    telemetry::init(&Config { log, ..Config::default() }).ok();
    match Box::pin(run(&arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sandbox: {}", Chain(&failure));
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is interrupted.
async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stop = Stop::new();
    let signals = Signals::install()?;
    TaskTracker::new().spawn(signals.forward_to(stop.clone(), Arc::default()));

    let world = World::create(arguments).await?;
    let (daemon, _http) = world.start_daemon().await?;
    println!("{}", tour::text(&world, &daemon));
    tokio::select! {
        () = stop.soft.cancelled() => {}
        () = daemon.failed() => {}
    }
    daemon.shutdown().await;
    world.end().await;
    Ok(())
}

/// Plays the story.
async fn check(arguments: &Arguments) -> Result<(), steps::Failed> {
    let mut steps = steps::Steps::new();
    let world = steps.run("start a simulated WhatsApp", World::create(arguments)).await?;
    Box::pin(story::play(&world, &mut steps)).await?;
    steps
        .run("the simulator has no protocol error to report", async {
            let violations = world.simulator().violations();
            let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
            if texts.is_empty() { Ok(()) } else { Err(Failure::wrong(texts.join("; "))) }
        })
        .await?;
    world.end().await;
    println!("{steps}");
    Ok(())
}
