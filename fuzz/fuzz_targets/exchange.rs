//! A client in a swarm against a server that says what it likes: it sends one request of the right size, pays no more than
//! was asked for and may be asked for, and calls no address reachable without a nonce that came in on it.

#![no_main]

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use asynchronous_codec::{BytesMut, Decoder};
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::{
    client::{self, Verdict},
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBack, DialBackServerCodec, DialDataRequest,
        DialRequest, DialResponse, DialStatus, MAX_DIAL_DATA, MAX_PORTABLE_REQUEST_LEN, Message,
        MessageCodec, ResponseStatus,
    },
};
use libp2p_autonat_v2_fuzz::{
    drive, frame,
    net::{Connection, Fate, Net, peer},
    pipe::Pipe,
    tcp,
};
use libp2p_core::{Endpoint, Multiaddr, transport::PortUse, upgrade::DeniedUpgrade};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    Config as SwarmConfig, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent,
    ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, SubstreamProtocol, Swarm, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
    handler::{ConnectionEvent, ProtocolSupport},
};

const ME: u8 = 1;
const SERVER: u8 = 2;
/// Was contacted. A connection from a stranger's IP would be a proof without a nonce.
const SERVER_IP: [u8; 4] = [30, 0, 0, 1];
/// The client listens on so many addresses.
const ADDRESSES: u8 = 3;
/// How long a request may be on its way. It takes a millisecond or two.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Arbitrary)]
struct Input {
    pays: bool,
    one_by_one: bool,
    moves: Vec<Move>,
}

/// What the server does next, on the stream of the first request unless it says otherwise.
#[derive(Debug, Arbitrary)]
enum Move {
    Sends(Vec<u8>),
    Responds {
        index: u8,
        status: u8,
        dial_status: u8,
    },
    Asks {
        index: u8,
        bytes: u16,
    },
    AsksForMuch {
        index: u32,
        bytes: u64,
    },
    /// What only a client sends.
    Requests(u64),
    Pays(u16),
    StopsWriting,
    HangsUp,
    Leaves,
    /// Dials an address of the request, or another, as itself or as somebody else.
    DialsBack {
        address: u8,
        as_itself: bool,
        says: Said,
    },
    /// Opens a stream to the client on the connection that the client made.
    Opens {
        dial_back: bool,
        says: Said,
    },
}

#[derive(Debug, Arbitrary)]
enum Said {
    Nonce,
    OtherNonce(u64),
    Bytes(Vec<u8>),
    NonceInPieces,
    Nothing,
}

/// Tells the client that the peer serves, as identify does.
#[derive(Default)]
struct Teller;

struct TellingHandler {
    told: bool,
}

impl ConnectionHandler for TellingHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        if std::mem::replace(&mut self.told, true) {
            return Poll::Pending;
        }
        let protocols = HashSet::<StreamProtocol>::from([DIAL_REQUEST_PROTOCOL]);
        let added = ProtocolSupport::Added(protocols);
        Poll::Ready(ConnectionHandlerEvent::ReportRemoteProtocols(added))
    }
}

impl NetworkBehaviour for Teller {
    type ConnectionHandler = TellingHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(TellingHandler { told: true })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(TellingHandler { told: false })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
struct Client {
    autonat: client::Behaviour,
    teller: Teller,
}

fn address(number: u8) -> Multiaddr {
    tcp([20, 0, 0, 1], 4001 + u16::from(number % (ADDRESSES + 1)))
}

/// One of the addresses, or one too many.
fn few(index: u8) -> u32 {
    u32::from(index % (ADDRESSES + 1))
}

struct World {
    swarm: Swarm<Client>,
    net: Net,
    /// The connection that the client made.
    connection: Option<Connection>,
    stream: Option<Pipe>,
    request: DialRequest,
    /// What the client wrote after its request.
    written: BytesMut,
    asked: u64,
    paid: u64,
    /// The right nonce came in. On which of the addresses does not matter: a NAT may change the port.
    delivered: bool,
    /// Connections and streams that stay open.
    kept: VecDeque<(Connection, Pipe)>,
}

impl World {
    /// As far as the first request.
    fn new(input: &Input) -> Self {
        let net = Net::new(|_| Fate::Connects(peer(SERVER)));
        let config = client::Config::default()
            .with_gather_delay(Duration::ZERO)
            .with_addresses_per_request(if input.one_by_one { 1 } else { 10 })
            .with_dial_data_budget(if input.pays { MAX_DIAL_DATA } else { 0 }, u64::MAX);
        let client = Client {
            autonat: client::Behaviour::new(peer(ME), config),
            teller: Teller,
        };
        let mut swarm = Swarm::new(
            net.transport(),
            client,
            peer(ME),
            SwarmConfig::without_executor(),
        );
        for number in 0..ADDRESSES {
            swarm.listen_on(address(number)).expect("it can listen");
        }
        swarm.dial(tcp(SERVER_IP, 1)).expect("it can dial");
        drive(&mut swarm, |_| {});
        let (_, connection) = net.dialed().pop().expect("it dialed");
        let connection = connection.expect("it connects");
        let start = Instant::now();
        let stream = loop {
            drive(&mut swarm, |_| {});
            if let Some(stream) = connection.accept() {
                break stream;
            }
            assert!(start.elapsed() < PATIENCE, "no request");
            std::thread::yield_now();
        };
        let mut world = Self {
            swarm,
            net,
            connection: Some(connection),
            stream: Some(stream),
            request: DialRequest::default(),
            written: BytesMut::new(),
            asked: 0,
            paid: 0,
            delivered: false,
            kept: VecDeque::new(),
        };
        world.settle();
        world.read_request();
        world
    }

    fn settle(&mut self) {
        drive(&mut self.swarm, |_| {});
        if let Some(stream) = &mut self.stream {
            self.written.extend_from_slice(&stream.take());
        }
    }

    fn read_request(&mut self) {
        assert!(self.written.len() <= MAX_PORTABLE_REQUEST_LEN + 2);
        match MessageCodec::default().decode(&mut self.written) {
            Ok(Some(Message::DialRequest(request))) => self.request = request,
            other => panic!("not a request: {other:?}"),
        }
        let most = ADDRESSES.into();
        assert!(
            (1..=most).contains(&self.request.addrs.len()),
            "{:?}",
            self.request
        );
    }

    /// Nothing but dial data follows.
    fn read_payment(&mut self) {
        while let Some(message) = MessageCodec::default()
            .decode(&mut self.written)
            .expect("what the client writes is well-formed")
        {
            match message {
                Message::DialDataResponse { len } => self.paid += len as u64,
                other => panic!("the client sent {other:?}"),
            }
        }
        assert!(
            self.paid <= self.asked,
            "paid {} for {}",
            self.paid,
            self.asked
        );
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            stream.put(bytes);
        }
    }

    fn send(&mut self, message: Message) {
        self.put(&frame(MessageCodec::default(), message));
    }

    fn take(&mut self, next: Move) {
        match next {
            Move::Sends(bytes) => {
                // Whatever is in them: no more may be asked for.
                self.asked += MAX_DIAL_DATA * u64::from(ADDRESSES);
                self.put(&bytes);
            }
            Move::Responds {
                index,
                status,
                dial_status,
            } => {
                let statuses = [
                    ResponseStatus::Ok,
                    ResponseStatus::DialRefused,
                    ResponseStatus::RequestRejected,
                    ResponseStatus::InternalError,
                ];
                let dial_statuses = [
                    DialStatus::Ok,
                    DialStatus::DialError,
                    DialStatus::DialBackError,
                    DialStatus::Unused,
                ];
                self.send(Message::DialResponse(DialResponse {
                    status: statuses[usize::from(status % 4)],
                    addr_idx: few(index),
                    dial_status: dial_statuses[usize::from(dial_status % 4)],
                }));
            }
            Move::Asks { index, bytes } => self.asks(few(index), u64::from(bytes) * 2),
            Move::AsksForMuch { index, bytes } => self.asks(index, bytes),
            Move::Requests(nonce) => {
                self.send(Message::DialRequest(DialRequest::new([address(0)], nonce)));
            }
            Move::Pays(len) => self.send(Message::DialDataResponse { len: len.into() }),
            Move::StopsWriting => {
                if let Some(stream) = &mut self.stream {
                    stream.end();
                }
            }
            Move::HangsUp => {
                self.settle();
                self.stream = None;
            }
            Move::Leaves => {
                self.settle();
                self.stream = None;
                self.connection = None;
            }
            Move::DialsBack {
                address: number,
                as_itself,
                says,
            } => {
                let who = peer(if as_itself { SERVER } else { SERVER + 1 });
                let local = address(number);
                let connection = self.net.connect(who, local, tcp(SERVER_IP, 5));
                drive(&mut self.swarm, |_| {});
                let right = matches!(says, Said::Nonce | Said::NonceInPieces);
                self.delivered |= right;
                let stream = connection.open(&DIAL_BACK_PROTOCOL);
                let stream = self.say(stream, says);
                self.keep(connection, stream);
            }
            Move::Opens { dial_back, says } => {
                let protocol = if dial_back {
                    DIAL_BACK_PROTOCOL
                } else {
                    DIAL_REQUEST_PROTOCOL
                };
                let Some(connection) = self.connection.take() else {
                    return;
                };
                let stream = connection.open(&protocol);
                // It ends with this.
                let _stream = self.say(stream, says);
                drive(&mut self.swarm, |_| {});
                self.connection = Some(connection);
            }
        }
        self.settle();
        self.read_payment();
    }

    fn asks(&mut self, addr_idx: u32, num_bytes: u64) {
        if num_bytes <= MAX_DIAL_DATA {
            self.asked += num_bytes;
        }
        self.send(Message::DialDataRequest(DialDataRequest {
            addr_idx,
            num_bytes,
        }));
    }

    fn say(&mut self, mut stream: Pipe, said: Said) -> Pipe {
        let nonce = self.request.nonce;
        let message = |nonce| frame(DialBackServerCodec::new(), DialBack { nonce });
        match said {
            Said::Nonce => stream.put(&message(nonce)),
            Said::OtherNonce(other) if other == nonce => {}
            Said::OtherNonce(other) => stream.put(&message(other)),
            Said::Bytes(bytes) => stream.put(&bytes),
            Said::NonceInPieces => {
                for byte in message(nonce) {
                    stream.put(&[byte]);
                    drive(&mut self.swarm, |_| {});
                }
            }
            Said::Nothing => {}
        }
        stream
    }

    fn keep(&mut self, connection: Connection, stream: Pipe) {
        self.kept.push_back((connection, stream));
        if self.kept.len() > 8 {
            self.kept.pop_front();
        }
    }

    fn check(&self) {
        let client = &self.swarm.behaviour().autonat;
        assert!(client.sizes().probes <= 16, "{:?}", client.sizes());
        if !self.delivered {
            assert_eq!(self.swarm.external_addresses().count(), 0);
            for report in client.addresses() {
                assert_ne!(report.verdict, Verdict::Reachable, "{report:?}");
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    for next in input.moves.into_iter().take(64) {
        world.take(next);
        world.check();
    }
});
