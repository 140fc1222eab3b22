//! What a value must be beyond what its type says: one line for the check, its error and the reference.

use super::Invalid;

/// Something that must be so of a part of the configuration.
pub(super) struct Rule<S> {
    /// The key that is blamed, with its section.
    pub(super) key: &'static str,
    /// What must be so: said in the error, and in `docs/configuration.md`. Repeats no value.
    pub(super) must: &'static str,
    /// Whether it is.
    pub(super) holds: fn(&S) -> bool,
}

/// A part of the configuration, with what must be so of it.
pub(super) trait Ruled: Sized + 'static {
    /// In the order in which they are looked at.
    const RULES: &'static [Rule<Self>];

    /// Finds the first that is not so.
    fn check(&self) -> Result<(), Invalid> {
        match Self::RULES.iter().find(|rule| !(rule.holds)(self)) {
            Some(Rule { key, must, .. }) => Err(Invalid::new(key, *must)),
            None => Ok(()),
        }
    }

    /// The keys, and what must be so of them.
    fn told() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::RULES.iter().map(|rule| (rule.key, rule.must))
    }
}
