//! What one daemon asks of another: a row for each question, with its answer.
//!
//! The one that runs the session takes it, carries it out and answers; the one that asked deletes
//! it when it has read the answer or given up. It is a letter, not a promise: what must come to pass
//! whoever dies on the way is in `desired_state`, or is a message that is stored as queued.
//!
//! Both are sealed: an answer may be a pairing code, a question a phone number.

use std::time::Duration;

use entity::{
    command,
    id::{CommandId, NodeId, SessionKey},
    lease,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, JoinType, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, Query},
};

use super::{Error, Store, nodes::time, writer::Patience};
use crate::vault::{Column, Part, Sealer};

/// Questions taken at a time.
const BATCH: u64 = 100;

const REQUEST: Column = Column::new("command", "request");
const ANSWER: Column = Column::new("command", "answer");

/// A question, for whoever asked it and whoever carries it out. The session may be gone by the time it is
/// answered, so it keeps what seals the answer.
#[derive(Clone, Debug)]
pub struct Letter {
    id: CommandId,
    /// What it is about.
    pub session: SessionKey,
    sealer: Sealer,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether somebody carries it out, or has.
    pub taken: bool,
    pub answer: Option<String>,
}

impl Letter {
    fn seal(&self, column: Column, text: &str) -> String {
        self.sealer.seal_text(column, &[Part::from(self.id.as_str())], text)
    }

    /// What does not open is nothing that anybody understands: as if it were from another version.
    fn open(&self, column: Column, text: &str) -> String {
        self.sealer.open_text(column, &[Part::from(self.id.as_str())], text).unwrap_or_default()
    }
}

/// Queries over commands.
#[derive(Clone, Debug)]
pub struct Commands {
    store: Store,
}

impl Commands {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Asks something of the node that runs `session`. It may be answered within `patience`. None
    /// when the session is gone.
    pub async fn ask(
        &self,
        session: &SessionKey,
        request: &str,
        patience: Duration,
    ) -> Result<Option<Letter>, Error> {
        let Some(sealer) = self.store.sealer_of(session, Patience::Fail).await? else {
            return Ok(None);
        };
        let id = CommandId::new(self.store.clock().now(), entity::id::in_order(rand::random()));
        let letter = Letter { id, session: session.clone(), sealer };
        let request = letter.seal(REQUEST, request);
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let (made, time) = (letter.clone(), time(&self.store));
        self.store
            .writer()
            .run(session.as_str(), Patience::Fail, move |txn| {
                let values = [
                    Expr::val(made.id.clone()),
                    Expr::val(made.session.clone()),
                    Expr::val(request.clone()),
                    time.clone().add(patience),
                ];
                Box::pin(async move {
                    let mut insert = Query::insert();
                    insert.into_table(command::Entity).columns([
                        command::Column::Id,
                        command::Column::SessionKey,
                        command::Column::Request,
                        command::Column::ExpiresAt,
                    ]);
                    insert
                        .values(values)
                        .map_err(|error| sea_orm::DbErr::Custom(error.to_string()))?;
                    txn.execute(&insert).await.map(drop)
                })
            })
            .await?;
        Ok(Some(letter))
    }

    /// What became of a question; none when it is not there any more.
    pub async fn find(&self, letter: &Letter) -> Result<Option<Reply>, Error> {
        let row = command::Entity::find_by_id(letter.id.clone()).one(self.store.reader()).await?;
        Ok(row.map(|row| Reply {
            taken: row.taken_by.is_some(),
            answer: row.answer.map(|answer| letter.open(ANSWER, &answer)),
        }))
    }

    /// Questions about sessions that `node` owns, which nobody has taken, in the order of asking.
    pub async fn waiting(&self, node: &NodeId) -> Result<Vec<(Letter, String)>, Error> {
        let of_session: sea_orm::RelationDef = command::Entity::belongs_to(lease::Entity)
            .from(command::Column::SessionKey)
            .to(lease::Column::SessionKey)
            .into();
        let rows = command::Entity::find()
            .join(JoinType::InnerJoin, of_session)
            .filter(lease::COLUMN.node_id.eq(node.clone()))
            .filter(command::COLUMN.taken_by.is_null())
            .filter(Expr::col((command::Entity, command::Column::ExpiresAt)).gt(time(&self.store)))
            .order_by_asc(command::COLUMN.id)
            .limit(BATCH)
            .all(self.store.reader())
            .await?;
        let mut letters = Vec::with_capacity(rows.len());
        for row in rows {
            let sealer = self.store.sealer_of(&row.session_key, Patience::Fail).await?;
            // Deleted since; whoever asked sees that nobody owns it.
            let Some(sealer) = sealer else { continue };
            let letter = Letter { id: row.id, session: row.session_key, sealer };
            let request = letter.open(REQUEST, &row.request);
            letters.push((letter, request));
        }
        Ok(letters)
    }

    /// Takes a question, to carry it out. False when somebody else has, or nobody waits any more.
    pub async fn take(&self, letter: &Letter, node: &NodeId) -> Result<bool, Error> {
        let taken = self.update(letter, command::Column::TakenBy, Expr::value(node.clone()), true);
        taken.await
    }

    /// Answers a question that was taken.
    pub async fn answer(&self, letter: &Letter, answer: &str) -> Result<(), Error> {
        let answer = Expr::value(letter.seal(ANSWER, answer));
        self.update(letter, command::Column::Answer, answer, false).await.map(drop)
    }

    /// Sets one column; false when it is not there, or was taken and `untaken` is asked for.
    async fn update(
        &self,
        letter: &Letter,
        column: command::Column,
        value: Expr,
        untaken: bool,
    ) -> Result<bool, Error> {
        let id = letter.id.clone();
        self.store
            .writer()
            .run(letter.session.as_str(), Patience::Fail, move |txn| {
                let mut update = command::Entity::update_many()
                    .col_expr(column, value.clone())
                    .filter(command::COLUMN.id.eq(id.clone()));
                if untaken {
                    update = update.filter(command::COLUMN.taken_by.is_null());
                }
                Box::pin(async move { Ok(update.exec(txn).await?.rows_affected > 0) })
            })
            .await
    }

    /// Deletes a question. False when it was taken and `untaken` is asked for.
    pub async fn withdraw(&self, letter: &Letter, untaken: bool) -> Result<bool, Error> {
        let (lane, id) = (letter.id.to_string(), letter.id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let id = id.clone();
                Box::pin(async move {
                    let mut delete =
                        command::Entity::delete_many().filter(command::COLUMN.id.eq(id));
                    if untaken {
                        delete = delete.filter(command::COLUMN.taken_by.is_null());
                    }
                    Ok(delete.exec(txn).await?.rows_affected > 0)
                })
            })
            .await
    }

    /// Deletes what nobody waits for any more: whoever asked has died.
    pub async fn expire(&self) -> Result<u64, Error> {
        let time = time(&self.store);
        self.store
            .writer()
            .run("commands", Patience::Fail, move |txn| {
                let time = time.clone();
                Box::pin(async move {
                    let deleted = command::Entity::delete_many()
                        .filter(Expr::col(command::Column::ExpiresAt).lte(time))
                        .exec(txn)
                        .await?;
                    Ok(deleted.rows_affected)
                })
            })
            .await
    }
}
