//! How far a candidate is trusted, by who speaks for it. What peers alone say costs strangers dials, so it is asked about
//! within budgets (`budget.rs` has them), and after all that has more to speak for it. How many IP groups must have proven it
//! follows in `review.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Candidate, Candidates, Class};
use crate::{address::IpFamily, reachability::listeners::Listeners};

/// How far a candidate is trusted, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// No listener accepts its transport over its family: what peers see is the socket of dials, or somebody's invention.
    NoListener,
    /// A port that one peer saw and that is none of ours: likely an ephemeral one, or of a NAT whose mapping depends on the
    /// endpoint.
    OnePeersPort,
    /// A listener at an IP that one peer saw, while more speaks for another IP.
    OnePeersIp,
    /// A listener at an observed IP, where nobody is seen over its transport.
    UnobservedGuess,
    /// Several hosts see it, or a listener at the IP that they see.
    Observed,
    /// The node listens there, or was told so by its own side; or it is proven.
    Own,
}

/// IPs that more than one peer's word speaks for.
#[derive(Debug, Default)]
struct Founded {
    /// At most two: more make no difference to any other IP.
    ips: BTreeSet<Option<IpAddr>>,
}

impl Founded {
    fn add(&mut self, ip: Option<IpAddr>) {
        if self.ips.len() < 2 {
            self.ips.insert(ip);
        }
    }

    fn has_other_than(&self, ip: Option<IpAddr>) -> bool {
        self.ips.iter().any(|other| *other != ip)
    }
}

/// From how many IPs of a family on a NAT is taken to have a pool of them, or peers to make them up. A host with two lines, or that
/// has just moved, has two.
const MANY_IPS: usize = 3;

/// What speaks for all candidates together, to compare each with.
#[derive(Debug, Default)]
pub(crate) struct Support {
    /// Leaving out guesses that no peer has spoken of.
    by_class: BTreeMap<Class, Founded>,
    by_family: BTreeMap<Option<IpFamily>, Founded>,
    /// Where one of our listen ports works or has still to be tried.
    open_guesses: BTreeSet<(Class, Option<IpAddr>)>,
    /// The IPs where a listener is guessed, as many as make a difference.
    guessed_ips: BTreeMap<Option<IpFamily>, BTreeSet<Option<IpAddr>>>,
    has_proven_port: bool,
}

impl Support {
    pub(crate) fn of(candidates: &Candidates) -> Self {
        let mut support = Self::default();
        for (_, c) in candidates.iter() {
            support.has_proven_port |= c.is_reachable && c.is_only_observed();
            if c.sources.guessed && !c.sources.are_own() {
                let ips = support.guessed_ips.entry(c.class.family).or_default();
                if ips.len() < MANY_IPS {
                    ips.insert(c.ip());
                }
            }
            if c.sources.guessed && !c.is_refuted {
                support.open_guesses.insert((c.class, c.ip()));
            }
            if !c.is_reachable && !c.sources.are_own() && c.reports.count() <= 1 {
                continue;
            }
            let by_family = support.by_family.entry(c.class.family).or_default();
            by_family.add(c.ip());
            if !c.is_unobserved_guess() {
                support.by_class.entry(c.class).or_default().add(c.ip());
            }
        }
        support
    }

    pub(crate) fn trust(&self, candidate: &Candidate, listeners: &Listeners) -> Trust {
        if candidate.is_reachable || candidate.sources.are_own() {
            return Trust::Own;
        }
        if candidate.is_only_observed() {
            if !listeners.accepts(candidate.class) {
                return Trust::NoListener;
            }
            return if candidate.reports.count() <= 1 {
                Trust::OnePeersPort
            } else {
                Trust::Observed
            };
        }
        let comparable = if candidate.is_unobserved_guess() {
            self.by_family.get(&candidate.class.family)
        } else {
            self.by_class.get(&candidate.class)
        };
        let ip = candidate.ip();
        if candidate.reports.count() <= 1 && comparable.is_some_and(|it| it.has_other_than(ip)) {
            return Trust::OnePeersIp;
        }
        if candidate.is_unobserved_guess() {
            return Trust::UnobservedGuess;
        }
        Trust::Observed
    }

    /// Whether it is a guess, and there are so many IPs to guess at that not all can be asked about.
    pub(crate) fn is_one_of_many(&self, candidate: &Candidate) -> bool {
        let ips = self.guessed_ips.get(&candidate.class.family);
        candidate.sources.guessed
            && !candidate.sources.are_own()
            && ips.is_some_and(|ips| ips.len() >= MANY_IPS)
    }

    /// Whether a port works of which only peers speak.
    pub(crate) fn has_proven_port(&self) -> bool {
        self.has_proven_port
    }

    /// Whether one of our listen ports behind the same IP has still to be tried, or does work.
    pub(crate) fn has_better_guess(&self, candidate: &Candidate) -> bool {
        self.open_guesses
            .contains(&(candidate.class, candidate.ip()))
    }
}
