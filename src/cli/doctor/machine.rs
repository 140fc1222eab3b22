//! What the system allows: an address to listen on, descriptors for sockets.

use std::{
    io,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{
    super::address::reachable,
    finding::{Check, Finding},
};
use crate::{config::Config, descriptors};

/// For a connection on this machine.
const LOCAL: Duration = Duration::from_secs(2);

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// The listeners: free for a daemon that is to start, answering for one that runs.
pub(super) async fn listen(config: &Config, alone: bool) -> Vec<Finding> {
    let mut wanted = vec![("http.listen", config.http.listen)];
    wanted.extend(config.http.admin_listen.map(|address| ("http.admin_listen", address)));
    let mut findings = Vec::new();
    // Held until all are looked at: two of ours may be in each other's way.
    let mut held = Vec::new();
    for (key, address) in wanted {
        findings.push(if alone {
            free(key, address, &mut held).await
        } else {
            answers(key, address).await
        });
    }
    findings
}

async fn answers(key: &str, address: SocketAddr) -> Finding {
    match timeout(LOCAL, TcpStream::connect(reachable(address))).await {
        _ if address.port() == 0 => {
            Finding::ok(Check::Listen, "a daemon runs, on a port it has chosen")
        }
        Ok(Ok(_)) => Finding::ok(Check::Listen, format!("a daemon runs and listens on {address}")),
        Ok(Err(_)) | Err(_) => Finding::fault(
            Check::Listen,
            format!("a daemon runs, and nobody answers on {address} ({key})"),
        )
        .fix(format!("it may have been started with another {key}; else restart it")),
    }
}

async fn free(key: &str, address: SocketAddr, held: &mut Vec<TcpListener>) -> Finding {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => {
            held.push(listener);
            return Finding::ok(Check::Listen, format!("{address} is free"));
        }
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse && systemd_listens(address).await {
        let says = format!("wagate.socket has {address} for the daemon, which does not run now");
        return Finding::ok(Check::Listen, says);
    }
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("`ss -ltnp 'sport = :{}'` tells who has it; or set {key}", address.port())
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "no interface of this machine has that address: set {key} to one of `ip -br address`"
        ),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need AmbientCapabilities=CAP_NET_BIND_SERVICE: take a higher one \
             behind a proxy"
                .to_owned()
        }
        _ => format!("set {key} to another address"),
    };
    Finding::fault(Check::Listen, format!("cannot listen on {address} ({key}): {error}")).fix(fix)
}

/// Whether systemd listens there in the daemon's place (`wagate.socket`), as far as systemd is there to be asked.
async fn systemd_listens(address: SocketAddr) -> bool {
    let mut asked = Command::new("systemctl");
    asked.args(["show", "wagate.socket", "--property=ActiveState,Listen"]);
    asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut asked) = asked.spawn() else { return false };
    let ended = async {
        while let Ok(None) = asked.try_wait() {
            sleep(LOOK).await;
        }
    };
    if timeout(LOCAL, ended).await.is_err() {
        asked.kill().ok();
    }
    asked
        .wait_with_output()
        .is_ok_and(|told| is_on(&String::from_utf8_lossy(&told.stdout), address))
}

/// Whether a unit's properties say that it listens on this port; on which of the machine's addresses, its
/// owner has chosen.
fn is_on(told: &str, address: SocketAddr) -> bool {
    let is_active = told.lines().any(|line| line == "ActiveState=active");
    is_active && told.contains(&format!(":{} (Stream)", address.port()))
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
