//! Which address of a request is dialed, and whether the client pays dial data for it.
//!
//! Pure functions. The first address that passes every rule is the one; each address before it is
//! listed with the reason why it was passed over, which goes into the event and the log. A server that
//! dials for strangers must never reach what only it can reach: its own host, its own network, or a
//! host that a name resolves to there (AutoNAT v2 specification, "Security considerations"; rust-libp2p
//! issue 6610).

use std::net::IpAddr;

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use rand::{Rng, RngExt};

use super::host::{Host, Locality, on_one_lan};
use crate::address::{self, IpScope, PortProtocol, Transport};

mod bad_ports;

/// Why an address of a request was not dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PassedOver {
    /// The bytes are not a multiaddr that this node understands.
    Unparsable,
    /// It passes through a relay (`/p2p-circuit`).
    Relayed,
    /// It has a name in place of an IP, and names are not allowed. `/dnsaddr` never is: it
    /// may stand for any number of addresses.
    Name,
    /// It begins with neither an IP nor a name.
    NoIp,
    /// It has more than one IP or name; which one would be dialed is anybody's guess.
    SeveralIps,
    /// It names a peer that is not the client (`/p2p`).
    OtherPeer,
    /// Its IP is not public by the IANA special-purpose registries.
    NotPublic(IpScope),
    /// Its IP is in a network that the operator refuses
    /// ([`Config::with_refused_networks`](super::Config::with_refused_networks)).
    RefusedNetwork,
    /// Its port is zero, or it has none.
    NoPort,
    /// Its port belongs to another protocol, such as 25 to mail, and its IP is not the client's. The ports are the "bad
    /// ports" of the Fetch standard, which browsers refuse to connect to for a stranger's page.
    BadPort(u16),
    /// It has an HTTP path, and its IP is not the client's. A server that dials WebSockets would send a request for that
    /// path to whatever listens there.
    Path,
    /// Its IP is this host's own, as the operating system or the swarm says, and the client was not seen to have it too.
    OwnIp,
    /// Its IP is in a network that this host is on, and the client was not seen to be there too: a host of the same LAN, which
    /// strangers may not reach. That is the /64 or the IPv4 /24 of the address that this host would dial it from, or the /64 of
    /// an IPv6 address that this server listens on or has confirmed.
    OwnNetwork,
    /// The protocols are not exactly those of a known libp2p transport: something is missing, such as a certificate hash,
    /// or added where it has no meaning.
    UnknownTransport,
    /// The server has no evidence that it can dial this IP family and transport.
    CannotDial(Transport),
}

impl PassedOver {
    /// The reason in a few fixed words, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::Relayed => "relayed",
            Self::Name => "name",
            Self::NoIp => "no ip",
            Self::SeveralIps => "several ips",
            Self::OtherPeer => "other peer",
            Self::NotPublic(_) => "not public",
            Self::RefusedNetwork => "refused network",
            Self::NoPort => "no port",
            Self::BadPort(_) => "bad port",
            Self::Path => "path",
            Self::OwnIp => "own ip",
            Self::OwnNetwork => "own network",
            Self::UnknownTransport => "unknown transport",
            Self::CannotDial(_) => "cannot dial",
        }
    }
}

/// What the client is, as seen by the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) peer: PeerId,
    /// The other end of the client's connection; `None` if it is relayed or has no IP.
    pub(crate) ip: Option<IpAddr>,
}

impl Client {
    /// Whether the client is on one LAN with this IP, as far as can be known.
    fn is_beside(&self, ip: IpAddr) -> bool {
        self.ip.is_some_and(|its| on_one_lan(its, ip))
    }
}

/// The part of the configuration that bears on the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) private_addresses: bool,
    pub(crate) names: bool,
    pub(crate) max_addresses: usize,
    /// Networks that are not dialed, with the length of their prefix.
    pub(crate) refused: Vec<(IpAddr, u8)>,
}

impl Rules {
    /// Also if the IP leads into the network by way of NAT64, 6to4 or Teredo.
    fn refuse(&self, ip: IpAddr) -> bool {
        self.refused.iter().any(|(network, prefix)| {
            let of = |ip| match network {
                IpAddr::V4(_) => address::neighbourhood(ip, *prefix, 128),
                IpAddr::V6(_) => address::neighbourhood(ip, 32, *prefix),
            };
            of(ip) == of(*network) || starts_with(ip, *network, *prefix)
        })
    }
}

/// Whether the two are the same in so many bits, whatever they stand for.
fn starts_with(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let differ = |differing: u128, width: u32| {
        differing
            .checked_shr(width.saturating_sub(prefix.into()))
            .is_some_and(|differing| differing != 0)
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            !differ((ip.to_bits() ^ network.to_bits()).into(), u32::BITS)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            !differ(ip.to_bits() ^ network.to_bits(), u128::BITS)
        }
        _ => false,
    }
}

/// The address to test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Position in the request, with addresses that did not parse counted.
    pub(crate) index: u32,
    pub(crate) addr: Multiaddr,
    /// What will be dialed; `None` for a name.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) is_udp: bool,
    /// Whether the client was seen to have this IP. If not, it pays with dial data.
    pub(crate) is_client_ip: bool,
}

/// The outcome of the choice. `passed_over` has at most as many entries as may be inspected.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) chosen: Option<Chosen>,
    pub(crate) passed_over: Vec<(u32, PassedOver)>,
}

/// Takes the first address that passes (AutoNAT v2 specification, "the first address in the list that
/// it is willing and able to dial").
pub(crate) fn choose(
    addrs: &[Option<Multiaddr>],
    client: Client,
    rules: &Rules,
    host: &impl Host,
) -> Selection {
    let mut selection = Selection::default();
    for (index, addr) in (0u32..).zip(addrs.iter().take(rules.max_addresses)) {
        match inspect(addr.as_ref(), client, rules, host) {
            Ok((addr, ip)) => {
                selection.chosen = Some(Chosen {
                    index,
                    addr: addr.clone(),
                    ip,
                    is_udp: matches!(address::port(addr), Some((PortProtocol::Udp, _))),
                    is_client_ip: ip.is_some() && ip == client.ip,
                });
                break;
            }
            Err(reason) => selection.passed_over.push((index, reason)),
        }
    }
    selection
}

/// How much dial data to ask for, in bytes: 30,000 to 100,000 inclusive, so that the cost of making a
/// server dial exceeds what the target sees of it ("Amplification attack prevention").
pub(crate) fn dial_data_bytes(rng: &mut impl Rng) -> u64 {
    rng.random_range(30_000..=100_000)
}

fn inspect<'a>(
    addr: Option<&'a Multiaddr>,
    client: Client,
    rules: &Rules,
    host: &impl Host,
) -> Result<(&'a Multiaddr, Option<IpAddr>), PassedOver> {
    let addr = addr.ok_or(PassedOver::Unparsable)?;
    if address::is_relayed(addr) {
        return Err(PassedOver::Relayed);
    }
    if address::names_other_peer(addr, &client.peer) {
        return Err(PassedOver::OtherPeer);
    }
    let ip = one_ip(addr, rules)?;
    if let Some(ip) = ip {
        let scope = address::ip_scope(ip);
        if !may_be_dialed(scope, rules.private_addresses) {
            return Err(PassedOver::NotPublic(scope));
        }
        if rules.refuse(ip) {
            return Err(PassedOver::RefusedNetwork);
        }
        if client.ip != Some(ip) {
            match locality(ip, host) {
                Locality::ThisHost => return Err(PassedOver::OwnIp),
                // Who allows private addresses opens the LAN, but not by way of public ones.
                Locality::Lan if scope.is_global() && !client.is_beside(ip) => {
                    return Err(PassedOver::OwnNetwork);
                }
                _ => {}
            }
        }
    }
    let port = match address::port(addr) {
        None | Some((_, 0)) => return Err(PassedOver::NoPort),
        Some((_, port)) => port,
    };
    if ip.is_none() || ip != client.ip {
        if bad_ports::contains(port) {
            return Err(PassedOver::BadPort(port));
        }
        if has_path(addr) {
            return Err(PassedOver::Path);
        }
    }
    let transport = address::exact_transport(addr).ok_or(PassedOver::UnknownTransport)?;
    if !host.can_dial(addr) {
        return Err(PassedOver::CannotDial(transport));
    }
    Ok((addr, ip))
}

/// Where the IP is, or the one that it leads to by way of NAT64, 6to4 or Teredo.
fn locality(ip: IpAddr, host: &impl Host) -> Locality {
    let leads_to = address::host_of(ip);
    let own = host.locality(ip);
    if leads_to == ip {
        return own;
    }
    own.max(host.locality(leads_to))
}

/// The one IP of the address, in its IPv4 form if it is an IPv4-mapped one; `None` for a name that is
/// allowed.
fn one_ip(addr: &Multiaddr, rules: &Rules) -> Result<Option<IpAddr>, PassedOver> {
    let hosts = addr
        .iter()
        .filter(|part| {
            matches!(
                part,
                Protocol::Ip4(_)
                    | Protocol::Ip6(_)
                    | Protocol::Dns(_)
                    | Protocol::Dns4(_)
                    | Protocol::Dns6(_)
                    | Protocol::Dnsaddr(_)
            )
        })
        .count();
    if hosts > 1 {
        return Err(PassedOver::SeveralIps);
    }
    match address::ip(addr) {
        Some(ip) => Ok(Some(ip)),
        None if !address::is_name(addr) => Err(PassedOver::NoIp),
        None if !rules.names => Err(PassedOver::Name),
        None => match addr.iter().next() {
            Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => Ok(None),
            Some(Protocol::Dnsaddr(_)) => Err(PassedOver::Name),
            _ => Err(PassedOver::NoIp),
        },
    }
}

fn has_path(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| match part {
        Protocol::Ws(path) | Protocol::Wss(path) => path != "/",
        other => other.tag() == address::HTTP_PATH,
    })
}

/// With private addresses allowed, everything that is one host on a network of one's own or in a
/// laboratory. Never what stands for no host or for many.
const fn may_be_dialed(scope: IpScope, private_addresses: bool) -> bool {
    match scope {
        IpScope::Global => true,
        IpScope::Private
        | IpScope::Loopback
        | IpScope::LinkLocal
        | IpScope::UniqueLocal
        | IpScope::Shared
        | IpScope::Benchmarking
        | IpScope::Documentation => private_addresses,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
