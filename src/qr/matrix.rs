//! The modules of a QR symbol, and how they become an image.

use std::fmt::Write;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use qrcode::{Color, EcLevel, QrCode};

use super::Error;

/// A symbol with its light frame. Row by row, `true` is dark.
#[derive(Debug)]
pub(super) struct Matrix {
    modules: Vec<bool>,
    width: usize,
}

impl Matrix {
    pub(super) fn of(code: &str, margin: u32) -> Result<Self, Error> {
        // The least redundancy makes the largest modules: screens have no scratches, and pairing
        // codes are long.
        let symbol =
            QrCode::with_error_correction_level(code, EcLevel::L).map_err(Error::Symbol)?;
        let margin = margin as usize;
        let inner = symbol.width();
        let width = inner + 2 * margin;
        let mut modules = vec![false; width * width];
        for (i, color) in symbol.to_colors().into_iter().enumerate() {
            let (x, y) = (i % inner + margin, i / inner + margin);
            modules[y * width + x] = color == Color::Dark;
        }
        Ok(Self { modules, width })
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        self.modules.get(y * self.width + x).copied().unwrap_or(false)
    }

    /// A grey image of `size` pixels, or more if the symbol needs them.
    ///
    /// All modules are equally large; what is left over widens the frame.
    pub(super) fn png(&self, size: u32) -> Result<Vec<u8>, Error> {
        let size = (size as usize).max(self.width);
        let scale = size / self.width;
        let offset = (size - scale * self.width) / 2;

        let mut pixels = vec![u8::MAX; size * size];
        for y in 0..self.width {
            let top = offset + y * scale;
            let line = &mut pixels[top * size..(top + 1) * size];
            for x in (0..self.width).filter(|x| self.is_dark(*x, y)) {
                let left = offset + x * scale;
                line[left..left + scale].fill(0);
            }
            for row in top + 1..top + scale {
                pixels.copy_within(top * size..(top + 1) * size, row * size);
            }
        }

        let mut png = Vec::new();
        // No symbol and no size allowed comes near the limit of 32 bits.
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        PngEncoder::new(&mut png)
            .write_image(&pixels, size, size, ExtendedColorType::L8)
            .map_err(Error::Image)?;
        Ok(png)
    }

    /// One path of horizontal runs.
    pub(super) fn svg(&self, size: u32) -> String {
        let width = self.width;
        let mut path = String::new();
        for y in 0..width {
            let mut x = 0;
            while x < width {
                let run = (x..width).take_while(|x| self.is_dark(*x, y)).count();
                if run > 0 {
                    write!(path, "M{x} {y}h{run}v1h-{run}z").expect("writing to a string");
                }
                x += run.max(1);
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" \
             viewBox=\"0 0 {width} {width}\" shape-rendering=\"crispEdges\">\
             <path fill=\"#fff\" d=\"M0 0h{width}v{width}H0z\"/>\
             <path fill=\"#000\" d=\"{path}\"/></svg>\n"
        )
    }

    /// Two rows of modules to a line; light modules are drawn, because terminals are dark.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(self.width * self.width * 2);
        for y in (0..self.width).step_by(2) {
            for x in 0..self.width {
                // Below the last row of an odd symbol there is nothing to draw.
                let lower_is_dark = y + 1 >= self.width || self.is_dark(x, y + 1);
                text.push(match (self.is_dark(x, y), lower_is_dark) {
                    (true, true) => ' ',
                    (true, false) => '▄',
                    (false, true) => '▀',
                    (false, false) => '█',
                });
            }
            text.push('\n');
        }
        text
    }
}
