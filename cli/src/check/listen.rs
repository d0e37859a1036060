//! The ports that are checked: opened here, unless another program has them.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
};

use libp2p::{
    Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::NetworkBehaviour,
};

use super::{Args, report::Failure};
use crate::transport::why;

/// Listens on all that was asked for.
pub(super) fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    args: &Args,
) -> Result<HashSet<ListenerId>, Failure> {
    let all = [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ];
    let ips = match args.bind.is_empty() {
        true => &all[..],
        false => &args.bind,
    };
    let (tcp, quic) = args.ports();
    let mut addrs = Vec::new();
    for ip in ips {
        let mut has_ip = true;
        for port in &tcp {
            let bound = TcpListener::bind((*ip, *port)).map(drop);
            has_ip &= is_free(bound, *ip, "TCP", *port, args)?;
            addrs.extend(has_ip.then(|| Multiaddr::from(*ip).with(Protocol::Tcp(*port))));
        }
        for port in &quic {
            let bound = UdpSocket::bind((*ip, *port)).map(drop);
            has_ip &= is_free(bound, *ip, "UDP", *port, args)?;
            let addr = Multiaddr::from(*ip).with(Protocol::Udp(*port));
            addrs.extend(has_ip.then(|| addr.with(Protocol::QuicV1)));
        }
    }
    let mut listeners = HashSet::new();
    for addr in addrs {
        let listening = swarm.listen_on(addr.clone());
        listeners.insert(
            listening.map_err(|error| {
                Failure::new(format!("can't listen on {addr}: {}", why(&error)))
            })?,
        );
    }
    Ok(listeners)
}

/// Whether the port could be bound. libp2p shares its TCP ports, so it would listen beside another program that does so
/// too, and get only some of the dial-backs.
fn is_free(
    bound: io::Result<()>,
    ip: IpAddr,
    kind: &str,
    port: u16,
    args: &Args,
) -> Result<bool, Failure> {
    let Err(error) = bound else { return Ok(true) };
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "can't listen on {kind} port {port}: another program does. Stop it while you check, or give another port with \
             --port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "can't listen on {kind} port {port}: not allowed. Ports under 1024 need privileges; give another with --port"
        ),
        // Not every machine has IPv6.
        _ if args.bind.is_empty() && ip.is_ipv6() => return Ok(false),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "can't listen on {ip}: this machine does not have that IP. Give one that it has with --bind"
            )
        }
        _ => format!("can't listen on {kind} port {port} of {ip}: {error}"),
    };
    Err(Failure::new(why))
}
