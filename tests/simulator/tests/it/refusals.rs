//! What refuses a client, and what the client makes of it.

use std::time::Duration;

use wagate_simulator::{Error, Fault, Lasting, Scope, SocketState};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::wacore::types::events::{ConnectFailureReason, Event, TempBanReason};

use crate::world::{ALICE, World};
use crate::{Client, client};

fn stream_error(code: Option<u16>, child: Option<&str>) -> Fault {
    Fault::StreamError { code, child: child.map(str::to_owned), stays_open: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refused_over_http_is_tried_again() {
    let world = World::start().await;
    for status in [429, 503] {
        let refusal = Fault::RefuseUpgrade { status, retry_after: Some(1) };
        world.sim.fault(Scope::Everyone, refusal, Lasting::Once).await;
    }
    let client = Client::fresh(&world.sim.url()).await;
    client.qr().await;
    assert_eq!(world.sim.info().connections, 3);
    assert!(world.sim.faults().is_empty());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_and_retry_after_of_a_refused_upgrade_are_those_asked_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start().await;
    let refusal = Fault::RefuseUpgrade { status: 429, retry_after: Some(17) };
    world.sim.fault(Scope::Everyone, refusal, Lasting::Once).await;
    let mut stream = tokio::net::TcpStream::connect(world.sim.address()).await.unwrap();
    stream.write_all(b"GET /ws/chat HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\n"),
        "{answer}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stream_error_that_passes_the_client_is_back() {
    let world = World::start().await;
    let client = world.linked().await;
    let errors = [
        stream_error(Some(503), None),
        stream_error(Some(515), None),
        stream_error(None, Some("xml-not-well-formed")),
        stream_error(Some(599), None),
    ];
    for (error, logins) in errors.into_iter().zip(2..) {
        world.alice.fault(error, Lasting::Once).await;
        world.alice.wait_logged_in(logins).await.unwrap();
        client.connected(logins).await;
    }
    // Those without a meaning of their own are told; 503 and 515 only in the log.
    let told: Vec<String> = client.all(|event| match event {
        Event::StreamError(error) => Some(error.code.clone()),
        _ => None,
    });
    assert_eq!(told, ["", "599"]);
    assert_eq!(world.sim.logins_by_device().into_values().collect::<Vec<_>>(), [5]);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limited_stream_ends_without_an_event_of_its_own() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(stream_error(Some(429), None), Lasting::Once).await;
    let gone = |event: &Event| matches!(event, Event::Disconnected(_)).then_some(());
    client.wait("Disconnected", gone).await;
    assert_eq!(client.count(|event| matches!(event, Event::StreamError(_))), 0);
    // Its own clock says eight seconds and more; whoever runs it may know better.
    client.inner().reconnect_immediately().await;
    world.alice.wait_logged_in(2).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_error_that_closes_nothing_leaves_a_socket_that_is_not_logged_in() {
    let world = World::start().await;
    let client = world.linked().await;
    let error = Fault::StreamError { code: Some(503), child: None, stays_open: true };
    world.alice.fault(error, Lasting::Once).await;
    let inner = client.inner();
    client::until("the client to be logged out", || !inner.is_logged_in()).await;
    let sockets = world.sim.sockets();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    assert_eq!(sockets[0].state, SocketState::LoggedIn);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_a_login_is_told_apart() {
    let world = World::start().await;
    let mut store = world.linked().await.shutdown().await;
    let failures = [
        (401, "LoggedOut"),
        (403, "AccountLocked"),
        (405, "outdated"),
        (409, "BadUserAgent"),
        (501, "Experimental"),
        (402, "TempBanned"),
    ];
    for (reason, expected) in failures {
        world.alice.wait_offline().await.unwrap();
        world.alice.fault(Fault::Failure { reason }, Lasting::Once).await;
        let client = Client::with_store(&world.sim.url(), store).await;
        let told = client
            .wait("a refusal", |event| match event {
                Event::LoggedOut(out) => Some(format!("{:?}", out.reason)),
                Event::ClientOutdated(_) => Some("outdated".to_owned()),
                Event::ConnectFailure(failure) => Some(format!("{:?}", failure.reason)),
                _ => None,
            })
            .await;
        assert_eq!(told, expected);
        store = client.shutdown().await;
    }
    let client = Client::with_store(&world.sim.url(), store).await;
    client.connected(1).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_says_why_and_for_how_long() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::Ban { code: 102, expire: 3600 }, Lasting::Once).await;
    let ban = client
        .wait("TemporaryBan", |event| match event {
            Event::TemporaryBan(ban) => Some(ban.clone()),
            _ => None,
        })
        .await;
    assert_eq!(ban.code, TempBanReason::from(102));
    assert_eq!(ban.expire.num_seconds(), 3600);
    assert!(world.alice.online_devices().is_empty());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_troubles_of_its_own_is_dialled_again() {
    let world = World::start().await;
    let client = world.linked().await;
    for reason in [500, 503] {
        world.alice.fault(Fault::Failure { reason }, Lasting::Once).await;
    }
    world.alice.wait_logged_in(2).await.unwrap();
    client.connected(2).await;
    assert!(world.sim.faults().is_empty());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_too_old_is_refused_before_it_shows_a_code() {
    let world = World::start().await;
    let refusal = Fault::Failure { reason: 405 };
    world.sim.fault(Scope::Everyone, refusal, Lasting::Once).await;
    let client = Client::fresh(&world.sim.url()).await;
    let outdated = |event: &Event| matches!(event, Event::ClientOutdated(_)).then_some(());
    client.wait("ClientOutdated", outdated).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_closes_everything_and_ends_by_itself() {
    let world = World::start().await;
    let client = world.linked().await;
    world.sim.fault(Scope::Everyone, Fault::Outage, Lasting::Millis(1_500)).await;
    assert!(world.sim.online_devices().is_empty());
    world.bob.send_text(ALICE, "while all was down").await.unwrap();
    world.alice.wait_logged_in(2).await.unwrap();
    client.text("while all was down").await;
    let info = world.sim.info();
    assert!(info.connections > 3, "somebody knocked in between: {info:?}");
    assert_eq!(world.sim.inflicted()[0].struck, 1);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_are_limited_by_the_minute_and_the_client_told_for_how_long() {
    let world = World::start().await;
    let limit = Fault::LimitPairingCodes { per_minute: 1 };
    world.sim.fault(Scope::Everyone, limit, Lasting::UntilCleared).await;
    let first = Client::fresh(&world.sim.url()).await;
    let second = Client::fresh(&world.sim.url()).await;
    first.qr().await;
    second.qr().await;
    let options =
        |number: &str| PairCodeOptions { phone_number: number.to_owned(), ..Default::default() };
    first.inner().pair_with_code(options(ALICE)).await.unwrap();
    let refused = second.inner().pair_with_code(options("15550004444")).await.unwrap_err();
    let backoff = refused.backoff().unwrap();
    assert!((Duration::from_secs(5)..=Duration::from_secs(65)).contains(&backoff), "{backoff:?}");

    world.sim.clear_faults(None);
    second.inner().pair_with_code(options("15550004444")).await.unwrap();
    first.shutdown().await;
    second.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_a_code_reaches_the_caller() {
    let world = World::start().await;
    let client = Client::fresh(&world.sim.url()).await;
    client.qr().await;
    for code in [400, 403, 429, 452, 500] {
        let refusal = Fault::RefusePairingCode { code };
        world.sim.fault(Scope::Everyone, refusal, Lasting::Once).await;
        let options = PairCodeOptions { phone_number: ALICE.to_owned(), ..Default::default() };
        let refused = client.inner().pair_with_code(options).await.unwrap_err();
        assert!(format!("{refused:?}").contains(&code.to_string()), "{refused:?}");
    }
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_may_not_be_linked_shows_no_code() {
    let world = World::start().await;
    let refusal = Fault::RefusePairing { code: 401 };
    world.sim.fault(Scope::Everyone, refusal, Lasting::Once).await;
    let client = Client::fresh(&world.sim.url()).await;
    let gone = |event: &Event| matches!(event, Event::Disconnected(_)).then_some(());
    client.wait("Disconnected", gone).await;
    assert_eq!(client.count(|event| matches!(event, Event::PairingQrCode(_))), 0);
    client.qr().await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_pairing_is_refused_by_the_client() {
    let world = World::start().await;
    let client = Client::fresh(&world.sim.url()).await;
    let qr = client.qr().await;
    world.alice.fault(Fault::ForgePairing, Lasting::Once).await;
    let scanned = world.alice.scan(&qr).await;
    assert!(matches!(scanned, Err(Error::PairingRefused(_))), "{scanned:?}");
    client.wait("PairError", |event| matches!(event, Event::PairError(_)).then_some(())).await;
    // The code is as good as before.
    world.alice.scan(&qr).await.unwrap();
    client.connected(1).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_asked_for_with_and_without_its_options() {
    let world = World::start().await;
    for fetched in [false, true] {
        let client = Client::fresh(&world.sim.url()).await;
        let qr = client.qr().await;
        world.alice.fault(Fault::AskPasskey { fetched }, Lasting::Once).await;
        let scanned = world.alice.scan(&qr).await;
        assert!(matches!(scanned, Err(Error::PasskeyRequired)), "{scanned:?}");
        let options = client
            .wait("PairPasskeyRequest", |event| match event {
                Event::PairPasskeyRequest(request) => Some(request.request_options_json.clone()),
                _ => None,
            })
            .await;
        let request = whatsapp_rust::passkey::parse_request_options(&options).unwrap();
        assert_eq!(request.rp_id.as_deref(), Some("web.whatsapp.com"));
        let forged = whatsapp_rust::passkey::Assertion {
            assertion_json: b"{}".to_vec(),
            credential_id: vec![1],
        };
        client.inner().send_passkey_response(forged).await.unwrap_err();
        client.shutdown().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_without_a_name_is_kept_as_it_came() {
    let world = World::start().await;
    let store = world.linked().await.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    world.alice.fault(Fault::Failure { reason: 477 }, Lasting::Once).await;
    let client = Client::with_store(&world.sim.url(), store).await;
    let reason = client
        .wait("ConnectFailure", |event| match event {
            Event::ConnectFailure(failure) => Some(failure.reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, ConnectFailureReason::Unknown(477));
    client.shutdown().await;
    world.end().await;
}
