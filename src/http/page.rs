//! Cursors: a place in a list, as a word that callers hand back.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::UnixMillis;

use crate::service::page::Position;

/// The word for a place.
pub(crate) fn cursor<Id: Display>(position: &Position<Id>) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", position.at.0, position.id))
}

/// The place that a word stands for.
pub(crate) fn position<Id: FromStr>(cursor: &str) -> Result<Position<Id>, NotACursor> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| NotACursor)?;
    let text = String::from_utf8(bytes).map_err(|_| NotACursor)?;
    let (at, id) = text.split_once('.').ok_or(NotACursor)?;
    Ok(Position {
        at: UnixMillis(at.parse().map_err(|_| NotACursor)?),
        id: id.parse().map_err(|_| NotACursor)?,
    })
}

/// The word stands for no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor as a list gave it")]
pub(crate) struct NotACursor;

#[cfg(test)]
mod tests {
    use entity::id::SessionKey;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(at in any::<i64>(), random in any::<u128>()) {
            let id = SessionKey::new(UnixMillis(1_737_367_200_000), random);
            let place = Position { at: UnixMillis(at), id };
            prop_assert_eq!(position(&cursor(&place)), Ok(place));
        }

        #[test]
        fn no_word_is_too_strange(word in any::<String>()) {
            prop_assert_eq!(position::<SessionKey>(&word), Err(NotACursor));
        }
    }
}
