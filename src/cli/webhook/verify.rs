//! `wagate webhook verify`: whether a request that was kept is signed, and if not, why.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{
    super::{output::say, tenants::json as shown},
    USAGE, complain, secret,
};
use crate::{
    clock::Clock,
    webhook::{
        SigningSecret,
        signature::{VerifyError, verify},
    },
};

/// The largest body that is looked at.
const MOST: u64 = 64 << 20;

/// No signature fits.
const UNSIGNED: u8 = 1;

/// A signature fits, and the request is too old, or from the future.
const FAR: u8 = 2;

/// What `wagate webhook verify` is told. The body is on standard input.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The secret is in WAGATE_WEBHOOK_SECRET or in --secret-file; while it is rotated \
    there may be several, with blanks between them."
)]
pub(in crate::cli) struct Options {
    /// The header webhook-id
    #[arg(long, value_name = "ID", required_unless_present = "headers")]
    id: Option<String>,
    /// The header webhook-timestamp: seconds since 1970
    #[arg(long, value_name = "SECONDS", required_unless_present = "headers")]
    timestamp: Option<String>,
    /// The header webhook-signature
    #[arg(long, value_name = "SIGNATURES", required_unless_present = "headers")]
    signature: Option<String>,
    /// A file that has these headers among others, one in a line
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// The body, byte for byte; - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    body: PathBuf,
    /// A file with the secret; - for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// When the request came, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    at: Option<i64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the body and the secret cannot both be on standard input")]
    OneInput,
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("there is no header {0}")]
    NoHeader(&'static str),
    #[error("webhook-timestamp must be seconds since 1970, in digits")]
    Timestamp,
}

/// A request that was kept.
#[derive(Debug)]
struct Kept {
    id: String,
    timestamp: i64,
    signatures: String,
    body: Vec<u8>,
}

/// Says what it found, and ends with it.
pub(super) fn run(options: &Options) -> ExitCode {
    let (secrets, kept) = match read(options) {
        Ok(read) => read,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    let now = options.at.unwrap_or_else(|| Clock::system().now().as_secs());
    let found = verdict(&secrets, &kept, now);
    // Positive for one that is old, negative for one from the future.
    let age = now.saturating_sub(kept.timestamp);
    let reason = match found {
        Err(VerifyError::Signature) => Some(reason(&secrets, &kept)),
        _ => None,
    };
    say(&if options.json {
        shown(&json!({
            "signed": found != Err(VerifyError::Signature),
            "inTime": found.is_ok(),
            "secret": found.ok(),
            "ageSeconds": age,
            "reason": reason,
        }))
    } else {
        sentence(found, secrets.len(), age, reason.unwrap_or_default())
    });
    match found {
        Ok(_) => ExitCode::SUCCESS,
        Err(VerifyError::Timestamp) => ExitCode::from(FAR),
        Err(VerifyError::Signature) => ExitCode::from(UNSIGNED),
    }
}

fn sentence(found: Result<usize, VerifyError>, secrets: usize, age: i64, reason: &str) -> String {
    match found {
        Ok(number) if secrets > 1 => format!("The signature fits, by secret number {number}.\n"),
        Ok(_) => "The signature fits.\n".to_owned(),
        Err(VerifyError::Timestamp) => {
            let (away, side) = if age > 0 { (age, "old") } else { (-age, "ahead") };
            format!(
                "The signature fits, but the request is {away} seconds {side}: a receiver refuses it. \
                 Give the time when it came with --at.\n"
            )
        }
        Err(VerifyError::Signature) => format!("No signature fits: {reason}.\n"),
    }
}

fn read(options: &Options) -> Result<(Vec<SigningSecret>, Kept), Unusable> {
    let input = Path::new("-");
    if options.body == input && options.secret_file.as_deref() == Some(input) {
        return Err(Unusable::OneInput);
    }
    let file = |path: &Path| {
        secret::bytes(path, MOST).map_err(|error| Unusable::Read(path.to_owned(), error))
    };
    let headers = match &options.headers {
        Some(path) => String::from_utf8_lossy(&file(path)?).into_owned(),
        None => String::new(),
    };
    let header = |given: &Option<String>, name: &'static str| {
        let of_file = || {
            headers.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        given.clone().or_else(of_file).filter(|it| !it.is_empty()).ok_or(Unusable::NoHeader(name))
    };
    let id = header(&options.id, "webhook-id")?;
    let timestamp = header(&options.timestamp, "webhook-timestamp")?;
    let signatures = header(&options.signature, "webhook-signature")?;
    // Digits alone: what was signed is the text, and it must read back as it was.
    let digits = Some(timestamp).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let timestamp = digits.and_then(|it| it.parse().ok()).ok_or(Unusable::Timestamp)?;
    let secrets = secret::secrets(options.secret_file.as_deref())?;
    Ok((secrets, Kept { id, timestamp, signatures, body: file(&options.body)? }))
}

/// The number of the secret that fits, counted from 1.
fn verdict(secrets: &[SigningSecret], kept: &Kept, now: i64) -> Result<usize, VerifyError> {
    let mut worst = VerifyError::Signature;
    for (at, secret) in secrets.iter().enumerate() {
        match verify(secret, &kept.id, kept.timestamp, &kept.signatures, &kept.body, now) {
            Ok(()) => return Ok(at + 1),
            Err(VerifyError::Timestamp) => worst = VerifyError::Timestamp,
            Err(VerifyError::Signature) => {}
        }
    }
    Err(worst)
}

/// What may be wrong, as far as it can be seen.
fn reason(secrets: &[SigningSecret], kept: &Kept) -> &'static str {
    if !kept.signatures.split(' ').any(|it| it.starts_with("v1,")) {
        return "webhook-signature has none of the form v1,<base64>";
    }
    let fits = |body: &[u8]| {
        let with = |secret| {
            verify(secret, &kept.id, kept.timestamp, &kept.signatures, body, kept.timestamp)
        };
        secrets.iter().any(|secret| with(secret).is_ok())
    };
    let trimmed = kept.body.trim_ascii_end();
    if trimmed.len() < kept.body.len() && fits(trimmed) {
        return "the body has blanks or a line feed at its end that were not sent";
    }
    if serde_json::from_slice::<serde_json::Value>(&kept.body)
        .is_ok_and(|body| fits(body.to_string().as_bytes()))
    {
        return "the body is the same JSON and not the same bytes: keep it as it came";
    }
    "it is another secret, or the body, webhook-id or webhook-timestamp is not what was sent"
}
