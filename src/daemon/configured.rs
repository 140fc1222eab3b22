//! What the configuration means for each part.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use tokio_util::task::TaskTracker;

use super::StartError;
use crate::{
    clock::Clock,
    config::{self, Config, DatabaseUrl},
    delivery::{self, Deliveries, Own},
    graph,
    http::{self, Quota},
    maintenance::Policy,
    service,
    session::{self, Membership},
    state_dir::{self, StateDir},
    store::{Store, connect},
    vault::{self, source::Source},
    webhook::{AddressPolicy, TargetPolicy},
};

/// How the database is opened.
pub fn store_options(config: &Config, database: &DatabaseUrl) -> connect::Options {
    connect::Options {
        migrate: config.database.migrate,
        readers: config.database.readers,
        lanes: config.database.writers as usize,
        acquire_timeout: config.database.acquire_timeout,
        ..connect::Options::new(database.expose())
    }
}

/// Where the master key is.
///
/// `wagate rekey` asks the same, so that both mean one key.
pub fn master_key(
    encryption: &config::Encryption,
    state_dir: &Path,
) -> Result<Source, vault::source::Error> {
    if let Some(key) = &encryption.master_key {
        return Source::given(key.expose());
    }
    Ok(match &encryption.master_key_file {
        Some(path) => Source::File(path.clone()),
        None => Source::Own(state_dir::master_key_path(state_dir)),
    })
}

/// What calls webhook endpoints, standing still.
pub(super) fn deliveries(
    config: &Config,
    store: &Store,
    home: &str,
    own: Own,
    daemons: Arc<AtomicU64>,
    tracker: &TaskTracker,
) -> Result<Deliveries, reqwest::Error> {
    let webhooks = &config.webhooks;
    let targets = TargetPolicy {
        addresses: AddressPolicy {
            allow: webhooks.allow_cidrs.0.clone(),
            deny: webhooks.deny_cidrs.0.clone(),
        },
        require_https: webhooks.require_https,
        ports: webhooks.ports.0.clone(),
    };
    let client = delivery::Client::new(targets, own, &delivery::system_lookup())?;
    let options = delivery::Options {
        concurrency: webhooks.concurrency as usize,
        disable_after: webhooks.disable_after,
        node: home.to_owned(),
        daemons,
    };
    Ok(Deliveries::new(store.clone(), options, client, tracker))
}

/// How much of everything one request may have, and how often one may ask.
pub(super) fn http_limits(config: &Config) -> http::Limits {
    let quota = |rate: config::Rate, burst: u32| match rate {
        config::Rate::Off => None,
        config::Rate::Of { requests, per } => Some(Quota::new(requests, per.duration(), burst)),
    };
    let limits = &config.limits;
    http::Limits {
        large_body: config.http.max_body_bytes(),
        meta_posts: config.meta.concurrency as usize,
        request_time: config.http.request_timeout,
        open_metrics: config.http.open_metrics,
        per_token: quota(limits.per_token, limits.per_token_burst),
        per_address: quota(limits.per_address, limits.per_address_burst),
        failed_authentications: quota(
            limits.failed_authentications,
            limits.failed_authentications_burst,
        ),
        streams_per_token: limits.streams_per_token as usize,
        streams_per_organization: limits.streams_per_organization as usize,
        ..http::Limits::default()
    }
}

/// What the operator has decided about Meta's webhooks.
pub(super) fn meta(config: &Config) -> service::meta::Options {
    let secret = |text: &config::SecretText| service::meta::Open::from(text.expose().to_owned());
    let meta = &config.meta;
    service::meta::Options {
        default_verify_token: meta.default_verify_token.as_ref().map(secret),
        default_secret: meta.default_webhook_secret.as_ref().map(secret),
        public_url: meta.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
        require_verified: meta.require_verified,
        graph: graph::Options {
            url: meta.graph_url.trim_end_matches('/').to_owned(),
            version: meta.graph_version.clone(),
            media_hosts: meta.media_hosts.0.clone(),
        },
        silent_after: meta.silent_after,
    }
}

/// The certificate to serve with, if there is one.
pub fn tls(config: &config::Http) -> Result<Option<http::Tls>, http::TlsError> {
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
        return Ok(None);
    };
    let files = http::TlsFiles { certificate: certificate.clone(), key: key.clone() };
    http::Tls::load(files).map(Some)
}

/// What the operator has put in front of us.
pub(super) fn edge(config: &config::Http) -> http::Edge {
    let proxies = http::Proxies {
        trusted: config.trusted_proxies.0.clone(),
        header: match config.forwarded_header {
            config::ForwardedHeader::XForwardedFor => http::ForwardedHeader::XForwardedFor,
            config::ForwardedHeader::Forwarded => http::ForwardedHeader::Forwarded,
        },
    };
    http::Edge {
        proxies,
        origins: http::Origins::of(config.cors_origins.0.iter().map(|it| it.named())),
    }
}

/// What the operator has decided about sessions that run elsewhere.
pub(super) fn external(config: &config::External) -> service::external::Policy {
    let key = config.webhook_secret_key.as_ref();
    service::external::Policy {
        key: key.map(|key| key.expose().to_owned().into()),
        allow_open: config.allow_open,
        auto_create: config.auto_create,
        reports_of: Some(i64::from(config.report_organization)).filter(|number| *number > 0),
    }
}

pub(super) fn policy(config: &Config) -> Policy {
    let retention = &config.retention;
    Policy {
        events: retention.events.0,
        messages: retention.messages.0,
        idempotency: retention.idempotency.0,
        sent_messages: retention.sent_messages.0,
        pending_inbound: retention.pending_inbound.0,
        webhooks: retention.webhooks.0,
        meta: retention.meta.0,
        message_statuses: retention.message_statuses.0,
        contacts: retention.contacts.0,
        tokens: retention.tokens.0,
        audit: retention.audit.0,
        interval: retention.interval,
    }
}

/// Who we are among the daemons that share the database.
pub(super) fn membership(
    config: &Config,
    state: &StateDir,
    database: &DatabaseUrl,
    clock: &Clock,
) -> Result<Membership, StartError> {
    // A SQLite file is locked: nobody else can be there. Nor where time is moved by hand, which it is
    // in one process only.
    let alone = database.sqlite_file().is_some() || clock.is_manual();
    Ok(Membership {
        home: state.home(|| uuid::Uuid::new_v4().to_string())?,
        name: config.node.name.clone().unwrap_or_else(machine),
        lease: (!alone).then_some(config.node.lease),
    })
}

/// What this machine is called.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "wagate".to_owned() } else { name.to_owned() }
}

pub(super) fn session_options(config: &Config, state: &StateDir) -> session::Options {
    let whatsapp = config.whatsapp.clone();
    session::Options {
        version: whatsapp.version,
        url: whatsapp.url,
        device_name: whatsapp.device_name,
        max_qr_rounds: whatsapp.max_qr_rounds,
        dial_concurrency: whatsapp.dial_concurrency,
        dial_rate_per_second: whatsapp.dial_rate_per_second,
        on_other_account: match whatsapp.on_other_account {
            config::OnOtherAccount::Refuse => session::OnOtherAccount::Refuse,
            config::OnOtherAccount::Flag => session::OnOtherAccount::Flag,
        },
        replaced_retry_after: whatsapp.replaced_retry_after,
        history: history_settings(&config.history),
        media: session::MediaSettings {
            directory: state.path().to_owned(),
            max_size: config.media.max_size.as_u64(),
            spool: config.media.spool.as_u64(),
            keep: config.media.keep,
            concurrency: config.media.concurrency,
            time_limit: config.media.timeout,
        },
    }
}

fn history_settings(history: &config::History) -> session::HistorySettings {
    session::HistorySettings {
        keep: match history.mode {
            config::HistoryMode::Off => session::Keep::Nothing,
            config::HistoryMode::Limited => session::Keep::Recent {
                days: history.days,
                messages_per_chat: history.messages_per_chat,
            },
            config::HistoryMode::Full => session::Keep::Everything,
        },
        memory: history.memory.as_u64(),
        concurrency: history.concurrency,
        max_chunk: history.max_chunk.as_u64(),
        max_session: history.max_session.as_u64(),
    }
}
