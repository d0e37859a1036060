//! What the swarm's error tells of a dial-back that failed, and whose fault it was: the network's or this node's own.

use std::{error::Error, io};

use libp2p_core::{Multiaddr, transport::TransportError};
use libp2p_swarm::DialError;

use crate::{
    address,
    server::kernel::has_route,
    service::{DialBackOutcome, NotDialed},
};

impl DialBackOutcome {
    /// What this error tells. `is_connected` says whether this host's own way out to such addresses is known to work: a
    /// router on the way reports a network that is gone and an uplink that is down in the same words.
    pub(super) fn of(error: &DialError, is_connected: impl FnOnce(&Multiaddr) -> bool) -> Self {
        match error {
            DialError::Denied { .. } => Self::NotDialed(NotDialed::Denied),
            DialError::NoAddresses => Self::NotDialed(NotDialed::OwnAddress),
            DialError::Aborted => Self::NotDialed(NotDialed::Aborted),
            DialError::DialPeerConditionFalse(_) => Self::NotDialed(NotDialed::LocalFailure),
            DialError::WrongPeerId { obtained, .. } => Self::WrongPeer(*obtained),
            // It is this node that lives there, so it is not the client.
            DialError::LocalPeerId { .. } => Self::DialFailed(io::ErrorKind::ConnectionRefused),
            DialError::Transport(errors) => match errors.first() {
                None => Self::NotDialed(NotDialed::LocalFailure),
                Some((_, TransportError::MultiaddrNotSupported(_))) => {
                    Self::NotDialed(NotDialed::NotSupported)
                }
                Some((addr, TransportError::Other(error))) => {
                    let code = os_error(error);
                    let kind = kind(error, code);
                    // This host says so with the same error when it has no route.
                    let from_router = may_be_a_routers_word(addr, kind, code)
                        && is_connected(addr)
                        && address::ip(addr).is_some_and(has_route);
                    if from_router {
                        Self::DialFailed(kind)
                    } else {
                        Self::of_io(kind, code)
                    }
                }
            },
        }
    }

    fn of_io(kind: io::ErrorKind, code: Option<i32>) -> Self {
        match kind {
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::NotDialed(NotDialed::NoRoute),
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::AddrInUse
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput => Self::NotDialed(NotDialed::LocalFailure),
            _ if code.is_some_and(is_out_of_sockets) => Self::NotDialed(NotDialed::LocalFailure),
            kind => Self::DialFailed(kind),
        }
    }
}

fn kind(error: &io::Error, code: Option<i32>) -> io::ErrorKind {
    code.map_or(error.kind(), |code| {
        io::Error::from_raw_os_error(code).kind()
    })
}

/// Whether an ICMP message from a router shows as this error.
///
/// "Administratively prohibited" is `EACCES` on Linux over IPv6. Over IPv4 it is `EHOSTUNREACH`, and `EACCES` is this
/// host's; `EPERM`, which is of the same kind, always is.
fn may_be_a_routers_word(addr: &Multiaddr, kind: io::ErrorKind, code: Option<i32>) -> bool {
    const EACCES: i32 = 13;
    match kind {
        io::ErrorKind::NetworkUnreachable => true,
        io::ErrorKind::PermissionDenied => {
            cfg!(any(target_os = "linux", target_os = "android"))
                && code == Some(EACCES)
                && address::ip(addr).is_some_and(|ip| ip.is_ipv6())
        }
        _ => false,
    }
}

/// The operating system's error below those of the transports.
///
/// They wrap it into errors of their own, and `either::Either`, of which composed transports are made,
/// skips its content in the chain of sources and shows it in its text only. That text must be the operating system's
/// and nothing else: in others a stranger may have a say, such as the reason for which it closes a QUIC connection, and
/// would make its own fault this host's.
fn os_error(error: &io::Error) -> Option<i32> {
    let mut link: &(dyn Error + 'static) = error;
    // A chain that is longer than this is not worth following.
    for _ in 0..16 {
        let io = link.downcast_ref::<io::Error>();
        if let Some(code) = io.and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        let inner = io.and_then(io::Error::get_ref);
        link = match inner {
            Some(inner) => inner,
            None => match link.source() {
                Some(source) => source,
                None => break,
            },
        };
    }
    let text = link.to_string();
    let (_, code) = text.rsplit_once("(os error ")?;
    let code = code.strip_suffix(')')?.parse().ok()?;
    (io::Error::from_raw_os_error(code).to_string() == text).then_some(code)
}

/// `EMFILE`, `ENFILE` and `ENOBUFS` have no kind of their own. Numbers of Linux, BSD and macOS.
const fn is_out_of_sockets(code: i32) -> bool {
    cfg!(unix) && matches!(code, 23 | 24 | 55 | 105)
}

#[cfg(test)]
mod tests {
    use libp2p_core::{
        ConnectedPoint, Endpoint,
        transport::{ListenerId, PortUse},
    };
    use libp2p_swarm::{
        ConnectionId, FromSwarm, NetworkBehaviour,
        behaviour::{ConnectionEstablished, DialFailure, NewListenAddr},
    };

    use libp2p_identity::PeerId;

    use super::{
        super::{DialBack, DialEvent},
        *,
    };
    use crate::{
        protocol::{DialStatus, Nonce, ResponseStatus},
        service::{Dial, DialId, NotDelivered},
    };

    /// What this error tells a host that knows of no connection.
    fn outcome(error: &DialError) -> DialBackOutcome {
        DialBackOutcome::of(error, |_| false)
    }

    /// What it tells one that has connections of every kind.
    #[cfg(target_os = "linux")]
    fn outcome_if_connected(addr: &str, code: i32) -> DialBackOutcome {
        DialBackOutcome::of(&failed(addr, code), |_| true)
    }

    /// A dial to this address that failed with this error of the operating system.
    #[cfg(target_os = "linux")]
    fn failed(addr: &str, code: i32) -> DialError {
        let error = io::Error::from_raw_os_error(code);
        let addr: Multiaddr = addr.parse().expect("a multiaddr");
        DialError::Transport(vec![(addr, TransportError::Other(error))])
    }

    fn transport(error: io::Error) -> DialError {
        DialError::Transport(vec![(Multiaddr::empty(), TransportError::Other(error))])
    }

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn only_what_the_network_did_is_a_dial_error() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let outcome = outcome(&transport(refused));
        assert_eq!(
            outcome,
            DialBackOutcome::DialFailed(io::ErrorKind::ConnectionRefused)
        );
        assert_eq!(
            outcome.statuses(),
            (ResponseStatus::Ok, DialStatus::DialError)
        );
    }

    #[test]
    fn a_reset_that_may_have_overtaken_the_acknowledgement_is_no_dial_back_error() {
        let statuses = |why| DialBackOutcome::NotDelivered(why).statuses().1;
        assert_eq!(statuses(NotDelivered::Reset), DialStatus::Ok);
        assert_eq!(
            statuses(NotDelivered::StreamClosed),
            DialStatus::DialBackError
        );
    }

    #[test]
    fn a_missing_transport_is_a_refusal() {
        let error = DialError::Transport(vec![(
            Multiaddr::empty(),
            TransportError::MultiaddrNotSupported(Multiaddr::empty()),
        )]);
        let (status, _) = outcome(&error).statuses();
        assert_eq!(status, ResponseStatus::DialRefused);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_host_without_a_route_or_a_socket_does_not_blame_the_client() {
        let unreachable = io::Error::from_raw_os_error(ENETUNREACH);
        let (status, _) = outcome(&transport(unreachable)).statuses();
        assert_eq!(status, ResponseStatus::DialRefused);
        let out_of_sockets = io::Error::from_raw_os_error(24);
        let (status, _) = outcome(&transport(out_of_sockets)).statuses();
        assert_eq!(status, ResponseStatus::InternalError);
    }

    #[cfg(target_os = "linux")]
    const ENETUNREACH: i32 = 101;

    /// Found in the laboratory: the router before an IP that was gone said so, and the server refused to dial, so that the
    /// address stood for ever.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_network_that_a_router_calls_unreachable_is_a_dial_error() {
        assert_eq!(
            outcome_if_connected("/ip4/127.0.0.1/tcp/1", ENETUNREACH),
            DialBackOutcome::DialFailed(io::ErrorKind::NetworkUnreachable)
        );
        assert_eq!(
            outcome_if_connected("/ip4/255.255.255.255/tcp/1", ENETUNREACH),
            DialBackOutcome::NotDialed(NotDialed::NoRoute)
        );
    }

    /// The uplink may be down: its router says the same of every address.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_router_is_believed_by_a_host_that_is_connected_itself() {
        let no_route = DialBackOutcome::NotDialed(NotDialed::NoRoute);
        let unreachable = DialBackOutcome::DialFailed(io::ErrorKind::NetworkUnreachable);
        let addr = |text: &str| text.parse::<Multiaddr>().expect("a multiaddr");
        let told = |dialer: &mut DialBack, at: &str| {
            let peer = PeerId::random();
            let connection_id = dialer.dial(Dial {
                id: DialId(1),
                peer,
                addr: addr(at),
                nonce: Nonce::default(),
            });
            dialer.on_swarm_event(FromSwarm::DialFailure(DialFailure {
                peer_id: Some(peer),
                error: &failed(at, ENETUNREACH),
                connection_id,
            }));
            let outcome = match dialer.next_dial_event() {
                Some(DialEvent::Ended(_, outcome)) => outcome,
                other => panic!("{other:?}"),
            };
            assert!(matches!(dialer.next_dial_event(), Some(DialEvent::Gone(_))));
            outcome
        };
        let listening = || {
            let mut dialer = DialBack::of_node();
            dialer.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: ListenerId::next(),
                addr: &addr("/ip4/127.0.0.1/tcp/4001"),
            }));
            dialer
        };
        assert_eq!(told(&mut listening(), "/ip4/127.0.0.1/tcp/1"), no_route);

        let dialed = ConnectedPoint::Dialer {
            address: addr("/ip4/127.0.0.2/tcp/1"),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let accepted = ConnectedPoint::Listener {
            local_addr: addr("/ip4/127.0.0.1/tcp/4001"),
            send_back_addr: addr("/ip4/127.0.0.2/tcp/1"),
        };
        for endpoint in [dialed, accepted] {
            let mut dialer = listening();
            dialer.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: PeerId::random(),
                connection_id: ConnectionId::new_unchecked(usize::MAX),
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
            assert_eq!(told(&mut dialer, "/ip4/127.0.0.1/tcp/1"), unreachable);
            // It is no evidence for another transport or family.
            for other in ["/ip4/127.0.0.1/udp/1/quic-v1", "/ip6/::1/tcp/1"] {
                assert_eq!(told(&mut dialer, other), no_route, "{other}");
            }
        }
    }

    /// There is a route to these, and yet it is this host that lacks an address or a network.
    #[cfg(target_os = "linux")]
    #[test]
    fn no_router_says_that_an_address_is_not_available_or_a_network_down() {
        for code in [99, 100] {
            assert_eq!(
                outcome_if_connected("/ip4/127.0.0.1/tcp/1", code),
                DialBackOutcome::NotDialed(NotDialed::NoRoute),
                "{code}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_router_prohibits_is_a_dial_error_and_what_this_host_forbids_is_not() {
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        let local = DialBackOutcome::NotDialed(NotDialed::LocalFailure);
        let prohibited = DialBackOutcome::DialFailed(io::ErrorKind::PermissionDenied);
        assert_eq!(prohibited.statuses().1, DialStatus::DialError);
        // A host without IPv6 has no route to itself.
        if has_route(std::net::Ipv6Addr::LOCALHOST.into()) {
            assert_eq!(outcome_if_connected("/ip6/::1/tcp/1", EACCES), prohibited);
        }
        assert_eq!(outcome(&failed("/ip6/::1/tcp/1", EACCES)), local);
        for (addr, code) in [
            ("/ip6/::1/tcp/1", EPERM),
            ("/ip4/127.0.0.1/tcp/1", EPERM),
            ("/ip4/127.0.0.1/tcp/1", EACCES),
        ] {
            assert_eq!(outcome_if_connected(addr, code), local, "{addr} {code}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_sockets_error_is_found_under_those_of_the_transports() {
        let no_route = DialBackOutcome::NotDialed(NotDialed::NoRoute);
        let socket = || io::Error::from_raw_os_error(ENETUNREACH);
        let wrapped = io::Error::other(Wrapped(io::Error::other(Wrapped(socket()))));
        assert_eq!(outcome(&transport(wrapped)), no_route);

        // As `either::Either`: the text is that of the content, the source is that of its source.
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Hiding(io::Error);
        let hidden = io::Error::other(io::Error::other(Hiding(socket())));
        assert_eq!(outcome(&transport(hidden)), no_route);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stranger_cannot_word_its_error_like_one_of_this_host() {
        let network = DialBackOutcome::DialFailed(io::ErrorKind::Other);
        for text in [
            "closed by peer: Network is unreachable (os error 101) (code 0)",
            "closed by peer: Network is unreachable (os error 101)",
            "Network is unreachable (os error 101) ",
            "No route to me (os error 101)",
            "Too many open files (os error 101)",
            "(os error 24)",
        ] {
            let outcome = outcome(&transport(io::Error::other(text)));
            assert_eq!(outcome, network, "{text}");
        }
    }

    /// The error of TCP or QUIC as a node has them, composed and boxed.
    #[cfg(target_os = "linux")]
    async fn error_of_real_transports(addr: &str) -> DialBackOutcome {
        use futures::future::Either;
        use libp2p::{
            Transport, core::muxing::StreamMuxerBox, core::upgrade::Version, identity::Keypair,
            noise, quic, tcp, yamux,
        };
        use libp2p_core::{Endpoint, transport};

        let keypair = Keypair::generate_ed25519();
        let tcp = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&keypair).expect("the key signs"))
            .multiplex(yamux::Config::default());
        let quic = quic::tokio::Transport::new(quic::Config::new(&keypair));
        let mut both = quic
            .or_transport(tcp)
            .map(|either, _| match either {
                Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
                Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
            })
            .boxed();
        let opts = transport::DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let error = match both.dial(addr.parse().expect("valid"), opts) {
            Ok(dial) => TransportError::Other(dial.await.expect_err("not reachable")),
            Err(error) => error,
        };
        outcome(&DialError::Transport(vec![(Multiaddr::empty(), error)]))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_sockets_error_is_found_under_those_of_real_transports() {
        // The kernel has no route for TCP to a multicast IP.
        let no_route = DialBackOutcome::NotDialed(NotDialed::NoRoute);
        let outcome = error_of_real_transports("/ip4/224.0.0.1/tcp/1").await;
        assert_eq!(outcome, no_route);
        let outcome = error_of_real_transports("/ip4/127.0.0.1/tcp/1").await;
        let refused = DialBackOutcome::DialFailed(io::ErrorKind::ConnectionRefused);
        assert_eq!(outcome, refused);
    }

    #[test]
    fn a_network_that_is_down_is_this_hosts_own() {
        let down = io::Error::from(io::ErrorKind::NetworkDown);
        let (status, _) = outcome(&transport(down)).statuses();
        assert_eq!(status, ResponseStatus::DialRefused);
    }

    #[test]
    fn a_limit_of_our_own_is_a_rejection() {
        #[derive(Debug, thiserror::Error)]
        #[error("full")]
        struct Full;
        let error = DialError::Denied {
            cause: libp2p_swarm::ConnectionDenied::new(Full),
        };
        let (status, _) = outcome(&error).statuses();
        assert_eq!(status, ResponseStatus::RequestRejected);
    }
}
