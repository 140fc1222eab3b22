use std::task::Poll;

use entity::{UnixMillis, id::NodeId};
use futures_util::poll;

use super::*;
use crate::clock::Clock;

#[tokio::test]
async fn what_may_be_somebody_else_s_by_now_is_not_dialled() {
    let clock = Clock::manual(UnixMillis(1_000));
    let lease = Duration::from_secs(20);
    let until = clock.monotonic() + lease;
    let node = NodeId::new(UnixMillis(0), 1);
    let tenure = Arc::new(Tenure::new(node, clock.clone(), Some(until)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (tracker, barrier) = (TaskTracker::new(), Barrier::default());
    let connector = Arc::new(Connector::Plain);
    let dialler = Dialler::new(Some(url), connector, tenure, tracker, barrier);
    for ours in [true, false] {
        if !ours {
            clock.advance(lease);
        }
        // Its first step, at whose end a connection is asked for.
        match poll!(dialler.create_transport()) {
            Poll::Pending => assert!(ours, "it dials"),
            Poll::Ready(Ok(_)) => panic!("nobody has answered"),
            Poll::Ready(Err(refused)) => {
                assert_eq!((ours, refused.to_string()), (false, NOT_OURS.to_owned()));
            }
        }
        // The kernel accepts as soon as it is asked for a connection.
        assert_eq!(listener.accept().is_ok(), ours);
    }
}

#[test]
fn a_dial_is_judged_by_how_far_it_came() {
    let progress = Progress::default();
    assert_eq!(progress.take_failure(), None);

    progress.reached(DIALLING);
    assert_eq!(progress.take_failure(), Some(DialFailure::Unreachable));

    progress.reached(CONNECTED);
    lock(&progress.0.wire).receive(4);
    assert_eq!(progress.take_failure(), Some(DialFailure::Unreachable), "only a close frame");

    progress.reached(CONNECTED);
    lock(&progress.0.wire).receive(400);
    assert_eq!(progress.take_failure(), Some(DialFailure::ServerRefused));

    progress.accepted();
    assert!(progress.is_answered());
    assert_eq!(progress.take_failure(), None);
}

#[test]
fn an_answer_that_is_no_websocket_says_what_is_wrong_and_for_how_long() {
    let now = httpdate::parse_http_date("Tue, 24 Nov 2026 07:00:00 GMT").unwrap();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (head, status, after) in [
        ("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\n\r\nslow", 429, seconds(120)),
        ("HTTP/1.1 503 x\r\nretry-after: Tue, 24 Nov 2026 07:01:00 GMT\r\n\r\n", 503, seconds(60)),
        ("HTTP/1.1 503 x\r\nRetry-After: Mon, 23 Nov 2026 07:00:00 GMT\r\n\r\n", 503, seconds(0)),
        ("HTTP/1.1 502 Bad Gateway\r\nRetry-After: soon\r\n\r\n", 502, None),
        ("HTTP/1.1 403 Forbidden\r\nServer: x", 403, None),
    ] {
        let upgrade = DialFailure::Upgrade { status, retry_after: after };
        assert_eq!(refusal(head.as_bytes(), now), Some(upgrade), "{head}");
    }
    for nothing in ["", "HTTP/1.1", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "\u{1}\u{2}"] {
        assert_eq!(refusal(nothing.as_bytes(), now), None, "{nothing}");
    }
}
