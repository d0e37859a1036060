//! Hosts as people have them: many interfaces, containers that come and go, NATs that change ports, laptops that sleep.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    address::Transport,
    reachability::{Event, NatMapping, Summary, Vantage, Verdict},
};

use crate::world::{
    Answer, Carrier, World, addr, host, hours, minutes, secs, server_ip, server_ip6,
};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn quic() -> Multiaddr {
    addr("/ip4/81.2.69.160/udp/4001/quic-v1")
}

/// A host behind a NAT that listens on 4001 over these.
fn behind_nat(stacks: &[&str]) -> World {
    let mut world = World::new();
    for stack in stacks {
        let listen = addr(&format!("/ip4/192.168.1.2/{stack}"));
        world.core.on_listen_addr(world.now, &listen);
    }
    world
}

/// A peer that this node meets, and that sees it there.
fn seen_by(world: &mut World, observer: IpAddr, seen: &Multiaddr) -> ConnectionId {
    let connection = world.acquaintance(observer);
    world.core.on_observed(world.now, connection, seen);
    world.drain();
    connection
}

/// How many requests leave in the third hour, where a new peer comes every 30 s and each port is seen by so many of them.
fn third_hour_of_a_nat_that_changes_ports(stack: &str, peers: usize) -> usize {
    let listen = stack.replace('#', "4001");
    let guess = addr(&format!("/ip4/81.2.69.160/{listen}"));
    let mut world = behind_nat(&[listen.as_str()]);
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    let mut before = 0;
    for n in 0..360 {
        if n == 240 {
            before = world.requests.len();
        }
        let port = (32_768 + (n / peers * 7_919) % 28_000).to_string();
        let seen = addr(&format!("/ip4/81.2.69.160/{}", stack.replace('#', &port)));
        world.core.on_candidate(world.now, &guess);
        let connection = seen_by(&mut world, server_ip(100 + n), &seen);
        world.run(secs(30));
        world.core.on_connection_closed(world.now, connection);
    }
    assert_eq!(world.core.summary(), Summary::Private);
    world.requests.len() - before
}

#[test]
fn ports_that_one_peer_each_saw_are_not_all_asked_about() {
    for stack in ["tcp/#", "udp/#/quic-v1"] {
        let requests = third_hour_of_a_nat_that_changes_ports(stack, 1);
        assert!(requests <= 12, "{requests} requests over {stack}");
    }
}

/// Some NATs give one external port to a few peers, and the next to others.
#[test]
fn ports_that_a_few_peers_each_saw_are_not_all_asked_about() {
    for stack in ["tcp/#", "udp/#/quic-v1", "tcp/#/ws"] {
        for peers in [2, 3] {
            let requests = third_hour_of_a_nat_that_changes_ports(stack, peers);
            assert!(
                requests <= 20,
                "{requests} requests over {stack}, {peers} peers"
            );
        }
    }
}

/// A swarm that listens on all interfaces tells of each.
fn forty_interfaces(world: &mut World, stack: &str, lan_first: bool) {
    let lan = addr(&format!("/ip4/192.168.1.2/{stack}"));
    if lan_first {
        world.core.on_listen_addr(world.now, &lan);
    }
    for n in 0..39 {
        let bridge = addr(&format!("/ip4/172.18.{n}.1/{stack}"));
        world.core.on_listen_addr(world.now, &bridge);
    }
    world.core.on_listen_addr(world.now, &lan);
}

#[test]
fn forwarded_ports_are_found_on_a_host_with_forty_interfaces() {
    let stacks = ["tcp/4001", "udp/4001/quic-v1"];
    for (lan_first, tcp_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = World::new();
        for n in 0..2 {
            forty_interfaces(
                &mut world,
                stacks[usize::from((n == 0) != tcp_first)],
                lan_first,
            );
        }
        world.open.extend([tcp(), quic()]);
        for _ in 0..3 {
            world.server(Answer::Truth);
            world.core.on_candidate(world.now, &tcp());
        }
        world.run(minutes(2));
        for address in [tcp(), quic()] {
            let verdict = world.verdict(&address);
            assert_eq!(
                verdict,
                Verdict::Reachable,
                "{address}: {lan_first}, {tcp_first}"
            );
        }
    }
}

#[test]
fn the_fortieth_port_that_is_listened_on_is_found_too() {
    let mut world = World::new();
    for port in 4_001..=4_040 {
        let listen = addr(&format!("/ip4/192.168.1.2/tcp/{port}"));
        world.core.on_listen_addr(world.now, &listen);
    }
    let last = addr("/ip4/81.2.69.160/tcp/4040");
    world.open.insert(last.clone());
    for _ in 0..8 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &last);
    }
    world.run(minutes(10));
    assert_eq!(world.verdict(&last), Verdict::Reachable);
    assert_eq!(world.core.addresses().count(), 40);
}

/// A server with a whole network of public IPs, more than are tracked.
#[test]
fn both_transports_of_a_host_with_sixty_public_ips_are_found() {
    for v6 in [false, true] {
        for tcp_first in [false, true] {
            let mut world = World::new();
            let mut stacks = ["tcp/4001", "udp/4001/quic-v1"];
            if tcp_first {
                stacks.reverse();
            }
            for stack in stacks {
                for n in 1..=60 {
                    let listen = addr(&if v6 {
                        format!("/ip6/2a05:1:2:3::{n:x}/{stack}")
                    } else {
                        format!("/ip4/81.2.69.{n}/{stack}")
                    });
                    world.core.on_listen_addr(world.now, &listen);
                    world.open.insert(listen);
                }
            }
            for n in 0..4 {
                let ip = if v6 { server_ip6(n) } else { server_ip(n) };
                world.server_at(Some(ip), Answer::Truth);
            }
            world.run(minutes(10));
            for stack in stacks {
                let of_stack = |it: &&Multiaddr| it.to_string().ends_with(stack);
                let found = world.external.iter().filter(of_stack).count();
                assert!(found >= 20, "{found} over {stack}, IPv6: {v6}");
            }
        }
    }
}

/// Containers start and stop, each with a bridge of its own, and nothing changes that a stranger could notice.
#[test]
fn bridges_that_come_and_go_cause_no_checks() {
    let bridges: [fn(u32) -> String; 2] = [
        |n| format!("/ip4/172.20.{}.1/tcp/4001", n % 250),
        |n| format!("/ip6/fd12:3456:{n:x}::1/tcp/4001"),
    ];
    for bridge in bridges {
        let mut counts = Vec::new();
        for churn in [false, true] {
            let mut world = behind_nat(&["tcp/4001"]);
            // Docker's default bridge is there all the time.
            world
                .core
                .on_listen_addr(world.now, &addr("/ip6/fd00::1/tcp/4001"));
            world.open.insert(tcp());
            for _ in 0..10 {
                world.server(Answer::Truth);
                world.core.on_candidate(world.now, &tcp());
            }
            world.run(hours(3));
            let before = world.requests.len();
            for n in 0..720 {
                let bridge = addr(&bridge(n));
                if churn {
                    world.core.on_listen_addr(world.now, &bridge);
                }
                world.run(secs(3));
                world.core.on_listen_addr_gone(world.now, &bridge);
                world.run(secs(2));
            }
            counts.push(world.requests.len() - before);
        }
        assert_eq!(
            counts[0],
            counts[1],
            "an hour without and with {}",
            bridge(1)
        );
    }
}

/// What happens where the first bridge with an IP of its kind comes, which a stranger could notice for all that is known.
#[test]
fn the_only_bridge_of_its_family_that_comes_and_goes_causes_few_checks() {
    let mut world = behind_nat(&["tcp/4001"]);
    world.open.insert(tcp());
    for _ in 0..10 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(hours(3));
    let before = world.requests.len();
    for n in 0..720 {
        let bridge = addr(&format!("/ip6/fd12:3456:{n:x}::1/tcp/4001"));
        world.core.on_listen_addr(world.now, &bridge);
        world.run(secs(3));
        world.core.on_listen_addr_gone(world.now, &bridge);
        world.run(secs(2));
    }
    let requests = world.requests.len() - before;
    assert!(requests <= 12, "{requests} requests in an hour");
}

/// The same with bridges that no other interface resembles, and with a listener of its own that a program opens and closes.
#[test]
fn a_listener_that_comes_and_goes_causes_few_checks() {
    type Listener = fn(u32) -> String;
    let listeners: [(Listener, usize); 5] = [
        (|n| format!("/ip4/169.254.{}.1/tcp/4001", n % 250), 12),
        (|n| format!("/ip4/100.64.{}.1/tcp/4001", n % 250), 12),
        (|n| format!("/ip4/127.0.{}.1/tcp/4001", n % 250), 12),
        (|_| "/ip4/10.1.1.1/tcp/4001".to_owned(), 12),
        (|_| "/ip4/192.168.1.2/udp/4001/quic-v1".to_owned(), 100),
    ];
    for public in [false, true] {
        for (listener, most) in listeners {
            let own = if public {
                tcp()
            } else {
                addr("/ip4/192.168.1.2/tcp/4001")
            };
            let mut world = World::new();
            world.core.on_listen_addr(world.now, &own);
            world.open.insert(tcp());
            for _ in 0..10 {
                world.server(Answer::Truth);
                world.core.on_candidate(world.now, &tcp());
            }
            world.run(hours(3));
            let before = world.requests.len();
            for n in 0..720 {
                let listener = addr(&listener(n));
                world.core.on_listen_addr(world.now, &listener);
                world.run(secs(3));
                world.core.on_listen_addr_gone(world.now, &listener);
                world.run(secs(2));
            }
            let requests = world.requests.len() - before;
            assert!(requests <= most, "{requests} with {}", listener(1));
            assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable]);
        }
    }
}

/// The kernel keeps the connections of before the suspend for a quarter of an hour, and nothing comes back over them.
#[test]
fn servers_are_asked_on_the_connections_that_were_made_after_the_sleep() {
    let mut world = behind_nat(&["tcp/4001"]);
    world.open.insert(tcp());
    for _ in 0..4 {
        world.server(Answer::Truth);
    }
    let dead: Vec<ConnectionId> = world.servers.iter().filter_map(|s| s.connection).collect();
    world.now += hours(8);
    for n in 0..4 {
        // World::connect asserts that requests leave on the newest connection only.
        world.connect(n);
        world.core.on_candidate(world.now, &tcp());
    }
    let woke = world.at();
    let found = world.run_until(minutes(2), |w| w.verdict(&tcp()) == Verdict::Reachable);
    let took = found.expect("a verdict") - woke;
    assert!(took < secs(2), "{took:?}");
    world.run(minutes(10));
    for id in dead {
        world.core.on_connection_closed(world.now, id);
    }
    world.run(hours(1));
    assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable]);
}

/// It still has the link that died in the sleep; the first request over it is lost, and then the server is there again.
#[test]
fn a_server_that_failed_on_a_dead_link_is_asked_at_once_when_it_is_back() {
    let mut world = behind_nat(&["tcp/4001"]);
    world.open.insert(tcp());
    let only = world.server(Answer::Silent);
    world.core.on_candidate(world.now, &tcp());
    world.run(minutes(30));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
    world.servers[only].otherwise = Answer::Truth;
    world.connect(only);
    let back = world.at();
    let found = world.run_until(hours(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
    let took = found.expect("a verdict") - back;
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn a_node_without_listeners_asks_nobody() {
    for (relayed, stack) in [
        (false, "tcp/#"),
        (true, "tcp/#"),
        (false, "udp/#/quic-v1"),
        (false, "tcp/#/ws"),
    ] {
        let mut world = World::new();
        if relayed {
            let circuit = host(server_ip(900))
                .with(Protocol::Tcp(4001))
                .with(Protocol::P2p(PeerId::random()))
                .with(Protocol::P2pCircuit)
                .with(Protocol::P2p(world.me));
            world.core.on_listen_addr(world.now, &circuit);
        }
        for _ in 0..5 {
            world.server(Answer::Truth);
        }
        for n in 0..120 {
            let port = 30_000 + n / 2;
            let seen = stack.replace('#', &port.to_string());
            let seen = addr(&format!("/ip4/81.2.69.160/{seen}"));
            world.core.on_candidate(world.now, &seen);
            seen_by(&mut world, server_ip(100 + n), &seen);
            world.run(secs(30));
        }
        let requests = world.requests.len();
        assert_eq!(requests, 0, "in an hour, {stack}, over a relay: {relayed}");
        assert_eq!(world.servers_wanted(), []);
        assert_eq!(world.core.summary(), Summary::Unknown);
    }
}

/// What peers have seen meanwhile is not asked about for ever, either.
#[test]
fn a_node_whose_listeners_have_all_stopped_asks_nobody() {
    let mut world = behind_nat(&["tcp/4001"]);
    for n in 0..5 {
        world.server(Answer::Truth);
        seen_by(&mut world, server_ip(100 + n), &tcp());
    }
    world.run(minutes(10));
    world
        .core
        .on_listen_addr_gone(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.run(secs(1));
    let before = world.requests.len();
    for n in 0..30 {
        let seen = addr(&format!("/ip4/81.2.69.160/tcp/{}", 30_000 + n / 2));
        seen_by(&mut world, server_ip(200 + n), &seen);
        world.core.on_candidate(world.now, &tcp());
        world.run(minutes(1));
    }
    assert_eq!(world.requests.len(), before);
    // It listens again, and what it would have asked then it asks now.
    world.open.insert(tcp());
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.run(secs(2));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// No check could tell: there is nobody to ask.
#[test]
fn an_address_whose_listener_stops_while_no_server_is_connected_is_withdrawn() {
    for (listen, external) in [
        ("/ip4/81.2.69.160/tcp/4001", tcp()),
        ("/ip4/192.168.1.2/tcp/4001", tcp()),
        ("/ip4/192.168.1.2/udp/4001/quic-v1", quic()),
    ] {
        let mut world = World::new();
        world.core.on_listen_addr(world.now, &addr(listen));
        world.open.insert(external.clone());
        for _ in 0..3 {
            world.server(Answer::Truth);
            world.core.on_candidate(world.now, &external);
        }
        world.run(minutes(1));
        assert!(world.external.contains(&external), "{listen}");
        for n in 0..3 {
            world.disconnect(n);
        }
        world.run(minutes(10));
        world.core.on_listen_addr_gone(world.now, &addr(listen));
        world.run(secs(1));
        assert!(world.external.is_empty(), "{listen}: {:?}", world.external);
    }
}

/// A carrier's NAT gives the listener another external port. Peers that are met from then on see that one.
#[test]
fn an_external_port_that_moved_is_withdrawn_within_the_time_that_the_new_one_takes() {
    let mut world = behind_nat(&["tcp/4001"]);
    let [old, new] = [40_001, 40_002].map(|port| addr(&format!("/ip4/81.2.69.160/tcp/{port}")));
    world.open.insert(old.clone());
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    for n in 0..4 {
        seen_by(&mut world, server_ip(100 + n), &old);
        world.run(minutes(1));
    }
    world.run(hours(3));
    assert!(world.external.contains(&old));
    world.open = [new.clone()].into();
    let moved = world.at();
    for n in 0..3 {
        seen_by(&mut world, server_ip(200 + n), &new);
        world.run(secs(10));
    }
    let only_new = |w: &World| w.external.contains(&new) && !w.external.contains(&old);
    let took = world.run_until(minutes(20), only_new).expect("withdrawn") - moved;
    assert!(took <= minutes(1), "{took:?}");
}

/// The same where nobody tells who sees which port.
#[test]
fn an_external_port_that_moved_is_withdrawn_without_named_observers_too() {
    for stack in ["tcp/#", "udp/#/quic-v1", "tcp/#/ws"] {
        let mut world = behind_nat(&[stack.replace('#', "4001").as_str()]);
        let [old, new] = ["40001", "40002"]
            .map(|port| addr(&format!("/ip4/81.2.69.160/{}", stack.replace('#', port))));
        world.open.insert(old.clone());
        for _ in 0..8 {
            world.server(Answer::Truth);
        }
        let see = |world: &mut World, peer: usize, seen: &Multiaddr| {
            world.acquaintance(server_ip(peer));
            world.core.on_candidate(world.now, seen);
            world.run(secs(10));
        };
        for n in 0..4 {
            see(&mut world, 100 + n, &old);
        }
        world.run(hours(3));
        assert!(world.external.contains(&old), "{stack}");
        world.open = [new.clone()].into();
        let moved = world.at();
        for n in 0..3 {
            see(&mut world, 200 + n, &new);
        }
        let only_new = |w: &World| w.external.contains(&new) && !w.external.contains(&old);
        let took = world.run_until(minutes(20), only_new).expect("withdrawn") - moved;
        assert!(took <= minutes(1), "{took:?}, {stack}");
    }
}

/// Bootstrap peers are dialed by `/dnsaddr`, and the swarm does not say which IPs that were.
#[test]
fn peers_that_were_dialed_by_name_tell_how_the_nat_maps_ports() {
    for (ports, mapping) in [
        ([4001, 4001], NatMapping::EndpointIndependent),
        ([40_001, 40_002], NatMapping::EndpointDependent),
    ] {
        let mut world = behind_nat(&["udp/4001/quic-v1"]);
        for (n, port) in ports.into_iter().enumerate() {
            let named = addr(&format!("/dns4/bootstrap-{n}.example/udp/4001/quic-v1"));
            let connection = world.connection(PeerId::random(), None, &named);
            let seen = addr(&format!("/ip4/81.2.69.160/udp/{port}/quic-v1"));
            world.core.on_observed(world.now, connection, &seen);
        }
        world.drain();
        assert_eq!(world.core.nat_mapping(), mapping);
        let told = world.events.iter().filter(
            |(_, event)| matches!(event, Event::NatMappingChanged { new, .. } if *new == mapping),
        );
        assert_eq!(told.count(), 1);
    }
}

/// This node's own server dials from new ports, and those whom it dials tell what they see, as identify does.
#[test]
fn what_is_seen_of_dials_from_new_ports_says_nothing() {
    let mut world = World::new();
    for listen in [tcp(), quic()] {
        world.core.on_listen_addr(world.now, &listen);
        world.open.insert(listen);
    }
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    for n in 0..120u32 {
        let remote = host(server_ip(100 + n as usize)).with(Protocol::Udp(4001));
        let connection = world.connection(PeerId::random(), None, &remote.with(Protocol::QuicV1));
        world.core.on_dialed_from_new_port(connection);
        for stack in ["tcp/#", "udp/#/quic-v1"] {
            let port = (30_000 + n).to_string();
            let seen = format!("/ip4/81.2.69.160/{}", stack.replace('#', &port));
            world.core.on_observed(world.now, connection, &addr(&seen));
        }
        world.run(secs(5));
        world.core.on_connection_closed(world.now, connection);
    }
    assert_eq!(world.core.nat_mapping(), NatMapping::Unknown);
    let tracked: Vec<Multiaddr> = world.core.addresses().map(|it| it.address).collect();
    assert_eq!(tracked, [tcp(), quic()]);
    assert_eq!(world.external, [tcp(), quic()].into());
}

/// A cloud host with an IP that is mapped one to one. Peers that have only TCP see it.
#[test]
fn listeners_of_browser_transports_are_guessed_as_the_plain_ones_are() {
    let stacks = [
        "tcp/4001",
        "tcp/4002/ws",
        "udp/4001/quic-v1",
        "udp/4001/quic-v1/webtransport",
        "udp/4003/webrtc-direct",
    ];
    let mut world = behind_nat(&stacks);
    let at = |stack: &str| addr(&format!("/ip4/81.2.69.160/{stack}"));
    world.open.extend(stacks.map(at));
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    for n in 0..3 {
        seen_by(&mut world, server_ip(100 + n), &tcp());
    }
    world.run(minutes(5));
    for stack in stacks {
        let report = world.report(&at(stack));
        assert!(report.sources.guessed, "{stack}");
        assert_eq!(report.verdict, Verdict::Reachable, "{stack}");
        assert!(world.external.contains(&at(stack)), "{stack}");
    }
}

/// Forty interfaces, containers that come and go, both roles in one swarm, `observed()` wired, a NAT that changes ports,
/// UDP forwarded and TCP not.
#[test]
fn a_messy_host_gets_right_verdicts_for_few_requests() {
    let mut world = World::new();
    forty_interfaces(&mut world, "tcp/4001", true);
    forty_interfaces(&mut world, "udp/4001/quic-v1", true);
    world.open.insert(quic());
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    let mut before = 0;
    // One step in 30 s, for three hours.
    for n in 0..360u32 {
        if n == 240 {
            before = world.requests.len();
        }
        let peer = 100 + n as usize;
        let port = (32_768 + (n * 7_919) % 28_000).to_string();
        let bridge = format!("/ip4/172.20.{}.1/tcp/4001", n % 250);
        world.core.on_listen_addr(world.now, &addr(&bridge));
        // Identify takes the listen port for the observed one, and tells the swarm.
        world.core.on_candidate(world.now, &tcp());
        world.core.on_candidate(world.now, &quic());
        let mut opened = Vec::new();
        for stack in ["tcp/#", "udp/#/quic-v1"] {
            let seen = addr(&format!("/ip4/81.2.69.160/{}", stack.replace('#', &port)));
            opened.push(seen_by(&mut world, server_ip(peer), &seen));
            // The dial-back that this node's own server makes.
            let target = host(server_ip(400 + n as usize)).with(Protocol::Tcp(4001));
            let dialed = world.connection(PeerId::random(), None, &target);
            world.core.on_dialed_from_new_port(dialed);
            world.core.on_observed(world.now, dialed, &seen);
            opened.push(dialed);
        }
        world.run(secs(15));
        world.core.on_listen_addr_gone(world.now, &addr(&bridge));
        for connection in opened {
            world.core.on_connection_closed(world.now, connection);
        }
        world.run(secs(15));
    }
    assert_eq!(world.verdict(&quic()), Verdict::Reachable);
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.external, [quic()].into());
    assert_eq!(world.core.nat_mapping(), NatMapping::EndpointDependent);
    let requests = world.requests.len() - before;
    assert!(requests <= 20, "{requests} requests in the third hour");
}

fn told_mappings(world: &World) -> Vec<NatMapping> {
    let told = world.events.iter().filter_map(|(_, event)| match event {
        Event::NatMappingChanged { new, .. } => Some(*new),
        _ => None,
    });
    told.collect()
}

fn quic_at(port: usize) -> Multiaddr {
    addr(&format!("/ip4/81.2.69.160/udp/{port}/quic-v1"))
}

/// A NAT forgets a mapping over which nothing was sent for a while, and gives the next one another port: to the first peer that
/// sees that, all others have seen another.
#[test]
fn a_nat_that_forgets_a_mapping_is_not_called_endpoint_dependent() {
    let mut world = behind_nat(&["udp/4001/quic-v1"]);
    for silence in 0..20 {
        for n in 0..3 {
            let peer = server_ip(100 + (3 * silence + n) % 40);
            let id = seen_by(&mut world, peer, &quic_at(50_000 + silence));
            world.core.on_connection_closed(world.now, id);
            world.run(secs(20));
        }
        world.run(minutes(10));
    }
    assert_eq!(told_mappings(&world), [NatMapping::EndpointIndependent]);
}

#[test]
fn one_peer_alone_does_not_make_the_nat_endpoint_dependent() {
    let mut world = behind_nat(&["udp/4001/quic-v1"]);
    for n in 0..4 {
        seen_by(&mut world, server_ip(n), &quic());
    }
    let liar = world.acquaintance(server_ip(5));
    for n in 0..100 {
        let seen = quic_at(20_000 + n);
        world.core.on_observed(world.now, liar, &seen);
        world.run(secs(10));
        seen_by(&mut world, server_ip(n % 4), &quic());
    }
    assert_eq!(told_mappings(&world), [NatMapping::EndpointIndependent]);
}

#[test]
fn a_nat_that_becomes_endpoint_dependent_is_noticed_and_that_it_no_longer_is_too() {
    let mut world = behind_nat(&["udp/4001/quic-v1"]);
    let see = |world: &mut World, port: fn(usize) -> usize| {
        for n in 0..4 {
            seen_by(world, server_ip(n), &quic_at(port(n)));
        }
        world.core.nat_mapping()
    };
    assert_eq!(see(&mut world, |_| 4001), NatMapping::EndpointIndependent);
    assert_eq!(
        see(&mut world, |n| 20_000 + n),
        NatMapping::EndpointDependent
    );
    assert_eq!(see(&mut world, |_| 4001), NatMapping::EndpointIndependent);
}

/// One socket for both families spells IPv4 as `/ip6/::ffff:192.168.1.2`, and so whatever comes in on it.
#[test]
fn a_socket_for_both_families_is_one_for_ipv4() {
    let listen = addr("/ip6/::ffff:192.168.1.2/tcp/4001");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &listen);
    for n in 0..3 {
        let IpAddr::V4(ip) = server_ip(n) else {
            unreachable!("IPv4")
        };
        let carrier = Carrier::OtherStack(listen.clone());
        world.add_server(Some(ip.into()), Answer::Nonce(carrier));
        world.servers[n].dials_from = ip.to_ipv6_mapped().into();
        world.connect(n);
        let id = world.servers[n].connection.unwrap();
        let seen = addr("/ip6/::ffff:81.2.69.160/tcp/4001");
        world.core.on_observed(world.now, id, &seen);
    }
    world.run(secs(10));
    let report = world.report(&tcp());
    assert_eq!(report.verdict, Verdict::Reachable);
    assert_eq!(report.vantage, Some(Vantage::Contacted));
    assert_eq!(world.external, [tcp()].into());
    world.core.on_listen_addr_gone(world.now, &listen);
    world.run(secs(1));
    assert!(world.external.is_empty());
}

/// A listener with a wildcard certificate, announced by the name that the certificate is for and by the IP with that name.
#[test]
fn a_tls_listener_is_proven_by_whatever_name_it_is_dialed() {
    let listen = addr("/ip4/192.168.1.2/tcp/4002/tls/sni/*.k51abc.libp2p.direct/ws");
    let named = [
        addr("/dns4/81-2-69-160.k51abc.libp2p.direct/tcp/4002/tls/ws"),
        addr("/ip4/81.2.69.160/tcp/4002/tls/sni/81-2-69-160.k51abc.libp2p.direct/ws"),
    ];
    let mut world = behind_nat(&["tcp/4001"]);
    world.core.on_listen_addr(world.now, &listen);
    world.open.insert(tcp());
    for n in 0..6 {
        let answer = if n < 3 {
            Answer::Nonce(Carrier::OtherStack(listen.clone()))
        } else {
            Answer::Refuse
        };
        let secure = Answer::Over(Transport::SecureWebSocket, Box::new(answer));
        world.server(secure);
        world.core.on_candidate(world.now, &tcp());
    }
    for address in &named {
        world.core.on_external_confirmed(world.now, address);
    }
    world.run(minutes(5));
    for address in named.iter().chain([&tcp()]) {
        assert_eq!(world.verdict(address), Verdict::Reachable, "{address}");
    }
}
