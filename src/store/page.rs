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

    /// The same part and a row more, which says whether there is a next page.
    #[must_use]
    pub fn one_more(&self) -> Self
    where
        Id: Clone,
    {
        Self { after: self.after.clone(), limit: self.limit.map(|limit| limit.saturating_add(1)) }
    }

    /// Takes the row more off again: where the next page begins, if there is one.
    pub fn cut<T>(
        &self,
        rows: &mut Vec<T>,
        position: impl FnOnce(&T) -> Position<Id>,
    ) -> Option<Position<Id>> {
        let limit = usize::try_from(self.limit?).unwrap_or(usize::MAX);
        if rows.len() <= limit {
            return None;
        }
        rows.truncate(limit);
        rows.last().map(position)
    }
}
