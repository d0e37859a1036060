//! The client's core under arbitrary lists of operations: nothing panics, what it holds is bounded, it never spins, and what
//! it has announced is what the swarm announces.

#![no_main]

#[path = "core/input.rs"]
mod input;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
    time::{Duration, Instant},
};

use input::{
    Address, Habit, Input, Ip, Limits, ME, Meanwhile, Operation, PEERS, Pin, Setup, Status, Step,
    Wait, any,
};
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::{
    address,
    reachability::{ConnectionInfo, Event, Output, ProbeEnd, ProbeRequest, Reachability, Verdict},
};
use libp2p_autonat_v2_fuzz::net::peer;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

const CONNECTIONS: u8 = 32;
/// More is slow and reaches nothing else.
const MAX_STEPS: usize = 300;
/// Requests that may still be answered.
const MAX_REQUESTS: usize = 64;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Who speaks for an external address of the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Core,
    Application,
}

struct World {
    core: Reachability,
    now: Instant,
    /// The swarm's external addresses, without this node's own peer ID.
    external: BTreeMap<Multiaddr, Owner>,
    /// What was confirmed or expired last.
    last: Option<Multiaddr>,
    meanwhile: Option<(u8, Meanwhile)>,
    requests: VecDeque<ProbeRequest>,
    habits: BTreeMap<PeerId, Habit>,
    /// Requests that a server's habit is to deal with.
    fresh: VecDeque<ProbeRequest>,
    next_connection: usize,
    limits: Limits,
}

impl World {
    fn new(setup: &Setup) -> Self {
        // Far enough from the start of time to go back.
        let now = *START + Duration::from_secs(1 << 20);
        Self {
            core: Reachability::new(peer(ME), setup.config(), 4711, now),
            now,
            external: BTreeMap::new(),
            last: None,
            meanwhile: None,
            requests: VecDeque::new(),
            habits: BTreeMap::new(),
            fresh: VecDeque::new(),
            next_connection: CONNECTIONS.into(),
            limits: setup.limits(),
        }
    }

    fn step(&mut self, step: Step) {
        let back = match step.wait {
            Wait::Not => Duration::ZERO,
            Wait::For(span) => {
                self.now += span.step();
                Duration::ZERO
            }
            Wait::RunFor(span) => {
                self.run_until(self.now + span.step());
                Duration::ZERO
            }
            Wait::Back(span) => span.step(),
        };
        let told = self.now.checked_sub(back).unwrap_or(self.now);
        self.meanwhile = step.meanwhile;
        self.operate(told, step.operation);
        self.settle();
        self.meanwhile = None;
    }

    fn operate(&mut self, now: Instant, operation: Operation) {
        match operation {
            Operation::Nothing => {}
            Operation::Listens(address) => self.core.on_listen_addr(now, &address.addr()),
            Operation::ListensNoMore(address) => {
                self.core.on_listen_addr_gone(now, &address.addr());
            }
            Operation::Candidate(address) => self.core.on_candidate(now, &address.addr()),
            Operation::Observed(id, address) => {
                self.core.on_observed(now, connection(id), &address.addr());
            }
            Operation::External(change) => self.change(change),
            Operation::Connects {
                id,
                peer: number,
                remote,
                local,
                serves,
            } => {
                let info = ConnectionInfo {
                    id: connection(id),
                    peer: peer(number % PEERS),
                    inbound: local.is_some(),
                    local: local.map(Address::addr),
                    remote: remote.addr(),
                };
                self.connects(now, info, serves);
            }
            Operation::Server {
                id,
                peer: number,
                network,
                habit,
            } => {
                let server = peer(number % PEERS);
                self.habits.insert(server, habit);
                let info = ConnectionInfo {
                    id: connection(id),
                    peer: server,
                    inbound: false,
                    local: None,
                    remote: Address::of(Ip::Public(network)).addr(),
                };
                self.connects(now, info, true);
            }
            Operation::Disconnects(id) => self.core.on_connection_closed(now, connection(id)),
            Operation::Moves(id, address) => {
                self.core
                    .on_address_change(now, connection(id), &address.addr());
            }
            Operation::Contact(ip) => self.core.on_contact(now, ip.ip()),
            Operation::Supports(id, yes) => self.core.on_support(now, connection(id), yes),
            Operation::Nonce { request, id, right } => {
                if let Some(request) = self.request(request) {
                    let nonce = if right { request.nonce } else { !request.nonce };
                    let accepted = self.core.on_nonce(now, connection(id), nonce);
                    assert!(right || !accepted, "a nonce of nobody's");
                }
            }
            Operation::DialsBack {
                request,
                id,
                network,
                index,
            } => {
                if let Some(request) = self.request(request) {
                    self.dial_back(now, connection(id), &request, network, index.into());
                }
            }
            Operation::Response {
                request,
                index,
                status,
            } => {
                if let Some(request) = self.request(request) {
                    self.core
                        .on_response(now, request.id, status.response(any(index)));
                }
            }
            Operation::AsksForData {
                request,
                index,
                bytes,
            } => {
                if let Some(request) = self.request(request) {
                    self.asks(now, &request, any(index), bytes.count());
                }
            }
            Operation::Ends { request, how } => {
                if let Some(request) = self.request(request) {
                    self.core.on_probe_end(now, request.id, how.end());
                }
            }
            Operation::AddsCandidate(address) => {
                let _ = self.core.add_candidate(now, &address.addr());
            }
            Operation::Checks(address) => {
                let _ = self.core.check_now(now, &address.addr());
            }
            Operation::Pins(pin) => {
                let pin = pin.map(Pin::summary);
                self.core.pin_summary(now, pin);
                assert!(pin.is_none_or(|pin| self.core.summary() == pin));
            }
            Operation::TimesOut => self.core.handle_timeout(now),
            Operation::Looks(address) => {
                let _ = self.core.address(&address.addr());
                let _ = self.core.nat_mapping();
            }
            Operation::Habit {
                peer: number,
                habit,
            } => {
                self.habits.insert(peer(number % PEERS), habit);
            }
        }
    }

    fn connects(&mut self, now: Instant, info: ConnectionInfo, serves: bool) {
        let id = info.id;
        // An id is not used again while the connection is open.
        self.core.on_connection_closed(now, id);
        self.core.on_connection(now, info);
        if serves {
            self.core.on_support(now, id, true);
        }
    }

    fn request(&self, number: u8) -> Option<ProbeRequest> {
        // The newest first.
        let at = self.requests.len().checked_sub(1 + usize::from(number))?;
        self.requests.get(at).cloned()
    }

    fn dial_back(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &ProbeRequest,
        network: u8,
        index: usize,
    ) {
        let index = index % request.addrs.len();
        let info = ConnectionInfo {
            id,
            peer: request.server,
            inbound: true,
            local: request.addrs.get(index).cloned(),
            remote: Multiaddr::from(Ip::Public(network).ip()).with(Protocol::Tcp(40_000)),
        };
        self.connects(now, info, false);
        self.core.on_nonce(now, id, request.nonce);
        self.core.on_connection_closed(now, id);
        let index = u32::try_from(index).expect("ten at most");
        self.core
            .on_response(now, request.id, Status::Ok.response(index));
        self.core.on_probe_end(now, request.id, ProbeEnd::Completed);
    }

    fn asks(&mut self, now: Instant, request: &ProbeRequest, index: u32, bytes: u64) {
        if self
            .core
            .on_dial_data_request(now, request.id, index, bytes)
        {
            assert!(bytes <= self.limits.dial_data, "{bytes} bytes are too many");
            assert!((index as usize) < request.addrs.len());
        }
    }

    /// The application's own change to the swarm's external addresses.
    fn change(&mut self, change: Meanwhile) {
        let (addr, adds) = match change {
            Meanwhile::Adds(address) => (address.addr(), true),
            Meanwhile::Removes(address) => (address.addr(), false),
            Meanwhile::AddsLast => (self.last.clone().unwrap_or_else(Multiaddr::empty), true),
            Meanwhile::RemovesLast => (self.last.clone().unwrap_or_else(Multiaddr::empty), false),
        };
        let canonical = address::without_peer_id(&addr, &peer(ME));
        if adds {
            self.external.insert(canonical, Owner::Application);
            self.core.on_external_confirmed(self.now, &addr);
        } else {
            self.external.remove(&canonical);
            self.core.on_external_expired(self.now, &addr);
        }
    }

    /// Carries out all that is due now.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.drain();
            let now = self.now;
            if let Some(request) = self.fresh.pop_front() {
                self.by_habit(now, &request);
            } else if self.core.poll_timeout().is_some_and(|at| at <= now) {
                self.core.handle_timeout(now);
            } else {
                return;
            }
        }
        // Requests that are answered at once may bring others, but no more than the servers take in a minute.
        assert!(
            !self.fresh.is_empty() || self.limits.in_flight > 50,
            "the core spins"
        );
    }

    fn by_habit(&mut self, now: Instant, request: &ProbeRequest) {
        match self
            .habits
            .get(&request.server)
            .copied()
            .unwrap_or_default()
        {
            Habit::Silent => {}
            Habit::Says(status) => {
                self.core.on_response(now, request.id, status.response(0));
                self.core.on_probe_end(now, request.id, ProbeEnd::Completed);
            }
            Habit::DialsBack { network } => {
                self.next_connection += 1;
                let id = ConnectionId::new_unchecked(self.next_connection);
                self.dial_back(now, id, request, network, 0);
            }
            Habit::HangsUp => self.core.on_probe_end(now, request.id, ProbeEnd::Reset),
            Habit::Asks(bytes) => self.asks(now, request, 0, bytes.into()),
        }
    }

    /// Follows the core's own timeouts.
    fn run_until(&mut self, end: Instant) {
        let start = self.now;
        let mut wakes = 0;
        self.settle();
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.core.handle_timeout(self.now);
            self.settle();
            wakes += 1;
            // Enough for one step. The shell waits for a millisecond at the least.
            if wakes == 1_000 {
                let passed = self.now.duration_since(start);
                assert!(
                    passed >= Duration::from_millis(wakes),
                    "{wakes} wake-ups in {passed:?}"
                );
                return;
            }
        }
        self.now = end;
        self.settle();
    }

    /// As the swarm does with what the behaviour says.
    fn drain(&mut self) {
        let mut outputs = 0_u32;
        loop {
            if let Some((after, change)) = self.meanwhile
                && outputs == u32::from(after)
            {
                self.meanwhile = None;
                self.change(change);
            }
            let Some(output) = self.core.poll_event() else {
                break;
            };
            outputs += 1;
            assert!(outputs < 100_000, "outputs without end");
            match output {
                Output::Probe(request) => self.probe(request),
                Output::Confirm(addr) => {
                    self.last = Some(addr.clone());
                    self.external.entry(addr.clone()).or_insert(Owner::Core);
                    self.core.on_external_confirmed(self.now, &addr);
                }
                Output::Expire(addr) => {
                    self.last = Some(addr.clone());
                    let owner = self.external.remove(&addr);
                    assert!(
                        owner != Some(Owner::Application) || self.limits.expire_foreign,
                        "{addr} was the application's"
                    );
                    self.core.on_external_expired(self.now, &addr);
                }
                Output::Event(event) => check_event(&event),
                _ => {}
            }
        }
        self.check();
    }

    fn probe(&mut self, request: ProbeRequest) {
        assert!((1..=10).contains(&request.addrs.len()));
        for addr in &request.addrs {
            assert!(!address::is_relayed(addr), "{addr}");
            let stranger = address::is_public(addr) || address::is_name(addr);
            assert!(stranger || self.limits.private, "{addr}");
        }
        self.fresh.push_back(request.clone());
        self.requests.push_back(request);
        if self.requests.len() > MAX_REQUESTS {
            self.requests.pop_front();
        }
    }

    fn check(&self) {
        let (sizes, limits) = (self.core.sizes(), &self.limits);
        assert!(sizes.addresses <= limits.addresses, "{sizes:?} {limits:?}");
        assert!(sizes.outcomes <= 24 * sizes.addresses, "{sizes:?}");
        assert!(sizes.servers <= limits.servers, "{sizes:?} {limits:?}");
        assert!(
            sizes.remembered_servers <= limits.servers,
            "{sizes:?} {limits:?}"
        );
        assert!(
            sizes.contacted_ips <= limits.contacts,
            "{sizes:?} {limits:?}"
        );
        assert!(sizes.probes <= limits.in_flight, "{sizes:?} {limits:?}");
        let (known, usable) = self.core.servers();
        assert!(
            usable <= known && known <= PEERS.into(),
            "{usable} of {known}"
        );

        let announced: Vec<_> = self
            .core
            .addresses()
            .inspect(|report| assert!((0.0..=1.0).contains(&report.confidence), "{report:?}"))
            .filter(|report| report.announced)
            .inspect(|report| assert_eq!(report.verdict, Verdict::Reachable, "{report:?}"))
            .map(|report| report.address)
            .collect();
        for addr in &announced {
            assert_eq!(
                self.external.get(addr),
                Some(&Owner::Core),
                "{addr} is not announced"
            );
        }
        let ours = self
            .external
            .iter()
            .filter(|(_, owner)| **owner == Owner::Core);
        for (addr, _) in ours {
            assert!(announced.contains(addr), "{addr} is announced by nobody");
        }
    }
}

fn check_event(event: &Event) {
    match event {
        Event::VerdictChanged {
            old,
            new,
            confidence,
            ..
        } => {
            assert_ne!(old, new);
            assert!((0.0..=1.0).contains(confidence), "{event:?}");
        }
        Event::SummaryChanged { old, new, .. } => assert_ne!(old, new),
        _ => {}
    }
}

fn connection(number: u8) -> ConnectionId {
    ConnectionId::new_unchecked((number % CONNECTIONS).into())
}

fuzz_target!(|input: Input| {
    let mut world = World::new(&input.setup);
    for step in input.steps.into_iter().take(MAX_STEPS) {
        world.step(step);
    }
});
