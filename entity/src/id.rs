//! Typed identifiers: `evt_…` can never be passed where `org_…` is wanted.
//!
//! Ours are a prefix and a ULID, so they sort by the time they were made. [`SessionId`] is the one
//! that comes from outside: callers choose it.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::UnixMillis;

/// Randomness for an identifier that shall sort after all that this process made before it.
///
/// Also within one millisecond: 40 bits that count, 40 bits of `random` that nobody can guess or
/// meet again after a restart.
pub fn in_order(random: u64) -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    const LOW: u64 = (1 << 40) - 1;

    let count = COUNT.fetch_add(1, Ordering::Relaxed) & LOW;
    u128::from(count) << 40 | u128::from(random & LOW)
}

/// The text is not an identifier of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Another kind's prefix, or none.
    #[error("expected an identifier starting with `{0}`")]
    Prefix(&'static str),
    /// The part after the prefix is not a ULID.
    #[error("expected 26 characters of Crockford base 32 after `{0}`")]
    Ulid(&'static str),
    /// Not acceptable as a session's id.
    #[error(
        "a session id is 1 to 64 letters, digits, `_`, `.`, `:` or `-`, starts with a letter or a \
         digit, and is not a reserved word"
    )]
    SessionId,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What every identifier of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a new identifier: the time, then 80 random bits.
            ///
            /// `random` is consumed modulo 2^80, ULID's share of randomness.
            pub fn new(now: UnixMillis, random: u128) -> Self {
                let millis = u64::try_from(now.0).unwrap_or(0);
                Self(format!(concat!($prefix, "{}"), Ulid::from_parts(millis, random)))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let rest = text.strip_prefix($prefix).ok_or(ParseIdError::Prefix($prefix))?;
                // Canonical text only: two spellings of one id would be two keys.
                match Ulid::from_string(rest) {
                    Ok(ulid) if ulid.to_string() == rest => Ok(Self(text.to_owned())),
                    _ => Err(ParseIdError::Ulid($prefix)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
                })
            }
        }

        // SeaORM wants this of every primary key; a text key never comes from a number.
        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    };
}

id!(
    /// A tenant.
    OrganizationId, "org_"
);
id!(
    /// A bearer token's row. Not the secret.
    TokenId, "tok_"
);
id!(
    /// A session's row: ours, globally unique, what other tables refer to.
    ///
    /// What callers call the session is its [`SessionId`], unique within an organization only.
    SessionKey, "ses_"
);
id!(
    /// Something that happened.
    EventId, "evt_"
);
id!(
    /// A message's row. WhatsApp's own id of the message is only unique within a chat and a sender.
    MessageId, "msg_"
);

id!(
    /// An entry of the audit log.
    AuditId, "aud_"
);
id!(
    /// One life of a daemon, from its start to its end, among those that share a database.
    NodeId, "nod_"
);
id!(
    /// A connection that writes, for as long as its process lives.
    LaneId, "lan_"
);
id!(
    /// A tenant's URL that is told of events.
    EndpointId, "ep_"
);
id!(
    /// One event owed to one endpoint.
    DeliveryId, "dlv_"
);
id!(
    /// One HTTP request of a delivery.
    AttemptId, "att_"
);
id!(
    /// A signing secret of an endpoint. Not the secret itself.
    SecretId, "sec_"
);
id!(
    /// A range of events that is sent again.
    ReplayId, "rpl_"
);
id!(
    /// A time during which an endpoint was owed nothing.
    GapId, "gap_"
);
id!(
    /// A phone number at Meta's Cloud API.
    MetaAccountId, "mac_"
);
id!(
    /// What Meta has posted in one request.
    MetaBodyId, "mbd_"
);
id!(
    /// One thing that Meta told.
    MetaEventId, "mev_"
);
id!(
    /// Something that one daemon asks of another.
    CommandId, "cmd_"
);
id!(
    /// A bulk send.
    CampaignId, "camp_"
);
id!(
    /// One to whom a campaign goes.
    AudienceId, "mem_"
);
id!(
    /// Somebody who writes, or is written to.
    ContactId, "con_"
);
id!(
    /// All that a session and a contact, or a group, have written to each other.
    ConversationId, "cnv_"
);

/// What a session is called by those who use it, chosen by the caller or generated as `wa_<uuid>`.
///
/// Matches `^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$` and is none of [`SessionId::RESERVED`].
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType,
)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// Words that stand where a session id stands in some route.
    pub const RESERVED: [&'static str; 6] =
        ["status", "list", "list-realtime", "summary", "events", "connect"];

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
        let goes_on_well = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
        let reserved = Self::RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text));
        if starts_well && goes_on_well && text.len() <= 64 && !reserved {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::SessionId)
        }
    }
}

impl JsonSchema for SessionId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SessionId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$" })
    }
}

impl TryFrom<String> for SessionId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_sorts_by_time() {
        let early = EventId::new(UnixMillis(1_000), 7);
        let late = EventId::new(UnixMillis(2_000), 3);
        assert_eq!(early.as_str().parse(), Ok(early.clone()));
        assert!(early < late);
    }

    #[test]
    fn ids_made_in_one_millisecond_can_keep_their_order() {
        let ids: Vec<_> = [9, 1, 5].map(|r| MessageId::new(UnixMillis(1), in_order(r))).into();
        assert!(ids.is_sorted());
    }

    #[test]
    fn another_kind_is_refused() {
        let event = EventId::new(UnixMillis(1_000), 7);
        assert_eq!(event.as_str().parse::<TokenId>(), Err(ParseIdError::Prefix("tok_")));
        assert_eq!("evt_short".parse::<EventId>(), Err(ParseIdError::Ulid("evt_")));
        let lower = event.as_str().to_lowercase();
        assert_eq!(lower.parse::<EventId>(), Err(ParseIdError::Ulid("evt_")));
    }

    #[test]
    fn session_ids_are_what_a_path_can_carry() {
        for good in ["a", "7", "session-123", "wa_a545e2c1-0b0e", "a.b:c_d", &"x".repeat(64)] {
            assert!(good.parse::<SessionId>().is_ok(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", "-a", "_a", "a b", "a/b", "ä", "status", "List-Realtime", &too_long] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
