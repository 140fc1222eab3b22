//! Which events an endpoint wants to be told of.

use super::EventType;

/// The most patterns, sessions or phone numbers of one endpoint.
pub const MOST: usize = 100;

/// What an endpoint wants. Matching it costs no query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Types, sorted; all that its patterns stand for.
    types: Vec<EventType>,
    /// Session ids; empty for all.
    sessions: Vec<String>,
    /// Digits only; empty for all.
    phone_numbers: Vec<String>,
}

impl Filter {
    /// A filter from what its endpoint's row holds. A pattern that stands for nothing adds nothing.
    pub fn new(patterns: &[String], sessions: Vec<String>, phone_numbers: Vec<String>) -> Self {
        let mut types: Vec<_> =
            patterns.iter().flat_map(|pattern| types_of(pattern).unwrap_or_default()).collect();
        types.sort_unstable();
        types.dedup();
        Self { types, sessions, phone_numbers }
    }

    /// Whether it wants an event of this type, of this session. Events about no session have none of
    /// their marks, and so pass only where none is asked for.
    pub fn wants(
        &self,
        kind: EventType,
        session: Option<&str>,
        phone_number: Option<&str>,
    ) -> bool {
        let among = |list: &[String], mark: Option<&str>| {
            list.is_empty() || mark.is_some_and(|mark| list.iter().any(|it| it == mark))
        };
        self.types.binary_search(&kind).is_ok()
            && among(&self.sessions, session)
            && among(&self.phone_numbers, phone_number)
    }

    /// All types that it may be told of.
    pub fn types(&self) -> &[EventType] {
        &self.types
    }
}

/// What a pattern stands for: `*`, `message.*`, `message.received`, or the word of a stream. None when it
/// stands for nothing.
pub fn types_of(pattern: &str) -> Option<Vec<EventType>> {
    let types: Vec<EventType> = match pattern.strip_suffix('*') {
        Some("") => EventType::ALL.to_vec(),
        Some(prefix) if prefix.ends_with('.') => {
            EventType::ALL.iter().copied().filter(|it| it.name().starts_with(prefix)).collect()
        }
        Some(_) => Vec::new(),
        None => match EventType::of_name(pattern) {
            Some(kind) => vec![kind],
            None => EventType::of_stream_word(pattern).to_vec(),
        },
    };
    (!types.is_empty()).then_some(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> Filter {
        let patterns: Vec<_> = patterns.iter().map(|&it| it.to_owned()).collect();
        Filter::new(&patterns, Vec::new(), Vec::new())
    }

    #[test]
    fn patterns_stand_for_types() {
        assert_eq!(filter(&["*"]).types().len(), EventType::ALL.len());
        assert_eq!(
            filter(&["message.*"]).types(),
            [
                EventType::MessageReceived,
                EventType::MessageCreated,
                EventType::MessageSent,
                EventType::MessageAck
            ]
        );
        assert_eq!(filter(&["message_ack"]).types().len(), 2);
        assert_eq!(filter(&["session.ready", "ready"]).types(), [EventType::SessionReady]);
        for nothing in ["", "message", "mess*", "nothing.*", "Session.ready", "**", ".*"] {
            assert_eq!(types_of(nothing).is_some(), nothing == "message", "{nothing}");
        }
    }

    #[test]
    fn sessions_and_numbers_narrow_it_down() {
        let filter =
            Filter::new(&["*".to_owned()], vec!["shop".to_owned()], vec!["4911".to_owned()]);
        assert!(filter.wants(EventType::Call, Some("shop"), Some("4911")));
        assert!(!filter.wants(EventType::Call, Some("other"), Some("4911")));
        assert!(!filter.wants(EventType::Call, Some("shop"), None));
        assert!(!filter.wants(EventType::EndpointFailing, None, None));
    }
}
