//! A server in a swarm against clients that say what they like: it dials only what a naive model of the policy allows, no
//! more than the limits allow, strangers' addresses only for dial data, and its answers make sense.

#![no_main]

#[path = "serve/input.rs"]
mod input;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynchronous_codec::{BytesMut, Decoder};
use input::{Address, CLIENTS, Input, Ip, Limits, Move, OWN_IP, Way};
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::{
    protocol::{
        DIAL_REQUEST_PROTOCOL, DialBackClientCodec, DialBackResponse, DialRequest, MAX_DIAL_DATA,
        MIN_DIAL_DATA, Message, MessageCodec, ResponseStatus,
    },
    server,
};
use libp2p_autonat_v2_fuzz::{
    behind_agreement, drive, frame,
    net::{Connection, Fate, Net, peer},
    pipe::Pipe,
};
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_swarm::{Config as SwarmConfig, Swarm};

const ME: u8 = 200;
const MAX_MOVES: usize = 128;

/// A client's stream, and what was asked on it.
struct Request {
    stream: Pipe,
    client: u8,
    ip: IpAddr,
    /// `None` if it is not known what was asked.
    addresses: Option<Vec<Multiaddr>>,
    read: BytesMut,
    agreed: bool,
    due: u64,
    paid: u64,
    answered: bool,
}

/// The option, or its default. Zero is taken for one.
fn or(option: Option<u8>, default: usize) -> usize {
    option.map_or(default, |limit| usize::from(limit).max(1))
}

/// One of them, whatever the number.
fn one_of<T>(list: &mut [T], number: u8) -> Option<&mut T> {
    let at = usize::from(number).checked_rem(list.len())?;
    list.get_mut(at)
}

struct World {
    swarm: Swarm<server::Behaviour>,
    net: Net,
    ways: Arc<Mutex<BTreeMap<IpAddr, Way>>>,
    connections: Vec<(u8, IpAddr, Connection)>,
    requests: Vec<Request>,
    dial_backs: Vec<(Connection, Option<Pipe>)>,
    /// Every address that was asked about, by whom and from where.
    asked: Vec<(u8, IpAddr, Multiaddr)>,
    /// Something was asked that only the server could read.
    unread: bool,
    paid: u64,
    dials: Vec<Multiaddr>,
    limits: Limits,
}

impl World {
    fn new(limits: Limits) -> Self {
        let ways = Arc::<Mutex<BTreeMap<IpAddr, Way>>>::default();
        let known = ways.clone();
        let net = Net::new(move |addr| {
            let known = known.lock().expect("no panic");
            let ip = ip(addr).expect("only IPs are dialed");
            let at_home = |number: &u8| {
                [Ip::Client(*number), Ip::ClientV6(*number)]
                    .iter()
                    .any(|home| home.ip() == ip)
            };
            match known.get(&ip) {
                Some(Way::ToClient(number)) => Fate::Connects(peer(number % CLIENTS)),
                Some(Way::Silent) => Fate::Silent,
                Some(Way::Refused) => Fate::Refused,
                // Whoever has the IP, if anybody does.
                None => (0..CLIENTS)
                    .find(at_home)
                    .map_or(Fate::Refused, |number| Fate::Connects(peer(number))),
            }
        });
        let config = server::Config::default()
            .with_max_requests_per_minute(or(limits.per_minute, 60) as _)
            .with_max_requests_per_minute_per_peer(or(limits.of_peer, 12) as _)
            .with_max_requests_per_minute_per_neighbourhood(or(limits.of_neighbourhood, 15) as _)
            .with_max_dial_data_requests_per_minute(or(limits.with_data, 12) as _)
            .with_max_dials_per_minute_per_target(or(limits.of_target, 12) as _)
            .with_max_concurrent_requests(or(limits.at_once, 64) as _)
            .with_max_concurrent_requests_per_peer(or(limits.at_once_of_peer, 2) as _)
            .with_max_concurrent_dials(or(limits.dials, 32) as _)
            .with_max_streams_per_connection(or(limits.streams, 16) as _)
            .with_max_addresses(or(limits.addresses, 50) as _)
            .with_max_delay_after_dial_data(Duration::ZERO);
        let mut swarm = Swarm::new(
            net.transport(),
            server::Behaviour::new(config),
            peer(ME),
            SwarmConfig::without_executor(),
        );
        for own in [
            Multiaddr::from(OWN_IP).with(Protocol::Tcp(4001)),
            "/ip6/2a01:ffff::1/tcp/4001".parse().expect("valid"),
        ] {
            swarm.listen_on(own).expect("it can listen");
        }
        drive(&mut swarm, |_| {});
        Self {
            swarm,
            net,
            ways,
            connections: Vec::new(),
            requests: Vec::new(),
            dial_backs: Vec::new(),
            asked: Vec::new(),
            unread: false,
            paid: 0,
            dials: Vec::new(),
            limits,
        }
    }

    fn take(&mut self, next: Move) {
        match next {
            Move::Connects { client, from } => {
                let (client, ip) = (client % CLIENTS, from.ip());
                let local = Multiaddr::from(OWN_IP).with(Protocol::Tcp(4001));
                let remote = Multiaddr::from(ip).with(Protocol::Tcp(50_000));
                let connection = self.net.connect(peer(client), local, remote);
                self.connections.push((client, ip, connection));
            }
            Move::Asks {
                connection,
                addresses,
                nonce,
                pays,
            } => {
                let addresses: Vec<_> = addresses.into_iter().take(80).map(Address::addr).collect();
                let request = DialRequest::new(addresses.iter().cloned(), nonce);
                let bytes = frame(MessageCodec::default(), Message::DialRequest(request));
                if let Some(request) = self.open(connection) {
                    request.stream.put(&bytes);
                    request.addresses = Some(addresses.clone());
                    let (client, ip) = (request.client, request.ip);
                    self.asked
                        .extend(addresses.into_iter().map(|addr| (client, ip, addr)));
                    drive(&mut self.swarm, |_| {});
                    self.look();
                    self.pay_what_is_due(pays);
                }
            }
            Move::Sends { connection, bytes } => {
                if let Some(request) = self.open(connection) {
                    request.stream.put(&bytes);
                    self.unread = true;
                }
            }
            Move::Adds { stream, bytes } => {
                if let Some(request) = one_of(&mut self.requests, stream) {
                    request.stream.put(&bytes);
                    // It may be dial data, or a request where none was sent.
                    self.paid += MAX_DIAL_DATA;
                    request.paid += MAX_DIAL_DATA;
                    self.unread |= request.addresses.is_none();
                }
            }
            Move::Pays { stream, len } => {
                if let Some(at) = usize::from(stream).checked_rem(self.requests.len()) {
                    self.pay(at, len.into());
                }
            }
            Move::StopsWriting(stream) => {
                if let Some(request) = one_of(&mut self.requests, stream) {
                    request.stream.end();
                }
            }
            Move::HangsUp(stream) => {
                if let Some(at) = usize::from(stream).checked_rem(self.requests.len()) {
                    self.requests.remove(at);
                }
            }
            Move::Leaves(connection) => {
                if let Some(at) = usize::from(connection).checked_rem(self.connections.len()) {
                    self.connections.remove(at);
                }
            }
            Move::Network(ip, way) => {
                self.ways.lock().expect("no panic").insert(ip.ip(), way);
            }
            Move::Acknowledges => {
                self.answer(&frame(
                    DialBackClientCodec::new(),
                    DialBackResponse::default(),
                ));
            }
            Move::Answers(bytes) => self.answer(&bytes),
            Move::Closes => {
                if !self.dial_backs.is_empty() {
                    self.dial_backs.remove(0);
                }
            }
        }
        drive(&mut self.swarm, |_| {});
        self.look();
    }

    fn open(&mut self, connection: u8) -> Option<&mut Request> {
        let (client, ip, connection) = one_of(&mut self.connections, connection)?;
        self.requests.push(Request {
            stream: connection.open(&DIAL_REQUEST_PROTOCOL),
            client: *client,
            ip: *ip,
            addresses: None,
            read: BytesMut::new(),
            agreed: false,
            due: 0,
            paid: 0,
            answered: false,
        });
        self.requests.last_mut()
    }

    fn pay(&mut self, stream: usize, len: usize) {
        let message = Message::DialDataResponse { len };
        let bytes = frame(MessageCodec::default(), message);
        if let Some(request) = self.requests.get_mut(stream) {
            request.stream.put(&bytes);
            request.paid += len as u64;
            self.paid += len as u64;
        }
    }

    /// For the newest request.
    fn pay_what_is_due(&mut self, pays: bool) {
        while let Some(newest) = self.requests.last().filter(|_| pays)
            && newest.paid < newest.due
        {
            self.pay(self.requests.len() - 1, 4096);
        }
    }

    /// Takes a nonce and answers it.
    fn answer(&mut self, bytes: &[u8]) {
        self.dial_backs
            .retain(|(connection, _)| !connection.is_closed());
        let Some((connection, stream)) = self.dial_backs.first_mut() else {
            return;
        };
        if stream.is_none() {
            *stream = connection.accept();
            drive(&mut self.swarm, |_| {});
        }
        if let Some(stream) = stream {
            stream.take();
            stream.put(bytes);
        }
    }

    /// Looks at what the server did.
    fn look(&mut self) {
        for (addr, connection) in self.net.dialed() {
            assert!(self.unread || self.may_be_dialed(&addr), "dialed {addr}");
            self.dials.push(addr);
            self.dial_backs
                .extend(connection.map(|connection| (connection, None)));
        }
        self.check_rates();
        let unread = self.unread;
        for request in &mut self.requests {
            request.look(unread, &self.dials);
        }
        let load = self.swarm.behaviour().load();
        assert!(load.requests <= or(self.limits.at_once, 64), "{load:?}");
        assert!(load.dials <= or(self.limits.dials, 32), "{load:?}");
    }

    /// The policy by the letter, for a server that listens over TCP alone.
    fn may_be_dialed(&self, dialed: &Multiaddr) -> bool {
        self.asked.iter().any(|(client, from, asked)| {
            let same =
                asked == dialed || asked.clone().with(Protocol::P2p(peer(*client))) == *dialed;
            let parts: Vec<_> = asked.iter().collect();
            let (ip, port) = match parts[..] {
                [Protocol::Ip4(ip), Protocol::Tcp(port)] => (IpAddr::V4(ip), port),
                [Protocol::Ip6(ip), Protocol::Tcp(port)] => (IpAddr::V6(ip), port),
                [Protocol::Ip4(ip), Protocol::Tcp(port), Protocol::P2p(who)]
                    if who == peer(*client) =>
                {
                    (IpAddr::V4(ip), port)
                }
                [Protocol::Ip6(ip), Protocol::Tcp(port), Protocol::P2p(who)]
                    if who == peer(*client) =>
                {
                    (IpAddr::V6(ip), port)
                }
                _ => return false,
            };
            let own = ip == IpAddr::V4(OWN_IP) && *from != ip;
            same && port != 0 && !own && is_public(ip)
        })
    }

    /// All of it happens within a minute.
    fn check_rates(&self) {
        let dials = self.dials.len();
        assert!(dials <= or(self.limits.per_minute, 60), "{dials} dials");
        if self.unread {
            return;
        }
        // An address on the IP that a client asked from costs nothing, if that client asked for it.
        let mut of_target = BTreeMap::<_, usize>::new();
        for dialed in &self.dials {
            let target = ip(dialed).expect("an IP");
            let free = self
                .asked
                .iter()
                .any(|(_, from, asked)| *from == target && ip(asked) == Some(target));
            if !free {
                *of_target.entry(target).or_default() += 1;
            }
        }
        let foreign = of_target.values().sum::<usize>();
        assert!(
            foreign as u64 * MIN_DIAL_DATA <= self.paid,
            "{foreign} dials for {}",
            self.paid
        );
        for (target, count) in of_target {
            assert!(
                count <= or(self.limits.of_target, 12),
                "{count} of {target}"
            );
        }
    }
}

impl Request {
    fn look(&mut self, unread: bool, dials: &[Multiaddr]) {
        self.read.extend_from_slice(&self.stream.take());
        if !self.agreed {
            let Some(rest) = behind_agreement(&self.read, &DIAL_REQUEST_PROTOCOL) else {
                return;
            };
            self.read = BytesMut::from(rest);
            self.agreed = true;
        }
        while let Some(message) = MessageCodec::default()
            .decode(&mut self.read)
            .expect("what the server writes is well-formed")
        {
            assert!(!self.answered, "{message:?} after the answer");
            let known = self.addresses.as_ref();
            let count = known.map_or(usize::MAX, Vec::len);
            match message {
                Message::DialDataRequest(request) => {
                    assert_eq!(self.due, 0, "asked for dial data twice");
                    assert!((MIN_DIAL_DATA..=MAX_DIAL_DATA).contains(&request.num_bytes));
                    assert!((request.addr_idx as usize) < count);
                    self.due = request.num_bytes;
                }
                Message::DialResponse(response) => {
                    self.answered = true;
                    if response.status == ResponseStatus::Ok {
                        let index = response.addr_idx as usize;
                        assert!(index < count, "{response:?} of {count}");
                        assert!(self.paid >= self.due, "dialed for {}", self.paid);
                        if let Some(addr) = known.and_then(|known| known.get(index)) {
                            let is_it = |dialed: &Multiaddr| ip(dialed) == ip(addr);
                            assert!(unread || dials.iter().any(is_it), "{addr} was not dialed");
                        }
                    }
                }
                other => panic!("the server sent {other:?}"),
            }
        }
    }
}

fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// As far as nobody can doubt: what this takes for private never may be dialed.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 240;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation()
                || shared
                || reserved)
        }
        IpAddr::V6(ip) => {
            // 2000::/3 is all that is given out.
            let global = ip.segments()[0] & 0xe000 == 0x2000;
            let documentation = ip.segments()[..2] == [0x2001, 0xdb8];
            global && !documentation
        }
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(input.limits);
    for next in input.moves.into_iter().take(MAX_MOVES) {
        world.take(next);
    }
});
