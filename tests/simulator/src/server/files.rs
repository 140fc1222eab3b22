//! Files that people send with their messages, and that phones upload again when they are asked to.

use std::sync::Arc;

use wacore::download::MediaType;
use wacore::media_retry::decrypt_media_retry_notification;
use wacore::upload::encrypt_media;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_libsignal::crypto::aes_256_gcm_encrypt;
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp as wa;

use super::media::{Blob, Trouble};
use super::router::Sender;
use super::{Hub, Recipient};
use crate::people::media::{MediaDelivery, MediaFile, MediaKind, MediaLie, Reupload, SentMedia};
use crate::people::person::Person;
use crate::violation::ViolationKind;
use crate::wire::stanza::Stanza;
use crate::{Error, locked};

/// An uploaded file, as a message names it.
struct Uploaded {
    path: String,
    key: Vec<u8>,
    sha256: Vec<u8>,
    encrypted_sha256: Vec<u8>,
    length: u64,
    /// The sender's own idea of an address.
    url: Option<String>,
}

/// What a phone needs to upload a file again.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    key: Vec<u8>,
    bytes: Vec<u8>,
}

impl Hub {
    /// Somebody sends a file.
    pub(crate) async fn send_media(
        self: &Arc<Self>,
        author: &Arc<Person>,
        to: &Recipient,
        file: MediaFile,
    ) -> Result<SentMedia, Error> {
        let id = self.message_id();
        let (message, path) = self.announce(&id, &file)?;
        let id = self.counters.metered(self.write(author, to, message, Some(id))).await?;
        Ok(SentMedia { id, path })
    }

    /// Uploads a file; answers the message that says where it is, and the path.
    pub(super) fn announce(
        &self,
        id: &str,
        file: &MediaFile,
    ) -> Result<(wa::Message, String), Error> {
        let kind = media_type(file.kind);
        let sealed =
            encrypt_media(&file.bytes, kind).map_err(|error| Error::Media(error.to_string()))?;
        let bytes = sealed.data_to_upload;
        let path = self.media.keep_blob(self.number(), blob(bytes.clone(), file.delivery));
        let mut uploaded = Uploaded {
            path: path.clone(),
            key: sealed.media_key.to_vec(),
            sha256: sealed.file_sha256.to_vec(),
            encrypted_sha256: sealed.file_enc_sha256.to_vec(),
            length: file.bytes.len() as u64,
            url: None,
        };
        match &file.lie {
            MediaLie::None => {}
            MediaLie::Size(size) => uploaded.length = *size,
            MediaLie::Hash => uploaded.sha256 = vec![0x5a; 32],
            MediaLie::Path(path) => uploaded.path.clone_from(path),
            MediaLie::Address(url) => uploaded.url = Some(url.clone()),
        }
        let original = Original { key: uploaded.key.clone(), bytes };
        locked(&self.media.originals).insert(id.to_owned(), original);
        Ok((message(file, uploaded), path))
    }

    /// A companion asks its phone to upload a file again.
    pub(crate) fn upload_again(&self, sender: &Sender, node: &Node) {
        let id = node.id();
        let violated = |text: String| {
            self.violations.record(ViolationKind::Malformed, Some(&sender.companion.key), text);
        };
        let Some(original) = locked(&self.media.originals).get(&id).cloned() else {
            return violated(format!("media of {id} is asked for, and there is none"));
        };
        if node.child("rmr").and_then(|rmr| rmr.jid("jid")).is_none() {
            return violated(format!("media of {id} is asked for without its chat"));
        }
        let part =
            |name| node.child("encrypt").and_then(|it| it.child(name)).and_then(Stanza::bytes);
        let (Some(sealed), Some(iv)) = (part("enc_p"), part("enc_iv")) else {
            return violated(format!("media of {id} is asked for without a proof"));
        };
        // The same keys in both directions.
        if decrypt_media_retry_notification(&original.key, &id, iv, sealed).is_err() {
            return violated(format!("media of {id} is asked for with another key"));
        }
        self.counters.reuploads.one();
        let answer = match *locked(&sender.person.reupload) {
            Reupload::Silent => return,
            Reupload::Lost => NodeBuilder::new("error").attr("code", 2).build(),
            Reupload::Upload => {
                let whole = blob(original.bytes, MediaDelivery::Whole);
                let path = self.media.keep_blob(self.number(), whole);
                match sealed_answer(&original.key, &id, path) {
                    Some(node) => node,
                    None => return,
                }
            }
        };
        let notification = NodeBuilder::new("notification")
            .attr("type", "mediaretry")
            .attr("id", id)
            .attr("from", sender.person.pn_jid())
            .attr("t", crate::clock::unix_seconds())
            .children([answer])
            .build();
        self.deliver(&sender.companion, notification);
    }
}

/// `<encrypt>` with the new path, sealed as the request was.
fn sealed_answer(media_key: &[u8], id: &str, path: String) -> Option<Node> {
    let notification = wa::MediaRetryNotification {
        stanza_id: Some(id.to_owned()),
        direct_path: Some(path),
        result: Some(wa::media_retry_notification::ResultType::SUCCESS),
        ..Default::default()
    };
    let mut key = [0; 32];
    let info = b"WhatsApp Media Retry Notification";
    wacore::crypto::hkdf_sha256_into(media_key, None, info, &mut key).ok()?;
    let iv: [u8; 12] = rand::random();
    let mut sealed = Vec::new();
    let plain = notification.encode_to_vec();
    aes_256_gcm_encrypt(&key, &iv, id.as_bytes(), &plain, &mut sealed).ok()?;
    let parts = [
        NodeBuilder::new("enc_p").bytes(sealed).build(),
        NodeBuilder::new("enc_iv").bytes(iv.to_vec()).build(),
    ];
    Some(NodeBuilder::new("encrypt").children(parts).build())
}

fn blob(mut bytes: Vec<u8>, delivery: MediaDelivery) -> Blob {
    let trouble = match delivery {
        MediaDelivery::Whole => None,
        MediaDelivery::Corrupted => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            None
        }
        MediaDelivery::Truncated => {
            bytes.truncate(bytes.len() / 2);
            None
        }
        MediaDelivery::Missing(status) => Some(Trouble::Status(status)),
        MediaDelivery::Elsewhere => Some(Trouble::Elsewhere),
        MediaDelivery::Slow(millis) => Some(Trouble::Slow(millis)),
        MediaDelivery::Stuck => Some(Trouble::Stuck),
        MediaDelivery::Endless => Some(Trouble::Endless),
    };
    Blob { bytes: bytes.into(), trouble, needs_route: false }
}

fn media_type(kind: MediaKind) -> MediaType {
    match kind {
        MediaKind::Image => MediaType::Image,
        MediaKind::Video => MediaType::Video,
        MediaKind::Voice => MediaType::Audio,
        MediaKind::Document => MediaType::Document,
        MediaKind::Sticker => MediaType::Sticker,
    }
}

fn message(file: &MediaFile, up: Uploaded) -> wa::Message {
    let mimetype = file.mimetype.clone();
    let view_once = file.view_once.then_some(true);
    macro_rules! of {
        ($type:ident { $($name:ident: $value:expr),* $(,)? }) => {
            MessageField::some(wa::message::$type {
                url: up.url.clone(),
                mimetype,
                direct_path: Some(up.path),
                media_key: Some(up.key),
                file_sha256: Some(up.sha256),
                file_enc_sha256: Some(up.encrypted_sha256),
                file_length: Some(up.length),
                $($name: $value,)*
                ..Default::default()
            })
        };
    }
    match file.kind {
        MediaKind::Image => wa::Message {
            image_message: of!(ImageMessage {
                view_once: view_once,
                static_url: up.url.clone(),
                width: Some(640),
                height: Some(480),
                caption: Some("see this".to_owned()),
            }),
            ..Default::default()
        },
        MediaKind::Video => wa::Message {
            video_message: of!(VideoMessage {
                view_once: view_once,
                static_url: up.url.clone(),
                seconds: Some(7),
            }),
            ..Default::default()
        },
        MediaKind::Voice => wa::Message {
            audio_message: of!(AudioMessage {
                view_once: view_once,
                seconds: Some(3),
                ptt: Some(true),
            }),
            ..Default::default()
        },
        MediaKind::Document => wa::Message {
            document_message: of!(DocumentMessage { file_name: file.name.clone() }),
            ..Default::default()
        },
        MediaKind::Sticker => wa::Message {
            sticker_message: of!(StickerMessage { width: Some(512), height: Some(512) }),
            ..Default::default()
        },
    }
}
