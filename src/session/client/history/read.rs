//! Unpacking a chunk: what it says, message by message, in memory for its largest chat only.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    state::{Direction, MessageStatus},
};
use tokio::sync::mpsc;
use wacore::history_sync::{HistorySyncError, HistorySyncStream};
use waproto::{
    buffa::{
        Message as _,
        encoding::{Tag, WireType, decode_varint, skip_field},
    },
    codec,
    whatsapp::{self as wa, web_message_info::Status},
};

use super::super::translate;
use crate::event::{HistoryMessage, NewMessage};

/// Messages per batch, and bytes of them after which a batch is full as well.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 512 * 1024;

/// `messages` of a `Conversation`.
const MESSAGES: u32 = 2;

/// What is to be read.
pub(super) struct Reading {
    /// zlib over a `HistorySync`.
    pub(super) compressed: Bytes,
    pub(super) max_inflated: u64,
    /// The account's own address.
    pub(super) own: String,
    pub(super) limits: Limits,
    pub(super) seen: Seen,
    pub(super) now: UnixMillis,
}

/// What of a chunk is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) since: Option<UnixMillis>,
    pub(super) per_chat: Option<usize>,
}

/// The messages of each chat that were kept, so that a limit holds over all chunks.
pub(super) type Seen = HashMap<String, HashSet<u64>>;

/// What a chunk held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) messages: u64,
    pub(super) inflated: u64,
    /// Entries that made no sense.
    pub(super) skipped: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the chunk is damaged, or larger than it may be")]
    Damaged(#[from] HistorySyncError),
    #[error("nobody listens any more")]
    Abandoned,
}

/// Reads a chunk and hands on what it says. Blocks while the receiver is slower.
pub(super) fn read(
    reading: Reading,
    batches: &mpsc::Sender<Vec<HistoryMessage>>,
) -> (Seen, Result<Summary, ReadError>) {
    let mut reader = Reader {
        numbers: HashMap::new(),
        own: reading.own,
        limits: reading.limits,
        seen: reading.seen,
        now: reading.now,
        batch: Batch::default(),
        summary: Summary::default(),
    };
    let read = reader.read(&reading.compressed, reading.max_inflated, batches);
    (reader.seen, read.map(|()| reader.summary))
}

struct Reader {
    /// The number behind each hidden identity, as addresses.
    numbers: HashMap<String, String>,
    own: String,
    limits: Limits,
    seen: Seen,
    now: UnixMillis,
    batch: Batch,
    summary: Summary,
}

#[derive(Default)]
struct Batch {
    messages: Vec<HistoryMessage>,
    bytes: usize,
}

impl Reader {
    fn read(
        &mut self,
        compressed: &[u8],
        max_inflated: u64,
        batches: &mpsc::Sender<Vec<HistoryMessage>>,
    ) -> Result<(), ReadError> {
        // Who is who stands behind the chats: one pass for that alone, without keeping anything.
        let mut stream = HistorySyncStream::new(compressed, max_inflated);
        while let Some(chat) = stream.next_conversation_bytes()? {
            self.summary.inflated += chat.len() as u64;
            listening(batches)?;
        }
        let rest = stream.remainder()?;
        self.summary.inflated += u64::from(rest.encoded_len());
        for mapping in rest.phone_number_to_lid_mappings {
            if let (Some(number), Some(hidden)) = (mapping.pn_jid, mapping.lid_jid) {
                self.numbers.insert(bare(&hidden), bare(&number));
            }
        }
        let mut stream = HistorySyncStream::new(compressed, max_inflated);
        while let Some(chat) = stream.next_conversation_bytes()? {
            self.chat(chat, batches)?;
            listening(batches)?;
        }
        self.flush(batches)
    }

    fn chat(
        &mut self,
        bytes: &[u8],
        batches: &mpsc::Sender<Vec<HistoryMessage>>,
    ) -> Result<(), ReadError> {
        let Some(chat) = self.address_of_chat(bytes) else {
            self.summary.skipped += 1;
            return Ok(());
        };
        // Status updates are no conversation.
        if chat.ends_with("@broadcast") {
            return Ok(());
        }
        let limit = self.limits.per_chat;
        let mut newest: Vec<HistoryMessage> = Vec::new();
        for (number, field) in Fields(bytes) {
            if number != MESSAGES {
                continue;
            }
            let Ok(entry) = wa::HistorySyncMsg::decode_from_slice(field) else {
                self.summary.skipped += 1;
                continue;
            };
            let Some(message) = entry.message.into_option() else { continue };
            let Some(message) = self.message(&chat, message) else { continue };
            match limit {
                None => self.push(message, batches)?,
                Some(limit) => {
                    newest.push(message);
                    // They mostly come the newest first, and need not.
                    if newest.len() >= limit.saturating_mul(2).max(BATCH) {
                        keep_newest(&mut newest, limit);
                    }
                }
            }
        }
        if let Some(limit) = limit {
            keep_newest(&mut newest, limit);
            for message in newest {
                let kept = self.seen.entry(chat.clone()).or_default();
                let mark = mark(&message.message);
                if kept.contains(&mark) || kept.len() < limit {
                    kept.insert(mark);
                    self.push(message, batches)?;
                }
            }
        }
        Ok(())
    }

    /// The chat's address; by its number, where the chunk says whose it is.
    fn address_of_chat(&self, bytes: &[u8]) -> Option<String> {
        let (mut id, mut number) = (None, None);
        for (field, value) in Fields(bytes) {
            match field {
                ID => id = std::str::from_utf8(value).ok(),
                PN_JID => number = std::str::from_utf8(value).ok(),
                _ => {}
            }
        }
        let id = bare(id.filter(|id| id.contains('@'))?);
        let hidden = id.ends_with("@lid");
        Some(match number.filter(|number| hidden && number.contains('@')) {
            Some(number) => bare(number),
            None => self.known(id),
        })
    }

    fn known(&self, address: String) -> String {
        self.numbers.get(&address).cloned().unwrap_or(address)
    }

    fn message(&self, chat: &str, info: wa::WebMessageInfo) -> Option<HistoryMessage> {
        let key = info.key.into_option()?;
        let wa_id = key.id.filter(|id| !id.is_empty())?;
        let message = info.message.into_option()?;
        let content = translate::read(&message)?;
        let seconds = i64::try_from(info.message_timestamp?).ok()?;
        let sent_at = UnixMillis(seconds.checked_mul(1_000)?);
        if self.limits.since.is_some_and(|since| sent_at < since) {
            return None;
        }
        let is_group = chat.ends_with("@g.us");
        let from_me = key.from_me.unwrap_or(false);
        let sender = if from_me {
            self.own.clone()
        } else if is_group {
            let participant = info.participant.or(key.participant)?;
            self.known(bare(&participant))
        } else {
            chat.to_owned()
        };
        let (direction, (status, ack)) = if from_me {
            (Direction::Outbound, reached(info.status))
        } else {
            (Direction::Inbound, (MessageStatus::Received, 0))
        };
        let at = sent_at.min(self.now);
        Some(HistoryMessage {
            ack,
            message: NewMessage {
                id: MessageId::new(at, in_order(rand::random())),
                wa_id,
                chat: chat.to_owned(),
                sender,
                direction,
                kind: content.kind,
                body: content.body.map(translate::clean),
                target_wa_id: content.target,
                interaction: None,
                raw: Some(codec::message_to_vec(&message)),
                push_name: info.push_name.filter(|name| !name.is_empty()).map(translate::clean),
                sent_at,
                is_group,
                offline: false,
                status,
            },
        })
    }

    fn push(
        &mut self,
        message: HistoryMessage,
        batches: &mpsc::Sender<Vec<HistoryMessage>>,
    ) -> Result<(), ReadError> {
        self.summary.messages += 1;
        self.batch.bytes += message.message.raw.as_ref().map_or(0, Vec::len);
        self.batch.messages.push(message);
        if self.batch.messages.len() >= BATCH || self.batch.bytes >= BATCH_BYTES {
            self.flush(batches)?;
        }
        Ok(())
    }

    fn flush(&mut self, batches: &mpsc::Sender<Vec<HistoryMessage>>) -> Result<(), ReadError> {
        let Batch { messages, .. } = std::mem::take(&mut self.batch);
        if messages.is_empty() {
            return Ok(());
        }
        batches.blocking_send(messages).map_err(|_closed| ReadError::Abandoned)
    }
}

/// Nothing is unpacked for nobody: a chunk of which little is kept has batches far apart.
fn listening(batches: &mpsc::Sender<Vec<HistoryMessage>>) -> Result<(), ReadError> {
    if batches.is_closed() { Err(ReadError::Abandoned) } else { Ok(()) }
}

/// `id` and `pnJid` of a `Conversation`.
const ID: u32 = 1;
const PN_JID: u32 = 39;

/// The length-delimited fields of a message, in order. What cannot be read ends it.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let tag = Tag::decode(&mut self.0).ok()?;
            if tag.wire_type() == WireType::LengthDelimited {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (value, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                return Some((tag.field_number(), value));
            }
            skip_field(tag, &mut self.0).ok()?;
        }
        None
    }
}

fn keep_newest(messages: &mut Vec<HistoryMessage>, limit: usize) {
    messages.sort_by_key(|it| std::cmp::Reverse(it.message.sent_at));
    messages.truncate(limit);
}

fn mark(message: &NewMessage) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.sender, &message.wa_id).hash(&mut hasher);
    hasher.finish()
}

/// How far a message of the account had come.
fn reached(status: Option<Status>) -> (MessageStatus, i16) {
    match status {
        Some(Status::ERROR) => (MessageStatus::Failed, -1),
        Some(Status::DELIVERY_ACK) => (MessageStatus::Delivered, 2),
        Some(Status::READ) => (MessageStatus::Read, 3),
        Some(Status::PLAYED) => (MessageStatus::Played, 4),
        // A message that the phone still has to send is not history yet; it says so rarely.
        Some(Status::PENDING | Status::SERVER_ACK) | None => (MessageStatus::Sent, 1),
    }
}

/// An address without its device: `1555:3@s.whatsapp.net` is `1555@s.whatsapp.net`.
fn bare(address: &str) -> String {
    let Some((user, server)) = address.split_once('@') else { return address.to_owned() };
    let server = if server == "c.us" { "s.whatsapp.net" } else { server };
    let user = user.split(':').next().unwrap_or(user);
    format!("{user}@{server}")
}
