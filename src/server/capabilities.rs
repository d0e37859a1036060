//! What a node can dial: pairs of IP family and transport, and how far they reach.
//!
//! A dial that the node was never able to make must not be reported as `E_DIAL_ERROR`, since that
//! condemns the client for the server's fault (AutoNAT v2 specification, "Implementation
//! suggestions": refuse an IP family without connectivity). So nothing is dialed without evidence:
//! a listener of that family and transport, a recent success, or the operator's word. The transport's
//! `MultiaddrNotSupported` speaks against it, and so does silence: where everything that was dialed timed out,
//! all over the Internet, and nothing came in either, a firewall is the likely reason.
//!
//! Pure: swarm events and time come in, a judgement comes out. All sets are bounded by the number of
//! families, transports and reaches.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Duration,
};

use libp2p_core::{ConnectedPoint, Multiaddr, multiaddr::Protocol};
use libp2p_swarm::{FromSwarm, behaviour::ConnectionEstablished};
use web_time::Instant;

use super::DialBackOutcome;
use crate::address::{self, IpFamily, IpScope, Neighbourhood, Transport};

/// How long a success vouches for a family and transport. Networks change under a running node.
const SUCCESS_COUNTS_FOR: Duration = Duration::from_secs(60 * 60);

/// How long `MultiaddrNotSupported` counts. Not for ever: the address that caused it was written by a
/// stranger, and one odd address must not switch a transport off.
const UNSUPPORTED_COUNTS_FOR: Duration = Duration::from_secs(10 * 60);

/// Dials that timed out in so many networks (/16 and /32), without a word from anywhere, make a black hole.
const BLACK_HOLE_NETWORKS: usize = 8;

/// How long a black hole counts. Then one dial is tried again.
const BLACK_HOLE_COUNTS_FOR: Duration = Duration::from_secs(10 * 60);

/// How far away an IP is, as far as routing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    Loopback,
    Local,
    Global,
}

impl Reach {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match address::ip_scope(ip) {
            IpScope::Global => Self::Global,
            IpScope::Loopback => Self::Loopback,
            _ => Self::Local,
        }
    }
}

type Pair = (IpFamily, Transport);

#[derive(Debug, Default)]
pub(crate) struct Capabilities {
    /// The operator's word. Nothing is learned beside it.
    fixed: Option<BTreeSet<Pair>>,
    listeners: Vec<Multiaddr>,
    /// What `listeners` are evidence for.
    listening: BTreeSet<(Pair, Reach)>,
    succeeded: BTreeMap<(Pair, Reach), Instant>,
    /// The latest connections that came in.
    heard: BTreeMap<(Pair, Reach), Instant>,
    silent: BTreeMap<(Pair, Reach), Silence>,
    unsupported: BTreeMap<Pair, Instant>,
}

/// Dials since the last that was answered.
#[derive(Debug)]
struct Silence {
    /// Where they went, at most [`BLACK_HOLE_NETWORKS`].
    networks: BTreeSet<Neighbourhood>,
    last: Instant,
}

impl Capabilities {
    pub(crate) fn fixed(pairs: impl IntoIterator<Item = Pair>) -> Self {
        Self {
            fixed: Some(pairs.into_iter().collect()),
            ..Self::default()
        }
    }

    pub(crate) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) => self.listener_added(new.addr),
            FromSwarm::ExpiredListenAddr(expired) => self.listener_removed(expired.addr),
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                endpoint: ConnectedPoint::Dialer { address, .. },
                ..
            }) => self.dial_succeeded(Instant::now(), address),
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                endpoint: ConnectedPoint::Listener { send_back_addr, .. },
                ..
            }) => self.heard_from(Instant::now(), send_back_addr),
            _ => {}
        }
    }

    /// A connection came in from this address.
    pub(crate) fn heard_from(&mut self, now: Instant, addr: &Multiaddr) {
        if let Some(key) = key(addr) {
            self.heard.insert(key, now);
        }
    }

    fn listener_added(&mut self, addr: &Multiaddr) {
        if !self.listeners.contains(addr) {
            self.listeners.push(addr.clone());
        }
        self.listening.extend(evidence_of_listener(addr));
    }

    fn listener_removed(&mut self, addr: &Multiaddr) {
        if let Some(at) = self.listeners.iter().position(|known| known == addr) {
            self.listeners.swap_remove(at);
        }
        self.listening = self
            .listeners
            .iter()
            .flat_map(evidence_of_listener)
            .collect();
    }

    /// An outbound connection to this address was established.
    fn dial_succeeded(&mut self, now: Instant, addr: &Multiaddr) {
        if let Some(key) = key(addr) {
            self.unsupported.remove(&key.0);
            self.succeeded.insert(key, now);
        }
    }

    /// A dial-back to this address went out, and this became of it.
    pub(crate) fn dialed(&mut self, now: Instant, addr: &Multiaddr, outcome: DialBackOutcome) {
        let (Some(key), Some(ip)) = (key(addr), address::ip(addr)) else {
            return;
        };
        match outcome {
            DialBackOutcome::DialTimedOut => {}
            DialBackOutcome::DialFailed(kind) if !is_an_answer(kind) => {}
            DialBackOutcome::NotDialed(_) | DialBackOutcome::DialGivenUp => return,
            _ => {
                self.silent.remove(&key);
                return;
            }
        }
        let silence = self.silent.entry(key).or_insert(Silence {
            networks: BTreeSet::new(),
            last: now,
        });
        silence.last = now;
        if silence.networks.len() < BLACK_HOLE_NETWORKS {
            silence.networks.insert(address::neighbourhood(ip, 16, 32));
        }
    }

    /// The transport answered `MultiaddrNotSupported` for this address. Call this only for addresses
    /// that [`policy`](super::policy) chose: any transport says so of a malformed one.
    pub(crate) fn dial_unsupported(&mut self, now: Instant, addr: &Multiaddr) {
        let Some(transport) = address::transport(addr) else {
            return;
        };
        if !is_simplest(addr, transport) {
            return;
        }
        for family in families(addr) {
            self.unsupported.insert((family, transport), now);
        }
    }

    /// Whether packets of late went there and back between this node and hosts of the address's family, transport and
    /// reach. Then this node's own way out works, as far as can be known.
    pub(crate) fn is_connected(&self, now: Instant, addr: &Multiaddr) -> bool {
        key(addr).is_some_and(|key| {
            is_fresh(now, self.succeeded.get(&key), SUCCESS_COUNTS_FOR)
                || is_fresh(now, self.heard.get(&key), SUCCESS_COUNTS_FOR)
        })
    }

    /// Whether the address can be dialed; `None` without evidence.
    pub(crate) fn judge(&self, now: Instant, addr: &Multiaddr) -> Option<bool> {
        let transport = address::transport(addr)?;
        let reach = address::ip(addr).map_or(Reach::Global, Reach::of);
        let mut judged =
            families(addr).map(|family| self.judge_pair(now, (family, transport), reach));
        let first = judged.next()?;
        // A name without a family: one of the two families is enough.
        judged.fold(first, |all, one| match (all, one) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, _) | (_, None) => None,
            (Some(false), Some(false)) => Some(false),
        })
    }

    fn judge_pair(&self, now: Instant, pair: Pair, reach: Reach) -> Option<bool> {
        if let Some(fixed) = &self.fixed {
            return Some(fixed.contains(&pair));
        }
        let fresh = |at, span| is_fresh(now, at, span);
        if fresh(self.unsupported.get(&pair), UNSUPPORTED_COUNTS_FOR) {
            return Some(false);
        }
        let key = (pair, reach);
        if fresh(self.succeeded.get(&key), SUCCESS_COUNTS_FOR) {
            return Some(true);
        }
        let black_hole = self.silent.get(&key).is_some_and(|silence| {
            silence.networks.len() >= BLACK_HOLE_NETWORKS
                && fresh(Some(&silence.last), BLACK_HOLE_COUNTS_FOR)
        });
        if black_hole && !fresh(self.heard.get(&key), SUCCESS_COUNTS_FOR) {
            return Some(false);
        }
        self.listening.contains(&key).then_some(true)
    }
}

fn is_fresh(now: Instant, at: Option<&Instant>, span: Duration) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(*at) < span)
}

/// What a connection to or from this address is evidence for.
fn key(addr: &Multiaddr) -> Option<(Pair, Reach)> {
    if address::is_relayed(addr) {
        return None;
    }
    let ip = address::ip(addr)?;
    let transport = address::transport(addr)?;
    Some(((IpFamily::of(ip), transport), Reach::of(ip)))
}

/// Whether the error shows that packets go there and back.
const fn is_an_answer(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// The families that a dial to this address may use: both, for a name that does not say.
fn families(addr: &Multiaddr) -> impl Iterator<Item = IpFamily> {
    let family = address::family(addr);
    [IpFamily::V4, IpFamily::V6]
        .into_iter()
        .filter(move |one| family.is_none_or(|family| family == *one))
}

/// Whether the address is the simplest of its transport, so that `MultiaddrNotSupported` is about the
/// transport and not about an ornament that a stranger attached to make us believe so.
fn is_simplest(addr: &Multiaddr, transport: Transport) -> bool {
    let plain = addr.iter().all(|part| match part {
        Protocol::Ws(path) | Protocol::Wss(path) => path == "/",
        Protocol::Sni(_) => false,
        _ => true,
    });
    plain && address::exact_transport(addr) == Some(transport)
}

/// An IPv4 listener on a private address reaches the Internet through its NAT; an IPv6 listener on
/// anything but a global address says nothing about the Internet.
fn evidence_of_listener(addr: &Multiaddr) -> Vec<(Pair, Reach)> {
    let (Some(ip), Some(transport), false) = (
        address::ip(addr),
        address::transport(addr),
        address::is_relayed(addr),
    ) else {
        return Vec::new();
    };
    let pair = (IpFamily::of(ip), transport);
    let reaches: &[Reach] = match (address::ip_scope(ip), ip) {
        (IpScope::Loopback, _) => &[Reach::Loopback],
        (IpScope::LinkLocal, _) => &[],
        (IpScope::Global, _) | (_, IpAddr::V4(_)) => &[Reach::Local, Reach::Global],
        (_, IpAddr::V6(_)) => &[Reach::Local],
    };
    reaches.iter().map(|reach| (pair, *reach)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().expect("a multiaddr")
    }

    fn listening_on(addrs: &[&str]) -> Capabilities {
        let mut capabilities = Capabilities::default();
        for text in addrs {
            capabilities.listener_added(&addr(text));
        }
        capabilities
    }

    #[test]
    fn nothing_is_known_without_evidence() {
        let capabilities = Capabilities::default();
        let judged = capabilities.judge(Instant::now(), &addr("/ip4/20.1.0.1/tcp/4001"));
        assert_eq!(judged, None);
    }

    #[test]
    fn a_listener_behind_a_nat_vouches_for_its_own_family_and_transport() {
        let now = Instant::now();
        let capabilities = listening_on(&["/ip4/192.168.1.2/tcp/4001"]);
        let judge = |text| capabilities.judge(now, &addr(text));
        assert_eq!(judge("/ip4/20.1.0.1/tcp/1"), Some(true));
        assert_eq!(judge("/ip4/20.1.0.1/udp/1/quic-v1"), None);
        assert_eq!(judge("/ip6/2606:4700::1/tcp/1"), None);
        assert_eq!(judge("/ip4/127.0.0.1/tcp/1"), None);
    }

    #[test]
    fn ipv6_on_loopback_or_link_local_is_no_connectivity() {
        let now = Instant::now();
        let capabilities = listening_on(&[
            "/ip6/::1/tcp/4001",
            "/ip6/fe80::1/tcp/4001",
            "/ip6/fd00::1/tcp/1",
        ]);
        assert_eq!(
            capabilities.judge(now, &addr("/ip6/2606:4700::1/tcp/1")),
            None
        );
        assert_eq!(capabilities.judge(now, &addr("/ip6/::1/tcp/1")), Some(true));
    }

    #[test]
    fn a_listener_that_is_gone_vouches_for_nothing() {
        let now = Instant::now();
        let mut capabilities =
            listening_on(&["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1"]);
        capabilities.listener_removed(&addr("/ip4/10.0.0.1/tcp/1"));
        assert_eq!(capabilities.judge(now, &addr("/ip4/20.1.0.1/tcp/1")), None);
        assert_eq!(
            capabilities.judge(now, &addr("/ip4/20.1.0.1/udp/1/quic-v1")),
            Some(true)
        );
    }

    #[test]
    fn a_success_vouches_for_an_hour() {
        let now = Instant::now();
        let mut capabilities = Capabilities::default();
        capabilities.dial_succeeded(now, &addr("/ip6/2606:4700::1/tcp/1"));
        let other = addr("/ip6/2a00::7/tcp/9");
        assert_eq!(capabilities.judge(now, &other), Some(true));
        assert_eq!(capabilities.judge(now + SUCCESS_COUNTS_FOR, &other), None);
    }

    #[test]
    fn a_connection_tells_of_the_way_out_for_an_hour_and_a_listener_never() {
        let now = Instant::now();
        let tcp = addr("/ip4/20.1.0.1/tcp/1");
        let mut capabilities = listening_on(&["/ip4/10.0.0.1/tcp/1"]);
        assert!(!capabilities.is_connected(now, &tcp));
        capabilities.dial_succeeded(now, &addr("/ip4/10.0.0.9/tcp/1"));
        assert!(!capabilities.is_connected(now, &tcp), "that was the LAN");
        capabilities.dial_succeeded(now, &addr("/ip4/20.2.0.1/tcp/1"));
        assert!(capabilities.is_connected(now, &tcp));
        assert!(!capabilities.is_connected(now + SUCCESS_COUNTS_FOR, &tcp));
    }

    #[test]
    fn a_relayed_success_vouches_for_nothing() {
        let now = Instant::now();
        let relay = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let mut capabilities = Capabilities::default();
        capabilities.dial_succeeded(
            now,
            &addr(&format!("/ip4/20.1.0.1/tcp/1/p2p/{relay}/p2p-circuit")),
        );
        assert_eq!(capabilities.judge(now, &addr("/ip4/20.1.0.2/tcp/1")), None);
    }

    #[test]
    fn not_supported_outweighs_a_listener_for_a_while_and_a_success_at_once() {
        let now = Instant::now();
        let mut capabilities = listening_on(&["/ip4/10.0.0.1/tcp/1/ws"]);
        let ws = addr("/ip4/20.1.0.1/tcp/1/ws");
        assert_eq!(capabilities.judge(now, &ws), Some(true));
        capabilities.dial_unsupported(now, &ws);
        assert_eq!(capabilities.judge(now, &ws), Some(false));
        assert_eq!(
            capabilities.judge(now + UNSUPPORTED_COUNTS_FOR, &ws),
            Some(true)
        );
        capabilities.dial_succeeded(now, &ws);
        assert_eq!(capabilities.judge(now, &ws), Some(true));
    }

    #[test]
    fn the_operators_word_is_final() {
        let now = Instant::now();
        let mut capabilities = Capabilities::fixed([(IpFamily::V4, Transport::Tcp)]);
        capabilities.listener_added(&addr("/ip4/10.0.0.1/udp/1/quic-v1"));
        capabilities.dial_unsupported(now, &addr("/ip4/20.1.0.1/tcp/1"));
        assert_eq!(
            capabilities.judge(now, &addr("/ip4/20.1.0.1/tcp/1")),
            Some(true)
        );
        assert_eq!(
            capabilities.judge(now, &addr("/ip4/20.1.0.1/udp/1/quic-v1")),
            Some(false)
        );
    }

    /// A server with a QUIC listener, after QUIC dials to so many networks timed out.
    fn in_silence(now: Instant, networks: u8) -> Capabilities {
        let mut capabilities = listening_on(&["/ip4/10.0.0.1/udp/1/quic-v1"]);
        for n in 0..networks {
            let addr = addr(&format!("/ip4/20.{n}.0.1/udp/1/quic-v1"));
            assert_eq!(capabilities.judge(now, &addr), Some(true));
            capabilities.dialed(now, &addr, DialBackOutcome::DialTimedOut);
        }
        capabilities
    }

    #[test]
    fn what_is_silent_everywhere_cannot_be_dialed() {
        let now = Instant::now();
        let quic = addr("/ip4/20.99.0.1/udp/1/quic-v1");
        let mut capabilities = in_silence(now, 8);
        assert_eq!(capabilities.judge(now, &quic), Some(false));
        // One is tried again after a while.
        let later = now + BLACK_HOLE_COUNTS_FOR;
        assert_eq!(capabilities.judge(later, &quic), Some(true));
        capabilities.dialed(later, &quic, DialBackOutcome::DialTimedOut);
        assert_eq!(capabilities.judge(later, &quic), Some(false));
        // One network alone is not everywhere.
        let mut capabilities = in_silence(now, 1);
        for n in 0..100 {
            let addr = addr(&format!("/ip4/20.0.{n}.1/udp/1/quic-v1"));
            capabilities.dialed(now, &addr, DialBackOutcome::DialTimedOut);
        }
        assert_eq!(capabilities.judge(now, &quic), Some(true));
    }

    #[test]
    fn any_sign_of_life_ends_the_silence() {
        let now = Instant::now();
        let quic = addr("/ip4/20.99.0.1/udp/1/quic-v1");
        for outcome in [
            DialBackOutcome::Delivered,
            DialBackOutcome::WrongPeer(libp2p_identity::PeerId::random()),
            DialBackOutcome::DialFailed(io::ErrorKind::ConnectionRefused),
        ] {
            let mut capabilities = in_silence(now, 8);
            capabilities.dialed(now, &quic, outcome);
            assert_eq!(capabilities.judge(now, &quic), Some(true), "{outcome:?}");
        }
        let mut capabilities = in_silence(now, 8);
        capabilities.dial_succeeded(now, &quic);
        assert_eq!(capabilities.judge(now, &quic), Some(true));
        // Whoever wants to make a server believe in a firewall must keep others from connecting to it.
        let mut capabilities = in_silence(now, 8);
        let endpoint = ConnectedPoint::Listener {
            local_addr: addr("/ip4/10.0.0.1/udp/1/quic-v1"),
            send_back_addr: quic.clone(),
        };
        capabilities.on_swarm_event(&FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: libp2p_identity::PeerId::random(),
            connection_id: libp2p_swarm::ConnectionId::new_unchecked(1),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        assert_eq!(capabilities.judge(now, &quic), Some(true));
        // And what this node did not dial says nothing.
        let mut capabilities = in_silence(now, 7);
        let not_dialed = DialBackOutcome::NotDialed(super::super::NotDialed::Denied);
        for outcome in [not_dialed, DialBackOutcome::DialGivenUp] {
            capabilities.dialed(now, &quic, outcome);
            assert_eq!(capabilities.judge(now, &quic), Some(true), "{outcome:?}");
        }
    }

    #[test]
    fn an_ornament_does_not_switch_a_transport_off() {
        let now = Instant::now();
        let hash = "uEiDikp5KVUgkLta1EjUN-IKbHk-dUBg8VzKgf5nXxLK46w";
        for (simplest, ornamented) in [
            ("/tcp/1", &["/tcp/1/certhash/HASH", "/tcp/1/sni/a.com"][..]),
            (
                "/tcp/1/ws",
                &[
                    "/tcp/1/ws/certhash/HASH",
                    "/tcp/1/certhash/HASH/ws",
                    "/tcp/1/sni/a.com/ws",
                    "/tcp/1/x-parity-ws/%2Fa",
                    "/tcp/1/ws/http-path/a",
                ],
            ),
            (
                "/tcp/1/wss",
                &[
                    "/tcp/1/wss/certhash/HASH",
                    "/tcp/1/certhash/HASH/wss",
                    "/tcp/1/tls/certhash/HASH/ws",
                    "/tcp/1/tls/sni/a.com/ws",
                    "/tcp/1/tls/ws/sni/a.com",
                    "/tcp/1/x-parity-wss/%2Fa",
                    "/tcp/1/wss/http-path/a",
                ],
            ),
            ("/udp/1/quic-v1", &["/udp/1/quic-v1/certhash/HASH"]),
            (
                "/udp/1/quic-v1/webtransport/certhash/HASH",
                &[
                    "/udp/1/quic-v1/webtransport",
                    "/udp/1/quic-v1/certhash/HASH/webtransport",
                    "/udp/1/quic-v1/webtransport/certhash/HASH/certhash/HASH/certhash/HASH",
                ],
            ),
            (
                "/udp/1/webrtc-direct/certhash/HASH",
                &[
                    "/udp/1/webrtc-direct",
                    "/udp/1/certhash/HASH/webrtc-direct",
                    "/udp/1/webrtc-direct/certhash/HASH/certhash/HASH",
                ],
            ),
        ] {
            let at =
                |ip: &str, stack: &str| addr(&format!("/ip4/{ip}{stack}").replace("HASH", hash));
            let simplest = at("20.1.0.1", simplest);
            let mut capabilities = Capabilities::default();
            capabilities.listener_added(&at(
                "10.0.0.1",
                &simplest.to_string()["/ip4/20.1.0.1".len()..],
            ));
            for text in ornamented {
                let ornamented = at("20.1.0.1", text);
                assert_eq!(
                    address::transport(&ornamented),
                    address::transport(&simplest),
                    "{text}"
                );
                capabilities.dial_unsupported(now, &ornamented);
                assert_eq!(capabilities.judge(now, &simplest), Some(true), "{text}");
            }
            capabilities.dial_unsupported(now, &simplest);
            assert_eq!(
                capabilities.judge(now, &simplest),
                Some(false),
                "{simplest}"
            );
        }
    }

    #[test]
    fn a_name_of_either_family_needs_one_of_them() {
        let now = Instant::now();
        let capabilities = listening_on(&["/ip4/10.0.0.1/tcp/1"]);
        assert_eq!(
            capabilities.judge(now, &addr("/dns/example.com/tcp/1")),
            Some(true)
        );
        assert_eq!(
            capabilities.judge(now, &addr("/dns6/example.com/tcp/1")),
            None
        );
    }
}
