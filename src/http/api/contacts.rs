//! `/api/contacts`, `/api/conversations`: people, whatever they are called by, and what was exchanged with them.

use axum::{Json, extract::State, response::IntoResponse};
use entity::{
    contact_identity,
    id::{ContactId, ConversationId, SessionId},
    session,
    state::{IdentityKind, Origin},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{List, messages::MessageView};
use crate::{
    event::{
        message::public_address,
        payload::{Timestamp, rfc3339},
    },
    http::{auth::Caller, error::ApiError, fields::Parameters, path::ConversationPath},
    service::{
        Contacts, Media,
        contacts::{ContactEntry, ConversationEntry},
    },
};

/// One of the things that a contact is called by.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Identity")]
pub(super) struct IdentityView {
    kind: IdentityKind,
    value: String,
}

impl From<contact_identity::Model> for IdentityView {
    fn from(row: contact_identity::Model) -> Self {
        Self { kind: row.kind, value: row.value }
    }
}

/// A contact: one person, whatever they are called by.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Contact")]
pub(super) struct ContactView {
    id: ContactId,
    /// What they call themselves.
    name: Option<String>,
    username: Option<String>,
    /// There may be no phone number among them.
    identities: Vec<IdentityView>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<ContactEntry> for ContactView {
    fn from(entry: ContactEntry) -> Self {
        let ContactEntry { row, identities } = entry;
        Self {
            id: row.id,
            name: row.name,
            username: row.username,
            identities: identities.into_iter().map(IdentityView::from).collect(),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// A conversation of a session with a contact, or in a group.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Conversation")]
pub(super) struct ConversationView {
    id: ConversationId,
    session_id: Option<SessionId>,
    /// Where the session's socket lives: `cloud` for a number at Meta's.
    channel: Option<Origin>,
    /// The address that its messages have.
    chat: String,
    /// `null` of a group.
    contact_id: Option<ContactId>,
    name: Option<String>,
    last_message_at: Timestamp,
    /// When they wrote last.
    last_inbound_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<(ConversationEntry, Option<session::Model>)> for ConversationView {
    fn from((entry, session): (ConversationEntry, Option<session::Model>)) -> Self {
        let ConversationEntry { row, contact } = entry;
        Self {
            id: row.id,
            channel: session.as_ref().map(|it| it.origin),
            session_id: session.map(|it| it.session_id),
            chat: public_address(&row.chat),
            contact_id: row.contact_id,
            name: contact.and_then(|it| it.name),
            last_message_at: rfc3339(row.last_message_at),
            last_inbound_at: row.last_inbound_at.map(rfc3339),
            created_at: rfc3339(row.created_at),
        }
    }
}

#[tracing::instrument(name = "http.contacts.list", skip_all)]
pub(super) async fn list(
    State(contacts): State<Contacts>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let identity = parameters.text("identity");
    parameters.finish()?;
    let found = contacts.list(&caller, identity.as_deref(), page).await?;
    let data = found.contacts.into_iter().map(ContactView::from);
    Ok(Json(List::new(data, found.next.as_ref())))
}

#[tracing::instrument(name = "http.conversations.list", skip_all)]
pub(super) async fn conversations(
    State(contacts): State<Contacts>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let session = parameters.parsed("sessionId", str::parse::<SessionId>);
    let contact = parameters.parsed("contactId", str::parse::<ContactId>);
    parameters.finish()?;
    let found = contacts.conversations(&caller, session.as_ref(), contact.as_ref(), page).await?;
    let data = found.conversations.into_iter().map(ConversationView::from);
    Ok(Json(List::new(data, found.next.as_ref())))
}

#[tracing::instrument(name = "http.conversations.messages", skip_all)]
pub(super) async fn messages(
    State(contacts): State<Contacts>,
    State(media): State<Media>,
    Caller(caller): Caller,
    ConversationPath(id): ConversationPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let direction = parameters.parsed("direction", |word| {
        serde_json::from_value(word.into()).map_err(|_| "must be `inbound` or `outbound`")
    });
    parameters.finish()?;
    let found = contacts.messages(&caller, &id, direction, page).await?;
    let of = (found.session.session_id, found.session.origin);
    let mut data = Vec::with_capacity(found.messages.len());
    for row in found.messages {
        let media = media.describe(of.1, &row).await?;
        data.push(MessageView::of(of.clone(), row, media));
    }
    Ok(Json(List::new(data.into_iter(), found.next.as_ref())))
}
