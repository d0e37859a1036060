//! Multiaddrs on the command line, and what to say about text that is none: what was meant, if that can be told.
//!
//! What is suggested is never turned down when it is given.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_autonat_v2::address::{self, Transport};

// Of names: an IP that stands in documentation is no public address, and would be turned down.
const LIKE: &str =
    "One looks like /dns4/example.org/tcp/4001 or /dns4/example.org/udp/4001/quic-v1";

/// A server: a multiaddr that TCP or QUIC can dial, or a `/dnsaddr` that stands for some.
pub(super) fn server(text: &str) -> Result<Multiaddr, String> {
    if let Ok(addr) = text.parse::<Multiaddr>() {
        let mut parts = addr.iter();
        if let Some(Protocol::Dnsaddr(name)) = parts.next() {
            return match (parts.next(), parts.next()) {
                _ if name.is_empty() => Err("the name in it is empty. Write /dnsaddr/NAME".into()),
                (None | Some(Protocol::P2p(_)), None) => Ok(addr),
                _ => Err("nothing but /p2p/PEER can follow /dnsaddr/NAME".into()),
            };
        }
    }
    direct(text)
}

/// A multiaddr that TCP or QUIC can dial.
pub(super) fn direct(text: &str) -> Result<Multiaddr, String> {
    let addr: Multiaddr = text.parse().map_err(|_| not_a_multiaddr(text))?;
    fault_of(&addr).map_or(Ok(addr), Err)
}

/// Why TCP and QUIC can't dial it.
pub(super) fn fault_of(addr: &Multiaddr) -> Option<String> {
    let is_nameless = |part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.is_empty(),
        _ => false,
    };
    if addr.iter().any(is_nameless) {
        return Some("the name in it is empty. Write /dns4/NAME/tcp/PORT".into());
    }
    if address::is_relayed(addr) {
        return Some("it leads through a relay, so it says nothing about who can reach whom. Give a direct address".into());
    }
    if matches!(addr.iter().next(), Some(Protocol::Dnsaddr(_))) {
        return Some("/dnsaddr stands for any number of addresses. Give one of them".into());
    }
    let other = match address::transport(addr) {
        Some(Transport::Tcp | Transport::Quic) => None,
        Some(Transport::QuicDraft29) => {
            return Some("/quic is the draft that nobody speaks any more. Write /quic-v1".into());
        }
        Some(Transport::WebSocket) => Some("WebSocket"),
        Some(Transport::SecureWebSocket) => Some("secure WebSocket"),
        Some(Transport::WebTransport) => Some("WebTransport"),
        Some(Transport::WebRtcDirect) => Some("WebRTC"),
        _ => return Some(no_transport(addr)),
    };
    if let Some(other) = other {
        return Some(format!(
            "{other} is not spoken here. Give a TCP or a QUIC address of it"
        ));
    }
    if matches!(address::port(addr), Some((_, 0))) {
        return Some(
            "port 0 can't be dialed. Give the port that the program really listens on".into(),
        );
    }
    if address::ip(addr).is_some_and(|ip| ip.is_unspecified()) {
        return Some(
            "that is an address to listen on, not one to dial. Give the IP of the machine".into(),
        );
    }
    None
}

/// Suggests what was meant: those of `meant` that would be taken, or what is wrong with them.
fn suggest(mistake: &str, meant: &[String]) -> String {
    let mut fault = None;
    let mut good = Vec::new();
    let mut needs_private = false;
    for text in meant {
        match direct(text) {
            Ok(addr) => {
                needs_private |= address::ip(&addr).is_some() && !address::is_public(&addr);
                good.push(text.as_str());
            }
            Err(why) => fault = Some(why),
        }
    }
    match fault {
        Some(why) if good.is_empty() => format!("{mistake}, and as one, {why}"),
        _ => {
            let private = if needs_private {
                " with --allow-private"
            } else {
                ""
            };
            format!("{mistake}. Did you mean {}{private}?", good.join(" or "))
        }
    }
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
            suggest("it lacks the port", &[format!("{host}/tcp/4001{peer}")])
        }
        [host, udp @ Protocol::Udp(_)] if is_host(host) => suggest(
            "it lacks the transport",
            &[format!("{host}{udp}/quic-v1{peer}")],
        ),
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
        let meant = [
            format!("{ip}/tcp/{port}"),
            format!("{ip}/udp/{port}/quic-v1"),
        ];
        return suggest("not a multiaddr", &meant);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let ip = Multiaddr::from(ip);
        let meant = [format!("{ip}/tcp/4001"), format!("{ip}/udp/4001/quic-v1")];
        return suggest("an IP, not a multiaddr", &meant);
    }
    if text.parse::<PeerId>().is_ok() {
        return format!(
            "a peer ID, not a multiaddr. Say where the peer is: /ip4/IP/tcp/PORT/p2p/{text}"
        );
    }
    if text.contains("://") {
        return url(text);
    }
    if format!("/{text}").parse::<Multiaddr>().is_ok() {
        return suggest("a multiaddr starts with a slash", &[format!("/{text}")]);
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
        && is_name(name)
    {
        return suggest("not a multiaddr", &[format!("/dns4/{name}/tcp/{port}")]);
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
        return suggest("not a multiaddr", &[format!("{host}/{rest}")]);
    }
    format!("not a multiaddr. {LIKE}")
}

/// What a URL's host is as a multiaddr.
fn url(text: &str) -> String {
    let (_, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port),
        _ => (host, "4001"),
    };
    let ip = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let host = match ip {
        Ok(ip) => Multiaddr::from(ip).to_string(),
        Err(_) if is_name(name) => format!("/dns4/{name}"),
        Err(_) => return format!("a URL, not a multiaddr. {LIKE}"),
    };
    suggest("a URL, not a multiaddr", &[format!("{host}/tcp/{port}")])
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

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    /// What a message holds that looks like an address, and is not a template.
    fn addresses(text: &str) -> Vec<&str> {
        let words = text.split_whitespace();
        words
            .filter(|word| word.starts_with('/') && word.len() > 12)
            .map(|word| word.trim_end_matches(['?', '.', ',']))
            .filter(|word| !word.contains("NAME") && !word.contains("PORT"))
            .collect()
    }

    #[test]
    fn what_a_mistake_is_answered_with_is_taken_when_it_is_given() {
        let hosts = [
            "8.8.8.8",
            "0.0.0.0",
            "10.0.0.1",
            "2001:4860::1",
            "::",
            "[::1]",
            "example.org",
            "localhost",
            "a b",
            "",
        ];
        let ports = [
            "",
            ":0",
            ":4001",
            ":65535",
            ":70000",
            "/tcp/0",
            "/tcp/1",
            "/udp/1",
            "/udp/0",
            "/ws",
            "/tcp/1/ws",
        ];
        let mut suggested = 0;
        for host in hosts {
            for port in ports {
                let peer = format!("/p2p/{PEER}");
                for (head, tail) in [
                    ("", ""),
                    ("https://", ""),
                    ("/ip4/", ""),
                    ("/ip6/", ""),
                    ("/dns4/", peer.as_str()),
                    ("ip4/", ""),
                ] {
                    let text = format!("{head}{host}{port}{tail}");
                    let Err(mistake) = server(&text) else {
                        continue;
                    };
                    for addr in addresses(&mistake) {
                        suggested += 1;
                        let addr = server(addr)
                            .unwrap_or_else(|why| panic!("{text}: {mistake}: {addr}: {why}"));
                        let is_private = address::ip(&addr).is_some() && !address::is_public(&addr);
                        assert_eq!(
                            is_private,
                            mistake.contains("--allow-private"),
                            "{text}: {mistake}"
                        );
                    }
                }
            }
        }
        assert!(suggested > 100, "{suggested} suggestions");
    }

    #[test]
    fn a_dnsaddr_is_a_server_and_no_address() {
        for text in [
            "/dnsaddr/example.org",
            &format!("/dnsaddr/example.org/p2p/{PEER}"),
        ] {
            assert!(server(text).is_ok(), "{text}");
            assert!(direct(text).is_err(), "{text}");
        }
        for text in ["/dnsaddr/", "/dnsaddr/example.org/tcp/1"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
