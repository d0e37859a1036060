//! Options of the reachability service. Every default is safe on the open Internet.

use std::{net::IpAddr, time::Duration};

use crate::{
    address::{self, Neighbourhood},
    reachability::contacts::Vantage,
};

/// Longer times than this are cut down to it, so that no sum of an instant and a duration overflows.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Options of the reachability service, built with `with_*` calls on [`Config::default`].
///
/// Times that are longer than 365 days are taken for 365 days.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    pub(crate) allow_private: bool,
    pub(crate) max_addresses: usize,
    pub(crate) max_servers: usize,
    pub(crate) max_contacted_ips: usize,
    pub(crate) contact_lifetime: Duration,
    pub(crate) max_parallel: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) addresses_per_request: usize,
    pub(crate) gather_delay: Duration,
    pub(crate) recheck_min: Duration,
    pub(crate) recheck_max: Duration,
    pub(crate) settling_time: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) batch_timeout: Duration,
    pub(crate) outcome_lifetime: Duration,
    pub(crate) requests_per_minute: usize,
    pub(crate) max_dial_data: u64,
    pub(crate) dial_data_per_hour: u64,
    pub(crate) required_vantage: Vantage,
    /// In millionths, so that options can be compared.
    pub(crate) required_confidence: u32,
    pub(crate) required_servers: usize,
    pub(crate) confirms: bool,
    pub(crate) never_announced: Vec<Neighbourhood>,
    pub(crate) expire_foreign: bool,
    pub(crate) connection_limit: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_private: false,
            max_addresses: 50,
            max_servers: 1_000,
            max_contacted_ips: 16_384,
            contact_lifetime: Duration::from_secs(10 * 60),
            max_parallel: 3,
            max_in_flight: 16,
            addresses_per_request: 10,
            gather_delay: Duration::from_millis(100),
            recheck_min: Duration::from_secs(30),
            recheck_max: Duration::from_secs(60 * 60),
            settling_time: Duration::from_secs(10 * 60),
            request_timeout: Duration::from_secs(20),
            batch_timeout: Duration::from_secs(30),
            outcome_lifetime: Duration::from_secs(3 * 60 * 60),
            requests_per_minute: 6,
            max_dial_data: 100_000,
            dial_data_per_hour: 8_000_000,
            required_vantage: Vantage::Contacted,
            required_confidence: 0,
            required_servers: 1,
            confirms: true,
            never_announced: Vec::new(),
            expire_foreign: false,
            connection_limit: None,
        }
    }
}

impl Config {
    /// Whether addresses that are not global unicast by the IANA registries may be tracked and sent to servers.
    ///
    /// Default: `false`; the spec forbids a client to send private addresses ("Implementation Suggestions").
    /// Set it for a test network or a private one whose servers agree to dial such addresses.
    #[must_use]
    pub fn with_private_addresses(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// How many addresses are tracked at once. Default: 50; at least 1. 2 to 4 KiB each.
    ///
    /// A candidate beyond it takes the place of the one that least speaks for, or is dropped. Reachable addresses stay. Only where
    /// peers alone speak for more than half of all, one of those gives way to an address of this node's own.
    #[must_use]
    pub fn with_max_addresses(mut self, max: usize) -> Self {
        self.max_addresses = max.max(1);
        self
    }

    /// How many servers are known at once, and of how many more that have left something is remembered.
    /// Default: 1,000 each; at least 1. About 300 bytes each.
    #[must_use]
    pub fn with_max_servers(mut self, max: usize) -> Self {
        self.max_servers = max.max(1);
        self
    }

    /// How many hosts that this node exchanged packets with are remembered, to tell an independent vantage from a
    /// contacted one. Default: 16,384; at least 1. About 60 bytes each. A host that was met over TCP and UDP counts twice.
    ///
    /// Where a live entry had to be forgotten, no host of its IP group (IPv4 /16, IPv6 /32) counts as independent for as long
    /// as the entry would have lived: the memory errs on the safe side. Hosts with an open connection are remembered in any case
    /// and do not count.
    #[must_use]
    pub fn with_max_contacted_ips(mut self, max: usize) -> Self {
        self.max_contacted_ips = max.max(1);
        self
    }

    /// How long an IP counts as contacted after the last connection to it ended. Default: 10 min.
    ///
    /// RFC 4787 (REQ-5) asks NATs to keep UDP filters for at least 2 min and recommends 5 min; RFC 5382 (REQ-5) 4 min
    /// for closed TCP connections. Too short a value reports `Independent` where a NAT still remembers the contact.
    #[must_use]
    pub fn with_contact_lifetime(mut self, lifetime: Duration) -> Self {
        self.contact_lifetime = lifetime.min(MAX_TIME);
        self
    }

    /// How many servers are asked about one address at the same time. Default: 3, which is what a verdict takes; at least 1.
    ///
    /// No more are asked than are worth it. Each request that is unanswered after 2 s allows two more, up to three times this
    /// number, unless three quarters of [`Self::with_max_in_flight`] are under way. That goes for addresses without a verdict
    /// and for contradicted ones; a recheck asks one server.
    #[must_use]
    pub fn with_max_parallel(mut self, max: usize) -> Self {
        self.max_parallel = max.max(1);
        self
    }

    /// How many probes are under way at the same time in all. Default: 16; at least 1. About 500 bytes each, and a stream.
    ///
    /// One that waits for a nonce after the answer counts too. With few, several addresses are decided one after the other.
    #[must_use]
    pub fn with_max_in_flight(mut self, max: usize) -> Self {
        self.max_in_flight = max.max(1);
        self
    }

    /// How many addresses one request names: the one to decide and others behind it. Default: 10, from 1 to 10.
    ///
    /// A server dials the first that it can (spec, "AutoNAT V2 Protocol"); more would not fit the 1,024 bytes that
    /// nim-libp2p accepts.
    #[must_use]
    pub fn with_addresses_per_request(mut self, count: usize) -> Self {
        self.addresses_per_request = count.clamp(1, 10);
        self
    }

    /// How long the first probe waits for more candidates and servers to arrive. Default: 100 ms; zero means not at all.
    ///
    /// A node's addresses and observations come in a burst; what is there by then goes out in one request. Servers come in a
    /// burst, too. An address without a verdict waits for this time after the last server of the burst, and for twice this
    /// time after the first one at most. Where fewer than three servers can be asked, it waits for the full twice. This adds to
    /// the time of the first verdict.
    #[must_use]
    pub fn with_gather_delay(mut self, delay: Duration) -> Self {
        self.gather_delay = delay.min(MAX_TIME);
        self
    }

    /// The time from a settled verdict to its first recheck, and the longest one that it doubles to while nothing
    /// changes. Default: 30 s and 1 h. `max` is raised to `min` where it is smaller; `min` is at least 1 s.
    ///
    /// In the first ten minutes after an address was found, the time stays at 60 s at most (or at `min`, where that is
    /// longer), since that is when port forwarding comes and goes.
    #[must_use]
    pub fn with_recheck(mut self, min: Duration, max: Duration) -> Self {
        self.recheck_min = min.clamp(Duration::from_secs(1), MAX_TIME);
        self.recheck_max = max.clamp(self.recheck_min, MAX_TIME);
        self
    }

    /// How long a request may take: one with a single address, and one with several. Default: 20 s and 30 s.
    ///
    /// go-libp2p answers within 15 s, js-libp2p within 30 s for all addresses together. Shorter values lose answers
    /// that can only show as silence, and so lose verdicts.
    #[must_use]
    pub fn with_request_timeouts(mut self, single: Duration, several: Duration) -> Self {
        self.request_timeout = single.min(MAX_TIME);
        self.batch_timeout = several.min(MAX_TIME);
        self
    }

    /// How long an outcome counts as evidence. Default: 3 h.
    ///
    /// A verdict stands when its evidence has expired, but its confidence falls back to what is believed of such an address
    /// before any server was asked. For `Reachable` that is 0.66 for a public listen address and one that others confirmed,
    /// 0.5 for any other.
    #[must_use]
    pub fn with_outcome_lifetime(mut self, lifetime: Duration) -> Self {
        self.outcome_lifetime = lifetime.min(MAX_TIME);
        self
    }

    /// How many requests one server gets per minute. Default: 6, from 1 to 12; one at a time in any case.
    ///
    /// go-libp2p rejects more than 12 a minute from one peer.
    #[must_use]
    pub fn with_requests_per_minute(mut self, count: usize) -> Self {
        self.requests_per_minute = count.clamp(1, 12);
        self
    }

    /// How many bytes of dial data are paid for one answer, and in all per hour. Default: 100,000 and 8,000,000. `per_answer` is
    /// 100,000 at most, which is what the spec lets a server ask for; more is taken for that.
    ///
    /// A server that asks for more than is left of the budget is turned down, and left alone for that transport and family for
    /// five minutes, doubling to an hour. Zero means that dial data is never paid: then addresses on another IP than the
    /// one that servers see can't be tested.
    #[must_use]
    pub fn with_dial_data_budget(mut self, per_answer: u64, per_hour: u64) -> Self {
        self.max_dial_data = per_answer.min(100_000);
        self.dial_data_per_hour = per_hour;
        self
    }

    /// Which vantage an address must have been proven from before it is confirmed to the swarm.
    /// Default: [`Vantage::Contacted`], that is any.
    ///
    /// With [`Vantage::Independent`] nothing is announced that could be a NAT's address-dependent filtering at work
    /// (RFC 4787, section 5), but a node whose servers all dial back from the IP it contacted announces nothing.
    #[must_use]
    pub fn with_required_vantage(mut self, vantage: Vantage) -> Self {
        self.required_vantage = vantage;
        self
    }

    /// How sure a verdict must be before an address is confirmed to the swarm: the posterior probability that it is
    /// reachable, from 0 to 1. Default: 0, that is whatever the verdict takes.
    ///
    /// Successes from contacted IPs alone never amount to more than the share of NATs that don't filter by address: 0.81
    /// for an observed or guessed address, 0.92 for one that others confirmed, 0.94 for a public listen address. What has been
    /// confirmed stays so until the verdict changes.
    #[must_use]
    pub fn with_required_confidence(mut self, confidence: f64) -> Self {
        let confidence = if confidence.is_nan() {
            1.0
        } else {
            confidence.clamp(0.0, 1.0)
        };
        self.required_confidence = (confidence * 1e6).round() as u32;
        self
    }

    /// How many servers must have proven an address before it is confirmed to the swarm, each in an IP group of its own
    /// (an IPv4 /16, an IPv6 /32). Default: 1; at least 1.
    ///
    /// With more than there are servers in reach nothing is confirmed. What has been confirmed stays so until the verdict
    /// changes.
    #[must_use]
    pub fn with_required_servers(mut self, servers: usize) -> Self {
        self.required_servers = servers.max(1);
        self
    }

    /// Whether reachable addresses are confirmed to the swarm. Default: `true`.
    ///
    /// With `false` the client only reports: the application decides what becomes of the swarm's external addresses, and hears
    /// of each verdict by [`Event::VerdictChanged`](super::Event::VerdictChanged).
    #[must_use]
    pub fn with_confirmations(mut self, confirm: bool) -> Self {
        self.confirms = confirm;
        self
    }

    /// Networks whose addresses are never confirmed to the swarm: an IP and a prefix length each. Default: none.
    ///
    /// For addresses that strangers could reach and should not use, such as those of a network that is paid for by traffic.
    /// They are tested and reported on like others.
    #[must_use]
    pub fn with_never_announced(
        mut self,
        networks: impl IntoIterator<Item = (IpAddr, u8)>,
    ) -> Self {
        self.never_announced = networks
            .into_iter()
            .map(|(ip, prefix)| address::neighbourhood(ip, prefix, prefix))
            .collect();
        self
    }

    /// Whether an address that others confirmed (the operator, UPnP) is expired when it proves unreachable.
    /// Default: `false`: it is reported on, and left alone.
    #[must_use]
    pub fn with_expire_foreign(mut self, expire: bool) -> Self {
        self.expire_foreign = expire;
        self
    }

    /// The limit of established connections that the swarm has, if it has one. Default: none.
    ///
    /// Near it dial-backs are denied, and the results would lie: no probe leaves while fewer than 8 connections, or
    /// an eighth of the limit where that is less, are left.
    #[must_use]
    pub fn with_connection_limit(mut self, limit: Option<u32>) -> Self {
        self.connection_limit = limit;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// js-libp2p takes up to 30 s for all addresses of a request together, others 10 to 15 s for one.
    #[test]
    fn a_request_has_the_time_that_servers_take() {
        let config = Config::default();
        assert!(config.request_timeout >= Duration::from_secs(20));
        assert!(config.batch_timeout >= Duration::from_secs(30));
    }

    #[test]
    fn no_time_is_too_long_for_an_instant() {
        let long = Duration::MAX;
        let config = Config::default()
            .with_contact_lifetime(long)
            .with_gather_delay(long)
            .with_recheck(long, long)
            .with_request_timeouts(long, long)
            .with_outcome_lifetime(long);
        let now = web_time::Instant::now();
        for time in [
            config.contact_lifetime,
            config.gather_delay,
            config.recheck_min,
            config.recheck_max,
            config.request_timeout,
            config.batch_timeout,
            config.outcome_lifetime,
        ] {
            assert!(now.checked_add(time * 2).is_some());
        }
    }
}
