//! Adding to an audience in bulk, and saying which message went to whom.

use std::collections::{BTreeMap, HashMap};

use entity::{
    UnixMillis, audience, campaign,
    id::{AudienceId, CampaignId, OrganizationId, SessionKey, in_order},
    kind::AuditAction,
    state::AudienceState,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use serde_json::json;

use super::{
    Audience, CHUNK, Counts,
    apply::{add, insert_all, write_all},
    member::judged,
    sent::called_by_meta,
};
use crate::store::{
    Error, Made, Patience,
    audit::{self, By},
    idempotency::{Key, reassign, said_before, unclaim},
    organizations,
    statuses::Statuses,
};

/// Somebody to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Digits.
    pub phone_number: String,
    pub name: Option<String>,
    /// The id of the message that was sent to them, if one was: Meta's, or our own.
    pub wa_id: Option<String>,
}

/// What came of adding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Who was not there before.
    pub added: u64,
    /// Whose message was not known before.
    pub attached: u64,
    /// Who was there as it is said.
    pub unchanged: u64,
}

impl Added {
    /// As it is kept with an idempotency key.
    fn said(self) -> String {
        let Self { added, attached, unchanged } = self;
        format!("{added} {attached} {unchanged}")
    }

    fn of(said: &str) -> Self {
        let mut numbers = said.split(' ').map(|it| it.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { added: next(), attached: next(), unchanged: next() }
    }
}

/// Why nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoCampaign,
    /// Nobody has said from which session it is sent.
    NoSession,
    /// The message of this one is another's, or of two of them.
    MessageTaken(usize),
    /// The message of this one is called by our id of it, and is none of the session's.
    NoMessage(usize),
}

impl Audience {
    /// Adds all of them, or none, once for each key. Who is there already is changed as far as something else is said.
    pub async fn add(
        &self,
        organization: &OrganizationId,
        campaign: &CampaignId,
        (members, key): (Vec<NewMember>, Option<Key>),
        by: By,
    ) -> Result<Result<Made<Added>, Refused>, Error> {
        let now = self.store.clock().now();
        let work = (organization.clone(), campaign.clone(), members, key, by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (organization, campaign, mut members, key, by) = work.clone();
                Box::pin(async move {
                    // As by everything that changes sums and statuses of the organization's.
                    organizations::lock(txn, &organization).await?;
                    let found = campaign::Entity::find_by_id(campaign.clone())
                        .filter(campaign::COLUMN.organization_id.eq(organization.clone()))
                        .one(txn)
                        .await?;
                    let Some(row) = found else { return Ok(Err(Refused::NoCampaign)) };
                    let session = row.session_key.as_ref();
                    if session.is_none() && members.iter().any(|it| it.wa_id.is_some()) {
                        return Ok(Err(Refused::NoSession));
                    }
                    match said_before(txn, &organization, key.as_ref(), "", now).await? {
                        None => {}
                        Some(before) => return Ok(Ok(before.map(|said| Added::of(&said)))),
                    }
                    if let Some(refused) = refused(txn, &campaign, session, &mut members).await? {
                        if let Some(key) = &key {
                            unclaim(txn, &organization, key).await?;
                        }
                        return Ok(Err(refused));
                    }
                    let added = add_all(txn, &row, &members, now).await?;
                    if let Some(key) = &key {
                        reassign(txn, &organization, key, &added.said()).await?;
                    }
                    let what = (AuditAction::CampaignAudienceAdded, campaign.as_str());
                    let detail = json!({ "added": added.added, "attached": added.attached });
                    audit::write(txn, &organization, &by, now, what, &detail).await?;
                    Ok(Ok(Made::New(added)))
                })
            })
            .await
    }
}

/// Why these are not added; else their messages are called by Meta's ids, as far as it has named them.
async fn refused(
    txn: &DatabaseTransaction,
    campaign: &CampaignId,
    session: Option<&SessionKey>,
    members: &mut [NewMember],
) -> Result<Option<Refused>, DbErr> {
    let Some(session) = session else { return Ok(None) };
    if let Some(n) = called_by_meta(txn, session, members).await? {
        return Ok(Some(Refused::NoMessage(n)));
    }
    Ok(taken(txn, campaign, session, members).await?.map(Refused::MessageTaken))
}

/// Whose message is another member's already, or another's of these.
async fn taken(
    txn: &DatabaseTransaction,
    campaign: &CampaignId,
    session: &SessionKey,
    members: &[NewMember],
) -> Result<Option<usize>, DbErr> {
    let mut whose = HashMap::<String, (Option<CampaignId>, String)>::new();
    let ids: Vec<&String> = members.iter().filter_map(|it| it.wa_id.as_ref()).collect();
    for chunk in ids.chunks(CHUNK) {
        let rows = audience::Entity::find()
            .filter(audience::COLUMN.session_key.eq(session.clone()))
            .filter(audience::COLUMN.wa_id.is_in(chunk.iter().map(|it| it.as_str())))
            .all(txn)
            .await?;
        for row in rows {
            let Some(wa_id) = row.wa_id else { continue };
            whose.insert(wa_id, (Some(row.campaign_id), row.phone_number));
        }
    }
    for (n, member) in members.iter().enumerate() {
        let Some(wa_id) = &member.wa_id else { continue };
        let mine = (Some(campaign.clone()), member.phone_number.clone());
        if *whose.entry(wa_id.clone()).or_insert_with(|| mine.clone()) != mine {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

async fn add_all(
    txn: &DatabaseTransaction,
    row: &campaign::Model,
    members: &[NewMember],
    now: UnixMillis,
) -> Result<Added, DbErr> {
    let mut known = HashMap::<String, audience::Model>::new();
    for chunk in members.chunks(CHUNK) {
        let rows = audience::Entity::find()
            .filter(audience::COLUMN.campaign_id.eq(row.id.clone()))
            .filter(
                audience::COLUMN
                    .phone_number
                    .is_in(chunk.iter().map(|it| it.phone_number.as_str())),
            )
            .all(txn)
            .await?;
        known.extend(rows.into_iter().map(|it| (it.phone_number.clone(), it)));
    }
    let told = told(txn, row, members).await?;
    let (mut done, mut sums) = (Added::default(), Counts::default());
    // Each as it is in the end, should it be named twice.
    let (mut new, mut changed) = (BTreeMap::new(), BTreeMap::new());
    for member in members {
        let before = known.get(&member.phone_number).cloned();
        let is_new = before.is_none();
        let mut after = before.clone().unwrap_or_else(|| fresh(row, member, now));
        after.name = member.name.clone().or(after.name);
        let is_attached = member.wa_id.is_some() && member.wa_id != after.wa_id;
        if is_attached {
            (after.session_key, after.wa_id) = (row.session_key.clone(), member.wa_id.clone());
            let statuses = after.wa_id.as_ref().and_then(|wa_id| told.get(wa_id));
            after = judged(&after, statuses.unwrap_or(&Statuses::default()));
            done.attached += 1;
        }
        let counted = before.as_ref().map(Counts::of).unwrap_or_default();
        sums = sums.plus(Counts::of(&after).minus(counted));
        if is_new {
            done.added += 1;
            new.insert(after.id.clone(), after.clone());
        } else if before.as_ref() == Some(&after) {
            done.unchanged += 1;
        } else if let Some(waiting) = new.get_mut(&after.id) {
            *waiting = after.clone();
        } else {
            changed.insert(after.id.clone(), after.clone());
        }
        known.insert(member.phone_number.clone(), after);
    }
    write_all(txn, changed.into_values().collect(), now).await?;
    insert_all(txn, new.into_values().collect()).await?;
    add(txn, (&row.organization_id, &row.id), sums, now).await?;
    Ok(done)
}

/// What was told of their messages before anybody said whose they are.
async fn told(
    txn: &DatabaseTransaction,
    row: &campaign::Model,
    members: &[NewMember],
) -> Result<HashMap<String, Statuses>, DbErr> {
    let mut told = HashMap::new();
    let Some(session) = &row.session_key else { return Ok(told) };
    let ids: Vec<&str> = members.iter().filter_map(|it| it.wa_id.as_deref()).collect();
    for chunk in ids.chunks(CHUNK) {
        told.extend(Statuses::of_all(txn, session, chunk).await?);
    }
    Ok(told)
}

fn fresh(row: &campaign::Model, member: &NewMember, now: UnixMillis) -> audience::Model {
    audience::Model {
        id: AudienceId::new(now, in_order(rand::random())),
        organization_id: row.organization_id.clone(),
        campaign_id: row.id.clone(),
        phone_number: member.phone_number.clone(),
        name: None,
        session_key: None,
        wa_id: None,
        state: AudienceState::Pending,
        reached: 0,
        is_failed: false,
        error: None,
        sent_at: None,
        delivered_at: None,
        read_at: None,
        played_at: None,
        failed_at: None,
        created_at: now,
        updated_at: now,
    }
}
