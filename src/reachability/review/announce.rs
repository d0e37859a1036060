//! Decides whether an address is confirmed to the swarm or expired there: by its verdict, an inherited one too, and by what the
//! application requires. What the swarm was told so far is in `announcements.rs`.

use web_time::Instant;

use crate::{
    address,
    reachability::{
        Output, Reachability, Vantage, Verdict,
        candidates::{AddressId, Candidate},
    },
};

impl Reachability {
    pub(super) fn take_back(&mut self, id: AddressId) {
        let Some(candidate) = self.candidates.get(id) else {
            return;
        };
        if let Some(form) = self.announcements.expire_ours(id, &candidate.addr) {
            self.outputs.push_back(Output::Expire(form));
        }
    }

    /// Makes the swarm's external addresses and the summary agree with the verdict.
    pub(in crate::reachability) fn publish(&mut self, id: AddressId, now: Instant) {
        self.announce(id, now);
        self.update_summary();
    }

    pub(super) fn announce(&mut self, id: AddressId, now: Instant) {
        let (Some(candidate), Some(entry)) = (self.candidates.get(id), self.judged.get(id)) else {
            return;
        };
        let by_us = self.announcements.is_by_us(id);
        let by_others = self.announcements.is_by_others(id);
        let addr = candidate.addr.clone();
        match entry.standing.verdict() {
            Verdict::Reachable if by_us || by_others || !self.may_announce(id, candidate, now) => {}
            Verdict::Reachable => {
                self.announcements.confirm(id, &addr);
                self.outputs.push_back(Output::Confirm(addr));
            }
            _ if by_us => self.take_back(id),
            Verdict::Unreachable if by_others && self.config.expire_foreign => {
                for form in self.announcements.expire(id, &addr, None) {
                    self.outputs.push_back(Output::Expire(form));
                }
                if let Some(candidate) = self.candidates.get_mut(id) {
                    candidate.sources.confirmed = false;
                    // It stays under test, so that it is confirmed again should it come back.
                    candidate.sources.added = true;
                }
            }
            _ => {}
        }
    }

    /// Whether a reachable address is proven as the application requires it.
    pub(super) fn may_announce(&self, id: AddressId, candidate: &Candidate, now: Instant) -> bool {
        let forbidden = address::ip(&candidate.addr).is_some_and(|ip| {
            self.config
                .never_announced
                .iter()
                .any(|network| network.contains(ip))
        });
        let Some(report) = self
            .report(id, now)
            .filter(|_| self.config.confirms && !forbidden && !candidate.is_withheld)
        else {
            return false;
        };
        let required = f64::from(self.config.required_confidence) / 1e6;
        let vantage = self.config.required_vantage == Vantage::Contacted
            || report.vantage == Some(Vantage::Independent);
        vantage
            && report.confidence >= required
            && (report.proven_by >= self.config.required_servers
                || self.config.required_servers <= 1)
    }
}
