//! `wagate webhook listen`: what happens, line by line, for those without a public URL.
//!
//! The feed is read over HTTP by cursor and long poll, so nothing is lost while the daemon restarts or the
//! network is away: reading goes on behind the last line. With a file for the cursor it goes on there also
//! after this command has ended.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use entity::kind::EventKind;
use reqwest::Url;
use serde::Serialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    super::{
        address::reachable,
        output::{mention, say_line},
    },
    feed::{self, Event, Feed},
    forward::{Receiver, TRIES},
    secret,
};
use crate::{
    clock::Clock,
    config::Config,
    webhook::{EventType, filter::types_of},
};

/// Where a token is.
const TOKEN: &str = "WAGATE_TOKEN";

/// What is waited before the daemon is asked again: at first, and at most.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// What `wagate webhook listen` is told.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The token is in --token-file or WAGATE_TOKEN; at the daemon's own machine, the \
    operator's is taken. SSL_CERT_FILE names further certificates to be trusted."
)]
pub(in crate::cli) struct Options {
    /// The daemon's address [default: where the configuration has it listen]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// A file with the token; - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The organization, by its id or its number, for an operator's token
    #[arg(long, value_name = "ORGANIZATION")]
    org: Option<String>,
    /// Of this session only
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Of these types only, with commas: message.received, session.*, *
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = pattern)]
    types: Vec<String>,
    /// Where to begin: now, start, behind an event's number, at a time (RFC 3339), or so long ago (1h)
    /// [default: now, or behind what the cursor file says]
    #[arg(long, value_name = "WHERE", value_parser = since)]
    since: Option<Since>,
    /// Keeps the place in the feed, to go on there the next time
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// End after so many events
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Send each event to this URL as well, as a webhook would be, one after the other
    #[arg(long, value_name = "URL")]
    forward: Option<Url>,
    /// Sign what is sent with the secrets in this file [default: with those in the environment]
    #[arg(long, value_name = "FILE", requires = "forward")]
    secret_file: Option<PathBuf>,
}

impl Options {
    /// Whether all that a configuration would say is said.
    pub(super) fn needs_no_configuration(&self) -> bool {
        self.url.is_some() && (self.token_file.is_some() || std::env::var_os(TOKEN).is_some())
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Now,
    Behind(i64),
    At(OffsetDateTime),
}

fn since(text: &str) -> Result<Since, String> {
    let long_ago = || {
        let ago = humantime_serde::re::humantime::parse_duration(text).ok()?;
        let seconds =
            Clock::system().now().as_secs().checked_sub(ago.as_secs().try_into().ok()?)?;
        OffsetDateTime::from_unix_timestamp(seconds).ok()
    };
    match text {
        "now" => Ok(Since::Now),
        "start" => Ok(Since::Behind(0)),
        _ => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Since::Behind(number)),
            _ => OffsetDateTime::parse(text, &Rfc3339).ok().or_else(long_ago).map(Since::At).ok_or(
                "expected now, start, an event's number, a time as in 2026-01-31T12:00:00Z, or 1h"
                    .to_owned(),
            ),
        },
    }
}

fn pattern(text: &str) -> Result<String, String> {
    types_of(text).map(|_| text.to_owned()).ok_or_else(|| {
        "no type of event is called that; see GET /api/webhooks/event-types".to_owned()
    })
}

/// Why it ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error("there is no token: give --token-file FILE, or set {TOKEN}")]
    NoToken,
    #[error("the daemon's address is not known: give --url URL")]
    NoAddress,
    #[error("HTTP cannot be used")]
    Client(#[from] reqwest::Error),
    #[error(transparent)]
    Feed(#[from] feed::Error),
    #[error("{} does not hold the number of an event", .0.display())]
    Cursor(PathBuf),
    #[error("the feed ends at {newest}, before {wanted}: it is another database than before")]
    Ahead { wanted: i64, newest: i64 },
}

impl Error {
    /// Whether what was said on the command line is at fault.
    pub(super) const fn is_usage(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::NoToken | Self::NoAddress | Self::Cursor(_))
    }
}

/// Prints what happens until so much was printed, or nobody reads it any more; a signal may end it anywhere.
pub(super) async fn run(config: Option<&Config>, options: Options) -> Result<(), Error> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let url = options.url.clone().or_else(|| address(config?)).ok_or(Error::NoAddress)?;
    let token = token(config, &options)?;
    let feed = Feed::new(&url, options.session.as_deref(), token, options.org.clone())?;
    let forward = match options.forward.clone() {
        None => None,
        Some(to) => {
            let is_given =
                options.secret_file.is_some() || std::env::var_os(secret::SECRET).is_some();
            let secrets = is_given.then(|| secret::secrets(options.secret_file.as_deref()));
            Some(Receiver::new(to, secrets.transpose()?.unwrap_or_default())?)
        }
    };
    Listener { feed, forward, options }.listen().await
}

/// Where the daemon of this configuration is reached from here.
fn address(config: &Config) -> Option<Url> {
    let at = reachable(config.http.listen);
    let scheme = if config.http.tls_certificate.is_some() { "https" } else { "http" };
    // Port 0 is one that nobody knows.
    (at.port() != 0).then(|| format!("{scheme}://{at}/").parse().ok()).flatten()
}

fn token(config: Option<&Config>, options: &Options) -> Result<String, Error> {
    if let Some(token) = secret::text(options.token_file.as_deref(), TOKEN)? {
        return Ok(token);
    }
    let operator = config.ok_or(Error::NoToken)?.state_dir.join("operator.token");
    let token = secret::text(Some(operator.as_path()), TOKEN).map_err(|_| Error::NoToken)?;
    token.ok_or(Error::NoToken)
}

/// An event, as endpoints are told of it.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    timestamp: &'a str,
    id: &'a str,
    sequence: i64,
    session_id: Option<&'a str>,
    data: &'a RawValue,
}

struct Listener {
    feed: Feed,
    forward: Option<Receiver>,
    options: Options,
}

impl Listener {
    async fn listen(&self) -> Result<(), Error> {
        let mut after = self.patiently(async || self.begin().await).await?;
        let newest = self.patiently(async || Ok(self.feed.newest().await?)).await?;
        if after > newest {
            return Err(Error::Ahead { wanted: after, newest });
        }
        let mut left = self.options.count.unwrap_or(u64::MAX);
        self.keep(after)?;
        while left > 0 {
            let page = self.patiently(async || Ok(self.feed.page(after).await?)).await?;
            if let Some(gap) = page.gap {
                mention(format_args!(
                    "retention has deleted events {} to {} before they were read",
                    gap.after + 1,
                    gap.through
                ));
            }
            for event in &page.events {
                if let Some(line) = self.line(event) {
                    if !say_line(&line)? {
                        return Ok(());
                    }
                    self.pass_on(event, &line).await;
                    left -= 1;
                }
                self.keep(event.seq)?;
                if left == 0 {
                    return Ok(());
                }
            }
            after = page.cursor;
            self.keep(after)?;
        }
        Ok(())
    }

    async fn begin(&self) -> Result<i64, Error> {
        if let Some(path) = self.options.cursor_file.as_deref()
            && self.options.since.is_none()
            && let Some(after) = kept(path)?
        {
            return Ok(after);
        }
        Ok(match self.options.since.unwrap_or(Since::Now) {
            Since::Now => self.feed.newest().await?,
            Since::Behind(number) => number,
            Since::At(at) => self.feed.before(at).await?,
        })
    }

    /// Asks until it is answered; says so once when that takes a while.
    async fn patiently<T>(&self, ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        let mut wait = FIRST;
        loop {
            let error = match ask().await {
                Err(Error::Feed(error)) => error,
                done => {
                    if wait > FIRST {
                        mention(format_args!("the daemon answers again"));
                    }
                    return done;
                }
            };
            let asked = match &error {
                feed::Error::Busy(_, asked) => asked.unwrap_or_default(),
                feed::Error::Away(_) => Duration::ZERO,
                feed::Error::Refused(..) | feed::Error::Strange => return Err(error.into()),
            };
            if wait == FIRST {
                mention(format_args!("{error}; trying again"));
            }
            // Many that wait for one daemon do not come back at once.
            let jittered = wait.mul_f64(rand::random_range(0.5..1.0));
            tokio::time::sleep(jittered.max(asked.min(LONGEST))).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// What is printed of an event; none if nobody asked for its type.
    fn line(&self, event: &Event) -> Option<String> {
        let kind = match serde_json::from_value::<EventKind>(event.word.as_str().into()) {
            Ok(kind) => EventType::of_recorded(kind, event.data.get()),
            // A word of a daemon that is newer than this is not known here.
            Err(_) => EventType::of_name(&event.word)?,
        };
        let wanted = &self.options.types;
        let fits = |pattern: &String| types_of(pattern).is_some_and(|types| types.contains(&kind));
        if !wanted.is_empty() && !wanted.iter().any(fits) {
            return None;
        }
        let line = Line {
            r#type: kind.name(),
            timestamp: &event.timestamp,
            id: &event.id,
            sequence: event.seq,
            session_id: event.session_id.as_deref(),
            data: &event.data,
        };
        serde_json::to_string(&line).ok()
    }

    async fn pass_on(&self, event: &Event, line: &str) {
        let Some(receiver) = &self.forward else { return };
        for wait in TRIES {
            match receiver.tell(&event.id, line).await {
                Ok(()) => return,
                Err(answer) => {
                    mention(format_args!("event {} was not forwarded: {answer}", event.seq));
                }
            }
            tokio::time::sleep(wait).await;
        }
        mention(format_args!("event {} is left out", event.seq));
    }

    /// Remembers the place in the feed, if that was asked for.
    fn keep(&self, place: i64) -> io::Result<()> {
        let Some(path) = &self.options.cursor_file else { return Ok(()) };
        // Whole or not at all, whatever it is interrupted by.
        let new = path.with_added_extension("new");
        std::fs::write(&new, format!("{place}\n"))?;
        std::fs::rename(&new, path)
    }
}

/// The place that was kept; none if there is no file yet.
fn kept(path: &Path) -> Result<Option<i64>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Error::Cursor(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_said_in_many_ways() {
        assert_eq!(since("now"), Ok(Since::Now));
        assert_eq!(since("start"), Ok(Since::Behind(0)));
        assert_eq!(since("17"), Ok(Since::Behind(17)));
        assert!(matches!(since("2026-01-31T12:00:00Z"), Ok(Since::At(_))));
        assert!(matches!(since("1h"), Ok(Since::At(_))));
        for bad in ["", "-1", "yesterday", "2026-01-31"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_type_that_does_not_exist_is_refused() {
        assert!(pattern("message.*").is_ok());
        assert!(pattern("message_ack").is_ok());
        assert!(pattern("massage.*").is_err());
    }
}
