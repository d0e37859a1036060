//! How much dial data is paid to which IP group of servers: a budget an hour, in which each has its share.
//!
//! A server may ask for up to 100,000 bytes for each dial (spec, "AutoNAT V2 Protocol"). Without shares one operator's
//! servers would spend the hour's budget in seconds, and others that must ask would be turned down.

use std::time::Duration;

use hashlink::LruCache;
use web_time::Instant;

use crate::reachability::servers::IpGroup;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// The part of the hour's budget that one group can have, and the part for addresses that one peer alone speaks of.
const SHARE: u64 = 8;
/// How many requests of a group are paid for that has proven nothing since. A closed address is not to be paid for again and
/// again.
const UNPROVEN: u32 = 16;
/// How many groups are remembered. Each can have a share, so that more could not be paid within the hour anyway.
const MAX_GROUPS: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
struct Paid {
    bytes: u64,
    unproven: u32,
}

/// The dial data of the present hour.
#[derive(Debug)]
pub(crate) struct DialData {
    per_answer: u64,
    per_hour: u64,
    since: Instant,
    paid: u64,
    /// For addresses that one peer alone speaks of.
    paid_on_one_word: u64,
    groups: LruCache<IpGroup, Paid>,
}

impl DialData {
    pub(crate) fn new(per_answer: u64, per_hour: u64, now: Instant) -> Self {
        Self {
            per_answer,
            per_hour,
            since: now,
            paid: 0,
            paid_on_one_word: 0,
            groups: LruCache::new(MAX_GROUPS),
        }
    }

    fn share(&self) -> u64 {
        (self.per_hour / SHARE).max(self.per_answer)
    }

    /// What was paid in the present hour.
    fn paid_to(&self, group: IpGroup, now: Instant) -> (u64, Paid) {
        // Most servers never want any: this is asked in each look at each of them.
        if self.paid == 0 || now.saturating_duration_since(self.since) >= HOUR {
            return (0, Paid::default());
        }
        let of_group = self.groups.peek(&group).copied().unwrap_or_default();
        (self.paid, of_group)
    }

    /// Whether a server of `group` was paid in the present hour.
    pub(crate) fn has_paid(&self, group: IpGroup, now: Instant) -> bool {
        self.paid_to(group, now).1.bytes > 0
    }

    /// How many answers of a server of `group` can be paid for, whatever it asks, and when that changes if it is none.
    pub(crate) fn answers_left(&self, group: IpGroup, now: Instant) -> Result<u64, Instant> {
        let (paid, of_group) = self.paid_to(group, now);
        let left = (self.per_hour - paid).min(self.share().saturating_sub(of_group.bytes));
        let answers = left.checked_div(self.per_answer).unwrap_or(0);
        if answers == 0 || of_group.unproven >= UNPROVEN {
            let end = self.since + HOUR;
            return Err(if end <= now { now + HOUR } else { end });
        }
        Ok(answers)
    }

    /// Takes `bytes` from the budget, for a server of `group`. `is_first`: in its request. `false` if they are more than one
    /// answer may cost, or than are left for it.
    pub(crate) fn pay(
        &mut self,
        bytes: u64,
        group: IpGroup,
        is_first: bool,
        is_one_peers_word: bool,
        now: Instant,
    ) -> bool {
        if now.saturating_duration_since(self.since) >= HOUR {
            self.since = now;
            self.paid = 0;
            self.paid_on_one_word = 0;
            self.groups.clear();
        }
        let share = self.share();
        let (_, of_group) = self.paid_to(group, now);
        let pays = bytes <= self.per_answer
            && self.paid.saturating_add(bytes) <= self.per_hour
            && of_group.bytes.saturating_add(bytes) <= share
            && (!is_first || of_group.unproven < UNPROVEN)
            && (!is_one_peers_word || self.paid_on_one_word.saturating_add(bytes) <= share);
        if pays {
            self.paid += bytes;
            self.paid_on_one_word += if is_one_peers_word { bytes } else { 0 };
            let paid = Paid {
                bytes: of_group.bytes + bytes,
                unproven: of_group.unproven + u32::from(is_first),
            };
            self.groups.insert(group, paid);
        }
        pays
    }

    /// A server of `group` has dialed back. `true` if it can be paid again for that.
    pub(crate) fn note_proof(&mut self, group: IpGroup) -> bool {
        let paid = self.groups.get_mut(&group);
        paid.is_some_and(|paid| std::mem::take(&mut paid.unproven) >= UNPROVEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u8) -> IpGroup {
        IpGroup::of(Some([n, 1, 1, 1].into()))
    }

    #[test]
    fn one_group_has_its_share_and_no_more() {
        let now = Instant::now();
        let mut budget = DialData::new(100_000, 8_000_000, now);
        let mut paid = 0;
        while budget.pay(100_000, group(1), true, false, now) {
            budget.note_proof(group(1));
            paid += 100_000;
        }
        assert_eq!(paid, 1_000_000);
        assert_eq!(budget.answers_left(group(1), now), Err(now + HOUR));
        assert_eq!(budget.answers_left(group(2), now), Ok(10));
        assert!(budget.pay(100_000, group(2), true, false, now));
        assert!(budget.pay(100_000, group(1), true, false, now + HOUR));
    }

    #[test]
    fn who_takes_and_never_proves_is_paid_a_few_times() {
        let now = Instant::now();
        let mut budget = DialData::new(100_000, 8_000_000, now);
        let paid = (0..20).filter(|_| budget.pay(30_000, group(1), true, false, now));
        assert_eq!(paid.count(), UNPROVEN as usize);
        budget.note_proof(group(1));
        assert!(budget.pay(30_000, group(1), true, false, now));
    }

    #[test]
    fn the_hour_and_the_answer_have_their_limits() {
        let now = Instant::now();
        let mut budget = DialData::new(50_000, 120_000, now);
        assert!(!budget.pay(50_001, group(1), true, false, now));
        let paid = (1..9).filter(|n| budget.pay(50_000, group(*n), true, false, now));
        assert_eq!(paid.count(), 2);
    }

    #[test]
    fn one_peers_word_has_a_share_whoever_asks() {
        let now = Instant::now();
        let mut budget = DialData::new(100_000, 1_600_000, now);
        let paid = (1..20).filter(|n| budget.pay(100_000, group(*n), true, true, now));
        assert_eq!(paid.count(), 2);
        assert!(budget.pay(100_000, group(21), true, false, now));
    }
}
