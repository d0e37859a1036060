//! What the names of servers stand for: an IP each, or a list of addresses behind a `/dnsaddr`.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::address;

use super::multiaddr;

/// For all that one argument stands for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever owns a name decides how much it stands for: so many lists are read, one inside of the other to this depth,
const MAX_LISTS: usize = 8;
const MAX_DEPTH: usize = 3;
/// and so many of their addresses are asked.
const MAX_ADDRESSES: usize = 8;

/// How names are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup {
    /// Whom to ask about a `/dnsaddr`; `None` for those that the system asks.
    pub(super) dns: Option<SocketAddr>,
    pub(super) allow_private: bool,
}

impl Lookup {
    /// What to dial for `addr`: one address at least.
    pub(super) async fn look_up(self, addr: Multiaddr) -> Result<Vec<Multiaddr>, String> {
        match addr.iter().next() {
            Some(Protocol::Dnsaddr(_)) => {
                let listed = tokio::time::timeout(PATIENCE, self.list(&addr)).await;
                listed.unwrap_or_else(|_| Err(format!("can't look up {addr}: it takes too long")))
            }
            _ => Ok(vec![resolve(&addr).await?]),
        }
    }

    async fn list(self, addr: &Multiaddr) -> Result<Vec<Multiaddr>, String> {
        let resolver = self.resolver()?;
        let mut open = VecDeque::from([(addr.clone(), 0)]);
        let mut lists = 0;
        let mut ways = BTreeSet::new();
        let mut found = Vec::new();
        while let Some((list, depth)) = open.pop_front() {
            let Some(Protocol::Dnsaddr(name)) = list.iter().next() else {
                continue;
            };
            if lists == MAX_LISTS || found.len() == MAX_ADDRESSES {
                break;
            }
            lists += 1;
            let entries = match texts(&resolver, &name).await {
                Err(why) if depth == 0 => return Err(why),
                entries => entries.unwrap_or_default(),
            };
            let wanted = address::peer_id(&list);
            let entries = entries
                .iter()
                .filter_map(|entry| entry.parse::<Multiaddr>().ok());
            for entry in
                entries.filter(|entry| wanted.is_none() || address::peer_id(entry) == wanted)
            {
                if matches!(entry.iter().next(), Some(Protocol::Dnsaddr(_))) {
                    if depth < MAX_DEPTH {
                        open.push_back((entry, depth + 1));
                    }
                } else if self.may_ask(&entry) && found.len() < MAX_ADDRESSES {
                    // A second address of the same kind would say the same.
                    let kind = (address::transport(&entry), address::family(&entry));
                    if ways.insert((address::peer_id(&entry), format!("{kind:?}"))) {
                        found.push(entry);
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(format!(
                "{addr} lists no address that can be asked over TCP or QUIC"
            ));
        }
        let mut addrs = Vec::new();
        for addr in found {
            // One of several names that leads nowhere is no loss.
            addrs.extend(resolve(&addr).await.ok());
        }
        match addrs.is_empty() {
            true => Err(format!("none of the names that {addr} lists has an IP")),
            false => Ok(addrs),
        }
    }

    fn may_ask(self, addr: &Multiaddr) -> bool {
        let is_allowed =
            self.allow_private || address::ip(addr).is_none() || address::is_public(addr);
        is_allowed && multiaddr::fault_of(addr).is_none()
    }

    fn resolver(self) -> Result<TokioResolver, String> {
        let builder = match self.dns {
            Some(at) => {
                let mut connection = ConnectionConfig::udp();
                connection.port = at.port();
                let server = NameServerConfig::new(at.ip(), true, vec![connection]);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Ok(TokioResolver::builder_with_config(
                    config,
                    TokioRuntimeProvider::default(),
                ))
            }
            None => TokioResolver::builder_tokio(),
        };
        builder
            .and_then(|builder| builder.build())
            .map_err(|error| format!("can't look up names on this machine: {error}"))
    }
}

/// The addresses that the records of a `/dnsaddr` hold.
async fn texts(resolver: &TokioResolver, name: &str) -> Result<Vec<String>, String> {
    let name = format!("_dnsaddr.{}.", name.trim_end_matches('.'));
    let found = resolver.txt_lookup(name.as_str()).await;
    let found = found.map_err(|error| format!("can't look up {name}: {error}"))?;
    let mut entries = Vec::new();
    for record in found.answers() {
        if let RData::TXT(text) = &record.data {
            let text: Vec<u8> = text
                .txt_data
                .iter()
                .flat_map(|part| part.iter().copied())
                .collect();
            let text = String::from_utf8(text).unwrap_or_default();
            entries.extend(text.strip_prefix("dnsaddr=").map(str::to_owned));
        }
    }
    Ok(entries)
}

/// With an IP in place of its name, if it has one.
async fn resolve(addr: &Multiaddr) -> Result<Multiaddr, String> {
    let mut parts = addr.iter();
    let (name, wanted): (String, fn(&IpAddr) -> bool) = match parts.next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), IpAddr::is_ipv6),
        _ => return Ok(addr.clone()),
    };
    let ips = tokio::net::lookup_host((name.as_str(), 0)).await;
    let ips = ips.map_err(|error| format!("can't look up {name}: {error}"))?;
    let ip = ips.map(|socket| socket.ip()).find(wanted);
    let ip = ip.ok_or_else(|| format!("{name} has no address of that family"))?;
    Ok(parts.fold(Multiaddr::from(ip), Multiaddr::with))
}
