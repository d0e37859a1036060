//! When decisions are next to be made, and why; and how often the application is asked for servers.

use std::time::Duration;

use web_time::Instant;

use crate::reachability::schedule::doubled;

/// The next wake-up and its reason, which answers "why no probe yet?" in the log.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    next: Option<(Instant, &'static str)>,
}

impl Wake {
    pub(crate) fn by(&mut self, at: Instant, reason: &'static str) {
        if self.next.is_none_or(|(next, _)| at < next) {
            self.next = Some((at, reason));
        }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// The reason, once it is time.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<&'static str> {
        let (_, reason) = self.next.filter(|(at, _)| *at <= now)?;
        self.next = None;
        Some(reason)
    }
}

/// How often more servers are asked for at most, and at the least while none comes.
const BETWEEN_CALLS: Duration = Duration::from_secs(60);
const LONGEST_BETWEEN_CALLS: Duration = Duration::from_secs(60 * 60);

/// When the application was last asked for more servers.
#[derive(Debug, Default)]
pub(crate) struct ServersWanted {
    asked_at: Option<Instant>,
    in_vain: u32,
}

impl ServersWanted {
    /// A new server has come.
    pub(crate) fn reset(&mut self) {
        self.in_vain = 0;
    }

    /// When it may be asked again; `None`: now.
    pub(crate) fn not_before(&self, now: Instant) -> Option<Instant> {
        let pace = doubled(BETWEEN_CALLS, self.in_vain, LONGEST_BETWEEN_CALLS);
        self.asked_at
            .map(|at| at + pace)
            .filter(|until| now < *until)
    }

    pub(crate) fn note(&mut self, now: Instant) {
        if self.asked_at.is_some() {
            self.in_vain = self.in_vain.saturating_add(1);
        }
        self.asked_at = Some(now);
    }
}
