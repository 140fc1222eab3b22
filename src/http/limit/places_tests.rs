//! Who gets a place, and who waits.

use entity::UnixMillis;

use super::*;
use crate::http::limit::known::MOST;

type Lane = (&'static str, Share);
type Held = Vec<Place<&'static str>>;

const SHARED: Lane = ("shared", Share::Most);
const OWN: Lane = ("own", Share::Quarter);

/// Places that nobody waits long for. Not for no time: a task that has done much is made to yield.
fn places(most: usize) -> Places<&'static str> {
    Places::new(most, Duration::from_millis(1), Clock::system())
}

#[expect(clippy::unnecessary_wraps, reason = "an address is asked for as it is known: or not")]
fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

fn owner(n: u8) -> OrganizationId {
    OrganizationId::new(UnixMillis(0), n.into())
}

/// Takes places, from one address after the other, until there is none.
async fn fill(
    places: &Places<&'static str>,
    lane: Lane,
    from: impl IntoIterator<Item = u8>,
    has_failed: bool,
) -> Held {
    let mut taken = Vec::new();
    for last in from {
        while let Ok(place) = places.enter(lane, address(last), has_failed).await {
            taken.push(place);
        }
    }
    taken
}

#[tokio::test]
async fn one_address_has_its_share_and_all_strangers_have_half_of_a_lane() {
    let places = places(64);
    assert_eq!(fill(&places, SHARED, [1], false).await.len(), 6);
    let held = fill(&places, SHARED, 1..30, false).await;
    assert_eq!(held.len(), 24);
    assert!(places.enter(SHARED, address(99), false).await.is_err());
    // The other lane is as empty as it was.
    assert_eq!(fill(&places, OWN, [1], false).await.len(), 2);
}

#[tokio::test]
async fn who_was_good_is_let_in_beside_all_who_were_not() {
    let places = places(64);
    for n in [1, 2] {
        places.enter(SHARED, address(200), false).await.unwrap().was_good(owner(n));
    }
    let strangers = fill(&places, SHARED, 1..30, false).await;
    let suspects = fill(&places, SHARED, 30..60, true).await;
    assert_eq!((strangers.len(), suspects.len()), (24, 6));
    // Known, he is no suspect, whatever he has shown besides.
    let known = fill(&places, SHARED, [200], true).await;
    assert_eq!(known.len(), 18);
    // Nobody is known in a lane for what he showed in another, nor once he was slow.
    assert!(!places.knows(&OWN.0, address(200)));
    let late = async { Err::<(), _>(Problem::of(Code::RequestTimeout).into()) };
    assert!(known[0].read(late).await.is_err());
    drop((strangers, suspects, known));
    assert_eq!(fill(&places, SHARED, [200], false).await.len(), 6);
}

#[tokio::test]
async fn no_lane_takes_what_is_left_for_the_others() {
    let places = places(16);
    let owners: [Lane; 5] = ["a", "b", "c", "d", "e"].map(|name| (name, Share::Quarter));
    for lane in owners.into_iter().chain([SHARED]) {
        for last in 1..=4 {
            places.was_good(lane.0, address(last), Some(owner(last)));
        }
    }
    let shared = fill(&places, SHARED, 1..=5, false).await;
    let own = fill(&places, owners[0], 1..=4, false).await;
    assert_eq!((shared.len(), own.len()), (12, 4));
    drop((shared, own));
    // One owner has a quarter, and all of them leave one.
    let mut owned = Vec::new();
    for lane in owners {
        owned.push(fill(&places, lane, 1..=4, false).await);
    }
    assert_eq!(owned.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 0, 0]);
    assert_eq!(fill(&places, SHARED, 1..=4, false).await.len(), 4);
}

#[tokio::test]
async fn one_organization_has_its_share_of_a_lane_from_however_many_addresses() {
    let places = places(64);
    for last in 1..=40 {
        places.was_good(SHARED.0, address(last), Some(owner(1)));
    }
    places.was_good(SHARED.0, address(100), Some(owner(2)));
    // Meta's: for both of them.
    for n in [1, 2] {
        places.was_good(SHARED.0, address(200), Some(owner(n)));
    }
    let held = fill(&places, SHARED, 1..=40, false).await;
    assert_eq!(held.len(), 12);
    let strangers = fill(&places, SHARED, 41..80, false).await;
    assert_eq!(strangers.len(), 24);
    let metas = fill(&places, SHARED, [200], false).await;
    assert_eq!(metas.len(), 12);
    drop(metas);
    assert_eq!(fill(&places, SHARED, [100], false).await.len(), 12);
}

#[tokio::test]
async fn who_has_proved_nothing_has_half_of_all_places_whatever_lanes_he_finds() {
    let places = places(64);
    places.was_good(SHARED.0, address(200), Some(owner(1)));
    let mut held = Vec::new();
    for lane in [SHARED, ("other", Share::Most), OWN, ("theirs", Share::Quarter)] {
        held.extend(fill(&places, lane, 1..30, false).await);
        held.extend(fill(&places, lane, 30..60, true).await);
    }
    assert_eq!(held.len(), 32);
    assert_eq!(fill(&places, SHARED, [200], false).await.len(), 12);
}

#[tokio::test]
async fn all_who_are_known_leave_places_to_strangers() {
    let places = places(64);
    for last in 1..=40 {
        places.was_good(SHARED.0, address(last), Some(owner(last)));
    }
    let known = fill(&places, SHARED, 1..=40, false).await;
    assert_eq!(known.len(), 42);
    assert_eq!(fill(&places, SHARED, [99], false).await.len(), 6);
    // And the lane leaves some to the other lanes.
    assert_eq!(fill(&places, OWN, [99], false).await.len(), 2);
}

#[tokio::test]
async fn few_places_are_still_one_for_each() {
    let places = places(1);
    let first = places.enter(SHARED, address(1), true).await.unwrap();
    assert!(places.enter(SHARED, address(2), false).await.is_err());
    drop(first);
    assert!(places.enter(OWN, address(2), false).await.is_ok());
}

#[tokio::test]
async fn what_is_kept_of_addresses_does_not_follow_their_number() {
    let places = places(64);
    let held = places.enter(SHARED, address(1), false).await.unwrap();
    for number in 0..20_000_u32 {
        let address = Some(IpAddr::from(number.to_be_bytes()));
        places.enter(SHARED, address, false).await.unwrap().was_good(owner(1));
    }
    let shares = places.shares();
    assert!(shares.circles.len() <= SPACING + 16, "{}", shares.circles.len());
    assert!(shares.known.count() <= MOST);
    drop(shares);
    // Who came last is known, and who came first no more.
    assert!(places.knows(&SHARED.0, Some(IpAddr::from(19_999_u32.to_be_bytes()))));
    assert!(!places.knows(&SHARED.0, Some(IpAddr::from(1_u32.to_be_bytes()))));
    drop(held);
}
