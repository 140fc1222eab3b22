//! Messages of the account's own that a client elsewhere has told of as if somebody else had sent them.
//!
//! What comes as `message` without a sign of whose it is counts as received, be it from the session's own number, as seed
//! 001 has it. That it is the account's is known for sure when it is told of as sent, or its acknowledgement comes along
//! with it: then the row that is there is that message, and there is no other. It is told of anew, as sent, with the id
//! that it has: whoever was told of a message received hears that it was none. Where that came first, the row stands and
//! what comes is no news.

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

use super::{CHUNK, NewEvent, families::Families, messages::Arrived, present::Levels};
use crate::{
    event::{Event, NewMessage, message_key},
    store::sessions::own_address,
};

/// By the session that is told of it, WhatsApp's id, and who has sent it.
type Named = (SessionKey, String, String);

/// What there is of messages that may be the account's own.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// As received: one id may be in several conversations.
    heard: HashMap<Named, Vec<Heard>>,
    sent: HashSet<Named>,
    /// Of those that were sent, the session's own rows, by their conversation too.
    rows: HashMap<(Named, String), MessageId>,
}

/// The row of a message that seemed to be received.
#[derive(Clone, Debug)]
struct Heard {
    session_key: SessionKey,
    id: MessageId,
    chat: String,
    /// To whom it said that it was.
    recipient: Option<String>,
}

/// What is known of a message before its event is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing, or no more than its event's key says.
    No,
    /// It is there already.
    Before,
    /// It was there as somebody else's, and is the account's from now on.
    Turned,
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
            let found: Vec<(Direction, MessageId, SessionKey, String, String, String, _)> =
                message::Entity::find()
                    .select_only()
                    .column(message::Column::Direction)
                    .column(message::Column::Id)
                    .column(message::Column::SessionKey)
                    .column(message::Column::WaId)
                    .column(message::Column::Sender)
                    .column(message::Column::Chat)
                    .column(message::Column::Recipient)
                    .filter(
                        message::COLUMN.session_key.is_in(told_to.keys().map(|key| (*key).clone())),
                    )
                    .filter(message::COLUMN.wa_id.is_in(chunk.iter().map(|it| it.wa_id.as_str())))
                    .filter(message::COLUMN.sender.is_in(chunk.iter().map(|it| it.sender.as_str())))
                    .into_tuple()
                    .all(txn)
                    .await?;
            for (direction, id, session_key, wa_id, sender, chat, recipient) in found {
                let row = Heard { session_key, id, chat, recipient };
                for told in told_to.get(&row.session_key).into_iter().flatten() {
                    let named = (SessionKey::clone(told), wa_id.clone(), sender.clone());
                    this.keep(named, direction, row.clone());
                }
            }
        }
        Ok(this)
    }

    /// Keeps in mind what is new with a message, if that is of a session elsewhere: only of those anything is posted.
    pub(super) fn note(&mut self, event: &NewEvent, arrived: &Arrived) {
        if event.posted.is_some() {
            let Arrived { session_key, message, own, .. } = arrived;
            let row = Heard {
                session_key: session_key.clone(),
                id: message.id.clone(),
                chat: message.chat.clone(),
                recipient: own.clone(),
            };
            self.keep(named(event, message), message.direction, row);
        }
    }

    fn keep(&mut self, named: Named, direction: Direction, row: Heard) {
        match direction {
            Direction::Inbound => self.heard.entry(named).or_default().push(row),
            Direction::Outbound => {
                if named.0 == row.session_key {
                    self.rows.entry((named.clone(), row.chat)).or_insert(row.id);
                }
                self.sent.insert(named);
            }
        }
    }

    /// Whether a message is there already, whatever its event's key says. One that was told of as somebody else's, and is
    /// now known to be the account's, is added to `turned`.
    pub(super) fn knows(
        &mut self,
        event: &NewEvent,
        message: &NewMessage,
        levels: &mut Levels,
        turned: &mut Vec<Turned>,
    ) -> Known {
        let named = named(event, message);
        if message.direction == Direction::Inbound {
            return if self.sent.contains(&named) { Known::Before } else { Known::No };
        }
        if self.heard.contains_key(&named) {
            if !event.says_whose() {
                // That it was received was said of it, and that it was sent is said of all that comes so.
                return Known::Before;
            }
            if self.turn(&named, event, message, levels, turned) {
                return Known::Turned;
            }
        }
        let is_acknowledged = || {
            let by_id = (event.session_key.clone(), message.wa_id.clone());
            levels.contains_key(&by_id)
        };
        if event.is_carried() && is_acknowledged() { Known::Before } else { Known::No }
    }

    /// Makes the account's own what seemed to be received under an id, in whichever conversations: who has written one of
    /// them has written all. Whether `message` is among them.
    fn turn(
        &mut self,
        named: &Named,
        event: &NewEvent,
        message: &NewMessage,
        levels: &mut Levels,
        turned: &mut Vec<Turned>,
    ) -> bool {
        let mut is_among = false;
        for row in self.heard.remove(named).unwrap_or_default() {
            // Of a group, it says in which; of a person, whom it was to, or else it is what comes now.
            let is_of_person = row.chat == message.sender;
            let to = row.recipient.filter(|to| *to != message.sender);
            let to = to.unwrap_or_else(|| message.chat.clone());
            let chat = if is_of_person { to } else { row.chat };
            if chat == message.chat && !is_among {
                is_among = true;
                let by_id = (event.session_key.clone(), message.wa_id.clone());
                let reached = levels.entry(by_id).or_default();
                reached.id = Some(row.id.clone());
                reached.chat = Some(chat.clone());
                // Wherever the row is: there is no other.
                self.rows.insert((named.clone(), chat.clone()), row.id.clone());
            }
            let dedupe_key = message_key(&chat, &message.sender, &message.wa_id);
            turned.push(Turned { session_key: row.session_key, id: row.id, chat, dedupe_key });
        }
        self.sent.insert(named.clone());
        is_among
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
            .col_expr(message::Column::Recipient, Expr::value(None::<String>))
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
