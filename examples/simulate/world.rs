//! The worlds that the policies are tried in: a node behind a NAT or none, and servers with their faults.
//!
//! All that happens follows from the seed and from who asks whom for the how manieth time, so that every policy finds the same
//! world.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

pub(crate) use crate::network::{Answer, Fault, LUCK, Nat, State, Transport};

/// When forwarding comes or goes, in seconds.
pub(crate) const CHANGES: std::ops::Range<u64> = 5 * 60..40 * 60;

/// One of each, in equal shares.
pub(crate) const ALL_NATS: &[Nat] = &[
    Nat::None,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::PortRestricted,
    Nat::Symmetric,
];

/// How the node has met a server, which dials back from its IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Over IPv4 and this transport.
    V4(Transport),
    /// Over IPv6 only, so that its IPv4 address was never contacted.
    V6,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) fault: Fault,
    pub(crate) route: Route,
    pub(crate) connected_at: Duration,
    pub(crate) latency: Duration,
    pub(crate) v4: Ipv4Addr,
    seed: u64,
}

impl Server {
    /// The IP that the node contacts it on.
    pub(crate) fn contacted_ip(&self) -> IpAddr {
        if self.route == Route::V6 {
            let [a, b, c, d] = self.v4.octets().map(u16::from);
            return Ipv6Addr::new(0x2a00 + a, b, c, d, 0, 0, 0, 1).into();
        }
        self.v4.into()
    }

    /// Whether a NAT takes its dial-back over this transport for that of somebody whom the node has contacted.
    pub(crate) fn is_contacted(&self, over: Transport) -> bool {
        self.route == Route::V4(over)
    }

    /// Whether it sees the node at another IP than the one to dial, and so wants dial data.
    pub(crate) fn wants_dial_data(&self) -> bool {
        self.route == Route::V6
    }
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) nat: Nat,
    /// Forwarding of the node's ports, from when and until when.
    pub(crate) forwarded: (Duration, Duration),
    /// The transport of each of the node's addresses.
    pub(crate) addresses: &'static [Transport],
    pub(crate) servers: Vec<Server>,
    /// Whether a failed dial shows at once or as silence.
    refuses_packets: bool,
    pub(crate) seed: u64,
}

/// How worlds are made.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) servers: usize,
    pub(crate) cannot_dial: f64,
    pub(crate) lies_error: f64,
    pub(crate) turns_coat: f64,
    pub(crate) lies_ok: f64,
    pub(crate) refuses: f64,
    pub(crate) vanishes: f64,
    /// How many of the servers are known over IPv6 only.
    pub(crate) independent: usize,
    /// Faults are left out of the independent servers.
    pub(crate) sound_independents: bool,
    /// The node has an address over each, and each server is met over one of them.
    pub(crate) transports: &'static [Transport],
    pub(crate) nats: &'static [Nat],
    /// Share of nodes with forwarded ports, and of those whose forwarding comes or goes.
    pub(crate) forwarded: f64,
    pub(crate) changes: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            servers: 7,
            cannot_dial: 0.0,
            lies_error: 0.0,
            turns_coat: 0.0,
            lies_ok: 0.0,
            refuses: 0.0,
            vanishes: 0.0,
            independent: 0,
            sound_independents: true,
            transports: &[Transport::Tcp],
            nats: &[Nat::None],
            forwarded: 0.0,
            changes: 0.0,
        }
    }
}

const ALWAYS: Duration = Duration::from_secs(u32::MAX as u64);
const NEVER: (Duration, Duration) = (ALWAYS, ALWAYS);

impl World {
    pub(crate) fn new(recipe: &Recipe, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let servers = (0..recipe.servers)
            .map(|i| Server::new(recipe, i, &mut rng))
            .collect();
        let nat = recipe.nats[rng.random_range(0..recipe.nats.len())];
        let change = Duration::from_secs(rng.random_range(CHANGES));
        let (forwards, changes) = (rng.random::<f64>(), rng.random::<f64>());
        let forwarded = match (forwards < recipe.forwarded, changes < recipe.changes) {
            (false, _) => NEVER,
            (true, false) => (Duration::ZERO, ALWAYS),
            (true, true) if rng.random() => (change, ALWAYS),
            (true, true) => (Duration::ZERO, change),
        };
        Self {
            nat,
            forwarded,
            addresses: recipe.transports,
            servers,
            refuses_packets: rng.random_bool(0.5),
            seed,
        }
    }

    fn is_forwarded(&self, at: Duration) -> bool {
        self.forwarded.0 <= at && at < self.forwarded.1
    }

    /// Who gets in, at any of the node's addresses.
    pub(crate) fn state(&self, at: Duration) -> State {
        if self.is_forwarded(at) {
            State::Open
        } else {
            self.nat.state()
        }
    }

    /// Whether strangers get in.
    pub(crate) fn is_reachable(&self, at: Duration) -> bool {
        self.state(at) == State::Open
    }

    /// When that changes, if it does.
    pub(crate) fn change(&self) -> Option<Duration> {
        let (from, until) = self.forwarded;
        [from, until]
            .into_iter()
            .find(|at| *at > Duration::ZERO && *at < ALWAYS)
            .filter(|_| self.nat.state() != State::Open)
    }

    /// What `server` answers when it is asked about an address at `at`, for the `nth` time in all, and how long that takes.
    pub(crate) fn ask(
        &self,
        server: usize,
        address: usize,
        at: Duration,
        nth: u64,
    ) -> (Answer, Duration) {
        let it = &self.servers[server];
        let mut rng = SmallRng::seed_from_u64(it.seed ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let quick = it.latency * 4;
        let slow = Duration::from_millis(rng.random_range(5_000..10_000));
        let failed = if self.refuses_packets { quick } else { slow };
        let contacted = it.is_contacted(self.addresses[address]);
        let gets_in = self.state(at).lets_in(contacted);
        let first = nth == 0;
        let answer = it.fault.answer(gets_in, first, || rng.random_bool(LUCK));
        let after = match it.fault {
            _ if answer == Answer::DialedBack => quick,
            Fault::None => failed,
            Fault::TurnsCoat if first => failed,
            Fault::CannotDial if rng.random_bool(0.5) => slow,
            Fault::Vanishes => Duration::from_secs(20),
            _ => it.latency * 2,
        };
        (answer, after)
    }

    /// When two servers with an independent vantage are connected.
    pub(crate) fn two_independents_at(&self) -> Option<Duration> {
        let independents = self.servers.iter().filter(|it| it.route == Route::V6);
        let mut times: Vec<Duration> = independents.map(|it| it.connected_at).collect();
        times.sort_unstable();
        times.get(1).copied()
    }

    /// How many servers give evidence at all.
    pub(crate) fn answering(&self) -> usize {
        let silent = |fault| matches!(fault, Fault::LiesOk | Fault::Refuses | Fault::Vanishes);
        self.servers.iter().filter(|it| !silent(it.fault)).count()
    }
}

impl Server {
    fn new(recipe: &Recipe, index: usize, rng: &mut SmallRng) -> Self {
        let independent = index < recipe.independent;
        let shares = [
            (recipe.cannot_dial, Fault::CannotDial),
            (recipe.lies_error, Fault::LiesError),
            (recipe.turns_coat, Fault::TurnsCoat),
            (recipe.lies_ok, Fault::LiesOk),
            (recipe.refuses, Fault::Refuses),
            (recipe.vanishes, Fault::Vanishes),
        ];
        let mut dice: f64 = rng.random();
        let mut fault = Fault::None;
        for (share, candidate) in shares {
            if dice < share {
                fault = candidate;
                break;
            }
            dice -= share;
        }
        if independent && recipe.sound_independents {
            fault = Fault::None;
        }
        let mut it = Self {
            fault,
            route: Route::V6,
            connected_at: Duration::from_millis(rng.random_range(0..2_000)),
            latency: Duration::from_millis(rng.random_range(10..150)),
            v4: Ipv4Addr::new(
                rng.random_range(11..100),
                rng.random(),
                rng.random(),
                rng.random_range(1..255),
            ),
            seed: rng.random(),
        };
        if !independent {
            // There is one for each, or nobody would see the node's address.
            let over = match recipe.transports.get(index) {
                Some(over) => *over,
                None if recipe.transports.len() == 1 => recipe.transports[0],
                None => recipe.transports[rng.random_range(0..recipe.transports.len())],
            };
            it.route = Route::V4(over);
        }
        it
    }
}
