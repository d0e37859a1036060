//! The command line: what can be asked for, and what to say about each mistake.

use std::{net::IpAddr, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_autonat_v2::address::{self, Transport};

const EXIT_CODES: &str = "\
Exit codes:
  0  reachable: strangers can reach this machine on one address at least
  1  not reachable on any address
  2  a mistake on the command line
  3  undecided: the time was over, it was interrupted, or there was nothing to test
  4  no server answered that speaks AutoNAT v2
  5  this machine could not listen, or another failure here

The result goes to standard output, progress to standard error. RUST_LOG=libp2p_autonat_v2=debug shows more.

Examples:
  check /dns4/one.example.org/udp/4001/quic-v1
  check --port 4001 --port 4002 --json /dns4/one.example.org/tcp/4001 /dns4/two.example.org/tcp/4001
  check --allow-private --bind 127.0.0.1 --port 0 /ip4/127.0.0.1/tcp/4001";

/// Tells whether strangers can reach this machine, on which addresses, and what to do if not.
///
/// Listens on the given ports, asks AutoNAT v2 servers to dial back, and weighs what they find. Give at least two servers
/// on different hosts if you can: one alone cannot show how the NAT maps ports. Stop the program that usually listens on the port
/// while you check.
#[derive(Debug, Parser)]
#[command(name = "check", after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Servers to ask, as multiaddrs, with or without /p2p/PEER at the end
    #[arg(value_name = "SERVER", required = true, value_parser = multiaddr)]
    pub(crate) servers: Vec<Multiaddr>,

    /// Listen on this port over TCP and over QUIC; 0 lets the system choose [default: 4001, if no other port is given]
    #[arg(short, long, value_name = "PORT")]
    port: Vec<u16>,

    /// Listen on this TCP port only
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,

    /// Listen on this UDP port only, over QUIC
    #[arg(long, value_name = "PORT")]
    quic: Vec<u16>,

    /// Listen on this IP of the machine [default: all, IPv4 and IPv6]
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Vec<IpAddr>,

    /// Have this address tested too: one that a router maps to this machine
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddr)]
    pub(crate) external: Vec<Multiaddr>,

    /// Ask private servers and test private addresses too, for a check inside of a private network
    #[arg(long)]
    pub(crate) allow_private: bool,

    /// Give up after this many seconds, from 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Say nothing while at work
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Args {
    /// Parses the command line; on a mistake it explains and exits with 2.
    pub(crate) fn read() -> Self {
        let args = Self::parse();
        if let Err(mistake) = args.check() {
            Self::command()
                .error(ErrorKind::ValueValidation, mistake)
                .exit();
        }
        args
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The TCP ports and the UDP ports to listen on.
    pub(crate) fn ports(&self) -> (Vec<u16>, Vec<u16>) {
        if self.port.is_empty() && self.tcp.is_empty() && self.quic.is_empty() {
            return (vec![4001], vec![4001]);
        }
        let with = |more: &[u16]| {
            let mut ports: Vec<u16> = Vec::new();
            for port in self.port.iter().chain(more) {
                if *port == 0 || !ports.contains(port) {
                    ports.push(*port);
                }
            }
            ports
        };
        (with(&self.tcp), with(&self.quic))
    }

    /// What no single argument shows.
    fn check(&self) -> Result<(), String> {
        if let Some(addr) = self.external.iter().find(|a| address::peer_id(a).is_some()) {
            return Err(format!(
                "--external {addr} names a peer, but this program has another peer ID each time. Leave /p2p and what follows away"
            ));
        }
        if self.allow_private {
            return Ok(());
        }
        for addr in &self.servers {
            if address::ip(addr).is_some() && !address::is_public(addr) {
                return Err(format!(
                    "{addr} is not a public address: a server there can't tell whether strangers reach this machine. To \
                     check inside of a private network, add --allow-private"
                ));
            }
        }
        for addr in &self.external {
            if address::ip(addr).is_some() && !address::is_public(addr) {
                return Err(format!(
                    "--external {addr} is not a public address. To have it tested by a server in the same network, add \
                     --allow-private"
                ));
            }
        }
        Ok(())
    }
}

const LIKE: &str = "One looks like /ip4/203.0.113.7/tcp/4001 or /dns4/example.org/udp/4001/quic-v1";

/// A multiaddr that TCP or QUIC can dial.
fn multiaddr(text: &str) -> Result<Multiaddr, String> {
    let addr: Multiaddr = text.parse().map_err(|_| not_a_multiaddr(text))?;
    let is_nameless = |part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.is_empty(),
        _ => false,
    };
    if addr.iter().any(is_nameless) {
        return Err("the name in it is empty. Write /dns4/NAME/tcp/PORT".into());
    }
    if address::is_relayed(&addr) {
        return Err("it leads through a relay, so it says nothing about who can reach whom. Give a direct address".into());
    }
    if matches!(addr.iter().next(), Some(Protocol::Dnsaddr(_))) {
        return Err(
            "/dnsaddr is not looked up here. Print what it stands for with `dig +short TXT _dnsaddr.NAME`, and give one of \
             those"
                .into(),
        );
    }
    let other = match address::transport(&addr) {
        Some(Transport::Tcp | Transport::Quic) => None,
        Some(Transport::QuicDraft29) => {
            return Err("/quic is the draft that nobody speaks any more. Write /quic-v1".into());
        }
        Some(Transport::WebSocket) => Some("WebSocket"),
        Some(Transport::SecureWebSocket) => Some("secure WebSocket"),
        Some(Transport::WebTransport) => Some("WebTransport"),
        Some(Transport::WebRtcDirect) => Some("WebRTC"),
        _ => return Err(no_transport(&addr)),
    };
    if let Some(other) = other {
        return Err(format!(
            "{other} is not spoken here. Give a TCP or a QUIC address of it"
        ));
    }
    if matches!(address::port(&addr), Some((_, 0))) {
        return Err(
            "port 0 can't be dialed. Give the port that the program really listens on".into(),
        );
    }
    if address::ip(&addr).is_some_and(|ip| ip.is_unspecified()) {
        return Err(
            "that is an address to listen on, not one to dial. Give the IP of the machine".into(),
        );
    }
    Ok(addr)
}

/// What an address lacks that is neither TCP nor QUIC.
fn no_transport(addr: &Multiaddr) -> String {
    let mut peer = String::new();
    let mut parts = Vec::new();
    for part in addr.iter() {
        match part {
            Protocol::P2p(_) => peer = part.to_string(),
            part => parts.push(part),
        }
    }
    let is_host = |part: &Protocol<'_>| {
        use Protocol::{Dns, Dns4, Dns6, Ip4, Ip6};
        matches!(part, Ip4(_) | Ip6(_) | Dns(_) | Dns4(_) | Dns6(_))
    };
    match parts.as_slice() {
        [] if peer.is_empty() => format!("it is empty. {LIKE}"),
        [] => "that is a peer ID alone. Say where the peer is: /ip4/IP/tcp/PORT/p2p/PEER".into(),
        [host] if is_host(host) => {
            format!("it lacks the port. Did you mean {host}/tcp/4001{peer}?")
        }
        [host, udp @ Protocol::Udp(_)] if is_host(host) => {
            format!("it lacks the transport. Did you mean {host}{udp}/quic-v1{peer}?")
        }
        _ => "it is neither a TCP nor a QUIC address, and no other is spoken here".into(),
    }
}

/// What somebody may have meant who wrote no multiaddr.
fn not_a_multiaddr(text: &str) -> String {
    if text.starts_with('/') {
        return fault(text);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        let ip = Multiaddr::from(socket.ip());
        let port = socket.port();
        return format!(
            "not a multiaddr. Did you mean {ip}/tcp/{port} or {ip}/udp/{port}/quic-v1?"
        );
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let ip = Multiaddr::from(ip);
        return format!(
            "an IP, not a multiaddr. Did you mean {ip}/tcp/4001 or {ip}/udp/4001/quic-v1?"
        );
    }
    if text.parse::<PeerId>().is_ok() {
        return format!(
            "a peer ID, not a multiaddr. Say where the peer is: /ip4/IP/tcp/PORT/p2p/{text}"
        );
    }
    if text.contains("://") {
        return "a URL, not a multiaddr. Did you mean /dns4/NAME/tcp/PORT?".into();
    }
    if format!("/{text}").parse::<Multiaddr>().is_ok() {
        return format!("a multiaddr starts with a slash. Did you mean /{text}?");
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && is_name(name)
    {
        return format!("not a multiaddr. Did you mean /dns4/{name}/tcp/{port}?");
    }
    // The host as it is written elsewhere, and perhaps what follows it in a multiaddr.
    let (host, rest) = text.split_once('/').unwrap_or((text, "tcp/4001"));
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => Some(Multiaddr::from(ip).to_string()),
        Err(_) => (is_name(host) && host.contains('.')).then(|| format!("/dns4/{host}")),
    };
    if let Some(host) = host
        && format!("/{rest}").parse::<Multiaddr>().is_ok()
    {
        return format!("not a multiaddr. Did you mean {host}/{rest}?");
    }
    format!("not a multiaddr. {LIKE}")
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.chars().all(is_part)
}

/// The part of `text` that makes it no multiaddr.
fn fault(text: &str) -> String {
    let mut parts = text.split('/').skip(1);
    loop {
        let mut ahead = parts.clone();
        let name = match ahead.next() {
            None => return "not a multiaddr".into(),
            Some("") if ahead.next().is_none() => {
                return "there is a slash too many at its end".into();
            }
            Some("") => return "there are two slashes in a row in it".into(),
            Some(name) => name,
        };
        let value = ahead.next();
        if Protocol::from_str_parts(&mut parts).is_ok() {
            continue;
        }
        return match (name, value) {
            ("ip4", Some(value)) => format!("\"{value}\" is not an IPv4 address"),
            ("ip6", Some(value)) => format!("\"{value}\" is not an IPv6 address"),
            ("tcp" | "udp", Some(value)) => format!("\"{value}\" is not a port"),
            ("p2p" | "ipfs", Some(value)) => format!("\"{value}\" is not a peer ID"),
            (name, None) if is_protocol(name) => format!("/{name} lacks what belongs behind it"),
            (name, Some(value)) if is_protocol(name) => {
                format!("\"{value}\" does not belong behind /{name}")
            }
            _ => format!("/{name} is not a part of multiaddrs"),
        };
    }
}

fn is_protocol(name: &str) -> bool {
    use libp2p::multiaddr::Error::UnknownProtocolString;
    let alone = Protocol::from_str_parts(std::iter::once(name));
    !matches!(alone, Err(UnknownProtocolString(_)))
}
