//! When servers came, and for how long others are likely to come behind them: before the first one is asked. How long a verdict
//! waits for others is in `review.rs`, which asks here.

use std::time::Duration;

use web_time::Instant;

use super::WANTED_SERVERS;

/// Servers that come with longer gaps than this are no longer those of a start.
const TRICKLE: Duration = Duration::from_millis(700);

/// Servers that came one soon after the other.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

/// The arrivals of servers.
#[derive(Debug)]
pub(crate) struct Gathering {
    delay: Duration,
    burst: Option<Burst>,
    last_new: Option<Instant>,
    /// The longest time between two that came one after the other, of late.
    longest_gap: Duration,
}

impl Gathering {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            burst: None,
            last_new: None,
            longest_gap: Duration::ZERO,
        }
    }

    /// A server came, or came back. One that comes again and again brings nothing new.
    pub(super) fn note_arrival(&mut self, is_new: bool, now: Instant) {
        // A lull is longer than a burst is waited for: else servers that come in that rhythm would keep all waiting.
        let lull = self.delay * 4;
        let first = self
            .burst
            .filter(|burst| now < burst.last + lull)
            .map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
        if is_new {
            let gap = self
                .last_new
                .map(|last| now.saturating_duration_since(last));
            self.longest_gap = match gap {
                Some(gap) if gap < TRICKLE => self.longest_gap.max(gap),
                _ => Duration::ZERO,
            };
            self.last_new = Some(now);
        }
    }

    /// For how long the next server may be on its way: eight times the longest of the gaps so far, within these bounds.
    pub(crate) fn patience(&self, least: Duration, most: Duration) -> Duration {
        (self.longest_gap * 8).clamp(least, most)
    }

    /// When the last server came that was not known.
    pub(crate) fn last_new(&self) -> Option<Instant> {
        self.last_new
    }

    /// Until when others are likely to come, where so many can be asked already. One of them may dial from an IP that this
    /// node has not contacted, and tell of a filter that the first would pass.
    pub(crate) fn until(&self, to_ask: usize) -> Option<Instant> {
        let burst = self.burst?;
        let longest = burst.first + self.delay * 2;
        let enough = (burst.last + self.delay).min(longest);
        Some(if to_ask < WANTED_SERVERS {
            longest
        } else {
            enough
        })
    }
}
