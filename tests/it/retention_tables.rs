//! Every table of the schema says how it is kept, and what is retired of those that are few is what nobody needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use entity::id::MetaBodyId;
use tokio_util::sync::CancellationToken;
use wagate::{
    maintenance::{Maintenance, Policy, Swept},
    store::retention::Table,
};

use crate::{
    database::{Database, Kind, Opened, on_each},
    http_app::App,
    meta::{NUMBER, SECRET, WABA, complete, set_up},
    meta_processing::{hello, tell},
};

const DAY: Duration = Duration::from_hours(24);

/// How the rows of a table come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Deleted when they are old, by the setting of it.
    Retired,
    /// With the row of this table that they belong to.
    With(&'static str),
    /// It is the WhatsApp client's, which replaces and deletes it itself; and it goes with its device.
    Client,
    /// Not for being old, because …
    ForEver(&'static str),
    /// By something else that looks for them.
    Swept(&'static str),
}

/// All tables there are. A new one is not forgotten: this list is compared with the schema.
const TABLES: [(&str, Kept); 54] = [
    ("audit", Kept::Retired),
    ("campaign", Kept::ForEver("a tenant's own, until it deletes it")),
    ("campaign_audience", Kept::With("campaign")),
    ("campaign_statistics", Kept::With("campaign")),
    ("command", Kept::Swept("store/commands.rs deletes what nobody waits for any more")),
    ("contact", Kept::Retired),
    ("contact_identity", Kept::With("contact")),
    ("conversation", Kept::Retired),
    ("data_key", Kept::With("organization")),
    ("device", Kept::With("session")),
    ("early_ack", Kept::Retired),
    ("event", Kept::Retired),
    ("idempotency", Kept::Retired),
    ("installation", Kept::ForEver("one row")),
    ("lease", Kept::With("session")),
    ("message", Kept::Retired),
    ("message_status", Kept::Retired),
    ("meta_account", Kept::ForEver("a tenant's own, until it deletes it")),
    ("meta_body", Kept::Retired),
    ("meta_event", Kept::Retired),
    ("meta_outbox", Kept::Swept("store/meta/outbox takes out what has left or is given up")),
    (
        "node",
        Kept::Swept("whoever lives buries those that are silent, session/ownership/keeper.rs"),
    ),
    ("organization", Kept::ForEver("a tenant, until the operator deletes it")),
    ("seaql_migrations", Kept::ForEver("a row for each step of the schema")),
    ("session", Kept::ForEver("a tenant's own, until it deletes it")),
    ("token", Kept::Retired),
    ("vault", Kept::ForEver("one row")),
    ("wa_base_key", Kept::Client),
    ("wa_device_list", Kept::Client),
    ("wa_group_metadata", Kept::Client),
    ("wa_identity", Kept::Client),
    ("wa_lid_mapping", Kept::Client),
    ("wa_msg_secret", Kept::Retired),
    ("wa_mutation_mac", Kept::Client),
    ("wa_pending_inbound", Kept::Retired),
    ("wa_prekey", Kept::Client),
    ("wa_sender_key", Kept::Client),
    ("wa_sender_key_device", Kept::Client),
    ("wa_sent_message", Kept::Retired),
    ("wa_session", Kept::Client),
    ("wa_signed_prekey", Kept::Client),
    ("wa_sync_key", Kept::Client),
    ("wa_sync_version", Kept::Client),
    ("wa_tc_token", Kept::Client),
    ("webhook_attempt", Kept::Retired),
    ("webhook_delivery", Kept::Retired),
    ("webhook_endpoint", Kept::Retired),
    ("webhook_event", Kept::Retired),
    ("webhook_gap", Kept::Retired),
    ("webhook_health", Kept::With("webhook_endpoint")),
    ("webhook_replay", Kept::Retired),
    ("webhook_secret", Kept::With("webhook_endpoint")),
    ("webhook_stat", Kept::Swept("store/webhooks/stats.rs deletes those of two days ago")),
    ("writer_lane", Kept::Swept("retention forgets those that have written nothing for a day")),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_the_schema_says_how_it_is_kept() {
    on_each(async |database: &Database| {
        database.open().await.close().await;
        let all = match database.kind {
            Kind::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            }
            Kind::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
        };
        let there: BTreeSet<String> =
            database.query(all).await.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        let known: BTreeMap<&str, Kept> = TABLES.into_iter().collect();
        let missing: Vec<_> =
            there.iter().filter(|name| !known.contains_key(name.as_str())).collect();
        let expected: BTreeSet<String> = known.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(there, expected, "nobody says how these are kept: {missing:?}");

        let retired: BTreeSet<&str> = Table::ALL.into_iter().map(Table::rows).collect();
        for (name, kept) in known {
            assert_eq!(kept == Kept::Retired, retired.contains(name), "{name}");
            let owner = match kept {
                Kept::With(owner) => owner,
                Kept::Client => "device",
                _ => continue,
            };
            let goes_with = match database.kind {
                Kind::Sqlite => format!(
                    "SELECT count(*) FROM pragma_foreign_key_list('{name}') \
                     WHERE \"table\" = '{owner}' AND on_delete = 'CASCADE'"
                ),
                Kind::Postgres => format!(
                    "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confdeltype = 'c' \
                     AND conrelid = '{name}'::regclass AND confrelid = '{owner}'::regclass"
                ),
            };
            assert_eq!(database.count(&goes_with).await, 1, "{name} goes with {owner}");
        }
    })
    .await;
}

async fn sweep(opened: &Opened, policy: Policy) -> Swept {
    let stop = CancellationToken::new();
    Maintenance::new(opened.store.clone(), policy, stop).sweep().await.unwrap()
}

/// The ids that are left of a table.
async fn left(database: &Database, table: &str) -> Vec<String> {
    let rows = database.query(&format!("SELECT id FROM {table} ORDER BY id")).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_replays_gaps_and_endpoints_go_when_nobody_needs_them() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        let organization = &session.organization_id;
        let old = opened.clock.now().0;
        opened.clock.advance(31 * DAY);
        let now = opened.clock.now().0;
        let blob = match database.kind {
            Kind::Sqlite => "x'00'",
            Kind::Postgres => "'\\x00'::bytea",
        };
        let mut statements = Vec::new();
        for (id, role, revoked, expires) in [
            ("gone-1", "viewer", old.to_string(), "NULL".to_owned()),
            ("gone-2", "admin", "NULL".to_owned(), old.to_string()),
            ("kept-1", "viewer", "NULL".to_owned(), "NULL".to_owned()),
            ("kept-2", "viewer", now.to_string(), (now + 1).to_string()),
            // Its secret may still be in a file.
            ("kept-3", "operator", old.to_string(), old.to_string()),
        ] {
            statements.push(format!(
                "INSERT INTO token (id, organization_id, role, secret_hash, label, created_at, revoked_at, \
                 expires_at) VALUES ('{id}', '{organization}', '{role}', '{id}', 'l', {old}, {revoked}, {expires})"
            ));
        }
        let endpoint = |id: &str, state: &str| {
            format!(
                "INSERT INTO webhook_endpoint (id, organization_id, url, format, event_types, session_ids, \
                 phone_numbers, ordering, max_in_flight, timeout_ms, max_age_ms, state, version, created_at, \
                 updated_at) VALUES ('{id}', '{organization}', '', 'flat', '[]', '[]', '[]', 'none', 1, 1, 1, \
                 '{state}', 1, {old}, {old})"
            )
        };
        statements.extend([
            endpoint("gone", "deleted"),
            endpoint("kept-1", "paused"),
            endpoint("kept-2", "deleted"),
            // Still to be told of something, or to be looked at.
            format!(
                "INSERT INTO webhook_delivery (id, organization_id, endpoint_id, event_id, event_type, seq, \
                 replay_id, cause, state, attempts, next_at, expires_at, created_at) VALUES ('dlv_z', \
                 '{organization}', 'kept-2', 'e', 't', 1, '', 'event', 'cancelled', 0, 0, 0, 0)"
            ),
            format!(
                "INSERT INTO webhook_secret (id, endpoint_id, secret, created_at) \
                 VALUES ('s', 'gone', {blob}, 0)"
            ),
        ]);
        for (id, endpoint, until) in [
            ("gone", "kept-1", old.to_string()),
            ("kept-1", "kept-1", "NULL".to_owned()),
            ("kept-2", "kept-1", now.to_string()),
        ] {
            statements.push(format!(
                "INSERT INTO webhook_gap (id, endpoint_id, reason, after_seq, since, until) \
                 VALUES ('{id}', '{endpoint}', 'failing', 1, {old}, {until})"
            ));
        }
        for (id, state, finished) in [
            ("gone", "done", old.to_string()),
            ("kept-1", "running", "NULL".to_owned()),
            ("kept-2", "cancelled", now.to_string()),
        ] {
            statements.push(format!(
                "INSERT INTO webhook_replay (id, organization_id, endpoint_id, state, after_seq, through_seq, \
                 cursor_seq, owed, rate_per_second, stepped_at, created_at, finished_at) VALUES ('{id}', \
                 '{organization}', 'kept-1', '{state}', 0, 1, 0, 0, 1, {old}, {old}, {finished})"
            ));
        }
        for statement in statements {
            database.execute(&statement).await;
        }
        let policy = Policy {
            webhooks: Some(30 * DAY),
            tokens: Some(30 * DAY),
            interval: Duration::from_mins(10),
            ..Policy::default()
        };
        sweep(&opened, policy).await;
        assert_eq!(left(database, "token").await, ["kept-1", "kept-2", "kept-3"]);
        for table in ["webhook_endpoint", "webhook_gap", "webhook_replay"] {
            assert_eq!(left(database, table).await, ["kept-1", "kept-2"], "{table}");
        }
        // Looking costs no transaction.
        let before = opened.store.writer().stats().groups;
        assert_eq!(sweep(&opened, policy).await.chunks, 0);
        assert_eq!(opened.store.writer().stats().groups, before);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_without_messages_go_and_then_people_without_conversations() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        let (key, organization) = (&session.id, &session.organization_id);
        let old = opened.clock.now().0;
        opened.clock.advance(31 * DAY);
        let now = opened.clock.now().0;
        // Who is met again is young; who writes is young; of whom a message is left is old and stays.
        for (id, chat, updated, heard) in [
            ("gone", "gone", old, old),
            ("kept-1", "has-messages", old, old),
            ("kept-2", "met-again", now, old),
            ("kept-3", "writes", old, now),
        ] {
            database
                .execute(&format!(
                    "INSERT INTO contact (id, organization_id, created_at, updated_at) \
                     VALUES ('{id}', '{organization}', {old}, {updated})"
                ))
                .await;
            database
                .execute(&format!(
                    "INSERT INTO contact_identity (organization_id, kind, value, contact_id, created_at) \
                     VALUES ('{organization}', 'wa_id', '{id}', '{id}', {old})"
                ))
                .await;
            database
                .execute(&format!(
                    "INSERT INTO conversation (id, organization_id, session_key, chat, contact_id, \
                     last_message_at, created_at, updated_at) VALUES ('{id}', '{organization}', '{key}', \
                     '{chat}', '{id}', {heard}, {old}, {updated})"
                ))
                .await;
        }
        database
            .execute(&format!(
                "INSERT INTO message (id, organization_id, session_key, wa_id, dedupe_key, chat, sender, direction, \
                 kind, status, ack, offline, sent_at, created_at, updated_at) VALUES ('msg_1', '{organization}', \
                 '{key}', 'w', 'd', 'has-messages', 's', 'inbound', 'text', 'received', 0, false, {old}, {old}, {old})"
            ))
            .await;
        // By themselves nobody's are deleted.
        sweep(&opened, Policy::default()).await;
        assert_eq!(left(database, "conversation").await.len(), 4);
        let swept = sweep(&opened, Policy { contacts: Some(30 * DAY), ..Policy::default() }).await;
        assert_eq!((swept.rows[&Table::Conversations], swept.rows[&Table::Contacts]), (1, 1));
        for table in ["conversation", "contact"] {
            assert_eq!(left(database, table).await, ["kept-1", "kept-2", "kept-3"], "{table}");
        }
        assert_eq!(database.count("SELECT count(*) FROM contact_identity").await, 3);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_goes_one_by_one_and_what_is_small_many_at_once() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let organization = opened.session("s").await.organization_id;
        let bytes = match database.kind {
            Kind::Sqlite => "x'00'",
            Kind::Postgres => "'\\x00'::bytea",
        };
        let policy = Policy { meta: Some(30 * DAY), ..Policy::default() };
        for (size, count, chunks) in [(3_000_000, 12, 12..=13), (1000, 60, 2..=14)] {
            for n in 0..count {
                let id = MetaBodyId::new(opened.clock.now(), n);
                database
                    .execute(&format!(
                        "INSERT INTO meta_body VALUES ('{id}', '{organization}', '{size} {n}', {bytes}, {size}, \
                         false, 's', 0)"
                    ))
                    .await;
            }
            opened.clock.advance(31 * DAY);
            let swept = sweep(&opened, policy).await;
            assert_eq!(u128::from(swept.rows[&Table::MetaBodies]), count);
            assert!(chunks.contains(&swept.chunks), "{swept:?}");
        }
        opened.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_is_met_again_is_young_again_and_not_written_at_every_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let changed = async |table: &str| {
            database.count(&format!("SELECT max(updated_at) FROM {table}")).await
        };
        tell(&app, &[hello("16505551234", "a", "hi")]).await;
        let first = app.clock.now().0;
        // Written at the same time as the first, so nothing of it is news.
        for (n, (wait, expected)) in [(1, first), (47, first + 48 * 3_600_000)].iter().enumerate() {
            app.clock.advance(Duration::from_hours(*wait));
            tell(&app, &[hello("16505551234", &format!("b{n}"), "hi")]).await;
            for table in ["contact", "conversation"] {
                assert_eq!(changed(table).await, *expected, "{table} {n}");
            }
        }
        app.close().await;
    })
    .await;
}
