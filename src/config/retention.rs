//! `[retention]`: how long what grows is kept.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// How long what grows is kept. What is older is deleted in the background, a few rows at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Events: how far back a client of the feed can resume. Notices of endpoints and sessions are among
    /// them.
    pub events: Keep,
    /// Messages that have come to an end; those still to be sent stay.
    pub messages: Keep,
    /// Idempotency keys: how late a repeated request is still recognised.
    pub idempotency: Keep,
    /// Copies of sent messages, which recipients may ask for again.
    pub sent_messages: Keep,
    /// Messages that were decrypted, but not recorded before a crash.
    pub pending_inbound: Keep,
    /// Webhook deliveries that have come to an end, their attempts and events.
    pub webhooks: Keep,
    /// What Meta has told, and what it has posted. Meta repeats itself for a week.
    pub meta: Keep,
    /// What Meta has told of how far messages had come, and what they cost.
    pub message_statuses: Keep,
    /// Conversations without messages, and people without conversations, since they were last heard of.
    pub contacts: Keep,
    /// Tokens that were revoked or have expired, but for operators': one that was revoked stays revoked, though its secret
    /// is still in a file.
    pub tokens: Keep,
    /// Who has changed what.
    pub audit: Keep,
    /// How often it is looked for what is old enough.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub interval: Duration,
}

/// A time, or "never": how long something is kept before it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep(pub Option<Duration>);

const DAY: Duration = Duration::from_hours(24);

/// A client that comes back after a weekend shall find what it missed, and WhatsApp's own copies of
/// what it delivered twice.
const SHORTEST: Duration = Duration::from_hours(1);

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: Keep(Some(30 * DAY)),
            messages: Keep(None),
            idempotency: Keep(Some(7 * DAY)),
            sent_messages: Keep(Some(14 * DAY)),
            pending_inbound: Keep(Some(30 * DAY)),
            webhooks: Keep(Some(30 * DAY)),
            meta: Keep(Some(30 * DAY)),
            message_statuses: Keep(Some(180 * DAY)),
            contacts: Keep(None),
            tokens: Keep(Some(400 * DAY)),
            audit: Keep(Some(400 * DAY)),
            interval: Duration::from_mins(10),
        }
    }
}

impl Ruled for Retention {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "retention.events",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.events.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.messages",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.messages.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.idempotency",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.idempotency.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.sent_messages",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.sent_messages.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.pending_inbound",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.pending_inbound.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.webhooks",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.webhooks.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.tokens",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.tokens.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.audit",
            must: "must be an hour or longer, or \"never\"",
            holds: |it| it.audit.is_at_least(SHORTEST),
        },
        Rule {
            key: "retention.meta",
            must: "must be 8days or longer, or \"never\": Meta repeats itself for a week",
            holds: |it| it.meta.is_at_least(8 * DAY),
        },
        Rule {
            key: "retention.message_statuses",
            must: "must be 8days or longer, or \"never\": Meta repeats itself for a week",
            holds: |it| it.message_statuses.is_at_least(8 * DAY),
        },
        Rule {
            key: "retention.message_statuses",
            must: "must not be shorter than retention.meta: what is carried out again would be told again",
            holds: |it| match (it.message_statuses.0, it.meta.0) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(statuses), Some(meta)) => statuses >= meta,
            },
        },
        Rule {
            key: "retention.contacts",
            must: "must be 8days or longer, or \"never\": Meta repeats itself for a week",
            holds: |it| it.contacts.is_at_least(8 * DAY),
        },
        Rule {
            key: "retention.interval",
            must: "must be between 1s and 1day",
            holds: |it| (Duration::from_secs(1)..=DAY).contains(&it.interval),
        },
    ];
}

impl Keep {
    pub(super) fn is_at_least(self, shortest: Duration) -> bool {
        self.0.is_none_or(|time| time >= shortest)
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("never"),
            Some(time) => humantime_serde::serialize(&time, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time, as in \"30days\", or \"never\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                if text == "never" {
                    return Ok(Keep(None));
                }
                let time = de::value::StrDeserializer::<E>::new(text);
                humantime_serde::deserialize::<Duration, _>(time).map(|time| Keep(Some(time)))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
