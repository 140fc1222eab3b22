//! What is due for an endpoint that keeps the order of each conversation, where much waits behind little.
//!
//! Whatever waits behind the head of a long conversation is due as well, and comes before the heads of others. So the
//! first of what is due are looked at (`candidates.rs`), and where they are not enough, one row of each conversation:
//! from one key of the order's index to the next, however many rows lie in between.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement};
use serde_json::json;

use super::{
    Claiming,
    candidates::{COLUMNS, Candidate, NEAR},
};
use entity::{UnixMillis, webhook::state::Ordering};

/// Endpoints of one statement. PostgreSQL takes it for the number of rows that come of them: for more it would find the
/// statement dear enough to be compiled, which takes longer than the statement.
const AT_ONCE: usize = 16;

/// Open deliveries that have a key, as their index has them.
const KEYED: &str = "state IN ('pending', 'claimed') AND order_key IS NOT NULL";

/// Puts the heads of conversations in the place of what was found for an endpoint, where that is less than it may have
/// and not all that is due was looked at.
pub(super) async fn look_further(
    db: &impl ConnectionTrait,
    wanted: &[Claiming],
    now: UnixMillis,
    found: &mut Vec<Candidate>,
) -> Result<(), DbErr> {
    let short: Vec<_> = wanted
        .iter()
        .filter(|it| it.ordering == Ordering::ByConversation)
        .filter(|it| found.iter().filter(|at| at.endpoint_id == it.endpoint).count() < it.limit)
        .collect();
    for probe in [false, true] {
        let some: Vec<_> = short.iter().copied().filter(|it| it.probe == probe).collect();
        for some in some.chunks(AT_ONCE) {
            let statement = statement(db.get_database_backend(), some, probe, now);
            let heads = Candidate::find_by_statement(statement).all(db).await?;
            for it in some {
                take_over(found, &heads, it);
            }
        }
    }
    Ok(())
}

/// Takes these heads for what was found, if there are any.
fn take_over(found: &mut Vec<Candidate>, heads: &[Candidate], of: &Claiming) {
    let heads = heads.iter().filter(|it| it.endpoint_id == of.endpoint);
    let mut heads: Vec<_> = heads.cloned().collect();
    if heads.is_empty() {
        return;
    }
    // What has no key yet is the head of nothing, and waits for nobody.
    found.retain(|it| it.endpoint_id != of.endpoint || it.order_key.is_none());
    let keyless = found.iter().filter(|it| it.endpoint_id == of.endpoint).count();
    heads.truncate(of.limit.saturating_sub(keyless));
    found.extend(heads);
}

fn statement(database: DbBackend, some: &[&Claiming], probe: bool, now: UnixMillis) -> Statement {
    let wants = some.iter().map(|it| json!({ "id": it.endpoint, "most": it.limit }));
    let wants: serde_json::Value = wants.collect();
    let text = if database == DbBackend::Postgres {
        let heads = heads(database, probe, "*", "w.id", "w.most");
        format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM jsonb_to_recordset(CAST($1 AS jsonb)) \
             AS l (id text, most bigint) LIMIT {AT_ONCE}) AS w CROSS JOIN LATERAL ({heads}) AS d \
             LEFT JOIN LATERAL (SELECT * FROM webhook_event v WHERE v.id = d.event_id LIMIT 1) AS e ON TRUE"
        )
    } else {
        let heads = heads(database, probe, "id", "(w.value ->> 'id')", "(w.value ->> 'most')");
        format!(
            "SELECT {COLUMNS} FROM json_each($1) AS w CROSS JOIN webhook_delivery d ON d.id IN ({heads}) \
             LEFT JOIN webhook_event e ON e.id = d.event_id"
        )
    };
    Statement::from_sql_and_values(database, text, [wants.to_string().into(), now.0.into()])
}

/// The heads of an endpoint's conversations that are due at `$2`; of one of which little is due, none.
///
/// Half of the places are for what is tried again, as everywhere.
fn heads(database: DbBackend, probe: bool, columns: &str, endpoint: &str, limit: &str) -> String {
    let young = if probe { " AND (d.expires_at = 0 OR d.expires_at > $2)" } else { "" };
    let again_goes_first = if probe { "FALSE" } else { "TRUE" };
    let of = format!("FROM webhook_delivery WHERE endpoint_id = {endpoint} AND {KEYED}");
    let is_much = format!(
        "{NEAR} <= (SELECT COUNT(*) FROM (SELECT 1 FROM webhook_delivery WHERE endpoint_id = {endpoint} \
         AND state = 'pending' AND next_at <= $2 LIMIT {NEAR}) AS c)"
    );
    let head = match database {
        DbBackend::Postgres => format!(
            "CROSS JOIN LATERAL (SELECT * {of} AND order_key = keys.key ORDER BY seq LIMIT 1) AS d"
        ),
        _ => format!(
            "CROSS JOIN webhook_delivery d ON d.id = \
             (SELECT id {of} AND order_key = keys.key ORDER BY seq LIMIT 1)"
        ),
    };
    // Numbered, as SQLite takes no limit that differs from row to row.
    format!(
        "SELECT {columns} FROM (SELECT due.*, ROW_NUMBER() OVER (ORDER BY turn, next_at, seq) AS place FROM (\
         WITH RECURSIVE keys (key) AS (\
         SELECT (SELECT order_key {of} ORDER BY order_key LIMIT 1) WHERE {is_much} UNION ALL \
         SELECT (SELECT order_key {of} AND order_key > keys.key ORDER BY order_key LIMIT 1) \
         FROM keys WHERE keys.key IS NOT NULL) \
         SELECT d.*, CASE WHEN d.next_at < 0 THEN -1 WHEN d.next_at = 0 THEN 1 \
         WHEN {again_goes_first} AND ROW_NUMBER() OVER \
         (PARTITION BY d.next_at > 0 ORDER BY d.next_at, d.seq) <= ({limit} + 1) / 2 \
         THEN 0 ELSE 2 END AS turn FROM keys {head} \
         WHERE d.state = 'pending' AND d.next_at <= $2{young}) AS due) AS placed WHERE place <= {limit}"
    )
}
