//! What stands between servers and this node without being its NAT: servers that refuse a kind of address, proxies, load
//! balancers, limits of this node's own. The fault stays with the address that has it, and is said.

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::{
    address::Transport,
    reachability::{Event, Obstacle, ProbeOutcome, Summary, Vantage, Verdict},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::world::{Answer, Carrier, World, addr, host, hours, minutes, ms, secs, server_ip6};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// What is said to be in the way of `addr`, each time.
fn obstacles(world: &World, addr: &Multiaddr) -> Vec<Obstacle> {
    let told = world.events.iter().filter_map(|(_, event)| match event {
        Event::Obstructed {
            address, obstacle, ..
        } if address == addr => Some(*obstacle),
        _ => None,
    });
    told.collect()
}

/// The operator announces a name, or `/wss`, and the plain port is not forwarded.
#[test]
fn an_address_that_all_servers_refuse_keeps_no_summary_waiting() {
    for announced in [
        "/dns4/node.example.org/tcp/443/tls/ws",
        "/dns4/node.example.org/tcp/4001",
        "/ip4/81.2.69.160/tcp/443/tls/ws",
    ] {
        let announced = addr(announced);
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
        world.core.on_external_confirmed(world.now, &announced);
        for _ in 0..10 {
            let answer = if announced.to_string().contains("tls") {
                Answer::Only(Transport::Tcp)
            } else {
                Answer::Numeric
            };
            world.server(answer);
            world.core.on_candidate(world.now, &tcp());
        }
        world.run(minutes(10));
        assert_eq!(world.core.summary(), Summary::Private, "{announced}");
        world.run(hours(24));
        assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
        assert_eq!(world.verdict(&announced), Verdict::Unknown);
        assert_eq!(world.summaries(), [Summary::Private], "{announced}");
        assert_eq!(obstacles(&world, &announced), [Obstacle::Refused]);
        assert_eq!(world.report(&announced).obstacle, Some(Obstacle::Refused));
        let requests = world.asked_about(&announced).len();
        assert!(
            requests <= 60,
            "{requests} requests a day about {announced}"
        );
        assert_eq!(world.servers_wanted(), [], "{announced}");
    }
}

/// The event that it is refused says all there is to say.
#[test]
fn few_servers_that_refuse_an_address_are_called_for_once() {
    for count in [1, 2] {
        let mut world = World::new();
        let wss = addr("/dns4/node.example.org/tcp/443/tls/ws");
        world.core.on_external_confirmed(world.now, &wss);
        for _ in 0..count {
            world.server(Answer::Refuse);
        }
        world.run(hours(24));
        assert_eq!(obstacles(&world, &wss), [Obstacle::Refused]);
        assert_eq!(world.servers_wanted().len(), 1, "{count} servers");
    }
}

#[test]
fn an_address_that_servers_no_longer_refuse_is_decided() {
    let wss = addr("/dns4/node.example.org/tcp/443/tls/ws");
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.core.on_external_confirmed(world.now, &wss);
    for _ in 0..4 {
        world.server(Answer::Only(Transport::Tcp));
    }
    world.run(hours(1));
    assert_eq!(obstacles(&world, &wss), [Obstacle::Refused]);
    world.open.insert(wss.clone());
    world.server(Answer::Truth);
    world.run(minutes(1));
    assert_eq!(world.verdict(&wss), Verdict::Reachable);
    assert_eq!(world.report(&wss).obstacle, None);
}

/// TLS ends in a web server in front of a `/ws` listener, so that nonces come in over another protocol stack.
fn behind_a_tls_proxy() -> (World, Multiaddr) {
    let (ws, wss) = (
        addr("/ip4/127.0.0.1/tcp/8081/ws"),
        addr("/dns4/node.example.org/tcp/443/tls/ws"),
    );
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &ws);
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.core.on_external_confirmed(world.now, &wss);
    world.open.insert(tcp());
    let misdelivers = Answer::Nonce(Carrier::OtherStack(ws));
    for _ in 0..4 {
        let misdelivers = Box::new(misdelivers.clone());
        world.server(Answer::Over(Transport::SecureWebSocket, misdelivers));
        world.core.on_candidate(world.now, &tcp());
    }
    (world, wss)
}

#[test]
fn an_address_behind_a_tls_proxy_keeps_no_other_from_its_checks() {
    for phase in 0..4 {
        let (mut world, wss) = behind_a_tls_proxy();
        world.run(hours(1) + minutes(7 * phase));
        assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable]);
        assert_eq!(world.verdict(&wss), Verdict::Unknown);
        assert_eq!(obstacles(&world, &wss), [Obstacle::Proxied]);
        assert_eq!(world.core.servers(), (4, 4), "nobody is backed off");
        let count = |w: &World| w.probed().filter(|(_, p)| p.address == tcp()).count();
        let (asked, before) = (world.at(), count(&world));
        world.core.check_now(world.now, &tcp()).unwrap();
        let done = world.run_until(minutes(1), |w| count(w) > before);
        let took = done.expect("checked") - asked;
        assert!(took < secs(1), "check_now was answered after {took:?}");
    }
}

/// A virtual server that takes TCP connections at the announced IP and makes connections of its own: all come from there.
#[test]
fn a_tcp_proxy_at_the_announced_ip_is_said_and_no_servers_fault() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    let announced = addr("/ip4/45.66.0.1/tcp/4001");
    world.core.on_external_confirmed(world.now, &announced);
    world.open.extend([announced.clone(), tcp()]);
    for _ in 0..4 {
        let n = world.server(Answer::Over(Transport::Tcp, Box::new(Answer::Truth)));
        world.servers[n].dials_from = "45.66.0.1".parse().unwrap();
    }
    world.run(hours(2));
    assert_eq!(world.verdict(&announced), Verdict::Unknown);
    assert_eq!(obstacles(&world, &announced), [Obstacle::Proxied]);
    assert_eq!(world.core.servers(), (4, 4), "nobody is backed off");
    let requests = world.asked_about(&announced).len();
    assert!(requests <= 40, "{requests} requests in two hours");
    // The port that is forwarded at home is dialed past the proxy.
    for server in &mut world.servers {
        server.dials_from = server.ip.unwrap();
    }
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let asked = world.at();
    let found = world.run_until(minutes(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
    let took = found.expect("a verdict") - asked;
    assert!(took < secs(1), "{took:?}");
}

/// Servers that dial, and find that the connection is gone as soon as it is there: this node denies it.
fn denying(named: bool, claims: &Answer) -> World {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    for _ in 0..4 {
        world.server(claims.clone());
        world.core.on_candidate(world.now, &tcp());
    }
    let mut seen = 0;
    while world.at() < minutes(2) {
        world.run(ms(5));
        while let Some((_, n, request)) = world.requests.get(seen) {
            assert_eq!(request.addrs[0], tcp());
            let server = &world.servers[*n];
            let remote = host(server.dials_from).with(Protocol::Tcp(40_000));
            let peer = named.then_some(server.peer);
            world
                .core
                .on_inbound_denied(world.now, &listen, &remote, peer);
            seen += 1;
        }
    }
    world
}

/// A limit of one connection for each peer. The handshake was over: the peer is known, and it was there.
#[test]
fn a_dial_back_that_is_denied_after_its_handshake_is_proof() {
    for claims in [
        Answer::OkWithoutNonce,
        Answer::DialBackErrorWithoutNonce,
        Answer::DialError,
    ] {
        let world = denying(true, &claims);
        assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable], "{claims:?}");
        assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Contacted));
        assert_eq!(world.core.servers(), (4, 4), "nobody is backed off");
    }
}

/// A limit of inbound connections. It could be anybody.
#[test]
fn a_dial_back_that_may_have_been_denied_before_its_handshake_blames_nobody_and_is_said() {
    for claims in [
        Answer::OkWithoutNonce,
        Answer::DialBackErrorWithoutNonce,
        Answer::DialError,
    ] {
        let world = denying(false, &claims);
        assert_eq!(world.verdict(&tcp()), Verdict::Unknown, "{claims:?}");
        assert_eq!(
            obstacles(&world, &tcp()),
            [Obstacle::DeniedHere],
            "{claims:?}"
        );
        assert_eq!(world.report(&tcp()).obstacle, Some(Obstacle::DeniedHere));
        let outcomes = world.outcomes();
        assert!(!outcomes.is_empty());
        let only = |outcome: &ProbeOutcome| *outcome == ProbeOutcome::DeniedHere;
        assert!(outcomes.iter().all(only), "{claims:?}: {outcomes:?}");
        assert_eq!(world.core.servers(), (4, 4), "nobody is backed off");
    }
}

/// Servers that break off where others refuse.
#[test]
fn an_address_that_no_server_answers_about_keeps_no_summary_waiting_for_ever() {
    let wss = addr("/dns4/node.example.org/tcp/443/tls/ws");
    for answer in [
        Answer::Silent,
        Answer::Reset,
        Answer::Eof,
        Answer::InternalError,
        Answer::Reject,
        Answer::Violation,
    ] {
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
        world.core.on_external_confirmed(world.now, &wss);
        for _ in 0..8 {
            let answer = Box::new(answer.clone());
            world.server(Answer::Over(Transport::SecureWebSocket, answer));
            world.core.on_candidate(world.now, &tcp());
        }
        world.run(minutes(30));
        assert_eq!(world.verdicts(&tcp()), [Verdict::Unreachable], "{answer:?}");
        assert_eq!(world.core.summary(), Summary::Private, "{answer:?}");
        assert_eq!(world.summaries(), [Summary::Private], "{answer:?}");
    }
}

/// A load balancer in front of two replicas with one key, of which one is down.
fn half_of_all_dials_fail(seed: u64) -> World {
    dials_fail(seed, 0.5, 8)
}

fn dials_fail(seed: u64, share: f64, servers: usize) -> World {
    let mut world = World::of(&tcp(), []);
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..servers {
        let n = world.server(Answer::DialBack);
        let script = (0..2_000).map(|_| {
            if rng.random_bool(share) {
                Answer::DialError
            } else {
                Answer::DialBack
            }
        });
        world.servers[n].script = script.collect();
    }
    world.run(hours(48));
    world
}

fn told_stability(world: &World) -> Vec<bool> {
    let told = world.events.iter().filter_map(|(_, event)| match event {
        Event::StabilityChanged { unstable, .. } => Some(*unstable),
        _ => None,
    });
    told.collect()
}

#[test]
fn the_verdict_on_an_address_that_half_of_all_dials_fail_changes_seldom() {
    for seed in 0..3 {
        let mut world = half_of_all_dials_fail(seed);
        let changes = world.verdict_changes(&tcp());
        let second_day = changes.iter().filter(|(at, _)| *at > hours(24)).count();
        assert!(
            second_day <= 24,
            "{second_day} changes in a day, seed {seed}"
        );
        // Once both replicas are up it settles.
        for server in &mut world.servers {
            server.script.clear();
        }
        world.run(hours(12));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "seed {seed}");
        assert!(!world.report(&tcp()).unstable, "seed {seed}");
        assert_ne!(told_stability(&world).last(), Some(&true), "seed {seed}");
    }
}

#[test]
fn an_address_that_half_of_all_dials_fail_is_said_to_be_unstable() {
    for seed in 0..8 {
        let world = half_of_all_dials_fail(seed);
        assert_eq!(told_stability(&world), [true], "seed {seed}");
        assert!(world.report(&tcp()).unstable, "seed {seed}");
    }
}

#[test]
fn the_verdict_on_an_address_that_many_dials_fail_changes_seldom() {
    for share in [0.3, 0.7] {
        for servers in [3, 20] {
            let world = dials_fail(1, share, servers);
            let changes = world.verdict_changes(&tcp()).len();
            let case = format!("{share} of {servers} servers' dials fail");
            assert!(changes <= 54, "{changes} changes in two days, {case}");
            assert_eq!(told_stability(&world).first(), Some(&true), "{case}");
        }
    }
}

/// Each server tells of the change, and each of the change back.
#[test]
fn an_address_that_closes_and_opens_again_is_not_said_to_be_unstable() {
    for servers in [1, 2, 3, 8, 20] {
        for pause in [2, 20, 90] {
            let mut world = World::of(&tcp(), vec![Answer::Truth; servers]);
            for open in [true, false, true] {
                world.open = open.then(tcp).into_iter().collect();
                for _ in 0..10 {
                    world.run(minutes(pause) / 10);
                    // An operator who looks whether it works by now.
                    world.core.check_now(world.now, &tcp()).unwrap();
                }
            }
            world.run(hours(6));
            let case = format!("{servers} servers, {pause} min");
            assert_eq!(told_stability(&world), [], "{case}");
            assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "{case}");
        }
    }
}

/// A server that answers at random is no reason to call the address unstable; nor is a filter that lets some in.
#[test]
fn a_liar_and_a_filter_make_no_address_unstable() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 5]);
    world.open.insert(tcp());
    let liar = world.server(Answer::Truth);
    let answers = [Answer::DialError, Answer::DialBack].into_iter();
    world.servers[liar].script = answers.cycle().take(2_000).collect();
    world.run(hours(48));
    assert_eq!(told_stability(&world), []);

    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    for n in 0..4 {
        let server = world.server_at(Some(server_ip6(n)), Answer::DialError);
        world.servers[server].script.push_back(Answer::DialBack);
    }
    world.run(hours(48));
    assert_eq!(told_stability(&world), []);
}

/// A forwarding that is switched on and off every two minutes.
#[test]
fn an_address_that_comes_and_goes_all_the_time_is_said_to_be_unstable() {
    let mut world = World::of(&tcp(), []);
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    for n in 0..240 {
        world.open = (n % 2 == 0).then(tcp).into_iter().collect();
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(minutes(2));
    }
    assert_eq!(told_stability(&world).first(), Some(&true));
    let changes = world.verdict_changes(&tcp()).len();
    assert!(
        (8..=48).contains(&changes),
        "{changes} changes in eight hours"
    );
    world.open.insert(tcp());
    world.run(hours(6));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(told_stability(&world).last(), Some(&false));
}
