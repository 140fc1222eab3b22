//! Deliveries that could be taken, with their events.
//!
//! Looked for by a reader, with statements whose text does not depend on who is asked about: a connection
//! reads and plans each once. (With a part for each of a hundred endpoints, PostgreSQL spent 50 ms on the
//! plan of a look that takes 3, and SQLite most of its 8.)

use std::collections::BTreeMap;

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, EventId, OrganizationId, SessionKey},
    webhook::state::Ordering,
};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use serde_json::json;

use super::{Claiming, conversations, fanout::STRICT};

/// A delivery that could be taken, with its event.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Candidate {
    pub(super) id: DeliveryId,
    pub(super) organization_id: OrganizationId,
    pub(super) endpoint_id: EndpointId,
    pub(super) event_id: EventId,
    pub(super) event_type: String,
    pub(super) seq: i64,
    pub(super) order_key: Option<String>,
    pub(super) attempts: i32,
    pub(super) created_at: UnixMillis,
    pub(super) expires_at: UnixMillis,
    pub(super) session_key: Option<SessionKey>,
    pub(super) session_id: Option<String>,
    pub(super) payload: Option<String>,
    pub(super) occurred_at: Option<UnixMillis>,
}

/// When what somebody has asked for by hand is due: before what is due at once.
pub(super) const BY_HAND: i64 = -1;

pub(super) const COLUMNS: &str = "d.id, d.organization_id, d.endpoint_id, d.event_id, d.event_type, d.seq, \
     d.order_key, d.attempts, d.created_at, d.expires_at, e.session_key, e.session_id, e.payload, \
     e.occurred_at";

/// What is due for these endpoints, as many as each may have, in the order of events.
pub(super) async fn candidates(
    db: &impl ConnectionTrait,
    wanted: &[Claiming],
    now: UnixMillis,
) -> Result<Vec<Candidate>, DbErr> {
    let mut found = Vec::new();
    for statement in statements(db.get_database_backend(), wanted, now) {
        found.extend(Candidate::find_by_statement(statement).all(db).await?);
    }
    conversations::look_further(db, wanted, now, &mut found).await?;
    found.sort_by_key(|candidate| candidate.seq);
    Ok(found)
}

fn statements(database: DbBackend, wanted: &[Claiming], now: UnixMillis) -> Vec<Statement> {
    // SQLite takes no limit that differs from row to row: there, each limit is asked for by itself.
    let limit = |it: &Claiming| if database == DbBackend::Postgres { 0 } else { it.limit };
    let mut groups: BTreeMap<(u8, bool, usize), Vec<&Claiming>> = BTreeMap::new();
    for it in wanted {
        groups.entry((it.ordering as u8, it.probe, limit(it))).or_default().push(it);
    }
    let groups = groups.into_iter().filter_map(|((_, probe, limit), some)| {
        let ordering = some.first()?.ordering;
        let (text, values): (String, Vec<Value>) = if database == DbBackend::Postgres {
            let wants = some.iter().map(|it| json!({ "id": it.endpoint, "most": it.limit }));
            let wants: serde_json::Value = wants.collect();
            (postgres(ordering, probe), vec![wants.to_string().into(), now.0.into()])
        } else {
            let ids: serde_json::Value = some.iter().map(|it| it.endpoint.as_str()).collect();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            (sqlite(ordering, probe), vec![ids.to_string().into(), now.0.into(), limit.into()])
        };
        Some(Statement::from_sql_and_values(database, text, values))
    });
    groups.collect()
}

/// The limit on events keeps PostgreSQL from reading all of them to join them.
fn postgres(ordering: Ordering, probe: bool) -> String {
    let due = due(ordering, probe, "*", "w.id", "w.most");
    format!(
        "SELECT {COLUMNS} FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS w (id text, most bigint) \
         CROSS JOIN LATERAL ({due}) AS d LEFT JOIN LATERAL \
         (SELECT * FROM webhook_event v WHERE v.id = d.event_id LIMIT 1) AS e ON TRUE"
    )
}

fn sqlite(ordering: Ordering, probe: bool) -> String {
    let due = due(ordering, probe, "id", "w.value", "$3");
    format!(
        "SELECT {COLUMNS} FROM json_each($1) AS w CROSS JOIN webhook_delivery d ON d.id IN ({due}) \
         LEFT JOIN webhook_event e ON e.id = d.event_id"
    )
}

/// What is due for an endpoint at `$2`, as far as order allows it.
fn due(ordering: Ordering, probe: bool, columns: &str, endpoint: &str, limit: &str) -> String {
    // A probe asks whether the receiver is back, and not with one that is given up without asking.
    let young = if probe { " AND (expires_at = 0 OR expires_at > $2)" } else { "" };
    let by_conversation = match ordering {
        Ordering::None => false,
        Ordering::ByConversation => true,
        // The head of its one queue, if that is due; what waits behind it is not looked at.
        Ordering::Strict => {
            return format!(
                "SELECT {columns} FROM (SELECT * FROM webhook_delivery WHERE endpoint_id = {endpoint} \
                 AND order_key = '{STRICT}' AND state IN ('pending', 'claimed') \
                 ORDER BY seq LIMIT 1) AS h WHERE state = 'pending' AND next_at <= $2{young} LIMIT {limit}"
            );
        }
    };
    // What was never sent is due at 0. Were it all to go first, a backlog that never empties would keep
    // back what is tried again until it is too old; the other way round, a receiver that refuses some
    // would hear of nothing new. So half of the places are for either, and what one leaves is the other's.
    // Before all of it goes what somebody sends again by hand.
    // A probe asks whether the receiver is back: what it has refused before is the worse question, and
    // with a few that it always refuses the breaker would not close for a day.
    let of = |condition: &str| {
        let most = if by_conversation { NEAR.to_string() } else { limit.to_owned() };
        let in_turn = format!(
            "SELECT * FROM webhook_delivery WHERE endpoint_id = {endpoint} AND state = 'pending' \
             AND {condition}{young} ORDER BY next_at, seq LIMIT {most}"
        );
        if by_conversation {
            format!(
                "SELECT * FROM ({in_turn}) AS d WHERE d.order_key IS NULL OR {FIRST} \
                 ORDER BY next_at, seq LIMIT {limit}"
            )
        } else {
            in_turn
        }
    };
    let again_goes_first = if probe { "FALSE" } else { "TRUE" };
    let (first, again) = (of("next_at <= 0"), of("next_at > 0 AND next_at <= $2"));
    format!(
        "SELECT {columns} FROM (\
         SELECT f.*, CASE WHEN next_at < 0 THEN -1 ELSE 1 END AS turn FROM ({first}) AS f UNION ALL \
         SELECT a.*, CASE WHEN {again_goes_first} AND ROW_NUMBER() OVER (ORDER BY next_at, seq) <= ({limit} + 1) / 2 \
         THEN 0 ELSE 2 END AS turn FROM ({again}) AS a) AS due ORDER BY turn, next_at, seq LIMIT {limit}"
    )
}

/// So many of what is due are asked whether they are the first of their conversations. Where these are not enough, the
/// conversations themselves are looked through: see `conversations.rs`.
pub(super) const NEAR: u32 = 200;

/// Nothing that must go out before `d` is still open.
pub(super) const FIRST: &str = "NOT EXISTS (SELECT 1 FROM webhook_delivery b \
     WHERE b.endpoint_id = d.endpoint_id AND b.order_key = d.order_key AND b.seq < d.seq \
     AND b.state IN ('pending', 'claimed') AND b.order_key IS NOT NULL)";
