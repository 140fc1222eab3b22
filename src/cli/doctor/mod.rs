//! `wagate doctor`: what is wrong here, and what to do about it.
//!
//! Looks at everything that a start would use, and changes nothing: no directory is made, no schema
//! migrated, no session dialled. A daemon may be running meanwhile.
//!
//! - `finding.rs`: what a check says.
//! - `place.rs`: the state directory, its token, its disk. `machine.rs`: what the system allows.
//! - `certificate.rs`: what HTTPS is served with. `data.rs`: the database, its schema, its key.
//! - `network.rs`: WhatsApp, and the clock. `reach.rs`: who else must be reached, if that is configured.
//!
//! To add a check: a variant of [`Check`], a function that returns a
//! [`Finding`], a line in [`examine`].

mod certificate;
mod data;
mod finding;
mod machine;
mod network;
mod place;
mod reach;

use std::process::ExitCode;

use serde_json::json;

use self::finding::{Check, Finding, Verdict};
use super::{
    output::{complain, say},
    progress::Progress,
    runtime,
};
use crate::{
    clock::Clock,
    config::{Config, Error, Loaded},
};

/// What `wagate doctor` is told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Options {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Read all of a SQLite file, however large, to find damage
    #[arg(long)]
    deep: bool,
}

/// Examines what `loaded` describes. Ends with 1 when something is wrong.
pub(super) fn run(loaded: Result<Loaded, Error>, options: Options) -> ExitCode {
    let findings = match loaded {
        Err(error) => vec![
            Finding::fault(Check::Configuration, super::output::Chain(&error).to_string())
                .fix("correct what it names; `wagate check-config` tells whether that was all"),
        ],
        Ok(Loaded { config, file }) => {
            let read = file.map_or("no file, defaults".to_owned(), |it| it.display().to_string());
            let mut findings = vec![Finding::ok(Check::Configuration, read)];
            match runtime::build() {
                Ok(runtime) => {
                    let progress = Progress::new(options.json);
                    progress.says("Looking");
                    findings.extend(runtime.block_on(examine(&config, options.deep)));
                }
                Err(error) => {
                    complain(&error);
                    return ExitCode::FAILURE;
                }
            }
            findings
        }
    };
    let faults = count(&findings, Verdict::Fault);
    let warnings = count(&findings, Verdict::Warning);
    if options.json {
        let report = json!({ "faults": faults, "warnings": warnings, "findings": findings });
        say(&format!("{report:#}\n"));
    } else {
        for finding in &findings {
            say(&format!("{finding}\n"));
        }
        say(&summary(faults, warnings));
    }
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every check that a usable configuration allows, those first that others depend on.
async fn examine(config: &Config, deep: bool) -> Vec<Finding> {
    let alone = !place::is_running(&config.state_dir);
    let mut findings = vec![place::state_dir(&config.state_dir)];
    findings.extend(place::operator_token(&config.state_dir));
    findings.extend(place::disk(config));
    findings.extend(machine::listen(config, alone).await);
    findings.extend(certificate::certificate(&config.http, Clock::system().now()));
    let (about_data, seen) = data::database(config, alone, deep).await;
    findings.extend(about_data);
    findings.push(machine::descriptors(seen.as_ref().and_then(|seen| seen.running)));
    findings.extend(network::whatsapp(config, Clock::system().now(), seen.as_ref()).await);
    findings.extend(reach::meta(config, seen.as_ref()).await);
    findings.extend(reach::collector(&config.traces).await);
    findings.extend(network::webhooks(config));
    findings
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn summary(faults: usize, warnings: usize) -> String {
    let of = |count: usize, word: &str| match count {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        more => format!("{more} {word}s"),
    };
    format!("\n{}, {}\n", of(faults, "fault"), of(warnings, "warning"))
}
