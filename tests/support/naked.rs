//! TCP with yamux and no cryptography: whoever dials says which peer it is, and may say another one each
//! time, from another IP each time. For floods by thousands of peers, which would otherwise be a test of
//! handshakes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport,
    core::{
        ConnectedPoint,
        multiaddr::Protocol,
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    swarm::NetworkBehaviour,
    tcp, yamux,
};

use super::transport::{Dials, Scope, record};

/// Who a node says it is when it dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Itself.
    Own,
    /// Somebody new each time, from one of so many networks (/24), in turn.
    New { networks: u32 },
}

/// A swarm over TCP without cryptography. Speaks only to others of its kind.
pub fn naked_swarm<B: NetworkBehaviour>(
    behaviour: B,
    scope: Scope,
    face: Face,
) -> (Swarm<B>, Dials) {
    let me = PeerId::random();
    let listening = tcp::tokio::Transport::new(tcp::Config::default())
        .and_then(move |stream, endpoint: ConnectedPoint| {
            handshake(stream, me, endpoint.is_dialer())
        })
        .boxed();
    let naked = Naked {
        listening,
        me,
        face,
        dialed: AtomicU32::new(0),
    };
    record(naked.boxed(), me, behaviour, scope)
}

async fn handshake<S>(
    mut stream: S,
    me: PeerId,
    dialer: bool,
) -> io::Result<(PeerId, StreamMuxerBox)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mine = me.to_bytes();
    stream.write_all(&[mine.len() as u8]).await?;
    stream.write_all(&mine).await?;
    stream.flush().await?;
    let mut length = [0];
    stream.read_exact(&mut length).await?;
    let mut theirs = vec![0; length[0].into()];
    stream.read_exact(&mut theirs).await?;
    let peer = PeerId::from_bytes(&theirs).map_err(io::Error::other)?;
    let config = yamux::Config::default();
    let muxer = if dialer {
        config.upgrade_outbound(stream, "/yamux/1.0.0").await
    } else {
        config.upgrade_inbound(stream, "/yamux/1.0.0").await
    };
    Ok((peer, StreamMuxerBox::new(muxer.map_err(io::Error::other)?)))
}

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

struct Naked {
    listening: Inner,
    me: PeerId,
    face: Face,
    dialed: AtomicU32,
}

/// The IP that a client of so many networks dials from, by how many it has dialed before.
pub fn face(dialed: u32, networks: u32) -> Ipv4Addr {
    let [_, _, high, low] = (dialed % networks).to_be_bytes();
    // Another host in each run, so that runs in quick succession do not run out of ports.
    let host = (std::process::id() % 250) as u8 + 1;
    Ipv4Addr::new(127, 200u8.wrapping_add(high), low, host)
}

impl Naked {
    /// The peer id and the IP to dial with.
    fn face(&self) -> (PeerId, Ipv4Addr) {
        let Face::New { networks } = self.face else {
            return (self.me, Ipv4Addr::UNSPECIFIED);
        };
        let dialed = self.dialed.fetch_add(1, Ordering::Relaxed);
        (PeerId::random(), face(dialed, networks))
    }
}

fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some((IpAddr::V4(ip), port).into()),
        _ => None,
    }
}

impl Transport for Naked {
    type Output = <Inner as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.listening.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listening.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let target = socket_addr(&addr).ok_or(TransportError::MultiaddrNotSupported(addr))?;
        let (peer, source) = self.face();
        let passing = self.face != Face::Own;
        Ok(async move {
            let socket = tokio::net::TcpSocket::new_v4()?;
            if passing {
                // Else thousands of ports stay in TIME_WAIT, and the kernel searches ever longer for a free one.
                socket.set_zero_linger()?;
            }
            socket.bind((IpAddr::V4(source), 0).into())?;
            let stream = socket.connect(target).await?;
            handshake(tcp::tokio::TcpStream(stream), peer, true).await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.listening).poll(cx)
    }
}
