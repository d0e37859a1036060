//! What all verdicts amount to: whether the node is public.

use crate::reachability::{
    Event, Fund, Reachability, Summary, Verdict,
    candidates::{AddressId, Candidate, Support, Trust},
    review::Entry,
};

impl Reachability {
    pub(in crate::reachability) fn update_summary(&mut self) {
        let is_any = |verdict| {
            let mut entries = self.judged.iter();
            entries.any(|(_, entry)| entry.standing.verdict() == verdict)
        };
        // Where there is no room for all, those of which something was said give way, too.
        let stays = self.summary == Summary::Private && self.candidates.is_full();
        let verdicts = if is_any(Verdict::Reachable) {
            Summary::Public
        } else if !is_any(Verdict::Unreachable) && !is_any(Verdict::Filtered) && !stays {
            Summary::Unknown
        // One more address to look at is no reason to doubt what was known before.
        } else if self.summary == Summary::Private || !self.is_any_open() {
            Summary::Private
        } else {
            Summary::Unknown
        };
        let new = self.pinned.unwrap_or(verdicts);
        let old = std::mem::replace(&mut self.summary, new);
        if old != new {
            self.tell(Event::SummaryChanged { old, new });
        }
    }

    /// Whether an address without a verdict is likely to get one that matters.
    pub(super) fn is_any_open(&self) -> bool {
        let support = Support::of(&self.candidates);
        self.candidates.iter().any(|(id, candidate)| {
            let entry = self.judged.get(id).filter(|entry| {
                !entry.standing.is_decided()
                    && entry.obstacle.is_none()
                    && !candidate.is_withheld
                    && !self.is_unanswered(candidate, entry)
            });
            // One of many that cannot be asked about now is no more likely than those that were.
            let waits = support.is_one_of_many(candidate)
                && self.now < self.budgets.ready_at(Fund::SeenIp)
                && self
                    .judged
                    .get(id)
                    .is_some_and(|entry| entry.schedule.asked_at.is_none());
            entry.is_some_and(|entry| match support.trust(candidate, &self.listeners) {
                _ if waits => false,
                Trust::NoListener | Trust::OnePeersPort | Trust::OnePeersIp => false,
                Trust::UnobservedGuess => !self.is_hopeless(id, entry),
                Trust::Observed | Trust::Own => true,
            })
        })
    }

    /// Servers were asked about it for long, and none had an answer. Or others confirm so many that none was.
    pub(in crate::reachability) fn is_unanswered(
        &self,
        candidate: &Candidate,
        entry: &Entry,
    ) -> bool {
        let age = self.now.saturating_duration_since(candidate.first_seen);
        let waits = candidate.sources.confirmed
            && self.now < self.budgets.ready_at(Fund::ConfirmedNewcomers);
        let asked = entry.schedule.asked_at.is_some();
        (asked || waits) && entry.evidence.len() == 0 && age >= self.config.settling_time
    }

    /// No server could be asked about it when it was last reviewed.
    pub(super) fn is_hopeless(&self, id: AddressId, entry: &Entry) -> bool {
        let to_ask = entry
            .reviewed(&self.servers, self.now)
            .and_then(|reviewed| reviewed.prospects.as_ref())
            .map_or(entry.schedule.asked_at.map_or(1, |_| 0), |it| it.to_ask);
        to_ask == 0 && self.probes.about(id).next().is_none()
    }
}
