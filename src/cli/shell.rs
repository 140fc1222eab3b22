//! What is made of the command line's definition: completions for shells, and pages for man(1).

use std::{io, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{
    Cli,
    output::{complain, say},
};

/// Prints what makes `shell` complete our command line.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "wagate", &mut script);
    say(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes a page for the program and for each of its commands into `directory`, which is there; without
/// one, prints the program's. The same program writes the same pages, whenever it is asked.
pub(super) fn man(directory: Option<&Path>) -> ExitCode {
    let written = match directory {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory),
        None => page().map(|text| say(&String::from_utf8_lossy(&text))),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn page() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    Ok(text)
}
