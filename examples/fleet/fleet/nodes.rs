//! The nodes' side: they start, meet servers, lose them, and carry out what their cores ask for.

use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p_autonat_v2::{
    client::{Config, Event},
    reachability::{ConnectionInfo, Output, Reachability, Summary},
};
use rand::RngExt;

use super::{Fleet, Happening, NodeId, is_right, remote};
use crate::{network::addr, population::TRANSPORTS};

/// How many servers a node meets at first, and when after its start.
const MEETS: std::ops::RangeInclusive<usize> = 3..=8;
const MEETS_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection to a server lasts in the mean, and how soon another takes its place.
const CONNECTION: Duration = Duration::from_secs(30 * 60);
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// How soon the application has found one more server when the core wants some.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
const MAX_LINKS: usize = 20;
/// How long a NAT remembers whom the node has contacted (RFC 4787, REQ-5, recommends 5 minutes).
const FILTER: Duration = Duration::from_secs(5 * 60);

impl Fleet<'_> {
    pub(super) fn start_node(&mut self, id: NodeId) {
        let (now, seed) = (self.instant(), self.rng.random());
        let node = &mut self.nodes[id];
        node.record.started = self.now;
        let mut core = Reachability::new(node.peer, Config::default(), seed, now);
        let listens = node.client.listens_on();
        for over in TRANSPORTS {
            core.on_listen_addr(now, &addr(&listens, over));
        }
        node.core = Some(core);
        for _ in 0..self.rng.random_range(MEETS) {
            self.within(MEETS_WITHIN, Happening::Connect(id));
        }
        self.drain(id);
    }

    /// The node meets a server that it does not know.
    pub(super) fn connect(&mut self, id: NodeId) {
        let server = self.rng.random_range(0..self.servers.len());
        let node = &self.nodes[id];
        let known = node.links.values().any(|(known, _)| *known == server);
        if known || !self.servers[server].is_here || node.links.len() >= MAX_LINKS {
            return;
        }
        let other = self.servers[server].server.host;
        let mut route = node.client.host.route_to(&other, &mut self.rng);
        // Its IPv6 addresses are not looked at here, and of its IPv4 ones it hears over IPv4.
        route.v6 &= node.links.values().any(|(_, route)| !route.v6);
        let node = &mut self.nodes[id];
        let connection = ConnectionId::new_unchecked(node.next_connection);
        node.next_connection += 1;
        node.links.insert(connection, (server, route));
        if !route.v6 {
            node.contacts.insert((server, route.over), None);
        }
        let info = ConnectionInfo {
            id: connection,
            peer: self.servers[server].peer,
            inbound: false,
            local: None,
            remote: remote(&other, route),
        };
        self.tell(id, |core, now| {
            core.on_connection(now, info);
            core.on_support(now, connection, true);
        });
        let seen_after = self.latency(id, server) * 2;
        self.after(seen_after, Happening::Observed(id, connection));
        // Connections end at any time alike.
        let dice: f64 = self.rng.random();
        let ends_after = CONNECTION.mul_f64(-(1.0 - dice).ln());
        self.after(ends_after, Happening::Disconnect(id, connection));
    }

    pub(super) fn observed(&mut self, id: NodeId, connection: ConnectionId) {
        let node = &self.nodes[id];
        let Some((_, route)) = node.links.get(&connection) else {
            return;
        };
        if route.v6 {
            return;
        }
        let seen = addr(&format!("/ip4/{}", node.client.host.v4), route.over);
        self.tell(id, |core, now| {
            core.on_observed(now, connection, &seen);
            core.on_candidate(now, &seen);
        });
    }

    pub(super) fn disconnect(&mut self, id: NodeId, connection: ConnectionId) {
        let now = self.now;
        let node = &mut self.nodes[id];
        let Some((server, route)) = node.links.remove(&connection) else {
            return;
        };
        if let Some(contact) = node.contacts.get_mut(&(server, route.over)) {
            *contact = Some(now + FILTER);
        }
        self.tell(id, |core, now| core.on_connection_closed(now, connection));
        for key in self.nodes[id].asking.clone() {
            if self
                .exchanges
                .get(&key)
                .is_some_and(|it| it.server == server)
            {
                self.forget(key);
            }
        }
        self.tell_server(server, |service, now, _| {
            service.on_connection_closed(now, ConnectionId::new_unchecked(id));
        });
        self.within(REPLACED_WITHIN, Happening::Connect(id));
    }

    pub(super) fn servers_leave(&mut self) {
        let leaving = self.servers.len() / 3;
        // Servers are in no order, but that the hostile come first.
        let from = self.servers.len() - leaving;
        for server in &mut self.servers[from..] {
            server.is_here = false;
        }
        for id in 0..self.nodes.len() {
            let lost = self.nodes[id]
                .links
                .iter()
                .filter(|(_, (server, _))| *server >= from);
            let lost: Vec<ConnectionId> = lost.map(|(connection, _)| *connection).collect();
            for connection in lost {
                self.disconnect(id, connection);
            }
        }
    }

    /// Tells the node's core something, and carries out what follows.
    pub(super) fn tell(&mut self, id: NodeId, fact: impl FnOnce(&mut Reachability, Instant)) {
        let now = self.instant();
        if let Some(core) = &mut self.nodes[id].core {
            fact(core, now);
            self.drain(id);
        }
    }

    pub(super) fn drain(&mut self, id: NodeId) {
        let now = self.instant();
        while let Some(core) = &mut self.nodes[id].core
            && let Some(output) = core.poll_event()
        {
            match output {
                Output::Probe(request) => self.send(id, request),
                Output::Confirm(addr) => core.on_external_confirmed(now, &addr),
                Output::Expire(addr) => core.on_external_expired(now, &addr),
                Output::Event(Event::SummaryChanged { new, .. }) => {
                    let node = &mut self.nodes[id];
                    let right = is_right(new, &node.client);
                    let is_known = new != Summary::Unknown;
                    node.record.note_summary(self.now, is_known, right);
                }
                Output::Event(Event::ServersWanted { .. }) => {
                    self.within(FOUND_WITHIN, Happening::Connect(id));
                }
                _ => {}
            }
        }
        let start = self.start;
        let node = &mut self.nodes[id];
        let wake = node.core.as_ref().and_then(Reachability::poll_timeout);
        let wake = wake.map(|at| at.saturating_duration_since(start).max(self.now));
        if let Some(at) = wake
            && node.wake != wake
        {
            node.wake = wake;
            self.at(at, Happening::WakeNode(id));
        }
    }
}
