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
