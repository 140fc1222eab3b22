//! What HTTPS is served with: whether it can be, and for how long still.

use std::time::Duration;

use entity::UnixMillis;

use super::finding::{Check, Finding};
use crate::{
    cli::output::Chain,
    config, daemon,
    event::payload::rfc3339,
    http::{TlsError, Validity},
};

/// Whoever renews certificates by himself has done so before.
const SOON: Duration = Duration::from_hours(14 * 24);

/// Nothing where HTTPS is somebody else's.
pub(super) fn certificate(config: &config::Http, now: UnixMillis) -> Option<Finding> {
    let tls = match daemon::tls(config) {
        Ok(tls) => tls?,
        Err(error) => {
            let says = Chain(&error).to_string();
            return Some(Finding::fault(Check::Certificate, says).fix(fix(&error)));
        }
    };
    let file = config.tls_certificate.as_ref()?.display().to_string();
    Some(judge(&file, tls.validity(), now))
}

fn fix(error: &TlsError) -> &'static str {
    match error {
        TlsError::Unreadable { .. } => {
            "let the user the daemon runs as read it: the folders above it count too, as in /etc/letsencrypt"
        }
        TlsError::NoCertificate(_) => {
            "http.tls_certificate is the whole chain in PEM, its own certificate first (fullchain.pem)"
        }
        TlsError::NoKey(_) => "http.tls_key is an unencrypted private key in PEM (privkey.pem)",
        TlsError::OtherKey(_) => {
            "name the two files of one certificate, or have it issued anew for this key"
        }
        TlsError::SetUp(_) => "have the certificate issued anew",
    }
}

fn judge(file: &str, validity: Option<Validity>, now: UnixMillis) -> Finding {
    let Some(Validity { from, until }) = validity else {
        return Finding::warning(Check::Certificate, format!("{file}: it does not say until when"))
            .fix("`openssl x509 -noout -dates -in` it, and have it issued anew");
    };
    let renew =
        "have it renewed: `certbot renew`, or whatever has made it; it is served within seconds";
    if now > until {
        let says = format!("{file} is expired since {}", rfc3339(until).as_str());
        Finding::fault(Check::Certificate, says).fix(renew)
    } else if now < from {
        let says = format!("{file} is not good before {}", rfc3339(from).as_str());
        Finding::fault(Check::Certificate, says)
            .fix("is this machine's clock right? else wait, or take another one")
    } else if until.since(now) < SOON {
        let says = format!("{file} expires at {}", rfc3339(until).as_str());
        Finding::warning(Check::Certificate, says).fix(renew)
    } else {
        Finding::ok(Check::Certificate, format!("{file} is good until {}", rfc3339(until).as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn it_is_told_of_before_it_expires() {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let validity = Validity { from: UnixMillis(0), until: UnixMillis(90 * DAY) };
        let verdict = |day: i64| judge("x", Some(validity), UnixMillis(day * DAY)).verdict;
        assert_eq!(verdict(-1), Verdict::Fault);
        assert_eq!(verdict(75), Verdict::Ok);
        assert_eq!(verdict(77), Verdict::Warning);
        assert_eq!(verdict(91), Verdict::Fault);
        assert_eq!(judge("x", None, UnixMillis(0)).verdict, Verdict::Warning);
    }
}
