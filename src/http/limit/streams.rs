//! How many streams and long polls one caller may have, of those that the daemon has.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use entity::{
    id::{OrganizationId, TokenId},
    state::Role,
};

use crate::{
    http::{Limits, code::Code, problem::Problem},
    service::Principal,
};

/// Who has how many. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    per_token: usize,
    per_organization: usize,
    /// Only of those who have some.
    by_token: HashMap<TokenId, usize>,
    by_organization: HashMap<OrganizationId, usize>,
}

/// One of them, until it is let go of.
#[derive(Debug)]
pub(crate) struct Stream {
    streams: Streams,
    token: Option<TokenId>,
    organization: Option<OrganizationId>,
}

impl Streams {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            per_token: limits.streams_per_token,
            per_organization: limits.streams_per_organization,
            by_token: HashMap::new(),
            by_organization: HashMap::new(),
        })))
    }

    /// From now on these are the limits. Who has more keeps them.
    pub(super) fn set(&self, limits: &Limits) {
        let mut inner = self.inner();
        inner.per_token = limits.streams_per_token;
        inner.per_organization = limits.streams_per_organization;
    }

    /// One more for this caller. An operator looks after organizations, and takes nothing of theirs.
    pub(crate) fn enter(&self, caller: &Principal) -> Result<Stream, Problem> {
        let token = caller.token_id.clone();
        let is_theirs = caller.role < Role::Operator;
        let organization = is_theirs.then(|| caller.organization_id.clone());
        let mut inner = self.inner();
        let (per_token, per_organization) = (inner.per_token, inner.per_organization);
        let refused = if is_full(&inner.by_token, token.as_ref(), per_token) {
            Some("token")
        } else if is_full(&inner.by_organization, organization.as_ref(), per_organization) {
            Some("organization")
        } else {
            None
        };
        if let Some(limit) = refused {
            return Err(Problem::of(Code::StreamsOfCaller).with("limit", limit));
        }
        if let Some(token) = token.clone() {
            *inner.by_token.entry(token).or_default() += 1;
        }
        if let Some(organization) = organization.clone() {
            *inner.by_organization.entry(organization).or_default() += 1;
        }
        Ok(Stream { streams: self.clone(), token, organization })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.streams.inner();
        leave(&mut inner.by_token, self.token.as_ref());
        leave(&mut inner.by_organization, self.organization.as_ref());
    }
}

fn is_full<K: Eq + Hash>(all: &HashMap<K, usize>, who: Option<&K>, most: usize) -> bool {
    who.and_then(|who| all.get(who)).is_some_and(|count| *count >= most)
}

fn leave<K: Eq + Hash>(all: &mut HashMap<K, usize>, who: Option<&K>) {
    let Some(who) = who else { return };
    if let Some(count) = all.get_mut(who) {
        *count -= 1;
        if *count == 0 {
            all.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;

    fn caller(token: u128, organization: u128, role: Role) -> Principal {
        let now = UnixMillis(0);
        Principal {
            organization_id: OrganizationId::new(now, organization),
            token_id: Some(TokenId::new(now, token)),
            role,
            address: None,
        }
    }

    #[test]
    fn a_token_and_an_organization_have_so_many_and_what_is_let_go_of_is_there_again() {
        let limits =
            Limits { streams_per_token: 2, streams_per_organization: 3, ..Limits::default() };
        let streams = Streams::new(&limits);
        let refused =
            |who: &Principal| streams.enter(who).err().map(|it| it.members["limit"].clone());
        let (one, two) = (caller(1, 1, Role::Viewer), caller(2, 1, Role::Admin));
        let mut held = vec![streams.enter(&one).unwrap(), streams.enter(&one).unwrap()];
        assert_eq!(refused(&one), Some("token".into()));
        held.push(streams.enter(&two).unwrap());
        assert_eq!(refused(&two), Some("organization".into()));
        // Others have theirs, and an operator takes nobody's.
        held.push(streams.enter(&caller(3, 2, Role::Viewer)).unwrap());
        let operator = caller(4, 1, Role::Operator);
        held.extend([streams.enter(&operator).unwrap(), streams.enter(&operator).unwrap()]);
        assert_eq!(refused(&operator), Some("token".into()));
        held.remove(0);
        held.push(streams.enter(&two).unwrap());
        assert!(refused(&two).is_some());
        streams.set(&Limits { streams_per_token: 9, streams_per_organization: 9, ..limits });
        assert_eq!(refused(&two), None);
        drop(held);
        let inner = streams.inner();
        assert!(inner.by_token.is_empty() && inner.by_organization.is_empty());
    }
}
