//! Campaigns: their names, and the sessions that they are sent from.

use entity::{
    campaign,
    id::{CampaignId, OrganizationId, SessionId, SessionKey, in_order},
    kind::AuditAction,
    session,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;

use super::{
    Error, Made, Store,
    audit::{self, By},
    idempotency::{Key, made_before, release},
    organizations,
    page::Page,
    sessions::is_there,
    writer::Patience,
};

/// A campaign to be made.
#[derive(Clone, Debug)]
pub struct NewCampaign {
    pub name: String,
    pub session_id: Option<SessionId>,
}

/// What became of a campaign to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    Made(Made<campaign::Model>),
    /// There is no such session.
    NoSession,
    /// The session has handed over to this one.
    Migrated(SessionKey),
}

/// What became of a campaign's session that was to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSession {
    Done(campaign::Model),
    NoCampaign,
    /// There is no such session.
    NoSession,
    /// The session has handed over to this one.
    Migrated(SessionKey),
    /// It is sent from another one.
    IsSet,
}

/// Which campaigns are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// To the letter.
    pub name: Option<String>,
    pub session_key: Option<SessionKey>,
}

/// Queries over campaigns.
#[derive(Clone, Debug)]
pub struct Campaigns {
    store: Store,
}

impl Campaigns {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes a campaign, once for each key.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewCampaign,
        key: Option<Key>,
        by: By,
    ) -> Result<Created, Error> {
        let now = self.store.clock().now();
        let row = campaign::Model {
            id: CampaignId::new(now, in_order(rand::random())),
            organization_id: organization.clone(),
            name: new.name,
            session_key: None,
            created_at: now,
            updated_at: now,
        };
        let work = (row, new.session_id, key, by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (mut row, session_id, key, by) = work.clone();
                Box::pin(async move {
                    let owner = row.organization_id.clone();
                    // Before the session is looked at, so that no handover comes in between.
                    organizations::lock(txn, &owner).await?;
                    let rows = |id| {
                        campaign::Entity::find()
                            .filter(campaign::COLUMN.organization_id.eq(owner.clone()))
                            .filter(campaign::COLUMN.id.eq(id))
                    };
                    let (key, id) = (key.as_ref(), row.id.to_string());
                    if let Some(made) = made_before(txn, &owner, key, &id, now, rows).await? {
                        return Ok(Created::Made(made));
                    }
                    if let Some(session_id) = &session_id {
                        let found = named(txn, &owner, session_id).await?;
                        let refused = match found {
                            None => Some(Created::NoSession),
                            Some(session::Model { migrated_to: Some(heir), .. }) => {
                                Some(Created::Migrated(heir))
                            }
                            Some(found) => {
                                row.session_key = Some(found.id);
                                None
                            }
                        };
                        if let Some(refused) = refused {
                            release(txn, &owner, &id).await?;
                            return Ok(refused);
                        }
                    }
                    campaign::Entity::insert(row.clone().into_active_model())
                        .exec_without_returning(txn)
                        .await?;
                    let what = (AuditAction::CampaignCreated, id.as_str());
                    let detail = json!({ "name": row.name, "sessionId": session_id });
                    audit::write(txn, &owner, &by, now, what, &detail).await?;
                    Ok(Created::Made(Made::New(row)))
                })
            })
            .await
    }

    /// Says from which session a campaign is sent, of which nobody has said that yet.
    pub async fn set_session(
        &self,
        organization: &OrganizationId,
        id: &CampaignId,
        session_id: SessionId,
        by: By,
    ) -> Result<SetSession, Error> {
        let now = self.store.clock().now();
        let work = (organization.clone(), id.clone(), session_id, by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (owner, id, session_id, by) = work.clone();
                Box::pin(async move {
                    // As when one is made.
                    organizations::lock(txn, &owner).await?;
                    let found = campaign::Entity::find_by_id(id.clone())
                        .filter(campaign::COLUMN.organization_id.eq(owner.clone()))
                        .one(txn)
                        .await?;
                    let Some(row) = found else { return Ok(SetSession::NoCampaign) };
                    let session = match named(txn, &owner, &session_id).await? {
                        None => return Ok(SetSession::NoSession),
                        Some(session::Model { migrated_to: Some(heir), .. }) => {
                            return Ok(SetSession::Migrated(heir));
                        }
                        Some(session) => session.id,
                    };
                    match &row.session_key {
                        Some(set) if *set == session => return Ok(SetSession::Done(row)),
                        Some(_) => return Ok(SetSession::IsSet),
                        None => {}
                    }
                    let mut row = row.into_active_model();
                    (row.session_key, row.updated_at) = (Set(Some(session)), Set(now));
                    let row = row.update(txn).await?;
                    let what = (AuditAction::CampaignChanged, id.as_str());
                    let detail = json!({ "sessionId": session_id });
                    audit::write(txn, &owner, &by, now, what, &detail).await?;
                    Ok(SetSession::Done(row))
                })
            })
            .await
    }

    /// Looks one campaign up.
    pub async fn find(
        &self,
        organization: &OrganizationId,
        id: &CampaignId,
    ) -> Result<Option<campaign::Model>, Error> {
        let found = campaign::Entity::find_by_id(id.clone())
            .filter(campaign::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// A page of an organization's campaigns, the oldest first.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        filter: &Filter,
        page: &Page<CampaignId>,
    ) -> Result<Vec<campaign::Model>, Error> {
        let mut query = campaign::Entity::find()
            .filter(campaign::COLUMN.organization_id.eq(organization.clone()))
            .order_by_asc(campaign::COLUMN.created_at)
            .order_by_asc(campaign::COLUMN.id)
            .limit(page.limit);
        if let Some(name) = &filter.name {
            query = query.filter(campaign::COLUMN.name.eq(name.as_str()));
        }
        if let Some(session) = &filter.session_key {
            query = query.filter(campaign::COLUMN.session_key.eq(session.clone()));
        }
        if let Some(after) = &page.after {
            let later = campaign::COLUMN.created_at.gt(after.at);
            let same_time = campaign::COLUMN.created_at.eq(after.at);
            let higher_id = campaign::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }
}

async fn named(
    txn: &DatabaseTransaction,
    owner: &OrganizationId,
    session_id: &SessionId,
) -> Result<Option<session::Model>, DbErr> {
    session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(owner.clone()))
        .filter(session::COLUMN.session_id.eq(session_id.clone()))
        .filter(is_there())
        .one(txn)
        .await
}
