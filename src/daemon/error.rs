//! Why a daemon does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    http, service, session, state_dir,
    store::{self, connect},
    vault,
};

/// Why the daemon did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use the state directory")]
    StateDir(#[from] state_dir::Error),
    #[error("cannot use the master key")]
    MasterKey(#[from] vault::source::Error),
    #[error("cannot open the database")]
    Store(#[from] connect::OpenError),
    #[error("cannot wait for other daemons that start on the database")]
    Alone(#[source] store::Error),
    #[error("cannot seal what is in the database in clear")]
    Sealing(#[source] store::Error),
    #[error(
        "this database has no session in it, and what was used here before was another one; if that \
         is meant, remove {} and start again", .file.display()
    )]
    OtherDatabase { file: PathBuf },
    #[error("cannot set the database up for its first use")]
    FirstRun(#[source] service::Error),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the sockets that were handed over")]
    HandedOver(#[source] io::Error),
    #[error("cannot serve TLS")]
    Tls(#[from] http::TlsError),
    #[error("cannot join the daemons that share the database")]
    Join(#[source] session::Error),
    #[error("cannot correct what the last process left behind")]
    Restart(#[source] store::Error),
    #[error("cannot read which sessions to start")]
    Resume(#[source] session::Error),
    #[error("cannot set up the HTTP client that calls webhooks")]
    Webhooks(#[source] reqwest::Error),
    /// Threads or signal handlers are not to be had.
    #[error("cannot set up the process")]
    Process(#[source] io::Error),
}

impl StartError {
    /// Whether it is the operator's to mend, and will be the same at the next start.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::MasterKey(_)
                | Self::Store(connect::OpenError::MasterKey(_))
                | Self::OtherDatabase { .. }
                | Self::HandedOver(_)
                | Self::Tls(_)
        )
    }
}
