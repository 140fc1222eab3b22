//! Messages of the account's own that a client elsewhere has told of as if somebody else had sent them.
//!
//! What comes without a sign of whose it is counts as received, be it from the session's own number, as seed 001 has it.
//! That it is the account's is known for sure when its acknowledgement comes along with it: then the row that is there is
//! that message, and there is no other. Where that came first, the row stands and what comes is no news.

use std::collections::{HashMap, HashSet};

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    message, session,
    state::{Direction, MessageStatus, Origin},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter, QuerySelect,
    QueryTrait, sea_query::Expr,
};

use super::{CHUNK, NewEvent, families::Families, present::Levels, reached::Reached};
use crate::{
    event::{Event, NewMessage},
    store::sessions::own_address,
};

/// By the session that is told of it, WhatsApp's id, and who has sent it.
type Named = (SessionKey, String, String);

/// What there is of messages that may be the account's own.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// As received: whose row it is, and its id.
    heard: HashMap<Named, (SessionKey, MessageId)>,
    sent: HashSet<Named>,
    /// Of those that were sent, the session's own rows, by their conversation too.
    rows: HashMap<(Named, String), MessageId>,
}

/// A message that was received, and is the account's own.
#[derive(Debug)]
pub(super) struct Turned {
    session_key: SessionKey,
    pub(super) id: MessageId,
    chat: String,
    dedupe_key: String,
}

impl Own {
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        sessions: &HashMap<SessionKey, session::Model>,
        families: &Families,
        events: &[&NewEvent],
    ) -> Result<Self, DbErr> {
        let mut asked = Vec::new();
        let mut told_to = HashMap::<&SessionKey, HashSet<&SessionKey>>::new();
        for event in events {
            let Some(message) = may_be_own(event, sessions) else { continue };
            asked.push(message);
            for member in families.of(&event.session_key) {
                told_to.entry(member).or_default().insert(&event.session_key);
            }
        }
        let mut this = Self::default();
        for chunk in asked.chunks(CHUNK) {
            let found: Vec<(MessageId, SessionKey, String, String, String, Direction)> =
                message::Entity::find()
                    .select_only()
                    .column(message::Column::Id)
                    .column(message::Column::SessionKey)
                    .column(message::Column::WaId)
                    .column(message::Column::Sender)
                    .column(message::Column::Chat)
                    .column(message::Column::Direction)
                    .filter(
                        message::COLUMN.session_key.is_in(told_to.keys().map(|key| (*key).clone())),
                    )
                    .filter(message::COLUMN.wa_id.is_in(chunk.iter().map(|it| it.wa_id.as_str())))
                    .filter(message::COLUMN.sender.is_in(chunk.iter().map(|it| it.sender.as_str())))
                    .into_tuple()
                    .all(txn)
                    .await?;
            for (id, row_of, wa_id, sender, chat, direction) in found {
                for told in told_to.get(&row_of).into_iter().flatten() {
                    let named = (SessionKey::clone(told), wa_id.clone(), sender.clone());
                    this.keep(named, (&row_of, &id), &chat, direction);
                }
            }
        }
        Ok(this)
    }

    /// Keeps in mind what is new with a message, if that is of a session elsewhere: only of those anything is posted.
    pub(super) fn note(&mut self, event: &NewEvent, message: &NewMessage) {
        if event.posted.is_some() {
            let named = named(event, message);
            let row = (&event.session_key, &message.id);
            self.keep(named, row, &message.chat, message.direction);
        }
    }

    fn keep(
        &mut self,
        named: Named,
        (session, id): (&SessionKey, &MessageId),
        chat: &str,
        direction: Direction,
    ) {
        match direction {
            // Of a group, it says who has sent it.
            Direction::Inbound if named.2 == chat => {
                self.heard.insert(named, (session.clone(), id.clone()));
            }
            Direction::Inbound => {}
            Direction::Outbound => {
                if named.0 == *session {
                    let row = (named.clone(), chat.to_owned());
                    self.rows.entry(row).or_insert_with(|| id.clone());
                }
                self.sent.insert(named);
            }
        }
    }

    /// Whether a message is there already, whatever its event's key says. One that was told of as somebody else's, and is
    /// now known to be the account's, is added to `turned`. It is no news either: it was told of once, and what is new is
    /// its acknowledgement, which comes next.
    pub(super) fn knows(
        &mut self,
        event: &NewEvent,
        message: &NewMessage,
        levels: &mut Levels,
        turned: &mut Vec<Turned>,
    ) -> bool {
        let by_id = || (event.session_key.clone(), message.wa_id.clone());
        if message.direction == Direction::Inbound {
            return self.sent.contains(&named(event, message));
        }
        if !event.is_carried() {
            return false;
        }
        if levels.contains_key(&by_id()) {
            return true;
        }
        let Some(row) = self.turn(event, message) else { return false };
        let (id, chat) = (Some(row.id.clone()), Some(message.chat.clone()));
        levels.insert(by_id(), Reached { id, chat, level: 0, unsent: false });
        turned.push(row);
        true
    }

    /// The row of a message that seemed to be received, and is the account's own for sure.
    fn turn(&mut self, event: &NewEvent, message: &NewMessage) -> Option<Turned> {
        let named = named(event, message);
        let (session_key, id) = self.heard.remove(&named)?;
        self.keep(named, (&session_key, &id), &message.chat, Direction::Outbound);
        let (chat, dedupe_key) = (message.chat.clone(), message.dedupe_key());
        Some(Turned { session_key, id, chat, dedupe_key })
    }

    /// The row that a session elsewhere has of a message that was sent, whatever its key is.
    pub(super) fn row_of(&self, event: &NewEvent, message: &NewMessage) -> Option<&MessageId> {
        let is_sent = message.direction == Direction::Outbound;
        is_sent.then(|| self.rows.get(&(named(event, message), message.chat.clone())))?
    }
}

fn named(event: &NewEvent, message: &NewMessage) -> Named {
    (event.session_key.clone(), message.wa_id.clone(), message.sender.clone())
}

/// A message that an event tells of, if it is the account's and may be there under another key or as somebody else's, or
/// is told of as somebody else's and may be the account's.
pub(super) fn may_be_own<'a>(
    event: &'a NewEvent,
    sessions: &HashMap<SessionKey, session::Model>,
) -> Option<&'a NewMessage> {
    let Event::Message(message) = &event.event else { return None };
    let row = sessions.get(&event.session_key).filter(|row| row.origin == Origin::External)?;
    let may_be = message.direction == Direction::Outbound
        || own_address(row).as_deref() == Some(message.sender.as_str());
    may_be.then_some(&**message)
}

/// Makes what was received one that was sent.
pub(super) async fn write(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    turned: Vec<Turned>,
) -> Result<(), DbErr> {
    for Turned { session_key, id, chat, dedupe_key } in turned {
        let of_key = message::Entity::find()
            .select_only()
            .column(message::Column::Id)
            .filter(message::COLUMN.session_key.eq(session_key.clone()))
            .filter(message::COLUMN.dedupe_key.eq(dedupe_key.clone()));
        // What is sealed opens under the key that it was sealed under. And the key may be that of another row: what was
        // told of as somebody's in a group.
        let is_free = message::COLUMN.raw.is_null().and(Expr::not_exists(of_key.into_query()));
        let key = Expr::case(is_free, dedupe_key).finally(Expr::col(message::Column::DedupeKey));
        message::Entity::update_many()
            .col_expr(message::Column::Direction, Expr::value(Direction::Outbound))
            .col_expr(message::Column::Status, Expr::value(MessageStatus::Sent))
            .col_expr(message::Column::Chat, Expr::value(chat))
            .col_expr(message::Column::DedupeKey, key.into())
            .col_expr(message::Column::UpdatedAt, Expr::value(now))
            .filter(message::COLUMN.session_key.eq(session_key))
            .filter(message::COLUMN.id.eq(id))
            .exec(txn)
            .await?;
    }
    Ok(())
}
