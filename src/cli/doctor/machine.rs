//! What the system allows: an address to listen on, descriptors for sockets.

use std::{io, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    super::address::reachable,
    finding::{Check, Finding},
};
use crate::{config::Config, descriptors};

/// For a connection on this machine.
const LOCAL: Duration = Duration::from_secs(2);

/// The listener: free for a daemon that is to start, answering for one that runs.
pub(super) async fn listen(config: &Config, alone: bool) -> Finding {
    let address = config.http.listen;
    if !alone {
        return match timeout(LOCAL, TcpStream::connect(reachable(address))).await {
            _ if address.port() == 0 => {
                Finding::ok(Check::Listen, "a daemon runs, on a port it has chosen")
            }
            Ok(Ok(_)) => {
                Finding::ok(Check::Listen, format!("a daemon runs and listens on {address}"))
            }
            Ok(Err(_)) | Err(_) => Finding::fault(
                Check::Listen,
                format!("a daemon runs, and nobody answers on {address}"),
            )
            .fix("it may have been started with another http.listen; else restart it"),
        };
    }
    match TcpListener::bind(address).await {
        Ok(_) => Finding::ok(Check::Listen, format!("{address} is free")),
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("`ss -ltnp 'sport = :{}'` tells who has it; or set http.listen", address.port())
                }
                io::ErrorKind::AddrNotAvailable => {
                    "no interface of this machine has that address: set http.listen to one of \
                     `ip -br address`"
                        .to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need AmbientCapabilities=CAP_NET_BIND_SERVICE: take a higher one \
                     behind a proxy"
                        .to_owned()
                }
                _ => "set http.listen to another address".to_owned(),
            };
            Finding::fault(Check::Listen, format!("cannot listen on {address}: {error}")).fix(fix)
        }
    }
}

/// How many sessions the limit on descriptors lets connect, against how many are to run.
pub(super) fn descriptors(running: Option<u64>) -> Finding {
    let Some(limit) = descriptors::limit() else {
        return Finding::ok(Check::Descriptors, "no limit");
    };
    let sessions = descriptors::sessions_within(limit);
    let running = running.unwrap_or_default();
    let says = format!("{limit} descriptors are enough for about {sessions} sessions");
    let fix = "raise LimitNOFILE= in the unit, or `ulimit -n`; the unit in systemd/ has 65536";
    if sessions < running {
        Finding::fault(Check::Descriptors, format!("{says}, and {running} are to run")).fix(fix)
    } else if sessions < 100 {
        Finding::warning(Check::Descriptors, says).fix(fix)
    } else {
        Finding::ok(Check::Descriptors, says)
    }
}
