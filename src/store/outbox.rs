//! How much waits to be sent by linked devices, over all organizations: for whoever watches the daemon.

use entity::UnixMillis;
use sea_orm::{ConnectionTrait, Statement};

use super::{Error, messages::Messages};

/// Looks at what waits and at nothing else. The words stand in it as they are: a partial index is used for no other ones. In
/// SQLite a `CROSS JOIN` is done in the order in which it is written.
pub const OUTBOX: &str = "SELECT count(*), \
    MIN(CASE WHEN session.status = 'session_connected' THEN message.created_at END) \
    FROM message CROSS JOIN session \
    WHERE message.status IN ('queued', 'sending') \
    AND session.id = message.session_key AND session.origin = 'embedded'";

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Messages that WhatsApp does not have yet.
    pub waiting: i64,
    /// When the oldest of those was written whose session is connected: what waits for a connection says nothing of the outbox.
    pub oldest: Option<UnixMillis>,
}

impl Messages {
    /// What waits to be sent by linked devices, whoever runs them.
    pub async fn outbox(&self) -> Result<Outbox, Error> {
        let db = self.store.reader();
        let ask = Statement::from_string(db.get_database_backend(), OUTBOX);
        let Some(row) = db.query_one_raw(ask).await? else { return Ok(Outbox::default()) };
        let oldest = row.try_get_by_index::<Option<i64>>(1)?.map(UnixMillis);
        Ok(Outbox { waiting: row.try_get_by_index(0)?, oldest })
    }
}
