//! What is logged: lines for people or JSON for programs, on standard error.
//!
//! Wagate's own lines follow the configured level. Everything else, and with it the WhatsApp client
//! under all the target names it uses, is limited to errors: its warnings show stanzas with the phone
//! numbers in them. The client logs partly through `log`; that is bridged.
//!
//! A line never holds a message, a phone number, a token or a QR code.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    panic::{self, PanicHookInfo},
};

use tracing::Level;
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
    fmt, reload,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{self, Format};

/// The log of this process. What is logged can be changed; in which form, cannot.
pub struct Telemetry {
    replace: Replace,
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Starts logging for the whole process. Called once, by the program; tests have their own.
pub fn init(log: &config::Log) -> Result<Telemetry, TryInitError> {
    let builder = fmt::Subscriber::builder()
        .with_env_filter(filter(log))
        .with_writer(std::io::stderr)
        .with_ansi(log.format == Format::Human && std::io::stderr().is_terminal());
    let replace: Replace = match log.format {
        Format::Human => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Box::new(move |filter| handle.reload(filter))
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().try_init()?;
            Box::new(move |filter| handle.reload(filter))
        }
    };
    panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { replace })
}

impl Telemetry {
    /// From now on logs what `log` says.
    pub fn reload(&self, log: &config::Log) -> Result<(), reload::Error> {
        (self.replace)(filter(log))?;
        // Who logs through `log` asks this before anything else; at the start it was set to what was wanted then.
        log::set_max_level(facade(LevelFilter::current()));
        Ok(())
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

fn filter(log: &config::Log) -> EnvFilter {
    let own = format!("wagate={}", log.level.as_str());
    let rest = EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into());
    // The configuration was validated, so every directive is one; a later one wins over an earlier.
    [own.as_str()]
        .into_iter()
        .chain(log.directives())
        .filter_map(|directive| directive.parse::<Directive>().ok())
        .fold(rest.parse_lossy(""), EnvFilter::add_directive)
}

/// A panic is contained where its task is looked after; here it only reaches the log.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
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

#[cfg(test)]
mod tests {
    use crate::config::{Level, Log};

    #[test]
    fn what_is_not_ours_is_limited_to_errors_unless_named() {
        let filter = |log: Log| {
            let shown = super::filter(&log).to_string();
            let mut directives: Vec<_> = shown.split(',').map(ToOwned::to_owned).collect();
            directives.sort();
            directives
        };
        assert_eq!(filter(Log::default()), ["error", "wagate=info"]);
        let named = Log {
            level: Level::Debug,
            filter: "wagate::http=trace, sqlx=info,warn".to_owned(),
            ..Log::default()
        };
        assert_eq!(filter(named), ["sqlx=info", "wagate::http=trace", "wagate=debug", "warn"]);
    }
}
