//! Who has handed over to whom.

use std::collections::HashMap;

use entity::{
    id::{OrganizationId, SessionId, SessionKey},
    session,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Sessions, is_there};
use crate::store::Error;

/// Sessions that a view names, at most: the last that have handed over.
const MOST_SHOWN: u64 = 100;

impl Sessions {
    /// The session that this one has handed over to, by its name.
    pub async fn heir(&self, row: &session::Model) -> Result<Option<SessionId>, Error> {
        let Some(heir) = &row.migrated_to else { return Ok(None) };
        let names = self.names(&row.organization_id, vec![heir.clone()]).await?;
        Ok(names.into_values().next())
    }

    /// Those that have handed over to this session, the last first.
    pub async fn migrated_from(&self, key: &SessionKey) -> Result<Vec<SessionId>, Error> {
        let names = session::Entity::find()
            .select_only()
            .column(session::Column::SessionId)
            .filter(session::COLUMN.migrated_to.eq(key.clone()))
            .order_by_desc(session::COLUMN.migrated_at)
            .order_by_asc(session::COLUMN.session_id)
            .limit(MOST_SHOWN)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(names)
    }

    /// The same of every session of an organization that has any.
    pub async fn migrated_in(
        &self,
        organization: &OrganizationId,
    ) -> Result<HashMap<SessionKey, Vec<SessionId>>, Error> {
        let rows: Vec<(Option<SessionKey>, SessionId)> = session::Entity::find()
            .select_only()
            .column(session::Column::MigratedTo)
            .column(session::Column::SessionId)
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(session::COLUMN.migrated_to.is_not_null())
            .order_by_desc(session::COLUMN.migrated_at)
            .order_by_asc(session::COLUMN.session_id)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let mut by_heir: HashMap<_, Vec<SessionId>> = HashMap::new();
        for (heir, id) in rows.into_iter().filter_map(|(heir, id)| Some((heir?, id))) {
            by_heir.entry(heir).or_default().push(id);
        }
        Ok(by_heir)
    }

    /// The keys of sessions by their names. What is not there is missing.
    pub async fn keys(
        &self,
        organization: &OrganizationId,
        ids: &[SessionId],
    ) -> Result<Vec<(SessionId, SessionKey)>, Error> {
        let keys = session::Entity::find()
            .select_only()
            .column(session::Column::SessionId)
            .column(session::Column::Id)
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(session::COLUMN.session_id.is_in(ids.iter().cloned()))
            .filter(is_there())
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(keys)
    }
}
