use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_util::task::TaskTracker;

use super::*;

const START: UnixMillis = UnixMillis(1_000_000);

/// The rank of a session that was last active then.
fn active_at(millis: i64) -> Rank {
    Rank::routine(Some(UnixMillis(millis)))
}

/// A turn that is being waited for.
type Turning = BoxFuture<'static, Result<Permit, Paused>>;

fn waiting(pace: &Pace, rank: Rank) -> Turning {
    let pace = pace.clone();
    Box::pin(async move { pace.turn(rank).await })
}

/// The permit, if it is there.
fn given(turn: &mut Turning) -> Option<Permit> {
    turn.now_or_never().map(|turn| turn.expect("no pause"))
}

/// Lets time pass until somebody of these has a turn; who, and after how long.
fn next(clock: &Clock, turns: &mut Vec<(&str, Turning)>) -> (String, Permit) {
    for _ in 0..10_000 {
        for at in 0..turns.len() {
            if let Some(permit) = given(&mut turns[at].1) {
                return (turns.remove(at).0.to_owned(), permit);
            }
        }
        clock.advance(Duration::from_millis(10));
    }
    panic!("nobody had a turn");
}

#[tokio::test]
async fn dials_begin_at_the_rate_whatever_the_number_of_those_who_wait() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 1_000, 10);
    let mut turns: Vec<_> = (0..200).map(|_| waiting(&pace, Rank::routine(None))).collect();
    let (mut begun, mut permits) = (Vec::new(), Vec::new());
    for step in 0..2_500 {
        turns.retain_mut(|turn| match given(turn) {
            Some(permit) => {
                begun.push(step * 10);
                permits.push(permit);
                false
            }
            None => true,
        });
        clock.advance(Duration::from_millis(10));
    }
    assert_eq!(begun.len(), 200, "all have had their turn");
    let took = begun.last().unwrap() - begun[0];
    assert!((18_000..22_500).contains(&took), "200 dials at 10 a second took {took} ms");
    // Several gateways that begin together do not stay in step.
    let gaps: Vec<_> = begun.windows(2).map(|two| two[1] - two[0]).collect();
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least <= 80 && *most >= 120, "from {least} to {most} ms between two dials");
    for second in begun.windows(16) {
        assert!(second[15] - second[0] >= 750, "more than the rate allows within a second");
    }
}

#[tokio::test]
async fn no_more_are_under_way_than_allowed_but_for_an_operator() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 2, 10_000);
    let first = pace.turn(Rank::routine(None)).await.unwrap();
    let second = pace.turn(Rank::routine(None)).await.unwrap();
    let mut third = waiting(&pace, active_at(5));
    clock.advance(Duration::from_hours(1));
    assert!(given(&mut third).is_none(), "two are under way");
    let operators = pace.turn(Rank::operator()).await.unwrap();
    drop((first, operators));
    let third = given(&mut third).expect("one has ended");
    drop((second, third));
}

#[tokio::test]
async fn an_operator_comes_first_and_then_who_was_active_last() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 1, 10);
    let running = pace.turn(Rank::routine(None)).await.unwrap();
    let mut turns = vec![
        ("never active", waiting(&pace, Rank::routine(None))),
        ("long ago", waiting(&pace, active_at(1))),
        ("just now", waiting(&pace, active_at(9))),
        ("operator", waiting(&pace, Rank::operator())),
    ];
    // Everybody has a place before the first turn is given.
    assert!(turns.iter_mut().skip(1).rev().skip(1).all(|(_, turn)| given(turn).is_none()));
    assert!(given(&mut turns[0].1).is_none());
    drop(running);
    let mut order = Vec::new();
    while !turns.is_empty() {
        order.push(next(&clock, &mut turns).0);
    }
    assert_eq!(order, ["operator", "just now", "long ago", "never active"]);
}

#[tokio::test]
async fn who_gives_up_waiting_does_not_hold_up_the_others() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 1, 10);
    let running = pace.turn(Rank::routine(None)).await.unwrap();
    let mut first = waiting(&pace, active_at(9));
    let mut second = waiting(&pace, active_at(1));
    assert!(given(&mut first).is_none() && given(&mut second).is_none());
    drop(first);
    drop(running);
    clock.advance(Duration::from_secs(1));
    assert!(given(&mut second).is_some());
}

#[tokio::test]
async fn a_rate_limit_pauses_all_dials_and_slows_down_those_that_follow() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 100, 10);
    let until = START + Duration::from_mins(2);
    pace.slow_down(until);
    // Said again by a dial that was under way: the same pause.
    pace.slow_down(until);
    let paused = Paused { until, due: clock.when(until) };
    assert_eq!(pace.paused(Rank::routine(None)), Some(paused));

    clock.advance(Duration::from_secs(119));
    assert_eq!(pace.turn(Rank::routine(None)).await.unwrap_err(), paused);
    assert!(given(&mut waiting(&pace, Rank::operator())).is_some(), "a person is no storm");
    clock.advance(Duration::from_secs(1));
    let mut routine = waiting(&pace, Rank::routine(None));
    let first = given(&mut routine).expect("the pause is over");
    assert_eq!(pace.paused(Rank::routine(None)), None);

    // Half the rate: two dials cannot be closer than half of 200 ms.
    let mut second = waiting(&pace, Rank::routine(None));
    clock.advance(Duration::from_millis(90));
    assert!(given(&mut second).is_none());
    clock.advance(Duration::from_millis(300));
    let second = given(&mut second).expect("its turn has come");
    first.succeeded();
    second.succeeded();
    for _ in 0..DIALS_PER_DOUBLING {
        clock.advance(Duration::from_secs(1));
        pace.turn(Rank::routine(None)).await.unwrap().succeeded();
    }
    assert_eq!(pace.lock().halvings, 0, "enough have succeeded");
}

#[tokio::test]
async fn in_one_pause_three_dials_that_somebody_asks_for_begin_and_more_wait() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 100, 10_000);
    for _ in 0..2 {
        let until = clock.now() + Duration::from_mins(2);
        pace.slow_down(until);
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(pace.paused(Rank::operator()), None);
            assert!(given(&mut waiting(&pace, Rank::operator())).is_some());
        }
        // That one of them is told the same is no new pause.
        pace.slow_down(until);
        clock.advance(Duration::from_secs(1));
        let refused = pace.turn(Rank::operator()).await.unwrap_err();
        assert_eq!(refused.until, until);
        clock.advance(Duration::from_mins(2));
        assert!(given(&mut waiting(&pace, Rank::operator())).is_some(), "it is over");
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_when_dials_are_paused_is_told_until_when() {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 1, 10);
    let running = pace.turn(Rank::routine(None)).await.unwrap();
    let tasks = TaskTracker::new();
    let queue = (0..20).map(|at| tasks.spawn(waiting(&pace, active_at(at)))).collect::<Vec<_>>();
    let operator = tasks.spawn(waiting(&pace, Rank::operator()));
    tokio::task::yield_now().await;
    let until = START + Duration::from_mins(2);
    pace.slow_down(until);
    for turn in queue {
        assert_eq!(turn.await.unwrap().unwrap_err(), Paused { until, due: clock.when(until) });
    }
    clock.advance(Duration::from_secs(1));
    assert!(operator.await.unwrap().is_ok());
    drop(running);
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_nobody_waiting() {
    // Stands for a clock that was an hour ahead when the last dial began.
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 10, 10);
    pace.lock().next = (START + Duration::from_hours(1)).0 * 1000;
    let mut turn = waiting(&pace, Rank::routine(None));
    assert!(given(&mut turn).is_none());
    clock.advance(Duration::from_secs(1));
    assert!(given(&mut turn).is_some());
}

#[tokio::test]
async fn a_clock_that_is_set_back_lengthens_no_pause_and_who_waits_is_told_the_new_time() {
    let clock = Clock::manual(UnixMillis(7_200_000));
    let pace = Pace::new(clock.clone(), 10, 10);
    let until = clock.now() + Duration::from_mins(2);
    pace.slow_down(until);
    clock.set_back(Duration::from_hours(1));
    let paused = pace.turn(Rank::routine(None)).await.unwrap_err();
    assert_eq!(paused.until, clock.now() + Duration::from_mins(2));
    assert!(clock.sleep_until_monotonic(paused.due).now_or_never().is_none());
    clock.advance(Duration::from_mins(2));
    clock.sleep_until_monotonic(paused.due).now_or_never().unwrap();
    let turn = given(&mut waiting(&pace, Rank::routine(None)));
    assert!(turn.is_some(), "the pause is over");
}

#[tokio::test]
async fn the_rate_is_halved_to_a_sixteenth_at_most_and_each_pause_begins_the_count_of_successes_anew()
 {
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 100, 10);
    let limit = || {
        pace.slow_down(clock.now() + Duration::from_secs(1));
        clock.advance(Duration::from_secs(2));
    };
    for halvings in [1, 2, 3, 4, 4, 4] {
        limit();
        assert_eq!(pace.lock().halvings, halvings);
    }
    let succeed = async |times| {
        for _ in 0..times {
            clock.advance(Duration::from_secs(10));
            pace.turn(Rank::routine(None)).await.unwrap().succeeded();
        }
    };
    succeed(DIALS_PER_DOUBLING - 1).await;
    limit();
    succeed(DIALS_PER_DOUBLING - 1).await;
    assert_eq!(pace.lock().halvings, 4, "not so many in a row");
    succeed(1).await;
    assert_eq!(pace.lock().halvings, 3);
}

#[tokio::test]
async fn who_waits_is_woken_when_a_dial_ends_and_when_the_one_before_gives_up() {
    let soon = Duration::from_secs(10);
    let clock = Clock::manual(START);
    let pace = Pace::new(clock.clone(), 1, 10);
    let running = pace.turn(Rank::routine(None)).await.unwrap();
    let tasks = TaskTracker::new();
    let [first, second, third] =
        [9, 5, 1].map(|active| tasks.spawn(waiting(&pace, active_at(active))));
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(1));
    drop(running);
    let first = tokio::time::timeout(soon, first).await.expect("it is woken").unwrap().unwrap();

    // Its turn has come, and it is gone before it takes it.
    clock.advance(Duration::from_secs(1));
    drop(first);
    second.abort();
    let third = tokio::time::timeout(soon, third).await.expect("it is woken").unwrap();
    assert!(third.is_ok());
}
