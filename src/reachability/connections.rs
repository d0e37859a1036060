//! The connections of this node: with whom, from where, over what, and which of them it dialed from a port of its own.

use std::{collections::HashMap, net::IpAddr};

use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::{
    address::{self, PortProtocol},
    reachability::contacts::{Destination, IpGroup, Vantage},
};

/// How many IP groups are remembered in which this node has dialed somebody. One that had to be forgotten counts anew.
const MAX_DIALED_GROUPS: usize = 256;

/// A connection of this node.
#[derive(Debug, Clone)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the caller builds it, and what a connection is does not change"
)]
pub struct ConnectionInfo {
    /// The swarm's id for it.
    pub id: ConnectionId,
    /// The peer at its other end.
    pub peer: PeerId,
    /// Whether the peer dialed.
    pub inbound: bool,
    /// The local address that it came in on; `None` for an outbound one.
    pub local: Option<Multiaddr>,
    /// The remote address.
    pub remote: Multiaddr,
}

/// What is kept of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerId,
    pub(crate) inbound: bool,
    pub(crate) relayed: bool,
    pub(crate) local: Option<Multiaddr>,
    /// `None` through a relay, and where it was dialed by name.
    pub(crate) remote_ip: Option<IpAddr>,
    /// Of the relay.
    pub(crate) relay_ip: Option<IpAddr>,
    /// TCP or UDP, where that is known.
    pub(crate) protocol: Option<PortProtocol>,
    /// Of its source, when it was established.
    pub(crate) vantage: Vantage,
    /// Its place in the order of all that happened.
    pub(crate) sequence: u64,
    /// A nonce came in on it: it is a dial-back and about to close.
    pub(crate) dial_back: bool,
    /// It was dialed from a port that nothing listens on.
    pub(crate) from_new_port: bool,
}

impl Connection {
    /// What a connection is, but for what others know of its source.
    pub(crate) fn new(info: ConnectionInfo) -> (ConnectionId, Self) {
        let relayed = address::is_relayed(&info.remote)
            || info.local.as_ref().is_some_and(address::is_relayed);
        let relay_ip = address::first_hop(&info.remote)
            .or_else(|| info.local.as_ref().and_then(address::first_hop));
        let over = |addr: &Multiaddr| address::port(addr).map(|(protocol, _)| protocol);
        let protocol = match &info.local {
            Some(local) => over(local),
            None => over(&info.remote),
        };
        let connection = Self {
            peer: info.peer,
            inbound: info.inbound,
            relayed,
            remote_ip: address::ip(&info.remote).filter(|_| !relayed),
            relay_ip: relay_ip.filter(|_| relayed),
            local: info.local,
            protocol,
            vantage: Vantage::Contacted,
            sequence: 0,
            dial_back: false,
            from_new_port: false,
        };
        (info.id, connection)
    }

    /// Whether this node dialed the peer's own address.
    pub(crate) fn is_direct_dial(&self) -> bool {
        !self.inbound && !self.relayed
    }

    /// Whom this node exchanges packets with on it; `None` where that is the relay.
    pub(crate) fn contact(&self) -> Option<Destination> {
        if self.relayed {
            return None;
        }
        match self.remote_ip {
            Some(ip) => Some(Destination::Host(ip)),
            None if !self.inbound => Some(Destination::Name),
            None => None,
        }
    }
}

/// How many connections this node has dialed directly, and in how many IP groups.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dialed {
    pub(crate) connections: u64,
    pub(crate) groups: u64,
}

/// All connections that are open.
#[derive(Debug)]
pub(crate) struct Connections {
    by_id: HashMap<ConnectionId, Connection>,
    /// Counts connections and probes, so that which came first is known even within one instant.
    sequence: u64,
    dialed: Dialed,
    /// The IP groups of those.
    dialed_groups: LruCache<IpGroup, ()>,
    had_any: bool,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            by_id: HashMap::new(),
            sequence: 0,
            dialed: Dialed::default(),
            dialed_groups: LruCache::new(MAX_DIALED_GROUPS),
            had_any: false,
        }
    }
}

impl Connections {
    /// The next place in the order of all that happens.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// `true` if all connections had been lost before.
    pub(crate) fn insert(&mut self, id: ConnectionId, mut connection: Connection) -> bool {
        connection.sequence = self.next_sequence();
        if connection.is_direct_dial() {
            self.dialed.connections += 1;
            let group = IpGroup::of(connection.remote_ip);
            let is_new = self.dialed_groups.insert(group, ()).is_none();
            self.dialed.groups += u64::from(is_new);
        }
        let is_back = self.by_id.is_empty() && self.had_any;
        self.had_any = true;
        self.by_id.insert(id, connection);
        is_back
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn dialed(&self) -> Dialed {
        self.dialed
    }
}
