//! What streams and webhooks are told: the `data` of each event, as JSON.
//!
//! Shapes are those of the seed documents, with members added and none taken away. They are part of
//! the contract: a member is never renamed, and a change of meaning is a new member.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Care, Change, Event, GroupChange, NewMessage, PairingFailure, Report, Reported,
    message::{Ack, Call, Ciphertext, public_address},
};
use entity::{
    UnixMillis,
    id::MessageId,
    state::{Direction, Origin},
};

/// What is known besides of what an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The address of the session's account.
    pub own: Option<&'a str>,
    /// Where the session's socket lives.
    pub channel: Origin,
    /// Our own id of the message that is acknowledged, or of one that is told of and there already.
    pub message: Option<&'a MessageId>,
}

/// The event's `data`. `care` says whether an end is one for good.
pub fn data(event: &Event, known: Known<'_>, care: Option<&Care>) -> Value {
    let Known { own, channel, message: there } = known;
    let next_attempt_at = || care.and_then(|care| care.next_attempt_at).map(rfc3339);
    match event {
        Event::Qr { qr, expires_at } => json!({ "qr": qr, "qrExpiresAt": rfc3339(*expires_at) }),
        Event::Authenticated => json!({}),
        Event::LoadingScreen { percent, message } => {
            json!({ "percent": percent, "message": message })
        }
        Event::HistoryProgress { percent } => {
            json!({ "percent": percent, "message": "Receiving the past of the account" })
        }
        Event::Ready(account) => json!({
            "phoneNumber": account.phone_number,
            "pushName": account.push_name,
        }),
        Event::ChangeState(change) => match change {
            Change::Connecting => json!({ "state": change.word() }),
            Change::Reconnecting { reason, next_attempt_at } => json!({
                "state": change.word(),
                "reason": reason.word(),
                "message": reason.sentence(),
                "code": reason.code(),
                "nextAttemptAt": next_attempt_at.map(rfc3339),
            }),
        },
        Event::Disconnected(reason) => json!({
            "reason": reason.word(),
            "message": reason.sentence(),
            "code": reason.code(),
            "nextAttemptAt": next_attempt_at(),
        }),
        Event::AuthFailure(failure) => json!({
            "msg": failure.sentence(),
            "reason": failure.word(),
            "code": failure.code(),
            "until": failure.until().map(rfc3339),
            "nextAttemptAt": next_attempt_at(),
        }),
        Event::PairingCode { expires_at, is_last } => {
            json!({ "expiresAt": rfc3339(*expires_at), "qrExhausted": is_last })
        }
        Event::PairingFailed(failure) => json!({
            "reason": failure.word(),
            "message": failure.sentence(),
            "code": failure.code(),
        }),
        Event::PasskeyRequested => json!({
            "reason": PairingFailure::PasskeyRequired.word(),
            "message": PairingFailure::PasskeyRequired.sentence(),
        }),
        Event::AccountChanged(account) => json!({ "phoneNumber": account.phone_number }),
        Event::Message(message) => {
            let id = there.unwrap_or(&message.id);
            json!({ "message": message_data(message, id, own, channel) })
        }
        Event::Ciphertext(message) => {
            json!({ "message": ciphertext_data(message, own, channel) })
        }
        Event::Ack(ack) => ack_data(ack, there, channel),
        Event::Call(call) => json!({ "call": call_data(call, channel) }),
        Event::Reported(report) => report_data(report),
        Event::Group(change) => json!({ "group": group_data(change) }),
        Event::Unknown { name, data } => json!({ "event": name, "data": data }),
    }
}

fn message_data(message: &NewMessage, id: &MessageId, own: Option<&str>, channel: Origin) -> Value {
    let NewMessage { direction, is_group, chat, sender, .. } = message;
    let (from, to) = ends(*direction, *is_group, chat, sender, own);
    let mut data = json!({
        "id": message.wa_id,
        "messageId": id,
        "body": message.body,
        "type": message.kind,
        "from": public_address(from),
        "to": to.map(public_address),
        "chat": public_address(&message.chat),
        "author": message.is_group.then(|| public_address(&message.sender)),
        "fromMe": message.direction == Direction::Outbound,
        "isGroup": message.is_group,
        "targetId": message.target_wa_id,
        "pushName": message.push_name,
        "timestamp": message.sent_at.as_secs(),
        "offline": message.offline,
        "channel": channel.word(),
    });
    let interaction = message.interaction.as_ref().and_then(|it| serde_json::from_str(it).ok());
    if let Some(interaction @ Value::Object(_)) = interaction {
        data["interaction"] = interaction;
    }
    data
}

/// What is known of a message that cannot be read: all but what it says.
fn ciphertext_data(message: &Ciphertext, own: Option<&str>, channel: Origin) -> Value {
    let Ciphertext { direction, is_group, chat, sender, .. } = message;
    let (from, to) = ends(*direction, *is_group, chat, sender, own);
    json!({
        "id": message.wa_id,
        "type": "ciphertext",
        "from": public_address(from),
        "to": to.map(public_address),
        "chat": public_address(chat),
        "author": is_group.then(|| public_address(sender)),
        "fromMe": *direction == Direction::Outbound,
        "isGroup": is_group,
        "unavailable": message.unavailable,
        "timestamp": message.sent_at.as_secs(),
        "offline": message.offline,
        "channel": channel.word(),
    })
}

/// From whom a message is and to whom, as whatsapp-web.js says it.
fn ends<'a>(
    direction: Direction,
    is_group: bool,
    chat: &'a str,
    sender: &'a str,
    own: Option<&'a str>,
) -> (&'a str, Option<&'a str>) {
    match direction {
        Direction::Inbound if is_group => (chat, own),
        Direction::Inbound => (sender, own),
        Direction::Outbound => (sender, Some(chat)),
    }
}

fn ack_data(ack: &Ack, id: Option<&MessageId>, channel: Origin) -> Value {
    let to = public_address(&ack.chat);
    let mut message = json!({ "id": ack.wa_id, "to": to, "fromMe": true });
    if let Some(id) = id {
        message["messageId"] = json!(id);
    }
    json!({
        "message": message,
        "ack": ack.level.level(),
        "by": public_address(&ack.by),
        "error": ack.error,
        "timestamp": ack.at.as_secs(),
        "channel": channel.word(),
    })
}

fn call_data(call: &Call, channel: Origin) -> Value {
    json!({
        "id": call.id,
        "from": public_address(&call.from),
        "isVideo": call.video,
        "isGroup": call.group,
        "stage": call.stage,
        "timestamp": call.at.as_secs(),
        "channel": channel.word(),
    })
}

/// The members that an embedded session's event of the kind always has, where there is something to say.
fn report_data(report: &Report) -> Value {
    match &report.what {
        Reported::State(state) => json!({ "state": state.word(), "message": state.sentence() }),
        Reported::Disconnected { reason } => {
            json!({ "reason": reason, "message": reason, "code": null, "nextAttemptAt": null })
        }
        Reported::AuthFailure { msg } => json!({
            "msg": msg, "reason": REPORTED, "code": null, "until": null, "nextAttemptAt": null,
        }),
    }
}

/// The reason of what a client elsewhere has told without one.
pub(super) const REPORTED: &str = "reported";

fn group_data(change: &GroupChange) -> Value {
    let participants: Vec<_> = change.participants.iter().map(|it| public_address(it)).collect();
    json!({
        "id": change.id,
        "chat": public_address(&change.chat),
        "author": change.author.as_deref().map(public_address),
        "participants": participants,
        "type": change.kind,
        "body": change.body,
        "timestamp": change.at.as_secs(),
    })
}

/// A point in time as the API writes it: RFC 3339 in UTC with milliseconds, `2025-01-20T10:00:00.000Z`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline, extend("format" = "date-time"))]
pub struct Timestamp(String);

impl Timestamp {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<UnixMillis> for Timestamp {
    fn from(at: UnixMillis) -> Self {
        use time::{OffsetDateTime, macros::format_description};

        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(format).ok())
            // Only a time past the year 9999 cannot be written so.
            .unwrap_or_else(|| "9999-12-31T23:59:59.999Z".to_owned());
        Self(text)
    }
}

/// The time as the API writes it.
pub fn rfc3339(at: UnixMillis) -> Timestamp {
    at.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_seeds_write_them() {
        assert_eq!(rfc3339(UnixMillis(1_737_367_200_000)).as_str(), "2025-01-20T10:00:00.000Z");
        assert_eq!(rfc3339(UnixMillis(i64::MAX)).as_str(), "9999-12-31T23:59:59.999Z");
    }
}
