//! The server's core from outside, as a simulator drives it: random clients, targets and times, no network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, core::multihash::Multihash, multiaddr::Protocol, swarm::ConnectionId,
};
use libp2p_autonat_v2::{
    address,
    protocol::DialRequest,
    server::{Config, DialBackOutcome, End, Event, Misbehaviour, NotDelivered, PassedOver, Served},
    service::{Command, Dial, Host, Locality, RequestId, Service, StreamCommand},
};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

const MINUTE: Duration = Duration::from_secs(60);
/// What a request takes at most with the default configuration, and what it gets on top when the node stalls.
const REQUEST: Duration = Duration::from_millis(9_500);
const DIALS_OF_TARGET: u32 = 2;

fn config() -> Config {
    Config::default()
        .with_max_concurrent_dials(8)
        .with_max_concurrent_requests(12)
        .with_max_requests_per_minute(200)
        .with_max_requests_per_minute_per_peer(40)
        .with_max_requests_per_minute_per_neighbourhood(60)
        .with_max_dials_per_minute_per_target(DIALS_OF_TARGET)
        .with_max_dial_data_requests_per_minute(100)
        .with_max_dial_data_requests_per_minute_per_neighbourhood(60)
}

/// The server has 20.9.9.9, and another host of its LAN is 20.9.9.8.
struct Here;

impl Host for Here {
    fn locality(&self, ip: IpAddr) -> Locality {
        match ip {
            IpAddr::V4(ip) if ip == Ipv4Addr::new(20, 9, 9, 9) => Locality::ThisHost,
            IpAddr::V4(ip) if ip == Ipv4Addr::new(20, 9, 9, 8) => Locality::Lan,
            _ => Locality::Remote,
        }
    }

    fn can_dial(&self, addr: &Multiaddr) -> bool {
        address::transport(addr) == Some(address::Transport::Tcp)
    }
}

fn peer(n: u8) -> PeerId {
    PeerId::from_multihash(Multihash::wrap(0, &[n]).expect("short")).expect("an identity hash")
}

/// Of a client; four of them share a network.
fn ip(n: u8) -> IpAddr {
    [20, n / 4 + 1, 0, n % 4 + 1].into()
}

/// An address that a client may ask about: mostly its own, else a victim's, the server's, its LAN's, or none of the Internet.
fn address(client: u8, rng: &mut impl Rng) -> Multiaddr {
    let ip = match rng.random_range(0..10u8) {
        0 | 5 => [20, 200, 0, 1].into(),
        1 => [20, 9, 9, 9].into(),
        2 => [20, 9, 9, 8].into(),
        3 => [10, 0, 0, 1].into(),
        _ => ip(client),
    };
    Multiaddr::from(ip).with(Protocol::Tcp(rng.random_range(4000..4004)))
}

/// What a stream may be told next, and what was told before.
#[derive(Debug)]
struct Stream {
    client: u8,
    opened: Instant,
    asked: Vec<Multiaddr>,
    /// Dial data that is due, and what was paid of it.
    due: u64,
    paid: u64,
    served: bool,
    /// It was rejected, answered or reset.
    over: bool,
}

/// A network of clients around one server, which checks whatever the server does.
struct World {
    now: Instant,
    rng: StdRng,
    service: Service,
    streams: BTreeMap<RequestId, Stream>,
    next_stream: u32,
    dials: Vec<(Dial, bool)>,
    /// Dials of a victim.
    of_victim: Vec<Instant>,
    reports: usize,
    admitted: usize,
}

#[derive(Debug, Clone)]
enum Operation {
    Open { client: u8 },
    Ask { which: usize },
    Pay { which: usize },
    End { which: usize },
    Disconnect { client: u8 },
    Establish { which: usize },
    Report { which: usize, good: bool },
    Gone { which: usize },
    Pass { millis: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = any::<usize>;
    prop_oneof![
        5 => (0..16u8).prop_map(|client| Operation::Open { client }),
        5 => which().prop_map(|which| Operation::Ask { which }),
        5 => which().prop_map(|which| Operation::Pay { which }),
        2 => which().prop_map(|which| Operation::End { which }),
        1 => (0..16u8).prop_map(|client| Operation::Disconnect { client }),
        4 => which().prop_map(|which| Operation::Establish { which }),
        3 => (which(), any::<bool>()).prop_map(|(which, good)| Operation::Report { which, good }),
        3 => which().prop_map(|which| Operation::Gone { which }),
        4 => (0..3_000u64).prop_map(|millis| Operation::Pass { millis }),
    ]
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            rng: StdRng::seed_from_u64(seed),
            service: Service::new(config(), now),
            streams: BTreeMap::new(),
            next_stream: 0,
            dials: Vec::new(),
            of_victim: Vec::new(),
            reports: 0,
            admitted: 0,
        }
    }

    fn pick(&self, which: usize, of: impl Fn(&Stream) -> bool) -> Option<RequestId> {
        let some: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, it)| !it.over && of(it))
            .collect();
        (!some.is_empty()).then(|| *some[which % some.len()].0)
    }

    fn apply(&mut self, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Open { client } => {
                let id = RequestId {
                    connection: ConnectionId::new_unchecked(client.into()),
                    stream: self.next_stream,
                };
                self.next_stream += 1;
                self.streams.insert(
                    id,
                    Stream {
                        client,
                        opened: now,
                        asked: Vec::new(),
                        due: 0,
                        paid: 0,
                        served: false,
                        over: false,
                    },
                );
                self.service
                    .on_stream(now, id, peer(client), Some(ip(client)));
            }
            Operation::Ask { which } => {
                let Some(id) = self.pick(which, |it| it.served && it.asked.is_empty()) else {
                    return;
                };
                let client = self.streams[&id].client;
                let addrs: Vec<_> = (0..3).map(|_| address(client, &mut self.rng)).collect();
                let request = DialRequest::new(addrs.clone(), self.rng.random_range(1..=u64::MAX));
                self.streams.get_mut(&id).expect("picked").asked = addrs;
                self.service
                    .on_request(now, id, request, &Here, &mut self.rng);
            }
            Operation::Pay { which } => {
                let Some(id) = self.pick(which, |it| it.paid < it.due) else {
                    return;
                };
                let stream = self.streams.get_mut(&id).expect("picked");
                stream.paid += self.rng.random_range(1_000..60_000);
                let paid = stream.paid;
                self.service.on_bytes(now, id, paid, &mut self.rng);
            }
            Operation::End { which } => {
                let Some(id) = self.pick(which, |it| it.served) else {
                    return;
                };
                self.streams.get_mut(&id).expect("picked").over = true;
                self.service.on_stream_ended(now, id, End::ClientLeft);
            }
            Operation::Disconnect { client } => {
                let connection = ConnectionId::new_unchecked(client.into());
                self.service.on_connection_closed(now, connection);
                self.streams.retain(|id, _| id.connection != connection);
            }
            Operation::Establish { which } => {
                if let Some((dial, established)) = self.dial(which) {
                    *established = true;
                    let id = dial.id;
                    self.service.on_dial_established(now, id);
                }
            }
            Operation::Report { which, good } => {
                if let Some((dial, established)) = self.dial(which) {
                    let outcome = match (*established, good) {
                        (true, true) => DialBackOutcome::Delivered,
                        (true, false) => DialBackOutcome::NotDelivered(NotDelivered::StreamClosed),
                        (false, _) => DialBackOutcome::DialFailed(std::io::ErrorKind::TimedOut),
                    };
                    let id = dial.id;
                    self.service.on_dial_ended(now, id, outcome);
                }
            }
            Operation::Gone { which } => self.gone(which),
            Operation::Pass { millis } => self.pass(Duration::from_millis(millis)),
        }
        self.drain();
    }

    fn dial(&mut self, which: usize) -> Option<&mut (Dial, bool)> {
        let count = self.dials.len().max(1);
        self.dials.get_mut(which % count)
    }

    fn gone(&mut self, which: usize) {
        if !self.dials.is_empty() {
            let (dial, _) = self.dials.swap_remove(which % self.dials.len());
            let lost = DialBackOutcome::NotDelivered(NotDelivered::ConnectionLost);
            self.service.on_dial_ended(self.now, dial.id, lost);
            self.service.on_dial_gone(self.now, dial.id);
            self.drain();
        }
    }

    /// Time passes, and the core is called whenever it wants to be.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.service.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.service.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(command) = self.service.poll_command() {
            match command {
                Command::Stream(client, id, command) => self.on_command(client, id, command),
                Command::Dial(dial) => self.on_dial(dial),
                Command::EndDial(_) => {}
            }
        }
        while let Some(event) = self.service.poll_event() {
            if let Event::Served(served) = event {
                self.reports += 1;
                self.on_served(&served);
            }
        }
        let load = self.service.load();
        assert!(load.requests <= 12 && load.dials <= 8, "{load:?}");
        assert_eq!(
            load.dials,
            self.dials.len(),
            "a dial counts until its socket is gone"
        );
        assert_eq!(load.queued, 0);
    }

    fn on_command(&mut self, client: PeerId, id: RequestId, command: StreamCommand) {
        // The client may have left meanwhile.
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        assert_eq!(client, peer(stream.client));
        if stream.served && stream.over {
            return;
        }
        match command {
            StreamCommand::Serve => {
                assert!(!stream.served && !stream.over);
                stream.served = true;
                self.admitted += 1;
            }
            StreamCommand::Reject => {
                assert!(!stream.served, "rejected after it was admitted");
                stream.over = true;
            }
            StreamCommand::AskForData(ask) => {
                assert!((30_000..=100_000).contains(&ask.num_bytes));
                assert_eq!(stream.due, 0, "asked for dial data twice");
                let addr = &stream.asked[ask.addr_idx as usize];
                assert_ne!(address::ip(addr), Some(ip(stream.client)));
                stream.due = ask.num_bytes;
            }
            StreamCommand::Answer(_) => {
                assert!(!stream.asked.is_empty(), "answered before it asked");
                stream.over = true;
                let took = self.now - stream.opened;
                assert!(took <= REQUEST, "{took:?}");
                self.service.on_stream_ended(self.now, id, End::Answered);
            }
            StreamCommand::Reset => stream.over = true,
        }
    }

    fn on_dial(&mut self, dial: Dial) {
        let target = address::ip(&dial.addr).expect("an IP");
        assert_ne!(target, IpAddr::from([20, 9, 9, 9]), "this host");
        assert_ne!(target, IpAddr::from([20, 9, 9, 8]), "its LAN");
        assert!(address::is_public(&dial.addr), "{}", dial.addr);
        assert_ne!(dial.nonce(), 0);
        let mut of_peer = self.dials.iter().filter(|(it, _)| it.peer == dial.peer);
        assert!(
            of_peer.all(|(_, established)| !established),
            "a second connection to a peer"
        );
        let asked = self
            .streams
            .values()
            .find(|it| !it.over && peer(it.client) == dial.peer && it.asked.contains(&dial.addr));
        let stream = asked.expect("somebody waits for it");
        if target != ip(stream.client) {
            let paid = self
                .streams
                .values()
                .any(|it| it.client == stream.client && it.due > 0 && it.paid >= it.due);
            assert!(paid, "dialed a stranger's IP for nothing");
            self.of_victim.retain(|at| self.now - *at < MINUTE);
            self.of_victim.push(self.now);
            assert!(self.of_victim.len() <= DIALS_OF_TARGET as usize);
        }
        self.dials.push((dial, false));
    }

    fn on_served(&self, served: &Served) {
        assert!(served.duration <= REQUEST, "{served:?}");
        for (_, reason) in &served.passed_over {
            assert!(
                matches!(
                    reason,
                    PassedOver::OwnIp | PassedOver::OwnNetwork | PassedOver::NotPublic(_)
                ),
                "{reason:?}"
            );
        }
        let slow = End::Misbehaved(Misbehaviour::SlowDialData);
        if served.end == slow {
            assert!(served.dial_data_received < served.dial_data_requested);
        }
    }
}

/// The same client opens a stream and asks for its own address.
fn asks(service: &mut Service, now: Instant, stream: u32) {
    let id = RequestId {
        connection: ConnectionId::new_unchecked(1),
        stream,
    };
    service.on_stream(now, id, peer(0), Some(ip(0)));
    let own = Multiaddr::from(ip(0)).with(Protocol::Tcp(4001));
    let mut rng = StdRng::seed_from_u64(1);
    service.on_request(now, id, DialRequest::new([own], 1), &Here, &mut rng);
}

fn dials(service: &mut Service) -> Vec<Dial> {
    std::iter::from_fn(|| service.poll_command())
        .filter_map(|command| match command {
            Command::Dial(dial) => Some(dial),
            _ => None,
        })
        .collect()
}

#[test]
fn a_second_request_of_a_peer_is_dialed_for_when_the_socket_of_the_first_is_gone() {
    let now = Instant::now();
    let mut service = Service::new(config(), now);
    asks(&mut service, now, 0);
    asks(&mut service, now, 1);
    let first = dials(&mut service);
    assert_eq!(first.len(), 1);
    service.on_dial_established(now, first[0].id);
    service.on_dial_ended(now, first[0].id, DialBackOutcome::Delivered);
    assert_eq!(dials(&mut service).len(), 0, "its connection is still open");
    assert_eq!(service.load().lingering_dials, 1);
    service.on_dial_gone(now, first[0].id);
    assert_eq!(dials(&mut service).len(), 1);
}

/// What a request for this address alone comes to: whether it is dialed, and how much data is asked for.
fn asked_for(client: IpAddr, text: &str) -> (bool, u64) {
    let now = Instant::now();
    let mut service = Service::new(config(), now);
    let id = RequestId {
        connection: ConnectionId::new_unchecked(1),
        stream: 0,
    };
    let mut rng = StdRng::seed_from_u64(1);
    service.on_stream(now, id, peer(0), Some(client));
    let address: Multiaddr = text.parse().expect("a multiaddr");
    service.on_request(now, id, DialRequest::new([address], 1), &Here, &mut rng);
    let mut data = 0;
    let mut is_dialed = false;
    while let Some(command) = service.poll_command() {
        match command {
            Command::Dial(_) => is_dialed = true,
            Command::Stream(_, _, StreamCommand::AskForData(asked)) => data += asked.num_bytes,
            _ => {}
        }
    }
    (is_dialed, data)
}

#[test]
fn the_servers_own_ip_is_refused_however_it_is_spelled() {
    for text in [
        "/ip4/20.9.9.9/tcp/4001",
        "/ip6/::ffff:20.9.9.9/tcp/4001",
        "/ip6/64:ff9b::1409:909/tcp/4001",
        "/ip6/2002:1409:909::1/tcp/4001",
        "/ip6/64:ff9b::1409:908/tcp/4001",
    ] {
        assert_eq!(asked_for(ip(0), text), (false, 0), "{text}");
    }
    let (_, data) = asked_for(ip(0), "/ip6/64:ff9b::1409:907/tcp/4001");
    assert!(data > 0, "the host beside is another");
}

/// A socket for both families tells of IPv4 clients so.
#[test]
fn a_client_with_an_ipv4_mapped_ip_pays_nothing_for_its_own() {
    let IpAddr::V4(plain) = ip(0) else {
        unreachable!("IPv4")
    };
    for client in [plain.into(), plain.to_ipv6_mapped().into()] {
        for text in [
            format!("/ip4/{plain}/tcp/4001"),
            format!("/ip6/{}/tcp/4001", plain.to_ipv6_mapped()),
        ] {
            assert_eq!(asked_for(client, &text), (true, 0), "{client}: {text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_clients_and_targets_do_the_server_keeps_its_promises(
        seed: u64,
        operations in prop::collection::vec(operation(), 1..300),
    ) {
        let mut world = World::new(seed);
        for operation in operations {
            world.apply(operation);
        }
        // All requests end by themselves, and each is reported once.
        world.pass(2 * REQUEST);
        prop_assert_eq!(world.service.load().requests, 0);
        prop_assert_eq!(world.reports, world.admitted);
        // Sockets go when the targets let them, and then nothing is left.
        while !world.dials.is_empty() {
            world.gone(0);
        }
        world.pass(2 * MINUTE);
        let open: BTreeSet<_> = world.streams.values().filter(|it| it.served && !it.over).map(|it| it.client).collect();
        prop_assert!(open.is_empty(), "{:?}", open);
        prop_assert_eq!(world.service.poll_timeout(), None);
    }
}
