//! The core driven in virtual time, with servers that answer as they are told.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::*;
use crate::protocol::{DialResponse, DialStatus, ResponseStatus};

const TCP: &str = "/ip4/5.5.5.5/tcp/4001";

/// How a server answers each request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Script {
    /// Dials the first address that it can; the truth decides whether it gets through.
    Honest,
    /// Says `E_DIAL_ERROR` without dialing.
    DialError,
    Refuse,
    Reject,
    /// Says `OK` and never dials.
    Lie,
    Silent,
    Reset,
}

struct World {
    core: Reachability,
    now: Instant,
    start: Instant,
    servers: BTreeMap<ConnectionId, (PeerId, IpAddr, Script)>,
    next_connection: usize,
    reachable: bool,
    /// Where honest servers dial back from, if not from where they were contacted.
    dial_from: Option<IpAddr>,
    requests: Vec<(Instant, PeerId, Vec<Multiaddr>)>,
    confirmed: Vec<Multiaddr>,
    events: Vec<Event>,
}

fn addr(s: &str) -> Multiaddr {
    s.parse().unwrap()
}

impl World {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            core: Reachability::new(PeerId::random(), config, 7, now),
            now,
            start: now,
            servers: BTreeMap::new(),
            next_connection: 1,
            reachable: true,
            dial_from: None,
            requests: Vec::new(),
            confirmed: Vec::new(),
            events: Vec::new(),
        }
    }

    fn with(scripts: &[Script]) -> Self {
        let mut world = Self::new(Config::default());
        let listen = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listen);
        world.seen_by_two(&addr(TCP));
        for script in scripts {
            world.add_server(*script);
        }
        world
    }

    fn add_server(&mut self, script: Script) -> ConnectionId {
        let n = u8::try_from(self.next_connection).unwrap();
        let ip: IpAddr = [60 + n, 1, 1, 1].into();
        let id = self.connect(ip, false, None);
        self.core.on_support(self.now, id, true);
        let peer = PeerId::random();
        self.servers.insert(id, (peer, ip, script));
        id
    }

    fn connect(&mut self, ip: IpAddr, inbound: bool, local: Option<&str>) -> ConnectionId {
        let id = ConnectionId::new_unchecked(self.next_connection);
        self.next_connection += 1;
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        self.core.on_connection(
            self.now,
            ConnectionInfo {
                id,
                peer: PeerId::random(),
                inbound,
                local: local.map(addr),
                remote: addr(&format!("/{family}/{ip}/tcp/4001")),
            },
        );
        id
    }

    /// Two peers connect, say where they see this node, and leave.
    fn seen_by_two(&mut self, observed: &Multiaddr) {
        for ip in ["9.8.0.1", "9.9.0.1"] {
            let id = self.connect(ip.parse().unwrap(), false, None);
            self.core.on_candidate(self.now, observed);
            self.core.on_connection_closed(self.now, id);
        }
    }

    /// Runs for a while of virtual time.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            while let Some(output) = self.core.poll_event() {
                self.carry_out(output);
            }
            let Some(at) = self.core.poll_timeout().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Confirm(addr) => {
                self.core.on_external_confirmed(self.now, &addr);
                self.confirmed.push(addr);
            }
            Output::Expire(addr) => {
                self.core.on_external_expired(self.now, &addr);
                self.confirmed.retain(|a| *a != addr);
            }
            Output::Event(event) => self.events.push(event),
            Output::Probe(request) => self.answer(request),
        }
    }

    fn answer(&mut self, request: ProbeRequest) {
        let (_, ip, script) = self.servers[&request.connection];
        self.requests
            .push((self.now, request.server, request.addrs.clone()));
        let respond = |status, dial_status| DialResponse {
            status,
            addr_idx: 0,
            dial_status,
        };
        let mut end = ProbeEnd::Completed;
        match script {
            Script::Honest if self.reachable => {
                let from = self.dial_from.unwrap_or(ip);
                let id = self.connect(from, true, Some("/ip4/192.168.1.2/tcp/4001"));
                assert!(self.core.on_nonce(self.now, id, request.nonce));
                self.core.on_connection_closed(self.now, id);
                let ok = respond(ResponseStatus::Ok, DialStatus::Ok);
                self.core.on_response(self.now, request.id, ok);
            }
            Script::Honest | Script::DialError => {
                let error = respond(ResponseStatus::Ok, DialStatus::DialError);
                self.core.on_response(self.now, request.id, error);
            }
            Script::Refuse => {
                let refused = respond(ResponseStatus::DialRefused, DialStatus::Unused);
                self.core.on_response(self.now, request.id, refused);
            }
            Script::Reject => {
                let rejected = respond(ResponseStatus::RequestRejected, DialStatus::Unused);
                self.core.on_response(self.now, request.id, rejected);
            }
            Script::Lie => {
                let ok = respond(ResponseStatus::Ok, DialStatus::Ok);
                self.core.on_response(self.now, request.id, ok);
            }
            Script::Silent => return,
            Script::Reset => end = ProbeEnd::Reset,
        }
        self.core.on_probe_end(self.now, request.id, end);
    }

    fn report(&self) -> AddressReport {
        self.core.address(&addr(TCP)).expect("it is tracked")
    }

    fn verdict(&self) -> Verdict {
        self.report().verdict
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_first_probe_leaves_soon_and_one_proof_suffices() {
    let mut world = World::with(&[Script::Honest]);
    world.run(Duration::from_millis(250));
    assert_eq!(world.requests.len(), 1);
    // Others may be on their way that would tell of a filter.
    world.run(Duration::from_millis(500));
    assert_eq!(world.verdict(), Verdict::Reachable);
    assert_eq!(world.confirmed, [addr(TCP)]);
    assert_eq!(world.core.summary(), Summary::Public);
}

#[test]
fn three_able_servers_agree_and_then_it_is_quiet_for_a_while() {
    let mut world = World::with(&[Script::Honest; 7]);
    world.run(29 * SECOND);
    assert_eq!(world.requests.len(), 3);
    world.run(2 * SECOND);
    assert_eq!(world.requests.len(), 4);
}

#[test]
fn a_single_servers_failure_decides_only_when_nobody_else_comes() {
    let mut world = World::with(&[Script::DialError]);
    world.run(4 * SECOND);
    assert_eq!(world.verdict(), Verdict::Unknown);
    world.run(2 * SECOND);
    assert_eq!(world.verdict(), Verdict::Unreachable);
    assert_eq!(world.core.summary(), Summary::Private);
}

#[test]
fn five_servers_that_cannot_dial_do_not_hide_two_that_can() {
    let mut scripts = vec![Script::DialError; 5];
    scripts.extend([Script::Honest; 2]);
    for rotate in 0..7 {
        scripts.rotate_left(rotate);
        let mut world = World::with(&scripts);
        world.run(MINUTE);
        assert_eq!(world.verdict(), Verdict::Reachable);
        world.run(60 * MINUTE);
        assert_eq!(world.verdict(), Verdict::Reachable);
    }
}

#[test]
fn what_says_nothing_about_the_address_decides_nothing() {
    for script in [
        Script::Refuse,
        Script::Reject,
        Script::Lie,
        Script::Silent,
        Script::Reset,
    ] {
        let mut world = World::with(&[script; 5]);
        world.run(10 * MINUTE);
        assert_eq!(world.verdict(), Verdict::Unknown, "{script:?}");
        assert_eq!(world.report().servers, 0, "{script:?}");
        assert!(world.confirmed.is_empty());
        world.add_server(Script::Honest);
        world.run(SECOND);
        assert_eq!(world.verdict(), Verdict::Reachable, "{script:?}");
    }
}

#[test]
fn no_server_is_asked_more_than_six_times_a_minute() {
    for script in [
        Script::Honest,
        Script::DialError,
        Script::Reset,
        Script::Lie,
    ] {
        let mut world = World::with(&[script; 2]);
        for port in 1..40 {
            let other = addr(&format!("/ip4/5.5.5.5/tcp/{port}"));
            world.seen_by_two(&other);
        }
        world.run(60 * MINUTE);
        let mut times: BTreeMap<PeerId, Vec<Instant>> = BTreeMap::new();
        for (at, server, _) in &world.requests {
            times.entry(*server).or_default().push(*at);
        }
        for times in times.values() {
            for seven in times.windows(7) {
                assert!(seven[6] - seven[0] >= MINUTE, "{script:?}");
            }
        }
    }
}

#[test]
fn forwarding_that_goes_away_is_noticed_and_so_is_its_return() {
    let mut world = World::with(&[Script::Honest; 3]);
    world.run(5 * MINUTE);
    assert_eq!(world.verdict(), Verdict::Reachable);
    world.reachable = false;
    world.run(MINUTE + SECOND);
    assert_eq!(world.verdict(), Verdict::Unreachable);
    assert!(world.confirmed.is_empty());
    world.reachable = true;
    world.run(MINUTE + 10 * SECOND);
    assert_eq!(world.verdict(), Verdict::Reachable);
    assert_eq!(world.confirmed, [addr(TCP)]);
}

#[test]
fn one_failure_does_not_overturn_a_verdict() {
    let mut world = World::with(&[Script::Honest; 3]);
    world.run(10 * SECOND);
    let liar = *world.servers.keys().next().unwrap();
    world.servers.get_mut(&liar).unwrap().2 = Script::DialError;
    world.run(120 * MINUTE);
    assert_eq!(world.verdict(), Verdict::Reachable);
    let changes = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::VerdictChanged { .. }))
        .count();
    assert_eq!(changes, 1);
}

#[test]
fn a_lone_server_has_to_say_it_again_and_again() {
    let mut world = World::with(&[Script::Honest]);
    world.run(10 * SECOND);
    world.reachable = false;
    world.core.check_now(world.now, &addr(TCP)).unwrap();
    world.run(5 * SECOND);
    assert_eq!(world.verdict(), Verdict::Reachable);
    world.run(40 * SECOND);
    assert_eq!(world.verdict(), Verdict::Unreachable);
}

#[test]
fn dial_backs_from_contacted_hosts_are_told_from_others() {
    let mut world = World::with(&[Script::Honest; 3]);
    world.run(SECOND);
    assert_eq!(world.report().vantage, Some(Vantage::Contacted));

    let mut world = World::with(&[Script::Honest]);
    world.dial_from = Some([99, 9, 9, 9].into());
    world.run(SECOND);
    assert_eq!(world.report().vantage, Some(Vantage::Independent));
}

#[test]
fn independent_failures_against_contacted_successes_are_filtering() {
    let mut world = World::new(Config::default());
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    world.seen_by_two(&addr(TCP));
    for _ in 0..3 {
        world.add_server(Script::Honest);
    }
    for n in 0..2u16 {
        // Known over IPv6 only: their dials to the IPv4 address come from an IP never contacted, and are filtered.
        let ip: IpAddr = std::net::Ipv6Addr::new(0x2a00, n, 0, 0, 0, 0, 0, 1).into();
        let id = world.connect(ip, false, None);
        world.core.on_support(world.now, id, true);
        world
            .servers
            .insert(id, (PeerId::random(), ip, Script::DialError));
    }
    world.run(MINUTE);
    assert_eq!(world.verdict(), Verdict::Filtered);
    assert!(world.confirmed.is_empty());
    assert_eq!(world.core.summary(), Summary::Private);
    let was_reachable = world.events.iter().any(|event| {
        matches!(
            event,
            Event::VerdictChanged {
                new: Verdict::Reachable,
                ..
            }
        )
    });
    assert!(!was_reachable);
}

#[test]
fn a_nonce_counts_only_on_a_new_direct_inbound_connection_of_the_right_stack() {
    let mut world = World::with(&[Script::Silent]);
    let open_before = world.connect(
        [70, 0, 0, 1].into(),
        true,
        Some("/ip4/192.168.1.2/tcp/4001"),
    );
    world.run(SECOND);
    let nonce = world.core.probes.nonces().next().unwrap();
    let from: IpAddr = [70, 0, 0, 2].into();
    let outbound = world.connect(from, false, None);
    let other_stack = world.connect(from, true, Some("/ip4/192.168.1.2/udp/4001/quic-v1"));
    let relayed = world.connect(
        from,
        true,
        Some("/ip4/9.9.9.9/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"),
    );
    for id in [open_before, outbound, other_stack, relayed] {
        assert!(!world.core.on_nonce(world.now, id, nonce));
    }
    let good = world.connect(from, true, Some("/ip4/192.168.1.2/tcp/4001"));
    assert!(!world.core.on_nonce(world.now, good, nonce.wrapping_add(1)));
    assert!(world.core.on_nonce(world.now, good, nonce));
    assert!(!world.core.on_nonce(world.now, good, nonce));
    let again = world.connect(from, true, Some("/ip4/192.168.1.2/tcp/4001"));
    assert!(!world.core.on_nonce(world.now, again, nonce));
}

#[test]
fn an_address_that_the_swarm_no_longer_listens_on_is_expired_at_once() {
    let mut world = World::new(Config::default());
    world.core.on_listen_addr(world.now, &addr(TCP));
    world.add_server(Script::Honest);
    world.run(SECOND);
    assert_eq!(world.confirmed, [addr(TCP)]);
    world.core.on_listen_addr_gone(world.now, &addr(TCP));
    world.run(SECOND);
    assert!(world.confirmed.is_empty());
    assert_eq!(world.core.sizes().addresses, 0);
}

#[test]
fn an_address_that_shares_the_socket_inherits() {
    let mut world = World::with(&[Script::Honest; 3]);
    let websocket = addr("/ip4/5.5.5.5/tcp/4001/ws");
    world.core.on_listen_addr(world.now, &addr(TCP));
    world.core.on_listen_addr(world.now, &websocket);
    world.run(SECOND);
    let report = world.core.address(&websocket).unwrap();
    assert_eq!(report.verdict, Verdict::Reachable);
    assert!(report.inherited && report.announced);
    world.reachable = false;
    world.run(2 * MINUTE);
    assert_eq!(
        world.core.address(&websocket).unwrap().verdict,
        Verdict::Unreachable
    );
    assert!(world.confirmed.is_empty());
}

#[test]
fn a_guess_goes_before_a_port_that_one_peer_saw() {
    let mut world = World::new(Config::default());
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world
        .core
        .on_candidate(world.now, &addr("/ip4/5.5.5.5/tcp/50123"));
    world.add_server(Script::Honest);
    world.run(MINUTE);
    assert_eq!(world.verdict(), Verdict::Reachable);
    assert!(
        world
            .requests
            .iter()
            .all(|(_, _, addrs)| *addrs == [addr(TCP)])
    );
    assert_eq!(world.core.summary(), Summary::Public);
}

#[test]
fn a_flood_of_candidates_displaces_nothing_that_counts() {
    let mut world = World::with(&[Script::Honest; 3]);
    for n in 0..100_000u32 {
        let ip = std::net::Ipv4Addr::from(0x1400_0000 + n);
        let flood = addr(&format!("/ip4/{ip}/tcp/4001"));
        world.core.on_candidate(world.now, &flood);
        if n % 1000 == 0 {
            world.run(Duration::from_millis(20));
        }
    }
    world.run(MINUTE);
    assert_eq!(world.verdict(), Verdict::Reachable);
    assert!(world.core.sizes().addresses <= 50);
}

#[test]
fn the_first_verdict_takes_no_longer_than_it_must() {
    let mut world = World::with(&[Script::DialError; 4]);
    world.run(SECOND);
    assert_eq!(world.verdict(), Verdict::Unreachable);
    assert!(world.report().time_to_verdict.unwrap() < SECOND);
    assert!(world.now - world.start <= SECOND);
}

#[test]
fn each_request_is_completed_once_with_the_outcome_that_counts() {
    let cases = [
        (Script::Honest, "reachable", true),
        (Script::DialError, "dial-error", true),
        (Script::Refuse, "refused", false),
        (Script::Reject, "rejected", false),
        (Script::Lie, "nonce-missing", true),
        (Script::Silent, "timeout", false),
        (Script::Reset, "reset", false),
    ];
    for (script, outcome, dialed) in cases {
        let mut world = World::with(&[script]);
        world.run(MINUTE);
        // Nothing is to be asked any more; what is under way ends.
        world.core.on_external_expired(world.now, &addr(TCP));
        for id in world.servers.keys() {
            world.core.on_support(world.now, *id, false);
        }
        world.run(MINUTE);
        let completed: BTreeMap<ProbeId, &RequestCompleted> = world
            .events
            .iter()
            .filter_map(|event| match event {
                Event::RequestCompleted(completed) => Some((completed.probe, completed)),
                _ => None,
            })
            .collect();
        let told = world
            .events
            .iter()
            .filter(|event| matches!(event, Event::RequestCompleted(_)))
            .count();
        assert_eq!(told, completed.len(), "{script:?}: none twice");
        assert_eq!(told, world.requests.len(), "{script:?}: none left out");
        let (first, _) = completed.iter().next().expect("a request was sent");
        assert_eq!(completed[first].outcome.as_str(), outcome, "{script:?}");
        let expected = dialed.then(|| addr(TCP));
        assert_eq!(completed[first].dialed, expected, "{script:?}");
        assert_eq!(completed[first].addresses, 1, "{script:?}");
    }
}

#[test]
fn the_time_to_the_first_verdict_is_told_once() {
    let mut world = World::with(&[Script::Honest; 4]);
    world.run(MINUTE);
    world.reachable = false;
    world.run(20 * MINUTE);
    world.reachable = true;
    world.run(60 * MINUTE);
    let told: Vec<Option<Duration>> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::VerdictChanged {
                old,
                new,
                time_to_verdict,
                ..
            } if old != new => Some(*time_to_verdict),
            _ => None,
        })
        .collect();
    assert!(
        told.len() > 2,
        "the verdict changed back and forth: {told:?}"
    );
    let (first, later) = told.split_first().expect("a verdict");
    assert!(first.is_some_and(|took| took < SECOND));
    assert!(later.iter().all(Option::is_none), "{told:?}");
}
