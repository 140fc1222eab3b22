//! How media is shown: under which type, as part of a page or to be stored, and under what name.
//!
//! What a message says of its media is its sender's to write. A browser is told of it only what is in a list
//! of our own; whatever could run in a page is a file to be stored, of no type.

use entity::id::MessageId;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::service::media::{Description, MediaKind};

/// What is not one of these.
const BYTES: &str = "application/octet-stream";

/// Every type that media is answered in.
pub(in crate::http::api) const TYPES: [&str; 30] = [
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/gif",
    "image/avif",
    "image/heic",
    "image/bmp",
    "video/mp4",
    "video/3gpp",
    "video/quicktime",
    "video/webm",
    "audio/ogg",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/amr",
    "audio/wav",
    "audio/webm",
    "application/pdf",
    "application/zip",
    "application/msword",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.oasis.opendocument.text",
    "text/plain",
    "text/csv",
    BYTES,
];

/// Longest name of a file, in characters.
const LONGEST_NAME: usize = 150;

/// What a value of `filename*` may have unescaped (RFC 8187).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// How media is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) content_type: &'static str,
    /// The value of `Content-Disposition`.
    pub(super) disposition: String,
}

impl Shape {
    pub(super) fn of(media: &Description, message: &MessageId) -> Self {
        let content_type = content_type(media);
        let place = if is_inline(media.kind, content_type) { "inline" } else { "attachment" };
        let named = media.file_name.as_deref().map(safe_name).filter(|name| !name.is_empty());
        let name = named.unwrap_or_else(|| format!("{message}.{}", extension(content_type)));
        Self { content_type, disposition: format!("{place}; {}", named_as(&name)) }
    }
}

fn content_type(media: &Description) -> &'static str {
    let said = media.mimetype.as_deref().unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let usual = match said.as_str() {
        "image/jpg" => "image/jpeg",
        "audio/mp3" => "audio/mpeg",
        "audio/m4a" | "audio/x-m4a" => "audio/mp4",
        "audio/x-wav" => "audio/wav",
        "video/3gp" => "video/3gpp",
        said => said,
    };
    TYPES.into_iter().find(|known| *known == usual).unwrap_or(BYTES)
}

/// Whether a page may show it. A document is stored, whatever it is.
fn is_inline(kind: MediaKind, content_type: &str) -> bool {
    content_type.starts_with(match kind {
        MediaKind::Image | MediaKind::Sticker => "image/",
        MediaKind::Video => "video/",
        MediaKind::Audio => "audio/",
        MediaKind::Document => return false,
    })
}

/// The end of a name for this type.
fn extension(content_type: &str) -> &str {
    match content_type {
        "image/jpeg" => "jpg",
        "video/3gpp" => "3gp",
        "video/quicktime" => "mov",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        "text/plain" => "txt",
        "application/msword" => "doc",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.ms-powerpoint" => "ppt",
        "application/vnd.oasis.opendocument.text" => "odt",
        other if other.ends_with("wordprocessingml.document") => "docx",
        other if other.ends_with("spreadsheetml.sheet") => "xlsx",
        other if other.ends_with("presentationml.presentation") => "pptx",
        BYTES => "bin",
        other => other.rsplit('/').next().unwrap_or("bin"),
    }
}

/// A name of one file: no folders, nothing that cannot be seen or that turns the writing around.
fn safe_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_plain = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
    };
    let name: String = name.chars().filter(is_plain).collect();
    let name = name.trim_matches([' ', '.']);
    let length = name.chars().count();
    if length <= LONGEST_NAME {
        return name.to_owned();
    }
    // Its end says what it is.
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    let end = if end.len() <= 10 { end } else { "" };
    let kept: String = name.chars().take(LONGEST_NAME - end.len() - 1).collect();
    if end.is_empty() { kept } else { format!("{kept}.{end}") }
}

/// The name as RFC 6266 has it: for all, and, where that is less than the name, for those that can read more.
fn named_as(name: &str) -> String {
    let ascii: String = name
        .chars()
        .map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    if ascii == name {
        return format!("filename=\"{ascii}\"");
    }
    format!("filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ESCAPED))
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;

    fn shape(kind: MediaKind, mimetype: Option<&str>, file_name: Option<&str>) -> Shape {
        let mut media = Description::of_kind(kind);
        media.mimetype = mimetype.map(str::to_owned);
        media.file_name = file_name.map(str::to_owned);
        Shape::of(&media, &MessageId::new(UnixMillis(1), 1))
    }

    #[test]
    fn a_page_shows_images_and_sounds_and_nothing_that_could_run() {
        use MediaKind::{Audio, Document, Image, Sticker, Video};

        for (kind, said, shown, place) in [
            (Image, Some("image/jpeg"), "image/jpeg", "inline"),
            (Image, Some("IMAGE/JPG"), "image/jpeg", "inline"),
            (Sticker, Some("image/webp"), "image/webp", "inline"),
            (Video, Some("video/mp4"), "video/mp4", "inline"),
            (Audio, Some("audio/ogg; codecs=opus"), "audio/ogg", "inline"),
            (Image, Some("text/html"), BYTES, "attachment"),
            (Image, Some("image/svg+xml"), BYTES, "attachment"),
            (Image, Some("application/pdf"), "application/pdf", "attachment"),
            (Image, Some("image/png\r\nx-evil: 1"), BYTES, "attachment"),
            (Image, None, BYTES, "attachment"),
            (Video, Some("image/png"), "image/png", "attachment"),
            (Document, Some("image/png"), "image/png", "attachment"),
            (Document, Some("text/html"), BYTES, "attachment"),
            (Document, Some("application/xhtml+xml"), BYTES, "attachment"),
            (Document, Some("text/javascript"), BYTES, "attachment"),
            (Document, Some("application/pdf"), "application/pdf", "attachment"),
        ] {
            let shape = shape(kind, said, None);
            assert_eq!(shape.content_type, shown, "{said:?}");
            assert!(shape.disposition.starts_with(place), "{said:?}: {}", shape.disposition);
        }
    }

    #[test]
    fn a_name_is_one_file_s_and_says_the_same_to_everybody() {
        let named = |name| shape(MediaKind::Document, None, Some(name)).disposition;
        assert_eq!(named("invoice 7.pdf"), "attachment; filename=\"invoice 7.pdf\"");
        assert_eq!(named("../../etc/passwd"), "attachment; filename=\"passwd\"");
        assert_eq!(named("C:\\x\\a.txt"), "attachment; filename=\"a.txt\"");
        assert_eq!(
            named("Größe \"1\"\r\n.pdf"),
            "attachment; filename=\"Gr__e _1_.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22.pdf"
        );
        assert_eq!(named("a\u{202e}fdp.exe"), "attachment; filename=\"afdp.exe\"");
        let unnamed = "attachment; filename=\"msg_";
        for none in ["", "...", "\u{200f}", "a/"] {
            assert!(named(none).starts_with(unnamed), "{none}: {}", named(none));
        }
        let long = named(&format!("{}.pdf", "a".repeat(300)));
        assert!(long.ends_with("aaa.pdf\"") && long.len() < 200, "{long}");
    }
}
