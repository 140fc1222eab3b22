//! Which of several formats a caller prefers.

use axum::http::{HeaderMap, header};

/// The format that `Accept` prefers, the first offered among equals; none if none is wanted.
pub(crate) fn preferred<T: Copy>(headers: &HeaderMap, offers: &[(&str, T)]) -> Option<T> {
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        // What cannot be read asks for nothing in particular.
        ranges.extend(value.to_str().unwrap_or("*/*").split(',').filter_map(Range::parse));
    }
    if ranges.is_empty() {
        return offers.first().map(|(_, offer)| *offer);
    }
    let mut best: Option<(T, u16)> = None;
    for (media, offer) in offers {
        let quality = ranges
            .iter()
            .filter_map(|range| Some((range.matches(media)?, range.quality)))
            .max_by_key(|(precision, _)| *precision)
            .map_or(0, |(_, quality)| quality);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((*offer, quality));
        }
    }
    best.map(|(offer, _)| offer)
}

/// One entry of `Accept`.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(entry: &'a str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1000, thousandths);
        Some(Self { kind, subtype, quality })
    }

    /// How precisely the range names `media`, if it does.
    fn matches(&self, media: &str) -> Option<u8> {
        let (kind, subtype) = media.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, other)
                if own.eq_ignore_ascii_case(kind) && other.eq_ignore_ascii_case(subtype) =>
            {
                Some(2)
            }
            _ => None,
        }
    }
}

/// `0.25` is 250. What is no quality is full quality.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<3}");
    match (whole, fraction.get(..3).and_then(|fraction| fraction.parse::<u16>().ok())) {
        ("0", Some(fraction)) => fraction,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const OFFERS: [(&str, char); 3] =
        [("image/png", 'p'), ("image/svg+xml", 's'), ("application/json", 'j')];

    fn prefer(accept: &'static str) -> Option<char> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        preferred(&headers, &OFFERS)
    }

    #[test]
    fn the_caller_chooses() {
        assert_eq!(preferred(&HeaderMap::new(), &OFFERS), Some('p'));
        assert_eq!(prefer("*/*"), Some('p'));
        assert_eq!(prefer("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8"), Some('p'));
        assert_eq!(prefer("image/svg+xml,image/*;q=0.8"), Some('s'));
        assert_eq!(prefer("application/json, text/plain, */*;q=0.5"), Some('j'));
        assert_eq!(prefer("image/*;q=0.1,image/png;q=0"), Some('s'));
        assert_eq!(prefer("Application/JSON"), Some('j'));
        assert_eq!(prefer("text/html"), None);
        assert_eq!(prefer("*/*;q=0"), None);
        assert_eq!(prefer("nonsense"), Some('p'));
    }
}
