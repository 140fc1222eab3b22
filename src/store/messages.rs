//! Messages: stored before they are sent, found again afterwards.
//!
//! How far a message came at WhatsApp (its acknowledgements) is written by `store::events`.

use entity::{
    UnixMillis,
    id::{MessageId, OrganizationId, SessionKey},
    kind::MessageKind,
    message,
    state::{Direction, MessageStatus},
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};

use super::{
    Error, Store,
    idempotency::{self, Claimed},
    inherited::is_oldest_among,
    page::Page,
    sessions::of_one_that_is_there,
    writer::Patience,
};

pub use super::idempotency::Key;

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct NewOutbound {
    pub id: MessageId,
    pub session_key: SessionKey,
    /// WhatsApp's id for it, chosen by us: every try to send it uses this one.
    pub wa_id: String,
    /// `…@s.whatsapp.net`, `…@lid` or `…@g.us`
    pub chat: String,
    /// The account's own address; empty while it is not known.
    pub sender: String,
    pub kind: MessageKind,
    pub body: Option<String>,
}

/// What became of a message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is stored as queued.
    New(Box<message::Model>),
    /// The same request made this one before.
    Replayed(Box<message::Model>),
    /// The idempotency key belongs to another request.
    KeyReused,
}

/// What is remembered of a message that is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOff {
    /// How often it was sent and WhatsApp did not take it, or did not say so.
    pub failed_attempts: i16,
    /// When WhatsApp first asked to have it later.
    pub since: Option<UnixMillis>,
    /// It is not sent before; at once when there is none.
    pub next_attempt_at: Option<UnixMillis>,
    /// Why, in a stable word.
    pub error: String,
}

/// Which messages to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The conversation's address.
    pub chat: Option<String>,
    pub direction: Option<Direction>,
    pub status: Option<MessageStatus>,
}

/// Queries over messages.
#[derive(Clone, Debug)]
pub struct Messages {
    pub(super) store: Store,
}

impl Messages {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores a message to be sent, once per idempotency key.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewOutbound,
        key: Option<Key>,
    ) -> Result<Created, Error> {
        let now = self.store.clock().now();
        let row = queued(organization, new, now);
        let lane = row.session_key.to_string();
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (row, key) = (row.clone(), key.clone());
                Box::pin(async move { create(txn, row, key, now).await })
            })
            .await
    }

    /// What a request with this key made before, if anything.
    pub async fn replay(
        &self,
        organization: &OrganizationId,
        key: &Key,
    ) -> Result<Option<Created>, Error> {
        let id = (organization.clone(), key.key.clone());
        let reader = self.store.reader();
        let Some(made) = entity::idempotency::Entity::find_by_id(id).one(reader).await? else {
            return Ok(None);
        };
        if made.fingerprint != key.fingerprint {
            return Ok(Some(Created::KeyReused));
        }
        let found = message::Entity::find()
            .filter(message::COLUMN.id.eq(made.resource_id))
            .filter(of_one_that_is_there("message"))
            .one(reader)
            .await?;
        Ok(found.map(|row| Created::Replayed(Box::new(row))))
    }

    /// Looks one message of a session up, or of one that has handed over to it.
    pub async fn find(
        &self,
        organization: &OrganizationId,
        session: &SessionKey,
        id: &MessageId,
    ) -> Result<Option<message::Model>, Error> {
        let found = message::Entity::find_by_id(id.clone())
            .filter(message::COLUMN.organization_id.eq(organization.clone()))
            .filter(message::COLUMN.session_key.is_in(self.lineage(session).await?))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// Looks one message up, whosever it is.
    pub async fn find_by_id(&self, id: &MessageId) -> Result<Option<message::Model>, Error> {
        Ok(message::Entity::find_by_id(id.clone()).one(self.store.reader()).await?)
    }

    /// Lists messages of a session, the newest first, with those of sessions that have handed over to it. A
    /// message that several of them have is there once, as the oldest row says.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        session: &SessionKey,
        filter: &Filter,
        page: &Page<MessageId>,
    ) -> Result<Vec<message::Model>, Error> {
        let lineage = self.lineage(session).await?;
        let mut query = message::Entity::find()
            .filter(message::COLUMN.organization_id.eq(organization.clone()))
            .filter(message::COLUMN.session_key.is_in(lineage.iter().cloned()));
        if lineage.len() > 1 {
            query = query.filter(is_oldest_among(&lineage));
        }
        if let Some(chat) = &filter.chat {
            query = query.filter(message::COLUMN.chat.eq(chat.as_str()));
        }
        if let Some(direction) = filter.direction {
            query = query.filter(message::COLUMN.direction.eq(direction));
        }
        if let Some(status) = filter.status {
            query = query.filter(message::COLUMN.status.eq(status));
        }
        if let Some(after) = &page.after {
            let earlier = message::COLUMN.created_at.lt(after.at);
            let same_time = message::COLUMN.created_at.eq(after.at);
            let lower_id = message::COLUMN.id.lt(after.id.clone());
            query = query.filter(
                Condition::any().add(earlier).add(Condition::all().add(same_time).add(lower_id)),
            );
        }
        let rows = query
            .order_by_desc(message::COLUMN.created_at)
            .order_by_desc(message::COLUMN.id)
            .limit(page.limit)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// Messages of a session that wait to be sent, the oldest first; none of the conversations in `but`.
    pub async fn queued(
        &self,
        session: &SessionKey,
        but: &[String],
        limit: u64,
    ) -> Result<Vec<message::Model>, Error> {
        // A session that is connected has time to wait for its database.
        self.store
            .read(Patience::Wait, |db| {
                let find = message::Entity::find()
                    .filter(message::COLUMN.session_key.eq(session.clone()))
                    .filter(message::COLUMN.direction.eq(Direction::Outbound))
                    .filter(message::COLUMN.status.eq(MessageStatus::Queued))
                    .filter(message::COLUMN.chat.is_not_in(but.iter().map(String::as_str)))
                    .order_by_asc(message::COLUMN.created_at)
                    .order_by_asc(message::COLUMN.id)
                    .limit(limit);
                Box::pin(find.all(db))
            })
            .await
    }

    /// Messages of a session that are not to be sent again before a time which is yet to come.
    pub async fn put_off_until_later(
        &self,
        session: &SessionKey,
    ) -> Result<Vec<message::Model>, Error> {
        let now = self.store.clock().now();
        self.store
            .read(Patience::Wait, |db| {
                let find = message::Entity::find()
                    .filter(message::COLUMN.session_key.eq(session.clone()))
                    .filter(message::COLUMN.direction.eq(Direction::Outbound))
                    .filter(message::COLUMN.status.eq(MessageStatus::Queued))
                    .filter(message::COLUMN.next_attempt_at.gt(now));
                Box::pin(find.all(db))
            })
            .await
    }

    /// Takes a queued message to send it. False when it is not queued (any more): leave it alone.
    pub async fn mark_sending(&self, id: &MessageId) -> Result<bool, Error> {
        self.move_on(id, MessageStatus::Queued, MessageStatus::Sending, None).await
    }

    /// Puts messages back into the queue that an earlier run was sending when it ended.
    ///
    /// Whether they reached WhatsApp is not known; sent again with the same id, they arrive once.
    pub async fn requeue_sending(&self, session: &SessionKey) -> Result<u64, Error> {
        let now = self.store.clock().now();
        let (lane, session) = (session.to_string(), session.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let session = session.clone();
                Box::pin(async move {
                    let moved = message::Entity::update_many()
                        .col_expr(message::Column::Status, Expr::value(MessageStatus::Queued))
                        .col_expr(message::Column::UpdatedAt, Expr::value(now))
                        .filter(message::COLUMN.session_key.eq(session))
                        .filter(message::COLUMN.direction.eq(Direction::Outbound))
                        .filter(message::COLUMN.status.eq(MessageStatus::Sending))
                        .exec(txn)
                        .await?;
                    Ok(moved.rows_affected)
                })
            })
            .await
    }

    /// Writes down where the media of a message is by now.
    pub async fn move_media(&self, row: &message::Model, path: String) -> Result<(), Error> {
        let now = self.store.clock().now();
        let (lane, id) = (row.session_key.to_string(), row.id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (id, path) = (id.clone(), path.clone());
                Box::pin(async move {
                    message::Entity::update_many()
                        .col_expr(message::Column::MediaPath, Expr::value(path))
                        .col_expr(message::Column::UpdatedAt, Expr::value(now))
                        .filter(message::COLUMN.id.eq(id))
                        .exec(txn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Queues one message again that was being sent, unless it has come further.
    pub async fn requeue(&self, id: &MessageId) -> Result<bool, Error> {
        self.move_on(id, MessageStatus::Sending, MessageStatus::Queued, None).await
    }

    /// The same, with what is to be remembered of the try.
    pub async fn put_off(&self, id: &MessageId, put_off: PutOff) -> Result<bool, Error> {
        self.move_on(id, MessageStatus::Sending, MessageStatus::Queued, Some(put_off)).await
    }

    /// Undoes the creation of a message that is still queued, with its idempotency key.
    ///
    /// False when it is not queued any more: somebody has begun to send it.
    pub async fn withdraw(
        &self,
        organization: &OrganizationId,
        id: &MessageId,
    ) -> Result<bool, Error> {
        let (lane, organization, id) = (id.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id) = (organization.clone(), id.clone());
                Box::pin(async move {
                    let deleted = message::Entity::delete_many()
                        .filter(message::COLUMN.organization_id.eq(organization.clone()))
                        .filter(message::COLUMN.id.eq(id.clone()))
                        .filter(message::COLUMN.status.eq(MessageStatus::Queued))
                        .exec(txn)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    idempotency::release(txn, &organization, id.as_str()).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Moves a message from one status to another, if it is in the first.
    async fn move_on(
        &self,
        id: &MessageId,
        from: MessageStatus,
        to: MessageStatus,
        put_off: Option<PutOff>,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let (lane, id) = (id.to_string(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (id, put_off) = (id.clone(), put_off.clone());
                Box::pin(async move {
                    let mut update = message::Entity::update_many()
                        .col_expr(message::Column::Status, Expr::value(to))
                        .col_expr(message::Column::UpdatedAt, Expr::value(now));
                    if let Some(put_off) = put_off {
                        let PutOff { failed_attempts, since, next_attempt_at, error } = put_off;
                        update = update
                            .col_expr(message::Column::FailedAttempts, Expr::value(failed_attempts))
                            .col_expr(message::Column::PutOffSince, Expr::value(since))
                            .col_expr(message::Column::NextAttemptAt, Expr::value(next_attempt_at))
                            .col_expr(message::Column::Error, Expr::value(error));
                    }
                    let moved = update
                        .filter(message::COLUMN.id.eq(id))
                        .filter(message::COLUMN.status.eq(from))
                        .exec(txn)
                        .await?;
                    Ok(moved.rows_affected > 0)
                })
            })
            .await
    }
}

fn queued(organization: &OrganizationId, new: NewOutbound, now: UnixMillis) -> message::Model {
    message::Model {
        id: new.id,
        organization_id: organization.clone(),
        session_key: new.session_key,
        // As `event::NewMessage::dedupe_key` makes it: the echo of this message is this message.
        dedupe_key: format!("m:{}:{}:{}", new.chat, new.sender, new.wa_id),
        wa_id: new.wa_id,
        chat: new.chat,
        sender: new.sender,
        recipient: None,
        direction: Direction::Outbound,
        kind: new.kind,
        body: new.body,
        target_wa_id: None,
        interaction: None,
        raw: None,
        media_path: None,
        push_name: None,
        sent_at: now,
        offline: false,
        history: false,
        status: MessageStatus::Queued,
        ack: 0,
        error: None,
        failed_attempts: 0,
        put_off_since: None,
        next_attempt_at: None,
        created_at: now,
        updated_at: now,
    }
}

async fn create(
    txn: &DatabaseTransaction,
    row: message::Model,
    key: Option<Key>,
    now: UnixMillis,
) -> Result<Created, DbErr> {
    if let Some(key) = key {
        let organization = &row.organization_id;
        match idempotency::claim(txn, organization, &key, row.id.as_str(), now).await? {
            Claimed::Free => {}
            Claimed::Reused => return Ok(Created::KeyReused),
            Claimed::Made { resource_id } => {
                let made = message::Entity::find()
                    .filter(message::COLUMN.id.eq(resource_id))
                    .filter(of_one_that_is_there("message"))
                    .one(txn)
                    .await?;
                if let Some(made) = made {
                    return Ok(Created::Replayed(Box::new(made)));
                }
                // Deleted with its session since.
                idempotency::reassign(txn, organization, &key, row.id.as_str()).await?;
            }
        }
    }
    message::Entity::insert(message::ActiveModel::from(row.clone()))
        .exec_without_returning(txn)
        .await?;
    Ok(Created::New(Box::new(row)))
}
