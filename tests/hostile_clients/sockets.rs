//! Targets that keep the connection of a dial-back from closing, to hold the server's sockets.

use std::{
    future::{Ready, poll_fn, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use libp2p::{
    Transport as _,
    core::{
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
        upgrade::InboundConnectionUpgrade,
    },
    identity::Keypair,
    noise, tcp,
};
use libp2p_autonat_v2::{
    address::{IpFamily, Transport},
    server::{self, Limit, Load},
};

use super::{
    support::{Scope, address_of, bounded_swarm, recording_swarm},
    *,
};

/// Agrees to the protocol that the other side proposes, by multistream-select, in which to agree is to say the same.
async fn agree<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, protocol: &str) {
    const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
    let mut proposal = vec![0; HEADER.len() + 1 + protocol.len() + 1];
    stream.read_exact(&mut proposal).await.expect("a proposal");
    assert!(proposal.ends_with(format!("{protocol}\n").as_bytes()));
    stream.write_all(&proposal).await.expect("sent");
    stream.flush().await.expect("sent");
}

/// A yamux ping, which must be answered.
const PING: [u8; 12] = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];

/// A transport that has taken this one connection.
struct Accepted(Option<(ListenerId, tcp::tokio::TcpStream)>);

impl libp2p::Transport for Accepted {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = Ready<io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Some((listener_id, stream)) = self.0.take() else {
            return Poll::Pending;
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id,
            upgrade: ready(Ok(stream)),
            local_addr: Multiaddr::empty(),
            send_back_addr: Multiaddr::empty(),
        })
    }
}

/// The other side's WebSocket over this connection.
async fn over_websocket(
    stream: tcp::tokio::TcpStream,
) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let id = ListenerId::next();
    let mut websocket = libp2p_websocket::Config::new(Accepted(Some((id, stream))));
    let any = "/ip4/127.0.0.1/tcp/0/ws".parse().expect("valid");
    websocket.listen_on(id, any).expect("it listens");
    let event = poll_fn(|cx| Pin::new(&mut websocket).poll(cx)).await;
    let (upgrade, _) = event.into_incoming().expect("a connection");
    upgrade.await.expect("the server speaks WebSocket")
}

/// Completes the handshakes of a peer, floods the other side with pings, and reads nothing.
async fn flood<S>(keypair: Keypair, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    agree(&mut stream, "/noise").await;
    let noise = noise::Config::new(&keypair).expect("the key signs");
    let (_, mut stream) = noise
        .upgrade_inbound(stream, "/noise")
        .await
        .expect("the server speaks noise");
    agree(&mut stream, "/yamux/1.0.0").await;
    let pings = PING.repeat(1000);
    while stream.write_all(&pings).await.is_ok() && stream.flush().await.is_ok() {}
}

/// Listens as this peer, and floods whoever connects.
fn floods_and_never_reads(keypair: &Keypair, ip: &str, over: Transport) -> Multiaddr {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // The less the target takes, the sooner the server has no room for more.
    socket.set_recv_buffer_size(1).expect("the least there is");
    let any_port = format!("{ip}:0").parse().expect("valid");
    socket.bind(any_port).expect("a free port");
    let listener = socket.listen(16).expect("it listens");
    let at = listener.local_addr().expect("bound");
    let keypair = keypair.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (keypair, stream) = (keypair.clone(), tcp::tokio::TcpStream(stream));
            tokio::spawn(async move {
                match over {
                    Transport::WebSocket => flood(keypair, over_websocket(stream).await).await,
                    _ => flood(keypair, stream).await,
                }
            });
        }
    });
    let websocket = match over {
        Transport::WebSocket => "/ws",
        _ => "",
    };
    format!("/ip4/{}/tcp/{}{websocket}", at.ip(), at.port())
        .parse()
        .expect("valid")
}

/// How many connections to these addresses are open.
fn open_connections(to: &[Multiaddr]) -> usize {
    let port = |addr| format!(":{:04X}", address_of(addr).port());
    let ports: Vec<_> = to.iter().map(port).collect();
    std::fs::read_to_string("/proc/self/net/tcp")
        .expect("Linux lists its sockets")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[3] == "01" && ports.iter().any(|port| fields[2].ends_with(port)))
        .count()
}

/// Whose swarm dials, whether its connections close in time, and over what the target is dialed.
#[derive(Debug, Clone, Copy)]
struct Setup {
    dedicated: bool,
    bounded: bool,
    over: Transport,
}

fn server(setup: Setup, config: Config) -> Server {
    let keypair = Keypair::generate_ed25519();
    let Setup {
        dedicated, bounded, ..
    } = setup;
    if dedicated {
        let swarm = if bounded {
            bounded_swarm
        } else {
            recording_swarm
        };
        let (dialer, _) = swarm(keypair, server::DialBack::default(), Scope::Public);
        let behaviour = server::Behaviour::with_dialer(config, dialer);
        Server::with_behaviour(behaviour, Scope::Public)
    } else if bounded {
        Server::bounded(config)
    } else {
        Server::in_public(config)
    }
}

const DIALS: u32 = 8;
/// What a neighbourhood may keep open of them.
const SHARE: usize = 2;

/// Clients on one IP ask to be dialed back at targets that keep the connection, so many or until one is rejected for it. What
/// the server holds after that, and where the targets are.
async fn under_attack(setup: Setup, clients: usize) -> (Server, Vec<Multiaddr>, Load) {
    let config = Config::default()
        .with_max_concurrent_dials(DIALS)
        .with_dial_back_timeout(Duration::from_secs(2))
        .with_dialable([Transport::Tcp, setup.over].map(|over| (IpFamily::V4, over)));
    let mut server = server(setup, config);
    server.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut targets = Vec::new();
    for _ in 0..clients {
        let keypair = Keypair::generate_ed25519();
        let target = floods_and_never_reads(&keypair, ATTACKER, setup.over);
        let mut attacker = RawPeer::with_keypair(keypair, &[]);
        let connection = server.connects_to(&mut attacker, ATTACKER).await;
        let before = server.load().await;
        let mut request = ask(&mut attacker, connection, &[public(&target)], 1).await;
        let answer = answer(&mut request).await;
        let served = server.served().await;
        if answer.status == ResponseStatus::RequestRejected {
            assert_eq!(before.lingering_dials, SHARE, "{setup:?}");
            assert_eq!(served.limit, Some(Limit::LingeringDials), "{setup:?}");
            break;
        }
        let timed_out = DialBackOutcome::NotDelivered(NotDelivered::TimedOut);
        assert_eq!(served.dial_back, Some(timed_out), "{setup:?}");
        targets.push(target);
        let load = server.load().await;
        let open = open_connections(&targets);
        assert!(open <= load.dials, "{setup:?}: {open}, {load:?}");
    }
    let load = server.load().await;
    (server, targets, load)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_target_that_floods_and_never_reads_gets_its_neighbourhoods_share_of_the_dials() {
    for dedicated in [false, true] {
        let setup = Setup {
            dedicated,
            bounded: false,
            over: Transport::Tcp,
        };
        // On a busy machine some are closed before they have flooded.
        let (mut server, targets, load) = under_attack(setup, 10).await;
        assert_eq!(
            (load.dials, load.lingering_dials),
            (SHARE, SHARE),
            "{setup:?}"
        );
        assert_eq!(open_connections(&targets), SHARE, "{setup:?}");
        server.serves_an_honest_client().await;
    }
}

/// No target holds a socket where closing is bounded, whoever dials.
#[cfg(target_os = "linux")]
async fn targets_are_dropped(over: Transport) {
    for dedicated in [false, true] {
        let setup = Setup {
            dedicated,
            bounded: true,
            over,
        };
        let (mut server, targets, _) = under_attack(setup, 3).await;
        server.is_idle().await;
        assert_eq!(open_connections(&targets), 0, "{setup:?}");
        server.serves_an_honest_client().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_target_that_floods_and_never_reads_is_dropped_where_closing_is_bounded() {
    targets_are_dropped(Transport::Tcp).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn over_websocket_a_target_that_floods_and_never_reads_is_dropped_too() {
    targets_are_dropped(Transport::WebSocket).await;
}

/// QUIC does not wait for the other side.
#[tokio::test]
async fn a_target_that_takes_the_nonce_over_quic_and_falls_silent_holds_nothing() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let addr = attacker
        .listen(&format!("/ip4/{ATTACKER}/udp/0/quic-v1"))
        .await;
    let mut request = ask(&mut attacker, connection, &[public(&addr)], 1).await;
    let (_, dial_back, _stream) = attacker.accept().await;
    assert_eq!(
        answer(&mut request).await,
        dialed(0, DialStatus::DialBackError)
    );
    attacker.closed_promptly(dial_back).await;
    server.served().await;
    server.is_idle().await;
    server.serves_an_honest_client().await;
}
