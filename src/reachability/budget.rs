//! Budgets for work that others can cause: so much at once, and so much an hour in the long run. Here is how much each kind of work
//! has, and why.

use std::time::Duration;

use hashlink::LruCache;
use libp2p_core::Multiaddr;
use web_time::Instant;

use crate::reachability::config::Config;

/// How many addresses are remembered for how often they were looked at anew.
const MAX_LISTENER_CHECKS: usize = 256;
/// How often an address is looked at anew since a listener came or went.
const LISTENER_CHECKS: (u32, Duration) = (3, Duration::from_secs(10 * 60));

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fund {
    /// Having all addresses checked for what peers say.
    Restarts,
    /// The same for what this host notices by itself: its network changed, all connections were lost. A link that goes up and down,
    /// or a watcher that tells of each container, does so all day.
    OwnRestarts,
    /// Having what is known at two IPs checked, where peers see this node at one of them again: two peers could report the two by
    /// turns all day.
    SeenAgain,
    /// Requests about ports that one peer saw and that are none of ours, while no such port works: enough to try a few, and then
    /// two or three an hour.
    OnePeersPort,
    /// The same for ports that several hosts saw. A NAT may show a new one for every few peers.
    SeenPort,
    /// Both while such a port works: then what peers see of ports is worth more.
    ProvenPort,
    /// Requests about listeners at IPs that one peer saw.
    OnePeersIp,
    /// Listeners at IPs that several hosts saw that are asked about until they have a verdict, and rechecks of those, where there
    /// are many such IPs: a carrier's NAT may show another one of its pool to each few peers. Enough for a host that moves to
    /// another network every five minutes for two hours, or every ten minutes for ever.
    SeenIp,
    /// Addresses that come with a listener: as many are asked about at once as can be tracked. A host that opens a port for each
    /// thing that it does has a new one all the time.
    Newcomers,
    /// The same of addresses that others confirm, such as ports that are mapped and lost.
    ConfirmedNewcomers,
}

impl Fund {
    const ALL: [Self; 10] = [
        Self::Restarts,
        Self::OwnRestarts,
        Self::SeenAgain,
        Self::OnePeersPort,
        Self::SeenPort,
        Self::ProvenPort,
        Self::OnePeersIp,
        Self::SeenIp,
        Self::Newcomers,
        Self::ConfirmedNewcomers,
    ];

    /// So much at once, and one more in each such time.
    fn rate(self, config: &Config) -> (u32, Duration) {
        let max_addresses = u32::try_from(config.max_addresses).unwrap_or(u32::MAX);
        let (most, seconds) = match self {
            Self::Restarts | Self::OwnRestarts | Self::SeenAgain => (3, 10 * 60),
            Self::OnePeersPort => (6, 25 * 60),
            Self::SeenPort | Self::OnePeersIp => (12, 5 * 60),
            Self::ProvenPort => (6, 10),
            Self::SeenIp => (12, 10 * 60),
            Self::Newcomers => (max_addresses, 5 * 60),
            Self::ConfirmedNewcomers => (max_addresses, 60),
        };
        (most, Duration::from_secs(seconds))
    }
}

const _: () = {
    let mut i = 0;
    while i < Fund::ALL.len() {
        assert!(
            Fund::ALL[i] as usize == i,
            "in the order of their declaration"
        );
        i += 1;
    }
};

/// What is left of each.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// In the order of [`Fund::ALL`].
    by_fund: [Budget; Fund::ALL.len()],
    /// How often each address may still be looked at anew for a listener's sake.
    listener_checks: LruCache<Multiaddr, Budget>,
}

impl Budgets {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let full = |(most, refill)| Budget::new(most, refill, now);
        Self {
            by_fund: Fund::ALL.map(|fund| full(fund.rate(config))),
            listener_checks: LruCache::new(MAX_LISTENER_CHECKS),
        }
    }

    pub(crate) fn of(&mut self, fund: Fund) -> &mut Budget {
        &mut self.by_fund[fund as usize]
    }

    /// When `fund` has something left; at once if that is not later than now.
    pub(crate) fn ready_at(&self, fund: Fund) -> Instant {
        self.by_fund[fund as usize].ready_at()
    }

    pub(crate) fn of_listener_at(&mut self, addr: &Multiaddr, now: Instant) -> &mut Budget {
        let (most, refill) = LISTENER_CHECKS;
        self.listener_checks
            .entry(addr.clone())
            .or_insert_with(|| Budget::new(most, refill, now))
    }
}

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
