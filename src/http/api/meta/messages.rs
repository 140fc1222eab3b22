//! Sending through an account, and saying that something is read.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::{
    id::{ConversationId, MessageId},
    state::Origin,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    http::{
        api::{messages::MessageView, ok, with},
        auth::Caller,
        body::{JsonObject, LargeJsonObject},
        error::ApiError,
        fields::{Fields, Parameters},
        idempotency::{idempotency_key, once},
        path::{ConversationPath, MetaAccountPath},
    },
    service::{
        Meta,
        meta::{Outgoing, What},
    },
};

/// What somebody was told is read.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ReadReceipt")]
#[expect(clippy::struct_field_names, reason = "as the API calls them")]
pub(super) struct ReadView {
    conversation_id: ConversationId,
    /// Our id of the message.
    message_id: MessageId,
    /// Meta's id of it.
    wa_id: String,
}

/// 202 for a message that is taken, 200 for one taken by an earlier request with the same key.
#[tracing::instrument(name = "http.meta.send", skip_all)]
pub(super) async fn send(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
    headers: HeaderMap,
    LargeJsonObject(mut body): LargeJsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let to = body.required_text("to");
    let reply_to = body.text("replyTo");
    let what = what(&mut body);
    body.finish()?;
    let taken = meta.send(&caller, &id, Outgoing { to, reply_to, what }, key).await?;
    let status = if taken.replayed { StatusCode::OK } else { StatusCode::ACCEPTED };
    let session = taken.session_id;
    let location = format!("/api/whatsapp/session/{session}/messages/{}", taken.message.id);
    let view = MessageView::of((session, Origin::Cloud), taken.message, None);
    Ok(once(([(header::LOCATION, location)], with(status, view)), taken.replayed))
}

/// What is to be said. A member of another kind of message is a fault, and not unknown.
fn what(body: &mut Fields) -> What {
    let kind = body.text("type");
    let (has_text, has_template) = (body.has("text"), body.has("template"));
    let text = body.text("text").unwrap_or_default();
    let preview = body.flag("previewUrl");
    let template = template(body);
    match kind.as_deref() {
        Some("template") => {
            if !has_template {
                body.fault::<()>("template", "is missing");
            }
            if has_text {
                body.fault::<()>("text", "is not sent with a template");
            }
            if preview.is_some() {
                body.fault::<()>("previewUrl", "is not sent with a template");
            }
            template
        }
        Some("text") | None => {
            if !has_text {
                body.fault::<()>("text", "is missing");
            }
            if has_template {
                body.fault::<()>("template", "is sent with `type` `template`");
            }
            What::Text { text, preview: preview.unwrap_or(false) }
        }
        Some(_) => {
            body.fault::<()>("type", "must be `text` or `template`");
            template
        }
    }
}

/// The template, as far as there is one.
fn template(body: &mut Fields) -> What {
    let mut what =
        What::Template { name: String::new(), language: String::new(), components: Vec::new() };
    if let Some(members) = body.object("template") {
        let mut inner = Fields::new(members);
        what = What::Template {
            name: inner.required_text("name"),
            language: inner.required_text("language"),
            components: inner.objects("components").unwrap_or_default(),
        };
        body.adopt("template", inner);
    }
    what
}

#[tracing::instrument(name = "http.conversations.read", skip_all)]
pub(super) async fn mark_read(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    ConversationPath(id): ConversationPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let message = body.parsed("messageId", str::parse::<MessageId>);
    body.finish()?;
    let read = meta.mark_read(&caller, &id, message.as_ref()).await?;
    let (message_id, wa_id) = (read.message.id, read.message.wa_id);
    Ok(ok(ReadView { conversation_id: id, message_id, wa_id }))
}
