//! Whose page has sent what could not be read.
//!
//! What is no request has no headers, and a browser lets a page read an answer only where the page's origin stands in it.
//! So what a connection brings is looked through, line by line, for an `origin` that the operator has named; it counts for
//! what comes after it on that connection, too, as a browser asks first whether it may. Where a line stands does not matter:
//! whoever has one in a body is told that a page may read this answer which may read all others.

use axum::http::{HeaderValue, header};

use super::cors::Origins;

/// The longest line that is looked at.
const LONGEST: usize = 300;

/// What of a connection says whose page it is.
#[derive(Debug)]
pub(super) struct Asker {
    origins: Origins,
    /// What was read of a line that is not over, up to one byte more than is looked at.
    line: Vec<u8>,
    allowed: Option<HeaderValue>,
}

impl Asker {
    pub(super) fn new(origins: &Origins) -> Self {
        Self { origins: origins.clone(), line: Vec::new(), allowed: origins.allowed(None) }
    }

    /// What may be read by whose page, as far as is known: see [`Origins::allowed`].
    pub(super) fn allowed(&self) -> Option<HeaderValue> {
        self.allowed.clone()
    }

    /// Looks at what was read, the next of it at each call.
    pub(super) fn hears(&mut self, read: &[u8]) {
        if !matches!(self.origins, Origins::Named(_)) {
            return;
        }
        for part in read.split_inclusive(|it| *it == b'\n') {
            let room = (LONGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.look();
                self.line.clear();
            }
        }
    }

    fn look(&mut self) {
        let colon = self.line.iter().position(|it| *it == b':');
        let Some((name, value)) = colon.and_then(|colon| self.line.split_at_checked(colon)) else {
            return;
        };
        if self.line.len() > LONGEST
            || !name.eq_ignore_ascii_case(header::ORIGIN.as_str().as_bytes())
        {
            return;
        }
        let origin = HeaderValue::from_bytes(value[1..].trim_ascii()).ok();
        self.allowed = self.origins.allowed(origin.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn named() -> Asker {
        Asker::new(&Origins::Named(vec![HeaderValue::from_static(APP)]))
    }

    #[test]
    fn an_origin_that_is_named_is_known_however_its_line_comes() {
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nOrigin:  {APP}\r\nx: y");
        for size in [1, 2, 7, head.len()] {
            let mut asker = named();
            for part in head.as_bytes().chunks(size) {
                asker.hears(part);
            }
            assert_eq!(asker.allowed().unwrap(), APP, "{size} bytes at a time");
        }
    }

    #[test]
    fn what_is_no_line_of_an_origin_that_is_named_is_none() {
        let long = format!("{}\norigin: {APP}{}\n", "a".repeat(1000), "b".repeat(1000));
        for read in [
            format!("GET / HTTP/1.1\r\norigin: {APP}"),
            "origin: https://evil.example.com\r\n".to_owned(),
            format!("origin: {APP}.evil.example.com\r\n"),
            format!("x-origin: {APP}\r\n"),
            format!("origin {APP}\r\n"),
            "origin\r\n:\r\n\r\n\n".to_owned(),
            long,
        ] {
            let mut asker = named();
            asker.hears(read.as_bytes());
            assert_eq!(asker.allowed(), None, "{read}");
            assert!(asker.line.len() <= LONGEST + 1);
        }
    }

    #[test]
    fn the_latest_counts_and_nothing_is_looked_at_where_nobody_is_named() {
        let mut asker = named();
        asker.hears(format!("origin: {APP}\r\n\r\nnonsense\r\n").as_bytes());
        assert!(asker.allowed().is_some());
        asker.hears(b"origin: https://evil.example.com\r\n");
        assert_eq!(asker.allowed(), None);
        for (origins, allowed) in [(Origins::None, None), (Origins::Any, Some("*"))] {
            let mut asker = Asker::new(&origins);
            asker.hears(format!("origin: {APP}\r\n").as_bytes());
            assert_eq!(asker.allowed(), allowed.map(HeaderValue::from_static));
            assert!(asker.line.is_empty());
        }
    }
}
