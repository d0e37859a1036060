//! What a policy said about the addresses of one node and when, and what it spent.

use std::time::Duration;

use libp2p_autonat_v2::client::{Vantage, Verdict};

use crate::world::{Answer, State};

/// How often the verdicts that stand are looked at.
pub(crate) const SAMPLING: Duration = Duration::from_secs(30);
/// Dial data that a request costs where the server asks for it, in the middle between its bounds.
pub(crate) const DIAL_DATA: u64 = 65_000;

/// A verdict with its vantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    Independent,
    Contacted,
    /// Of a policy that has no vantage.
    Reachable,
    Filtered,
    Unreachable,
}

impl Claim {
    pub(crate) const ALL: [Self; 5] = [
        Self::Independent,
        Self::Contacted,
        Self::Reachable,
        Self::Filtered,
        Self::Unreachable,
    ];

    /// `None` if nothing is claimed.
    pub(crate) fn of(verdict: Verdict, vantage: Option<Vantage>) -> Option<Self> {
        match (verdict, vantage) {
            (Verdict::Reachable, Some(Vantage::Independent)) => Some(Self::Independent),
            (Verdict::Reachable, Some(Vantage::Contacted)) => Some(Self::Contacted),
            (Verdict::Reachable, None) => Some(Self::Reachable),
            (Verdict::Filtered, _) => Some(Self::Filtered),
            (Verdict::Unreachable, _) => Some(Self::Unreachable),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Independent => "reachable, independent",
            Self::Contacted => "reachable, contacted",
            Self::Reachable => "reachable",
            Self::Filtered => "filtered",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether it says that strangers get in.
    pub(crate) fn is_yes(self) -> bool {
        matches!(self, Self::Independent | Self::Contacted | Self::Reachable)
    }

    /// Whether it is right in every word.
    pub(crate) fn is_right(self, state: State) -> bool {
        match self {
            Self::Independent | Self::Contacted | Self::Reachable => state == State::Open,
            Self::Filtered => state == State::Filtered,
            Self::Unreachable => state == State::Closed,
        }
    }
}

/// A claim at a time, with the probability that the policy gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    pub(crate) at: Duration,
    pub(crate) claim: Claim,
    pub(crate) confidence: f64,
}

/// What was said about one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    pub(crate) first: Option<Statement>,
    /// Yes or no, and since when.
    pub(crate) verdicts: Vec<(Duration, bool)>,
    /// What stands, every 30 s.
    pub(crate) standing: Vec<Statement>,
    /// What stands at the end.
    pub(crate) last: Option<Claim>,
}

impl Track {
    pub(crate) fn say(&mut self, statement: Statement) {
        let yes = statement.claim.is_yes();
        self.first.get_or_insert(statement);
        self.last = Some(statement.claim);
        if self.verdicts.last().map(|(_, last)| *last) != Some(yes) {
            self.verdicts.push((statement.at, yes));
        }
    }

    pub(crate) fn stands(&mut self, statement: Statement) {
        self.last = Some(statement.claim);
        self.standing.push(statement);
    }

    /// Looks at what stands from the verdicts alone, for a policy that states no probability and is taken at its word.
    pub(crate) fn sample_verdicts(&mut self, horizon: Duration) {
        let mut at = SAMPLING;
        while at <= horizon {
            let standing = self.verdicts.iter().rev().find(|(since, _)| *since <= at);
            if let Some((_, yes)) = standing {
                self.standing.push(Statement::plain(at, *yes));
            }
            at += SAMPLING;
        }
    }
}

impl Statement {
    /// Of a policy that says no more than yes or no.
    pub(crate) fn plain(at: Duration, yes: bool) -> Self {
        Self {
            at,
            claim: if yes {
                Claim::Reachable
            } else {
                Claim::Unreachable
            },
            confidence: 1.0,
        }
    }
}

/// One node's run.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// One for each address.
    pub(crate) tracks: Vec<Track>,
    pub(crate) probes: u64,
    pub(crate) dial_data: u64,
    /// Dial-backs that really came.
    pub(crate) dial_backs: u64,
}

impl History {
    pub(crate) fn of(addresses: usize) -> Self {
        Self {
            tracks: vec![Track::default(); addresses],
            ..Self::default()
        }
    }

    /// Whether the answer costs dial data. Who dials nothing wants none.
    pub(crate) fn pays(answer: Answer, wants_dial_data: bool) -> bool {
        wants_dial_data && answer.success().is_some()
    }

    pub(crate) fn asked(&mut self, answer: Answer, wants_dial_data: bool) {
        self.probes += 1;
        self.dial_backs += u64::from(answer == Answer::DialedBack);
        if Self::pays(answer, wants_dial_data) {
            self.dial_data += DIAL_DATA;
        }
    }
}
