//! Taking what is to be carried out, in the order of each conversation.
//!
//! Whoever takes something leaves a token, and what he does without it counts for nothing. Something is taken only with all
//! that waits before it in its lane, so that of a conversation nothing overtakes anything.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{MetaBodyId, MetaEventId, OrganizationId},
    meta::{body, event},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement, Value};

use super::{Meta, PARTLY_UNWRITTEN};
use crate::store::{Error, Patience, nodes, organizations};

/// Organizations that are looked at in one round.
const MOST_ORGANIZATIONS: i64 = 256;

impl Meta {
    /// Organizations of which something may be due: those behind `last` first, so that where there are many each has its turn.
    pub async fn waiting(
        &self,
        last: Option<&OrganizationId>,
    ) -> Result<Vec<OrganizationId>, Error> {
        let now = nodes::time_in_sql(&self.store);
        let has = format!(
            "EXISTS (SELECT 1 FROM meta_event e \
             WHERE e.organization_id = o.id AND e.state = 'waiting' AND e.next_at <= {now} \
             AND e.lease_until <= {now})"
        );
        self.in_turn(&has, Vec::new(), last).await
    }

    /// Organizations `o` of which this is true. Its values come first.
    pub(super) async fn in_turn(
        &self,
        is_so: &str,
        values: Vec<Value>,
        last: Option<&OrganizationId>,
    ) -> Result<Vec<OrganizationId>, Error> {
        let first = values.len() + 1;
        let find = format!(
            "SELECT o.id FROM organization o WHERE {is_so} \
             ORDER BY CASE WHEN o.id > ${first} THEN 0 ELSE 1 END, o.id LIMIT {MOST_ORGANIZATIONS}"
        );
        let last = last.map_or("", OrganizationId::as_str);
        let values = values.into_iter().chain([last.into()]);
        let db = self.store.reader();
        let find = Statement::from_sql_and_values(db.get_database_backend(), find, values);
        let rows = db.query_all_raw(find).await?;
        let ids = rows.iter().map(|row| row.try_get_by_index::<OrganizationId>(0));
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Takes what is due of an organization's, the oldest first, for the daemon called `me`, until `lease` is over.
    pub async fn claim(
        &self,
        organization: &OrganizationId,
        me: &str,
        limit: u64,
        lease: Duration,
    ) -> Result<Vec<event::Model>, Error> {
        // By one clock, whoever looks: one daemon's may be wrong, and would take what another has in hand.
        let now = nodes::time_in_sql(&self.store);
        let lease = nodes::millis(lease);
        let claim: i64 = rand::random();
        let lane = organization.to_string();
        let (organization, me) = (organization.clone(), me.to_owned());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (organization, me, now) = (organization.clone(), me.clone(), now.clone());
                Box::pin(async move {
                    // One daemon after the other: what one is taking is not yet seen by another, who could so
                    // take what stands behind it.
                    organizations::lock(txn, &organization).await?;
                    // Asked for once: it goes on while the statement runs.
                    let take = format!(
                        "UPDATE meta_event SET claim = $1, claimed_by = $2, \
                         lease_until = (SELECT {now}) + $3 WHERE id IN (\
                         SELECT a.id FROM (SELECT {now} AS now) t \
                         JOIN meta_event a ON a.next_at <= t.now AND a.lease_until <= t.now \
                         WHERE a.organization_id = $4 AND a.state = 'waiting' \
                         AND NOT EXISTS (SELECT 1 FROM meta_event b \
                         WHERE b.organization_id = a.organization_id AND b.lane = a.lane \
                         AND b.state = 'waiting' AND b.id < a.id \
                         AND (b.next_at > t.now OR b.lease_until > t.now)) \
                         ORDER BY a.id LIMIT {limit}) RETURNING *"
                    );
                    let values =
                        [claim.into(), me.into(), lease.into(), organization.as_str().into()];
                    let take =
                        Statement::from_sql_and_values(txn.get_database_backend(), take, values);
                    let mut taken = event::Entity::find().from_raw_sql(take).all(txn).await?;
                    taken.sort_by(|one, other| one.id.cmp(&other.id));
                    Ok(taken)
                })
            })
            .await
    }

    /// Bodies by their ids, sealed.
    pub async fn bodies(&self, ids: Vec<MetaBodyId>) -> Result<Vec<body::Model>, Error> {
        self.store
            .read(Patience::Wait, |db| {
                let find = body::Entity::find().filter(body::COLUMN.id.is_in(ids.clone()));
                Box::pin(find.all(db))
            })
            .await
    }

    /// Lets go of what was taken and not carried out: all of a token, or all that a daemon had when it last ended.
    pub async fn let_go(&self, whose: Whose) -> Result<u64, Error> {
        let (lane, column, value): (_, _, Value) = match whose {
            Whose::Claim(claim) => ("meta", "claim", claim.into()),
            Whose::Daemon(me) => ("meta", "claimed_by", me.into()),
        };
        self.store
            .writer()
            .run(lane, Patience::Wait, move |txn| {
                let value = value.clone();
                Box::pin(async move {
                    let release = format!(
                        "UPDATE meta_event SET claim = NULL, claimed_by = NULL, lease_until = 0 \
                         WHERE state = 'waiting' AND lease_until > 0 AND {column} = $1"
                    );
                    let database = txn.get_database_backend();
                    let release = Statement::from_sql_and_values(database, release, [value]);
                    Ok(txn.execute_raw(release).await?.rows_affected())
                })
            })
            .await
    }

    /// Writes down that something could not be carried out, and after what wait it is tried again: never, if none is
    /// given. False if it was not ours any more.
    pub async fn put_off(
        &self,
        row: &event::Model,
        error: &str,
        wait: Option<Duration>,
    ) -> Result<bool, Error> {
        let (lane, claim) = (row.organization_id.to_string(), row.claim);
        let (id, error) = (row.id.clone(), error.to_owned());
        // All of it again: what is written stays as it is.
        let progress = if error == PARTLY_UNWRITTEN { "progress = 0, " } else { "" };
        let (state, next_at) = match wait {
            Some(wait) => {
                ("waiting", format!("{} + {}", nodes::time_in_sql(&self.store), wait.as_millis()))
            }
            None => ("failed", "0".to_owned()),
        };
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (id, error): (MetaEventId, _) = (id.clone(), error.clone());
                let next_at = next_at.clone();
                Box::pin(async move {
                    let write = format!(
                        "UPDATE meta_event SET state = '{state}', attempts = attempts + 1, {progress}\
                         next_at = {next_at}, error = $1, claim = NULL, claimed_by = NULL, \
                         lease_until = 0 WHERE id = $2 AND claim = $3 AND state = 'waiting'"
                    );
                    let values = [error.into(), id.as_str().into(), claim.into()];
                    let write =
                        Statement::from_sql_and_values(txn.get_database_backend(), write, values);
                    Ok(txn.execute_raw(write).await?.rows_affected() > 0)
                })
            })
            .await
    }

    /// Since when the oldest of all that waits has been waiting.
    pub async fn oldest_waiting(&self) -> Result<Option<UnixMillis>, Error> {
        let db = self.store.reader();
        let ask = "SELECT MIN(created_at) FROM meta_event WHERE state = 'waiting'".to_owned();
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), ask)).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(row.try_get_by_index::<Option<i64>>(0)?.map(UnixMillis))
    }
}

/// Whose claims are let go of.
#[derive(Clone, Debug)]
pub enum Whose {
    Claim(i64),
    Daemon(String),
}
