//! What is retired: tables, and what of them is old.

use entity::{
    UnixMillis,
    id::{AttemptId, AuditId, DeliveryId, EventId, MessageId, MetaBodyId, MetaEventId},
};
use sea_orm::DbBackend;

/// What grows, and is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The feed. What was retired of it is remembered: see [`crate::store::events::Events::retired_seq`].
    Events,
    /// Messages, but for those that are still to be sent.
    Messages,
    /// Idempotency keys.
    Idempotency,
    /// What recipients may ask for again.
    SentMessages,
    /// Decrypted, but not recorded before a crash.
    PendingInbound,
    /// Secrets of messages, which carry their own end.
    MessageSecrets,
    /// Webhook deliveries that have come to an end.
    WebhookDeliveries,
    /// Requests that were made for them.
    WebhookAttempts,
    /// What no session's run has seen: it leaves the feed with its other events. The rows stay for the
    /// log of deliveries.
    Notices,
    /// What endpoints were told; none in the feed. None that is still owed: what is owed for the first time is younger,
    /// and what was asked for again is looked for.
    WebhookEvents,
    /// What Meta has told.
    MetaEvents,
    /// What Meta has posted, which it was told in.
    MetaBodies,
    /// Acknowledgements of messages that never came.
    EarlyAcks,
    /// What Meta has told of how far messages had come. The messages keep what they have come to.
    MessageStatuses,
    /// Who has changed what.
    Audit,
    /// Conversations of which no message is left.
    Conversations,
    /// People with whom there is no conversation, with what they are called by.
    Contacts,
    /// Tokens that nobody can use any more, but for operators'.
    Tokens,
    /// Ranges that were asked for again, and have come to an end.
    WebhookReplays,
    /// Times at which an endpoint was owed nothing, and which are over.
    WebhookGaps,
    /// Endpoints that are gone for their owner, when nothing of theirs is left but what goes with them.
    WebhookEndpoints,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Events,
        Self::Messages,
        Self::Idempotency,
        Self::SentMessages,
        Self::PendingInbound,
        Self::MessageSecrets,
        Self::WebhookDeliveries,
        Self::WebhookAttempts,
        Self::Notices,
        Self::WebhookEvents,
        Self::MetaEvents,
        Self::MetaBodies,
        Self::EarlyAcks,
        Self::MessageStatuses,
        Self::Audit,
        Self::Conversations,
        Self::Contacts,
        Self::Tokens,
        Self::WebhookReplays,
        Self::WebhookGaps,
        Self::WebhookEndpoints,
    ];

    /// What it is called: its name in the database, unless it is a part of another one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notices => "notice",
            table => table.rows(),
        }
    }

    /// The table in the database that its rows are in.
    pub const fn rows(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::Messages => "message",
            Self::Idempotency => "idempotency",
            Self::SentMessages => "wa_sent_message",
            Self::PendingInbound => "wa_pending_inbound",
            Self::MessageSecrets => "wa_msg_secret",
            Self::WebhookDeliveries => "webhook_delivery",
            Self::WebhookAttempts => "webhook_attempt",
            Self::Notices | Self::WebhookEvents => "webhook_event",
            Self::MetaEvents => "meta_event",
            Self::MetaBodies => "meta_body",
            Self::EarlyAcks => "early_ack",
            Self::MessageStatuses => "message_status",
            Self::Audit => "audit",
            Self::Conversations => "conversation",
            Self::Contacts => "contact",
            Self::Tokens => "token",
            Self::WebhookReplays => "webhook_replay",
            Self::WebhookGaps => "webhook_gap",
            Self::WebhookEndpoints => "webhook_endpoint",
        }
    }

    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Events
            | Self::Messages
            | Self::WebhookDeliveries
            | Self::WebhookAttempts
            | Self::Notices
            | Self::WebhookEvents
            | Self::MetaEvents
            | Self::MetaBodies
            | Self::Audit
            | Self::Conversations
            | Self::Contacts
            | Self::Tokens
            | Self::WebhookReplays
            | Self::WebhookGaps
            | Self::WebhookEndpoints => "id",
            Self::EarlyAcks => "session_key, wa_id",
            Self::MessageStatuses => "session_key, wa_id, status, participant",
            Self::Idempotency => "organization_id, key",
            Self::SentMessages => "device_id, chat_jid, message_id",
            Self::PendingInbound | Self::MessageSecrets => "device_id, chat, sender, message_id",
        }
    }

    /// What is older than `before`. Ids begin with the time they were made at, and sort by it.
    pub(super) fn is_older(self, before: UnixMillis) -> String {
        let seconds = before.0.div_euclid(1000);
        match self {
            Self::Events => format!("id < '{}'", EventId::new(before, 0)),
            Self::Notices => format!("in_feed AND id < '{}'", EventId::new(before, 0)),
            Self::WebhookEvents => format!(
                "NOT in_feed AND id < '{}' AND NOT EXISTS (SELECT 1 FROM webhook_delivery d \
                 WHERE d.event_id = webhook_event.id AND d.state IN ('pending', 'claimed') \
                 AND d.cause <> 'event')",
                EventId::new(before, 0)
            ),
            Self::Messages => format!(
                "id < '{}' AND status NOT IN ('queued', 'sending')",
                MessageId::new(before, 0)
            ),
            Self::Idempotency | Self::EarlyAcks | Self::MessageStatuses => {
                format!("created_at < {}", before.0)
            }
            Self::Audit => format!("id < '{}'", AuditId::new(before, 0)),
            // Its messages have set both.
            Self::Conversations => {
                format!("last_message_at < {0} AND updated_at < {0}", before.0)
            }
            Self::Contacts => format!(
                "updated_at < {} AND NOT EXISTS \
                 (SELECT 1 FROM conversation WHERE contact_id = contact.id)",
                before.0
            ),
            // Of an operator's it is never forgotten that it was revoked: its secret may still be in a file that a start
            // reads (`store::tokens::adopt`).
            Self::Tokens => {
                format!("(revoked_at < {0} OR expires_at < {0}) AND role <> 'operator'", before.0)
            }
            Self::WebhookReplays => format!("state <> 'running' AND finished_at < {}", before.0),
            Self::WebhookGaps => format!("until < {}", before.0),
            Self::WebhookEndpoints => format!(
                "state = 'deleted' AND updated_at < {} AND NOT EXISTS \
                 (SELECT 1 FROM webhook_delivery WHERE endpoint_id = webhook_endpoint.id) \
                 AND NOT EXISTS (SELECT 1 FROM webhook_replay \
                 WHERE endpoint_id = webhook_endpoint.id AND state = 'running')",
                before.0
            ),
            Self::SentMessages | Self::PendingInbound => format!("stored_at < {seconds}"),
            Self::WebhookDeliveries => format!(
                "id < '{}' AND state NOT IN ('pending', 'claimed')",
                DeliveryId::new(before, 0)
            ),
            Self::WebhookAttempts => format!("id < '{}'", AttemptId::new(before, 0)),
            Self::MetaEvents => {
                format!("id < '{}' AND state <> 'waiting'", MetaEventId::new(before, 0))
            }
            // What of it waits is read from it.
            Self::MetaBodies => format!(
                "id < '{}' AND NOT EXISTS (SELECT 1 FROM meta_event WHERE body_id = meta_body.id \
                 AND state = 'waiting')",
                MetaBodyId::new(before, 0)
            ),
            // Zero is for ever.
            Self::MessageSecrets => format!("expires_at > 0 AND expires_at < {seconds}"),
        }
    }

    /// The order of the index that finds what is old.
    pub(super) const fn order(self) -> &'static str {
        match self {
            Self::Events
            | Self::Messages
            | Self::WebhookDeliveries
            | Self::WebhookAttempts
            | Self::Notices
            | Self::WebhookEvents
            | Self::MetaEvents
            | Self::MetaBodies
            | Self::Audit
            | Self::Conversations
            | Self::Contacts
            | Self::Tokens
            | Self::WebhookReplays
            | Self::WebhookGaps
            | Self::WebhookEndpoints => "id",
            Self::Idempotency | Self::EarlyAcks | Self::MessageStatuses => "created_at",
            // Few, and found by their device.
            Self::SentMessages | Self::PendingInbound => "stored_at",
            Self::MessageSecrets => "expires_at",
        }
    }

    /// How many bytes a row has, where it may be many.
    pub(super) const fn weight(self) -> Option<&'static str> {
        match self {
            Self::MetaBodies => Some("size"),
            Self::Messages => Some("COALESCE(LENGTH(raw), 0)"),
            Self::SentMessages | Self::Events | Self::WebhookEvents => Some("LENGTH(payload)"),
            Self::PendingInbound => Some("LENGTH(message)"),
            _ => None,
        }
    }

    /// Whether what is old is found by no index: a reader looks for it, and the writer is told the rows.
    pub const fn is_sparse(self) -> bool {
        matches!(
            self,
            Self::Conversations
                | Self::Contacts
                | Self::Tokens
                | Self::WebhookReplays
                | Self::WebhookGaps
                | Self::WebhookEndpoints
        )
    }

    /// What else must be so of a row, and is too much to ask in the writer's lane. `owner`: whose rows are looked at.
    pub(super) fn is_found(self, condition: &str, database: DbBackend, owner: &str) -> String {
        // A session's at a time: all its messages are looked at, but once for all its conversations. SQLite asks such a
        // question anew for each row unless it is not about the row; PostgreSQL makes one question of it. A message that
        // comes later is seen by `updated_at`.
        match (self, database) {
            (Self::Conversations, DbBackend::Postgres) => format!(
                "{condition} AND NOT EXISTS (SELECT 1 FROM message \
                 WHERE message.session_key = conversation.session_key \
                 AND message.chat = conversation.chat)"
            ),
            (Self::Conversations, _) => format!(
                "{condition} AND chat NOT IN \
                 (SELECT message.chat FROM message WHERE message.session_key = '{owner}')"
            ),
            _ => condition.to_owned(),
        }
    }

    /// Among whose rows the old ones are looked for.
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::SentMessages | Self::PendingInbound | Self::MessageSecrets => Scope::Device,
            Self::Conversations => Scope::Session,
            Self::Contacts => Scope::Organization,
            _ => Scope::All,
        }
    }
}

/// Whose rows are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// Its indices begin with the device.
    Device,
    /// Whoever changes them has the organization's row locked.
    Session,
    Organization,
}

impl Scope {
    /// The table of the owners, and the column that names one.
    pub(super) const fn owner(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::All => None,
            Self::Device => Some(("device", "device_id")),
            Self::Session => Some(("session", "session_key")),
            Self::Organization => Some(("organization", "organization_id")),
        }
    }

    /// The owner's organization, in its row.
    pub(super) const fn organization(self) -> &'static str {
        match self {
            Self::Session => "organization_id",
            _ => "id",
        }
    }
}
