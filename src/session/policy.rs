//! What to do when a client has ended: the one table from reasons to what happens next.
//!
//! | a client ended because | next |
//! |---|---|
//! | the session is to stop, or was logged out here | end, saying nothing: whoever asked says it |
//! | logged out on the phone, replaced, refused, banned | end, for that reason |
//! | its QR codes ran out | a new client with new codes, so many times; then end |
//! | the connection was lost, or there was none | dial again after a wait that grows |
//! | the server could not prove that it is WhatsApp | the same, three times in a row; then end |

use std::time::Duration;

use super::{backoff::Backoff, client::DialFailure, online::End};
use crate::event::{AuthFailure, Disconnect, Event};

/// Handshakes that may fail in a row before we say that this is not WhatsApp. One may fail because
/// a certificate that we remember is out of date; the library forgets it, and the next one tells.
const MAX_REFUSED_HANDSHAKES: u32 = 3;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Dial again at once.
    Dial,
    /// Dial again after this long.
    Wait(Duration),
    /// End the run, saying why; nothing when somebody else does.
    End(Option<Event>),
}

/// The memory that the decisions of one run need.
#[derive(Debug)]
pub(super) struct Policy {
    max_qr_rounds: u32,
    backoff: Backoff,
    /// Clients that ran out of QR codes, in a row.
    qr_rounds: u32,
    /// Handshakes that we refused, in a row.
    refused_handshakes: u32,
}

impl Policy {
    pub(super) fn new(max_qr_rounds: u32) -> Self {
        Self { max_qr_rounds, backoff: Backoff::default(), qr_rounds: 0, refused_handshakes: 0 }
    }

    /// Decides. `stable`: the connection had lasted; `chance` is uniform in 0..1.
    pub(super) fn after(&mut self, end: &End, stable: bool, chance: f64) -> Next {
        if stable {
            self.backoff.reset();
        }
        if !matches!(end, End::Dial(DialFailure::ServerRefused)) {
            self.refused_handshakes = 0;
        }
        match end {
            End::Stopped | End::LoggedOut => Next::End(None),
            End::Final(event) => Next::End(Some(event.clone())),
            End::QrCodesExhausted => {
                self.qr_rounds += 1;
                if self.qr_rounds < self.max_qr_rounds {
                    Next::Dial
                } else {
                    Next::End(Some(Event::Disconnected(Disconnect::QrCodesExhausted)))
                }
            }
            End::Dial(DialFailure::ServerRefused) => {
                self.refused_handshakes += 1;
                if self.refused_handshakes < MAX_REFUSED_HANDSHAKES {
                    Next::Wait(self.backoff.next(chance))
                } else {
                    Next::End(Some(Event::AuthFailure(AuthFailure::ServerNotTrusted)))
                }
            }
            End::Lost | End::Dial(DialFailure::Unreachable) => {
                Next::Wait(self.backoff.next(chance))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn wait(seconds: u64) -> Next {
        Next::Wait(Duration::from_secs(seconds))
    }

    #[test]
    fn codes_are_renewed_so_many_times_and_then_nobody_dials_any_more() {
        let mut policy = Policy::new(3);
        assert_eq!(policy.after(&End::QrCodesExhausted, false, MIDDLE), Next::Dial);
        // A blip in between does not make an unattended session show codes for ever.
        assert_eq!(policy.after(&End::Lost, false, MIDDLE), wait(1));
        assert_eq!(policy.after(&End::QrCodesExhausted, false, MIDDLE), Next::Dial);
        assert_eq!(
            policy.after(&End::QrCodesExhausted, false, MIDDLE),
            Next::End(Some(Event::Disconnected(Disconnect::QrCodesExhausted)))
        );
    }

    #[test]
    fn waits_grow_until_a_connection_has_lasted() {
        let mut policy = Policy::new(1);
        let unreachable = End::Dial(DialFailure::Unreachable);
        assert_eq!(policy.after(&unreachable, false, MIDDLE), wait(1));
        assert_eq!(policy.after(&unreachable, false, MIDDLE), wait(2));
        assert_eq!(policy.after(&End::Lost, false, MIDDLE), wait(4));
        assert_eq!(policy.after(&End::Lost, true, MIDDLE), wait(1));
    }

    #[test]
    fn a_server_that_is_not_whatsapp_is_given_up_and_one_that_is_away_is_not() {
        let mut policy = Policy::new(1);
        let refused = End::Dial(DialFailure::ServerRefused);
        let unreachable = End::Dial(DialFailure::Unreachable);
        for end in [&refused, &refused, &unreachable, &refused, &refused] {
            assert!(matches!(policy.after(end, false, MIDDLE), Next::Wait(_)));
        }
        assert_eq!(
            policy.after(&refused, false, MIDDLE),
            Next::End(Some(Event::AuthFailure(AuthFailure::ServerNotTrusted)))
        );
    }

    #[test]
    fn what_is_final_is_said_and_what_was_asked_for_is_not() {
        let mut policy = Policy::new(1);
        let replaced = Event::Disconnected(Disconnect::Replaced);
        assert_eq!(
            policy.after(&End::Final(replaced.clone()), true, MIDDLE),
            Next::End(Some(replaced))
        );
        assert_eq!(policy.after(&End::Stopped, true, MIDDLE), Next::End(None));
        assert_eq!(policy.after(&End::LoggedOut, true, MIDDLE), Next::End(None));
    }
}
