//! A budget for work that others can cause: so much at once, and so much an hour in the long run. How much each kind of work has,
//! and why, is said in `reachability.rs`.

use std::time::Duration;

use web_time::Instant;

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    most: u32,
    /// The time that one token takes to come back.
    refill: Duration,
    left: u32,
    /// From when on the next token is coming back.
    since: Instant,
}

impl Budget {
    /// `most` at once, and one more in each `refill` after that.
    pub(crate) fn new(most: u32, refill: Duration, now: Instant) -> Self {
        Self {
            most,
            refill,
            left: most,
            since: now,
        }
    }

    /// Takes a token. `false` if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.left == 0 {
            return false;
        }
        if self.left == self.most {
            self.since = now;
        }
        self.left -= 1;
        true
    }

    /// Whether less than half of it is left.
    pub(crate) fn is_low(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left < self.most / 2
    }

    /// When half of it is there again; at once if that is not later than now.
    pub(crate) fn half_full_at(&self) -> Instant {
        let missing = (self.most / 2).saturating_sub(self.left);
        self.since + self.refill * missing
    }

    /// When a token can be taken; at once if that is not later than now.
    pub(crate) fn ready_at(&self) -> Instant {
        if self.left > 0 {
            self.since
        } else {
            self.since + self.refill
        }
    }

    fn refill(&mut self, now: Instant) {
        while self.left < self.most && self.since + self.refill <= now {
            self.left += 1;
            self.since += self.refill;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_one_by_one() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let mut budget = Budget::new(3, minute, start);
        assert_eq!((0..5).filter(|_| budget.take(start)).count(), 3);
        assert_eq!(budget.ready_at(), start + minute);
        assert!(!budget.take(start + minute / 2));
        assert!(budget.take(start + minute));
        assert!(!budget.take(start + minute));
        let late = start + 100 * minute;
        assert!(budget.ready_at() <= late);
        assert_eq!((0..5).filter(|_| budget.take(late)).count(), 3);
    }
}
