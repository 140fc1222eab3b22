//! What is logged: lines for people or JSON for programs, on standard error.
//!
//! Wagate's own lines follow the configured level. Everything else, and with it the WhatsApp client
//! under all the target names it uses, is limited to errors: its warnings show stanzas with the phone
//! numbers in them. The client logs partly through `log`; that is bridged.
//!
//! A line never holds a message, a phone number, a token or a QR code.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    panic::{self, PanicHookInfo},
};

use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{Directive, LevelFilter},
    fmt,
    layer::SubscriberExt as _,
    reload,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::config::{self, Config, Format};
#[cfg(feature = "otlp")]
use crate::traces::{self, Traces};

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else logs for this process.
    #[error("cannot start the log")]
    Log(#[from] TryInitError),
    /// Spans were to be exported.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Traces(#[from] traces::Error),
}

/// The log of this process. What is logged can be changed; in which form, and what is exported, cannot.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Inner>,
    #[cfg(feature = "otlp")]
    traces: Option<Traces>,
}

/// What lines are written on top of.
#[cfg(not(feature = "otlp"))]
type Inner = Registry;
#[cfg(feature = "otlp")]
type Inner = tracing_subscriber::layer::Layered<Option<Exported>, Registry>;
#[cfg(feature = "otlp")]
type Exported = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging for the whole process. Called once, by the program; tests have their own.
pub fn init(config: &Config) -> Result<Telemetry, Error> {
    let log = &config.log;
    let inner = tracing_subscriber::registry();
    #[cfg(feature = "otlp")]
    let traces = Traces::of(config)?;
    #[cfg(feature = "otlp")]
    let inner = inner.with(traces.as_ref().map(Traces::layer));
    let (filter, handle) = reload::Layer::new(filter(log));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(log.format == Format::Human && std::io::stderr().is_terminal());
    // Each with a filter of its own: what is exported does not depend on what is logged.
    match log.format {
        Format::Human => inner.with(lines.with_filter(filter)).try_init()?,
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            inner.with(lines.with_filter(filter)).try_init()?;
        }
    }
    panic::set_hook(Box::new(log_panic));
    Ok(Telemetry {
        filter: handle,
        #[cfg(feature = "otlp")]
        traces,
    })
}

impl Telemetry {
    /// From now on logs what `log` says.
    pub fn reload(&self, log: &config::Log) -> Result<(), reload::Error> {
        self.filter.reload(filter(log))?;
        // Who logs through `log` asks this before anything else; at the start it was set to what was wanted then.
        log::set_max_level(facade(LevelFilter::current()));
        Ok(())
    }

    /// Sends what is still to be exported, for some seconds at most.
    pub fn close(&self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.close();
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// A level as `log` calls it.
fn facade(level: LevelFilter) -> log::LevelFilter {
    match level.into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::DEBUG) => log::LevelFilter::Debug,
        Some(Level::TRACE) => log::LevelFilter::Trace,
    }
}

/// Says with whom a session does not fit, by the number in full. What comes of it is said elsewhere.
const NAMES_PEOPLE: &str = "wacore_libsignal=off";

fn filter(log: &config::Log) -> EnvFilter {
    let own = format!("wagate={}", log.level.as_str());
    let rest = EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into());
    // The configuration was validated, so every directive is one; a later one wins over an earlier.
    [NAMES_PEOPLE, own.as_str()]
        .into_iter()
        .chain(log.directives())
        .filter_map(|directive| directive.parse::<Directive>().ok())
        .fold(rest.parse_lossy(""), EnvFilter::add_directive)
}

/// A panic is contained where its task is looked after; here it only reaches the log.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = message(info.payload());
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // Taken only when `RUST_BACKTRACE` asks for it.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = std::thread::current();
    tracing::error!(
        panic.message = message,
        panic.location = location,
        panic.backtrace = backtrace,
        thread.name = thread.name(),
        "A task panicked at {location}: {message}"
    );
}

/// What a panic says of itself, as far as it stands in the source. One that was made of values may quote them, as that of a
/// slice of a text quotes the text: the place must be enough.
fn message(payload: &(dyn Any + Send)) -> &'static str {
    match payload.downcast_ref::<&'static str>() {
        Some(written) => written,
        None if payload.is::<String>() => "a formatted message, which is left out",
        None => "no message",
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use crate::config::{Level, Log};

    #[test]
    fn a_panic_is_logged_with_what_stands_in_the_source_and_with_no_value() {
        let body = "Zürich is where we meet".to_owned();
        let cut = body.clone();
        let panicked = catch_unwind(move || cut[..2].len()).unwrap_err();
        let quoted = panicked.downcast_ref::<String>().expect("a message that was formatted");
        assert!(quoted.contains(&body), "it quotes nothing: {quoted}");
        assert_eq!(super::message(&*panicked), "a formatted message, which is left out");
        let panicked = catch_unwind(|| panic!("a bug")).unwrap_err();
        assert_eq!(super::message(&*panicked), "a bug");
        let panicked = catch_unwind(|| panic_any(17)).unwrap_err();
        assert_eq!(super::message(&*panicked), "no message");
    }

    #[test]
    fn what_is_not_ours_is_limited_to_errors_unless_named() {
        let filter = |log: Log| {
            let shown = super::filter(&log).to_string();
            let mut directives: Vec<_> = shown.split(',').map(ToOwned::to_owned).collect();
            directives.sort();
            directives
        };
        assert_eq!(filter(Log::default()), ["error", "wacore_libsignal=off", "wagate=info"]);
        let named = Log {
            level: Level::Debug,
            filter: "wagate::http=trace, sqlx=info,warn".to_owned(),
            ..Log::default()
        };
        let all =
            ["sqlx=info", "wacore_libsignal=off", "wagate::http=trace", "wagate=debug", "warn"];
        assert_eq!(filter(named), all);
    }
}
