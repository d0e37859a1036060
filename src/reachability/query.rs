//! What an application asks of the service: commands to look at an address, and queries of what it knows.

use libp2p_core::Multiaddr;
use web_time::Instant;

use crate::reachability::{
    AddressReport, CandidateError, NatMapping, NotTracked, Reachability, ServerReport, Sources,
    Summary,
};

impl Reachability {
    /// Has `addr` tested, now and from time to time. It is kept until it is expired by
    /// [`Reachability::on_external_expired`]. Its verdict comes as an event.
    ///
    /// # Errors
    /// If it can't be tested, see [`CandidateError`].
    pub fn add_candidate(&mut self, now: Instant, addr: &Multiaddr) -> Result<(), CandidateError> {
        let now = self.advance(now);
        let addr = self.canonical(addr).ok_or(CandidateError::OtherPeer)?;
        self.is_testable(&addr)?;
        self.bring_back(&addr);
        let mut is_news = false;
        let added = |sources: &mut Sources| {
            is_news = !std::mem::replace(&mut sources.added, true);
        };
        let id = self
            .track(addr, added, now)
            .ok_or(CandidateError::TooMany)?;
        if is_news {
            self.check_afresh(id, now);
        } else {
            self.demand(id, now);
        }
        Ok(())
    }

    /// Has a tracked address checked at once, whatever its verdict, by the next server that is free.
    ///
    /// # Errors
    /// If the address is not tracked.
    pub fn check_now(&mut self, now: Instant, addr: &Multiaddr) -> Result<(), NotTracked> {
        let now = self.advance(now);
        let id = self
            .canonical(addr)
            .and_then(|addr| self.candidates.find(&addr))
            .ok_or(NotTracked)?;
        self.demand(id, now);
        Ok(())
    }

    /// Puts a summary in place of the one that the verdicts amount to, or takes it away again.
    pub fn pin_summary(&mut self, now: Instant, summary: Option<Summary>) {
        self.advance(now);
        self.pinned = summary;
        self.update_summary();
    }

    /// What all verdicts amount to, or what it was pinned to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// How the NAT maps ports, as far as [`Reachability::on_observed`] has told.
    #[must_use]
    pub fn nat_mapping(&self) -> NatMapping {
        self.observations.mapping()
    }

    /// All tracked addresses, in the order in which they were found.
    pub fn addresses(&self) -> impl Iterator<Item = AddressReport> + '_ {
        self.candidates
            .iter()
            .filter_map(|(id, _)| self.report(id, self.now))
    }

    /// One tracked address.
    #[must_use]
    pub fn address(&self, addr: &Multiaddr) -> Option<AddressReport> {
        let id = self.candidates.find(&self.canonical(addr)?)?;
        self.report(id, self.now)
    }

    /// How many servers are connected, and how many of them are not backed off.
    #[must_use]
    pub fn servers(&self) -> (usize, usize) {
        (self.servers.len(), self.servers.usable(self.now))
    }

    /// The servers that are connected, in no order that means anything.
    pub fn known_servers(&self) -> impl Iterator<Item = ServerReport> + '_ {
        self.servers.all().map(|server| ServerReport {
            peer: server.peer,
            backed_off_until: server.backed_off_until(self.now),
            last_asked: server.last_asked(),
        })
    }

    /// How many entries each bounded collection holds.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            addresses: self.candidates.len(),
            outcomes: self.judged.iter().map(|(_, it)| it.evidence.len()).sum(),
            servers: self.servers.len(),
            remembered_servers: self.servers.remembered(),
            contacted_ips: self.contacts.len(),
            probes: self.probes.len(),
        }
    }
}

/// The sizes of the core's collections, for metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Tracked addresses, bounded by [`Config::with_max_addresses`](crate::client::Config::with_max_addresses).
    pub addresses: usize,
    /// Outcomes that count, at most 24 an address.
    pub outcomes: usize,
    /// Connected servers, bounded by [`Config::with_max_servers`](crate::client::Config::with_max_servers).
    pub servers: usize,
    /// Servers that have left and are remembered, bounded likewise.
    pub remembered_servers: usize,
    /// IPs that were contacted and are no longer connected, bounded by
    /// [`Config::with_max_contacted_ips`](crate::client::Config::with_max_contacted_ips).
    pub contacted_ips: usize,
    /// Probes under way or waiting for a nonce.
    pub probes: usize,
}
