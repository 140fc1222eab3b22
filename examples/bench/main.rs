//! Benchmarks: each prints its figures beside a baseline measured in the same run.
//!
//! `cargo run --release --example bench -- sessions|inbound|writer|retention|resume|webhooks|meta`, with `--json` for
//! programs and `--sessions`, `--messages` for other sizes. `smoke` runs all of them in a tiny size,
//! to see that they work.
//!
//! Every party is a process of its own, made of this same program: the simulated WhatsApp
//! ([`simulator`]), the gateway ([`gateway_role`]) and, as the baseline, as many bare clients
//! ([`bare`]). So memory, descriptors, threads and CPU time are each party's own, and what the
//! allocator of one has kept back does not count against the other. The parent gives the orders over
//! their standard input ([`child`], [`role`]), reads `/proc` ([`usage`]), and does nothing itself
//! while something is measured.
//!
//! - `sessions.rs`, `inbound.rs`, `resume.rs`, `writer.rs`, `retention.rs`, `webhooks.rs`, `meta.rs`: one
//!   benchmark each. That of webhooks has a gateway ([`hooks_role`]) and a [`receiver`] of its own.
//! - `fleet.rs`: many sessions, of the gateway or bare, paired with simulated phones.
//! - `report.rs`, `machine.rs`: what is printed.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

#[path = "../support/failure.rs"]
mod failure;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/postgres.rs"]
mod postgres;

mod bare;
mod child;
mod databases;
mod fleet;
mod gateway_role;
mod hooks_role;
mod inbound;
mod machine;
mod meta;
mod receiver;
mod report;
mod resume;
mod retention;
mod role;
mod sessions;
mod simulator;
mod usage;
mod webhooks;
mod writer;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::{self, Runtime};
use wagate::{
    config::{Config, Level, Log},
    telemetry,
};

use crate::{
    failure::{Chain, Failure},
    report::Report,
};

/// Threads for calls that block: as few as the daemon's own program has.
const BLOCKING_THREADS: usize = 16;

/// Measures wagate against a baseline of the same run
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    size: Size,
}

/// How much of everything.
#[derive(Clone, Debug, clap::Args)]
struct Size {
    /// Sessions [default: 200 for `sessions`, 1000 for `resume`, 100 otherwise]
    #[arg(long, global = true, value_name = "N")]
    sessions: Option<usize>,
    /// Messages, all sessions together [default: 30000]; of `webhooks` deliveries [default: 20000]
    #[arg(long, global = true, value_name = "N")]
    messages: Option<usize>,
    /// Where the databases are made: the disk matters [default: the system's temporary directory]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Print one JSON object per benchmark
    #[arg(long, global = true)]
    json: bool,
}

impl Size {
    fn sessions_or(&self, usual: usize) -> usize {
        self.sessions.unwrap_or(usual).max(1)
    }

    fn messages_or(&self, usual: usize) -> usize {
        self.messages.unwrap_or(usual).max(1)
    }

    /// A directory of its own for one database.
    fn directory(&self) -> io::Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("wagate-bench-");
        match &self.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Memory, descriptors and threads of connected idle sessions, beside bare clients
    Sessions,
    /// Durable inbound messages per second, beside bare clients that keep nothing
    Inbound,
    /// Writes committed in groups, beside writes committed one by one, on SQLite and PostgreSQL
    Writer,
    /// A million old rows retired: how long writers wait meanwhile, on SQLite and PostgreSQL
    Retention,
    /// Time until all sessions are connected again after a restart, beside bare clients
    Resume,
    /// Deliveries per second and how long each takes, with and without a dead endpoint, on SQLite and PostgreSQL
    Webhooks,
    /// Posts of Meta's acknowledged per second, and after how long
    Meta,
    /// All of them in a tiny size, to see that they work
    Smoke,
    /// Be the simulated WhatsApp
    #[command(hide = true)]
    RoleSimulator,
    /// Be the gateway
    #[command(hide = true)]
    RoleGateway(gateway_role::Arguments),
    /// Be the bare clients
    #[command(hide = true)]
    RoleBare(bare::Arguments),
    /// Be the gateway that sends webhooks
    #[command(hide = true)]
    RoleHooks(hooks_role::Arguments),
    /// Be the receiver of webhooks
    #[command(hide = true)]
    RoleReceiver,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The library reports as errors what its clients could not finish when they were stopped.
    let filter = "whatsapp_rust=off,wacore=off".to_owned();
    let log = Log { level: Level::Warn, filter, ..Log::default() };
    telemetry::init(&Config { log, ..Config::default() }).ok();
    let done = build_runtime().map_err(Failure::from).and_then(|runtime| {
        let done = runtime.block_on(Box::pin(run(arguments)));
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {}", Chain(&failure));
            ExitCode::FAILURE
        }
    }
}

/// The same in every role, and the same as the daemon's own program.
fn build_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()
}

async fn run(Arguments { command, size }: Arguments) -> Result<(), Failure> {
    let json = size.json;
    let show = |report: &Report| {
        if json {
            println!("{}", report.json());
        } else {
            println!("{report}");
        }
    };
    match command {
        Command::Sessions => show(&Box::pin(sessions::run(&size)).await?),
        Command::Inbound => show(&Box::pin(inbound::run(&size)).await?),
        Command::Writer => show(&Box::pin(writer::run(&size)).await?),
        Command::Retention => show(&Box::pin(retention::run(&size)).await?),
        Command::Resume => show(&Box::pin(resume::run(&size)).await?),
        Command::Webhooks => show(&Box::pin(webhooks::run(&size)).await?),
        Command::Meta => show(&Box::pin(meta::run(&size)).await?),
        Command::Smoke => {
            let size = Size {
                sessions: size.sessions.or(Some(3)),
                messages: size.messages.or(Some(60)),
                ..size
            };
            show(&Box::pin(sessions::run(&size)).await?);
            show(&Box::pin(inbound::run(&size)).await?);
            show(&Box::pin(writer::run(&size)).await?);
            show(&Box::pin(retention::run(&size)).await?);
            show(&Box::pin(resume::run(&size)).await?);
            show(&Box::pin(webhooks::run(&size)).await?);
            show(&Box::pin(meta::run(&size)).await?);
        }
        Command::RoleSimulator => simulator::run().await?,
        Command::RoleGateway(arguments) => Box::pin(gateway_role::run(arguments)).await?,
        Command::RoleBare(arguments) => bare::run(arguments).await?,
        Command::RoleHooks(arguments) => Box::pin(hooks_role::run(arguments)).await?,
        Command::RoleReceiver => receiver::run().await?,
    }
    Ok(())
}
