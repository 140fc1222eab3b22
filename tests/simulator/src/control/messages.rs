//! Messages and receipts.

use axum::Json;
use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, Body, Query};
use crate::{
    Error, MediaDelivery, MediaFile, MediaKind, Receipt, ReceiptKind, SentMessage, Simulator,
    TypingState,
};

/// The most messages one request makes.
const MOST: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inject {
    from: String,
    /// A number, or a group's address.
    to: String,
    text: Option<String>,
    /// Reacts to the message `target` with this emoji.
    reaction: Option<String>,
    /// With a text: edits the message `target`. Without: revokes it.
    target: Option<String>,
    count: Option<usize>,
    /// An id of the script's own choosing.
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendMedia {
    from: String,
    to: String,
    kind: MediaKind,
    base64: String,
    mimetype: Option<String>,
    name: Option<String>,
    #[serde(default)]
    delivery: MediaDelivery,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Type {
    from: String,
    to: String,
    state: TypingState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    account: String,
    /// Only what is about this message.
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReceipt {
    from: String,
    to: String,
    ids: Vec<String>,
    kind: ReceiptKind,
}

pub(super) async fn media(
    State(simulator): State<Simulator>,
    Body(wanted): Body<SendMedia>,
) -> Result<Json<Value>, ApiError> {
    let contact = simulator.existing(&wanted.from)?.as_contact();
    let bytes = BASE64.decode(&wanted.base64).map_err(|error| Error::Media(error.to_string()))?;
    let mut file = MediaFile::new(wanted.kind, bytes).delivered(wanted.delivery);
    file.mimetype = wanted.mimetype.or(file.mimetype);
    file.name = wanted.name;
    let sent = contact.send_media(&wanted.to, file).await?;
    Ok(Json(json!({ "id": sent.id, "path": sent.path })))
}

pub(super) async fn inject(
    State(simulator): State<Simulator>,
    Body(inject): Body<Inject>,
) -> Result<Json<Value>, ApiError> {
    let contact = simulator.existing(&inject.from)?.as_contact();
    let (to, count) = (inject.to.as_str(), inject.count.unwrap_or(1));
    if count == 0 || count > MOST {
        return Err(ApiError::bad_request(format!("count must be from 1 to {MOST}")));
    }
    if count > 1 && (inject.id.is_some() || inject.target.is_some()) {
        return Err(ApiError::bad_request("only a plain text can be sent more than once"));
    }
    let to_group = to.ends_with("@g.us");
    let ids = match (inject.text, inject.reaction, inject.target) {
        (None, Some(emoji), Some(target)) => vec![contact.react(to, &target, &emoji).await?],
        (Some(text), None, Some(target)) => vec![contact.edit(to, &target, &text).await?],
        (None, None, Some(target)) => vec![contact.revoke(to, &target).await?],
        (Some(text), None, None) if to_group => {
            let mut ids = Vec::with_capacity(count);
            for _ in 0..count {
                ids.push(contact.send_group(to, &text).await?);
            }
            ids
        }
        (Some(text), None, None) if count == 1 => {
            vec![contact.send_with_id(to, crate::text(&text), inject.id).await?]
        }
        (Some(text), None, None) => contact.send_many(to, &text, count).await?,
        _ => {
            let text = "say a text, a reaction with its target, or a target alone to revoke";
            return Err(ApiError::bad_request(text));
        }
    };
    Ok(Json(json!({ "ids": ids })))
}

pub(super) async fn typing(
    State(simulator): State<Simulator>,
    Body(typing): Body<Type>,
) -> Result<Json<Value>, ApiError> {
    simulator.existing(&typing.from)?.as_contact().typing(&typing.to, typing.state)?;
    Ok(Json(json!({})))
}

pub(super) async fn sent(
    State(simulator): State<Simulator>,
    Query(query): Query<Account>,
) -> Result<Json<Vec<SentMessage>>, ApiError> {
    let mut sent = simulator.sent_by(&query.account)?;
    sent.retain(|message| query.id.as_ref().is_none_or(|id| message.id == *id));
    Ok(Json(sent))
}

pub(super) async fn receipt(
    State(simulator): State<Simulator>,
    Body(receipt): Body<NewReceipt>,
) -> Result<Json<Value>, ApiError> {
    let contact = simulator.existing(&receipt.from)?.as_contact();
    contact.receipt(&receipt.to, &receipt.ids, &receipt.kind)?;
    Ok(Json(json!({})))
}

pub(super) async fn receipts(
    State(simulator): State<Simulator>,
    Query(query): Query<Account>,
) -> Result<Json<Vec<Receipt>>, ApiError> {
    let mut receipts = simulator.existing(&query.account)?.receipts();
    receipts.retain(|receipt| query.id.as_ref().is_none_or(|id| receipt.ids.contains(id)));
    Ok(Json(receipts))
}
