//! Figures of one session, counted in its messages.

use entity::{
    UnixMillis,
    id::SessionKey,
    state::{Direction, MessageStatus},
};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement, Value};

use super::{Error, messages::Messages};

/// The most messages that are counted: a look must cost little, whoever looks.
const MOST: u64 = 20_000;

/// Messages of a session that are alike.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Alike {
    pub direction: Direction,
    pub status: MessageStatus,
    /// The level reached.
    pub ack: i16,
    /// Of the account's past, which its phone has handed over.
    pub history: bool,
    pub number: i64,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub alike: Vec<Alike>,
    /// Nothing was left out.
    pub is_whole: bool,
}

impl Messages {
    /// Counts the messages of a session since a time, without its account's past: the newest of them, if they are too many.
    pub async fn count_since(
        &self,
        session: &SessionKey,
        since: UnixMillis,
    ) -> Result<Counted, Error> {
        let db = self.store.reader();
        // The order's index finds the range; no other row is looked at.
        let count = format!(
            "SELECT direction, status, ack, history, count(*) AS number FROM (\
             SELECT direction, status, ack, history FROM message \
             WHERE session_key = $1 AND created_at >= $2 \
             ORDER BY created_at DESC, id DESC LIMIT {}) AS newest \
             GROUP BY direction, status, ack, history",
            MOST + 1
        );
        let values: [Value; 2] = [session.as_str().into(), since.0.into()];
        let count = Statement::from_sql_and_values(db.get_database_backend(), count, values);
        let rows = db.query_all_raw(count).await?;
        let alike = rows.iter().map(|row| Alike::from_query_result(row, ""));
        let mut alike: Vec<Alike> = alike.collect::<Result<_, DbErr>>()?;
        let number: i64 = alike.iter().map(|it| it.number).sum();
        let is_whole = u64::try_from(number).is_ok_and(|number| number <= MOST);
        alike.retain(|it| !it.history);
        Ok(Counted { alike, is_whole })
    }
}
