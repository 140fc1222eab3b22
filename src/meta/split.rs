//! A body that is several organizations': to each its own changes, as they were written.

use super::{Envelope, envelope::Members};

/// A body of these changes alone, each named by its entry and its place in it.
pub fn part(envelope: &Envelope<'_>, mine: impl Fn((usize, usize)) -> bool) -> Vec<u8> {
    let mut entries = Vec::new();
    for (e, entry) in envelope.entries.iter().enumerate() {
        let changes = entry.changes.iter().enumerate().filter(|(c, _)| mine((e, *c)));
        let changes: Vec<_> = changes.map(|(_, change)| change.raw.get()).collect();
        if changes.is_empty() {
            continue;
        }
        let mut written = written(&entry.members);
        written.push(format!("\"changes\":[{}]", changes.join(",")));
        entries.push(format!("{{{}}}", written.join(",")));
    }
    let object = envelope.object.map(|it| format!("\"object\":{},", it.get())).unwrap_or_default();
    format!("{{{object}\"entry\":[{}]}}", entries.join(",")).into_bytes()
}

fn written(members: &Members<'_>) -> Vec<String> {
    let name = |name: &String| serde_json::Value::from(name.as_str()).to_string();
    members.iter().map(|(key, value)| format!("{}:{}", name(key), value.get())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_own_changes_as_they_were_written_and_no_others() {
        let body = br#"{"object":"o","entry":[
            {"id":"1","time":5,"changes":[{"field":"a","value":{"t":"\u00e4\ud800"}},{"field":"b","value":1}]},
            {"id":"2","changes":[{"field":"c","value":[ 1 ]}]}]}"#;
        let whole = Envelope::read(body).unwrap();
        let of = |mine: &[(usize, usize)]| {
            String::from_utf8(part(&whole, |it| mine.contains(&it))).unwrap()
        };
        assert_eq!(
            of(&[(0, 0)]),
            r#"{"object":"o","entry":[{"id":"1","time":5,"changes":[{"field":"a","value":{"t":"\u00e4\ud800"}}]}]}"#
        );
        assert_eq!(
            of(&[(1, 0)]),
            r#"{"object":"o","entry":[{"id":"2","changes":[{"field":"c","value":[ 1 ]}]}]}"#
        );
        let read = Envelope::read(of(&[(0, 1), (1, 0)]).as_bytes()).map(|it| it.changes().count());
        assert_eq!(read, Some(2));
    }
}
