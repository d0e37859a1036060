//! Whether an address works at times and at times does not: servers that have shown what they can dial keep contradicting
//! themselves and each other. A load balancer in front of two hosts is like that, of which one is down.
//!
//! A *turn* is an answer that differs from the one before it, from the same vantage, so that no filter explains it. One change of
//! the address is one turn, however many servers tell of it; half of all dials that fail are a turn with every second answer.

use std::{collections::VecDeque, time::Duration};

use web_time::Instant;

use crate::reachability::{contacts::Vantage, servers::IpGroup};

/// So many turns within this time make an address unstable. One that closes and opens again makes two, and so does each dial
/// that fails for no reason. An operator who tries a forwarding out makes fewer.
const UNSTABLE_TURNS: usize = 8;
const WITHIN: Duration = Duration::from_secs(3 * 60 * 60);
/// So many IP groups must have turned: one server that answers at random makes no address unstable.
const TURNING_GROUPS: usize = 2;
/// So many equal answers in a row end it. Where half of all dials fail, one in 65,536 such rows is equal.
const STEADY: u32 = 16;
/// How many groups are remembered.
const MAX_GROUPS: usize = 16;

/// The turns of one address.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    /// The last answer, by vantage.
    last: [Option<bool>; 2],
    /// How many answers in a row have been no turn.
    steady: u32,
    turns: VecDeque<Instant>,
    /// The last answer of each group, and when it last differed from the one before.
    groups: VecDeque<(IpGroup, bool, Option<Instant>)>,
    is_unstable: bool,
}

impl Turns {
    /// A server of `group` that is able to dial the address has answered.
    pub(super) fn note(&mut self, success: bool, vantage: Vantage, group: IpGroup, now: Instant) {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WITHIN;
        let known = self.groups.iter().position(|(it, _, _)| *it == group);
        let known = known.and_then(|i| self.groups.remove(i));
        let turned = match known {
            Some((_, before, _)) if before != success => Some(now),
            Some((_, _, turned)) => turned,
            None => None,
        };
        if self.groups.len() >= MAX_GROUPS {
            self.groups.pop_front();
        }
        self.groups.push_back((group, success, turned));
        let last = self.last[vantage as usize].replace(success);
        if last.is_none_or(|last| last == success) {
            self.steady = self.steady.saturating_add(1);
        } else {
            self.steady = 0;
            self.turns.push_back(now);
            while self.turns.len() > UNSTABLE_TURNS {
                self.turns.pop_front();
            }
        }
        let turns = self.turns.iter().filter(|at| is_recent(at)).count();
        let turned = self.groups.iter().filter_map(|(_, _, at)| at.as_ref());
        if turns >= UNSTABLE_TURNS && turned.filter(|at| is_recent(at)).count() >= TURNING_GROUPS {
            self.is_unstable = true;
        } else if self.steady >= STEADY {
            self.is_unstable = false;
        }
    }

    pub(super) fn is_unstable(&self) -> bool {
        self.is_unstable
    }
}
