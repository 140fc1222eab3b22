//! `/api/whatsapp/session/{sessionId}/messages`: messages sent and received.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::{
    id::{MessageId, SessionId},
    kind::MessageKind,
    message,
    state::{Direction, MessageStatus, Origin},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{media::MediaView, ok, with};
use crate::{
    event::{
        message::public_address,
        payload::{Timestamp, rfc3339},
    },
    http::{
        auth::Caller,
        body::LargeJsonObject,
        error::ApiError,
        fields::Parameters,
        idempotency::{idempotency_key, once},
        page::{cursor, position},
        path::{MessagePath, SessionPath},
    },
    service::{
        Media, Messages,
        media::Description,
        messages::{Filter, SendText, is_queued},
        recipient,
    },
};

/// The longest page, and the usual one.
pub(super) const LONGEST: i64 = 500;
pub(super) const USUAL: u64 = 50;

/// A message, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Message")]
pub(super) struct MessageView {
    id: MessageId,
    session_id: SessionId,
    /// WhatsApp's id of it: what events call it.
    wa_id: String,
    /// The conversation, and who wrote to whom in it; addresses as events write them.
    chat: String,
    from: Option<String>,
    /// Of one that was received, the account's address, where it was known then.
    to: Option<String>,
    direction: Direction,
    from_me: bool,
    r#type: MessageKind,
    body: Option<String>,
    target_id: Option<String>,
    /// What was chosen, ordered or shown in one that came by Meta's Cloud API: Meta's own object, under its word
    /// (`interactive`, `button`, `order`, `location`, `contacts`, `system`, `referral`,
    /// `referred_product`); what was too large is named in `omitted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction: Option<Map<String, Value>>,
    /// All that Meta has told of one that came by its Cloud API, as it was written. Of a message that is asked for by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    raw: Option<Box<RawValue>>,
    /// What comes with it: an image, a video, a sound, a document or a sticker.
    media: Option<MediaView>,
    push_name: Option<String>,
    timestamp: Timestamp,
    offline: bool,
    /// Of the past, or written on the phone: nobody was told of it.
    history: bool,
    /// Where the session's socket lives: `cloud` for a number at Meta's.
    channel: Origin,
    status: MessageStatus,
    ack: i16,
    /// Why it failed, or why it waits to be sent again.
    error: Option<String>,
    /// How often it was sent and WhatsApp did not take it, or did not say so.
    failed_attempts: i16,
    /// When it is sent again at the earliest, if WhatsApp did not want it yet.
    next_attempt_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl MessageView {
    pub(super) fn of(
        (session_id, channel): (SessionId, Origin),
        row: message::Model,
        media: Option<Description>,
    ) -> Self {
        let from_me = row.direction == Direction::Outbound;
        let next_attempt_at = row.next_attempt_at.filter(|_| row.status == MessageStatus::Queued);
        Self {
            media: media.map(|media| MediaView::of(media, &session_id, &row.id)),
            id: row.id,
            session_id,
            wa_id: row.wa_id,
            chat: public_address(&row.chat),
            from: Some(public_address(&row.sender)).filter(|from| !from.is_empty()),
            to: if from_me { Some(&row.chat) } else { row.recipient.as_ref() }
                .map(|to| public_address(to)),
            direction: row.direction,
            from_me,
            r#type: row.kind,
            body: row.body,
            target_id: row.target_wa_id,
            raw: None,
            interaction: row.interaction.and_then(|it| serde_json::from_str(&it).ok()),
            push_name: row.push_name,
            timestamp: rfc3339(row.sent_at),
            offline: row.offline,
            history: row.history,
            channel,
            status: row.status,
            ack: row.ack,
            error: row.error,
            failed_attempts: row.failed_attempts,
            next_attempt_at: next_attempt_at.map(rfc3339),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// 201 for a message on its way, 202 for one that waits for its session, 200 for one accepted by
/// an earlier request with the same key.
#[tracing::instrument(name = "http.messages.send", skip_all)]
pub(super) async fn send(
    State(messages): State<Messages>,
    Caller(caller): Caller,
    SessionPath(session): SessionPath,
    parameters: Parameters,
    headers: HeaderMap,
    LargeJsonObject(mut body): LargeJsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let idempotency_key = idempotency_key(&headers)?;
    let kind = body.text("type");
    if kind.is_some_and(|kind| kind != "text") {
        body.fault::<()>("type", "must be `text`");
    }
    let send = SendText {
        to: body.required_text("to"),
        text: body.required_text("text"),
        queue: body.flag("queue").unwrap_or(false),
        idempotency_key,
    };
    body.finish()?;

    let accepted = messages.send(&caller, &session, send).await?;
    let status = match (accepted.replayed, is_queued(&accepted.message)) {
        (true, _) => StatusCode::OK,
        (false, true) => StatusCode::ACCEPTED,
        (false, false) => StatusCode::CREATED,
    };
    let location = format!("/api/whatsapp/session/{session}/messages/{}", accepted.message.id);
    let view = MessageView::of((session, Origin::Embedded), accepted.message, None);
    Ok(once(([(header::LOCATION, location)], with(status, view)), accepted.replayed))
}

#[tracing::instrument(name = "http.messages.show", skip_all)]
pub(super) async fn show(
    State(messages): State<Messages>,
    State(media): State<Media>,
    Caller(caller): Caller,
    SessionPath(session): SessionPath,
    MessagePath(id): MessagePath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let (message, channel) = messages.find(&caller, &session, &id).await?;
    let media = media.describe(channel, &message).await?;
    let raw = messages.as_told(channel, &message).await?;
    let view = MessageView::of((session, channel), message, media);
    Ok(ok(MessageView { raw, ..view }))
}

/// A page of messages, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct List {
    #[schemars(extend("const" = true))]
    success: bool,
    data: Vec<MessageView>,
    /// `null` after the last.
    next_cursor: Option<String>,
}

#[tracing::instrument(name = "http.messages.list", skip_all)]
pub(super) async fn list(
    State(messages): State<Messages>,
    State(media): State<Media>,
    Caller(caller): Caller,
    SessionPath(session): SessionPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let filter = Filter {
        chat: parameters.parsed("chat", recipient::address),
        direction: parameters.parsed("direction", |word| {
            serde_json::from_value(word.into()).map_err(|_| "must be `inbound` or `outbound`")
        }),
        status: parameters.parsed("status", |word| {
            serde_json::from_value(word.into()).map_err(|_| "must be a status of messages")
        }),
    };
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let after = parameters.parsed("cursor", position);
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL);
    let listing = messages.list(&caller, &session, &filter, after, limit).await?;
    let mut data = Vec::with_capacity(listing.messages.len());
    for row in listing.messages {
        let media = media.describe(listing.channel, &row).await?;
        data.push(MessageView::of((session.clone(), listing.channel), row, media));
    }
    Ok(Json(List { success: true, next_cursor: listing.next.as_ref().map(cursor), data }))
}
