//! Webhook endpoints of an organization, and what was and is to be sent to them.
//!
//! `input.rs`, `limits.rs`: what an endpoint may be like. `log.rs`: deliveries. `replay.rs`: sending a
//! range again.

mod input;
pub mod limits;
mod log;
mod replay;

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{EndpointId, EventId, OrganizationId},
    state::Role,
    webhook::{
        endpoint, event, gap, health, secret,
        state::{EndpointState, Format},
    },
};

use super::{Conflict, Error, Principal, Thing, counting::UnderWay, created, text};
use crate::{
    delivery::{Client, Deliveries, Reply},
    store::{
        Patience, Store,
        idempotency::Key,
        webhooks::{EndpointChange, Making, NewEndpoint, Resumed},
    },
    webhook::{EventType, SigningSecret, catalogue},
};

pub use self::{
    input::EndpointInput,
    log::{Detail, Query, Tries},
    replay::Range,
};
pub use crate::store::webhooks::{EndpointFilter, Figures};

/// Endpoints that an organization can have.
const MOST: u64 = 500;

/// Tests of one organization's endpoints at a time. Each waits for a receiver, as long as that takes.
const MOST_TESTS: usize = 3;

/// For how long an old secret is good beside its successor, if nobody says.
pub const OVERLAP: Duration = Duration::from_hours(24);

/// The same, at most.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// An endpoint, with what is known of it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub row: endpoint::Model,
    pub health: Option<health::Model>,
}

/// An endpoint in every detail.
#[derive(Clone, Debug)]
pub struct EndpointDetail {
    pub endpoint: Endpoint,
    /// Each with what its owner can tell it by.
    pub secrets: Vec<(secret::Model, Option<String>)>,
    pub gaps: Vec<gap::Model>,
}

/// An endpoint that was made, with its secret: it is shown this once.
#[derive(Clone, Debug)]
pub struct Created {
    pub row: endpoint::Model,
    /// None if it was there before.
    pub secret: Option<SigningSecret>,
    /// An earlier request with the same key has made it.
    pub replayed: bool,
    /// It was disabled, and is called again: what it has missed.
    pub missed: Option<gap::Model>,
}

/// A test, and what came back.
#[derive(Clone, Debug)]
pub struct Tested {
    pub event_id: EventId,
    pub event_type: EventType,
    pub reply: Reply,
}

/// Webhooks, as far as a caller may see and change them.
#[derive(Clone, Debug)]
pub struct Webhooks {
    store: Store,
    deliveries: Deliveries,
    /// How long a delivery is tried at most.
    max_age: Duration,
    trials: UnderWay<OrganizationId>,
}

impl Webhooks {
    pub fn new(store: Store, deliveries: Deliveries, max_age: Duration) -> Self {
        Self { store, deliveries, max_age, trials: UnderWay::default() }
    }

    /// What time it is.
    pub fn now(&self) -> UnixMillis {
        self.store.clock().now()
    }

    fn client(&self) -> &Client {
        self.deliveries.client()
    }

    /// Makes an endpoint that is told of one phone number's messages, as flat objects. Asked again for the
    /// same number and URL, at whatever time, it is the same endpoint, with `max_retries` if they are said (none within: as many
    /// as fit); one that was disabled is called again.
    pub async fn register(
        &self,
        caller: &Principal,
        phone_number: String,
        url: String,
        max_retries: Option<Option<i64>>,
        key: Option<String>,
    ) -> Result<Created, Error> {
        caller.require(Role::Manager)?;
        let input = EndpointInput {
            url: Some(url),
            format: Some(Format::Flat),
            event_types: Some(vec![EventType::MessageReceived.name().to_owned()]),
            phone_numbers: Some(vec![phone_number]),
            max_retries,
            ..EndpointInput::default()
        };
        let key = self.key(caller, key, "registration", &input).await?;
        let new =
            input.create(self.client(), self.max_age, ("webhook_url", "phone_number")).await?;
        let wanted = max_retries.is_some().then_some(new.max_retries);
        let mut row = match self.make(caller, new, key, true).await? {
            (Making::There(row), _) => row,
            made => return made_of(made),
        };
        let (webhooks, organization) = (self.store.webhooks(), &caller.organization_id);
        if wanted.is_some_and(|wanted| wanted != row.max_retries) {
            let change = EndpointChange { max_retries: wanted, ..EndpointChange::default() };
            let changed = webhooks.update(organization, &row.id, change, caller.by()).await?;
            row = changed.ok_or(NOT_FOUND)?;
        }
        let mut missed = None;
        // Whoever registers wants to be told from now on. That one is paused was somebody's wish.
        if row.state == EndpointState::Disabled {
            let (detail, gap) = self.resume(caller, &row.id).await?;
            (row, missed) = (detail.endpoint.row, gap);
        }
        Ok(Created { row, secret: None, replayed: false, missed })
    }

    /// Makes an endpoint. Once for each key.
    pub async fn create(
        &self,
        caller: &Principal,
        input: EndpointInput,
        key: Option<String>,
    ) -> Result<Created, Error> {
        caller.require(Role::Manager)?;
        let key = self.key(caller, key, "webhook", &input).await?;
        let new = input.create(self.client(), self.max_age, ("url", "phone_numbers")).await?;
        made_of(self.make(caller, new, key, false).await?)
    }

    async fn make(
        &self,
        caller: &Principal,
        new: NewEndpoint,
        key: Option<Key>,
        once: bool,
    ) -> Result<(Making, SigningSecret), Error> {
        let secret = SigningSecret::generate();
        let organization = &caller.organization_id;
        let webhooks = self.store.webhooks();
        let by = (key, caller.by());
        Ok((webhooks.create(organization, new, &secret, MOST, once, by).await?, secret))
    }

    /// The caller's key, with the request in short. What is kept of the request is signed and not only hashed:
    /// values of headers may be secret, and some can be guessed.
    async fn key(
        &self,
        caller: &Principal,
        key: Option<String>,
        kind: &str,
        input: &EndpointInput,
    ) -> Result<Option<Key>, Error> {
        let Some(key) = key else { return Ok(None) };
        let request = serde_json::to_string(&(kind, input)).unwrap_or_default();
        let sealer = self.store.sealer(&caller.organization_id, Patience::Fail).await?;
        let fingerprint = text::hex(&sealer.sign("idempotency", request.as_bytes()));
        Ok(Some(Key { key, fingerprint }))
    }

    /// An organization's endpoints, the oldest first; one more than `limit` if there are.
    pub async fn list(
        &self,
        caller: &Principal,
        filter: EndpointFilter,
        after: Option<EndpointId>,
        limit: u64,
    ) -> Result<Vec<Endpoint>, Error> {
        caller.require(Role::Viewer)?;
        let webhooks = self.store.webhooks();
        let rows = webhooks.list(&caller.organization_id, filter, after.as_ref(), limit).await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        let health = webhooks.healths(&ids).await?;
        let of = |row: &endpoint::Model| health.iter().find(|it| it.endpoint_id == row.id).cloned();
        Ok(rows.into_iter().map(|row| Endpoint { health: of(&row), row }).collect())
    }

    /// Looks one endpoint up.
    pub async fn find(&self, caller: &Principal, id: &EndpointId) -> Result<EndpointDetail, Error> {
        caller.require(Role::Viewer)?;
        let webhooks = self.store.webhooks();
        let row = self.row(caller, id).await?;
        let health = webhooks.healths(std::slice::from_ref(id)).await?.pop();
        let secrets = webhooks.known_secrets(&caller.organization_id, id).await?;
        let gaps = webhooks.gaps(id).await?;
        Ok(EndpointDetail { endpoint: Endpoint { row, health }, secrets, gaps })
    }

    async fn row(&self, caller: &Principal, id: &EndpointId) -> Result<endpoint::Model, Error> {
        let found = self.store.webhooks().find(&caller.organization_id, id).await?;
        found.ok_or(NOT_FOUND)
    }

    /// Changes what is given of an endpoint.
    pub async fn update(
        &self,
        caller: &Principal,
        id: &EndpointId,
        input: EndpointInput,
    ) -> Result<EndpointDetail, Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        let change = input.change(&row, self.client(), self.max_age).await?;
        let webhooks = self.store.webhooks();
        let organization = &caller.organization_id;
        let updated = webhooks.update(organization, id, change, caller.by()).await?;
        updated.ok_or(NOT_FOUND)?;
        self.find(caller, id).await
    }

    /// Stops calling an endpoint; what happens meanwhile waits for it.
    pub async fn pause(
        &self,
        caller: &Principal,
        id: &EndpointId,
    ) -> Result<EndpointDetail, Error> {
        caller.require(Role::Manager)?;
        let webhooks = self.store.webhooks();
        let paused = webhooks.pause(&caller.organization_id, id, caller.by()).await?;
        if paused.ok_or(NOT_FOUND)?.state == EndpointState::Disabled {
            return Err(Error::Conflict(Conflict::WebhookDisabled));
        }
        self.find(caller, id).await
    }

    /// Has an endpoint called again, whether it was paused or disabled, with what it has missed.
    pub async fn resume(
        &self,
        caller: &Principal,
        id: &EndpointId,
    ) -> Result<(EndpointDetail, Option<gap::Model>), Error> {
        caller.require(Role::Manager)?;
        let webhooks = self.store.webhooks();
        let gap = match webhooks.resume(&caller.organization_id, id, caller.by()).await? {
            Resumed::NotFound => return Err(NOT_FOUND),
            Resumed::Unchanged => None,
            Resumed::Resumed { gap } => gap,
        };
        Ok((self.find(caller, id).await?, gap))
    }

    /// Deletes an endpoint. What it was still owed is cancelled.
    pub async fn delete(&self, caller: &Principal, id: &EndpointId) -> Result<(), Error> {
        caller.require(Role::Manager)?;
        let webhooks = self.store.webhooks();
        let deleted = webhooks.delete(&caller.organization_id, id, caller.by()).await?;
        if deleted { Ok(()) } else { Err(NOT_FOUND) }
    }

    /// Gives an endpoint a new secret, and says when the old ones cease to sign.
    pub async fn rotate(
        &self,
        caller: &Principal,
        id: &EndpointId,
        overlap: Duration,
        key: Option<String>,
    ) -> Result<(Option<SigningSecret>, UnixMillis), Error> {
        caller.require(Role::Manager)?;
        let secret = SigningSecret::generate();
        let organization = &caller.organization_id;
        let seconds = overlap.as_secs().to_string();
        let key = key.map(|key| created::key(key, &["webhook.secret", id.as_str(), &seconds]));
        let webhooks = self.store.webhooks();
        let rotated = webhooks.rotate(organization, id, (&secret, overlap), key, caller.by());
        let rotated = rotated.await?.ok_or(NOT_FOUND)?;
        let created::Created { made: until, replayed } = rotated.try_into()?;
        Ok((Some(secret).filter(|_| !replayed), until))
    }

    /// Sends an example to an endpoint here and now, whatever state it is in.
    pub async fn test(
        &self,
        caller: &Principal,
        id: &EndpointId,
        kind: Option<EventType>,
    ) -> Result<Tested, Error> {
        caller.require(Role::Manager)?;
        self.row(caller, id).await?;
        let target = self.store.webhooks().target(id).await?.ok_or(NOT_FOUND)?;
        let kind = kind.unwrap_or(EventType::MessageReceived);
        if target.row.format == Format::Flat && !kind.is_message() {
            return Err(Error::invalid(
                "type",
                "must be a message for an endpoint in `flat` format",
            ));
        }
        let now = self.store.clock().now();
        let event = event::Model {
            id: EventId::new(now, rand::random()),
            organization_id: caller.organization_id.clone(),
            seq: 0,
            event_type: kind.name().to_owned(),
            session_key: None,
            session_id: Some("example".to_owned()),
            conversation: String::new(),
            payload: catalogue::example(kind).to_string(),
            occurred_at: now,
            in_feed: false,
        };
        let turn = self.trials.enter(&caller.organization_id, MOST_TESTS, usize::MAX);
        let _turn = turn.ok_or(Error::TooManyTests)?;
        let reply = self.deliveries.try_out(&target, &event).await;
        Ok(Tested { event_id: event.id, event_type: kind, reply })
    }
}

const NOT_FOUND: Error = Error::NotFound(Thing::Webhook);

/// What was made, and is shown with its secret this once.
fn made_of((made, secret): (Making, SigningSecret)) -> Result<Created, Error> {
    let (row, secret, replayed) = match made {
        Making::Full => return Err(Error::Conflict(Conflict::TooManyWebhooks)),
        Making::There(row) => (row, None, false),
        Making::Made(made) => {
            let created::Created { made: row, replayed } = made.try_into()?;
            (row, (!replayed).then_some(secret), replayed)
        }
    };
    Ok(Created { row, secret, replayed, missed: None })
}
