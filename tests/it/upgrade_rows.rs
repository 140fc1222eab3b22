//! Rows that an earlier version has left, to be found again as they were.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Database, Kind};

/// Tables whose rows stay: which of them, and the columns that an upgrade or a life writes anew.
const STAY: [(&str, &str, &[&str]); 27] = [
    ("audit", "", &[]),
    ("campaign", "", &[]),
    ("campaign_audience", "", &[]),
    ("campaign_statistics", "", &[]),
    ("contact", "", &[]),
    ("contact_identity", "", &[]),
    ("conversation", "", &[]),
    ("data_key", "", &[]),
    ("device", "", &["state", "updated_at"]),
    ("event", "", &["payload"]),
    // Codes are sealed by whoever finds them in clear.
    ("event", "WHERE kind <> 'qr'", &[]),
    ("idempotency", "", &[]),
    ("installation", "", &["epoch"]),
    // Their sources are sealed by whoever finds them in clear.
    ("message", "", &["raw"]),
    ("message_status", "", &[]),
    ("meta_account", "", &[]),
    ("meta_body", "", &[]),
    ("meta_event", "", &[]),
    ("organization", "", &["last_seq", "webhook_version"]),
    ("session", "WHERE session_id <> 'sales'", &[]),
    (
        "session",
        "",
        &[
            "status",
            "status_since",
            "message",
            "reconnecting",
            "next_attempt_at",
            "connected_at",
            "last_active_at",
            "last_disconnect_reason",
            "last_disconnect_code",
            "last_disconnect_at",
            "generation",
            "updated_at",
            "last_dial_at",
            "dial_failures",
        ],
    ),
    ("token", "", &["last_used_at"]),
    ("vault", "", &[]),
    ("webhook_attempt", "", &[]),
    // Its receiver is another one.
    ("webhook_endpoint", "", &["url", "state", "version", "updated_at"]),
    ("webhook_event", "", &[]),
    ("webhook_secret", "", &[]),
];

/// Rows as text, by the place of their table in the list.
pub(crate) struct Rows(BTreeMap<usize, (Vec<String>, BTreeSet<String>)>);

impl Rows {
    /// What is there now.
    pub(crate) async fn of(database: &Database) -> Self {
        let mut rows = BTreeMap::new();
        for (place, (table, of, changing)) in STAY.iter().enumerate() {
            let mut columns = columns(database, table).await;
            columns.retain(|it| !changing.contains(&it.as_str()));
            if !columns.is_empty() {
                let found = texts(database, table, of, &columns).await;
                assert!(!found.is_empty(), "{table} holds nothing");
                rows.insert(place, (columns, found));
            }
        }
        assert!(rows.len() >= 9, "there are few tables");
        Self(rows)
    }

    /// Each is there as it was; more may be.
    pub(crate) async fn are_in(&self, database: &Database, version: &str) {
        let mut gone = Vec::new();
        for (place, (columns, before)) in &self.0 {
            let (table, of, _) = STAY[*place];
            let now = texts(database, table, of, columns).await;
            if let Some(row) = before.difference(&now).next() {
                gone.push(format!(
                    "{table} {of} has no longer {columns:?}\n {row}\nbut\n {now:#?}"
                ));
            }
        }
        assert!(gone.is_empty(), "{version}: {}", gone.join("\n"));
    }
}

async fn columns(database: &Database, table: &str) -> Vec<String> {
    let find = match database.kind {
        Kind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Kind::Postgres => format!(
            "SELECT column_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
        ),
    };
    let rows = database.query(&find).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// A table's rows, each as one text.
async fn texts(database: &Database, table: &str, of: &str, columns: &[String]) -> BTreeSet<String> {
    let texts: Vec<String> = columns
        .iter()
        .map(|column| match database.kind {
            Kind::Sqlite => format!("quote(\"{column}\")"),
            Kind::Postgres => format!("coalesce(\"{column}\"::text, 'NULL')"),
        })
        .collect();
    let find = format!("SELECT {} FROM {table} {of}", texts.join(" || ' | ' || "));
    let rows = database.query(&find).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}
