//! Both roles of the exchange by hand, and a server to be tested.

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream,
    identity::Keypair,
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_autonat_v2::{
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBackClientCodec, DialBackResponse,
        DialDataRequest, DialRequest, DialResponse, DialStatus, Message, MessageCodec,
        ResponseStatus, write_dial_data,
    },
    server::{self, DialBackOutcome, End, Misbehaved, Rejected, Served},
};

use super::{
    Dials, Face, Node, PATIENCE, RawPeer, Scope, bounded_swarm, fresh_ports_swarm, naked_swarm,
    public, recording_swarm, within,
};

pub type Requests = Framed<Stream, MessageCodec>;

/// A server, the record of its dials, and where it listens.
pub struct Server {
    pub node: Node<server::Behaviour>,
    pub dials: Dials,
    scope: Scope,
}

impl Server {
    /// A server that takes loopback addresses for what they are.
    pub fn on_loopback(config: server::Config) -> Self {
        Self::new(config.with_private_addresses(true), Scope::Loopback)
    }

    /// A server that takes the loopback interface for the Internet.
    pub fn in_public(config: server::Config) -> Self {
        Self::new(config, Scope::Public)
    }

    fn new(config: server::Config, scope: Scope) -> Self {
        Self::with_behaviour(server::Behaviour::new(config), scope)
    }

    /// A server in public without cryptography, for floods.
    pub fn naked(config: server::Config) -> Self {
        let behaviour = server::Behaviour::new(config);
        let (swarm, dials) = naked_swarm(behaviour, Scope::Public, Face::Own);
        Self {
            node: Node::spawn(swarm),
            dials,
            scope: Scope::Public,
        }
    }

    /// A server in public whose connections over TCP close in time.
    pub fn bounded(config: server::Config) -> Self {
        let behaviour = server::Behaviour::new(config);
        let keypair = Keypair::generate_ed25519();
        let (swarm, dials) = bounded_swarm(keypair, behaviour, Scope::Public);
        Self {
            node: Node::spawn(swarm),
            dials,
            scope: Scope::Public,
        }
    }

    /// A server whose dials over QUIC share sockets.
    pub fn with_fresh_ports(config: server::Config, scope: Scope) -> Self {
        let behaviour = server::Behaviour::new(config);
        let (swarm, dials) = fresh_ports_swarm(Keypair::generate_ed25519(), behaviour, scope);
        Self {
            node: Node::spawn(swarm),
            dials,
            scope,
        }
    }

    pub fn with_behaviour(behaviour: server::Behaviour, scope: Scope) -> Self {
        let (swarm, dials) = recording_swarm(Keypair::generate_ed25519(), behaviour, scope);
        Self {
            node: Node::spawn(swarm),
            dials,
            scope,
        }
    }

    /// Listens; the address that a peer on loopback can dial.
    pub async fn listen(&mut self, addr: &str) -> Multiaddr {
        let addr = self.node.listen(addr).await;
        super::loopback(&addr)
    }

    /// How the server sees a loopback address.
    pub fn sees(&self, addr: &Multiaddr) -> Multiaddr {
        match self.scope {
            Scope::Loopback => addr.clone(),
            Scope::Public => public(addr),
        }
    }

    pub async fn served(&mut self) -> Box<Served> {
        self.node
            .event("a served request", |event| match event {
                SwarmEvent::Behaviour(server::Event::Served(served)) => Some(served.clone()),
                _ => None,
            })
            .await
    }

    pub async fn misbehaved(&mut self) -> Misbehaved {
        self.node
            .event("misbehaviour", |event| match event {
                SwarmEvent::Behaviour(server::Event::Misbehaved(it)) => Some(it.clone()),
                _ => None,
            })
            .await
    }

    pub async fn rejected(&mut self) -> Rejected {
        self.node
            .event("a rejection", |event| match event {
                SwarmEvent::Behaviour(server::Event::Rejected(it)) => Some(it.clone()),
                _ => None,
            })
            .await
    }

    pub async fn load(&self) -> server::Load {
        self.node.with(|swarm| swarm.behaviour().load()).await
    }

    /// Waits until nothing is left of any request.
    pub async fn is_idle(&self) {
        within(PATIENCE, "all requests are over", async {
            loop {
                let load = self.load().await;
                if load.requests == 0 && load.dials == 0 && load.queued == 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Connects to this peer on this IP, so that the peer's IP is the one it listens on and not that of
    /// the route. The connection as the peer sees it.
    pub async fn connects_to(&mut self, peer: &mut RawPeer, ip: &str) -> ConnectionId {
        let addr = peer.listen(&format!("/ip4/{ip}/tcp/0")).await;
        let opts = DialOpts::peer_id(peer.peer_id)
            .addresses(vec![self.sees(&addr)])
            .allocate_new_port()
            .build();
        self.node.connect(opts).await;
        let connection = peer.connected_by(self.node.peer_id).await;
        self.dials.clear();
        connection
    }

    /// An honest client with an IP and a neighbourhood of its own has an address tested.
    pub async fn serves_an_honest_client(&mut self) {
        let client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        self.serves(client, 1).await;
    }

    /// As above, so many times, for a client that speaks the server's transports.
    pub async fn serves(&mut self, client: RawPeer, times: usize) {
        let mut client = self.knows(client).await;
        for _ in 0..times {
            self.serves_again(&mut client).await;
        }
    }

    /// Connects to an honest client that has an IP and a neighbourhood of its own.
    pub async fn knows(&mut self, mut client: RawPeer) -> HonestClient {
        let addr = client.listen("/ip4/127.77.0.1/tcp/0").await;
        // The server dials the client, so that the client's IP is its own and not that of the route.
        let addr = self.sees(&addr);
        let opts = DialOpts::peer_id(client.peer_id)
            .addresses(vec![addr.clone()])
            .allocate_new_port()
            .build();
        self.node.connect(opts).await;
        let connection = client.connected_by(self.node.peer_id).await;
        HonestClient {
            peer: client,
            connection,
            addr,
        }
    }

    /// The honest client has its address tested.
    pub async fn serves_again(&mut self, client: &mut HonestClient) {
        let HonestClient {
            peer,
            connection,
            addr,
        } = client;
        let mut request = ask(peer, *connection, std::slice::from_ref(addr), 4711).await;
        let (_, dial_back, nonce) = acknowledge(peer).await;
        assert_eq!(nonce, 4711, "the honest client's nonce");
        assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
        peer.closed_promptly(dial_back).await;
        self.node
            .event("the honest client is served", |event| match event {
                SwarmEvent::Behaviour(server::Event::Served(served))
                    if served.client == peer.peer_id =>
                {
                    assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
                    assert_eq!(served.end, End::Answered);
                    Some(())
                }
                _ => None,
            })
            .await;
    }
}

/// A client that is connected to a server and does nothing wrong.
pub struct HonestClient {
    pub peer: RawPeer,
    pub connection: ConnectionId,
    /// As the server sees it.
    pub addr: Multiaddr,
}

/// Opens a dial-request stream.
pub async fn open_request(client: &mut RawPeer, connection: ConnectionId) -> Stream {
    client
        .open(connection, DIAL_REQUEST_PROTOCOL)
        .await
        .expect("the server speaks the protocol")
}

/// Sends a request.
pub async fn ask(
    client: &mut RawPeer,
    connection: ConnectionId,
    addrs: &[Multiaddr],
    nonce: u64,
) -> Requests {
    let stream = open_request(client, connection).await;
    ask_on(stream, addrs, nonce).await
}

/// Sends a request on this stream.
pub async fn ask_on(stream: Stream, addrs: &[Multiaddr], nonce: u64) -> Requests {
    let mut framed = Framed::new(stream, MessageCodec::default());
    let request = DialRequest::new(addrs.iter().cloned(), nonce);
    framed
        .send(Message::DialRequest(request))
        .await
        .expect("the request is sent");
    framed
}

/// Reads the answer.
pub async fn answer(framed: &mut Requests) -> DialResponse {
    match within(PATIENCE, "an answer", framed.next()).await {
        Some(Ok(Message::DialResponse(response))) => response,
        other => panic!("not an answer: {other:?}"),
    }
}

/// Reads what the server wants to be paid.
pub async fn dial_data_request(framed: &mut Requests) -> DialDataRequest {
    match within(PATIENCE, "a request for dial data", framed.next()).await {
        Some(Ok(Message::DialDataRequest(request))) => request,
        other => panic!("not a request for dial data: {other:?}"),
    }
}

/// Pays so many bytes of dial data.
pub async fn pay(framed: &mut Requests, num_bytes: u64) {
    within(
        PATIENCE,
        "the server takes dial data",
        write_dial_data(&mut **framed, num_bytes),
    )
    .await
    .expect("dial data is sent");
}

/// The stream ends without a message.
pub async fn ends_without_a_message(framed: &mut Requests) {
    match within(PATIENCE, "the stream ends", framed.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(message)) => panic!("expected no message: {message:?}"),
    }
}

/// Takes the dial-back, acknowledges it and returns who dialed, on which connection, and the nonce.
pub async fn acknowledge(client: &mut RawPeer) -> (PeerId, ConnectionId, u64) {
    let (peer, connection, stream) = client.accept().await;
    let mut framed = Framed::new(stream, DialBackClientCodec::new());
    let dial_back = within(PATIENCE, "the nonce", framed.next())
        .await
        .expect("a message")
        .expect("a nonce");
    framed
        .send(DialBackResponse::default())
        .await
        .expect("the acknowledgement is sent");
    // The server may have closed the connection by now.
    let _ = framed.close().await;
    (peer, connection, dial_back.nonce)
}

pub const fn dialed(addr_idx: u32, dial_status: DialStatus) -> DialResponse {
    DialResponse {
        status: ResponseStatus::Ok,
        addr_idx,
        dial_status,
    }
}

pub const fn not_dialed(status: ResponseStatus) -> DialResponse {
    DialResponse::without_dial(status)
}
