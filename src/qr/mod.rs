//! Pairing codes as images: the one place where they are rendered.
//!
//! A code holds a secret of the pairing: nothing here logs one, and the cache knows codes by their
//! hash only.

mod cache;
mod matrix;

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use self::{cache::Cache, matrix::Matrix};

/// How a code is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Png,
    Svg,
    /// Half blocks, for a terminal with a dark background.
    Text,
    /// The PNG, as a URL that an `<img>` takes.
    DataUrl,
}

/// Size and margin of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Width and height in pixels. An image is never too small for its modules: at least one pixel
    /// each.
    pub size: u32,
    /// Width of the light frame, in modules. Scanners want four.
    pub margin: u32,
}

impl Layout {
    /// Sizes that callers may ask for.
    pub const SIZES: std::ops::RangeInclusive<u32> = 128..=2048;
    /// Margins that callers may ask for.
    pub const MARGINS: std::ops::RangeInclusive<u32> = 0..=16;
}

impl Default for Layout {
    fn default() -> Self {
        Self { size: 360, margin: 4 }
    }
}

/// Why a code could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the code does not fit into a QR symbol")]
    Symbol(#[source] qrcode::types::QrError),

    #[error("the image could not be encoded")]
    Image(#[source] image::ImageError),

    /// The runtime is shutting down, or rendering panicked.
    #[error("rendering was cut short")]
    CutShort,
}

/// What an image is of, and how: equal keys are equal images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// SHA-256 of the code.
    code: [u8; 32],
    format: Format,
    layout: Layout,
}

impl Key {
    fn new(code: &str, format: Format, layout: Layout) -> Self {
        Self { code: Sha256::digest(code.as_bytes()).into(), format, layout }
    }
}

/// Renders codes, each but once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Renderer {
    cache: Arc<Cache>,
}

impl Default for Renderer {
    fn default() -> Self {
        Self { cache: Arc::new(Cache::new(CACHED_IMAGES, CACHED_BYTES)) }
    }
}

/// As many codes as are likely to be looked at in one minute, each in a few formats.
const CACHED_IMAGES: usize = 512;

/// A default PNG has 2 kB; this bounds what large ones may take.
const CACHED_BYTES: usize = 8 << 20;

/// How long a code lives at most. An image unused for so long is of no use any more.
const CACHED_FOR: Duration = Duration::from_mins(3);

impl Renderer {
    /// The strong entity tag of an image, without rendering it. It does not give the code away.
    pub fn etag(code: &str, format: Format, layout: Layout) -> String {
        let key = Key::new(code, format, layout);
        let mut hash = Sha256::new();
        hash.update(key.code);
        hash.update([format as u8]);
        hash.update(layout.size.to_be_bytes());
        hash.update(layout.margin.to_be_bytes());
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.finalize()[..16]))
    }

    /// Renders a code.
    ///
    /// The work is done on a blocking thread: a large image takes longer than the runtime's
    /// threads may be held.
    pub async fn render(&self, code: &str, format: Format, layout: Layout) -> Result<Bytes, Error> {
        let key = Key::new(code, format, layout);
        if let Some(image) = self.cache.get(&key) {
            return Ok(image);
        }
        let code = code.to_owned();
        let image = tokio::task::spawn_blocking(move || draw(&code, format, layout))
            .await
            // A panic may quote what was to be drawn; its hook has said where it was.
            .map_err(|_| Error::CutShort)??;
        self.cache.put(key, image.clone());
        Ok(image)
    }
}

fn draw(code: &str, format: Format, layout: Layout) -> Result<Bytes, Error> {
    let matrix = Matrix::of(code, layout.margin)?;
    Ok(match format {
        Format::Png => matrix.png(layout.size)?.into(),
        Format::Svg => matrix.svg(layout.size).into(),
        Format::Text => matrix.text().into(),
        Format::DataUrl => {
            let png = STANDARD.encode(matrix.png(layout.size)?);
            format!("data:image/png;base64,{png}").into()
        }
    })
}

#[cfg(test)]
mod tests;
