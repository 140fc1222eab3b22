//! What waits before something, though its lane is another: a lane is by one thing that somebody is called by, and he may be
//! called by another the next time.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use entity::{
    contact_identity,
    id::{ContactId, MetaEventId, OrganizationId},
    meta::{event, state::MetaEventState},
    state::IdentityKind,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, EntityTrait, QueryFilter, QuerySelect as _,
    Statement, Value,
};

use super::Meta;
use crate::store::{Error, Patience, nodes};

/// By whatever somebody was asked for by: all that he is called by.
pub type Aliases = HashMap<String, Vec<String>>;

/// All kinds, so that the index is of use whatever kind something is.
const KINDS: [IdentityKind; 5] = [
    IdentityKind::WaId,
    IdentityKind::Phone,
    IdentityKind::UserId,
    IdentityKind::ParentUserId,
    IdentityKind::Lid,
];

impl Meta {
    /// All that those are called by who are called so. Who is not known is not there.
    pub async fn aliases(
        &self,
        organization: &OrganizationId,
        called: &BTreeSet<String>,
    ) -> Result<Aliases, Error> {
        if called.is_empty() {
            return Ok(Aliases::new());
        }
        let named = self
            .store
            .read(Patience::Wait, |db| {
                let find = contact_identity::Entity::find()
                    .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
                    .filter(contact_identity::COLUMN.kind.is_in(KINDS))
                    .filter(contact_identity::COLUMN.value.is_in(called.iter().cloned()));
                Box::pin(find.all(db))
            })
            .await?;
        let those: BTreeSet<ContactId> = named.iter().map(|row| row.contact_id.clone()).collect();
        if those.is_empty() {
            return Ok(Aliases::new());
        }
        let all = self
            .store
            .read(Patience::Wait, |db| {
                let find = contact_identity::Entity::find()
                    .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
                    .filter(contact_identity::COLUMN.contact_id.is_in(those.iter().cloned()));
                Box::pin(find.all(db))
            })
            .await?;
        let mut of_contact = HashMap::<ContactId, Vec<String>>::new();
        for row in all {
            of_contact.entry(row.contact_id).or_default().push(row.value);
        }
        let mut aliases = Aliases::new();
        for row in named {
            let theirs = of_contact.get(&row.contact_id).into_iter().flatten().cloned();
            aliases.entry(row.value).or_default().extend(theirs);
        }
        Ok(aliases)
    }

    /// What waits first in each of these lanes, but for what was taken under this token.
    pub async fn first_waiting(
        &self,
        organization: &OrganizationId,
        lanes: &BTreeSet<String>,
        claim: i64,
    ) -> Result<HashMap<String, MetaEventId>, Error> {
        if lanes.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self
            .store
            .read(Patience::Wait, |db| {
                let others = Condition::any()
                    .add(event::COLUMN.claim.is_null())
                    .add(event::COLUMN.claim.ne(claim));
                let find = event::Entity::find()
                    .select_only()
                    .column(event::Column::Lane)
                    .column_as(event::Column::Id.min(), "first")
                    .filter(event::COLUMN.organization_id.eq(organization.clone()))
                    .filter(event::COLUMN.state.eq(MetaEventState::Waiting))
                    .filter(event::COLUMN.lane.is_in(lanes.iter().cloned()))
                    .filter(others)
                    .group_by(event::Column::Lane)
                    .into_tuple::<(String, MetaEventId)>();
                Box::pin(find.all(db))
            })
            .await?;
        Ok(found.into_iter().collect())
    }

    /// Lets go of some of what was taken under a token, until something before it had its time. It was not tried.
    pub async fn stand_behind(
        &self,
        organization: &OrganizationId,
        (claim, ids): (i64, Vec<MetaEventId>),
        wait: Duration,
    ) -> Result<(), Error> {
        let next_at = format!("{} + {}", nodes::time_in_sql(&self.store), wait.as_millis());
        self.store
            .writer()
            .run(organization.as_str(), Patience::Wait, move |txn| {
                let places: Vec<_> = (2..ids.len() + 2).map(|n| format!("${n}")).collect();
                let release = format!(
                    "UPDATE meta_event SET next_at = {next_at}, claim = NULL, claimed_by = NULL, \
                     lease_until = 0 WHERE claim = $1 AND state = 'waiting' AND id IN ({})",
                    places.join(", ")
                );
                let mut values: Vec<Value> = vec![claim.into()];
                values.extend(ids.iter().map(|id| Value::from(id.as_str())));
                Box::pin(async move {
                    let database = txn.get_database_backend();
                    let release = Statement::from_sql_and_values(database, release, values);
                    txn.execute_raw(release).await?;
                    Ok(())
                })
            })
            .await
    }
}
