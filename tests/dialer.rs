//! What a dialer of its own is for: the application's requests and the dial-backs do not meet.

mod support;

use std::{io, iter, time::Duration};

use asynchronous_codec::Framed;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, SinkExt, StreamExt};
use libp2p::{
    Multiaddr, StreamProtocol,
    identity::Keypair,
    request_response::{self, ProtocolSupport},
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{
    address::Transport,
    protocol::{DIAL_BACK_PROTOCOL, DialBackClientCodec, DialStatus, ResponseStatus},
    server::{self, Config, DialBackOutcome, PassedOver, Served},
};
use support::{
    Node, PATIENCE, Raw, RawEvent, RawPeer, Scope,
    autonat::{Server, answer, ask, ask_on, dialed},
    recording_swarm, swarm, within,
};

const APPLICATION: StreamProtocol = StreamProtocol::new("/application/1");
const REQUESTS: usize = 20;

/// One byte there, one byte back.
#[derive(Debug, Clone, Default)]
struct Byte;

async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    let mut byte = [0];
    io.read_exact(&mut byte).await?;
    Ok(byte[0])
}

async fn write(io: &mut (impl AsyncWrite + Unpin), byte: u8) -> io::Result<()> {
    io.write_all(&[byte]).await?;
    io.close().await
}

impl request_response::Codec for Byte {
    type Protocol = StreamProtocol;
    type Request = u8;
    type Response = u8;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<u8>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<u8>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, byte: u8) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, byte).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        byte: u8,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, byte).await
    }
}

fn application() -> request_response::Behaviour<Byte> {
    let protocols = iter::once((APPLICATION, ProtocolSupport::Full));
    request_response::Behaviour::new(protocols, request_response::Config::default())
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ServerNode {
    autonat: server::Behaviour,
    application: request_response::Behaviour<Byte>,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ClientNode {
    raw: Raw,
    application: request_response::Behaviour<Byte>,
}

/// Sends application requests to a client while it is being dialed back, and returns how many of them came
/// in on the dial-back.
async fn requests_on_the_dial_back(autonat: server::Behaviour) -> usize {
    let (server_swarm, _) = recording_swarm(
        Keypair::generate_ed25519(),
        ServerNode {
            autonat,
            application: application(),
        },
        Scope::Loopback,
    );
    let mut server = Node::spawn(server_swarm);
    let mut client = Node::spawn(swarm(
        Keypair::generate_ed25519(),
        ClientNode {
            raw: Raw::new(&[DIAL_BACK_PROTOCOL]),
            application: application(),
        },
    ));
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let addr = client.listen("/ip4/127.0.0.1/tcp/0").await;
    let connection = client.connect(at).await;

    // The client asks, and keeps the dial-back open.
    let id = client
        .with(move |swarm| {
            let protocol = libp2p_autonat_v2::protocol::DIAL_REQUEST_PROTOCOL;
            swarm.behaviour_mut().raw.open(connection, protocol)
        })
        .await;
    let stream = client
        .take("a stream", |event| match event {
            SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Opened {
                id: opened,
                result,
            })) if opened == id => {
                std::ops::ControlFlow::Break(result.expect("the server speaks the protocol"))
            }
            other => std::ops::ControlFlow::Continue(other),
        })
        .await;
    let mut request = ask_on(stream, &[addr], 1).await;
    let (dial_back, mut dial_back_stream) = client
        .take("the dial-back", |event| match event {
            SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Inbound {
                connection,
                stream,
                ..
            })) => std::ops::ControlFlow::Break((connection, stream)),
            other => std::ops::ControlFlow::Continue(other),
        })
        .await;

    // Meanwhile the server's application has something to say.
    let peer = client.peer_id;
    server
        .with(move |swarm| {
            for n in 0..REQUESTS {
                let application = &mut swarm.behaviour_mut().application;
                application.send_request(&peer, n as u8);
            }
        })
        .await;
    let mut came_on: Vec<ConnectionId> = Vec::new();
    for _ in 0..REQUESTS {
        let (connection, channel) = client
            .take("an application request", |event| match event {
                SwarmEvent::Behaviour(ClientNodeEvent::Application(
                    request_response::Event::Message {
                        connection_id,
                        message: request_response::Message::Request { channel, .. },
                        ..
                    },
                )) => std::ops::ControlFlow::Break((connection_id, channel)),
                other => std::ops::ControlFlow::Continue(other),
            })
            .await;
        came_on.push(connection);
        client
            .with(move |swarm| {
                let application = &mut swarm.behaviour_mut().application;
                application
                    .send_response(channel, 0)
                    .expect("the server waits");
            })
            .await;
    }

    // Then the client acknowledges the nonce, and all ends well.
    within(PATIENCE, "the nonce", async {
        let mut nonce = [0; 10];
        dial_back_stream.read_exact(&mut nonce).await
    })
    .await
    .expect("the nonce");
    support::send(&mut dial_back_stream, &[0])
        .await
        .expect("the acknowledgement is sent");
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    came_on.iter().filter(|id| **id == dial_back).count()
}

fn config() -> Config {
    Config::default().with_private_addresses(true)
}

#[tokio::test]
async fn with_a_dialer_of_its_own_no_application_request_travels_on_a_dial_back() {
    let dialer = swarm(Keypair::generate_ed25519(), server::DialBack::default());
    let server = server::Behaviour::with_dialer(config(), dialer);
    assert_eq!(requests_on_the_dial_back(server).await, 0);
}

#[tokio::test]
async fn without_one_application_requests_do_travel_on_dial_backs() {
    let server = server::Behaviour::new(config());
    let astray = requests_on_the_dial_back(server).await;
    assert!(astray > 0, "the reason to have a dialer of its own");
}

#[tokio::test]
async fn a_dialer_of_its_own_does_not_dial_the_node_for_strangers() {
    let (dialer, dials) = recording_swarm(
        Keypair::generate_ed25519(),
        server::DialBack::default(),
        Scope::Public,
    );
    let behaviour = server::Behaviour::with_dialer(Config::default(), dialer);
    let mut server = Server::with_behaviour(behaviour, Scope::Public);
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = server.connects_to(&mut client, "127.66.0.1").await;
    let own = server.sees(&at);
    let mut request = ask(&mut client, connection, &[own], 1).await;
    assert_eq!(
        answer(&mut request).await.status,
        ResponseStatus::DialRefused
    );
    let passed_over = server.served().await.passed_over;
    assert_eq!(passed_over, [(0, PassedOver::OwnIp)]);
    assert_eq!(dials.all(), []);
}

#[tokio::test]
async fn with_a_dialer_of_its_own_a_dial_that_takes_too_long_is_called_back() {
    // Transports of tests give no dial up.
    let dialer = swarm(Keypair::generate_ed25519(), server::DialBack::default());
    let config = config()
        .with_dial_timeout(Duration::from_secs(2))
        .with_dial_back_timeout(2 * PATIENCE)
        .with_request_timeout(2 * PATIENCE);
    let behaviour = server::Behaviour::with_dialer(config, dialer);
    let mut server = Server::with_behaviour(behaviour, Scope::Loopback);
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let silent_at: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");

    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let addr = client.listen("/ip4/127.0.0.1/tcp/0").await;
    let connection = client.connect(at).await;
    let mut to_silent = ask(&mut client, connection, &[silent_at], 1).await;
    // At the same time as one of the same client that is not to be disturbed.
    let mut request = ask(&mut client, connection, &[addr], 2).await;
    let (_, _, dial_back) = client.accept().await;
    let mut dial_back = Framed::new(dial_back, DialBackClientCodec::new());
    dial_back.next().await.expect("a message").expect("a nonce");
    assert_eq!(
        answer(&mut to_silent).await,
        dialed(0, DialStatus::DialError)
    );
    dial_back.send(Default::default()).await.expect("sent");
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    server.is_idle().await;
    drop(silent);
}

/// A peer of its own on this IP asks to be dialed there, where somebody accepts and says nothing. What became of it.
async fn asks_for_a_silent_target(server: &mut Server, ip: &str) -> Box<Served> {
    let silent = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let silent_at: Multiaddr = format!("/ip4/{ip}/tcp/{port}").parse().expect("valid");
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = server.connects_to(&mut client, ip).await;
    let target = server.sees(&silent_at);
    let mut request = ask(&mut client, connection, &[target], 1).await;
    answer(&mut request).await;
    server.served().await
}

/// Its transport cannot dial through the firewall, and its listener vouched for it for ever.
#[tokio::test]
async fn a_dialer_of_its_own_that_listens_notices_that_nothing_answers_it() {
    let (mut dialer, _) = recording_swarm(
        Keypair::generate_ed25519(),
        server::DialBack::default(),
        Scope::Public,
    );
    let second_ip = "/ip4/20.0.0.2/tcp/0".parse().expect("valid");
    dialer
        .listen_on(second_ip)
        .expect("the transport can listen");
    let config = Config::default().with_dial_timeout(Duration::from_millis(300));
    let behaviour = server::Behaviour::with_dialer(config, dialer);
    let mut server = Server::with_behaviour(behaviour, Scope::Public);
    for network in 1..=8 {
        let ip = format!("127.{}.0.1", 80 + network);
        let served = asks_for_a_silent_target(&mut server, &ip).await;
        assert_eq!(
            served.dial_back,
            Some(DialBackOutcome::DialTimedOut),
            "{ip}"
        );
    }
    let served = asks_for_a_silent_target(&mut server, "127.90.0.1").await;
    let cannot_dial = PassedOver::CannotDial(Transport::Tcp);
    assert_eq!(served.passed_over, [(0, cannot_dial)]);

    // Somebody who gets in to the node shows that it is the targets that are silent.
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut peer = RawPeer::new(&[]);
    peer.connect(at).await;
    server.node.connected_by(peer.peer_id).await;
    let served = asks_for_a_silent_target(&mut server, "127.91.0.1").await;
    assert_eq!(served.dial_back, Some(DialBackOutcome::DialTimedOut));
}
