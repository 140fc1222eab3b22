//! What one daemon asks of another: a row for each question, with its answer.
//!
//! The one that runs the session takes it, carries it out and answers; the one that asked deletes
//! it when it has read the answer or given up. It is a letter, not a promise: what must come to pass
//! whoever dies on the way is in `desired_state`, or is a message that is stored as queued.

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

/// Questions taken at a time.
const BATCH: u64 = 100;

/// Queries over commands.
#[derive(Clone, Debug)]
pub struct Commands {
    store: Store,
}

impl Commands {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Asks something of the node that runs `session`. It may be answered within `patience`.
    pub async fn ask(
        &self,
        session: &SessionKey,
        request: String,
        patience: Duration,
    ) -> Result<CommandId, Error> {
        let id = CommandId::new(self.store.clock().now(), entity::id::in_order(rand::random()));
        let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let (made, session) = (id.clone(), session.clone());
        let time = time(&self.store);
        self.store
            .writer()
            .run(session.clone().as_str(), Patience::Fail, move |txn| {
                let values = [
                    Expr::val(made.clone()),
                    Expr::val(session.clone()),
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
        Ok(id)
    }

    /// The question as it is; none when it is not there any more.
    pub async fn find(&self, id: &CommandId) -> Result<Option<command::Model>, Error> {
        Ok(command::Entity::find_by_id(id.clone()).one(self.store.reader()).await?)
    }

    /// Questions about sessions that `node` owns, which nobody has taken, in the order of asking.
    pub async fn waiting(&self, node: &NodeId) -> Result<Vec<command::Model>, Error> {
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
        Ok(rows)
    }

    /// Takes a question, to carry it out. False when somebody else has, or nobody waits any more.
    pub async fn take(&self, command: &command::Model, node: &NodeId) -> Result<bool, Error> {
        let (lane, id, node) = (command.session_key.to_string(), command.id.clone(), node.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (id, node) = (id.clone(), node.clone());
                Box::pin(async move {
                    let taken = command::Entity::update_many()
                        .col_expr(command::Column::TakenBy, Expr::value(node))
                        .filter(command::COLUMN.id.eq(id))
                        .filter(command::COLUMN.taken_by.is_null())
                        .exec(txn)
                        .await?;
                    Ok(taken.rows_affected > 0)
                })
            })
            .await
    }

    /// Answers a question that was taken.
    pub async fn answer(&self, command: &command::Model, answer: String) -> Result<(), Error> {
        let (lane, id) = (command.session_key.to_string(), command.id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (id, answer) = (id.clone(), answer.clone());
                Box::pin(async move {
                    command::Entity::update_many()
                        .col_expr(command::Column::Answer, Expr::value(answer))
                        .filter(command::COLUMN.id.eq(id))
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }

    /// Deletes a question. False when it was taken and `untaken` is asked for.
    pub async fn withdraw(&self, id: &CommandId, untaken: bool) -> Result<bool, Error> {
        let (lane, id) = (id.to_string(), id.clone());
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
