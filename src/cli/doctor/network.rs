//! Who must be reached, and whether our clock goes like theirs.

use std::time::{Duration, SystemTime};

use entity::UnixMillis;
use reqwest::header::DATE;
use url::Url;

use super::finding::{Check, Finding};
use crate::{cli::output::Chain, config::Config, store::look::Look};

/// What WhatsApp Web is loaded from, on the host that clients dial.
const WHATSAPP: &str = "https://web.whatsapp.com/";

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A clock that is off by this much is worth a word, and by this much breaks certificates and signatures
/// (webhook receivers take five minutes by Standard Webhooks).
const SKEW: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(5));

/// Whether WhatsApp answers, and what it says of the time. `now` is our own.
pub(super) async fn whatsapp(
    config: &Config,
    now: UnixMillis,
    seen: Option<&Look>,
) -> Vec<Finding> {
    let url = http_url(config.whatsapp.url.as_deref());
    let host = url.host_str().unwrap_or_default().to_owned();
    let mut findings = vec![];
    let theirs = match ask(url).await {
        Ok(date) => {
            findings.push(Finding::ok(Check::WhatsApp, format!("{host} answers")));
            date
        }
        Err(error) => {
            let says = format!("{host} does not answer: {}", Chain(&error));
            findings.push(Finding::fault(Check::WhatsApp, says).fix(
                "check DNS and the firewall: wagate calls TCP port 443 of web.whatsapp.com, \
                 g.whatsapp.net and mmg.whatsapp.net",
            ));
            None
        }
    };
    findings.push(clock(now, theirs, seen.and_then(|seen| seen.newest)));
    findings
}

/// The address for a plain request to the server that clients dial.
fn http_url(dialled: Option<&str>) -> Url {
    let dialled = dialled.and_then(|text| {
        let text = text.replacen("ws", "http", 1);
        Url::parse(&text).and_then(|url| url.join("/")).ok()
    });
    dialled.unwrap_or_else(|| Url::parse(WHATSAPP).expect("it is a URL"))
}

/// What asks others. It follows no redirection: whoever was called is whom it is about.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    // In a daemon the WhatsApp transport does this. Once is enough, by whomever.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()
}

/// Any answer will do. What the server's clock says, if it says so.
async fn ask(url: Url) -> Result<Option<UnixMillis>, reqwest::Error> {
    let answer = client()?.head(url).send().await.map_err(reqwest::Error::without_url)?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Ok(date.and_then(|date| {
        let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(UnixMillis)
    }))
}

fn clock(ours: UnixMillis, theirs: Option<UnixMillis>, newest: Option<UnixMillis>) -> Finding {
    let fix = "let the machine keep time: `timedatectl set-ntp true`, or chrony";
    if let Some(newest) = newest
        && newest.0 - ours.0 > millis(SKEW.1)
    {
        let says = format!("it is {} behind the last recorded event", apart(ours, newest));
        return Finding::fault(Check::Clock, says).fix(fix);
    }
    let Some(theirs) = theirs else {
        return Finding::ok(Check::Clock, "nobody to compare it with");
    };
    let skew = (ours.0 - theirs.0).abs();
    let side = if ours < theirs { "behind" } else { "ahead of" };
    let says = format!("it is {} {side} WhatsApp's", apart(ours, theirs));
    if skew > millis(SKEW.1) {
        Finding::fault(Check::Clock, says).fix(fix)
    } else if skew > millis(SKEW.0) {
        Finding::warning(Check::Clock, says).fix(fix)
    } else {
        Finding::ok(Check::Clock, "goes like WhatsApp's")
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn apart(one: UnixMillis, other: UnixMillis) -> String {
    let apart = Duration::from_secs((one.0 - other.0).unsigned_abs() / 1000);
    humantime_serde::re::humantime::format_duration(apart).to_string()
}

/// What the configuration lets tenants' webhooks do that it should not.
pub(super) fn webhooks(config: &Config) -> Vec<Finding> {
    let webhooks = &config.webhooks;
    let mut findings = vec![];
    if !webhooks.require_https {
        let says = "webhooks.require_https is off: messages may go over the network in clear";
        findings.push(
            Finding::warning(Check::Webhooks, says).fix(
                "switch it on, unless every receiver is on this machine or in its own network",
            ),
        );
    }
    if let Some(wide) = webhooks.allow_cidrs.0.iter().find(|network| network.prefix_len() == 0) {
        let says = format!("webhooks.allow_cidrs has {wide}: tenants may call this machine itself");
        findings.push(
            Finding::fault(Check::Webhooks, says)
                .fix("name the networks that receivers are in, and no more"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn a_clock_is_compared_with_whatsapp_s_and_with_what_was_recorded() {
        let at = |seconds: i64| UnixMillis(1_000_000_000 + seconds * 1000);
        let verdict = |theirs, newest| clock(at(0), theirs, newest).verdict;
        assert_eq!(verdict(None, None), Verdict::Ok);
        assert_eq!(verdict(Some(at(29)), Some(at(-9))), Verdict::Ok);
        assert_eq!(verdict(Some(at(-31)), None), Verdict::Warning);
        assert_eq!(verdict(Some(at(301)), None), Verdict::Fault);
        assert_eq!(verdict(Some(at(-301)), None), Verdict::Fault);
        assert_eq!(verdict(None, Some(at(301))), Verdict::Fault);
        assert_eq!(clock(at(0), Some(at(-3_720)), None).says, "it is 1h 2m ahead of WhatsApp's");
    }

    #[test]
    fn the_server_that_is_dialled_is_the_one_asked() {
        assert_eq!(http_url(None).as_str(), WHATSAPP);
        let simulated = http_url(Some("ws://127.0.0.1:7000/ws/chat"));
        assert_eq!(simulated.as_str(), "http://127.0.0.1:7000/");
        assert_eq!(http_url(Some("wss://h/ws")).as_str(), "https://h/");
    }
}
