//! A QUIC transport whose dials from new ports share sockets.
//!
//! A dial-back comes from a port that its target has never answered, since a filter lets in whom its host has answered. A port
//! of its own for each dial is one way, and over QUIC a dear one: `quinn` gives each socket a receive buffer of 3 MB. But what is
//! new to one target need not be new to another. So here a socket dials many hosts, each of them once.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::FutureExt;
use libp2p_core::{
    Endpoint, Multiaddr,
    transport::{DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent},
};

use crate::address::{self, Neighbourhood, PortProtocol};

/// Sockets that can still dial. If all of them have dialed a host, a new one takes the place of the oldest. With one socket, two
/// clients that ask by turns would need a new one for each dial. Chosen: twice what one client may ask at once.
const MAX_SOCKETS: usize = 4;

/// Hosts that a socket dials. It bounds what is remembered, to some 20 kB for a socket; a new socket for so many dials costs nothing.
const MAX_DIALED: usize = 512;

/// QUIC for a server: dials that ask for a new port share sockets with others, but never two to one host.
///
/// It takes what makes a QUIC transport, and makes one for what listens and one for each socket to dial from. A server without it
/// dials back all the same, and takes 3 MB more for each dial-back over QUIC at once.
///
/// ```
/// use libp2p::{SwarmBuilder, noise, quic, tcp, yamux};
/// use libp2p_autonat_v2::server::{self, BoundedClose, FreshPorts};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let swarm = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), noise::Config::new, || {
///         BoundedClose::new(yamux::Config::default())
///     })?
///     .with_other_transport(|key| {
///         let config = quic::Config::new(key);
///         FreshPorts::new(move || quic::tokio::Transport::new(config.clone()))
///     })?
///     .with_behaviour(|_| server::Behaviour::default())?
///     .build();
/// # let _ = swarm;
/// # Ok(())
/// # }
/// ```
///
/// A host is an IPv4 address or an IPv6 /64. Whoever knows the port of a socket can send to it, as to any port of a server; what a
/// socket has no connection for it drops, or answers with a stateless reset that is smaller than what came. In a swarm of its own
/// that dials [from its listeners](super::DialBack::with_dials_from_listeners) it has no effect.
pub struct FreshPorts<T> {
    /// Listens, and dials where the port makes no difference.
    inner: T,
    make: Box<dyn Fn() -> T + Send>,
    /// At most [`MAX_SOCKETS`], the oldest first.
    sockets: VecDeque<Socket<T>>,
}

/// A transport without listeners, which dials all from one port for each IP family, if it may reuse ports. The socket lasts as long
/// as it or one of its connections.
struct Socket<T> {
    transport: T,
    /// At most [`MAX_DIALED`].
    dialed: BTreeSet<Neighbourhood>,
    is_broken: Arc<AtomicBool>,
}

impl<T> Socket<T> {
    fn takes_more(&self) -> bool {
        self.dialed.len() < MAX_DIALED && !self.is_broken.load(Ordering::Relaxed)
    }
}

impl<T> FreshPorts<T> {
    /// Over the transports that this makes: QUIC, each with the same key, none of them listening.
    pub fn new(make: impl Fn() -> T + Send + 'static) -> Self {
        Self {
            inner: make(),
            make: Box::new(make),
            sockets: VecDeque::new(),
        }
    }

    /// A socket that has not dialed this host.
    fn socket(&mut self, host: Neighbourhood) -> &mut Socket<T> {
        self.sockets.retain(Socket::takes_more);
        let is_new_to = |socket: &Socket<T>| !socket.dialed.contains(&host);
        let index = self.sockets.iter().position(is_new_to).unwrap_or_else(|| {
            if self.sockets.len() == MAX_SOCKETS {
                self.sockets.pop_front();
            }
            self.sockets.push_back(Socket {
                transport: (self.make)(),
                dialed: BTreeSet::new(),
                is_broken: Arc::default(),
            });
            self.sockets.len() - 1
        });
        &mut self.sockets[index]
    }
}

impl<T> fmt::Debug for FreshPorts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshPorts")
            .field("sockets", &self.sockets.len())
            .finish_non_exhaustive()
    }
}

impl<T> Transport for FreshPorts<T>
where
    T: Transport<Dial: Unpin> + Unpin,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = Dial<T::Dial>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        match (opts, address::ip(&addr)) {
            (
                DialOpts {
                    role: Endpoint::Dialer,
                    port_use: PortUse::New,
                },
                Some(ip),
            ) if matches!(address::port(&addr), Some((PortProtocol::Udp, _))) => {
                let host = address::host_prefix(ip);
                let socket = self.socket(host);
                let opts = DialOpts {
                    port_use: PortUse::Reuse,
                    ..opts
                };
                let inner = socket.transport.dial(addr, opts)?;
                socket.dialed.insert(host);
                Ok(Dial {
                    inner,
                    at_first: Some(socket.is_broken.clone()),
                })
            }
            _ => Ok(Dial {
                inner: self.inner.dial(addr, opts)?,
                at_first: None,
            }),
        }
    }

    /// What dials has no listeners, and nothing to be polled for.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A dial of [`FreshPorts`].
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Dial<D> {
    inner: D,
    /// Whether the socket is broken, until the dial was polled. One that cannot even send has no future; what the network does takes
    /// longer.
    at_first: Option<Arc<AtomicBool>>,
}

impl<D, O, E> Future for Dial<D>
where
    D: Future<Output = Result<O, E>> + Unpin,
{
    type Output = D::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.inner.poll_unpin(cx);
        if let Some(is_broken) = self.at_first.take()
            && let Poll::Ready(Err(_)) = &polled
        {
            is_broken.store(true, Ordering::Relaxed);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        io,
        sync::atomic::AtomicUsize,
    };

    use super::*;

    /// Tells which of the transports dialed, and how.
    struct Numbered {
        number: usize,
        fails: bool,
    }

    impl Transport for Numbered {
        type Output = (usize, PortUse);
        type Error = io::Error;
        type ListenerUpgrade = Ready<io::Result<Self::Output>>;
        type Dial = Ready<io::Result<Self::Output>>;

        fn listen_on(
            &mut self,
            _: ListenerId,
            addr: Multiaddr,
        ) -> Result<(), TransportError<io::Error>> {
            Err(TransportError::MultiaddrNotSupported(addr))
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(
            &mut self,
            _: Multiaddr,
            opts: DialOpts,
        ) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(ready(if self.fails {
                Err(io::ErrorKind::BrokenPipe.into())
            } else {
                Ok((self.number, opts.port_use))
            }))
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    /// Of the transports that it makes this one fails.
    fn fresh_ports(broken: Option<usize>) -> FreshPorts<Numbered> {
        let made = AtomicUsize::new(0);
        FreshPorts::new(move || {
            let number = made.fetch_add(1, Ordering::Relaxed);
            Numbered {
                number,
                fails: broken == Some(number),
            }
        })
    }

    fn dial(
        transport: &mut FreshPorts<Numbered>,
        ip: &str,
        port_use: PortUse,
    ) -> Option<(usize, PortUse)> {
        let family = if ip.contains(':') { "ip6" } else { "ip4" };
        let addr = format!("/{family}/{ip}/udp/1/quic-v1");
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use,
        };
        let addr = addr.parse().expect("valid");
        let dial = transport.dial(addr, opts).expect("it dials");
        dial.now_or_never().expect("it ends").ok()
    }

    #[test]
    fn a_socket_dials_many_hosts_and_none_of_them_twice() {
        let mut transport = fresh_ports(None);
        let mut from = |ip| dial(&mut transport, ip, PortUse::New).map(|(number, _)| number);
        for ip in ["20.1.0.1", "20.1.0.2", "2a00::1", "2a00:0:0:1::1"] {
            assert_eq!(from(ip), Some(1), "{ip}");
        }
        // Another address of one host, and an IPv6 form of its IPv4.
        for (ip, number) in [("20.1.0.1", 2), ("2a00::2", 2), ("::ffff:20.1.0.1", 3)] {
            assert_eq!(from(ip), Some(number), "{ip}");
        }
    }

    #[test]
    fn a_host_that_is_dialed_often_finds_no_socket_that_has_dialed_it() {
        let mut transport = fresh_ports(None);
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let (number, port_use) =
                dial(&mut transport, "20.1.0.1", PortUse::New).expect("it dials");
            assert!(seen.insert(number), "{number} again");
            assert_eq!(port_use, PortUse::Reuse);
            assert!(transport.sockets.len() <= MAX_SOCKETS);
        }
    }

    #[test]
    fn what_is_remembered_of_a_socket_is_bounded() {
        let mut transport = fresh_ports(None);
        for n in 0..2 * MAX_DIALED {
            let ip = format!("20.1.{}.{}", n / 256, n % 256);
            let dialed = dial(&mut transport, &ip, PortUse::New);
            assert_eq!(dialed, Some((1 + n / MAX_DIALED, PortUse::Reuse)));
        }
    }

    #[test]
    fn a_dial_that_may_reuse_ports_is_none_of_its_business() {
        let mut transport = fresh_ports(None);
        for _ in 0..2 {
            let dialed = dial(&mut transport, "20.1.0.1", PortUse::Reuse);
            assert_eq!(dialed, Some((0, PortUse::Reuse)));
        }
    }

    #[test]
    fn a_socket_that_cannot_send_dials_no_more() {
        let mut transport = fresh_ports(Some(1));
        let mut from = |ip| dial(&mut transport, ip, PortUse::New).map(|(number, _)| number);
        assert_eq!(from("20.1.0.1"), None);
        assert_eq!(from("20.1.0.2"), Some(2));
        assert_eq!(from("20.1.0.1"), Some(2));
    }
}
