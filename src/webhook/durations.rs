//! Durations sorted into buckets, so that percentiles of any number of them cost nothing to keep.

/// Upper bounds of the buckets in milliseconds, each a tenth above the one before: a percentile read from
/// them is off by no more than that.
const BOUNDS: [i32; 107] = bounds();

const fn bounds() -> [i32; 107] {
    let mut bounds = [1; 107];
    let mut at = 1;
    while at < bounds.len() {
        let (next, tenth) = (bounds[at - 1] + 1, bounds[at - 1] * 11 / 10);
        bounds[at] = if tenth > next { tenth } else { next };
        at += 1;
    }
    bounds
}

/// The bucket of a duration; the last for all that are longer than a minute.
pub fn bucket(millis: i32) -> i32 {
    let at = BOUNDS.partition_point(|bound| *bound < millis).min(BOUNDS.len() - 1);
    i32::try_from(at).unwrap_or(0)
}

/// What so many of a thousand are no longer than, in milliseconds: from buckets, and how many are in each.
/// None of none.
pub fn percentile(buckets: &[(i32, i64)], per_mille: i64) -> Option<i32> {
    let all: i64 = buckets.iter().map(|(_, number)| number).sum();
    let mut left = (all.checked_mul(per_mille)?).div_euclid(1000).max(1);
    let mut sorted = buckets.to_vec();
    sorted.sort_unstable();
    for (bucket, number) in sorted {
        left -= number;
        if left <= 0 {
            let at = usize::try_from(bucket).unwrap_or(0).min(BOUNDS.len() - 1);
            return Some(BOUNDS[at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_percentile_is_off_by_a_tenth_at_most(mut millis in proptest::collection::vec(0..60_000, 1..300)) {
            let buckets: Vec<_> = millis.iter().map(|it| (bucket(*it), 1)).collect();
            millis.sort_unstable();
            for per_mille in [500, 950] {
                let place = (millis.len() * usize::try_from(per_mille).unwrap() / 1000).max(1) - 1;
                let (exact, read) = (millis[place].max(1), percentile(&buckets, per_mille).unwrap());
                prop_assert!(read >= exact && read <= exact + exact / 10 + 1, "{read} for {exact}");
            }
        }
    }

    #[test]
    fn nothing_has_no_percentile_and_what_is_too_long_is_the_longest() {
        assert_eq!(percentile(&[], 500), None);
        assert_eq!(bucket(i32::MAX), bucket(61_000));
        assert!(BOUNDS.is_sorted() && BOUNDS[106] >= 60_000);
    }
}
