//! What waits to be sent when its session hands over to one that runs elsewhere. Nobody here can send it: it has failed,
//! and that is told like any other failure.
//!
//! It is done after the handover, by whoever brought it about, and by every sweep, should he have died before.

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    message, session,
    state::{Direction, Origin},
};
use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use super::Handovers;
use crate::{
    event::{Ack, AckLevel, Event, NewMessage},
    store::{
        Error,
        events::{NewEvent, Recorded},
        writer::Patience,
    },
};

/// The word for a message whose session has handed over to one that runs elsewhere.
pub const HANDED_OVER: &str = "handed_over";

/// Messages that are looked at together.
const MOST: u64 = 200;

impl Handovers {
    /// Writes down that what waits to be sent has failed, in sessions that have handed over to `heir`, or to any other,
    /// if that runs elsewhere. Says how many messages.
    pub async fn give_up(&self, heir: Option<&SessionKey>) -> Result<u64, Error> {
        let (mut given_up, mut after) = (0, None);
        loop {
            let waiting = self.stranded(heir, after.as_ref()).await?;
            let is_all = (waiting.len() as u64) < MOST;
            // What cannot be failed is not looked at for ever, and does not keep from those behind it.
            after = waiting.last().map(|row| (row.created_at, row.id.clone()));
            for row in waiting {
                let id = row.id.clone();
                match self.fail(row).await {
                    Ok(is_news) => given_up += u64::from(is_news),
                    // It is this one's, and may pass; the next sweep tries again.
                    Err(Error::Database(err)) => tracing::error!(
                        error = &err as &dyn std::error::Error,
                        message = id.as_str(),
                        "A message that nobody can send any more could not be failed"
                    ),
                    Err(err) => return Err(err),
                }
            }
            if is_all {
                return Ok(given_up);
            }
        }
    }

    /// Some of them, the oldest first; `after` is the last that was seen.
    async fn stranded(
        &self,
        heir: Option<&SessionKey>,
        after: Option<&(UnixMillis, MessageId)>,
    ) -> Result<Vec<message::Model>, Error> {
        let mut query = message::Entity::find()
            .filter(message::COLUMN.session_key.in_subquery(handed_over_elsewhere(heir)))
            .filter(message::COLUMN.direction.eq(Direction::Outbound))
            // As the index has it, to the letter: SQLite finds it by that.
            .filter(Expr::cust("status IN ('queued', 'sending')"));
        if let Some((at, id)) = after {
            let same_time = message::COLUMN.created_at.eq(*at);
            let behind = same_time.and(message::COLUMN.id.gt(id.clone()));
            query = query.filter(message::COLUMN.created_at.gt(*at).or(behind));
        }
        let rows = query
            .order_by_asc(message::COLUMN.created_at)
            .order_by_asc(message::COLUMN.id)
            .limit(MOST)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// Whether that was news.
    async fn fail(&self, row: message::Model) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let (organization_id, session_key) = (row.organization_id.clone(), row.session_key.clone());
        let failed = Ack {
            wa_id: row.wa_id.clone(),
            by: row.chat.clone(),
            chat: row.chat.clone(),
            level: AckLevel::Error,
            error: Some(HANDED_OVER.to_owned()),
            at: now,
        };
        // Whoever hears that it has failed has heard of it.
        let sent = Event::Message(Box::new(NewMessage::sent_here(row)));
        let new = |event| NewEvent {
            organization_id: organization_id.clone(),
            session_key: session_key.clone(),
            generation: None,
            event,
            at: now,
            care: None,
            posted: None,
        };
        let writer = self.store.writer();
        writer.record(new(sent), Patience::Fail).await?;
        let recorded = writer.record(new(Event::Ack(failed)), Patience::Fail).await?;
        Ok(matches!(recorded, Recorded::New { .. }))
    }
}

/// Sessions that have handed over to `heir`, or to any other, if that runs elsewhere.
fn handed_over_elsewhere(heir: Option<&SessionKey>) -> SelectStatement {
    let heirs = Alias::new("heir");
    let mut sessions = Query::select();
    sessions
        .column((session::Entity, session::Column::Id))
        .from(session::Entity)
        .join_as(
            sea_orm::JoinType::InnerJoin,
            session::Entity,
            heirs.clone(),
            Expr::col((session::Entity, session::Column::MigratedTo))
                .equals((heirs.clone(), session::Column::Id)),
        )
        .and_where(Expr::col((heirs.clone(), session::Column::Origin)).eq(Origin::External));
    if let Some(heir) = heir {
        sessions.and_where(Expr::col((heirs, session::Column::Id)).eq(heir.clone()));
    }
    sessions
}
