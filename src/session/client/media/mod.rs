//! Media, with the client library: what a message says of it, where it is, and asking the phone for it.
//!
//! `fetch.rs` downloads, `stream.rs` is what it downloads through, `spool.rs` what it writes to.

mod fetch;
mod spool;
mod stream;

use std::time::Duration;

use wacore::proto_helpers::MessageExt as _;
use wacore_binary::Jid;
use waproto::{codec, whatsapp as wa};
use whatsapp_rust::{
    Client,
    features::{MediaRetryResult, MediaReuploadError, MediaReuploadRequest},
};
use zeroize::Zeroizing;

pub(in crate::session) use self::fetch::{Fetch, FetchError};
use super::translate::clean;
use crate::session::media::{Media, MediaError, MediaKind, Obstacle, Renewal, Source};

/// How long WhatsApp may take to name its media hosts. Without an answer there are those that everybody
/// knows.
const HOSTS_DEADLINE: Duration = Duration::from_secs(5);

/// How long a phone may take to upload again. Less than another daemon waits for an answer.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(20);

/// The longest texts that are taken of what a sender has written about a file.
const LONGEST_NAME: usize = 255;

/// What a message, as it came, says of its media. None when it has none that we know of.
pub(in crate::session) fn read(raw: &[u8]) -> Option<Media> {
    let message = codec::message_decode(raw).ok()?;
    let base = message.get_base_message();
    let mut media = of(base)?;
    media.is_view_once = message.is_view_once();
    Some(media)
}

/// What the five kinds have in common, by the same names.
macro_rules! common {
    ($message:expr, $kind:ident) => {{
        let message = $message;
        Media {
            kind: MediaKind::$kind,
            mimetype: text(message.mimetype.as_deref()),
            size: message.file_length,
            file_name: None,
            width: None,
            height: None,
            seconds: None,
            is_voice: false,
            is_view_once: false,
            source: source(
                message.direct_path.as_deref(),
                message.media_key.as_deref(),
                message.file_sha256.as_deref(),
                message.file_enc_sha256.as_deref(),
            ),
            at_meta: None,
        }
    }};
}

fn of(base: &wa::Message) -> Option<Media> {
    if let Some(image) = base.image_message.as_option() {
        let (width, height) = (image.width, image.height);
        return Some(Media { width, height, ..common!(image, Image) });
    }
    if let Some(video) = base.video_message.as_option() {
        let (width, height, seconds) = (video.width, video.height, video.seconds);
        return Some(Media { width, height, seconds, ..common!(video, Video) });
    }
    if let Some(audio) = base.audio_message.as_option() {
        let (seconds, is_voice) = (audio.seconds, audio.ptt.unwrap_or(false));
        return Some(Media { seconds, is_voice, ..common!(audio, Audio) });
    }
    if let Some(document) = base.document_message.as_option() {
        let named = document.file_name.as_deref().or(document.title.as_deref());
        return Some(Media { file_name: text(named), ..common!(document, Document) });
    }
    let sticker = base.sticker_message.as_option()?;
    let (width, height) = (sticker.width, sticker.height);
    Some(Media { width, height, ..common!(sticker, Sticker) })
}

fn text(text: Option<&str>) -> Option<String> {
    let text: String = text?.chars().take(LONGEST_NAME).collect();
    Some(clean(text)).filter(|text| !text.is_empty())
}

/// Where it is. None when something of what it takes to fetch and verify it is missing.
fn source(
    path: Option<&str>,
    key: Option<&[u8]>,
    sha256: Option<&[u8]>,
    encrypted_sha256: Option<&[u8]>,
) -> Option<Source> {
    let key = key.filter(|key| !key.is_empty());
    let encrypted_sha256 = encrypted_sha256.filter(|hash| hash.len() == 32);
    if key.is_some() && encrypted_sha256.is_none() {
        return None;
    }
    Some(Source {
        path: path.filter(|path| is_path(path))?.to_owned(),
        key: key.map(|key| Zeroizing::new(key.to_vec())),
        sha256: sha256?.try_into().ok()?,
        encrypted_sha256: encrypted_sha256.map(<[u8]>::to_vec),
    })
}

/// Whether this can be written behind the name of a host and is a path there: what comes first must end the
/// host's name, or the sender's own could follow.
pub(in crate::session) fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 2048
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#'))
}

/// The hosts that WhatsApp names at present; none when it does not answer.
pub(super) async fn hosts(client: &Client) -> Vec<String> {
    let asked = tokio::time::timeout(HOSTS_DEADLINE, client.refresh_media_conn(false)).await;
    match asked {
        Ok(Ok(route)) => route.hosts.into_iter().map(|host| host.hostname).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// Asks the phone to upload media again; answers the new path.
pub(super) async fn renew(client: &Client, renewal: &Renewal) -> Result<String, MediaError> {
    let failed = MediaError::Unavailable(Obstacle::PhoneSilent);
    let Ok(chat) = renewal.chat.parse::<Jid>() else { return Err(MediaError::Gone) };
    let sender: Option<Jid> = renewal.sender.parse().ok();
    let participant = sender.as_ref().filter(|_| renewal.chat.ends_with("@g.us"));
    let request = MediaReuploadRequest {
        msg_id: &renewal.wa_id,
        chat_jid: &chat,
        media_key: &renewal.key,
        is_from_me: renewal.is_from_me,
        participant,
    };
    let reupload = client.media_reupload();
    let Ok(asked) = tokio::time::timeout(RENEWAL_DEADLINE, reupload.request(&request)).await else {
        return Err(failed);
    };
    match asked {
        Ok(MediaRetryResult::Success { direct_path }) if is_path(&direct_path) => Ok(direct_path),
        // It has lost it, or cannot read what we want; asking again makes neither better.
        Ok(
            MediaRetryResult::Success { .. }
            | MediaRetryResult::NotFound
            | MediaRetryResult::DecryptionError,
        )
        | Err(MediaReuploadError::InvalidRequest(_)) => Err(MediaError::Gone),
        Ok(MediaRetryResult::GeneralError) | Err(_) => Err(failed),
    }
}

#[cfg(test)]
mod tests {
    use waproto::buffa::MessageField;

    use super::*;

    fn image() -> wa::message::ImageMessage {
        wa::message::ImageMessage {
            url: Some("https://evil.test/steal".to_owned()),
            static_url: Some("https://evil.test/static".to_owned()),
            mimetype: Some("image/jpeg".to_owned()),
            direct_path: Some("/v/t62.7118-24/1.enc?ccb=1&oh=2".to_owned()),
            media_key: Some(vec![7; 32]),
            file_sha256: Some(vec![1; 32]),
            file_enc_sha256: Some(vec![2; 32]),
            file_length: Some(5),
            width: Some(640),
            height: Some(480),
            ..Default::default()
        }
    }

    fn of_image(image: wa::message::ImageMessage) -> Media {
        let message =
            wa::Message { image_message: MessageField::some(image), ..Default::default() };
        read(&codec::message_to_vec(&message)).unwrap()
    }

    #[test]
    fn a_message_says_where_its_media_is_and_never_at_which_host() {
        let media = of_image(image());
        assert_eq!(
            (media.kind, media.width, media.height),
            (MediaKind::Image, Some(640), Some(480))
        );
        assert_eq!((media.size, media.is_view_once), (Some(5), false));
        let source = media.source.as_ref().unwrap();
        assert_eq!(source.path, "/v/t62.7118-24/1.enc?ccb=1&oh=2");
        assert!(!format!("{media:?}").contains("7, 7"), "the key stays out of logs");
        for path in [
            "@evil.test/x",
            ".evil.test/x",
            ":80@evil.test/",
            "https://evil.test/x",
            "",
            "x",
            "/a b",
            "/a\r\nHost: evil.test",
            "/\\evil.test",
            "/a#b",
            "/ä",
        ] {
            let media = of_image(wa::message::ImageMessage {
                direct_path: Some(path.to_owned()),
                ..image()
            });
            assert_eq!(media.source, None, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_verified_is_not_fetched() {
        let without = |change: fn(&mut wa::message::ImageMessage)| {
            let mut image = image();
            change(&mut image);
            of_image(image).source
        };
        assert!(without(|_| {}).is_some());
        assert!(without(|image| image.file_sha256 = None).is_none());
        assert!(without(|image| image.file_sha256 = Some(vec![1; 20])).is_none());
        assert!(without(|image| image.file_enc_sha256 = None).is_none());
        assert!(without(|image| image.direct_path = None).is_none());
        // Of a channel: in clear, and known by its hash.
        let channel = without(|image| (image.media_key, image.file_enc_sha256) = (None, None));
        assert!(channel.unwrap().key.is_none());
    }

    #[test]
    fn what_is_to_be_viewed_once_says_so_in_whatever_it_is_wrapped() {
        let flagged = of_image(wa::message::ImageMessage { view_once: Some(true), ..image() });
        assert!(flagged.is_view_once);
        let inner =
            wa::Message { image_message: MessageField::some(image()), ..Default::default() };
        let wrapped = wa::Message {
            view_once_message_v2: MessageField::some(wa::message::FutureProofMessage {
                message: MessageField::some(inner),
            }),
            ..Default::default()
        };
        assert!(read(&codec::message_to_vec(&wrapped)).unwrap().is_view_once);
    }

    #[test]
    fn a_text_has_no_media() {
        assert_eq!(
            read(&codec::message_to_vec(&wa::Message {
                conversation: Some("hello".to_owned()),
                ..Default::default()
            })),
            None
        );
        assert_eq!(read(b"\xff\xff"), None);
    }
}
