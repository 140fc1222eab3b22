//! Meta asks whether an address is ours: who can say the verify token back has set it up.

use std::net::IpAddr;

use entity::{
    kind::AuditAction,
    meta::{account, state::MetaStatus},
};
use ring::digest;
use serde_json::json;

use super::{Door, Meta, Refusal, input::limits};
use crate::{
    service::Error,
    store::{
        audit::By,
        meta::{Put, Putting},
    },
};

/// The longest challenge that is said back.
const LONGEST: usize = 256;

/// How often a change is tried again because somebody else was faster.
const TRIES: usize = 8;

impl Meta {
    /// Judges a challenge: what to say back. `door` is the address that it came to.
    ///
    /// Whatever is wrong with it, it is one refusal.
    pub async fn challenge(
        &self,
        door: &Door,
        (mode, token, challenge): (&str, &str, &str),
        address: Option<IpAddr>,
    ) -> Result<String, Error> {
        let is_challenge = (1..=LONGEST).contains(&challenge.len())
            && challenge.bytes().all(|it| it.is_ascii_graphic());
        let is_token = (1..=*limits::SECRET.end()).contains(&token.len());
        if mode != "subscribe" || !is_challenge || !is_token {
            return Err(Refusal::Challenge.into());
        }
        let hash = self.verify_hash(token).await?;
        let mut is_known = false;
        for row in self.challenged(door, &hash).await? {
            if row.status != MetaStatus::Disabled && self.missing(&row).is_empty() {
                is_known = true;
                self.verified(row, address).await?;
            }
        }
        if is_known || self.is_default(door, token) {
            Ok(challenge.to_owned())
        } else {
            Err(Refusal::Challenge.into())
        }
    }

    /// The accounts that this token verifies.
    async fn challenged(&self, door: &Door, hash: &str) -> Result<Vec<account::Model>, Error> {
        match door {
            Door::Shared => Ok(self.store.meta().with_verify_token(hash).await?),
            // Both are hashes under a key of ours: what their comparison takes tells nothing.
            Door::Own(row) if row.verify_hash == hash => Ok(vec![row.as_ref().clone()]),
            Door::Own(_) | Door::Nobody => Ok(Vec::new()),
        }
    }

    /// Whether it is the installation's own token, on an address that many share.
    fn is_default(&self, door: &Door, token: &str) -> bool {
        let Some(default) = &self.options.default_verify_token else { return false };
        let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        // Compared by their hashes, so how much of it is right cannot be timed.
        matches!(door, Door::Shared) && hash(default.expose()).as_ref() == hash(token).as_ref()
    }

    /// Notes that Meta has shown an account's token.
    async fn verified(
        &self,
        mut row: account::Model,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let now = self.now();
            let seen = row.version;
            let is_news = row.status == MetaStatus::Unverified;
            let mut verified = row.clone();
            verified.status = MetaStatus::Verified;
            verified.last_verified_at = Some(now);
            verified.updated_at = now;
            let putting = Putting {
                is_complete: self.missing(&row).is_empty(),
                detail: json!({ "phoneNumberId": row.phone_number_id }),
                row: verified,
                seen: Some(seen),
                most: u64::MAX,
                key: None,
                by: By { address, ..By::default() },
                action: is_news.then_some(AuditAction::MetaAccountVerified),
            };
            if self.store.meta().put(putting).await? != Put::Raced {
                return Ok(());
            }
            let again = self.store.meta().account(&row.organization_id, &row.id).await?;
            // Another token, or off, meanwhile: what was shown verifies nothing any more.
            match again {
                Some(again)
                    if again.verify_hash == row.verify_hash
                        && again.status != MetaStatus::Disabled =>
                {
                    row = again;
                }
                _ => return Err(Refusal::Challenge.into()),
            }
        }
        Err(super::accounts::CROWDED)
    }
}
