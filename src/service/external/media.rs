//! What a client elsewhere says of the file that a message has. The file stays there: nothing is fetched, and what is
//! posted along with it is not kept. What cannot be read of it is left out: a message is worth more than the size of its
//! picture.

use entity::kind::MessageKind;

use super::members::{Faults, Members};
use crate::session::ToldMedia;

/// The longest name of a file, and the longest of its type.
const LONGEST_NAME: usize = 255;
const LONGEST_TYPE: usize = 128;

/// The largest file, pixels and seconds that can be meant.
const LARGEST: i64 = 1 << 40;
const MOST: i64 = 1 << 24;

/// What kind a message is in the light of its file, and what is kept of that. whatsapp-web.js has the file's particulars
/// in `_data`, and calls a downloaded file `media`; others write them beside the rest.
pub(super) fn read(message: &Members<'_>, kind: MessageKind) -> (MessageKind, Option<Vec<u8>>) {
    let says_so = message.flag("hasMedia").unwrap_or(false);
    if !says_so && !kind.has_media() {
        return (kind, None);
    }
    let aside = Faults::default();
    let message = message.aside(&aside);
    let within = ["media", "_data"].into_iter().filter_map(|name| message.object(name));
    let places: Vec<_> = within.chain([message.clone()]).collect();
    let text = |names: &[&str], longest: usize| {
        places.iter().find_map(|place| {
            let texts = names.iter().filter_map(|name| place.text(name, 1..=longest));
            texts.into_iter().find(|text| !text.chars().any(char::is_control))
        })
    };
    let number = |names: &[&str], most: i64| {
        places.iter().find_map(|place| names.iter().find_map(|name| place.number(name, 0..=most)))
    };
    let small = |names: &[&str]| number(names, MOST).and_then(|it| u32::try_from(it).ok());
    let flag = |name: &str| places.iter().find_map(|place| place.flag(name)).unwrap_or(false);
    let mimetype = text(&["mimetype"], LONGEST_TYPE);
    let kind = if kind.has_media() { kind } else { kind_of(kind, mimetype.as_deref()) };
    if !kind.has_media() {
        return (kind, None);
    }
    let told = ToldMedia {
        size: number(&["filesize", "size"], LARGEST).and_then(|it| u64::try_from(it).ok()),
        file_name: text(&["filename"], LONGEST_NAME),
        width: small(&["width"]),
        height: small(&["height"]),
        seconds: small(&["duration"]),
        is_voice: message.text("type", 0..=LONGEST_TYPE).as_deref() == Some("ptt"),
        is_view_once: flag("isViewOnce"),
        mimetype,
    };
    (kind, Some(told.to_raw()))
}

/// What a message is that has a file and is not called so.
fn kind_of(kind: MessageKind, mimetype: Option<&str>) -> MessageKind {
    if !matches!(kind, MessageKind::Text | MessageKind::Unsupported) {
        // Others have a file besides: a place has a picture.
        return kind;
    }
    match mimetype.and_then(|it| it.split('/').next()) {
        Some("image") => MessageKind::Image,
        Some("video") => MessageKind::Video,
        Some("audio") => MessageKind::Audio,
        _ => MessageKind::Document,
    }
}
