//! What the system allows: an address to listen on, descriptors for sockets.

use std::{io, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    super::address::reachable,
    finding::{Check, Finding},
};
use crate::config::Config;

/// For a connection on this machine.
const LOCAL: Duration = Duration::from_secs(2);

/// Descriptors that a daemon uses without sessions: database, listener, requests, webhooks.
const BASE: u64 = 700;

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
    let limit = getrlimit(Resource::Nofile);
    let Some(limit) = limit.current else {
        return Finding::ok(Check::Descriptors, "no limit");
    };
    let sessions = sessions_within(limit);
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

/// A session has one socket, and two while it dials or fetches media.
fn sessions_within(limit: u64) -> u64 {
    limit.saturating_sub(BASE) * 10 / 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_are_enough_for_what_they_are_enough_for() {
        assert_eq!(sessions_within(256), 0);
        assert_eq!(sessions_within(1024), 294);
        assert_eq!(sessions_within(65_536), 58_941);
    }
}
