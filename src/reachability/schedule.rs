//! When an address is to be asked about.

use std::time::Duration;

use web_time::Instant;

use crate::reachability::config::Config;

/// The longest time between two checks of an address that has just been found.
const SETTLING_RECHECK: Duration = Duration::from_secs(60);

/// The plan of one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedule {
    /// The time from one recheck to the next, zero before the first.
    interval: Duration,
    /// When the verdict is to be checked again; `None` while it is being decided.
    pub(crate) recheck_at: Option<Instant>,
    /// One more outcome is wanted, whatever is known already.
    pub(crate) wants_fresh: bool,
    /// The application asked for that outcome.
    pub(crate) demanded: bool,
    /// A server passed it over for an address behind it: name it alone the next time.
    pub(crate) alone: bool,
    /// Not to be asked about before then: there is no budget for it.
    pub(crate) not_before: Option<Instant>,
    pub(crate) in_flight: usize,
    pub(crate) last_probe: Option<Instant>,
}

impl Schedule {
    /// The verdict has its margin: check again after a while, longer each time.
    pub(crate) fn settle(&mut self, first_seen: Instant, now: Instant, config: &Config) {
        let doubled = (self.interval * 2).clamp(config.recheck_min, config.recheck_max);
        let age = now.saturating_duration_since(first_seen);
        self.interval = if age < config.settling_time {
            doubled.min(SETTLING_RECHECK.max(config.recheck_min))
        } else {
            doubled
        };
        self.recheck_at = Some(now + self.interval);
        self.wants_fresh = false;
    }

    /// Something changed: check at once, and often from here on.
    pub(crate) fn start_over(&mut self) {
        self.interval = Duration::ZERO;
        self.recheck_at = None;
        self.wants_fresh = true;
    }

    /// The application wants it checked.
    pub(crate) fn demand(&mut self) {
        self.start_over();
        self.demanded = true;
    }

    /// The verdict changed: check often from here on.
    pub(crate) fn restart_interval(&mut self) {
        self.interval = Duration::ZERO;
    }

    /// The recheck is due.
    pub(crate) fn begin_recheck(&mut self) {
        self.recheck_at = None;
        self.wants_fresh = true;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.recheck_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_doubles_from_the_shortest_to_the_longest() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let mut now = start + config.settling_time;
        let mut intervals = Vec::new();
        for _ in 0..9 {
            schedule.settle(start, now, &config);
            let due = schedule.recheck_at.unwrap();
            intervals.push((due - now).as_secs());
            now = due;
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
            schedule.settle(start, now, &config);
            let due = schedule.recheck_at.unwrap();
            assert!(due - now <= SETTLING_RECHECK);
            now = due;
        }
    }

    #[test]
    fn a_change_brings_the_shortest_interval_back() {
        let config = Config::default();
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let now = start + config.settling_time;
        for _ in 0..5 {
            schedule.settle(start, now, &config);
        }
        schedule.start_over();
        assert!(!schedule.is_settled());
        schedule.settle(start, now, &config);
        assert_eq!(schedule.recheck_at, Some(now + config.recheck_min));
    }
}
