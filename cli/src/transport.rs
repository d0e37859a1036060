//! The transports of both commands: TCP and QUIC, on request with names.

use std::{io, time::Duration};

use libp2p::{
    PeerId, Swarm, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    noise, quic,
    swarm::{self, NetworkBehaviour},
    tcp, yamux,
};
use libp2p_autonat_v2::server::{BoundedClose, FreshPorts};

/// How long a connection may take to come about: as long as `SwarmBuilder` gives it.
const CONNECT: Duration = Duration::from_secs(10);

/// Whether names are dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Refused,
    Dialed,
}

/// A swarm with the key, whose idle connections are closed after `idle`.
///
/// # Errors
/// If the key can't sign, or if the machine does not say where names are looked up.
pub(crate) fn swarm<B: NetworkBehaviour>(
    key: &Keypair,
    behaviour: B,
    names: Names,
    idle: Duration,
) -> Result<Swarm<B>, String> {
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(idle);
    let peer = key.public().to_peer_id();
    Ok(Swarm::new(transport(key, names)?, behaviour, peer, config))
}

fn transport(key: &Keypair, names: Names) -> Result<Boxed<(PeerId, StreamMuxerBox)>, String> {
    let noise = noise::Config::new(key).map_err(|error| format!("can't use the key: {error}"))?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(BoundedClose::new(yamux::Config::default()))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let config = quic::Config::new(key);
    let quic = FreshPorts::new(move || quic::tokio::Transport::new(config.clone()))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = tcp.or_transport(quic).map(|either, _| either.into_inner());
    match names {
        Names::Refused => Ok(TransportTimeout::new(both, CONNECT).boxed()),
        Names::Dialed => {
            let both = dns::tokio::Transport::system(both)
                .map_err(|error| format!("can't look up names on this machine: {error}"))?;
            Ok(TransportTimeout::new(both, CONNECT).boxed())
        }
    }
}

/// What the error says; its own `Display` leaves out what is in it.
pub(crate) fn why(error: &TransportError<io::Error>) -> String {
    let text = match error {
        TransportError::Other(error) => error.to_string(),
        other => other.to_string(),
    };
    match text.is_empty() {
        true => format!("{error:?}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use libp2p::{
        Multiaddr,
        multiaddr::Protocol,
        swarm::{SwarmEvent, dummy},
    };

    use super::*;

    fn node(names: Names) -> Swarm<dummy::Behaviour> {
        let key = Keypair::generate_ed25519();
        swarm(&key, dummy::Behaviour, names, CONNECT).expect("it can be set up")
    }

    async fn connects(names: Names) -> bool {
        let mut target = node(Names::Refused);
        let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        target.listen_on(any).expect("it listens");
        let port = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = target.select_next_some().await {
                break address.iter().nth(1).map(|tcp| tcp.acquire());
            }
        };
        let name = Multiaddr::empty().with(Protocol::Dns4("localhost".into()));
        let mut dialer = node(names);
        dialer
            .dial(name.with(port.expect("it has a port")))
            .expect("it begins");
        loop {
            tokio::select! {
                _ = target.select_next_some() => {}
                event = dialer.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { .. } => return true,
                    SwarmEvent::OutgoingConnectionError { .. } => return false,
                    _ => {}
                }
            }
        }
    }

    #[tokio::test]
    async fn names_are_dialed_only_where_that_is_wanted() {
        assert!(connects(Names::Dialed).await);
        assert!(!connects(Names::Refused).await);
    }
}
