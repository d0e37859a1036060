//! What servers, peers and neighbours can make this node believe, and what they cannot.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{ConnectionInfo, Summary, Vantage, Verdict};

use crate::world::{
    Answer, World, addr, host, hours, local_of, minutes, ms, secs, server_ip, server_ip6,
};

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
        let verdict = world.verdict(&tcp());
        println!(
            "relayed {relayed}: honest asked {honest} of {}, {verdict:?}, {:?}",
            world.requests.len(),
            world.verdict_changes(&tcp())
        );
    }
}

#[test]
fn two_liars_filtered() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 8]);
    world.open.insert(tcp());
    world.run(minutes(5));
    println!("{:?}", world.verdict(&tcp()));
    for _ in 0..2 {
        world.server_at(None, Answer::DialError);
    }
    world.run(hours(2));
    println!(
        "two liars: {:?} {:?}",
        world.verdict(&tcp()),
        world.verdict_changes(&tcp())
    );
}

#[test]
fn observed_ips_that_change_all_the_time() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 8]);
    world.open.insert(tcp());
    world.run(hours(2));
    let before = world.requests.len();
    for n in 0..3600u32 {
        let observed =
            host(std::net::Ipv4Addr::from(0x0900_0000 + n * 7919).into()).with(Protocol::Tcp(4001));
        world.core.on_candidate(world.now, &observed);
        world.run(secs(2));
    }
    let asked: usize = world
        .asked_about(&tcp())
        .iter()
        .filter(|at| **at > hours(2))
        .count();
    println!(
        "restarts: requests {} before, {} after, about ours {asked}; {:?}",
        before,
        world.requests.len() - before,
        world.core.sizes()
    );
    println!("{:?}", world.verdict(&tcp()));
}

#[test]
fn claims_of_observed_addresses_do_not_keep_the_real_one_out() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    for n in 0..1000u16 {
        for _ in 0..3 {
            let bogus = addr(&format!("/ip4/9.9.9.9/tcp/{}", 10_000 + n));
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
    println!(
        "displaced: tracked {:?} {:?}",
        world.core.address(&tcp()).is_some(),
        world.verdict(&tcp())
    );
}

#[test]
fn an_address_that_is_removed_before_its_confirmation_goes_out_is_not_confirmed() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.stranger(server_ip(3), &tcp());
    let _ = (
        ms(1),
        local_of(&tcp()),
        server_ip6(1),
        Summary::Public,
        PeerId::random(),
    );
    let _: Option<ConnectionInfo> = None;
}
