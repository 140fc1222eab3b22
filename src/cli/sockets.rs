//! Sockets that systemd has opened for this process (`wagate.socket`).

use std::io;

use listenfd::ListenFd;

use crate::daemon::Listeners;

/// Takes them: the first is for everything, a second one for the machine's own watchers. More, or
/// others than TCP, are a mistake in the unit.
pub(super) fn handed_over() -> io::Result<Listeners> {
    let mut given = ListenFd::from_env();
    if given.len() > 2 {
        let count = given.len();
        return Err(io::Error::other(format!("expected one or two sockets, and not {count}")));
    }
    let mut take = |at| if at < given.len() { given.take_tcp_listener(at) } else { Ok(None) };
    Ok(Listeners { http: take(0)?, admin: take(1)? })
}
