//! How often the server serves, and how much at once: counters per client, neighbourhood and
//! dialed target, with the time passed in.
//!
//! A request takes from every counter or from none, but for that of its target: there it reserves a dial, which counts from
//! the moment that the dial goes out, for what is promised to the target is so many dials within any minute. One that does
//! not pay gives back what it took of the dial data of all and what it reserved of its target, which was not dialed. What is rejected is therefore never remembered, and no counter holds more keys than requests were admitted in about a minute: the limit on
//! requests in all is the bound on memory, and a flood that is turned away costs nothing and uses up
//! nobody else's share.
//!
//! Each counter is a sliding window in slots of five seconds. It keeps the promise that an operator
//! reads into "12 per minute" (never more than 12 within any 60 s), which a token bucket with a burst
//! does not; `governor`, the usual library, is one and reads a clock of its own.
//! The limits follow the security considerations of the AutoNAT v2 specification and the
//! defaults of go-libp2p; the one on targets answers libp2p/specs issue 640.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use libp2p_identity::PeerId;
use web_time::Instant;

use crate::address::{self, Neighbourhood};

/// The limit that stopped a request. The client reads `E_REQUEST_REJECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Requests in all per minute,
    /// [`Config::with_max_requests_per_minute`](super::Config::with_max_requests_per_minute).
    Requests,
    /// Requests of one peer per minute.
    RequestsOfPeer,
    /// Requests from one IP neighbourhood per minute.
    RequestsOfNeighbourhood,
    /// Requests from one network (/16 for IPv4, /32 for IPv6) per minute: a third of those in all. Of all relayed clients
    /// together: a tenth.
    RequestsOfNetwork,
    /// Requests in all that need dial data, per minute.
    DialData,
    /// Requests of one IP neighbourhood that need dial data, per minute.
    DialDataOfNeighbourhood,
    /// Requests of one network that need dial data, per minute: a third of those in all. Of all relayed clients together:
    /// a tenth.
    DialDataOfNetwork,
    /// Dials of one IP that is not the client's own, per minute.
    Target,
    /// Requests at once.
    Concurrent,
    /// Requests of one peer at once.
    ConcurrentOfPeer,
    /// Dial-backs at once.
    Dials,
    /// Dial-backs to one IP neighbourhood that do not end: a quarter of those at once.
    LingeringDials,
    /// Dial-backs to one peer at once: one. Further requests of the peer wait for as long as they can.
    DialsOfPeer,
    /// Dial-backs over QUIC at once. Further requests wait for as long as they can.
    QuicDials,
    /// None: the server was [switched off](crate::server::Behaviour::set_serving), and the client had not heard of it.
    Off,
}

impl Limit {
    /// The limit in a word or two, as written to the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests per minute",
            Self::RequestsOfPeer => "requests per minute of the peer",
            Self::RequestsOfNeighbourhood => "requests per minute of the neighbourhood",
            Self::RequestsOfNetwork => "requests per minute of the network",
            Self::DialData => "requests with dial data per minute",
            Self::DialDataOfNeighbourhood => {
                "requests with dial data per minute of the neighbourhood"
            }
            Self::DialDataOfNetwork => "requests with dial data per minute of the network",
            Self::Target => "dials per minute of the target",
            Self::Concurrent => "requests at once",
            Self::ConcurrentOfPeer => "requests at once of the peer",
            Self::Dials => "dial-backs at once",
            Self::LingeringDials => "lingering dial-backs of the neighbourhood",
            Self::DialsOfPeer => "dial-backs at once of the peer",
            Self::QuicDials => "dial-backs at once over QUIC",
            Self::Off => "switched off",
        }
    }
}

/// The numbers, as the configuration gives them. Rates are per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) requests: u32,
    pub(crate) requests_of_peer: u32,
    pub(crate) requests_of_neighbourhood: u32,
    pub(crate) dial_data: u32,
    pub(crate) dial_data_of_neighbourhood: u32,
    pub(crate) target: u32,
    pub(crate) concurrent: u32,
    pub(crate) concurrent_of_peer: u32,
    pub(crate) dials: u32,
    pub(crate) quic_dials: u32,
    /// The bits of an IP that make a neighbourhood.
    pub(crate) v4_prefix: u8,
    pub(crate) v6_prefix: u8,
}

/// The bits of an IP that make a network. Whoever has an IPv6 network of a usual size has hundreds of neighbourhoods; a
/// network is what a registry hands to a provider.
const NETWORK_V4_PREFIX: u8 = 16;
const NETWORK_V6_PREFIX: u8 = 32;

impl Limits {
    fn neighbourhood(&self, ip: Option<IpAddr>) -> Option<Neighbourhood> {
        ip.map(|ip| address::neighbourhood(ip, self.v4_prefix, self.v6_prefix))
    }

    /// Whether one more dial to this IP fits beside those that may hold a socket, so many in all, of which these are over
    /// and hold theirs all the same. A target decides how long it keeps a connection open, so that a few neighbourhoods
    /// could take all places for good.
    pub(crate) fn place_for_dial(
        &self,
        target: Option<IpAddr>,
        dials: usize,
        lingering: impl Iterator<Item = Option<IpAddr>>,
    ) -> Result<(), Limit> {
        let all = self.dials as usize;
        if dials >= all {
            return Err(Limit::Dials);
        }
        let neighbourhood = self.neighbourhood(target);
        let of_neighbourhood = lingering
            .filter(|ip| self.neighbourhood(*ip) == neighbourhood)
            .count();
        if of_neighbourhood >= (all / 4).max(1) {
            return Err(Limit::LingeringDials);
        }
        Ok(())
    }

    fn requests_of_network(&self, network: Option<Neighbourhood>) -> u32 {
        share(network, self.requests, self.requests_of_neighbourhood)
    }

    fn dial_data_of_network(&self, network: Option<Neighbourhood>) -> u32 {
        share(network, self.dial_data, self.dial_data_of_neighbourhood)
    }
}

/// What a network gets of `all`: a third, unless a single neighbourhood may have more. Relayed clients, whom anybody can
/// be many of, get a tenth together. One host has an IPv4 network, an IPv6 network and a relay at once, and with all three
/// it must leave something to the others: two thirds and a tenth are less than all.
fn share(network: Option<Neighbourhood>, all: u32, of_neighbourhood: u32) -> u32 {
    match network {
        Some(_) => of_neighbourhood.max(all / 3),
        None => of_neighbourhood.min(all.div_ceil(10)),
    }
}

fn target_of(ip: Option<IpAddr>) -> Option<Neighbourhood> {
    ip.map(address::host_prefix)
}

fn network(ip: Option<IpAddr>) -> Option<Neighbourhood> {
    ip.map(|ip| address::neighbourhood(ip, NETWORK_V4_PREFIX, NETWORK_V6_PREFIX))
}

/// More requests per minute than this cannot be configured. It bounds the keys of every counter.
pub(crate) const MAX_REQUESTS_PER_MINUTE: u32 = 65_536;

const SLOT: Duration = Duration::from_secs(5);
/// The slots of one minute and the one in progress, so that no 60 s fall between two sums.
const SLOTS: usize = 13;

/// The uses of the last 60 to 65 s.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    newest: u64,
    uses: [u32; SLOTS],
}

impl Window {
    fn advance(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.newest);
        if passed >= SLOTS as u64 {
            self.uses = [0; SLOTS];
        } else {
            for slot in self.newest + 1..=self.newest + passed {
                self.uses[(slot % SLOTS as u64) as usize] = 0;
            }
        }
        self.newest += passed;
    }

    fn used(&self, slot: u64) -> u32 {
        let mut at = *self;
        at.advance(slot);
        at.uses
            .iter()
            .fold(0, |sum, uses| u32::saturating_add(sum, *uses))
    }

    fn take(&mut self, slot: u64) {
        self.advance(slot);
        let uses = &mut self.uses[(self.newest % SLOTS as u64) as usize];
        *uses = uses.saturating_add(1);
    }

    /// Undoes a use of this slot, if it is remembered.
    fn give_back(&mut self, slot: u64) {
        if (self.newest.saturating_sub(SLOTS as u64 - 1)..=self.newest).contains(&slot) {
            let uses = &mut self.uses[(slot % SLOTS as u64) as usize];
            *uses = uses.saturating_sub(1);
        }
    }
}

/// One window per key. A key whose window is empty again is forgotten.
#[derive(Debug)]
struct Windows<K>(BTreeMap<K, Window>);

impl<K: Ord> Windows<K> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn used(&self, key: &K, slot: u64) -> u32 {
        self.0.get(key).map_or(0, |window| window.used(slot))
    }

    fn take(&mut self, key: K, slot: u64) {
        self.0.entry(key).or_default().take(slot);
    }

    fn forget_full(&mut self, slot: u64) {
        self.0.retain(|_, window| window.used(slot) > 0);
    }
}

/// The dials of a host, or of an IPv6 network of a single customer.
#[derive(Debug, Default)]
struct Target {
    dialed: Window,
    /// Dials that were promised to requests and have not gone out.
    reserved: u32,
}

impl Target {
    fn is_unused(&self, slot: u64) -> bool {
        self.reserved == 0 && self.dialed.used(slot) == 0
    }
}

/// All counters of a server.
///
/// Clients whose IP is unknown (relayed) share one neighbourhood, which is also one network.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    epoch: Instant,
    /// The slot in which expired keys were last forgotten.
    swept: u64,
    requests: Window,
    dial_data: Window,
    peers: Windows<PeerId>,
    neighbourhoods: Windows<Option<Neighbourhood>>,
    networks: Windows<Option<Neighbourhood>>,
    dial_data_neighbourhoods: Windows<Option<Neighbourhood>>,
    dial_data_networks: Windows<Option<Neighbourhood>>,
    /// `None` stands for all names together, since a name says nothing about what is dialed.
    targets: BTreeMap<Option<Neighbourhood>, Target>,
    running: BTreeMap<PeerId, u32>,
    running_in_all: u32,
}

impl Limiter {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            epoch: now,
            swept: 0,
            requests: Window::default(),
            dial_data: Window::default(),
            peers: Windows::new(),
            neighbourhoods: Windows::new(),
            networks: Windows::new(),
            dial_data_neighbourhoods: Windows::new(),
            dial_data_networks: Windows::new(),
            targets: BTreeMap::new(),
            running: BTreeMap::new(),
            running_in_all: 0,
        }
    }

    /// Whether a request may be read, decided on what is known before the first byte. Each admitted
    /// request must be given back by [`Limiter::finish`].
    ///
    /// The limits that concern the client alone come first, so that a client learns about itself
    /// before it learns about the server.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        peer: PeerId,
        ip: Option<IpAddr>,
        dials: usize,
    ) -> Result<(), Limit> {
        let slot = self.slot(now);
        let neighbourhood = self.limits.neighbourhood(ip);
        let network = network(ip);
        let running = self.running.get(&peer).copied().unwrap_or(0);

        if running >= self.limits.concurrent_of_peer {
            return Err(Limit::ConcurrentOfPeer);
        }
        if self.peers.used(&peer, slot) >= self.limits.requests_of_peer {
            return Err(Limit::RequestsOfPeer);
        }
        if self.neighbourhoods.used(&neighbourhood, slot) >= self.limits.requests_of_neighbourhood {
            return Err(Limit::RequestsOfNeighbourhood);
        }
        if self.networks.used(&network, slot) >= self.limits.requests_of_network(network) {
            return Err(Limit::RequestsOfNetwork);
        }
        if self.running_in_all >= self.limits.concurrent {
            return Err(Limit::Concurrent);
        }
        if dials >= self.limits.dials as usize {
            return Err(Limit::Dials);
        }
        if self.requests.used(slot) >= self.limits.requests {
            return Err(Limit::Requests);
        }

        self.peers.take(peer, slot);
        self.neighbourhoods.take(neighbourhood, slot);
        self.networks.take(network, slot);
        self.requests.take(slot);
        self.running.insert(peer, running + 1);
        self.running_in_all += 1;
        Ok(())
    }

    /// Whether the chosen address of an admitted request may be tested: the part that needs the
    /// request's content. `target` is `None` for a name; `is_client_ip` says that it is the client's own IP. If not, a dial of the target
    /// is reserved, which [`Limiter::dialed`] or [`Limiter::did_not_pay`] must end.
    pub(crate) fn admit_target(
        &mut self,
        now: Instant,
        ip: Option<IpAddr>,
        target: Option<IpAddr>,
        is_client_ip: bool,
        dial_data: bool,
    ) -> Result<(), Limit> {
        let slot = self.slot(now);
        let target = target_of(target);

        let dials = self.targets.get(&target).map_or(0, |target| {
            target.dialed.used(slot).saturating_add(target.reserved)
        });
        if !is_client_ip && dials >= self.limits.target {
            return Err(Limit::Target);
        }
        if dial_data {
            let neighbourhood = self.limits.neighbourhood(ip);
            let network = network(ip);
            let used = self.dial_data_neighbourhoods.used(&neighbourhood, slot);
            if used >= self.limits.dial_data_of_neighbourhood {
                return Err(Limit::DialDataOfNeighbourhood);
            }
            let used = self.dial_data_networks.used(&network, slot);
            if used >= self.limits.dial_data_of_network(network) {
                return Err(Limit::DialDataOfNetwork);
            }
            if self.dial_data.used(slot) >= self.limits.dial_data {
                return Err(Limit::DialData);
            }
            self.dial_data_neighbourhoods.take(neighbourhood, slot);
            self.dial_data_networks.take(network, slot);
            self.dial_data.take(slot);
        }
        if !is_client_ip {
            self.targets.entry(target).or_default().reserved += 1;
        }
        Ok(())
    }

    /// A reserved dial of this target goes out. Also said of one whose client has paid and left: it gains nothing by that.
    pub(crate) fn dialed(&mut self, now: Instant, target: Option<IpAddr>) {
        let slot = self.slot(now);
        let target = self.targets.entry(target_of(target)).or_default();
        target.reserved = target.reserved.saturating_sub(1);
        target.dialed.take(slot);
    }

    /// A request that [`Limiter::admit_target`] let pass at this time was to pay dial data for this target, and paid next
    /// to nothing. It does not count in all nor for the target, or those who never pay would leave none for those who
    /// would. It does for its neighbourhood and its network, so that none can do it without end.
    pub(crate) fn did_not_pay(&mut self, admitted: Instant, target: Option<IpAddr>) {
        let slot = self.slot_of(admitted);
        self.dial_data.give_back(slot);
        let key = target_of(target);
        if let Some(target) = self.targets.get_mut(&key) {
            target.reserved = target.reserved.saturating_sub(1);
            if target.is_unused(slot) {
                self.targets.remove(&key);
            }
        }
    }

    /// An admitted request of this peer ended.
    pub(crate) fn finish(&mut self, peer: &PeerId) {
        let Some(running) = self.running.get_mut(peer) else {
            return;
        };
        *running -= 1;
        if *running == 0 {
            self.running.remove(peer);
        }
        self.running_in_all -= 1;
    }

    /// The number of entries held for all keys together. At most six times the limit on requests per
    /// minute plus the limit on requests at once.
    pub(crate) fn entries(&self) -> usize {
        self.peers.0.len()
            + self.neighbourhoods.0.len()
            + self.networks.0.len()
            + self.dial_data_neighbourhoods.0.len()
            + self.dial_data_networks.0.len()
            + self.targets.len()
            + self.running.len()
    }

    fn slot_of(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(elapsed / SLOT.as_millis()).unwrap_or(u64::MAX)
    }

    /// Slots only ever move forward, also if `now` does not.
    fn slot(&mut self, now: Instant) -> u64 {
        let slot = self.slot_of(now).max(self.swept);
        if slot > self.swept {
            self.swept = slot;
            self.peers.forget_full(slot);
            self.neighbourhoods.forget_full(slot);
            self.networks.forget_full(slot);
            self.dial_data_neighbourhoods.forget_full(slot);
            self.dial_data_networks.forget_full(slot);
            self.targets.retain(|_, target| !target.is_unused(slot));
        }
        slot
    }
}

#[cfg(test)]
mod tests;
