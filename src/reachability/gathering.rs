//! Where others see this node: the external IPs that observations show, and the candidates that they amount to.

use std::{net::IpAddr, time::Duration};

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use web_time::Instant;

use crate::{
    address::{self, Transport},
    reachability::{Reachability, Sources, candidate::Reports},
};

/// How many external IPs are remembered.
const MAX_EXTERNAL_IPS: usize = 8;
/// A new external IP makes all addresses start over at most this often.
const RESTART_PACE: Duration = Duration::from_secs(30);

/// An IP at which this node is seen over a transport.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExternalIp {
    ip: IpAddr,
    transport: Transport,
    reports: Reports,
}

impl Reachability {
    /// Somebody sees this node at `addr`: the host `observer`, or one that the swarm does not name.
    pub(super) fn note_report(&mut self, addr: Multiaddr, observer: Option<IpAddr>, now: Instant) {
        self.note_external_ip(&addr, observer, now);
        if let Some(id) = self.track(addr, |sources| sources.observed = true, now)
            && let Some(candidate) = self.candidates.get_mut(id)
        {
            let before = candidate.reports.count();
            candidate.reports.note(observer, self.dialed);
            if before < 2 && candidate.reports.count() >= 2 {
                self.wake_by(now + self.config.gather_delay);
            }
        }
    }

    /// Remembers the external IP that an observation shows, and guesses what it makes of our listeners.
    pub(super) fn note_external_ip(
        &mut self,
        addr: &Multiaddr,
        observer: Option<IpAddr>,
        now: Instant,
    ) {
        let (Some(ip), Some(transport)) = (address::ip(addr), address::transport(addr)) else {
            return;
        };
        let is_new_ip = self.external_ips.iter().all(|known| known.ip != ip);
        let known = self
            .external_ips
            .iter()
            .position(|known| known.ip == ip && known.transport == transport)
            .and_then(|i| self.external_ips.remove(i));
        let mut external = known.unwrap_or(ExternalIp {
            ip,
            transport,
            reports: Reports::default(),
        });
        external.reports.note(observer, self.dialed);
        if self.external_ips.len() >= MAX_EXTERNAL_IPS {
            let least = (0..self.external_ips.len())
                .min_by_key(|i| self.external_ips.get(*i).map(|e| e.reports.count()));
            if let Some(least) = least {
                self.external_ips.remove(least);
            }
        }
        let moved = is_new_ip && !self.external_ips.is_empty();
        self.external_ips.push_back(external);
        self.guess(external, now);
        let paced = self
            .restarted_at
            .is_some_and(|at| now.saturating_duration_since(at) < RESTART_PACE);
        if moved && !paced {
            self.restarted_at = Some(now);
            self.observations.clear();
            self.start_all_over(now);
        }
    }

    /// An external IP with each of our listen ports of the same transport, or of a plain one. A listener on an IP of the same
    /// kind is not behind the NAT that the external IP belongs to: it is a candidate itself.
    pub(super) fn guess(&mut self, external: ExternalIp, now: Instant) {
        let guesses: Vec<Multiaddr> = self
            .listen_addrs
            .iter()
            .filter(|listen| {
                address::transport(listen).is_some_and(|t| t == external.transport || t.is_plain())
            })
            .filter(|listen| {
                address::ip(listen)
                    .is_some_and(|ip| address::ip_scope(ip) != address::ip_scope(external.ip))
            })
            .filter_map(|listen| with_ip(listen, external.ip))
            .collect();
        for guess in guesses {
            if self.is_testable(&guess).is_err() {
                continue;
            }
            let elsewhere = address::transport(&guess) != Some(external.transport);
            let known = self
                .candidates
                .find(&guess)
                .and_then(|id| self.candidates.get(id));
            if elsewhere && known.is_some_and(|known| known.sources.guessed && !known.unseen) {
                // Peers have spoken of it, and do so no longer.
                continue;
            }
            let mut is_new = false;
            let source = |sources: &mut Sources| {
                is_new = !std::mem::replace(&mut sources.guessed, true);
            };
            let tracked = self.track(guess, source, now);
            let Some((id, candidate)) =
                tracked.and_then(|id| Some((id, self.candidates.get_mut(id)?)))
            else {
                continue;
            };
            if elsewhere {
                candidate.reports = candidate.reports.max(external.reports);
                candidate.unseen |= is_new;
                continue;
            }
            let unheard_of = candidate.is_unheard_of();
            let before = if std::mem::take(&mut candidate.unseen) {
                Reports::default()
            } else {
                candidate.reports
            };
            candidate.reports = before.max(external.reports);
            if unheard_of {
                // There may be a mapping now that there was not when it was asked about.
                self.start_over(id, now);
            }
        }
    }
}

/// `addr` with another IP of the same family in front.
fn with_ip(addr: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let mut parts = addr.iter();
    let front = match (parts.next()?, ip) {
        (Protocol::Ip4(_), IpAddr::V4(ip)) => Protocol::Ip4(ip),
        (Protocol::Ip6(_), IpAddr::V6(ip)) => Protocol::Ip6(ip),
        _ => return None,
    };
    Some(std::iter::once(front).chain(parts).collect())
}
