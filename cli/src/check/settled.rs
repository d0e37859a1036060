//! What is worth waiting for: which addresses the servers can still say something about, and which are settled.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use libp2p_autonat_v2::{
    address::{self, IpFamily},
    client::{AddressReport, Verdict},
};

use super::{
    Check, End, REQUESTS_PER_MINUTE, State,
    machine::{is_behind_nat, is_local, is_own},
    report::Report,
};

/// How long nothing may change before the work is done: a server may answer late, an address be observed late.
const QUIET: Duration = Duration::from_secs(1);
/// How long after the servers said who they are an address to test must have shown up.
const NOTHING_TO_TEST: Duration = Duration::from_secs(3);
/// How long a connected server may take to say what it speaks.
const IDENTIFY: Duration = Duration::from_secs(10);
/// The longest silence without a word on what is waited for.
const SILENCE: Duration = Duration::from_secs(5);

impl Check {
    /// Says what is waited for, once in a silence.
    pub(super) fn tell_of_wait(&mut self) {
        if self.changed.elapsed() <= SILENCE || self.told == Some(self.changed) {
            return;
        }
        self.told = Some(self.changed);
        let reports = self.reports();
        let mut open: Vec<String> = Vec::new();
        for report in &reports {
            if !self.is_settled(report, &reports) {
                open.push(report.address.to_string());
            }
        }
        if !self.serving().is_empty() && !open.is_empty() {
            self.say(&format!(
                "waiting for an answer about {}; a server is asked {REQUESTS_PER_MINUTE} times a minute at most",
                open.join(", ")
            ));
        }
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_done(&self) -> bool {
        let undecided = self.servers.iter().any(|server| match server.state {
            State::Dialing => true,
            State::Connected => server.since.elapsed() < IDENTIFY,
            _ => false,
        });
        if undecided || self.changed.elapsed() < QUIET {
            return false;
        }
        if self.serving().is_empty() {
            return true;
        }
        let reports = self.reports();
        if reports.is_empty() {
            return self.changed.elapsed() >= NOTHING_TO_TEST;
        }
        let mut settled = reports.iter().map(|r| self.is_settled(r, &reports));
        settled.all(|is| is)
    }

    /// The addresses that a server can have a word to say about.
    pub(super) fn reports(&self) -> Vec<AddressReport> {
        let mut reports: Vec<_> = self.swarm.behaviour().autonat.addresses().collect();
        reports.retain(|report| {
            let is_wanted = report.sources.added || report.verdict == Verdict::Reachable;
            is_wanted || !self.is_out_of_sight(&report.address)
        });
        if reports.iter().all(|report| self.is_passing(report)) {
            reports.retain(|report| self.could_accept(&report.address));
        }
        reports
    }

    /// Of this machine alone, or of its link, and no server is there.
    pub(super) fn is_out_of_sight(&self, addr: &Multiaddr) -> bool {
        let kind = |addr| address::ip(addr).map(|ip| (IpFamily::of(ip), address::ip_scope(ip)));
        let mut remotes = self.servers.iter().filter_map(|s| s.remote.as_ref());
        is_local(addr) && remotes.all(|remote| kind(remote) != kind(addr))
    }

    /// Whether one of the listeners could be behind the address.
    fn could_accept(&self, addr: &Multiaddr) -> bool {
        self.listening.iter().any(|listen| {
            address::family(listen) == address::family(addr)
                && (address::transport(listen) == address::transport(addr)
                    || address::port(listen) == address::port(addr))
        })
    }

    pub(super) fn serving(&self) -> BTreeSet<&PeerId> {
        let serves = self
            .servers
            .iter()
            .filter(|server| server.state == State::Serves);
        serves.filter_map(|server| server.peer.as_ref()).collect()
    }

    fn is_settled(&self, report: &AddressReport, all: &[AddressReport]) -> bool {
        if report.inherited {
            return true;
        }
        if self.is_passing(report) {
            return !self.could_accept(&report.address) || self.has_better(report, all);
        }
        if report.verdict != Verdict::Unknown {
            let later = report
                .next_probe
                .is_some_and(|at| at > Instant::now() + QUIET);
            // It could become surer, but nobody has a word to say about it now.
            return later || self.changed.elapsed() > SILENCE;
        }
        self.nobody_dials(report)
    }

    fn nobody_dials(&self, report: &AddressReport) -> bool {
        let refused = self.refused.get(&report.address);
        refused.is_some_and(|by| self.serving().iter().all(|peer| by.contains(*peer)))
    }

    /// Whether a port that this program listens on is reachable behind the same IP, or may be.
    fn has_better(&self, passing: &AddressReport, all: &[AddressReport]) -> bool {
        let kind = |addr| (address::ip(addr), address::transport(addr));
        all.iter().any(|report| {
            kind(&report.address) == kind(&passing.address)
                && matches!(report.verdict, Verdict::Unknown | Verdict::Reachable)
                && !self.is_passing(report)
        })
    }

    /// Seen by a server and never tested: the port that one connection left from, beside addresses that can be listened on.
    fn is_passing(&self, report: &AddressReport) -> bool {
        is_only_observed(report)
            && report.verdict == Verdict::Unknown
            && report.servers == 0
            && !self.refused.contains_key(&report.address)
    }

    /// Of a socket that this program does not listen on, so that there is nothing to open or forward.
    fn is_stray(&self, report: &AddressReport) -> bool {
        let addr = &report.address;
        let is_here = address::ip(addr).is_some_and(is_own);
        let mut listening = self.listening.iter();
        let could_lead_to = |listen: &Multiaddr| {
            address::port(listen) == address::port(addr)
                && (!is_here || address::ip(listen) == address::ip(addr))
        };
        is_only_observed(report) && !listening.any(could_lead_to)
    }

    pub(super) fn into_report(self, end: End) -> Report {
        let mut addresses = self.reports();
        if !addresses.iter().all(|report| self.is_passing(report)) {
            addresses.retain(|report| !self.is_passing(report));
        }
        let undialed = addresses
            .iter()
            .filter(|report| report.verdict == Verdict::Unknown && self.nobody_dials(report));
        let undialed = undialed.map(|report| report.address.clone()).collect();
        let stray = addresses.iter().filter(|report| self.is_stray(report));
        let stray = stray.map(|report| report.address.clone()).collect();
        let autonat = &self.swarm.behaviour().autonat;
        Report {
            addresses,
            undialed,
            stray,
            summary: autonat.summary(),
            mapping: autonat.nat_mapping(),
            behind_nat: is_behind_nat(&self.servers),
            listening: self.listening,
            servers: self.servers,
            took: self.progress.elapsed(),
            end,
        }
    }
}

fn is_only_observed(report: &AddressReport) -> bool {
    let sources = &report.sources;
    !(sources.listening || sources.confirmed || sources.added || sources.guessed)
}
