//! Requests on their way: from a node to a server, whose core is asked what to do, and back.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    protocol::{DialRequest, DialResponse, DialStatus, ResponseStatus},
    reachability::{ConnectionInfo, ProbeEnd, ProbeRequest},
    server::{DialBackOutcome, End, Event},
    service::{self, Command, Dial, DialId, Locality, RequestId, Service, StreamCommand},
};
use rand::{RngExt, rngs::SmallRng};

use super::{Fleet, Happening, NodeId, ServerId, remote};
use crate::{
    network::{Answer, Fault, LUCK, Transport, addr, peer},
    population::{Client, Host, Route},
};

/// How long TCP tries an address that does not answer (`SwarmBuilder`'s default). The server does not wait so long.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long QUIC does (`libp2p-quic`'s default for the handshake). It does not hear of it when a host refuses packets.
const QUIC_TIMEOUT: Duration = Duration::from_secs(5);
/// What a node's uplink takes in a second.
const UPLINK: f64 = 250_000.0;
/// A hostile client asks so often.
pub(super) const HOSTILE_PACE: Duration = Duration::from_secs(5);

/// A request's stream, as its server numbers them.
pub(super) type Key = u32;

/// One request and its way.
pub(super) struct Exchange {
    /// `None` for hostile clients.
    probe: Option<(NodeId, ProbeRequest)>,
    pub(super) client: usize,
    pub(super) server: ServerId,
    route: Route,
    peer: PeerId,
    host: Host,
    addrs: Vec<Multiaddr>,
    nonce: u64,
}

impl Exchange {
    fn id(&self, key: Key) -> RequestId {
        RequestId {
            connection: ConnectionId::new_unchecked(self.client),
            stream: key,
        }
    }
}

/// What a server hears of a dial.
#[derive(Debug, Clone, Copy)]
pub(super) enum DialFact {
    Established,
    Delivered,
    TimedOut,
    Refused,
    Gone,
}

impl service::Host for Host {
    fn locality(&self, ip: IpAddr) -> Locality {
        if ip == self.ip(false) || ip == self.ip(true) {
            Locality::ThisHost
        } else {
            Locality::Remote
        }
    }

    fn can_dial(&self, addr: &Multiaddr) -> bool {
        self.has_v6 || !matches!(addr.iter().next(), Some(Protocol::Ip6(_)))
    }
}

impl Fleet<'_> {
    pub(super) fn send(&mut self, id: NodeId, request: ProbeRequest) {
        let counts = self.counts();
        let node = &mut self.nodes[id];
        node.record.requests += u64::from(counts);
        let Some((server, route)) = node.links.get(&request.connection).copied() else {
            return;
        };
        let exchange = Exchange {
            client: id,
            server,
            route,
            peer: node.peer,
            host: node.client.host,
            addrs: request.addrs.clone(),
            nonce: request.nonce,
            probe: Some((id, request)),
        };
        let latency = self.latency(id, server);
        self.after(latency, Happening::Arrive(Box::new(exchange)));
    }

    pub(super) fn attack(&mut self, index: usize) {
        let server = self.rng.random_range(0..self.servers.len());
        let host = self.crowd[index].host;
        let exchange = Exchange {
            probe: None,
            client: self.nodes.len() + index,
            server,
            route: Route {
                over: Transport::Tcp,
                v6: false,
            },
            peer: peer(u64::MAX - index as u64),
            host,
            addrs: vec![addr(&format!("/ip4/{}", host.v4), Transport::Tcp)],
            nonce: self.rng.random(),
        };
        self.after(HOSTILE_PACE, Happening::Attack(index));
        let latency = self.latency(exchange.client, server);
        self.after(latency, Happening::Arrive(Box::new(exchange)));
    }

    pub(super) fn arrive(&mut self, exchange: Exchange) {
        let server = exchange.server;
        if !self.servers[server].is_here {
            return;
        }
        let minute = self.now.as_secs() / 60;
        let requests = &mut self.servers[server].record.by_minute;
        *requests.entry(minute).or_default() += 1;
        let first = match &exchange.probe {
            None => true,
            Some((id, _)) => self.nodes[*id].asked.insert(server),
        };
        let fault = self.servers[server].server.fault;
        let turned = fault == Fault::TurnsCoat && first;
        if fault != Fault::None && !turned {
            self.answer_falsely(exchange, fault);
            return;
        }
        let key = self.next_key;
        self.next_key = self.next_key.wrapping_add(1);
        let (id, now) = (exchange.id(key), self.instant());
        let ip = exchange.host.ip(exchange.route.v6);
        let service = &mut self.servers[server].service;
        service.on_stream(now, id, exchange.peer, Some(ip));
        self.by_nonce.insert(exchange.nonce, key);
        if let Some(node) = self.nodes.get_mut(exchange.client) {
            node.asking.push(key);
        }
        self.exchanges.insert(key, exchange);
        self.drain_server(server);
    }

    /// A server that lies needs no core for it.
    fn answer_falsely(&mut self, exchange: Exchange, fault: Fault) {
        let Some((id, request)) = exchange.probe else {
            return;
        };
        let said = match fault.answer(false, false, || false) {
            Answer::HollowOk => Some((ResponseStatus::Ok, DialStatus::Ok)),
            Answer::DialError | Answer::DialedBack => {
                Some((ResponseStatus::Ok, DialStatus::DialError))
            }
            Answer::Refused => Some((ResponseStatus::DialRefused, DialStatus::Unused)),
            Answer::None => None,
        };
        let Some((status, dial_status)) = said else {
            let end = Happening::End(id, Box::new(request.clone()), ProbeEnd::Timeout);
            self.after(request.timeout, end);
            return;
        };
        let response = DialResponse {
            status,
            addr_idx: 0,
            dial_status,
        };
        let latency = self.latency(id, exchange.server);
        self.after(
            latency,
            Happening::Response(id, Box::new(request), response),
        );
    }

    /// Tells a server's core something, and carries out what follows.
    pub(super) fn tell_server(
        &mut self,
        server: ServerId,
        fact: impl FnOnce(&mut Service, Instant, &mut SmallRng),
    ) {
        let now = self.instant();
        fact(&mut self.servers[server].service, now, &mut self.rng);
        self.drain_server(server);
    }

    fn drain_server(&mut self, server: ServerId) {
        while let Some(command) = self.servers[server].service.poll_command() {
            match command {
                Command::Stream(_, id, command) => self.carry_out(server, id, command),
                Command::Dial(dial) => self.dial(server, &dial),
                // The node's own swarm cannot call a dial back. A connection is closed at once.
                Command::EndDial(dial) if self.silent.contains(&(server, dial)) => {}
                Command::EndDial(dial) => {
                    let now = self.instant();
                    self.servers[server].service.on_dial_gone(now, dial);
                }
            }
        }
        while let Some(event) = self.servers[server].service.poll_event() {
            let rejected = match event {
                Event::Rejected(rejected) => Some((rejected.limit, rejected.count)),
                Event::Served(served) => served.limit.map(|limit| (limit, 1)),
                _ => None,
            };
            let Some((limit, times)) = rejected else {
                continue;
            };
            *self.rejections.entry(limit.as_str()).or_default() += times;
        }
        let start = self.start;
        let host = &mut self.servers[server];
        let wake = host.service.poll_timeout();
        let wake = wake.map(|at| at.saturating_duration_since(start).max(self.now));
        if let Some(at) = wake
            && host.wake != wake
        {
            host.wake = wake;
            self.at(at, Happening::WakeServer(server));
        }
    }

    fn carry_out(&mut self, server: ServerId, id: RequestId, command: StreamCommand) {
        let key = id.stream;
        let Some(exchange) = self.exchanges.get(&key) else {
            return;
        };
        let now = self.instant();
        match command {
            StreamCommand::Serve => {
                let request = DialRequest::new(exchange.addrs.iter().cloned(), exchange.nonce);
                let Self { servers, rng, .. } = self;
                let it = &mut servers[server];
                it.service
                    .on_request(now, id, request, &it.server.host, rng);
            }
            StreamCommand::Reject => self.respond(
                key,
                DialResponse {
                    status: ResponseStatus::RequestRejected,
                    addr_idx: 0,
                    dial_status: DialStatus::Unused,
                },
            ),
            StreamCommand::AskForData(ask) => {
                let latency = self.latency(exchange.client, server);
                self.after(latency, Happening::Pay(key, ask.addr_idx, ask.num_bytes));
            }
            StreamCommand::Answer(response) => {
                self.respond(key, response);
                let service = &mut self.servers[server].service;
                service.on_stream_ended(now, id, End::Answered);
            }
            StreamCommand::Reset => {
                let exchange = self.forget(key);
                let client = exchange.and_then(|it| Some((it.probe?, it.client)));
                if let Some(((id, request), client)) = client {
                    let latency = self.latency(client, server);
                    let end = Happening::End(id, Box::new(request), ProbeEnd::Reset);
                    self.after(latency, end);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, key: Key) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&key)?;
        self.by_nonce.remove(&exchange.nonce);
        if let Some(node) = self.nodes.get_mut(exchange.client) {
            node.asking.retain(|asking| *asking != key);
        }
        Some(exchange)
    }

    fn respond(&mut self, key: Key, response: DialResponse) {
        let Some(exchange) = self.forget(key) else {
            return;
        };
        let latency = self.latency(exchange.client, exchange.server);
        if let Some((id, request)) = exchange.probe {
            let response = Happening::Response(id, Box::new(request), response);
            self.after(latency, response);
        }
    }

    pub(super) fn note_answer(&mut self, id: NodeId, response: DialResponse) {
        let counts = u64::from(self.counts());
        let record = &mut self.nodes[id].record;
        match response.status {
            ResponseStatus::Ok => record.answers += counts,
            ResponseStatus::RequestRejected => record.rejections += counts,
            _ => {}
        }
    }

    /// A node is asked for dial data.
    pub(super) fn pay(&mut self, key: Key, index: u32, bytes: u64) {
        let counts = self.counts();
        let Some(exchange) = self.exchanges.get(&key) else {
            return;
        };
        let (server, stream) = (exchange.server, exchange.id(key));
        let Some((id, request)) = &exchange.probe else {
            return;
        };
        let (id, probe) = (*id, request.id);
        let mut pays = false;
        self.tell(id, |core, now| {
            pays = core.on_dial_data_request(now, probe, index, bytes);
        });
        if pays {
            self.nodes[id].record.dial_data += if counts { bytes } else { 0 };
            let upload = Duration::from_secs_f64(bytes as f64 / UPLINK);
            let latency = self.latency(id, server);
            self.after(latency + upload, Happening::DialData(key, bytes));
        } else {
            self.forget(key);
            self.tell_server(server, |service, now, _| {
                service.on_stream_ended(now, stream, End::ClientLeft);
            });
            self.tell(id, |core, now| {
                core.on_probe_end(now, probe, ProbeEnd::DialDataRefused);
            });
        }
    }

    /// All dial data has come.
    pub(super) fn paid(&mut self, key: Key, bytes: u64) {
        if let Some(exchange) = self.exchanges.get(&key) {
            let (server, id) = (exchange.server, exchange.id(key));
            self.tell_server(server, |service, now, rng| {
                service.on_bytes(now, id, bytes, rng);
            });
        }
    }

    fn dial(&mut self, server: ServerId, dial: &Dial) {
        let lucky = self.rng.random_bool(LUCK);
        let key = self.by_nonce.get(&dial.nonce()).copied();
        let Some((key, exchange)) = key.and_then(|key| Some((key, self.exchanges.get(&key)?)))
        else {
            self.after(
                Duration::ZERO,
                Happening::Dial(server, dial.id, DialFact::Gone),
            );
            return;
        };
        let over = transport(&dial.addr);
        let latency = self.latency(exchange.client, server);
        let client = match &exchange.probe {
            Some((id, _)) => self.nodes[*id].client,
            None => self.crowd[exchange.client - self.nodes.len()],
        };
        let gets_in = self.lets_in(exchange, &client, over);
        let fact = |fact| Happening::Dial(server, dial.id, fact);
        if gets_in && lucky {
            self.after(latency * 2, fact(DialFact::Established));
            self.after(latency * 3, Happening::Nonce(key, over));
            self.after(latency * 4, fact(DialFact::Delivered));
        } else if over == Transport::Quic {
            self.after(QUIC_TIMEOUT, fact(DialFact::TimedOut));
        } else if client.refuses_packets {
            self.after(latency * 2, fact(DialFact::Refused));
        } else {
            self.silent.insert((server, dial.id));
            self.after(TCP_TIMEOUT, fact(DialFact::Gone));
        }
    }

    /// Whether a server's packets get to a client.
    fn lets_in(&self, exchange: &Exchange, client: &Client, over: Transport) -> bool {
        let server = exchange.server;
        let contacted = exchange.probe.as_ref().is_some_and(|(id, _)| {
            let contact = self.nodes[*id].contacts.get(&(server, over));
            contact.is_some_and(|until| until.is_none_or(|it| self.now < it))
        });
        self.servers[server].server.can_dial(over) && client.state().lets_in(contacted)
    }

    pub(super) fn hear_of_dial(&mut self, server: ServerId, dial: DialId, fact: DialFact) {
        let outcome = match fact {
            DialFact::Established => {
                self.tell_server(server, |service, now, _| {
                    service.on_dial_established(now, dial);
                });
                return;
            }
            DialFact::Gone => {
                self.silent.remove(&(server, dial));
                self.tell_server(server, |service, now, _| service.on_dial_gone(now, dial));
                return;
            }
            DialFact::Delivered => DialBackOutcome::Delivered,
            DialFact::TimedOut => DialBackOutcome::DialFailed(io::ErrorKind::TimedOut),
            DialFact::Refused => DialBackOutcome::DialFailed(io::ErrorKind::ConnectionRefused),
        };
        self.tell_server(server, |service, now, _| {
            service.on_dial_ended(now, dial, outcome);
        });
    }

    /// A node hears a nonce.
    pub(super) fn nonce(&mut self, key: Key, over: Transport) {
        let Some(exchange) = self.exchanges.get(&key) else {
            return;
        };
        let Some((id, _)) = exchange.probe else {
            return;
        };
        let nonce = exchange.nonce;
        let host = &self.servers[exchange.server];
        let node = &mut self.nodes[id];
        let connection = ConnectionId::new_unchecked(node.next_connection);
        node.next_connection += 1;
        let info = ConnectionInfo {
            id: connection,
            peer: host.peer,
            inbound: true,
            local: Some(addr(&node.client.listens_on(), over)),
            remote: remote(&host.server.host, Route { over, v6: false }),
        };
        self.tell(id, |core, now| {
            core.on_connection(now, info);
            core.on_nonce(now, connection, nonce);
            core.on_connection_closed(now, connection);
        });
    }
}

fn transport(addr: &Multiaddr) -> Transport {
    let udp = addr.iter().any(|it| matches!(it, Protocol::Udp(_)));
    if udp { Transport::Quic } else { Transport::Tcp }
}
