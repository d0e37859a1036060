//! Clients that are connected through a real relay: the server does not know their IP, so that whatever they
//! name must be paid for, and the relay is never the way back.

use std::ops::ControlFlow;

use libp2p::{
    multiaddr::Protocol,
    relay,
    swarm::{ConnectionId, NetworkBehaviour},
};

use super::{
    support::{Dials, Raw, RawEvent, relayed_swarm, swarm},
    *,
};

/// The server listens on 127.0.0.1, the client on another IP of this host.
const CLIENT: &str = "/ip4/127.0.0.2/tcp/0";

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ServerNode {
    autonat: server::Behaviour,
    relay: relay::client::Behaviour,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ClientNode {
    raw: Raw,
    relay: relay::client::Behaviour,
}

/// A server and a client that have no connection but the one through the relay.
struct Relayed {
    server: Node<ServerNode>,
    dials: Dials,
    client: Node<ClientNode>,
    /// As the client sees it.
    connection: ConnectionId,
    /// Where the client can be reached without the relay, and through it.
    direct: Multiaddr,
    circuit: Multiaddr,
    _relay: Node<relay::Behaviour>,
}

/// Who of the two is behind the relay, and is dialed by the other.
#[derive(Clone, Copy)]
enum Dialed {
    Client,
    Server,
}

impl Relayed {
    async fn new(config: Config, dialed: Dialed) -> Self {
        let keypair = Keypair::generate_ed25519();
        let relay = relay::Behaviour::new(keypair.public().to_peer_id(), relay::Config::default());
        let mut relay = Node::spawn(swarm(keypair, relay));
        let relay_at = relay.listen(TCP).await.with(Protocol::P2p(relay.peer_id));
        let external = relay_at.clone();
        relay
            .with(move |swarm| swarm.add_external_address(external))
            .await;

        let autonat = server::Behaviour::new(config.with_private_addresses(true));
        let (server, dials) = relayed_swarm(&Keypair::generate_ed25519(), |relay| ServerNode {
            autonat,
            relay,
        });
        let mut server = Node::spawn(server);
        server.listen(TCP).await;
        let (client, _) = relayed_swarm(&Keypair::generate_ed25519(), |relay| ClientNode {
            raw: Raw::new(&[DIAL_BACK_PROTOCOL]),
            relay,
        });
        let mut client = Node::spawn(client);
        let direct = client.listen(CLIENT).await;

        let through = relay_at.with(Protocol::P2pCircuit);
        let connection = match dialed {
            Dialed::Client => {
                client.listen(&through.to_string()).await;
                let at = through.clone().with(Protocol::P2p(client.peer_id));
                server.connect(at).await;
                client.connected_by(server.peer_id).await
            }
            Dialed::Server => {
                server.listen(&through.to_string()).await;
                let at = through.clone().with(Protocol::P2p(server.peer_id));
                client.connect(at).await
            }
        };
        dials.clear();
        Self {
            circuit: through.with(Protocol::P2p(client.peer_id)),
            server,
            dials,
            client,
            connection,
            direct,
            _relay: relay,
        }
    }

    async fn ask(&mut self, addrs: &[Multiaddr]) -> Requests {
        let connection = self.connection;
        let id = self
            .client
            .with(move |swarm| {
                let protocol = libp2p_autonat_v2::protocol::DIAL_REQUEST_PROTOCOL;
                swarm.behaviour_mut().raw.open(connection, protocol)
            })
            .await;
        let stream = self
            .client
            .take("a stream through the relay", |event| match event {
                SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Opened {
                    id: opened,
                    result,
                })) if opened == id => {
                    ControlFlow::Break(result.expect("the server speaks the protocol"))
                }
                other => ControlFlow::Continue(other),
            })
            .await;
        ask_on(stream, addrs, 42).await
    }

    /// Takes the nonce and acknowledges it; the connection it came on.
    async fn acknowledge(&mut self) -> ConnectionId {
        let (connection, stream) = self
            .client
            .take("the dial-back", |event| match event {
                SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Inbound {
                    connection,
                    stream,
                    ..
                })) => ControlFlow::Break((connection, stream)),
                other => ControlFlow::Continue(other),
            })
            .await;
        let mut framed = Framed::new(stream, DialBackClientCodec::new());
        let dial_back = within(PATIENCE, "the nonce", framed.next())
            .await
            .expect("a message")
            .expect("a nonce");
        assert_eq!(dial_back.nonce, 42);
        framed.send(Default::default()).await.expect("sent");
        let _ = framed.close().await;
        connection
    }

    async fn served(&mut self) -> Box<server::Served> {
        self.server
            .event("a served request", |event| match event {
                SwarmEvent::Behaviour(ServerNodeEvent::Autonat(server::Event::Served(served))) => {
                    Some(served.clone())
                }
                _ => None,
            })
            .await
    }
}

async fn every_address_is_paid_for_and_dialed_directly(dialed_first: Dialed) {
    let mut it = Relayed::new(prompt(), dialed_first).await;
    let addrs = [it.circuit.clone(), it.direct.clone()];

    let mut request = it.ask(&addrs).await;
    let data = dial_data_request(&mut request).await;
    assert_eq!(data.addr_idx, 1, "not the one through the relay");
    assert_eq!(it.dials.all(), [], "not dialed before it is paid");
    pay(&mut request, data.num_bytes).await;
    let dial_back = it.acknowledge().await;
    assert_ne!(dial_back, it.connection, "the nonce took the relay");
    let from = it.client.remote_address(dial_back).await;
    assert!(!from.iter().any(|part| part == Protocol::P2pCircuit));
    assert_eq!(answer(&mut request).await, dialed(1, DialStatus::Ok));
    it.client.closed_promptly(dial_back).await;

    let served = it.served().await;
    assert_eq!(served.observed_ip, None);
    assert_eq!(served.passed_over, [(0, PassedOver::Relayed)]);
    assert_eq!(served.tested, Some((1, it.direct.clone())));
    assert_eq!(served.dial_data_received, data.num_bytes);
    assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
    let all = it.dials.all();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].to_string().starts_with(&it.direct.to_string()));
    let (server, client) = (&it.server, it.client.peer_id);
    assert!(
        server.with(move |swarm| swarm.is_connected(&client)).await,
        "the relayed connection was closed with the dial-back"
    );
}

#[tokio::test]
async fn a_client_behind_a_relay_pays_for_every_address() {
    every_address_is_paid_for_and_dialed_directly(Dialed::Client).await;
}

#[tokio::test]
async fn a_client_of_a_server_behind_a_relay_pays_for_every_address() {
    every_address_is_paid_for_and_dialed_directly(Dialed::Server).await;
}

#[tokio::test]
async fn a_client_without_an_ip_cannot_have_the_servers_own_one_dialed() {
    let mut it = Relayed::new(prompt(), Dialed::Client).await;
    let own: Multiaddr = "/ip4/127.0.0.1/tcp/22".parse().expect("valid");
    let mut request = it.ask(&[it.circuit.clone(), own]).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    let served = it.served().await;
    assert_eq!(
        served.passed_over,
        [(0, PassedOver::Relayed), (1, PassedOver::OwnIp)]
    );
    assert_eq!(it.dials.all(), []);
}
