//! The command line: what can be asked for, and what to say about each mistake.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{Args as ClapArgs, Command, error::ErrorKind};
use libp2p::Multiaddr;
use libp2p_autonat_v2::address;

use super::multiaddr;

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
  autonat check /dns4/one.example.org/udp/4001/quic-v1
  autonat check --port 4001 --port 4002 --json /dns4/one.example.org/tcp/4001 /dns4/two.example.org/tcp/4001
  autonat check --allow-private --bind 127.0.0.1 --port 0 /ip4/127.0.0.1/tcp/4001";

/// Tell whether strangers can reach this machine, on which addresses, and what to do if not
///
/// Listens on the given ports, asks AutoNAT v2 servers to dial back, and weighs what they find. Give at least two servers
/// on different hosts if you can: one alone cannot show how the NAT maps ports. Stop the program that usually listens on the port
/// while you check.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Servers to ask, as multiaddrs, with or without /p2p/PEER at the end. A /dnsaddr stands for those that it lists
    #[arg(value_name = "SERVER", required = true, value_parser = multiaddr::server)]
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
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddr::direct)]
    pub(crate) external: Vec<Multiaddr>,

    /// Ask private servers and test private addresses too, for a check inside of a private network
    #[arg(long)]
    pub(crate) allow_private: bool,

    /// Ask this DNS server what a /dnsaddr stands for [default: those of the system]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) dns: Option<SocketAddr>,

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
    pub(crate) fn check(&self) -> Result<(), Mistake> {
        if let Some(addr) = self.external.iter().find(|a| address::peer_id(a).is_some()) {
            return Err(Mistake(format!(
                "--external {addr} names a peer, but this program has another peer ID each time. Leave /p2p and what follows away"
            )));
        }
        if self.allow_private {
            return Ok(());
        }
        for addr in &self.servers {
            if address::ip(addr).is_some() && !address::is_public(addr) {
                return Err(Mistake(format!(
                    "{addr} is not a public address: a server there can't tell whether strangers reach this machine. To \
                     check inside of a private network, add --allow-private"
                )));
            }
        }
        for addr in &self.external {
            if address::ip(addr).is_some() && !address::is_public(addr) {
                return Err(Mistake(format!(
                    "--external {addr} is not a public address. To have it tested by a server in the same network, add \
                     --allow-private"
                )));
            }
        }
        Ok(())
    }
}

/// A mistake of arguments that are right each by itself.
pub(crate) struct Mistake(String);

impl Mistake {
    /// Tells of it as of the others, and ends the program.
    pub(crate) fn exit(self, mut command: Command) -> ! {
        command.error(ErrorKind::ValueValidation, self.0).exit()
    }
}
