//! A phone hands its past to a companion: a compressed blob, inside a notification or at the media
//! host, and a message between the account's own devices that says where.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wacore::download::MediaType;
use wacore::upload::encrypt_media;
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::{HistorySyncNotification, protocol_message};

use super::Hub;
use super::media::Trouble;
use super::writing::enc;
use crate::Error;
use crate::people::companion::Companion;
use crate::people::history::{
    Carriage, Generated, History, HistoryChat, HistoryKind, HistoryMessage,
};
use crate::people::media::{MediaFile, MediaKind};
use crate::people::outbox::Written;
use crate::people::person::Person;

/// `conversations = 2`, length-delimited.
const CONVERSATIONS: u8 = 2 << 3 | 2;
/// `messages = 2` of a conversation, length-delimited.
const MESSAGES: u8 = 2 << 3 | 2;

impl Hub {
    /// Sends a chunk of history to all companions; returns the id of the message that announces it.
    pub(crate) async fn send_history(
        self: &Arc<Self>,
        person: &Arc<Person>,
        history: History,
    ) -> Result<String, Error> {
        let companions = person.companions();
        self.send_history_to(person, &companions, history).await
    }

    pub(crate) async fn send_history_to(
        self: &Arc<Self>,
        person: &Arc<Person>,
        companions: &[Arc<Companion>],
        history: History,
    ) -> Result<String, Error> {
        let (kind, carriage) = (history.kind, history.carriage);
        let (progress, chunk) = (history.progress, history.chunk);
        let (hub, owner) = (Arc::clone(self), Arc::clone(person));
        // Compressing megabytes is no work for a thread that serves connections.
        let blob =
            tokio::task::spawn_blocking(move || hub.counters.book(|| hub.blob(&owner, &history)));
        let blob = blob.await.map_err(|_| Error::Stopped)??;
        let mut notification = match carriage {
            Carriage::Inline => HistorySyncNotification {
                file_length: Some(blob.len() as u64),
                initial_hist_bootstrap_inline_payload: Some(blob),
                ..Default::default()
            },
            _ => self.upload(&blob, carriage)?,
        };
        notification.sync_type = Some(announced(kind));
        notification.progress = progress;
        notification.chunk_order = chunk;

        let message = wa::Message {
            protocol_message: MessageField::some(wa::message::ProtocolMessage {
                r#type: Some(protocol_message::Type::HistorySyncNotification),
                history_sync_notification: MessageField::some(notification),
                ..Default::default()
            }),
            ..Default::default()
        };
        let id = self.message_id();
        let written = Written { message: Arc::new(message), chat: person.pn_jid(), peer: true };
        person.outbox.remember(&id, written.clone());
        for companion in companions {
            let sealed = self.seal(person, companion, &written.message).await?;
            let envelope = self.envelope(person, person, &written, &id);
            let part = enc(&sealed, &written.message);
            self.deliver(companion, envelope.children([part]).build());
        }
        Ok(id)
    }

    /// Puts a blob on the media host, as good or as bad as it shall be.
    fn upload(&self, blob: &[u8], carriage: Carriage) -> Result<HistorySyncNotification, Error> {
        let sealed = encrypt_media(blob, MediaType::History)
            .map_err(|error| Error::History(error.to_string()))?;
        let mut bytes = sealed.data_to_upload;
        let trouble = match carriage {
            Carriage::Missing(status) => Some(Trouble::Status(status)),
            Carriage::Slow(millis) => Some(Trouble::Slow(millis)),
            Carriage::Corrupted => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                None
            }
            Carriage::Inline | Carriage::Download | Carriage::Nonsense => None,
        };
        Ok(HistorySyncNotification {
            file_sha256: Some(sealed.file_sha256.to_vec()),
            file_enc_sha256: Some(sealed.file_enc_sha256.to_vec()),
            file_length: Some(blob.len() as u64),
            media_key: Some(sealed.media_key.to_vec()),
            direct_path: Some(self.media.keep(self.number(), bytes, trouble)),
            ..Default::default()
        })
    }

    /// The chunk as it is compressed, one message in memory at a time.
    fn blob(&self, owner: &Person, history: &History) -> Result<Vec<u8>, Error> {
        if history.carriage == Carriage::Nonsense {
            return Ok(b"this was never compressed".repeat(40));
        }
        let failed = |error: std::io::Error| Error::History(error.to_string());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        for chat in &history.chats {
            let conversation = self.conversation(owner, chat)?;
            zlib.write_all(&[CONVERSATIONS]).map_err(failed)?;
            zlib.write_all(&varint(conversation.len())).map_err(failed)?;
            zlib.write_all(&conversation).map_err(failed)?;
        }
        let rest = wa::HistorySync {
            sync_type: inside(history.kind),
            progress: history.progress,
            chunk_order: history.chunk,
            pushnames: history
                .push_names
                .iter()
                .map(|(number, name)| wa::Pushname {
                    id: Some(format!("{number}@s.whatsapp.net")),
                    pushname: Some(name.clone()),
                })
                .collect(),
            phone_number_to_lid_mappings: self.mappings(history)?,
            ..Default::default()
        };
        zlib.write_all(&rest.encode_to_vec()).map_err(failed)?;
        zlib.finish().map_err(failed)
    }

    /// Who is who, of everybody named by LID.
    fn mappings(&self, history: &History) -> Result<Vec<wa::PhoneNumberToLIDMapping>, Error> {
        let mut numbers = Vec::new();
        for chat in history.chats.iter().filter(|chat| chat.by_lid) {
            let writers = chat.messages.iter().filter_map(|message| message.from.as_deref());
            let other = (!chat.with.ends_with("@g.us")).then_some(chat.with.as_str());
            numbers.extend(writers.chain(other));
        }
        let mapping = |number: &str| {
            let person = self.existing(number)?;
            Ok(wa::PhoneNumberToLIDMapping {
                pn_jid: Some(person.pn_jid().to_string()),
                lid_jid: person.lid_jid().map(|lid| lid.to_string()),
            })
        };
        numbers.into_iter().map(mapping).collect()
    }

    fn conversation(&self, owner: &Person, chat: &HistoryChat) -> Result<Vec<u8>, Error> {
        let is_group = chat.with.ends_with("@g.us");
        let id = if is_group { chat.with.clone() } else { self.named(&chat.with, chat.by_lid)? };
        let head = wa::Conversation {
            id: id.clone(),
            name: chat.name.clone(),
            pn_jid: (chat.by_lid && !is_group).then(|| format!("{}@s.whatsapp.net", chat.with)),
            ..Default::default()
        };
        let mut bytes = head.encode_to_vec();
        let mut add = |message: &HistoryMessage| -> Result<(), Error> {
            let from = message.from.as_deref();
            let participant = from.map(|from| self.named(from, chat.by_lid)).transpose()?;
            let own = message.from_me.then(|| owner.pn_jid().to_string());
            let participant = if is_group { participant.or(own) } else { None };
            let said = match &message.image {
                Some(image) => {
                    let file = MediaFile::new(MediaKind::Image, image.clone());
                    self.announce(&message.id, &file)?.0
                }
                None => crate::text(&message.text),
            };
            let encoded = entry(&id, participant, message, said).encode_to_vec();
            bytes.push(MESSAGES);
            bytes.extend(varint(encoded.len()));
            bytes.extend(encoded);
            Ok(())
        };
        for message in &chat.messages {
            add(message)?;
        }
        if let Some(generated) = &chat.generated {
            let mut words = Words::new(&chat.with);
            for number in 0..generated.count {
                add(&words.message(generated, number))?;
            }
        }
        Ok(bytes)
    }

    fn named(&self, number: &str, by_lid: bool) -> Result<String, Error> {
        if !by_lid {
            return Ok(format!("{}@s.whatsapp.net", crate::address::digits(number)));
        }
        let person = self.existing(number)?;
        Ok(person.lid_jid().unwrap_or_else(|| person.pn_jid()).to_string())
    }
}

fn entry(
    chat: &str,
    participant: Option<String>,
    message: &HistoryMessage,
    said: wa::Message,
) -> wa::HistorySyncMsg {
    wa::HistorySyncMsg {
        message: MessageField::some(wa::WebMessageInfo {
            key: MessageField::some(wa::MessageKey {
                remote_jid: Some(chat.to_owned()),
                from_me: Some(message.from_me),
                id: Some(message.id.clone()),
                participant: participant.clone(),
            }),
            message: MessageField::some(said),
            message_timestamp: Some(message.at),
            participant,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Text that compresses about as well as people's does, the same for the same chat.
struct Words {
    rng: StdRng,
    chat: String,
}

const WORDS: [&str; 16] = [
    "tomorrow", "the", "invoice", "is", "ready", "please", "call", "me", "when", "you", "have",
    "time", "thanks", "delivery", "order", "price",
];

impl Words {
    fn new(chat: &str) -> Self {
        let seed = chat.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        Self { rng: StdRng::seed_from_u64(seed), chat: chat.to_owned() }
    }

    fn message(&mut self, generated: &Generated, number: u32) -> HistoryMessage {
        let wanted = usize::try_from(generated.text_bytes).unwrap_or_default();
        let mut text = String::with_capacity(wanted + 16);
        write!(text, "{number}").ok();
        while text.len() < wanted {
            text.push(' ');
            text.push_str(WORDS[self.rng.random_range(0..WORDS.len())]);
        }
        text.truncate(wanted.max(1));
        let user = self.chat.split('@').next().unwrap_or_default();
        HistoryMessage {
            id: format!("3AGEN{user}X{number:08}"),
            text,
            from_me: number % 3 == 2,
            from: None,
            image: None,
            at: generated.newest_at.saturating_sub(u64::from(number)),
        }
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5);
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn announced(kind: HistoryKind) -> wa::message::HistorySyncType {
    use wa::message::HistorySyncType as Type;
    match kind {
        HistoryKind::InitialBootstrap => Type::INITIAL_BOOTSTRAP,
        HistoryKind::InitialStatusV3 => Type::INITIAL_STATUS_V3,
        HistoryKind::Full => Type::FULL,
        HistoryKind::Recent => Type::RECENT,
        HistoryKind::PushName => Type::PUSH_NAME,
        HistoryKind::NonBlockingData => Type::NON_BLOCKING_DATA,
        HistoryKind::OnDemand => Type::ON_DEMAND,
    }
}

fn inside(kind: HistoryKind) -> wa::history_sync::HistorySyncType {
    use wa::history_sync::HistorySyncType as Type;
    match kind {
        HistoryKind::InitialBootstrap => Type::INITIAL_BOOTSTRAP,
        HistoryKind::InitialStatusV3 => Type::INITIAL_STATUS_V3,
        HistoryKind::Full => Type::FULL,
        HistoryKind::Recent => Type::RECENT,
        HistoryKind::PushName => Type::PUSH_NAME,
        HistoryKind::NonBlockingData => Type::NON_BLOCKING_DATA,
        HistoryKind::OnDemand => Type::ON_DEMAND,
    }
}
