//! `/metrics`: which figures there are, and who may see them.

use entity::state::{Role, SessionStatus};
use reqwest::Method;
use sea_orm::Iterable as _;
use wagate::{http::Limits, store::retention::Table};

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
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(figures.get(&format!("wagate_build_info{{version=\"{version}\"}}")), "1");
        assert_eq!(figures.get("wagate_database_up"), "1");
        assert_eq!(figures.get("wagate_events_total"), "0");
        for table in Table::ALL {
            let series = format!("wagate_retention_rows_total{{table=\"{}\"}}", table.name());
            assert_eq!(figures.get(&series), "0");
        }
        assert_eq!(figures.get("wagate_retention_chunks_total"), "0");
        assert_eq!(figures.get("wagate_retention_slow_chunks_total"), "0");

        app.session("shop-of-mr-smith").await;
        app.connect("shop-of-mr-smith").await;
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_events_total"), "1");
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
