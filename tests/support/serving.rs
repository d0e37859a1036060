//! A server that is driven by hand, and a client to be tested against it.
//!
//! The client asks only whom identify says to serve, so the server has identify beside its raw streams.

use std::{ops::ControlFlow, time::Duration};

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, identify,
    identity::Keypair,
    noise, relay,
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts,
    },
    tcp, yamux,
};
use libp2p_autonat_v2::{
    client::{self, AddressReport, Probed, Sizes, Verdict},
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBack, DialBackServerCodec, DialRequest,
        DialResponse, Message, MessageCodec, NonceEncoding,
    },
    server,
};

use super::{
    Node, PATIENCE, Raw, RawError, RawEvent, autonat::Requests, from_new_port, swarm, within,
};

pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/test/1".to_owned(),
        keypair.public(),
    ))
}

#[derive(NetworkBehaviour)]
pub struct Serving {
    pub identify: identify::Behaviour,
    pub raw: Raw,
    pub relay: Toggle<relay::client::Behaviour>,
}

/// A peer that lists the protocol of dial requests and leaves all that follows to the test.
pub struct RawServer {
    pub node: Node<Serving>,
}

/// A request that came in.
pub struct Asked {
    pub client: PeerId,
    pub connection: ConnectionId,
    pub request: DialRequest,
    pub stream: Requests,
}

impl Asked {
    /// The address that is to be decided.
    pub fn address(&self) -> Multiaddr {
        self.request.addrs[0].clone().expect("it parses")
    }

    pub async fn send(&mut self, message: Message) {
        // The client may have reset the stream by now, as it should on some of what is sent here.
        let _ = within(
            PATIENCE,
            "the client takes a message",
            self.stream.send(message),
        )
        .await;
    }

    pub async fn respond(&mut self, response: DialResponse) {
        self.send(Message::DialResponse(response)).await;
    }

    /// The stream ends, with none but dial data on the way. Returns how much of that there was.
    pub async fn ended(&mut self) -> usize {
        let mut paid = 0;
        within(PATIENCE, "the client ends the stream", async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::DialDataResponse { len })) => paid += len,
                    Some(Ok(other)) => panic!("expected the end of the stream: {other:?}"),
                    Some(Err(_)) | None => return,
                }
            }
        })
        .await;
        paid
    }
}

impl RawServer {
    pub fn new() -> Self {
        let keypair = Keypair::generate_ed25519();
        let behaviour = Serving {
            identify: identify(&keypair),
            raw: Raw::new(&[DIAL_REQUEST_PROTOCOL]),
            relay: None.into(),
        };
        Self {
            node: Node::spawn(swarm(keypair, behaviour)),
        }
    }

    /// One that can be reached through relays, and reach others.
    pub fn with_relay_client() -> Self {
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("TCP can be set up")
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .expect("the relay client can be set up")
            .with_behaviour(|keypair, relay| Serving {
                identify: identify(keypair),
                raw: Raw::new(&[DIAL_REQUEST_PROTOCOL]),
                relay: Some(relay).into(),
            })
            .expect("the behaviours can be set up")
            .build();
        Self {
            node: Node::spawn(swarm),
        }
    }

    pub fn peer_id(&self) -> PeerId {
        self.node.peer_id
    }

    /// The next request that comes in, read.
    pub async fn asked(&mut self) -> Asked {
        let (client, connection, stream) = self.accept().await;
        let mut stream = Framed::new(stream, MessageCodec::default());
        let request = match within(PATIENCE, "a request", stream.next()).await {
            Some(Ok(Message::DialRequest(request))) => request,
            other => panic!("not a request: {other:?}"),
        };
        Asked {
            client,
            connection,
            request,
            stream,
        }
    }

    /// Drops a request without a word, and the second one that the client makes of it, with a varint for a nonce.
    pub async fn drops(&mut self, asked: Asked) {
        let Asked {
            request, stream, ..
        } = asked;
        drop(stream);
        let second = self.asked().await.request;
        let varint = NonceEncoding::Varint;
        assert_eq!(second, request.with_nonce_encoding(varint));
    }

    /// The next dial-request stream, unread.
    pub async fn accept(&mut self) -> (PeerId, ConnectionId, Stream) {
        self.node
            .take("a dial-request stream", |event| match event {
                SwarmEvent::Behaviour(ServingEvent::Raw(RawEvent::Inbound {
                    peer,
                    connection,
                    stream,
                    ..
                })) => ControlFlow::Break((peer, connection, stream)),
                other => ControlFlow::Continue(other),
            })
            .await
    }

    /// A new connection to the client, as for a dial-back.
    pub async fn dial(&mut self, client: PeerId, addr: &Multiaddr) -> ConnectionId {
        let opts = DialOpts::peer_id(client)
            .addresses(vec![addr.clone()])
            .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
            .allocate_new_port()
            .build();
        self.node.connect(opts).await
    }

    pub async fn open(
        &mut self,
        connection: ConnectionId,
        protocol: StreamProtocol,
    ) -> Result<Stream, RawError> {
        let id = self
            .node
            .with(move |swarm| swarm.behaviour_mut().raw.open(connection, protocol))
            .await;
        self.node
            .take("an answer to a stream", |event| match event {
                SwarmEvent::Behaviour(ServingEvent::Raw(RawEvent::Opened {
                    id: opened,
                    result,
                })) if opened == id => ControlFlow::Break(result),
                other => ControlFlow::Continue(other),
            })
            .await
    }

    pub async fn open_dial_back(&mut self, connection: ConnectionId) -> Stream {
        self.open(connection, DIAL_BACK_PROTOCOL)
            .await
            .expect("the client takes dial-backs")
    }

    /// Hands over a nonce on this connection. Whether the client acknowledged it; if not, it reset the stream.
    pub async fn deliver(&mut self, connection: ConnectionId, nonce: u64) -> bool {
        let stream = self.open_dial_back(connection).await;
        let mut framed = Framed::new(stream, DialBackServerCodec::new());
        within(PATIENCE, "the client deals with the nonce", async {
            let _ = framed.send(DialBack { nonce }).await;
            matches!(framed.next().await, Some(Ok(_)))
        })
        .await
    }

    /// A dial-back as it should be: a new connection to the address, and the nonce on it.
    pub async fn dial_back(&mut self, asked: &Asked, addr: &Multiaddr) -> bool {
        let connection = self.dial(asked.client, addr).await;
        let acknowledged = self.deliver(connection, asked.request.nonce).await;
        self.close(connection).await;
        acknowledged
    }

    pub async fn close(&mut self, connection: ConnectionId) {
        self.node
            .with(move |swarm| swarm.close_connection(connection))
            .await;
        self.node.closed(connection).await;
    }
}

#[derive(NetworkBehaviour)]
pub struct Tested {
    pub identify: identify::Behaviour,
    pub autonat: client::Behaviour,
    pub relay: Toggle<relay::client::Behaviour>,
}

/// A client to be tested.
pub struct Client {
    pub node: Node<Tested>,
}

impl Client {
    /// One that takes loopback addresses for worth testing.
    pub fn new(config: client::Config) -> Self {
        Self::with_private_addresses_kept(config.with_private_addresses(true))
    }

    /// One that takes addresses for what they are.
    pub fn with_private_addresses_kept(config: client::Config) -> Self {
        let keypair = Keypair::generate_ed25519();
        let behaviour = Tested {
            identify: identify(&keypair),
            autonat: client::Behaviour::new(keypair.public().to_peer_id(), config),
            relay: None.into(),
        };
        Self {
            node: Node::spawn(swarm(keypair, behaviour)),
        }
    }

    pub fn with_relay_client(config: client::Config) -> Self {
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("TCP can be set up")
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .expect("the relay client can be set up")
            .with_behaviour(|keypair, relay| Tested {
                identify: identify(keypair),
                autonat: client::Behaviour::new(
                    keypair.public().to_peer_id(),
                    config.with_private_addresses(true),
                ),
                relay: Some(relay).into(),
            })
            .expect("the behaviours can be set up")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        Self {
            node: Node::spawn(swarm),
        }
    }

    /// Runs `task` with the behaviour.
    pub async fn with<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut client::Behaviour) -> R + Send + 'static,
    ) -> R {
        self.node
            .with(move |swarm| task(&mut swarm.behaviour_mut().autonat))
            .await
    }

    pub async fn connect(&mut self, addr: &Multiaddr) -> ConnectionId {
        self.node.connect(from_new_port(addr.clone())).await
    }

    pub async fn report(&self, addr: &Multiaddr) -> Option<AddressReport> {
        let addr = addr.clone();
        self.with(move |autonat| autonat.address(&addr)).await
    }

    pub async fn sizes(&self) -> Sizes {
        self.with(|autonat| autonat.sizes()).await
    }

    /// What comes of the next probe of this address.
    pub async fn probed(&mut self, addr: &Multiaddr) -> Probed {
        self.node
            .event("the outcome of a probe", |event| match event {
                SwarmEvent::Behaviour(TestedEvent::Autonat(client::Event::Probed(probed)))
                    if probed.address == *addr =>
                {
                    Some(probed.clone())
                }
                _ => None,
            })
            .await
    }

    pub async fn confirmed(&mut self, addr: &Multiaddr) {
        self.node
            .event("the address is confirmed", |event| match event {
                SwarmEvent::ExternalAddrConfirmed { address } if address == addr => Some(()),
                _ => None,
            })
            .await;
    }

    pub async fn expired(&mut self, addr: &Multiaddr) {
        self.node
            .event("the address is expired", |event| match event {
                SwarmEvent::ExternalAddrExpired { address } if address == addr => Some(()),
                _ => None,
            })
            .await;
    }

    /// Waits until no probe is under way.
    pub async fn is_idle(&self) {
        within(PATIENCE, "all probes are over", async {
            while self.sizes().await.probes > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// No server counts in what is known of this address, and nothing was decided.
    pub async fn knows_nothing_of(&self, addr: &Multiaddr) {
        let report = self.report(addr).await.expect("the address is tracked");
        assert_eq!(report.verdict, Verdict::Unknown);
        assert_eq!(report.servers, 0);
        assert!(!report.announced);
        let confirmed = self
            .node
            .with(|swarm| swarm.external_addresses().count())
            .await;
        assert_eq!(confirmed, 0, "confirmed external addresses");
    }

    /// An honest server gets an address confirmed.
    pub async fn learns_from_an_honest_server(&mut self, addr: &Multiaddr) -> HonestServer {
        let mut server = honest_server();
        let transport = if addr.to_string().contains("quic") {
            QUIC
        } else {
            TCP
        };
        let at = server.listen(transport).await;
        self.connect(&at).await;
        self.confirmed(addr).await;
        let report = self.report(addr).await.expect("the address is tracked");
        assert_eq!(report.verdict, Verdict::Reachable);
        server
    }
}

#[derive(NetworkBehaviour)]
pub struct Honest {
    pub identify: identify::Behaviour,
    pub autonat: server::Behaviour,
}

pub type HonestServer = Node<Honest>;

/// A server of this crate.
pub fn honest_server() -> HonestServer {
    let keypair = Keypair::generate_ed25519();
    let behaviour = Honest {
        identify: identify(&keypair),
        autonat: server::Behaviour::new(
            server::Config::default()
                .with_private_addresses(true)
                .with_max_delay_after_dial_data(Duration::ZERO),
        ),
    };
    Node::spawn(swarm(keypair, behaviour))
}
