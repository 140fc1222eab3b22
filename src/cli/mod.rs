//! The command line: what was asked for, and the exit code it ends with.
//!
//! - one file for each command that does more than say something;
//! - `tenants.rs`: what `audit.rs`, `org.rs`, `session.rs` and `token.rs` share;
//! - `output.rs`: what the process prints, on which stream; `progress.rs`: how far something long has come;
//!   `runtime.rs`: its threads.
//!
//! To add a command: a variant of [`Command`], a file, a line in [`main`]. What prints has `--json`; a test walks
//! through all commands.

mod address;
mod audit;
mod backup;
mod check;
mod doctor;
mod migrate;
mod org;
mod output;
mod person;
mod progress;
mod rekey;
mod reload;
mod restore;
mod run;
mod runtime;
mod session;
mod shell;
mod sockets;
mod tenants;
mod token;
mod webhook;

use std::{path::PathBuf, process::ExitCode, sync::LazyLock};

use clap::{Parser, Subcommand};

use self::output::complain;
use crate::{
    REVISION, SIMULATOR,
    config::{self, Flag, Loaded, Sources},
};

/// `EX_USAGE` of sysexits: the command line or the configuration is wrong, and nothing was changed.
const USAGE: u8 = 64;

/// What `--version` says; a build that may talk to the simulator does not hide it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let build = if SIMULATOR { ", simulator" } else { "" };
    format!("{} (revision {REVISION}{build})", env!("CARGO_PKG_VERSION"))
});

/// WhatsApp session gateway: many linked devices, one daemon, one database, HTTP.
#[derive(Debug, Parser)]
#[command(name = "wagate", version = VERSION.as_str())]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    overrides: Overrides,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    #[command(alias = "run")]
    Serve,
    /// Tell whether the configuration is usable, with the key and the certificate that it names
    CheckConfig {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Tell what is wrong here, and what to do about it; changes nothing
    Doctor(doctor::Options),
    /// The steps of the database's schema
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Replace the master key that secrets in the database are sealed under; the daemon may run
    Rekey(rekey::Options),
    /// Copy the database into a new file, while the daemon runs
    Backup(backup::Options),
    /// Put such a copy in the place of a database that is not there; the daemon must be stopped
    Restore(restore::Options),
    /// Make, list and change organizations; the daemon may run
    Org(org::Options),
    /// Make, list and revoke tokens; the daemon may run
    Token(token::Options),
    /// Who changed what; the daemon may run
    Audit(audit::Options),
    /// List sessions; the daemon may run
    Session(session::Options),
    /// For whoever writes a receiver of webhooks
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// Print what makes a shell complete this command line
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write pages for man(1)
    #[command(hide = true)]
    Man {
        /// A directory for one page for each command; without it, the program's is printed
        directory: Option<PathBuf>,
    },
}

/// Settings that win over the environment and the file.
#[derive(Debug, clap::Args)]
struct Overrides {
    /// Configuration file [default: wagate.toml, else /etc/wagate/wagate.toml, if there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the database, the operator's token and the lock are
    #[arg(long, global = true, value_name = "DIRECTORY")]
    state_dir: Option<String>,
    /// Refuse to start on an old database instead of bringing its schema up to date
    #[arg(long, global = true)]
    no_migrate: bool,
    /// off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// human or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Overrides {
    fn into_sources(self) -> Sources {
        let flags = [
            ("--listen", "http.listen", self.listen),
            ("--state-dir", "state_dir", self.state_dir),
            ("--no-migrate", "database.migrate", self.no_migrate.then(|| "false".to_owned())),
            ("--log-level", "log.level", self.log_level),
            ("--log-format", "log.format", self.log_format),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name, key, value: value? }))
            .collect();
        Sources::of_process(self.config, flags)
    }
}

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked_or_wrong) => {
            // `--help` and `--version` arrive here too, and are no mistakes. If nobody reads, so be it.
            asked_or_wrong.print().ok();
            let mistake = asked_or_wrong.use_stderr();
            return if mistake { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let command = match cli.command.unwrap_or(Command::Serve) {
        // About the program itself, whatever is configured.
        Command::Completions { shell } => return shell::completions(shell),
        Command::Man { directory } => return shell::man(directory.as_deref()),
        command => command,
    };
    let sources = cli.overrides.into_sources();
    let loaded = config::load(&sources);
    let Loaded { config, file } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            return match command {
                Command::Doctor(options) => doctor::run(Err(error), options),
                Command::Webhook(command) => webhook::run(Err(error), command),
                Command::CheckConfig { json: true } => {
                    check::refuse(&output::Chain(&error).to_string())
                }
                _ => {
                    complain(&error);
                    ExitCode::from(USAGE)
                }
            };
        }
    };
    let read = file.as_ref().map_or("no file".to_owned(), |path| path.display().to_string());
    match command {
        Command::Doctor(options) => doctor::run(Ok(Loaded { config, file }), options),
        Command::Migrate(command) => migrate::run(&config, command),
        Command::CheckConfig { json } => check::run(&config, file.as_deref(), json),
        Command::Rekey(options) => rekey::run(&config, &options),
        Command::Backup(options) => backup::run(&config, &options),
        Command::Restore(options) => restore::run(&config, &options),
        Command::Org(options) => org::run(&config, options),
        Command::Token(options) => token::run(&config, options),
        Command::Audit(options) => audit::run(&config, options),
        Command::Session(options) => session::run(&config, options),
        Command::Webhook(command) => webhook::run(Ok(config), command),
        Command::Serve => run::run(config, &read, sources),
        Command::Completions { .. } | Command::Man { .. } => unreachable!("they are done"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    /// Whose output is for programs as it is, or is none.
    const WITHOUT_JSON: [&str; 4] = [
        // Its welcome is for people; everything else is the log, which has `--log-format`.
        "wagate serve",
        // Lines of JSON, and nothing else.
        "wagate webhook listen",
        // Scripts and pages, in the forms of those that read them.
        "wagate completions",
        "wagate man",
    ];

    fn without_json(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let mut commands =
            command.get_subcommands().filter(|it| it.get_name() != "help").peekable();
        if commands.peek().is_none() && !command.get_arguments().any(|it| it.get_id() == "json") {
            found.push(path.to_owned());
        }
        for command in commands {
            without_json(command, &format!("{path} {}", command.get_name()), found);
        }
    }

    #[test]
    fn every_command_that_prints_can_print_json() {
        let mut cli = Cli::command();
        // So that options for all commands of a group are those of each.
        cli.build();
        let mut found = Vec::new();
        without_json(&cli, "wagate", &mut found);
        found.sort();
        let mut wanted = WITHOUT_JSON.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for line in ["wagate --listen :1 check-config", "wagate check-config --listen :1"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(cli.command, Some(Command::CheckConfig { json: false })));
            let flags = cli.overrides.into_sources().flags;
            assert_eq!(flags.len(), 1);
            assert_eq!((flags[0].key, flags[0].value.as_str()), ("http.listen", ":1"));
        }
    }
}
