//! Pages of a list: where the last one ended, and how long the next may be.

use entity::UnixMillis;

/// The place of a row in a list ordered by time and then by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position<Id> {
    pub at: UnixMillis,
    pub id: Id,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<Id> {
    /// The last row already seen.
    pub after: Option<Position<Id>>,
    /// At most so many rows; all of them when there is no limit.
    pub limit: Option<u64>,
}

impl<Id> Page<Id> {
    /// The whole list.
    pub const fn all() -> Self {
        Self { after: None, limit: None }
    }
}
