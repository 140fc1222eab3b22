//! Messages that were told of and could not be read so far.

use std::collections::HashSet;

use entity::{UnixMillis, event, id::SessionKey, kind::EventKind};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::Deserialize;

use super::{CHUNK, Events};
use crate::{
    event::{Ciphertext, message_key},
    store::Error,
};

/// A message of the account's own, written elsewhere, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// WhatsApp's id of the message.
    pub wa_id: String,
    /// The conversation's address.
    pub chat: String,
    /// The account's address, without device.
    pub sender: String,
    pub sent_at: UnixMillis,
}

impl Unread {
    /// What the message is recorded under when it comes after all.
    pub fn key(&self) -> String {
        message_key(&self.chat, &self.sender, &self.wa_id)
    }
}

/// What an event says of the message.
#[derive(Deserialize)]
struct Payload {
    message: About,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    from_me: bool,
    is_group: bool,
    unavailable: bool,
}

impl Events {
    /// What another device of the account wrote to one person since `since` and this session has not
    /// read to this day: the newest `limit` that were told of, the oldest first.
    ///
    /// A walk over the keys of what could not be read, whatever else the session has seen.
    pub async fn unread_of_ours(
        &self,
        session: &SessionKey,
        since: UnixMillis,
        limit: u64,
    ) -> Result<Vec<Unread>, Error> {
        let (first, end) = Ciphertext::KEYS;
        let told: Vec<(String, String, UnixMillis)> = event::Entity::find()
            .select_only()
            .column(event::Column::DedupeKey)
            .column(event::Column::Payload)
            .column(event::Column::OccurredAt)
            .filter(event::COLUMN.session_key.eq(session.clone()))
            .filter(event::COLUMN.dedupe_key.gte(first))
            .filter(event::COLUMN.dedupe_key.lt(end))
            .filter(event::COLUMN.kind.eq(EventKind::MessageCiphertext))
            .filter(event::COLUMN.occurred_at.gte(since))
            .order_by_desc(event::Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let ours = told.into_iter().rev().filter(|(_, payload, _)| {
            serde_json::from_str::<Payload>(payload).is_ok_and(|Payload { message }| {
                message.from_me && !message.is_group && !message.unavailable
            })
        });
        let mut unread: Vec<Unread> = ours
            .filter_map(|(key, _, sent_at)| {
                let (chat, sender, wa_id) = Ciphertext::parts(&key)?;
                let [chat, sender, wa_id] = [chat, sender, wa_id].map(str::to_owned);
                Some(Unread { wa_id, chat, sender, sent_at })
            })
            .collect();
        let keys: Vec<String> = unread.iter().map(Unread::key).collect();
        let mut read = HashSet::new();
        for chunk in keys.chunks(CHUNK) {
            let found: Vec<String> = event::Entity::find()
                .select_only()
                .column(event::Column::DedupeKey)
                .filter(event::COLUMN.session_key.eq(session.clone()))
                .filter(event::COLUMN.dedupe_key.is_in(chunk.iter().cloned()))
                .into_tuple()
                .all(self.store.reader())
                .await?;
            read.extend(found);
        }
        unread.retain(|unread| !read.contains(&unread.key()));
        Ok(unread)
    }
}
