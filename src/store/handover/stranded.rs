//! What waits to be sent when its session hands over to one that runs elsewhere. Nobody here can send it: it has failed,
//! and that is told like any other failure.
//!
//! It is done after the handover, by whoever brought it about, and by every sweep, should he have died before.

use entity::{
    id::SessionKey,
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
        let mut given_up = 0;
        loop {
            let waiting = self.stranded(heir).await?;
            let is_all = (waiting.len() as u64) < MOST;
            let mut moved = 0;
            for row in waiting {
                moved += u64::from(self.fail(row).await?);
            }
            given_up += moved;
            // What cannot be failed is not looked at for ever.
            if is_all || moved == 0 {
                return Ok(given_up);
            }
        }
    }

    async fn stranded(&self, heir: Option<&SessionKey>) -> Result<Vec<message::Model>, Error> {
        let rows = message::Entity::find()
            .filter(message::COLUMN.session_key.in_subquery(handed_over_elsewhere(heir)))
            .filter(message::COLUMN.direction.eq(Direction::Outbound))
            // As the index has it, to the letter: SQLite finds it by that.
            .filter(Expr::cust("status IN ('queued', 'sending')"))
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
