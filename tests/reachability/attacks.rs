//! What servers, peers and neighbours can make this node believe, and what they cannot.

use std::net::{IpAddr, Ipv4Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{Vantage, Verdict};

use crate::world::{Answer, World, addr, host, hours, minutes, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn tcp6() -> Multiaddr {
    addr("/ip6/2a02:1:2:3::1/tcp/4001")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A dial-back through the router's hairpin, or within the local network, never crossed the router's filter.
#[test]
fn a_dial_back_from_the_local_network_does_not_prove_a_public_address() {
    for (address, from) in [
        (tcp(), "192.168.1.7"),
        (tcp(), "10.0.0.1"),
        (tcp(), "81.2.69.160"),
        (tcp6(), "2a02:1:2:3::7"),
        (tcp6(), "fd00::7"),
    ] {
        let mut world = World::new();
        world.core.add_candidate(world.now, &address).unwrap();
        let n = world.add_server(Some(ip(from)), Answer::DialBack);
        world.connect(n);
        world.run(secs(10));
        assert_eq!(world.verdict(&address), Verdict::Unknown, "from {from}");
        assert_eq!(world.report(&address).servers, 0);
        assert!(world.external.is_empty());
    }
}

#[test]
fn a_neighbour_on_the_same_ipv6_network_is_no_stranger() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp6()).unwrap();
    world.stranger(ip("2a02:1:2:3::7"), &tcp6());
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp6()), Verdict::Unknown);
    world.stranger(ip("2a02:1:2:4::7"), &tcp6());
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp6()), Verdict::Reachable);
}

/// Most bootstrap nodes are dialed by name, and the swarm never says which IP that was.
#[test]
fn a_dial_back_by_a_server_that_was_dialed_by_name_is_a_contacted_one() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let n = world.add_server(Some(server_ip(1)), Answer::DialBack);
    let peer = world.servers[n].peer;
    let named = addr("/dns4/bootstrap.example/tcp/4001");
    let id = world.connection(peer, None, &named);
    world.servers[n].connection = Some(id);
    world.core.on_support(world.now, id, true);
    world.run(secs(1));
    let report = world.report(&tcp());
    assert_eq!(report.verdict, Verdict::Reachable);
    assert_eq!(report.vantage, Some(Vantage::Contacted));
}

/// Peers behind a relay, or known over the other family, look as if they had more to say than others.
#[test]
fn a_crowd_that_looks_independent_does_not_keep_the_others_from_being_asked() {
    for relayed in [true, false] {
        let mut world = World::new();
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.open.insert(tcp());
        for n in 0..30 {
            // All in one network.
            let ip = (!relayed).then(|| ip(&format!("2a00:666::{n:x}")));
            world.server_at(ip, Answer::DialError);
        }
        for _ in 0..8 {
            world.server(Answer::Truth);
        }
        world.run(minutes(10));
        let honest = world.requests.iter().filter(|(_, n, _)| *n >= 30).count();
        assert!(honest > 0, "relayed: {relayed}");
        assert_ne!(
            world.verdict(&tcp()),
            Verdict::Unreachable,
            "relayed: {relayed}"
        );
    }
}

/// Each new external IP starts all over, at a pace: the real address keeps its verdict, and is not asked about for ever.
#[test]
fn observed_ips_that_change_all_the_time_unsettle_nothing() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 8]);
    world.open.insert(tcp());
    world.run(hours(2));
    for n in 0..1_800_u32 {
        let ip = Ipv4Addr::from(0x0900_0000 + n * 7919);
        let observed = host(ip.into()).with(Protocol::Tcp(4001));
        world.core.on_candidate(world.now, &observed);
        world.run(secs(2));
    }
    let asked = world.asked_about(&tcp());
    let asked = asked.iter().filter(|at| **at > hours(2)).count();
    assert!(asked <= 125, "asked {asked} times in an hour");
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert!(world.external.contains(&tcp()));
    assert!(world.core.sizes().addresses <= 50);
}

/// Addresses that somebody claims to see often enough look better than one that was seen once.
#[test]
fn claims_of_observed_addresses_do_not_keep_the_real_one_out() {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    for n in 0..1000 {
        let bogus = addr(&format!("/ip4/9.9.9.9/tcp/{}", 10_000 + n));
        for _ in 0..3 {
            world.core.on_candidate(world.now, &bogus);
        }
    }
    world.open.insert(tcp());
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    for _ in 0..60 {
        world.core.on_candidate(world.now, &tcp());
        world.run(minutes(1));
    }
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}
