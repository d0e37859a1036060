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
  3  undecided: the time was over, or there was nothing to test
  4  no server answered that speaks AutoNAT v2
  5  this machine could not listen, or another failure here

The result goes to standard output, progress to standard error. RUST_LOG=libp2p_autonat_v2=debug shows more.

Examples:
  check /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3KooW...
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

/// A multiaddr that TCP or QUIC can dial.
fn multiaddr(text: &str) -> Result<Multiaddr, String> {
    let addr: Multiaddr = text.parse().map_err(|_| not_a_multiaddr(text))?;
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
    match address::transport(&addr) {
        Some(Transport::Tcp | Transport::Quic) => {}
        Some(Transport::QuicDraft29) => {
            return Err("/quic is the draft that nobody speaks any more. Write /quic-v1".into());
        }
        Some(Transport::Other) => return Err(no_transport(&addr)),
        Some(other) => {
            return Err(format!(
                "{other:?} is not spoken here. Give a TCP or a QUIC address of it"
            ));
        }
        None => return Err(no_transport(&addr)),
    }
    let port = addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    });
    if port == Some(0) {
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

fn no_transport(addr: &Multiaddr) -> String {
    let has_udp = addr.iter().any(|part| matches!(part, Protocol::Udp(_)));
    let bare = addr.iter().find(|part| !matches!(part, Protocol::P2p(_)));
    match bare {
        None => "that is a peer ID alone. Say where the peer is: /ip4/IP/tcp/PORT/p2p/PEER".into(),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) if has_udp && addr.iter().count() == 2 => {
            format!("it lacks the transport. Did you mean {addr}/quic-v1?")
        }
        Some(_) if addr.iter().count() > 1 => {
            "it is neither a TCP nor a QUIC address, and no other is spoken here".into()
        }
        Some(bare) => format!("it lacks the port. Did you mean {bare}/tcp/4001?"),
    }
}

/// What somebody may have meant who wrote no multiaddr.
fn not_a_multiaddr(text: &str) -> String {
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        let ip = ip_part(socket.ip());
        let port = socket.port();
        return format!(
            "not a multiaddr. Did you mean {ip}/tcp/{port} or {ip}/udp/{port}/quic-v1?"
        );
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let ip = ip_part(ip);
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
    if !text.starts_with('/') && format!("/{text}").parse::<Multiaddr>().is_ok() {
        return format!("a multiaddr starts with a slash. Did you mean /{text}?");
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && !name.contains(['/', ':'])
    {
        return format!("not a multiaddr. Did you mean /dns4/{name}/tcp/{port}?");
    }
    "not a multiaddr. One looks like /ip4/203.0.113.7/tcp/4001 or /dns4/example.org/udp/4001/quic-v1".into()
}

fn ip_part(ip: IpAddr) -> Protocol<'static> {
    match ip {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    }
}
