//! The server's side, as facts that go in and commands that come out.
//!
//! A thin stand-in with the limits of `server::Config::default()`; each of its methods is one of the fact that a server's core is
//! told. It takes the first address of a request, and asks for dial data where the client's IP is another one.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_autonat_v2::{
    protocol::{DialResponse, DialStatus, ResponseStatus},
    server::Limit,
};
use rand::{RngExt, rngs::SmallRng};

const MINUTE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 60;
const REQUESTS_OF_PEER: usize = 12;
const REQUESTS_OF_NEIGHBOURHOOD: usize = 15;
const REQUESTS_OF_NETWORK: usize = REQUESTS / 3;
const DIAL_DATA: usize = 12;
const DIAL_DATA_OF_NEIGHBOURHOOD: usize = 3;
const DIAL_DATA_OF_NETWORK: usize = DIAL_DATA / 3;
const CONCURRENT: usize = 64;
const CONCURRENT_OF_PEER: usize = 2;
const DIALS: usize = 32;
/// The wait before a dial that dial data paid for.
const MAX_DELAY: Duration = Duration::from_secs(3);
/// What a client may be asked to pay (AutoNAT v2, "Amplification Attack Prevention").
const BYTES: std::ops::Range<u64> = 30_000..100_000;

/// One request, as the fleet numbers them.
pub(crate) type Key = u64;

#[derive(Debug)]
pub(crate) enum Command {
    /// Turned away by a limit.
    Reject(Key, Limit),
    AskForData(Key, u64),
    /// Dial the address with this index.
    Dial(Key, usize),
    Answer(Key, DialResponse),
}

struct Request {
    ip: IpAddr,
    peer: PeerId,
    dial_at: Option<Instant>,
    index: usize,
}

pub(crate) struct Service {
    rng: SmallRng,
    requests: BTreeMap<Key, Request>,
    dials: usize,
    admitted: Recent<(PeerId, IpAddr)>,
    paid: Recent<IpAddr>,
    commands: VecDeque<Command>,
}

impl Service {
    pub(crate) fn new(rng: SmallRng) -> Self {
        Self {
            rng,
            requests: BTreeMap::new(),
            dials: 0,
            admitted: Recent::default(),
            paid: Recent::default(),
            commands: VecDeque::new(),
        }
    }

    /// A client opened a stream.
    pub(crate) fn on_stream(&mut self, now: Instant, key: Key, peer: PeerId, ip: IpAddr) {
        match self.admit(now, peer, ip) {
            Err(limit) => self.commands.push_back(Command::Reject(key, limit)),
            Ok(()) => {
                self.admitted.push(now, (peer, ip));
                let request = Request {
                    ip,
                    peer,
                    dial_at: None,
                    index: 0,
                };
                self.requests.insert(key, request);
            }
        }
    }

    fn admit(&mut self, now: Instant, peer: PeerId, ip: IpAddr) -> Result<(), Limit> {
        let running = self.requests.values().filter(|it| it.peer == peer).count();
        if running >= CONCURRENT_OF_PEER {
            return Err(Limit::ConcurrentOfPeer);
        }
        let admitted = self.admitted.within(now);
        let count = |like: &dyn Fn(&(PeerId, IpAddr)) -> bool| {
            admitted.iter().filter(|(_, it)| like(it)).count()
        };
        if count(&|(other, _)| *other == peer) >= REQUESTS_OF_PEER {
            return Err(Limit::RequestsOfPeer);
        }
        if count(&|(_, other)| bits(*other, 24, 56) == bits(ip, 24, 56))
            >= REQUESTS_OF_NEIGHBOURHOOD
        {
            return Err(Limit::RequestsOfNeighbourhood);
        }
        if count(&|(_, other)| bits(*other, 16, 32) == bits(ip, 16, 32)) >= REQUESTS_OF_NETWORK {
            return Err(Limit::RequestsOfNetwork);
        }
        if self.requests.len() >= CONCURRENT {
            return Err(Limit::Concurrent);
        }
        if self.dials >= DIALS {
            return Err(Limit::Dials);
        }
        if admitted.len() >= REQUESTS {
            return Err(Limit::Requests);
        }
        Ok(())
    }

    /// The request of an admitted stream was read.
    pub(crate) fn on_request(&mut self, now: Instant, key: Key, addrs: &[Multiaddr]) {
        let Some(request) = self.requests.get_mut(&key) else {
            return;
        };
        let targets = addrs.iter().enumerate();
        let chosen = targets
            .filter_map(|(index, addr)| Some((index, ip_of(addr)?)))
            .next();
        let Some((index, target)) = chosen else {
            let response = DialResponse {
                status: ResponseStatus::DialRefused,
                addr_idx: 0,
                dial_status: DialStatus::Unused,
            };
            self.finish(key, Command::Answer(key, response));
            return;
        };
        request.index = index;
        let ip = request.ip;
        if target == ip {
            self.dial(key);
        } else if let Err(limit) = self.admit_dial_data(now, ip) {
            self.finish(key, Command::Reject(key, limit));
        } else {
            self.paid.push(now, ip);
            let bytes = self.rng.random_range(BYTES);
            self.commands.push_back(Command::AskForData(key, bytes));
        }
    }

    fn admit_dial_data(&mut self, now: Instant, ip: IpAddr) -> Result<(), Limit> {
        let paid = self.paid.within(now);
        let count = |v4, v6| {
            let like = paid
                .iter()
                .filter(|(_, it)| bits(*it, v4, v6) == bits(ip, v4, v6));
            like.count()
        };
        if count(24, 56) >= DIAL_DATA_OF_NEIGHBOURHOOD {
            return Err(Limit::DialDataOfNeighbourhood);
        }
        if count(16, 32) >= DIAL_DATA_OF_NETWORK {
            return Err(Limit::DialDataOfNetwork);
        }
        if paid.len() >= DIAL_DATA {
            return Err(Limit::DialData);
        }
        Ok(())
    }

    /// All dial data of a request has come.
    pub(crate) fn on_dial_data(&mut self, now: Instant, key: Key) {
        let delay = MAX_DELAY.mul_f64(self.rng.random());
        if let Some(request) = self.requests.get_mut(&key) {
            request.dial_at = Some(now + delay);
        }
    }

    fn dial(&mut self, key: Key) {
        if let Some(request) = self.requests.get_mut(&key) {
            request.dial_at = None;
            self.dials += 1;
            self.commands.push_back(Command::Dial(key, request.index));
        }
    }

    /// The dial of a request has succeeded, with the nonce delivered, or failed.
    pub(crate) fn on_dial_ended(&mut self, key: Key, delivered: bool) {
        let Some(request) = self.requests.get(&key) else {
            return;
        };
        self.dials -= 1;
        let dial_status = if delivered {
            DialStatus::Ok
        } else {
            DialStatus::DialError
        };
        let response = DialResponse {
            status: ResponseStatus::Ok,
            addr_idx: request.index as u32,
            dial_status,
        };
        self.finish(key, Command::Answer(key, response));
    }

    /// The client broke off before the dial.
    pub(crate) fn on_gone(&mut self, key: Key) {
        self.requests.remove(&key);
    }

    fn finish(&mut self, key: Key, command: Command) {
        self.requests.remove(&key);
        self.commands.push_back(command);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.requests.values().filter_map(|it| it.dial_at).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due = self
            .requests
            .iter()
            .filter(|(_, it)| it.dial_at.is_some_and(|at| at <= now));
        let due: Vec<Key> = due.map(|(key, _)| *key).collect();
        for key in due {
            self.dial(key);
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// What happened within the last minute.
struct Recent<T>(VecDeque<(Instant, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Recent<T> {
    fn push(&mut self, now: Instant, it: T) {
        self.0.push_back((now, it));
    }

    fn within(&mut self, now: Instant) -> &VecDeque<(Instant, T)> {
        while self.0.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
            self.0.pop_front();
        }
        &self.0
    }
}

fn bits(ip: IpAddr, v4: u32, v6: u32) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (false, (ip.to_bits() >> (32 - v4)).into()),
        IpAddr::V6(ip) => (true, ip.to_bits() >> (128 - v6)),
    }
}

fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    addr.iter().find_map(|protocol| match protocol {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}
