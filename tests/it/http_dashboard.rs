//! `/dashboard`: a page for people.

use reqwest::Method;

use crate::{
    database::{Kind, on},
    http_app::{Answer, App},
};

#[tokio::test]
async fn the_dashboard_is_a_page_that_holds_nothing_and_loads_nothing_from_elsewhere() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (path, kind) in [
            ("/dashboard", "text/html; charset=utf-8"),
            ("/dashboard/style.css", "text/css; charset=utf-8"),
            ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ] {
            let part = Answer::to(app.anonymous(Method::GET, path)).await;
            assert_eq!((part.status.as_u16(), part.header("content-type")), (200, kind));
            assert!(part.header("content-security-policy").starts_with("default-src 'none'"));
            assert!(!part.text().contains("://"), "{path} names another host");
        }
        app.close().await;
    })
    .await;
}

/// The list, the status and the stream are compared at every step by `honesty.rs`: so is the dashboard,
/// as long as it has its data from nowhere else. It computes nothing from it but a session's group, from the
/// flags, which is compared there as well.
#[tokio::test]
async fn the_dashboard_shows_what_the_list_the_status_and_the_stream_say_and_nothing_else() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let script = Answer::to(app.anonymous(Method::GET, "/dashboard/app.js")).await;
        let script = script.text();
        let asked = |call: &str| {
            let calls = script.split(call).skip(1);
            calls.map(|rest| rest.split('`').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            asked("ask(\"GET\", `"),
            ["${API}/session/list-realtime", "${API}/session/status/${encodeURIComponent(id)}"]
        );
        assert_eq!(asked("fetch(`"), ["${API}/events"]);
        // One more fetch, in `ask` itself.
        assert_eq!(script.matches("fetch(").count(), 2);
        app.close().await;
    })
    .await;
}
