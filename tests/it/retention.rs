//! What is old is deleted, table by table and a few rows at a time; the rest stays.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{AttemptId, AuditId, DeliveryId, EventId, MessageId, MetaBodyId, MetaEventId},
    kind::MessageKind,
    session,
    state::{Direction, MessageStatus},
};
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;
use wagate::{
    device,
    event::{Event, HistoryMessage, NewMessage},
    maintenance::{Maintenance, Policy, Swept},
    store::{
        Patience, Store,
        events::{NewEvent, Wanted},
        retention::Table,
    },
};

use crate::database::{Database, Kind, Opened, on, on_each};

pub(crate) const DAY: Duration = Duration::from_hours(24);

fn all_for(days: u32) -> Policy {
    let kept = Some(days * DAY);
    Policy {
        events: kept,
        messages: kept,
        idempotency: kept,
        sent_messages: kept,
        pending_inbound: kept,
        webhooks: kept,
        meta: kept,
        message_statuses: kept,
        contacts: kept,
        tokens: kept,
        audit: kept,
        interval: Duration::from_mins(10),
    }
}

fn message(session: &session::Model, at: UnixMillis, n: usize, body: &str) -> NewEvent {
    let contact = "4915112345678@s.whatsapp.net".to_owned();
    NewEvent {
        organization_id: session.organization_id.clone(),
        session_key: session.id.clone(),
        generation: None,
        care: None,
        posted: None,
        event: Event::Message(Box::new(NewMessage {
            id: MessageId::new(at, rand::random()),
            wa_id: format!("{}-{n}", at.0),
            chat: contact.clone(),
            sender: contact,
            direction: Direction::Inbound,
            kind: MessageKind::Text,
            body: Some(body.to_owned()),
            target_wa_id: None,
            interaction: None,
            raw: None,
            push_name: None,
            sent_at: at,
            is_group: false,
            offline: false,
            status: MessageStatus::Received,
        })),
        at,
    }
}

pub(crate) async fn record(opened: &Opened, session: &session::Model, count: usize, body: &str) {
    record_in(&opened.store, opened.clock.now(), session, count, body).await;
}

pub(crate) async fn record_in(
    store: &Store,
    at: UnixMillis,
    session: &session::Model,
    count: usize,
    body: &str,
) {
    let recorded =
        (0..count).map(|n| store.writer().record(message(session, at, n, body), Patience::Fail));
    try_join_all(recorded).await.unwrap();
}

async fn sweep(opened: &Opened, policy: Policy) -> Swept {
    let stop = CancellationToken::new();
    Maintenance::new(opened.store.clone(), policy, stop).sweep().await.unwrap()
}

/// A row of each table that has no other way in, made now.
pub(crate) async fn rows_of_now(
    database: &Database,
    opened: &Opened,
    session: &session::Model,
    name: &str,
) {
    let device = device::create(&opened.store, &session.id).await.unwrap();
    let (millis, seconds) = (opened.clock.now().0, opened.clock.now().0 / 1000);
    let organization = &session.organization_id;
    let blob = match database.kind {
        Kind::Sqlite => "x'00'",
        Kind::Postgres => "'\\x00'::bytea",
    };
    for (table, values) in [
        ("idempotency", format!("'{organization}', '{name}', 'f', 'r', {millis}")),
        ("early_ack", format!("'{}', '{name}', 1, 'c', 'c', NULL, {millis}, {millis}", session.id)),
        ("wa_sent_message", format!("{device}, 'c', '{name}', {blob}, {seconds}")),
        ("wa_pending_inbound", format!("{device}, 'c', 's', '{name}', {blob}, {seconds}")),
        ("wa_msg_secret", format!("{device}, 'c', 's', '{name}', {blob}, {seconds}, 1")),
    ] {
        database.execute(&format!("INSERT INTO {table} VALUES ({values})")).await;
    }
    database
        .execute(&format!(
            "INSERT INTO wa_msg_secret VALUES ({device}, 'c', 's', '{name} kept', {blob}, 0, 1)"
        ))
        .await;
    webhook_rows_of_now(database, opened, organization.as_str(), name).await;
}

/// A webhook event with a delivery that has come to its end, after one attempt, and one that has not.
async fn webhook_rows_of_now(database: &Database, opened: &Opened, organization: &str, name: &str) {
    let now = opened.clock.now();
    let (event, attempt) = (EventId::new(now, 77), AttemptId::new(now, 77));
    let deliveries =
        [(DeliveryId::new(now, 77), "succeeded"), (DeliveryId::new(now, 78), "pending")];
    let millis = now.0;
    let mut statements = vec![
        format!(
            "INSERT INTO webhook_endpoint (id, organization_id, url, format, event_types, \
             session_ids, phone_numbers, ordering, max_in_flight, timeout_ms, max_age_ms, state, \
             version, created_at, updated_at) VALUES ('{name}', '{organization}', 'u', 'flat', \
             '[]', '[]', '[]', 'none', 1, 1, 1, 'active', 1, 0, 0)"
        ),
        format!(
            "INSERT INTO webhook_event (id, organization_id, seq, event_type, conversation, payload, \
             occurred_at) VALUES ('{event}', '{organization}', {millis}, 't', 'c', 'null', 0)"
        ),
        format!(
            "INSERT INTO webhook_attempt (id, delivery_id, endpoint_id, number, started_at, \
             duration_ms) VALUES ('{attempt}', '{}', '{name}', 1, 0, 0)",
            deliveries[0].0
        ),
    ];
    let (body, told) = (MetaBodyId::new(now, 77), MetaEventId::new(now, 77));
    let bytes = match database.kind {
        Kind::Sqlite => "x'00'",
        Kind::Postgres => "'\\x00'::bytea",
    };
    statements.push(format!(
        "INSERT INTO meta_body VALUES ('{body}', '{organization}', '{name}', {bytes}, 1, false, 's', {millis})"
    ));
    statements.push(format!(
        "INSERT INTO meta_event (id, organization_id, body_id, place, event_type, is_unrouted, event_ts, \
         dedup_key, processed, state, created_at) VALUES ('{told}', '{organization}', '{body}', 'p', 't', false, \
         {millis}, '{name}', true, 'processed', {millis})"
    ));
    let (audit, session) = (AuditId::new(now, 77), "(SELECT id FROM session LIMIT 1)");
    statements.push(format!(
        "INSERT INTO audit (id, organization_id, action, target, detail, at) \
         VALUES ('{audit}', '{organization}', 'token.created', 't', '{{}}', {millis})"
    ));
    statements.push(format!(
        "INSERT INTO message_status (session_key, wa_id, status, participant, organization_id, level, \
         occurred_at, created_at) VALUES ({session}, '{name}', 'sent', '', '{organization}', 1, 0, {millis})"
    ));
    for (id, state) in deliveries {
        statements.push(format!(
            "INSERT INTO webhook_delivery (id, organization_id, endpoint_id, event_id, event_type, \
             seq, replay_id, cause, state, attempts, next_at, expires_at, created_at) VALUES ('{id}', \
             '{organization}', '{name}', '{event}', 't', 1, '{state}', 'event', '{state}', 0, 0, 0, 0)"
        ));
    }
    for statement in statements {
        database.execute(&statement).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_and_what_is_young_stays() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 250, "old").await;
        rows_of_now(database, &opened, &session, "old").await;
        // Still to be sent, however long it takes.
        database
            .execute(
                "UPDATE message SET status = 'queued' \
                 WHERE id = (SELECT id FROM message ORDER BY id LIMIT 1)",
            )
            .await;
        opened.clock.advance(31 * DAY);
        record(&opened, &session, 10, "young").await;
        rows_of_now(database, &opened, &session, "young").await;

        let swept = sweep(&opened, all_for(30)).await;
        assert_eq!(swept.rows[&Table::Events], 250);
        assert_eq!(swept.rows[&Table::Messages], 249);
        for table in [
            Table::Idempotency,
            Table::SentMessages,
            Table::PendingInbound,
            Table::MessageSecrets,
            Table::WebhookDeliveries,
            Table::WebhookAttempts,
        ] {
            assert_eq!(swept.rows[&table], 1, "{}", table.name());
        }
        // One of them says that the session was made.
        assert_eq!(swept.rows[&Table::WebhookEvents], 2);
        for (table, left) in [
            ("event", 10),
            ("message", 11),
            ("idempotency", 1),
            ("wa_sent_message", 1),
            ("wa_pending_inbound", 1),
            // Those without an end stay, and so does the one that ends now.
            ("wa_msg_secret", 3),
        ] {
            assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, left);
        }
        let organization = &session.organization_id;
        assert_eq!(opened.store.events().retired_seq(organization).await.unwrap(), 251);

        // Nothing left to do costs no transaction.
        let before = opened.store.writer().stats();
        assert_eq!(sweep(&opened, all_for(30)).await.chunks, 0);
        assert_eq!(opened.store.writer().stats().groups, before.groups);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_ever_stays() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 20, "old").await;
        opened.clock.advance(1000 * DAY);
        let policy = Policy { events: None, messages: None, audit: None, ..all_for(1) };
        // That the session was made is a notice, and one of the feed's events.
        assert_eq!(sweep(&opened, policy).await.total(), 0);
        assert_eq!(database.count("SELECT count(*) FROM event").await, 20);
        assert_eq!(database.count("SELECT count(*) FROM webhook_event WHERE in_feed").await, 1);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_leaves_the_feed_with_its_events_and_the_log_with_its_deliveries() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        let organization = &session.organization_id;
        record(&opened, &session, 1, "old").await;
        let in_feed = async || {
            let feed = opened.store.events().feed(organization, None, Wanted::All, 0, 10).await;
            (
                feed.unwrap().entries.len(),
                opened.store.events().retired_seq(organization).await.unwrap(),
            )
        };
        assert_eq!(in_feed().await, (2, 0));
        opened.clock.advance(6 * DAY);
        let policy = Policy { events: Some(5 * DAY), ..all_for(30) };
        let swept = sweep(&opened, policy).await;
        assert_eq!((swept.rows[&Table::Events], swept.rows[&Table::Notices]), (1, 1));
        assert_eq!(in_feed().await, (0, 2), "both are retired, and that is remembered");
        // What endpoints were told of it is still there to be looked at.
        assert!(!swept.rows.contains_key(&Table::WebhookEvents));
        assert_eq!(database.count("SELECT count(*) FROM webhook_event").await, 1);
        opened.clock.advance(25 * DAY);
        assert_eq!(sweep(&opened, policy).await.rows[&Table::WebhookEvents], 1);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_in_many_small_transactions_that_others_get_between() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 3000, "old").await;
        opened.clock.advance(31 * DAY);

        let writes = async {
            for n in 0..50 {
                let at = opened.clock.now();
                let new = message(&session, at, n, "meanwhile");
                opened.store.writer().record(new, Patience::Fail).await.unwrap();
            }
        };
        let (swept, ()) = tokio::join!(sweep(&opened, all_for(30)), writes);
        assert_eq!(swept.rows[&Table::Events], 3000);
        // None of more than four hundred rows.
        assert!(swept.chunks > 7, "{swept:?}");
        let stats = opened.store.retention().stats();
        assert_eq!(stats.rows[&Table::Events], 3000);
        assert_eq!((stats.chunks, stats.slow), (swept.chunks, swept.slow));
        assert_eq!(database.count("SELECT count(*) FROM event").await, 50);
        opened.close().await;
    })
    .await;
}

/// Each row takes two milliseconds or more, wherever it is. What a chunk may take fits five.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_long_go_fewer_at_once() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 200, "old").await;
        let slow = match database.kind {
            Kind::Sqlite => {
                "CREATE TRIGGER slow BEFORE DELETE ON event BEGIN SELECT count(*) FROM (WITH RECURSIVE \
                 numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40000) \
                 SELECT n FROM numbers); END"
            }
            Kind::Postgres => {
                "CREATE FUNCTION slow() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(0.002); \
                 RETURN OLD; END $$ LANGUAGE plpgsql; CREATE TRIGGER slow BEFORE DELETE ON event \
                 FOR EACH ROW EXECUTE FUNCTION slow()"
            }
        };
        database.execute(slow).await;
        opened.clock.advance(31 * DAY);
        let policy = Policy { messages: None, ..all_for(30) };
        let swept = sweep(&opened, policy).await;
        assert_eq!(swept.rows[&Table::Events], 200);
        // Chunks of the first one's size would be four.
        assert!(swept.chunks > 15, "{swept:?}");
        opened.close().await;
    })
    .await;
}

/// A lane is a connection of a process: each start would leave some behind for ever.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_processes_that_are_gone_are_forgotten() {
    on(Kind::Postgres, async |database: &Database| {
        let before = database.open().await;
        before.session("s").await;
        let lanes = "SELECT count(*) FROM writer_lane";
        assert!(database.count(lanes).await > 0, "a group leaves its mark");
        before.close().await;

        let opened = database.open().await;
        opened.clock.advance(Duration::from_hours(25));
        sweep(&opened, all_for(30)).await;
        // That of the lane which has deleted the others.
        assert_eq!(database.count(lanes).await, 1);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_ends_between_two_chunks_when_it_is_stopped() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 300, "old").await;
        opened.clock.advance(31 * DAY);
        let stop = CancellationToken::new();
        stop.cancel();
        let worker = Maintenance::new(opened.store.clone(), all_for(30), stop);
        assert_eq!(worker.sweep().await.unwrap().total(), 0);
        worker.run().await;
        assert_eq!(database.count("SELECT count(*) FROM event").await, 300);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_sweeps_when_its_time_has_come() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 5, "old").await;
        opened.clock.advance(31 * DAY);

        let stop = CancellationToken::new();
        let worker = Maintenance::new(opened.store.clone(), all_for(30), stop.clone());
        let worker = opened.tracker.spawn(worker.run());
        let swept = async {
            while database.count("SELECT count(*) FROM event").await > 0 {
                opened.clock.advance(Duration::from_mins(15));
            }
        };
        tokio::time::timeout(Duration::from_mins(1), swept).await.unwrap();
        stop.cancel();
        worker.await.unwrap();
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_gives_back_what_is_no_longer_needed() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 3000, &"x".repeat(4000)).await;
        opened.clock.advance(31 * DAY);
        let pages = "SELECT page_count FROM pragma_page_count";
        let before = database.count(pages).await;
        sweep(&opened, all_for(30)).await;
        let after = database.count(pages).await;
        assert!(after < before / 2, "{before} pages became {after}");
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_still_to_be_sent_do_not_stop_those_behind_them() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 300, "old").await;
        database
            .execute(
                "UPDATE message SET status = 'queued' \
                 WHERE id IN (SELECT id FROM message ORDER BY id LIMIT 200)",
            )
            .await;
        opened.clock.advance(31 * DAY);
        assert_eq!(sweep(&opened, all_for(30)).await.rows[&Table::Messages], 100);
        assert_eq!(database.count("SELECT count(*) FROM message").await, 200);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_past_are_kept_without_nul() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        let at = opened.clock.now();
        let Event::Message(mut message) = message(&session, at, 1, "a\0b").event else {
            panic!("a message is a message");
        };
        message.wa_id.push('\0');
        message.push_name = Some("\0".to_owned());
        message.target_wa_id = Some("t\0".to_owned());
        let past = vec![HistoryMessage { message: *message, ack: 0 }];
        let import = async |past: Vec<HistoryMessage>| {
            let organization = session.organization_id.clone();
            opened.store.history().import(organization, session.id.clone(), past).await.unwrap()
        };
        assert_eq!(import(past.clone()).await, 1);
        // The same again, by the key that came out of it.
        assert_eq!(import(past).await, 0);
        let rows = database.query("SELECT body, push_name, target_wa_id, wa_id FROM message").await;
        let text = |column| rows[0].try_get_by_index::<String>(column).unwrap();
        assert_eq!([text(0), text(1), text(2)], ["a\u{fffd}b", "\u{fffd}", "t\u{fffd}"]);
        assert!(text(3).ends_with('\u{fffd}'));
        opened.close().await;
    })
    .await;
}
