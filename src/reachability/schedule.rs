//! When one address is to be asked about: rechecks, checks on demand, and second looks at a contradiction.

use std::time::Duration;

use web_time::Instant;

use crate::reachability::config::Config;

/// The longest time between two checks of an address that has just been found.
const SETTLING_RECHECK: Duration = Duration::from_secs(60);
/// The same of an address that is unstable: whether it still is, only checks can tell.
const UNSTABLE_RECHECK: Duration = Duration::from_secs(20 * 60);
/// How long a check may wait behind addresses without a verdict.
const OVERDUE: Duration = Duration::from_secs(10);
/// After this time a server may be heard again about a contradiction that no other can settle.
pub(crate) const SECOND_LOOK: Duration = Duration::from_secs(10);
/// How often that is done for one contradiction: it takes a lone server four failures to refute its own proof.
const SECOND_LOOKS: u32 = 4;

/// `first`, doubled so many times, up to `longest`.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    // A second doubled sixteen times is 18 hours, which is more than any limit here.
    first.saturating_mul(1 << times.min(16)).min(longest)
}

/// What the time to the next check depends on, besides how long nothing has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) first_seen: Instant,
    pub(crate) is_unstable: bool,
    /// How many requests an answer takes of late.
    pub(crate) price: f64,
}

/// The plan of one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedule {
    /// The time from one recheck to the next, zero before the first.
    interval: Duration,
    /// When the verdict is to be checked again; `None` while it is being decided.
    recheck_at: Option<Instant>,
    /// Since when there is something to be decided before that.
    reopened_at: Option<Instant>,
    /// One more outcome is wanted, whatever is known already, and since when.
    wanted_since: Option<Instant>,
    /// The application asked for that outcome.
    demanded: bool,
    /// Requests that left before are no answer to it.
    asked_from: Option<Instant>,
    second_looks: u32,
    /// A server passed it over for an address behind it, or did not answer: name it alone the next time.
    pub(crate) alone: bool,
    /// It was taken away and brought again so often that it waits for its budget.
    pub(crate) waits_for_budget: bool,
    /// When a request about it last left.
    pub(crate) asked_at: Option<Instant>,
    /// When a server last answered about it.
    pub(crate) last_probe: Option<Instant>,
}

impl Schedule {
    /// Nobody is left to ask who is worth it: check again after a while, longer each time, and longer where an answer takes
    /// several requests. A check that was due before is not put off.
    pub(crate) fn settle(&mut self, circumstances: Circumstances, now: Instant, config: &Config) {
        self.wanted_since = None;
        self.demanded = false;
        self.reopened_at = None;
        self.second_looks = 0;
        if self.recheck_at.is_some() {
            return;
        }
        let doubled = (self.interval * 2).clamp(config.recheck_min, config.recheck_max);
        let age = now.saturating_duration_since(circumstances.first_seen);
        let longest = if age < config.settling_time {
            SETTLING_RECHECK
        } else if circumstances.is_unstable {
            UNSTABLE_RECHECK
        } else {
            config.recheck_max
        };
        self.interval = doubled.min(longest.max(config.recheck_min));
        let interval = self.interval.mul_f64(circumstances.price);
        self.recheck_at = Some(now + interval.min(config.recheck_max));
    }

    /// There is something to be heard at once. The next check is due when it was, or whoever brings something new again and
    /// again could put it off for ever.
    pub(crate) fn reopen(&mut self, now: Instant) {
        self.reopened_at = Some(now);
    }

    pub(crate) fn reopened_at(&self) -> Option<Instant> {
        self.reopened_at
    }

    /// Something changed: check at once, and often from here on.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.interval = Duration::ZERO;
        self.begin_recheck(now);
        self.asked_from = Some(now);
    }

    /// The application wants it checked.
    pub(crate) fn demand(&mut self, now: Instant) {
        self.start_over(now);
        self.demanded = true;
        self.waits_for_budget = false;
    }

    /// The verdict changed: check often from here on.
    pub(crate) fn restart_interval(&mut self) {
        self.interval = Duration::ZERO;
        self.recheck_at = None;
    }

    /// The recheck is due.
    pub(crate) fn begin_recheck(&mut self, now: Instant) {
        self.recheck_at = None;
        self.wanted_since = self.wanted_since.or(Some(now));
    }

    /// A server has answered a request that left at `asked_at`. One from before the last change does not tell
    /// what is wanted.
    pub(crate) fn note_answer(&mut self, asked_at: Instant, now: Instant) {
        if self.is_answered_by(asked_at) {
            self.wanted_since = None;
            self.demanded = false;
        }
        self.alone = false;
        self.last_probe = Some(now);
    }

    /// Whether a request that left at `asked_at` can tell what is wanted now.
    pub(crate) fn is_answered_by(&self, asked_at: Instant) -> bool {
        self.asked_from.is_none_or(|from| from <= asked_at)
    }

    pub(crate) fn recheck_at(&self) -> Option<Instant> {
        self.recheck_at
    }

    pub(crate) fn wants_fresh(&self) -> bool {
        self.wanted_since.is_some()
    }

    pub(crate) fn is_demanded(&self) -> bool {
        self.demanded
    }

    /// Whether a check has been due for so long that it must not wait for other addresses any longer.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.wanted_since.is_some_and(|at| at + OVERDUE <= now)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.recheck_at.is_some() && self.reopened_at.is_none()
    }

    /// When those that were heard may be heard again about a contradiction; `None` if they have been often enough.
    pub(crate) fn second_look_at(&self) -> Option<Instant> {
        let last = self.last_probe.filter(|_| self.second_looks < SECOND_LOOKS);
        last.map(|at| at + SECOND_LOOK)
    }

    pub(crate) fn note_second_look(&mut self) {
        self.second_looks += 1;
    }

    /// Nobody who was heard has more to say.
    pub(crate) fn give_up_second_looks(&mut self) {
        self.second_looks = SECOND_LOOKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(first_seen: Instant) -> Circumstances {
        Circumstances {
            first_seen,
            is_unstable: false,
            price: 1.0,
        }
    }

    #[test]
    fn the_interval_doubles_from_the_shortest_to_the_longest() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let mut now = start + config.settling_time;
        let mut intervals = Vec::new();
        for _ in 0..9 {
            schedule.settle(calm(start), now, &config);
            let due = schedule.recheck_at.unwrap();
            intervals.push((due - now).as_secs());
            now = due;
            schedule.begin_recheck(now);
        }
        assert_eq!(intervals, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn a_young_address_is_checked_every_minute() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let mut now = start;
        while now < start + config.settling_time {
            schedule.settle(calm(start), now, &config);
            let due = schedule.recheck_at.unwrap();
            assert!(due - now <= SETTLING_RECHECK);
            now = due;
            schedule.begin_recheck(now);
        }
    }

    #[test]
    fn what_is_to_be_heard_before_a_check_does_not_put_it_off() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        schedule.settle(calm(start), start, &config);
        let due = schedule.recheck_at;
        for seconds in 1..20 {
            schedule.reopen(start);
            assert!(!schedule.is_settled());
            schedule.settle(calm(start), start + Duration::from_secs(seconds), &config);
            assert!(schedule.is_settled());
            assert_eq!(schedule.recheck_at, due);
        }
    }

    #[test]
    fn a_change_brings_the_shortest_interval_back() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let now = start + config.settling_time;
        for _ in 0..5 {
            schedule.settle(calm(start), now, &config);
            schedule.begin_recheck(now);
        }
        schedule.start_over(now);
        assert!(!schedule.is_settled());
        schedule.settle(calm(start), now, &config);
        assert_eq!(schedule.recheck_at, Some(now + config.recheck_min));
    }
}
