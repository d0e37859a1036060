//! The protocols that an address is made of, without who and where: its transport, and whether two addresses belong to
//! the same kind of listener.
//!
//! The specification has a client check that a dial-back came in on the kind of address it asked for. The two are never
//! spelled alike: one is what a stranger dials (a name, a port on the NAT, a peer id), the other what our socket sees.
//! So addresses are compared by their layers only.

use std::net::IpAddr;

use libp2p_core::multiaddr::{Multiaddr, Protocol};

use super::{IpFamily, PortProtocol};

#[cfg(test)]
mod tests;

/// The transport that an address is dialed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// `/tcp`
    Tcp,
    /// `/tcp/ws`, with or without a path
    WebSocket,
    /// `/tcp/tls/ws` or `/tcp/wss`, with or without `/sni` and a path
    SecureWebSocket,
    /// `/udp/quic-v1` (RFC 9000)
    Quic,
    /// `/udp/quic`, the draft that came before
    QuicDraft29,
    /// `/udp/quic-v1/webtransport`
    WebTransport,
    /// `/udp/webrtc-direct`
    WebRtcDirect,
    /// Anything else that leads somewhere without a relay.
    Other,
}

impl Transport {
    /// Whether the transport uses TCP or UDP; `None` where that is not known.
    pub const fn port_protocol(self) -> Option<PortProtocol> {
        match self {
            Self::Tcp | Self::WebSocket | Self::SecureWebSocket => Some(PortProtocol::Tcp),
            Self::Quic | Self::QuicDraft29 | Self::WebTransport | Self::WebRtcDirect => {
                Some(PortProtocol::Udp)
            }
            Self::Other => None,
        }
    }

    /// Whether listeners of the two can share one socket, so that on the same IP and port the one is reachable if the
    /// other is: TCP and both WebSockets; QUIC, WebTransport and WebRTC.
    pub fn shares_socket_with(self, other: Self) -> bool {
        self.port_protocol().is_some() && self.port_protocol() == other.port_protocol()
    }

    /// Whether this is the plain transport of those that share a socket, the one that every server can dial: TCP or
    /// QUIC.
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Tcp | Self::Quic)
    }
}

/// The transport of `addr`.
///
/// `None` if there is nothing to dial (no protocol behind the host) or if it is relayed, since a relay's transport says
/// nothing of the address behind it. [`Transport::Other`] for combinations that are not known here.
pub fn transport(addr: &Multiaddr) -> Option<Transport> {
    let mut layers = layers(addr).peekable();
    if !matches!(layers.peek()?, Layer::Host(_)) {
        return layers
            .all(|layer| layer != Layer::Circuit)
            .then_some(Transport::Other);
    }
    layers.next();
    let first = layers.next()?;
    let stack = (first, layers.next(), layers.next(), layers.next());
    Some(match stack {
        (Layer::Tcp, None, ..) => Transport::Tcp,
        (Layer::Tcp, Some(Layer::Ws), None, _) => Transport::WebSocket,
        (Layer::Tcp, Some(Layer::Tls), Some(Layer::Ws), None) => Transport::SecureWebSocket,
        (Layer::Udp, Some(Layer::QuicV1), None, _) => Transport::Quic,
        (Layer::Udp, Some(Layer::QuicDraft29), None, _) => Transport::QuicDraft29,
        (Layer::Udp, Some(Layer::QuicV1), Some(Layer::WebTransport), None) => {
            Transport::WebTransport
        }
        (Layer::Udp, Some(Layer::WebRtcDirect), None, _) => Transport::WebRtcDirect,
        _ if super::is_relayed(addr) => return None,
        _ => Transport::Other,
    })
}

/// The transport of `addr` if it is written as that transport's addresses are, with nothing missing and nothing added.
///
/// Unlike for [`transport()`], what belongs to no layer must stand where it has a meaning: certificate hashes behind
/// `/webtransport` (one or two) and `/webrtc-direct` (one), where they are needed and must be SHA-256; a server name that
/// can be one between `/tls` and `/ws`; one `/p2p` at the end. No HTTP path. A stranger could otherwise attach what no
/// transport takes, and have its refusal be taken for one of the whole kind. The path of a WebSocket may be any.
pub(crate) fn exact_transport(addr: &Multiaddr) -> Option<Transport> {
    let mut parts: Vec<Protocol<'_>> = addr.iter().collect();
    if let Some(Protocol::P2p(_)) = parts.last() {
        parts.pop();
    }
    let (host, stack) = parts.split_first()?;
    if !matches!(host, Protocol::Ip4(_) | Protocol::Ip6(_)) && !super::is_dns(host) {
        return None;
    }
    Some(match stack {
        [Protocol::Tcp(_)] => Transport::Tcp,
        [Protocol::Tcp(_), Protocol::Ws(_)] => Transport::WebSocket,
        [Protocol::Tcp(_), Protocol::Wss(_)]
        | [Protocol::Tcp(_), Protocol::Tls, Protocol::Ws(_)] => Transport::SecureWebSocket,
        [
            Protocol::Tcp(_),
            Protocol::Tls,
            Protocol::Sni(name),
            Protocol::Ws(_),
        ] if is_server_name(name) => Transport::SecureWebSocket,
        [Protocol::Udp(_), Protocol::QuicV1] => Transport::Quic,
        [Protocol::Udp(_), Protocol::Quic] => Transport::QuicDraft29,
        [
            Protocol::Udp(_),
            Protocol::QuicV1,
            Protocol::WebTransport,
            hashes @ ..,
        ] if (1..=2).contains(&hashes.len()) && hashes.iter().all(is_sha_256) => {
            Transport::WebTransport
        }
        [Protocol::Udp(_), Protocol::WebRTCDirect, hash] if is_sha_256(hash) => {
            Transport::WebRtcDirect
        }
        _ => return None,
    })
}

/// Whether `addr` has parts that no transport takes and no layer counts: an HTTP path, a zone, a peer on the way. With them
/// it is another address, of which nothing can be said from the plain one.
pub(crate) fn has_ornaments(addr: &Multiaddr) -> bool {
    addr.iter()
        .any(|protocol| matches!(protocol.tag(), "http-path" | "ip6zone" | "p2p"))
}

/// Whether `addr` is written as peers see it: without a server name or a path, which nobody can observe.
pub(crate) fn is_observable(addr: &Multiaddr) -> bool {
    !addr
        .iter()
        .any(|protocol| matches!(protocol.tag(), "sni" | "x-parity-ws" | "x-parity-wss"))
}

/// Whether the server name is a host name (RFC 6066 section 3, RFC 1123 section 2.1), underscores allowed.
fn is_server_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // An IPv4 address ends in a number, a name never does.
    let ends_in_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !ends_in_number
}

fn is_sha_256(protocol: &Protocol<'_>) -> bool {
    const SHA2_256: u64 = 0x12;
    matches!(protocol, Protocol::Certhash(hash) if hash.code() == SHA2_256 && hash.size() == 32)
}

/// Whether a connection on the one address fits a listener on the other: the same layers in the same order.
///
/// IPs, ports, names, peer ids, certificate hashes, TLS server names, HTTP and WebSocket paths and zones do not count.
/// `/dns` and `/dnsaddr` fit both IP families, `/dns4` and `/dns6` one; `/wss` is `/tls/ws`, `/https` is `/tls/http`; an
/// IPv4-mapped IP is IPv4. Symmetric and reflexive, but not transitive: `/dns` fits IPv4 and IPv6, which do not fit each
/// other. A `/dnsaddr` is compared by the layers written behind it, mostly none, not by those of what it resolves to.
pub fn same_stack(a: &Multiaddr, b: &Multiaddr) -> bool {
    let (mut a, mut b) = (layers(a), layers(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.fits(b) => {}
            _ => return false,
        }
    }
}

/// What is left of a protocol when all that differs between two addresses of one listener is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// `None`: a name of either family.
    Host(Option<IpFamily>),
    Tcp,
    Udp,
    Tls,
    Ws,
    Http,
    QuicV1,
    QuicDraft29,
    WebTransport,
    WebRtcDirect,
    Circuit,
    Other(&'static str),
}

impl Layer {
    fn fits(self, other: Self) -> bool {
        match (self, other) {
            (Self::Host(None), Self::Host(_)) | (Self::Host(_), Self::Host(None)) => true,
            _ => self == other,
        }
    }
}

fn layers(addr: &Multiaddr) -> impl Iterator<Item = Layer> + '_ {
    addr.iter().flat_map(|protocol| {
        // Two at most: `/wss` and `/https` each stand for two protocols.
        let (outer, inner) = match &protocol {
            Protocol::Wss(_) => (Some(Layer::Tls), Some(Layer::Ws)),
            Protocol::Https => (Some(Layer::Tls), Some(Layer::Http)),
            other => (layer(other), None),
        };
        outer.into_iter().chain(inner)
    })
}

/// Known by its tag: the multiaddr of libp2p 0.56 has no variant for it.
pub(crate) const HTTP_PATH: &str = "http-path";

/// Whether `addr` can be read at all where the tests run: not with `/http-path` and libp2p 0.56.
#[cfg(test)]
pub(crate) fn is_known(addr: &str) -> bool {
    !addr.contains(HTTP_PATH) || "/http-path/a".parse::<Multiaddr>().is_ok()
}

/// `None`: the protocol does not belong to the stack.
fn layer(protocol: &Protocol<'_>) -> Option<Layer> {
    Some(match protocol {
        Protocol::P2p(_) | Protocol::Certhash(_) | Protocol::Sni(_) | Protocol::Ip6zone(_) => {
            return None;
        }
        Protocol::Ip4(ip) => Layer::Host(Some(IpFamily::of(IpAddr::V4(*ip)))),
        Protocol::Ip6(ip) => Layer::Host(Some(IpFamily::of(IpAddr::V6(*ip)))),
        Protocol::Dns4(_) => Layer::Host(Some(IpFamily::V4)),
        Protocol::Dns6(_) => Layer::Host(Some(IpFamily::V6)),
        Protocol::Dns(_) | Protocol::Dnsaddr(_) => Layer::Host(None),
        Protocol::Tcp(_) => Layer::Tcp,
        Protocol::Udp(_) => Layer::Udp,
        Protocol::Tls => Layer::Tls,
        Protocol::Ws(_) => Layer::Ws,
        Protocol::Http => Layer::Http,
        Protocol::QuicV1 => Layer::QuicV1,
        Protocol::Quic => Layer::QuicDraft29,
        Protocol::WebTransport => Layer::WebTransport,
        Protocol::WebRTCDirect => Layer::WebRtcDirect,
        Protocol::P2pCircuit => Layer::Circuit,
        other => match other.tag() {
            HTTP_PATH => return None,
            tag => Layer::Other(tag),
        },
    })
}
