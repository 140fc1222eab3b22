//! What the process prints.

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
};

/// Standard output is for what was asked for, not for the log. The one place that writes there.
pub(super) fn say(text: &str) {
    // A closed pipe is the reader's choice.
    io::stdout().write_all(text.as_bytes()).ok();
}

/// Prints a line at once; false when nobody reads any more.
pub(super) fn say_line(line: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// One line on standard error, of what goes on.
pub(super) fn mention(what: fmt::Arguments<'_>) {
    eprintln!("wagate: {what}");
}

/// One line on standard error, for mistakes from before there is a log.
pub(super) fn complain(error: &dyn Error) {
    eprintln!("wagate: {}", Chain(error));
}

/// An error and what caused it, in one line.
pub(super) struct Chain<'a>(pub(super) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::StartError;

    #[test]
    fn an_error_and_its_causes_are_one_line() {
        let io = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let error = StartError::Process(io);
        assert_eq!(Chain(&error).to_string(), format!("{error}: address in use"));
    }
}
