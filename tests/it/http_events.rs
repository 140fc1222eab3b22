//! The event feed over HTTP: streamed, resumed, polled.

use std::time::Duration;

use entity::state::Role;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wagate::{
    event::{Change, Event},
    http::{Limits, Quota},
    maintenance::{Maintenance, Policy},
    service::Tokens,
    store::{audit::By, retention::Table},
};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App},
};

/// A stream, read event by event.
pub(crate) struct Stream {
    response: Response,
    read: String,
}

/// One event of a stream; a comment has no name.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) name: String,
    pub(crate) id: Option<i64>,
    pub(crate) data: Value,
}

impl Stream {
    pub(crate) async fn open(app: &App, path: &str, last_event_id: Option<i64>) -> Self {
        Self::open_as(app, &app.token, path, last_event_id).await
    }

    pub(crate) async fn open_as(
        app: &App,
        token: &str,
        path: &str,
        last_event_id: Option<i64>,
    ) -> Self {
        let mut request = app.anonymous(Method::GET, path).bearer_auth(token);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    /// The next event or comment; none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(ToOwned::to_owned)
                };
                if block.starts_with("retry:") {
                    continue;
                }
                return Some(Received {
                    name: field("event: ").unwrap_or_default(),
                    id: field("id: ").map(|id| id.parse().unwrap()),
                    data: field("data: ")
                        .map_or(Value::Null, |data| serde_json::from_str(&data).unwrap()),
                });
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk());
            let chunk = chunk.await.expect("a stream says something within its heartbeat");
            self.read.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    /// The next event, which must have this name.
    pub(crate) async fn expect(&mut self, name: &str) -> Received {
        let received = self.next().await.expect("the stream goes on");
        assert_eq!(received.name, name, "{received:?}");
        received
    }
}

fn connecting() -> Event {
    Event::ChangeState(Change::Connecting)
}

#[tokio::test]
async fn a_stream_begins_with_what_is_and_goes_on_with_what_happens() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("a").await;
        app.session("b").await;
        app.show_qr("a", "1@first").await;

        let mut stream = Stream::open(&app, "/api/whatsapp/events", None).await;
        let snapshot = stream.expect("snapshot").await;
        let sessions = snapshot.data["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        let a = sessions.iter().find(|session| session["sessionId"] == "a").unwrap();
        assert_eq!(a["qr"], "1@first");
        let status = app.get("/api/whatsapp/session/status/a").await.json();
        assert_eq!(*a, status["data"], "the same object everywhere");

        app.connect("a").await;
        app.happen("b", connecting()).await;
        let ready = stream.expect("ready").await;
        assert_eq!(ready.data["event"], "ready");
        assert_eq!(ready.data["sessionId"], "a");
        assert_eq!(ready.data["data"]["phoneNumber"], "6281234567890");
        assert_eq!(ready.data["seq"], ready.id.unwrap());
        assert!(ready.id > snapshot.id);
        let change = stream.expect("change_state").await;
        assert_eq!(change.data["sessionId"], "b");

        // Of one session.
        let mut one = Stream::open(&app, "/api/whatsapp/session/b/events", None).await;
        let snapshot = one.expect("snapshot").await;
        assert_eq!(snapshot.data["sessions"].as_array().unwrap().len(), 1);
        app.happen("a", connecting()).await;
        app.connect("b").await;
        assert_eq!(one.expect("ready").await.data["sessionId"], "b");
        drop((stream, one));
        app.close().await;
    })
    .await;
}

/// What a client elsewhere posts passes the same door.
#[tokio::test]
async fn what_is_posted_is_streamed_of_all_sessions_and_of_one() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let mut all = Stream::open(&app, "/api/whatsapp/events", None).await;
        let mut one = Stream::open(&app, "/api/whatsapp/session/shop/events", None).await;
        for stream in [&mut all, &mut one] {
            stream.expect("snapshot").await;
        }
        let told = app.tell("shop", "ready", json!({ "phoneNumber": "6281234567890" })).await;
        let told = told.json();
        for stream in [&mut all, &mut one] {
            let ready = stream.expect("ready").await;
            assert_eq!(ready.data["sessionId"], "shop");
            assert_eq!(ready.data["data"]["phoneNumber"], "6281234567890");
            assert_eq!(told["data"]["sequence"], ready.id.unwrap());
        }
        drop((all, one));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_resumed_stream_has_lost_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("a").await;
        let mut stream = Stream::open(&app, "/api/whatsapp/events", None).await;
        let snapshot = stream.expect("snapshot").await;
        app.happen("a", connecting()).await;
        let first = stream.expect("change_state").await;
        drop(stream);

        // More than a page of the table.
        for n in 0..250 {
            app.show_qr("a", &n.to_string()).await;
        }
        let mut stream = Stream::open(&app, "/api/whatsapp/events", first.id).await;
        let mut last = first.id.unwrap();
        for n in 0..250 {
            let qr = stream.expect("qr").await;
            assert_eq!(qr.data["data"]["qr"], n.to_string());
            assert!(qr.id.unwrap() > last);
            last = qr.id.unwrap();
        }
        let caught_up = stream.expect("snapshot").await;
        assert_eq!(caught_up.id, Some(last));
        assert_eq!(caught_up.data["sessions"][0]["qr"], "249");
        app.connect("a").await;
        stream.expect("ready").await;
        drop(stream);

        // By the address too, for clients that cannot set the header.
        let path = format!("/api/whatsapp/events?after={}", snapshot.id.unwrap());
        let mut stream = Stream::open(&app, &path, None).await;
        assert_eq!(stream.expect("change_state").await.id, first.id);
        drop(stream);

        // A number that was never given out is from another database: begin anew.
        let mut stream = Stream::open(&app, "/api/whatsapp/events", Some(1_000_000)).await;
        stream.expect("snapshot").await;
        drop(stream);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_silent_stream_gives_signs_of_life_and_ends_with_its_token_or_session() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        app.session("a").await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        let mut of_viewer = Stream::open_as(&app, &viewer, "/api/whatsapp/events", None).await;
        let mut of_session = Stream::open(&app, "/api/whatsapp/session/a/events", None).await;
        for stream in [&mut of_viewer, &mut of_session] {
            stream.expect("snapshot").await;
            assert_eq!(stream.next().await.unwrap().name, "", "a comment");
        }

        let caller = Tokens::new(app.store.clone()).authenticate(&viewer).await.unwrap();
        app.store
            .tokens()
            .revoke(&app.organization, caller.token_id.as_ref().unwrap(), By::default())
            .await
            .unwrap();
        while let Some(sign) = of_viewer.next().await {
            assert_eq!(sign.name, "");
        }
        app.delete("/api/whatsapp/session/a").await;
        while let Some(sign) = of_session.next().await {
            let names = ["", "disconnected", "session.deleted"];
            assert!(names.contains(&sign.name.as_str()), "{sign:?}");
        }
        app.close().await;
    })
    .await;
}

/// Waits until so many requests of a token have been let in: each has taken one of the `burst` that it may make.
async fn let_in(requests: u32, burst: u32, ask: impl Fn() -> RequestBuilder) {
    let mut asked = requests;
    loop {
        asked += 1;
        let left = format!("r={};", burst - asked);
        if Answer::to(ask()).await.header("ratelimit").contains(&left) {
            return;
        }
    }
}

#[tokio::test]
async fn the_streams_and_polls_of_a_revoked_token_end_at_once() {
    on_each(async |database| {
        const BURST: u32 = 1000;
        let quota = Quota::new(BURST, Duration::from_mins(1), BURST);
        // Nothing else ends them: no heartbeat, no event.
        let limits = Limits {
            heartbeat: Duration::from_hours(1),
            per_token: Some(quota),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        app.session("a").await;
        app.show_qr("a", "2@code").await;
        let token =
            app.post("/api/tokens", json!({ "role": "viewer" })).await.json()["data"].clone();
        let secret = token["secret"].as_str().unwrap();
        let as_viewer = |path: &str| app.anonymous(Method::GET, path).bearer_auth(secret);

        let mut streams = Vec::new();
        for path in ["/api/whatsapp/events", "/api/whatsapp/session/a/events"] {
            let mut stream = Stream::open_as(&app, secret, path, None).await;
            stream.expect("snapshot").await;
            streams.push(stream);
        }
        let polls = [
            "/api/whatsapp/events/page?after=1000000&wait=60",
            "/api/whatsapp/session/a/events/page?after=1000000&wait=60",
            "/api/whatsapp/session/a/qr.json?after=1&wait=60",
        ];
        let tracker = TaskTracker::new();
        let polls = polls.map(|path| tracker.spawn(Answer::to(as_viewer(path))));
        let_in(5, BURST, || as_viewer("/")).await;

        let path = format!("/api/tokens/{}", token["id"].as_str().unwrap());
        assert_eq!(app.delete(&path).await.status, 200);
        for mut stream in streams {
            assert!(stream.next().await.is_none());
        }
        for poll in polls {
            poll.await.unwrap().problem(401, "UNAUTHENTICATED");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_revoked_elsewhere_is_told_nothing_more() {
    on_each(async |database| {
        const BURST: u32 = 1000;
        let limits = Limits {
            heartbeat: Duration::from_hours(1),
            per_token: Some(Quota::new(BURST, Duration::from_mins(1), BURST)),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        app.session("a").await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        let mut stream = Stream::open_as(&app, &viewer, "/api/whatsapp/events", None).await;
        stream.expect("snapshot").await;
        app.hear("a", "15550001111", "before").await;
        let place = stream.expect("message").await.id.unwrap();
        let page = format!("/api/whatsapp/events/page?after={place}&wait=60");
        let as_viewer = |path: &str| app.anonymous(Method::GET, path).bearer_auth(&viewer);
        let poll = TaskTracker::new().spawn(Answer::to(as_viewer(&page)));
        let_in(2, BURST, || as_viewer("/")).await;
        // As another process does: nobody here is told.
        let caller = Tokens::new(app.store.clone()).authenticate(&viewer).await.unwrap();
        let id = caller.token_id.unwrap();
        app.store.tokens().revoke(&app.organization, &id, By::default()).await.unwrap();
        app.hear("a", "15550001111", "after").await;
        assert!(stream.next().await.is_none());
        poll.await.unwrap().problem(401, "UNAUTHENTICATED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn streams_end_when_the_daemon_stops() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let mut stream = Stream::open(&app, "/api/whatsapp/events", None).await;
        stream.expect("snapshot").await;
        app.stop.cancel();
        assert!(stream.next().await.is_none());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { streams: 1, ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let stream = Stream::open(&app, "/api/whatsapp/events", None).await;
        let answer = app.get("/api/whatsapp/events").await;
        answer.problem(503, "TOO_MANY_STREAMS");
        assert_eq!(answer.header("retry-after"), "5");
        assert_eq!(app.get("/api/whatsapp/events/page").await.status, 200, "not a stream");
        drop(stream);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_token_and_one_organization_have_so_many_streams_and_leave_the_others_theirs() {
    on_each(async |database| {
        let limits =
            Limits { streams_per_token: 2, streams_per_organization: 3, ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let (ours, theirs) = (app.organization.clone(), app.stranger(database).await);
        let viewers =
            [app.token_of(&ours, Role::Viewer).await, app.token_of(&ours, Role::Viewer).await];
        let refused = async |secret: &str, path: &str| {
            let answer = Answer::to(app.anonymous(Method::GET, path).bearer_auth(secret)).await;
            assert_eq!(answer.header("retry-after"), "5");
            answer.problem(429, "TOO_MANY_STREAMS_OF_CALLER")["limit"].clone()
        };
        let events = "/api/whatsapp/events";
        let poll = "/api/whatsapp/events/page?after=1000000&wait=1";
        let mut held = Vec::new();
        for secret in [&viewers[0], &viewers[0], &viewers[1]] {
            held.push(Stream::open_as(&app, secret, events, None).await);
        }
        // A long poll takes a place like a stream.
        assert_eq!(refused(&viewers[0], poll).await, "token");
        assert_eq!(refused(&viewers[1], events).await, "organization");
        // Whoever waits for nothing needs none, and another organization and the operator have theirs.
        let page = app.anonymous(Method::GET, "/api/whatsapp/events/page").bearer_auth(&viewers[1]);
        assert_eq!(Answer::to(page).await.status, 200);
        for secret in [&theirs, &app.token] {
            held.push(Stream::open_as(&app, secret, events, None).await);
        }
        held.remove(0);
        // The daemon sees that it is gone when it next has something to say, or at once.
        app.session("a").await;
        for _ in 0..100 {
            app.hear("a", "15550001111", "hello").await;
            let again = app.anonymous(Method::GET, poll).bearer_auth(&viewers[1]);
            if Answer::to(again).await.status == 200 {
                held.clear();
                break;
            }
        }
        assert!(held.is_empty(), "the place of a stream that ended is there again");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_feed_can_be_polled() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("a").await;
        app.session("b").await;
        for _ in 0..3 {
            app.happen("a", connecting()).await;
            app.connect("b").await;
        }
        let first = app.get("/api/whatsapp/events/page?limit=4").await.json();
        assert_eq!(first["success"], true);
        assert_eq!(first["data"].as_array().unwrap().len(), 4);
        let path = format!("/api/whatsapp/events/page?after={}", first["cursor"]);
        let rest = app.get(&path).await.json();
        assert_eq!(rest["data"].as_array().unwrap().len(), 4);
        let path = format!("/api/whatsapp/events/page?after={}", rest["cursor"]);
        let empty = app.get(&path).await.json();
        assert_eq!((&empty["data"], &empty["cursor"]), (&json!([]), &rest["cursor"]));

        // The same by `Accept`, and of one session.
        let request = app
            .request(Method::GET, "/api/whatsapp/session/a/events")
            .header("accept", "application/json");
        let of_a = Answer::to(request).await.json();
        assert_eq!(of_a["data"].as_array().unwrap().len(), 4);
        assert_eq!(of_a["data"][0]["event"], "session.created");
        assert!(of_a["data"].as_array().unwrap().iter().all(|event| event["sessionId"] == "a"));

        // And awaited.
        let path = format!("{path}&wait=15");
        let waits = app.get(&path);
        let happens = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            app.happen("a", connecting()).await;
        };
        let (waits, ()) = tokio::join!(waits, happens);
        assert_eq!(waits.json()["data"][0]["event"], "change_state");
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_before_what_is_left_is_told_what_is_missing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        for _ in 0..4 {
            app.happen("s", connecting()).await;
        }
        app.clock.advance(Duration::from_hours(48));
        app.happen("s", connecting()).await;
        let policy = Policy { events: Some(Duration::from_hours(24)), ..Policy::default() };
        let stop = CancellationToken::new();
        let swept = Maintenance::new(app.store.clone(), policy, stop).sweep().await.unwrap();
        // That the session was created is a notice.
        assert_eq!((swept.rows[&Table::Events], swept.rows[&Table::Notices]), (4, 1));
        assert_eq!(swept.total(), 5);

        for path in ["/api/whatsapp/events", "/api/whatsapp/session/s/events"] {
            let page = app.get(&format!("{path}/page?after=2")).await.json();
            assert_eq!(page["gap"], json!({ "after": 2, "through": 5 }), "{page}");
            assert_eq!((&page["data"][0]["seq"], &page["cursor"]), (&json!(6), &json!(6)));
            let page = app.get(&format!("{path}/page?after=5")).await.json();
            assert_eq!(page.get("gap"), None, "{page}");

            let mut stream = Stream::open(&app, path, Some(1)).await;
            let gap = stream.expect("gap").await;
            assert_eq!((gap.id, gap.data), (Some(5), json!({ "after": 1, "through": 5 })));
            assert_eq!(stream.expect("change_state").await.id, Some(6));
            stream.expect("snapshot").await;
        }

        // All of it may be gone.
        app.clock.advance(Duration::from_hours(48));
        let stop = CancellationToken::new();
        Maintenance::new(app.store.clone(), policy, stop).sweep().await.unwrap();
        let page = app.get("/api/whatsapp/events/page?after=2").await.json();
        assert_eq!((&page["gap"]["through"], &page["cursor"]), (&json!(6), &json!(6)));
        let mut stream = Stream::open(&app, "/api/whatsapp/events", Some(2)).await;
        assert_eq!(stream.expect("gap").await.id, Some(6));
        stream.expect("snapshot").await;
        app.close().await;
    })
    .await;
}
