use entity::UnixMillis;
use futures_util::FutureExt as _;

use super::*;

fn depot(spool: u64, concurrency: u32) -> (Depot, Clock) {
    let clock = Clock::manual(UnixMillis(1_000_000));
    let settings = Settings {
        directory: std::env::temp_dir(),
        max_size: spool,
        spool,
        keep: Duration::from_mins(5),
        concurrency,
        time_limit: Duration::from_secs(1),
    };
    (Depot::new(settings, clock.clone(), TaskTracker::new()), clock)
}

fn message(n: u64) -> MessageId {
    MessageId::new(UnixMillis(1), u128::from(n))
}

/// A file of zeros.
async fn file(depot: &Depot, size: u64) -> Found {
    let room = depot.room(size, MOMENT).await?;
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    Ok(depot.file((file, size, [0; 32]), room))
}

const SOON: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_was_brought_is_kept_until_nobody_has_asked_for_it_for_a_while() {
    let (depot, clock) = depot(1 << 20, 4);
    let get = async |expected: bool| {
        let (id, mut begun) = (message(1), false);
        let found = depot.get(&id, SOON, || {
            begun = true;
            let depot = depot.clone();
            async move { file(&depot, 10).await }
        });
        assert_eq!(found.await.unwrap().size(), 10);
        assert_eq!(begun, expected);
    };
    get(true).await;
    get(false).await;
    clock.advance(Duration::from_mins(4));
    get(false).await;
    clock.advance(Duration::from_mins(4));
    get(false).await;
    clock.advance(Duration::from_mins(6));
    get(true).await;
}

#[tokio::test]
async fn a_refusal_is_remembered_as_long_as_it_is_worth_it_and_a_panic_is_not() {
    let (depot, clock) = depot(1 << 20, 4);
    let get = async |with: Result<(), MediaError>| {
        let (id, mut begun) = (message(1), false);
        let found = depot.get(&id, SOON, || {
            begun = true;
            async move { Err(with.expect_err("not this one")) }
        });
        (found.await.unwrap_err(), begun)
    };
    let failed = MediaError::Unavailable(Obstacle::Failed);
    assert_eq!(get(Ok(())).await, (failed, true), "its task has panicked");
    assert_eq!(get(Err(MediaError::Gone)).await, (MediaError::Gone, true));
    assert_eq!(get(Err(MediaError::Damaged)).await, (MediaError::Gone, false));
    clock.advance(Duration::from_mins(6));
    let busy = MediaError::Unavailable(Obstacle::Busy);
    assert_eq!(get(Err(busy.clone())).await, (busy.clone(), true));
    assert_eq!(get(Err(MediaError::Gone)).await, (MediaError::Gone, true), "what passes is tried");
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_end_what_others_wait_for() {
    let (depot, _clock) = depot(1 << 20, 4);
    let (go, told) = tokio::sync::oneshot::channel::<()>();
    let bring = {
        let depot = depot.clone();
        async move {
            told.await.ok();
            file(&depot, 10).await
        }
    };
    let fetching = MediaError::Unavailable(Obstacle::Fetching);
    let first = depot.get(&message(1), Duration::ZERO, || bring).await;
    assert_eq!(first.unwrap_err(), fetching);
    go.send(()).unwrap();
    let second = depot.get(&message(1), SOON, || async { panic!("it is on its way") }).await;
    assert_eq!(second.unwrap().size(), 10);
}

#[tokio::test]
async fn room_is_made_of_what_is_only_kept_and_of_readers_who_stand_still() {
    let (depot, clock) = depot(100 * 1024, 4);
    let bring = async |n| {
        let begin = || {
            let depot = depot.clone();
            async move { file(&depot, 60 * 1024).await }
        };
        depot.get(&message(n), SOON, begin).await
    };
    let held = bring(1).await.unwrap();
    assert_eq!(held.read(0, 10).await.unwrap().len(), 10);
    // It is being read: the next waits, in vain.
    let busy = MediaError::Unavailable(Obstacle::Busy);
    assert_eq!(bring(2).await.unwrap_err(), busy);
    clock.advance(IDLE);
    assert!(bring(2).await.is_ok(), "who stands still makes place");
    assert!(held.read(0, 10).await.is_err(), "and is told so");
    assert!(bring(1).await.is_ok(), "what is only kept makes place at once");
    assert!(depot.room(1 << 30, MOMENT).await.is_err(), "there is never so much");
}

#[tokio::test]
async fn one_organization_has_half_of_the_turns_at_most() {
    let (depot, _clock) = depot(1 << 20, 4);
    let [one, other] = [1, 2].map(|n| OrganizationId::new(UnixMillis(1), n));
    let first = depot.place(&one).await.unwrap();
    let _second = depot.place(&one).await.unwrap();
    assert!(depot.place(&one).now_or_never().is_none());
    let _third = depot.place(&other).await.unwrap();
    drop(first);
    let _fourth = depot.place(&one).await.unwrap();
    let _fifth = depot.place(&other).await.unwrap();
    assert!(depot.place(&other).now_or_never().is_none());
}
