//! What the application is told: changes of verdicts and of their stability, whether servers are wanted, and all about one
//! address.

use web_time::Instant;

use crate::reachability::{
    AddressReport, Event, Reachability, Verdict, candidates::AddressId, servers::WANTED_SERVERS,
};

impl Reachability {
    pub(super) fn tell_verdict(&mut self, id: AddressId, old: Verdict, now: Instant) {
        let Some((report, first)) =
            self.report(id, now)
                .zip(self.judged.get(id))
                .map(|(report, entry)| {
                    let standing = &entry.standing;
                    let first =
                        old == Verdict::Unknown && standing.decided_at() == Some(standing.since());
                    (report, first)
                })
        else {
            return;
        };
        self.tell(Event::VerdictChanged {
            address: report.address,
            old,
            new: report.verdict,
            vantage: report.vantage,
            confidence: report.confidence,
            time_to_verdict: report.time_to_verdict.filter(|_| first),
        });
    }

    /// Says whether it is unstable, when that is another than was said.
    pub(in crate::reachability) fn tell_stability(&mut self, id: AddressId, now: Instant) {
        let (Some(entry), Some(candidate)) = (self.judged.peek_mut(id), self.candidates.get(id))
        else {
            return;
        };
        let unstable = entry.standing.is_unstable(now);
        if let Some(at) = entry.standing.unstable_until(now) {
            self.wake.by(at, "stability");
        }
        if std::mem::replace(&mut entry.told_unstable, unstable) != unstable {
            let address = candidate.addr.clone();
            self.tell(Event::StabilityChanged { address, unstable });
        }
    }

    /// Asks the application for more servers, if there are too few to decide about something.
    pub(in crate::reachability) fn want_servers(&mut self, known: usize, now: Instant) {
        if let Some(at) = self.servers_wanted.not_before(now) {
            self.wake.by(at, "more servers are wanted");
            return;
        }
        self.servers_wanted.note(now);
        let wanted = WANTED_SERVERS;
        self.tell(Event::ServersWanted { known, wanted });
    }

    /// The address whose evidence a verdict rests on: itself, or the plain one that it inherits from.
    pub(super) fn grounds(&self, id: AddressId) -> AddressId {
        let inherited = self.judged.get(id).is_some_and(|entry| entry.inherited);
        let plain = self
            .candidates
            .get(id)
            .filter(|_| inherited)
            .and_then(|candidate| self.candidates.plain_sibling(candidate));
        plain.map_or(id, |(plain, _)| plain)
    }

    pub(in crate::reachability) fn report(
        &self,
        id: AddressId,
        now: Instant,
    ) -> Option<AddressReport> {
        let (candidate, entry) = (self.candidates.get(id)?, self.judged.get(id)?);
        let grounds = self.grounds(id);
        let grounds_entry = self.judged.get(grounds)?;
        let evidence = &grounds_entry.evidence;
        let posterior = grounds_entry.belief(&self.model, self.prior(grounds), now);
        let verdict = entry.standing.verdict();
        Some(AddressReport {
            address: candidate.addr.clone(),
            verdict,
            since: entry.standing.since(),
            confidence: verdict.confidence(&posterior),
            vantage: evidence.vantage(),
            sources: candidate.sources,
            servers: entry.evidence.servers(),
            time_to_verdict: entry
                .standing
                .decided_at()
                .map(|at| at.saturating_duration_since(candidate.first_seen)),
            last_probe: entry.schedule.last_probe,
            next_probe: entry.schedule.recheck_at(),
            dial_data: candidate.dial_data,
            announced: self.announcements.is_by_us(id),
            inherited: entry.inherited,
            obstacle: entry.obstacle,
            unstable: entry.standing.is_unstable(now),
            proven_by: evidence.proving_groups(),
        })
    }
}
