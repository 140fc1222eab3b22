//! What a body names, before anybody knows whose it is: so that the secrets to try are few.

use std::collections::BTreeSet;

use super::Envelope;

/// The most ids of a kind that are looked for. Meta puts at most a thousand changes into a body.
const MOST: usize = 1000;

/// The most of a broken body, where everything that looks like an id is one.
const MOST_OF_BROKEN: usize = 64;

/// The longest id that is looked for.
const LONGEST: usize = 64;

/// Ids that a body names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of phone numbers.
    pub numbers: BTreeSet<String>,
    /// Of business accounts.
    pub wabas: BTreeSet<String>,
}

impl Names {
    /// What an envelope names.
    pub fn of(envelope: &Envelope<'_>) -> Self {
        let mut names = Self::default();
        for (_, entry, change) in envelope.changes() {
            add(&mut names.numbers, change.number.as_deref(), MOST);
            add(&mut names.wabas, entry.waba(change), MOST);
        }
        names
    }

    /// What a body that cannot be read seems to name.
    pub fn of_broken(body: &[u8]) -> Self {
        let mut names = Self::default();
        look_for(b"\"phone_number_id\"", body, &mut names.numbers);
        look_for(b"\"id\"", body, &mut names.wabas);
        look_for(b"\"waba_id\"", body, &mut names.wabas);
        names
    }
}

fn add(ids: &mut BTreeSet<String>, id: Option<&str>, most: usize) {
    let fits = |id: &&str| id.len() <= LONGEST && id.bytes().all(|it| it.is_ascii_graphic());
    if let Some(id) = id.filter(fits)
        && ids.len() < most
    {
        ids.insert(id.to_owned());
    }
}

/// Adds what stands behind each `key`.
fn look_for(key: &[u8], body: &[u8], ids: &mut BTreeSet<String>) {
    let mut rest = body;
    while ids.len() < MOST_OF_BROKEN
        && let Some(at) = rest.windows(key.len()).position(|it| it == key)
    {
        rest = &rest[at + key.len()..];
        add(ids, value_at(rest), MOST_OF_BROKEN);
    }
}

/// The digits that stand behind a colon, in quotes or not.
fn value_at(rest: &[u8]) -> Option<&str> {
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let length = rest.iter().take(LONGEST + 1).take_while(|it| it.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..length]).ok().filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = br#"{"entry":[{"id":"12","changes":[
        {"field":"messages","value":{"metadata":{"phone_number_id":"34"}}},
        {"field":"account_update","value":{"waba_info":{"waba_id":56}}}]}]}"#;

    #[test]
    fn a_broken_body_names_what_the_whole_one_did() {
        let whole = Names::of(&Envelope::read(BODY).unwrap());
        assert_eq!(whole.numbers, BTreeSet::from(["34".to_owned()]));
        assert_eq!(whole.wabas, BTreeSet::from(["12".to_owned(), "56".to_owned()]));
        let broken = &BODY[..BODY.len() - 3];
        assert!(Envelope::read(broken).is_none());
        assert_eq!(Names::of_broken(broken), whole);
    }

    #[test]
    fn a_body_can_name_so_many_and_no_more() {
        let many: Vec<_> = (0..5000).map(|n| format!("\"id\":\"{n}\"")).collect();
        let many = many.concat();
        assert_eq!(Names::of_broken(many.as_bytes()).wabas.len(), MOST_OF_BROKEN);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(body in "(\"id\"|\"phone_number_id\"|:|[0-9]|\"| |\u{80}){0,60}") {
            Names::of_broken(body.as_bytes());
        }
    }
}
