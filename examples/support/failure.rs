//! Why an example could not go on.

use std::{error::Error, fmt, io, time::Duration};

use reqwest::StatusCode;
use wagate::daemon::StartError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The daemon started and then did not behave.
    #[error("the daemon did not start")]
    Start(#[from] StartError),
    /// No answer, or half of one.
    #[error("an HTTP request was not answered")]
    Http(#[from] reqwest::Error),
    /// An answer other than 2xx.
    #[error("{request} was answered with {status}: {body}")]
    Refused { request: String, status: StatusCode, body: String },
    /// The simulated side refused, or waited in vain.
    #[error("the simulated WhatsApp reports an error")]
    Simulator(#[from] wagate_simulator::Error),
    #[error("a file or a process cannot be used")]
    Io(#[from] io::Error),
    #[error("what came is not the JSON that was expected")]
    Json(#[from] serde_json::Error),
    #[error("waited {0:?} in vain")]
    Deadline(Duration),
    /// Anything else that is not as it should be.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    pub(crate) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }
}

/// An error and what caused it, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

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
