//! Taking a message that is to be sent: its row, its conversation and its place in the queue, in one transaction.

use entity::{
    id::{MessageId, MetaAccountId, OrganizationId},
    kind::MessageKind,
    message,
    meta::{account, outbox, state::MetaStatus},
    session,
    state::{Direction, MessageStatus},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter};

use super::super::{
    Meta,
    carry::{Door, of_account, own},
};
use crate::{
    event::message_key,
    store::{
        Error, Made, Patience,
        contacts::{self, Heard, Person, Told},
        idempotency::{Key, made_before, unclaim},
        organizations, secrets,
        sessions::of_one_that_is_there,
    },
};

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct NewOutgoing {
    pub id: MessageId,
    pub account: MetaAccountId,
    pub to: Person,
    pub kind: MessageKind,
    pub body: Option<String>,
    /// Meta's id of the message that it answers. Why that is not known counts for who asks for the first time.
    pub target: Result<Option<String>, NotAnswered>,
    /// What Meta is to be asked: JSON. It is sealed here.
    pub request: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queued {
    Done(Box<(Made<message::Model>, session::Model)>),
    KeyReused,
    /// The same request has queued it before, and it is gone.
    Lost,
    /// There is no such account.
    Gone,
    Not(NotSending),
    NotAnswered(NotAnswered),
}

/// Why a message cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    #[error("is no message of this account")]
    NotThere,
    #[error("is a message that Meta does not have")]
    NotAtMeta,
}

/// Why an account sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSending {
    Disabled,
    /// It has no access token.
    NoToken,
}

impl Meta {
    /// Takes a message that is to be sent, once for each key.
    pub async fn queue(
        &self,
        organization: &OrganizationId,
        new: NewOutgoing,
        key: Option<Key>,
    ) -> Result<Queued, Error> {
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let (now, known) = (self.store.clock().now(), self.store.writer().known().clone());
        let lane = organization.to_string();
        let owner = organization.clone();
        let unit = self.store.writer().run(&lane, Patience::Fail, move |txn| {
            let (owner, new, key) = (owner.clone(), new.clone(), key.clone());
            let (sealer, known) = (sealer.clone(), known.clone());
            Box::pin(async move {
                // As whoever carries out what Meta told: who somebody is, is decided by one at a time.
                organizations::lock(txn, &owner).await?;
                let mut door = Door::new(txn, &sealer, &known, now);
                let queued = take(&mut door, &owner, new, key.as_ref()).await?;
                Ok((queued, door.touched))
            })
        });
        let (queued, touched) = unit.await?;
        self.store.webhooks().touch(touched);
        self.store.writer().ring();
        Ok(queued)
    }
}

async fn take(
    door: &mut Door<'_>,
    owner: &OrganizationId,
    new: NewOutgoing,
    key: Option<&Key>,
) -> Result<Queued, DbErr> {
    let (txn, now) = (door.txn, door.now);
    let of = |id: String| {
        message::Entity::find()
            .filter(message::COLUMN.organization_id.eq(owner.clone()))
            .filter(message::COLUMN.id.eq(id))
            .filter(of_one_that_is_there("message"))
    };
    match made_before(txn, owner, key, new.id.as_str(), now, of).await? {
        None => {}
        Some(Made::Before(row) | Made::New(row)) => {
            let session = session::Entity::find_by_id(row.session_key.clone()).one(txn).await?;
            return Ok(session.map_or(Queued::Lost, |session| {
                Queued::Done(Box::new((Made::Before(row), session)))
            }));
        }
        Some(Made::KeyReused) => return Ok(Queued::KeyReused),
        Some(Made::Gone) => return Ok(Queued::Lost),
    }
    let ready = match &new.target {
        Ok(target) => {
            let account = sending(txn, owner, &new.account).await?;
            account.map(|account| (account, target.clone()))
        }
        Err(why) => Err(Queued::NotAnswered(*why)),
    };
    let (account, target) = match ready {
        Ok(ready) => ready,
        Err(refused) => {
            if let Some(key) = key {
                unclaim(txn, owner, key).await?;
            }
            return Ok(refused);
        }
    };
    let session = of_account(door, &account, own(&account).as_deref()).await?;
    let row = written(door, &session, &new, target).await?;
    let place = outbox::Model {
        message_id: row.id.clone(),
        organization_id: owner.clone(),
        account_id: account.id,
        session_key: session.id.clone(),
        chat: row.chat.clone(),
        attempts: 0,
        next_at: entity::UnixMillis(0),
        claim: None,
        claimed_by: None,
        lease_until: entity::UnixMillis(0),
        created_at: now,
    };
    outbox::Entity::insert(place.into_active_model()).exec_without_returning(txn).await?;
    Ok(Queued::Done(Box::new((Made::New(row), session))))
}

/// The account, if it sends.
async fn sending(
    txn: &DatabaseTransaction,
    owner: &OrganizationId,
    id: &MetaAccountId,
) -> Result<Result<account::Model, Queued>, DbErr> {
    let found = account::Entity::find_by_id(id.clone())
        .filter(account::COLUMN.organization_id.eq(owner.clone()))
        .one(txn)
        .await?;
    Ok(match found {
        None => Err(Queued::Gone),
        Some(row) if row.status == MetaStatus::Disabled => Err(Queued::Not(NotSending::Disabled)),
        Some(row) if row.access_token.is_none() => Err(Queued::Not(NotSending::NoToken)),
        Some(row) => Ok(row),
    })
}

async fn written(
    door: &Door<'_>,
    session: &session::Model,
    new: &NewOutgoing,
    target: Option<String>,
) -> Result<message::Model, DbErr> {
    let (txn, now, organization) = (door.txn, door.now, &session.organization_id);
    let mut person = new.to.clone();
    let told = Told { organization, waba: None, at: now };
    let contact = contacts::resolve(txn, told, &mut person, now).await?;
    let heard = Heard {
        organization,
        session: &session.id,
        group: None,
        contact: contact.as_ref(),
        person: &person,
        at: now,
        is_inbound: false,
    };
    let chat = contacts::heard(txn, heard, now).await?;
    let sender = session.account_jid.clone().unwrap_or_default();
    // Our own id stands in for Meta's until that is known.
    let key = message_key(&chat, &sender, new.id.as_str());
    let raw = secrets::seal_raw(door.sealer, &session.id, &key, &new.request);
    let row = message::Model {
        id: new.id.clone(),
        organization_id: organization.clone(),
        session_key: session.id.clone(),
        dedupe_key: key,
        wa_id: new.id.to_string(),
        chat,
        sender,
        recipient: None,
        direction: Direction::Outbound,
        kind: new.kind,
        body: new.body.clone(),
        target_wa_id: target,
        interaction: None,
        raw: Some(raw),
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
    };
    message::Entity::insert(row.clone().into_active_model()).exec_without_returning(txn).await?;
    Ok(row)
}
