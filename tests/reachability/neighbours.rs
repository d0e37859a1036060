//! Servers and peers on this node's own network: behind the same border firewall, in the same cluster, in the same VPN.
//! What they reach says nothing about strangers.

use std::net::IpAddr;

use libp2p::multiaddr::Protocol;
use libp2p_autonat_v2::reachability::{Vantage, Verdict};

use crate::world::{Answer, World, addr, host, hours, minutes, server_ip, server_ip6};

/// A node with a public IP behind a firewall, and a neighbour's IP: on a campus, in another /64 of the same /56 as home
/// networks and clouds have them, and in a VPN that hands out public space.
const PLACES: [(&str, &str); 3] = [
    ("/ip4/81.2.69.160/tcp/4001", "81.2.69.77"),
    ("/ip6/2a05:d014:1:101::5/tcp/4001", "2a05:d014:1:102::7"),
    ("/ip4/26.1.2.3/tcp/4001", "26.1.2.77"),
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Servers that can't get through the firewall.
fn internet(world: &mut World, near: IpAddr, count: usize) {
    for n in 0..count {
        let ip = if near.is_ipv6() {
            server_ip6(n)
        } else {
            server_ip(n)
        };
        world.server_at(Some(ip), Answer::Truth);
    }
}

#[test]
fn a_neighbours_connection_to_a_firewalled_listener_is_no_proof() {
    for (node, near) in PLACES {
        let (node, near) = (addr(node), ip(near));
        let mut world = World::new();
        world.core.on_listen_addr(world.now, &node);
        world.stranger(near, &node);
        world.run(minutes(1));
        assert_eq!(world.verdict(&node), Verdict::Unknown, "{near}");
        assert_eq!(world.report(&node).vantage, None, "{near}");
        internet(&mut world, near, 3);
        world.run(minutes(30));
        assert_eq!(world.verdicts(&node), [Verdict::Unreachable], "{near}");
    }
}

#[test]
fn a_neighbouring_server_does_not_outweigh_the_internet() {
    for (node, near) in PLACES {
        for first in [true, false] {
            let (node, near) = (addr(node), ip(near));
            let mut world = World::new();
            world.core.on_listen_addr(world.now, &node);
            if first {
                world.server_at(Some(near), Answer::DialBack);
            }
            internet(&mut world, near, 8);
            if !first {
                world.run(minutes(10));
                world.server_at(Some(near), Answer::DialBack);
            }
            world.run(hours(1));
            assert_eq!(
                world.verdicts(&node),
                [Verdict::Unreachable],
                "{near}, first: {first}"
            );
            assert_ne!(world.report(&node).vantage, Some(Vantage::Independent));
        }
    }
}

/// Such a VPN has a whole /8, and its members are anywhere in it.
#[test]
fn members_of_a_vpn_that_uses_public_space_are_no_strangers() {
    let vpn = addr("/ip4/26.1.2.3/tcp/4001");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &vpn);
    internet(&mut world, ip("26.1.2.77"), 5);
    world.run(minutes(5));
    for n in 0..3 {
        world.stranger(IpAddr::from([26, 7, n, 9]), &vpn);
        world.run(minutes(5));
    }
    assert_eq!(world.verdicts(&vpn), [Verdict::Unreachable]);
}

#[test]
fn a_server_in_the_same_vpn_does_not_outweigh_the_internet() {
    let vpn = addr("/ip4/26.1.2.3/tcp/4001");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &vpn);
    world.server_at(Some(ip("26.7.1.9")), Answer::DialBack);
    internet(&mut world, ip("26.7.1.9"), 8);
    world.run(hours(1));
    assert_ne!(
        world.verdict(&vpn),
        Verdict::Reachable,
        "{:?}",
        world.verdict_changes(&vpn)
    );
}

/// A cluster's own bootstrap node, dialed by its service name, gets through from inside.
#[test]
fn a_server_inside_that_was_dialed_by_name_does_not_outweigh_the_internet() {
    for first in [true, false] {
        let node = addr("/ip4/81.2.69.160/tcp/4001");
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/10.244.1.5/tcp/4001"));
        let inside = |world: &mut World| {
            let n = world.add_server(None, Answer::DialBack);
            world.servers[n].dials_from = ip("10.244.7.9");
            let named = addr("/dns4/bootnode.default.svc.cluster.local/tcp/4001");
            let id = world.connection(world.servers[n].peer, None, &named);
            world.servers[n].connection = Some(id);
            world.core.on_support(world.now, id, true);
        };
        if first {
            inside(&mut world);
        }
        internet(&mut world, ip("81.2.69.77"), 8);
        world.core.on_candidate(world.now, &node);
        world.run(minutes(30));
        if !first {
            inside(&mut world);
        }
        world.run(hours(1));
        assert_eq!(
            world.verdicts(&node),
            [Verdict::Unreachable],
            "first: {first}"
        );
    }
}

/// One that mDNS found, at its private IPv4 address, and that is connected over its global IPv6 address, too.
#[test]
fn a_server_that_is_also_known_by_a_private_ip_does_not_outweigh_the_internet() {
    for private_last in [false, true] {
        let node = addr("/ip4/81.2.69.160/tcp/4001");
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
        let n = world.add_server(Some(ip("2a02:1:2:3::7")), Answer::DialBack);
        world.servers[n].dials_from = ip("192.168.1.7");
        let mut places = [ip("192.168.1.7"), ip("2a02:1:2:3::7")];
        if private_last {
            places.reverse();
        }
        for place in places {
            let remote = host(place).with(Protocol::Tcp(4001));
            let id = world.connection(world.servers[n].peer, None, &remote);
            world.core.on_support(world.now, id, true);
            // No request leaves on either: World asserts that it is the connection it knows.
            world.servers[n].connection = Some(id);
        }
        internet(&mut world, ip("81.2.69.77"), 8);
        world.core.on_candidate(world.now, &node);
        world.run(hours(1));
        assert_eq!(
            world.verdicts(&node),
            [Verdict::Unreachable],
            "{private_last}"
        );
    }
}

/// Two that are known elsewhere get in from within: over a VPN, a link of the host's own, a neighbour's network.
#[test]
fn dial_backs_from_nearby_do_not_outweigh_the_internet_wherever_the_servers_are_known() {
    for (node, from) in [
        ("/ip4/81.2.69.160/tcp/4001", "81.77.1.1"),
        ("/ip4/81.2.69.160/tcp/4001", "81.2.69.9"),
        ("/ip4/81.2.69.160/udp/4001/quic-v1", "100.64.3.3"),
        ("/ip4/81.2.69.160/tcp/4001", "127.0.0.1"),
        ("/ip6/2a05:d014:1:101::5/tcp/4001", "2a05:d014:77::9"),
        ("/ip6/2a05:d014:1:101::5/tcp/4001", "fe80::9"),
    ] {
        for first in [true, false] {
            let node = addr(node);
            let from = ip(from);
            let mut world = World::new();
            world.core.on_listen_addr(world.now, &node);
            let inside = |world: &mut World| {
                for n in 900..902 {
                    let known = if from.is_ipv6() {
                        server_ip6(n)
                    } else {
                        server_ip(n)
                    };
                    let server = world.add_server(Some(known), Answer::DialBack);
                    world.servers[server].dials_from = from;
                    world.connect(server);
                }
            };
            if first {
                inside(&mut world);
            }
            internet(&mut world, from, 8);
            if !first {
                world.run(minutes(10));
                inside(&mut world);
            }
            world.run(hours(2));
            let case = format!("{from}, first: {first}");
            assert_eq!(world.verdicts(&node), [Verdict::Unreachable], "{case}");
        }
    }
}

/// A cluster's gateway puts its own IP in place of the source of every connection.
#[test]
fn an_address_behind_a_gateway_that_hides_sources_is_proven_all_the_same() {
    for servers in [1, 4] {
        let node = addr("/ip4/81.2.69.160/tcp/4001");
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/10.244.1.5/tcp/4001"));
        world.open.insert(node.clone());
        for _ in 0..servers {
            let n = world.server(Answer::Truth);
            world.servers[n].dials_from = ip("10.244.0.1");
            world.core.on_candidate(world.now, &node);
        }
        world.run(minutes(1));
        assert!(world.external.contains(&node), "{servers} servers");
        assert_eq!(world.report(&node).vantage, Some(Vantage::Contacted));
    }
}
