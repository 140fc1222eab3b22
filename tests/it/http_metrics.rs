//! `/metrics`: which figures there are, and who may see them.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use entity::{
    kind::EventKind,
    state::{Role, SessionStatus},
};
use reqwest::Method;
use sea_orm::{ActiveEnum as _, ConnectionTrait as _, Iterable as _, Statement};
use serde_json::{Value, json};
use wagate::{
    REVISION,
    http::{Limits, Statement as Route, routes},
    store::{outbox::OUTBOX, retention::Table},
};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App},
};

/// The lines of `/metrics`.
pub(crate) struct Figures(String);

impl Figures {
    pub(crate) async fn of(app: &App) -> Self {
        let answer = app.get("/metrics").await;
        assert_eq!(answer.status, 200);
        Self(answer.text().to_owned())
    }

    /// The value of a series, by its name and labels as they are written.
    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }
}

#[tokio::test]
async fn figures_are_there_from_the_start_and_name_no_tenant() {
    on_each(async |database| {
        let app = App::start(database).await;
        let figures = Figures::of(&app).await;
        for status in SessionStatus::iter() {
            let series = format!("wagate_sessions{{status=\"{}\"}}", status.word());
            assert_eq!(figures.get(&series), "0");
        }
        // The same words as the program's own.
        let version = env!("CARGO_PKG_VERSION");
        let build = format!(r#"wagate_build_info{{version="{version}",revision="{REVISION}"}}"#);
        assert_eq!(figures.get(&build), "1");
        let said = Command::new(env!("CARGO_BIN_EXE_wagate")).arg("--version").output().unwrap();
        assert_eq!(
            String::from_utf8(said.stdout).unwrap(),
            format!("wagate {version} (revision {REVISION}, simulator)\n")
        );
        assert_eq!(figures.get("wagate_database_up"), "1");
        assert_eq!(figures.get("wagate_events_total"), "0");
        for table in Table::ALL {
            let series = format!("wagate_retention_rows_total{{table=\"{}\"}}", table.name());
            assert_eq!(figures.get(&series), "0");
        }
        assert_eq!(figures.get("wagate_retention_chunks_total"), "0");
        assert_eq!(figures.get("wagate_retention_slow_chunks_total"), "0");
        for kind in EventKind::iter() {
            let series = format!("wagate_events_recorded_total{{kind=\"{}\"}}", kind.to_value());
            assert_eq!(figures.get(&series), "0");
        }
        for series in [
            "wagate_store_waiting",
            "wagate_dials_total",
            "wagate_reconnects_total",
            r#"wagate_webhook_attempts_total{result="http_status"}"#,
            r#"wagate_webhook_attempts_total{result="blocked_address"}"#,
            "wagate_secrets_unopened_total",
            "wagate_dials_waiting",
            "wagate_dials_under_way",
            "wagate_outbox_waiting",
            "wagate_outbox_oldest_seconds",
        ] {
            assert_eq!(figures.get(series), "0");
        }
        for series in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_threads",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
            "wagate_runtime_workers",
            "wagate_runtime_tasks",
            "wagate_store_group_seconds_count",
        ] {
            let value: f64 = figures.get(series).parse().expect("a figure");
            assert!(value > 0.0, "{series} is {value}");
        }
        figures.get("wagate_store_oldest_seconds");
        figures.get("wagate_runtime_parks_total");
        figures.get("wagate_runtime_queued_tasks");
        figures.get("wagate_runtime_busy_seconds_total");
        // So is each route, with what it may answer.
        for Route { method, path, .. } in routes(&Limits::default()) {
            for status in ["500", "503"] {
                let labels = format!(r#"{{method="{method}",route="{path}",status="{status}"}}"#);
                assert_eq!(figures.get(&format!("wagate_http_requests_total{labels}")), "0");
            }
            let taken = format!(r#"wagate_http_request_seconds_count{{route="{path}"}}"#);
            assert_eq!(figures.get(&taken), "0");
        }
        let made = r#"{method="POST",route="/api/whatsapp/session",status="201"}"#;
        assert_eq!(figures.get(&format!("wagate_http_requests_total{made}")), "0");
        // Looking is counted, once it was answered.
        let looks = r#"wagate_http_requests_total{method="GET",route="/metrics",status="200"}"#;
        assert_eq!(figures.get(looks), "0");
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get(looks), "1");

        app.session("shop-of-mr-smith").await;
        app.connect("shop-of-mr-smith").await;
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_events_total"), "1");
        assert_eq!(figures.get(r#"wagate_events_recorded_total{kind="ready"}"#), "1");
        assert_ne!(figures.get("wagate_store_groups_total"), "0");
        let secrets = ["shop-of-mr-smith", "6281234567890", app.organization.as_str()];
        for secret in secrets {
            assert!(!figures.0.contains(secret), "{secret} in\n{}", figures.0);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_to_be_sent_is_counted_and_grows_old_while_its_session_is_connected() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        let message = json!({ "to": "15550002222", "text": "later", "queue": true });
        let queued = app.post("/api/whatsapp/session/shop/messages", message).await;
        assert_eq!(queued.status, 202, "{}", queued.text());
        app.clock.advance(Duration::from_secs(90));
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_outbox_waiting"), "1");
        assert_eq!(figures.get("wagate_outbox_oldest_seconds"), "0");
        app.connect("shop").await;
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_outbox_waiting"), "1");
        assert_eq!(figures.get("wagate_outbox_oldest_seconds"), "90");
        // What is sent waits no more.
        database.execute("UPDATE message SET status = 'sent'").await;
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_outbox_waiting"), "0");
        assert_eq!(figures.get("wagate_outbox_oldest_seconds"), "0");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_counted_without_a_look_at_what_was_sent() {
    on_each(async |database| {
        let app = App::start(database).await;
        let db = database.connect().await;
        let (explain, column) = match database.kind {
            Kind::Sqlite => ("EXPLAIN QUERY PLAN", 3),
            Kind::Postgres => {
                // Nobody uses an index of a table without rows, if he may read all of it.
                db.execute_unprepared("SET enable_seqscan = off").await.unwrap();
                ("EXPLAIN", 0)
            }
        };
        let ask = Statement::from_string(db.get_database_backend(), format!("{explain} {OUTBOX}"));
        let rows = db.query_all_raw(ask).await.unwrap();
        db.close().await.unwrap();
        let plan: Vec<String> =
            rows.iter().map(|row| row.try_get_by_index(column).unwrap()).collect();
        assert!(plan.iter().any(|line| line.contains("idx-message-waiting")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("SCAN session")), "{plan:#?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_client_library_counts_is_there_from_the_start() {
    let counters = counters_of_the_library();
    assert!(counters.len() > 10, "{counters:?}");
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let figures = Figures::of(&app).await;
        let shown: BTreeSet<String> = figures
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE wa_")?.split(' ').next())
            .map(|name| format!("wa_{name}_total"))
            .collect();
        assert_eq!(
            shown, counters,
            "src/service/metrics/known.rs has other names than the library"
        );
        for name in &counters {
            let has_series = figures.0.lines().any(|line| line.starts_with(name.as_str()));
            assert!(has_series, "{name} has no series");
        }
        app.close().await;
    })
    .await;
}

/// The names of the library's counters, read from the sources that this was built with.
fn counters_of_the_library() -> BTreeSet<String> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        // What others need is not here.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let wacore = packages.iter().find(|package| package["name"] == "wacore").unwrap();
    let manifest = Path::new(wacore["manifest_path"].as_str().unwrap());
    let telemetry = manifest.with_file_name("src").join("telemetry.rs");
    let text = std::fs::read_to_string(telemetry).unwrap();
    let counted = text.split("  counter!(\"").skip(1);
    counted.filter_map(|it| Some(it.split_once('"')?.0.to_owned())).collect()
}

#[tokio::test]
async fn figures_take_the_operator_s_token_unless_they_are_opened() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let metrics = async |token: &str| {
            Answer::to(app.anonymous(Method::GET, "/metrics").bearer_auth(token)).await
        };
        let viewer = app.token_of(&app.organization, Role::Admin).await;
        metrics(&viewer).await.problem(403, "FORBIDDEN");
        metrics("wag_nobody").await.problem(401, "UNAUTHENTICATED");
        let nobody = Answer::to(app.anonymous(Method::GET, "/metrics")).await;
        nobody.problem(401, "UNAUTHENTICATED");
        let token = app.token.clone();
        let shown = metrics(&token).await;
        assert_eq!(
            shown.header("content-type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        app.close().await;
    })
    .await;
    on(Kind::Sqlite, async |database| {
        let limits = Limits { open_metrics: true, ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let nobody = Answer::to(app.anonymous(Method::GET, "/metrics")).await;
        assert_eq!(nobody.status, 200);
        assert!(nobody.text().contains("wagate_build_info"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_figures_that_there_are() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let figures = Figures::of(&app).await;
        let is_there = |name: &str| {
            let mut lines = figures.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            // The endings are the format's.
            let endings = ["", "_total", "_bucket", "_info"];
            lines.any(|line| {
                let family = line.split(' ').next().unwrap_or_default();
                endings.iter().any(|ending| name.strip_suffix(ending) == Some(family))
            })
        };
        for text in [
            include_str!("../../examples/monitoring/alerts.yml"),
            include_str!("../../examples/monitoring/dashboard.json"),
            include_str!("../../docs/operations.md"),
        ] {
            let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            let names: Vec<_> = words
                .filter(|word| word.starts_with("wagate_") || word.starts_with("process_"))
                .collect();
            assert!(names.len() > 5, "{names:?}");
            for name in names {
                assert!(is_there(name), "no {name} in\n{}", figures.0);
            }
        }
        // What becomes of what Meta tells and is told is all to be seen.
        let board = include_str!("../../examples/monitoring/dashboard.json");
        let of_meta = figures.0.lines().filter_map(|line| line.strip_prefix("# TYPE wagate_meta_"));
        let of_meta: Vec<_> = of_meta.filter_map(|line| line.split(' ').next()).collect();
        assert!(of_meta.len() > 9, "{of_meta:?}");
        for family in of_meta {
            assert!(
                board.contains(&format!("wagate_meta_{family}")),
                "no {family} in the dashboard"
            );
        }
        app.close().await;
    })
    .await;
}
