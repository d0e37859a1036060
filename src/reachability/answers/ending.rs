//! Of which kind the end of an exchange is, for those addresses of a request that have no answer: silence, a closed connection, a
//! refusal of all. What follows from each kind is in one table, `conclude` in `answers.rs`; for how long a server is left alone for
//! it, in `servers/memory.rs`.

use crate::reachability::{event::ProbeEnd, probes::Probe, servers::Refused};

/// Why an exchange ended without an answer for some of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// All that could be said was said.
    Answered,
    /// The server broke the protocol.
    Misbehaved,
    /// It refused the request as a whole.
    RefusedAll,
    /// It dialed an address behind this many others, and cannot dial those.
    PassedOver(usize),
    /// It asked for dial data for this, beyond the budget or over a relay.
    Unpaid(Refused),
    /// The connection is gone, and nothing was heard on it.
    Left,
    /// No answer came.
    Silent,
    /// Answers came, but none for the first address.
    SilentAboutFirst,
}

impl Ending {
    /// `dials_first`: the server has dialed another address of a request than the last.
    pub(super) fn of(probe: &Probe, end: ProbeEnd, dials_first: bool) -> Self {
        if matches!(end, ProbeEnd::ProtocolViolation(_)) {
            return Self::Misbehaved;
        }
        if probe.refused_first_only() {
            return Self::RefusedAll;
        }
        // A server dials the first that it can. Only libp2p-autonat 0.16 dials the last: an answer for that one says nothing
        // about those before it, unless the server has dialed another before.
        let passed_over = |index: &usize| *index > 0 && (dials_first || !probe.is_last(*index));
        if let Some(index) = probe.dialed().filter(passed_over) {
            return Self::PassedOver(index);
        }
        if let Some(what) = probe.unaffordable {
            return Self::Unpaid(what);
        }
        let is_silent = probe.tells_nothing();
        if end == ProbeEnd::ConnectionClosed {
            return if is_silent {
                Self::Left
            } else {
                Self::Answered
            };
        }
        // A stream that is reset after the answers is how some peers close.
        let first = probe.unanswered().next();
        if is_silent {
            Self::Silent
        } else if probe.has_answers() && first.is_some_and(|(index, _)| index == 0) {
            Self::SilentAboutFirst
        } else {
            Self::Answered
        }
    }
}
