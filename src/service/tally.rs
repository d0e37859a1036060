//! Counts what strangers can cause without limit, and says so at most once a second per cause. A flood
//! must not become a flood of events.
//!
//! The first of its kind is reported at once; those of the next second are summed up. Holds one entry
//! per cause, of which there are few.

use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Tally<C>(BTreeMap<C, Entry>);

#[derive(Debug)]
struct Entry {
    count: u64,
    last: (PeerId, ConnectionId),
    not_before: Instant,
}

impl<C: Copy + Ord> Tally<C> {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn add(
        &mut self,
        now: Instant,
        cause: C,
        count: u64,
        client: PeerId,
        connection: ConnectionId,
    ) {
        let entry = self.0.entry(cause).or_insert(Entry {
            count: 0,
            last: (client, connection),
            not_before: now,
        });
        entry.count = entry.count.saturating_add(count);
        entry.last = (client, connection);
    }

    /// A sum that is due, with the client and connection of its last occurrence.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(C, u64, PeerId, ConnectionId)> {
        let (cause, entry) = self
            .0
            .iter_mut()
            .find(|(_, entry)| entry.count > 0 && entry.not_before <= now)?;
        let count = std::mem::take(&mut entry.count);
        entry.not_before = now + QUIET;
        Some((*cause, count, entry.last.0, entry.last.1))
    }

    /// When the next sum is due.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.0
            .values()
            .filter(|entry| entry.count > 0)
            .map(|entry| entry.not_before)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_event_a_second() {
        let start = Instant::now();
        let peer = PeerId::random();
        let connection = ConnectionId::new_unchecked(1);
        let mut tally = Tally::new();
        let mut reported = Vec::new();
        for millis in 0..2500 {
            let now = start + Duration::from_millis(millis);
            tally.add(now, "cause", 1, peer, connection);
            while let Some((_, count, ..)) = tally.take(now) {
                reported.push(count);
            }
        }
        assert_eq!(reported, [1, 1000, 1000]);
        let due = tally.next_wakeup().expect("the rest is due");
        assert_eq!(due, start + 3 * QUIET);
        assert_eq!(tally.take(due).map(|(_, count, ..)| count), Some(499));
        assert_eq!(tally.next_wakeup(), None);
    }
}
