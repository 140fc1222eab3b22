//! Taking what may be sent: of each conversation the oldest, by one daemon.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{MetaAccountId, OrganizationId},
    message,
    meta::outbox,
    state::MessageStatus,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement, Value, sea_query::Expr,
};

use super::super::Meta;
use crate::store::{Error, Patience, nodes, organizations};

/// Which places `a` may be taken at the moment `t`: the first of a conversation, if it is due and nobody's. The accounts
/// in `but` are values from `$first` on.
fn may_be_sent(first: usize, but: &[MetaAccountId]) -> String {
    let marks: Vec<_> = (first..first + but.len()).map(|n| format!("${n}")).collect();
    let others = if marks.is_empty() {
        String::new()
    } else {
        format!("AND a.account_id NOT IN ({})", marks.join(", "))
    };
    format!(
        "a.next_at <= t.now AND a.lease_until <= t.now {others} \
         AND NOT EXISTS (SELECT 1 FROM meta_outbox b WHERE b.session_key = a.session_key \
         AND b.chat = a.chat AND b.message_id < a.message_id)"
    )
}

impl Meta {
    /// Organizations that have something to send, of other accounts than those in `but`: those behind `last` first.
    pub async fn with_outgoing(
        &self,
        but: &[MetaAccountId],
        last: Option<&OrganizationId>,
    ) -> Result<Vec<OrganizationId>, Error> {
        let now = nodes::time_in_sql(&self.store);
        let has = format!(
            "EXISTS (SELECT 1 FROM (SELECT {now} AS now) t JOIN meta_outbox a ON {} \
             WHERE a.organization_id = o.id)",
            may_be_sent(1, but)
        );
        let values = but.iter().map(|id| Value::from(id.as_str())).collect();
        self.in_turn(&has, values, last).await
    }

    /// Takes what may be sent of an organization's, none of the accounts in `but`, for the daemon called `me`.
    pub async fn claim_outgoing(
        &self,
        organization: &OrganizationId,
        me: &str,
        but: Vec<MetaAccountId>,
        (limit, lease): (u64, Duration),
    ) -> Result<Vec<outbox::Model>, Error> {
        // By one clock, whoever looks: see `store/meta/claim.rs`.
        let now = nodes::time_in_sql(&self.store);
        let lease = nodes::millis(lease);
        let claim: i64 = rand::random();
        let lane = organization.to_string();
        let (organization, me) = (organization.clone(), me.to_owned());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (organization, me, but) = (organization.clone(), me.clone(), but.clone());
                let now = now.clone();
                Box::pin(async move {
                    // What one daemon is taking, another does not see yet.
                    organizations::lock(txn, &organization).await?;
                    let take = format!(
                        "UPDATE meta_outbox SET claim = $1, claimed_by = $2, \
                         lease_until = (SELECT {now}) + $3 WHERE message_id IN (\
                         SELECT a.message_id FROM (SELECT {now} AS now) t JOIN meta_outbox a ON {} \
                         WHERE a.organization_id = $4 \
                         ORDER BY a.message_id LIMIT {limit}) RETURNING *",
                        may_be_sent(5, &but)
                    );
                    let mut values: Vec<Value> =
                        vec![claim.into(), me.into(), lease.into(), organization.as_str().into()];
                    values.extend(but.iter().map(|id| Value::from(id.as_str())));
                    let take =
                        Statement::from_sql_and_values(txn.get_database_backend(), take, values);
                    let mut taken = outbox::Entity::find().from_raw_sql(take).all(txn).await?;
                    taken.sort_by(|one, other| one.message_id.cmp(&other.message_id));
                    Ok(taken)
                })
            })
            .await
    }

    /// Lets go of what a daemon had taken when it last ended.
    pub async fn let_go_outgoing(&self, me: &str) -> Result<(), Error> {
        let me = me.to_owned();
        self.store
            .writer()
            .run("meta", Patience::Wait, move |txn| {
                let me = me.clone();
                Box::pin(async move {
                    let release = "UPDATE meta_outbox SET claim = NULL, claimed_by = NULL, \
                                   lease_until = 0 WHERE lease_until > 0 AND claimed_by = $1";
                    let database = txn.get_database_backend();
                    let release = Statement::from_sql_and_values(database, release, [me.into()]);
                    txn.execute_raw(release).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Begins to send a message: from here on it may be at Meta. False if that is not ours to do (any more).
    pub async fn begin_outgoing(
        &self,
        place: &outbox::Model,
        lease: Duration,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let from = nodes::time_in_sql(&self.store);
        let lease = nodes::millis(lease);
        let (lane, place) = (place.organization_id.to_string(), place.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (place, from) = (place.clone(), from.clone());
                Box::pin(async move {
                    let hold = format!(
                        "UPDATE meta_outbox SET lease_until = {from} + $1 \
                         WHERE message_id = $2 AND claim = $3"
                    );
                    let values: [Value; 3] =
                        [lease.into(), place.message_id.as_str().into(), place.claim.into()];
                    let database = txn.get_database_backend();
                    let hold = Statement::from_sql_and_values(database, hold, values);
                    if txn.execute_raw(hold).await?.rows_affected() == 0 {
                        return Ok(false);
                    }
                    let begun = message::Entity::update_many()
                        .col_expr(message::Column::Status, Expr::value(MessageStatus::Sending))
                        .col_expr(message::Column::UpdatedAt, Expr::value(now))
                        .filter(message::COLUMN.id.eq(place.message_id.clone()))
                        .filter(message::COLUMN.status.eq(MessageStatus::Queued))
                        .exec(txn)
                        .await?;
                    Ok(begun.rows_affected > 0)
                })
            })
            .await
    }

    /// How many messages wait to be sent, and since when the oldest does.
    pub async fn outgoing(&self) -> Result<(i64, Option<UnixMillis>), Error> {
        let db = self.store.reader();
        let ask = "SELECT count(*), MIN(created_at) FROM meta_outbox".to_owned();
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), ask)).await?;
        let Some(row) = row else { return Ok((0, None)) };
        let oldest = row.try_get_by_index::<Option<i64>>(1)?.map(UnixMillis);
        Ok((row.try_get_by_index(0)?, oldest))
    }
}
