//! How many streams and long polls one caller may have, of those that the daemon has.

use std::sync::{Arc, PoisonError, RwLock};

use entity::{
    id::{OrganizationId, TokenId},
    state::Role,
};

use crate::{
    http::{Limits, code::Code, problem::Problem},
    service::{
        Principal,
        counting::{Turn, UnderWay},
    },
};

/// Who has how many. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    most: Arc<RwLock<Most>>,
    by_token: UnderWay<TokenId>,
    by_organization: UnderWay<OrganizationId>,
}

#[derive(Clone, Copy, Debug)]
struct Most {
    per_token: usize,
    per_organization: usize,
}

/// One of them, until it is let go of.
#[derive(Debug)]
pub(crate) struct Stream {
    _of_token: Option<Turn<TokenId>>,
    _of_organization: Option<Turn<OrganizationId>>,
}

impl Most {
    const fn of(limits: &Limits) -> Self {
        Self {
            per_token: limits.streams_per_token,
            per_organization: limits.streams_per_organization,
        }
    }
}

impl Streams {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            most: Arc::new(RwLock::new(Most::of(limits))),
            by_token: UnderWay::default(),
            by_organization: UnderWay::default(),
        }
    }

    /// From now on these are the limits. Who has more keeps them.
    pub(super) fn set(&self, limits: &Limits) {
        *self.most.write().unwrap_or_else(PoisonError::into_inner) = Most::of(limits);
    }

    /// One more for this caller. An operator looks after organizations, and takes nothing of theirs.
    pub(crate) fn enter(&self, caller: &Principal) -> Result<Stream, Problem> {
        let most = *self.most.read().unwrap_or_else(PoisonError::into_inner);
        let refused = |limit| Problem::of(Code::StreamsOfCaller).with("limit", limit);
        let enter = |token| self.by_token.enter(token, most.per_token, usize::MAX);
        let of_token = caller.token_id.as_ref().map(|token| enter(token).ok_or("token"));
        let of_token = of_token.transpose().map_err(refused)?;
        let theirs = Some(&caller.organization_id).filter(|_| caller.role < Role::Operator);
        let enter = |whose| self.by_organization.enter(whose, most.per_organization, usize::MAX);
        let of_organization = theirs.map(|whose| enter(whose).ok_or("organization"));
        let of_organization = of_organization.transpose().map_err(refused)?;
        Ok(Stream { _of_token: of_token, _of_organization: of_organization })
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
            machine_user: None,
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
        assert!(streams.by_token.is_empty() && streams.by_organization.is_empty());
    }
}
