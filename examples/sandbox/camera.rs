//! Reading a QR code off an image, as a phone's camera does.

use crate::failure::Failure;

/// The text of the one code on a PNG image.
pub(crate) fn read(png: &[u8]) -> Result<String, Failure> {
    let image = image::load_from_memory_with_format(png, image::ImageFormat::Png)
        .map_err(|error| Failure::wrong(format!("the QR image cannot be opened: {error}")))?
        .to_luma8();
    let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(
        image.width() as usize,
        image.height() as usize,
        |x, y| match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) => image.get_pixel(x, y).0[0],
            _ => u8::MAX,
        },
    );
    let codes = prepared.detect_grids();
    let [code] = codes.as_slice() else {
        return Err(Failure::wrong(format!("{} QR codes on the image, not one", codes.len())));
    };
    let (_, text) = code
        .decode()
        .map_err(|error| Failure::wrong(format!("the QR code cannot be read: {error}")))?;
    Ok(text)
}
