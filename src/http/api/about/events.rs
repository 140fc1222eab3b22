//! Events.

use serde_json::{Value, json};

use super::AT;
use crate::http::{
    api::events::{LONGEST, Page, USUAL},
    code::Code,
    operation::{Content, Field, Operation, Tag, number, operation, text},
};

const STREAM: &str = "Server-sent events: first a `snapshot` of the sessions as they are, then what happens, as it happens. A client that \
                      reconnects with `Last-Event-ID`, as browsers do, misses nothing; what retention has deleted meanwhile is told as a `gap`. \
                      What a session has seen goes with it: when the session is deleted, `session.deleted` is what stays. \
                      Who follows a session's status by its events: `qr` is `qr_generated`, `authenticated` and `loading_screen` are `loading`, \
                      `ready` is `session_connected`, `change_state` is `connecting`, `auth_failure` is `auth_failure`, and `disconnected` is \
                      `session_not_connected`, or `error` where its reason is `failed`. A `loading_screen` of a connected session tells of the \
                      account's past, and changes nothing. \
                      With `Accept: application/json` it is a page, as at `…/page`, with its parameters.";

/// The beginning of a stream.
const STREAMED: &str = "event: snapshot\nid: 16\ndata: {\"sessions\":[],\"timestamp\":\"2025-01-20T10:00:00.000Z\"}\n\n\
                        event: ready\nid: 17\ndata: {\"event\":\"ready\",\"sessionId\":\"shop-1\",\
                        \"data\":{\"phoneNumber\":\"15550001111\",\"pushName\":\"Toko Budi\"},\
                        \"timestamp\":\"2025-01-20T10:00:00.000Z\",\"id\":\"evt_01JJ2Q8ZK4XG0V3M5N7P9R1T3V\",\"seq\":17}\n\n\
                        : still here\n\n";

const PAGE: &str = "Events after a number, the oldest first: begin with `after=0`, and go on with the `cursor` of the page before. \
                    What a session has seen goes with it: when the session is deleted, `session.deleted` is what stays. \
                    With `wait`, an empty page waits for something to happen.";

fn example() -> Value {
    json!({
        "success": true,
        "data": [{
            "event": "ready", "sessionId": "shop-1",
            "data": { "phoneNumber": "15550001111", "pushName": "Toko Budi" },
            "timestamp": AT, "id": "evt_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "seq": 17,
        }],
        "cursor": 17,
    })
}

fn place() -> [Field; 3] {
    let usual = i64::try_from(USUAL).unwrap_or(LONGEST);
    [
        number("after", 0..=i64::MAX, "Only events after this number.").usually(0),
        number("limit", 1..=LONGEST, "The most events of the page.").usually(usual),
        number("wait", 0..=60, "Seconds to wait for an event.").usually(0),
    ]
}

fn kind(about: &'static str) -> Field {
    text("type", about).pattern("^[a-z_.]{1,64}$").example("message")
}

fn stream(id: &'static str, summary: &'static str) -> Operation {
    let page = Content::Json {
        schema: schemars::SchemaGenerator::subschema_for::<Page>,
        example: example(),
    };
    operation(id, Tag::Events, summary)
        .about(STREAM)
        .query(place())
        .query([kind("With `Accept: application/json`: only events of this kind, by the word that `event` has.")])
        .header(
            text("Last-Event-ID", "The number of the last event that the client has seen.")
                .pattern("^[0-9]{0,18}$")
                .example("17"),
        )
        .response(
            200,
            "The stream, until the client, the token or the daemon ends.",
            vec![Content::Text { kind: "text/event-stream", example: STREAMED }, page],
        )
        .refuses([Code::NotAcceptable, Code::TooManyStreams, Code::StreamsOfCaller])
}

fn page(id: &'static str, summary: &'static str) -> Operation {
    operation(id, Tag::Events, summary)
        .about(PAGE)
        .query(place())
        .query([kind("Only events of this kind, by the word that `event` has: `message`, `ready`, `session.created`.")])
        .answers::<Page>(200, "A page of events.", example())
        .refuses([Code::TooManyStreams, Code::StreamsOfCaller])
}

pub(in crate::http::api) fn feed() -> Operation {
    stream("streamEvents", "What happens in the organization, as it happens")
}

pub(in crate::http::api) fn feed_page() -> Operation {
    page("listEvents", "What has happened in the organization")
}

pub(in crate::http::api) fn session_feed() -> Operation {
    stream("streamSessionEvents", "What happens on a session, as it happens")
}

pub(in crate::http::api) fn session_feed_page() -> Operation {
    page("listSessionEvents", "What has happened on a session")
}
