//! Accounts and events, as the API shows them.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use entity::{
    id::{MetaAccountId, MetaEventId, OrganizationId, SessionId, SessionKey},
    meta::{
        account, event,
        state::{MetaEventState, MetaStatus},
    },
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    event::payload::{Timestamp, rfc3339},
    http::page::cursor,
    service::{
        Meta,
        meta::{DEFAULT_PATH, Detail, Overview, paired},
    },
};

/// An account, without its secrets.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MetaAccount")]
pub(super) struct AccountView {
    id: MetaAccountId,
    label: Option<String>,
    phone_number_id: String,
    waba_id: Option<String>,
    display_phone_number: Option<String>,
    app_id: Option<String>,
    /// The session that its messages are kept under: it is there when the account is complete, or something was told of it.
    session_id: Option<SessionId>,
    /// Whether it has an app's secret of its own.
    has_app_secret: bool,
    /// Until when the secret before is good beside it.
    previous_app_secret_until: Option<Timestamp>,
    has_access_token: bool,
    /// Where Meta was told to call.
    callback_path: String,
    /// The same as Meta needs it; `null` while the operator has not said how Meta reaches the daemon.
    callback_url: Option<String>,
    /// The path that is this account's alone, which can be given to Meta in place of the shared one.
    own_path: String,
    status: MetaStatus,
    last_verified_at: Option<Timestamp>,
    has_complete_whats_app_config: bool,
    /// What it lacks to be complete.
    missing: Vec<&'static str>,
    /// When Meta told something last, if nothing came for so long that `meta.account.silent` was told.
    silent_since: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The names of accounts' sessions.
pub(super) type Sessions = HashMap<SessionKey, SessionId>;

impl AccountView {
    pub(super) fn of(meta: &Meta, row: account::Model, sessions: &Sessions) -> Self {
        let missing = meta.missing(&row);
        Self {
            session_id: row.session_key.as_ref().and_then(|key| sessions.get(key)).cloned(),
            callback_url: meta.callback_url(&row.callback_path),
            own_path: format!("{DEFAULT_PATH}/{}", row.callback_key),
            id: row.id,
            label: row.label,
            phone_number_id: row.phone_number_id,
            waba_id: row.waba_id,
            display_phone_number: row.display_phone_number,
            app_id: row.app_id,
            has_app_secret: row.app_secret.is_some(),
            previous_app_secret_until: row.previous_until.map(rfc3339),
            has_access_token: row.access_token.is_some(),
            callback_path: row.callback_path,
            status: row.status,
            last_verified_at: row.last_verified_at.map(rfc3339),
            has_complete_whats_app_config: missing.is_empty(),
            missing,
            silent_since: row.silent_since.map(rfc3339),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// An account that was made or changed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UpsertedMetaAccount")]
pub(super) struct UpsertedView {
    #[serde(flatten)]
    pub(super) account: AccountView,
    /// Shown this once, if it was made here: `null` for one that the request has given, and for an account
    /// that was there.
    pub(super) verify_token: Option<String>,
}

/// An account with another verify token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RotatedVerifyToken")]
pub(super) struct RotatedView {
    #[serde(flatten)]
    pub(super) account: AccountView,
    /// Shown this once: `null` when an earlier request with the same key was answered with it.
    pub(super) verify_token: Option<String>,
}

/// An organization's configuration, with a page of its accounts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct OverviewPage {
    #[schemars(extend("const" = true))]
    success: bool,
    data: OverviewView,
    /// Where the next page of `accounts` begins; `null` after the last.
    next_cursor: Option<String>,
}

impl OverviewPage {
    pub(super) fn of(meta: &Meta, overview: Overview, sessions: &Sessions) -> Self {
        let next_cursor = overview.page.next.as_ref().map(cursor);
        Self { success: true, data: OverviewView::of(meta, overview, sessions), next_cursor }
    }
}

/// An organization's configuration, without its secrets. What stands outside of `accounts` is the oldest's.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OrganizationWhatsApp")]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, by its own name")]
pub(super) struct OverviewView {
    organization_id: OrganizationId,
    name: String,
    /// Whether there is an account, and each has all that it needs.
    has_complete_whats_app_config: bool,
    whatsapp_business_account_id: Option<String>,
    whatsapp_phone_number_id: Option<String>,
    whatsapp_app_id: Option<String>,
    whatsapp_webhook_url: Option<String>,
    has_whatsapp_access_token: bool,
    has_whatsapp_webhook_verify_token: bool,
    has_whatsapp_app_secret: bool,
    /// All of them, unless a page or only some were asked for.
    accounts: Vec<AccountView>,
}

impl OverviewView {
    fn of(meta: &Meta, overview: Overview, sessions: &Sessions) -> Self {
        let Overview { organization, first, is_complete, page } = overview;
        let view = |row| AccountView::of(meta, row, sessions);
        let first = first.map(view);
        let first = first.as_ref();
        Self {
            organization_id: organization.id,
            name: organization.name,
            has_complete_whats_app_config: is_complete,
            whatsapp_business_account_id: first.and_then(|it| it.waba_id.clone()),
            whatsapp_phone_number_id: first.map(|it| it.phone_number_id.clone()),
            whatsapp_app_id: first.and_then(|it| it.app_id.clone()),
            whatsapp_webhook_url: first.and_then(|it| it.callback_url.clone()),
            has_whatsapp_access_token: first.is_some_and(|it| it.has_access_token),
            has_whatsapp_webhook_verify_token: first.is_some(),
            has_whatsapp_app_secret: first.is_some_and(|it| it.has_app_secret),
            accounts: page.accounts.into_iter().map(view).collect(),
        }
    }
}

/// One thing that Meta told.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MetaEvent")]
pub(super) struct EventView {
    id: MetaEventId,
    /// The account that it is about. `null` if it is about none, about several, or about a number that
    /// nobody has set up.
    account_id: Option<MetaAccountId>,
    /// `message`, `status`, `echo`, `call`, `error`, `history`; the field of Meta's for anything else;
    /// `unknown` and `malformed` for a whole body that is not what Meta documents.
    event_type: String,
    /// Of what kind within that: `text`, `delivered`, …
    subtype: Option<String>,
    /// Meta's id of what it is about.
    object_id: Option<String>,
    /// When Meta says that it happened.
    event_ts: Timestamp,
    /// The same for every repetition, of which there is one entry.
    dedup_key: String,
    /// It names a number that nobody has set up.
    unrouted: bool,
    /// Whether what follows from it was carried out.
    processed: bool,
    processed_at: Option<Timestamp>,
    state: MetaEventState,
    /// How often it was tried in vain.
    attempts: i32,
    /// When it is tried again, if the last try was in vain.
    next_attempt_at: Option<Timestamp>,
    /// Why the last try was in vain, or it was given up: a stable word.
    error: Option<String>,
    created_at: Timestamp,
}

impl From<event::Model> for EventView {
    fn from(row: event::Model) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            event_type: row.event_type,
            subtype: row.subtype,
            object_id: row.object_id,
            event_ts: rfc3339(row.event_ts),
            dedup_key: row.dedup_key,
            unrouted: row.is_unrouted,
            processed: row.processed,
            processed_at: row.processed_at.map(rfc3339),
            next_attempt_at: Some(row.next_at)
                .filter(|at| at.0 > 0 && row.state == MetaEventState::Waiting)
                .map(rfc3339),
            state: row.state,
            attempts: row.attempts,
            error: row.error,
            created_at: rfc3339(row.created_at),
        }
    }
}

/// How many events are to be carried out again.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ReprocessedMetaEvents")]
pub(super) struct ReprocessedView {
    /// At most 10,000; what is left is put back by the next request.
    pub(super) events: u64,
}

/// One thing that Meta told, with the request that it came in.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MetaEventDetail")]
pub(super) struct EventDetailView {
    #[serde(flatten)]
    event: EventView,
    /// The thing itself, as Meta wrote it.
    #[schemars(with = "Value")]
    item: Option<Box<RawValue>>,
    /// The whole request's body; `null` if it is no JSON, or no longer kept.
    #[schemars(with = "Value")]
    payload: Option<Box<RawValue>>,
    /// The body in base64, if it is no JSON.
    payload_base64: Option<String>,
    /// Parts of the body were other organizations', and are not shown.
    is_part: bool,
    /// What the request was signed with.
    signature: Option<String>,
    received_at: Option<Timestamp>,
}

impl From<Detail> for EventDetailView {
    fn from(detail: Detail) -> Self {
        let Detail { event, body, payload, item } = detail;
        let raw = |text: String| RawValue::from_string(paired(&text).into_owned()).ok();
        let json = payload.as_ref().and_then(|bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            raw(text.trim_start_matches('\u{feff}').to_owned())
        });
        let other = payload.filter(|_| json.is_none());
        Self {
            event: event.into(),
            item: item.and_then(raw),
            payload: json,
            payload_base64: other.map(|bytes| STANDARD.encode(bytes)),
            is_part: body.as_ref().is_some_and(|body| body.is_part),
            received_at: body.as_ref().map(|body| rfc3339(body.received_at)),
            signature: body.map(|body| body.signature),
        }
    }
}
