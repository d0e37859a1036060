//! When the verdict changes, and when it does not.

use super::*;

fn changes(standing: &mut Standing, count: u32, start: Instant, pace: Duration) -> Instant {
    let mut now = start;
    for n in 0..count {
        now = start + pace * n;
        let verdict = if n % 2 == 0 {
            Verdict::Reachable
        } else {
            Verdict::Unreachable
        };
        standing.set(verdict, now);
    }
    now
}

#[test]
fn an_address_that_keeps_changing_is_unstable_for_three_hours() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let mut standing = Standing::new(start);
    let now = changes(&mut standing, 4, start, minute);
    assert!(!standing.is_unstable(now), "three changes after the first");
    assert_eq!(standing.held_until(now), None);
    let mut standing = Standing::new(start);
    let now = changes(&mut standing, 5, start, minute);
    assert!(standing.is_unstable(now));
    let until = standing.unstable_until(now).unwrap();
    assert_eq!(until, start + minute + UNSTABLE_WITHIN);
    assert!(!standing.is_unstable(until));
    assert_eq!(standing.held_until(until), None);
}

#[test]
fn each_further_change_is_held_for_longer_up_to_an_hour() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let held = |count: u32| {
        let mut standing = Standing::new(start);
        let now = changes(&mut standing, count, start, minute);
        standing
            .held_until(now)
            .map(|until| (until - now).as_secs())
    };
    assert_eq!(
        [5, 6, 7, 8, 9, 12].map(held),
        [300, 600, 1200, 2400, 3600, 3600].map(Some)
    );
}
