//! Many of one kind: servers of one operator, peers of one network, forms of one address. A crowd has one voice, and takes
//! no room from others.

use std::{net::IpAddr, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{AddressReport, Config, Output, ProbeEnd, Reachability, Vantage, Verdict},
};

use crate::world::{Answer, World, addr, host, hours, minutes, ms, secs, server_ip, server_ip6};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// Where a crowd lives.
fn one_ip() -> IpAddr {
    IpAddr::from([45, 66, 0, 1])
}

/// A world whose core draws from this seed, with an address that can be reached.
fn seeded(seed: u64) -> World {
    let mut world = World::new();
    world.core = Reachability::new(world.me, Config::default(), seed, world.now);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.open.insert(tcp());
    world
}

fn honest(world: &mut World, count: usize) {
    for n in 0..count {
        world.server_at(Some(server_ip(n)), Answer::Truth);
    }
}

fn crowd(world: &mut World, count: usize, answer: &Answer) {
    for _ in 0..count {
        world.server_at(Some(one_ip()), answer.clone());
    }
}

fn was_called_unreachable(world: &World) -> bool {
    world.verdicts(&tcp()).contains(&Verdict::Unreachable)
}

/// A server that is connected as `remote` says.
fn server_known_by(world: &mut World, remote: &Multiaddr, answer: Answer) -> usize {
    let n = world.add_server(None, answer);
    let id = world.connection(world.servers[n].peer, None, remote);
    world.servers[n].connection = Some(id);
    world.core.on_support(world.now, id, true);
    world.drain();
    n
}

#[test]
fn a_crowd_on_one_ip_that_is_there_first_does_not_decide_alone() {
    for (size, runs) in [(8, 6), (30, 4), (64, 2), (300, 2), (1_000, 1)] {
        for seed in 0..runs {
            let mut world = seeded(seed);
            crowd(&mut world, size, &Answer::DialError);
            honest(&mut world, 8);
            world.run(minutes(10));
            assert!(
                !was_called_unreachable(&world),
                "a crowd of {size}, seed {seed}"
            );
            assert_eq!(
                world.verdict(&tcp()),
                Verdict::Reachable,
                "a crowd of {size}, seed {seed}"
            );
        }
    }
}

/// Honest peers come and go, as peers do; the crowd stays.
#[test]
fn a_crowd_on_one_ip_does_not_expire_a_proven_address() {
    for (size, runs) in [(30, 2), (100, 1), (300, 1)] {
        for seed in 0..runs {
            let mut world = seeded(seed);
            honest(&mut world, 8);
            world.run(minutes(2));
            assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
            crowd(&mut world, size, &Answer::DialError);
            for n in 0..180 {
                world.disconnect(n % 8);
                world.run(secs(1));
                world.connect(n % 8);
                world.run(secs(59));
            }
            assert_eq!(
                world.verdicts(&tcp()),
                [Verdict::Reachable],
                "a crowd of {size}, seed {seed}"
            );
        }
    }
}

#[test]
fn as_many_servers_on_one_ip_as_there_is_room_for_leave_room_for_others() {
    let mut world = seeded(7);
    crowd(&mut world, 1_000, &Answer::DialError);
    honest(&mut world, 8);
    world.run(minutes(10));
    let asked: Vec<usize> = (1_000..1_008)
        .filter(|n| world.requests.iter().any(|(_, server, _)| server == n))
        .collect();
    assert!(!asked.is_empty(), "of eight servers in eight networks");
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// Two that are known over IPv6 only, or through relays, say that they can't reach what eight contacted servers prove.
#[test]
fn two_servers_that_may_be_unable_do_not_expire_what_eight_prove() {
    type Remote = fn(u8) -> Multiaddr;
    let remotes: [(&str, Remote); 3] = [
        ("two hosts over IPv6", |n| {
            host(server_ip6(usize::from(n))).with(Protocol::Tcp(4001))
        }),
        ("one network over IPv6", |n| {
            addr(&format!("/ip6/2a00:666::{}/tcp/4001", n + 1))
        }),
        ("behind two relays", |n| {
            host(server_ip(500 + usize::from(n)))
                .with(Protocol::Tcp(4001))
                .with(Protocol::P2p(PeerId::random()))
                .with(Protocol::P2pCircuit)
        }),
    ];
    for (what, remote) in remotes {
        let mut world = seeded(7);
        honest(&mut world, 8);
        world.run(minutes(5));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
        for n in 0..2 {
            let remote = remote(n);
            if remote.iter().any(|part| part == Protocol::P2pCircuit) {
                server_known_by(&mut world, &remote, Answer::DialError);
            } else {
                let ip = libp2p_autonat_v2::address::ip(&remote);
                world.server_at(ip, Answer::DialError);
            }
        }
        for _ in 0..6 * 60 {
            world.run(minutes(1));
            assert!(
                world.external.contains(&tcp()),
                "{what}: {:?}",
                world.verdict_changes(&tcp())
            );
        }
    }
}

/// Nobody knows which IP stood behind the name.
#[test]
fn another_peer_at_an_ip_that_was_dialed_by_name_is_not_independent() {
    let named = addr("/dns4/operator.example/tcp/4001");
    // A server that is known through a relay, and dials back from there.
    let mut world = World::with(Config::default().with_required_vantage(Vantage::Independent));
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.connection(PeerId::random(), None, &named);
    let n = world.add_server(None, Answer::DialBack);
    world.servers[n].dials_from = one_ip();
    world.connect(n);
    world.run(secs(20));
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Contacted));
    assert!(world.external.is_empty());

    // A peer that comes in at a listener behind a stateful firewall.
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.connection(PeerId::random(), None, &named);
    world.stranger(one_ip(), &tcp());
    world.run(secs(5));
    assert_ne!(world.report(&tcp()).vantage, Some(Vantage::Independent));
    assert!(world.external.is_empty());
}

/// The firewall's state for this node's own dial lets it in again, over QUIC from its listen port.
#[test]
fn a_peer_that_was_dialed_by_name_and_comes_back_is_no_stranger() {
    let quic = addr("/ip4/81.2.69.160/udp/4001/quic-v1");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &quic);
    let peer = PeerId::random();
    let id = world.connection(peer, None, &addr("/dnsaddr/bootstrap.example"));
    world.run(secs(30));
    world.core.on_connection_closed(world.now, id);
    world.run(secs(5));
    let from = host(one_ip())
        .with(Protocol::Udp(4001))
        .with(Protocol::QuicV1);
    world.connection(peer, Some(quic.clone()), &from);
    world.run(secs(5));
    assert_ne!(world.report(&quic).vantage, Some(Vantage::Independent));
    assert!(world.external.is_empty());
}

/// Peer IDs on one IP ask for as many bytes as they may for each address that they are asked about, and say that they
/// can't reach it. Returns what they got, and when the core first turned one down.
fn burn(world: &mut World, peers: usize, time: Duration) -> (u64, Option<Duration>) {
    let links: Vec<ConnectionId> = (0..peers)
        .map(|_| {
            let remote = host(one_ip()).with(Protocol::Tcp(4001));
            let id = world.connection(PeerId::random(), None, &remote);
            world.core.on_support(world.now, id, true);
            id
        })
        .collect();
    let (start, mut paid, mut turned_down) = (world.now, 0, None);
    while world.now < start + time && turned_down.is_none() {
        while let Some(output) = world.core.poll_event() {
            let Output::Probe(request) = output else {
                continue;
            };
            for index in 0..u32::try_from(request.addrs.len()).unwrap() {
                if world
                    .core
                    .on_dial_data_request(world.now, request.id, index, 100_000)
                {
                    paid += 100_000;
                } else {
                    turned_down.get_or_insert(world.now - start);
                }
                let mut response = DialResponse::without_dial(ResponseStatus::Ok);
                response.addr_idx = index;
                response.dial_status = DialStatus::DialError;
                world.core.on_response(world.now, request.id, response);
            }
            world
                .core
                .on_probe_end(world.now, request.id, ProbeEnd::Completed);
        }
        world.now += ms(100);
        if world.core.poll_timeout().is_some_and(|at| at <= world.now) {
            world.core.handle_timeout(world.now);
        }
    }
    for id in links {
        world.core.on_connection_closed(world.now, id);
    }
    (paid, turned_down)
}

fn with_addresses(count: u8) -> World {
    let mut world = World::new();
    for n in 0..count {
        let address = addr(&format!("/ip4/81.2.70.{n}/tcp/4001"));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    world
}

#[test]
fn one_operator_does_not_spend_the_dial_data_of_an_hour() {
    for (addresses, peers) in [(2, 8), (10, 1), (10, 8)] {
        let mut world = with_addresses(addresses);
        let (paid, turned_down) = burn(&mut world, peers, minutes(30));
        // Of 8 MB.
        assert!(
            paid <= 4_000_000,
            "{addresses} addresses, {peers} peers: {paid} bytes"
        );
        let soon = turned_down.is_some_and(|after| after < minutes(30));
        assert!(
            !soon || paid < 4_000_000,
            "{addresses} addresses, {peers} peers"
        );
    }
}

/// Honest servers that see this node at another IP must ask for dial data.
#[test]
fn an_address_that_needs_dial_data_is_decided_in_spite_of_greedy_servers() {
    let mut world = with_addresses(10);
    burn(&mut world, 8, minutes(3));
    for _ in 0..8 {
        world.server(Answer::DialData(65_000));
    }
    world.open.insert(tcp());
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let added = world.at();
    let found = world.run_until(minutes(30), |w| w.verdict(&tcp()) == Verdict::Reachable);
    let took = found.expect("a verdict") - added;
    assert!(took < minutes(1), "{took:?}");
}

/// One peer, or several, that names addresses with more behind their transport than it takes. Servers refuse these.
fn name_ornamented_addresses(world: &mut World, round: u32) {
    for peer in 0..2 {
        let id = world.acquaintance(server_ip(200 + (round % 40) as usize + peer));
        for n in 0..10 {
            let ornamented = format!("/ip4/81.2.69.160/tcp/4001/http-path/{}", round * 10 + n);
            world.core.on_candidate(world.now, &addr(&ornamented));
        }
        world.core.on_connection_closed(world.now, id);
    }
}

/// A proven address with eight servers that dial what is an IP and a port and no more.
fn with_strict_servers() -> World {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.open.insert(tcp());
    for _ in 0..8 {
        world.server(Answer::Numeric);
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world
}

#[test]
fn ornamented_addresses_do_not_keep_servers_from_the_plain_one() {
    let noticed = [false, true].map(|named| {
        let mut world = with_strict_servers();
        for round in 0..200 {
            if named {
                name_ornamented_addresses(&mut world, round);
            }
            if round == 40 {
                world.open.clear();
            }
            world.run(minutes(1));
            if !world.external.contains(&tcp()) {
                return world.at();
            }
        }
        panic!("a port that was closed is announced for hours, named: {named}");
    });
    assert!(noticed[1] <= noticed[0] + minutes(1), "{noticed:?}");
}

#[test]
fn ornamented_addresses_do_not_keep_a_new_one_undecided() {
    let new = addr("/ip4/81.2.69.160/tcp/4009");
    for wait in [10, 17, 25] {
        let mut world = with_strict_servers();
        for round in 0..wait * 6 {
            name_ornamented_addresses(&mut world, round);
            world.run(secs(10));
        }
        world.open.insert(new.clone());
        world.core.add_candidate(world.now, &new).unwrap();
        let added = world.at();
        let found = world.run_until(minutes(10), |w| w.verdict(&new) == Verdict::Reachable);
        let took = found.expect("a verdict") - added;
        assert!(took < secs(2), "{took:?} after {wait} min");
    }
}

/// Servers that dial it speak no WebSocket there, and it is none of this node's addresses.
#[test]
fn a_made_up_plain_sibling_does_not_take_a_proven_web_socket_address_away() {
    let ws = addr("/ip4/81.2.69.160/tcp/4001/ws");
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001/ws"));
    world.open.insert(ws.clone());
    for _ in 0..8 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &ws);
    }
    world.run(minutes(5));
    assert!(world.external.contains(&ws));
    for n in 0..6 {
        for peer in 0..4 {
            let id = world.acquaintance(server_ip(100 + 4 * n + peer));
            world.core.on_candidate(world.now, &tcp());
            world.core.on_observed(world.now, id, &tcp());
        }
        world.run(hours(1));
    }
    // The application can have it tested, too.
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(hours(3));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.verdicts(&ws), [Verdict::Reachable]);
    assert_eq!(world.external, [ws].into());
}

/// Peers can make these up about an IP that was left long ago, or that never was.
#[test]
fn fifty_forms_of_an_old_ip_do_not_keep_a_new_external_ip_out() {
    let new = addr("/ip4/81.2.69.161/tcp/4001");
    let mut world = World::new();
    for stack in ["tcp/4001", "udp/4001/quic-v1"] {
        let listen = addr(&format!("/ip4/192.168.1.2/{stack}"));
        world.core.on_listen_addr(world.now, &listen);
    }
    for _ in 0..4 {
        world.server(Answer::Truth);
    }
    for round in 0..10 {
        for n in 0..50 {
            let form = match n % 3 {
                0 => format!("/ip4/81.2.69.160/tcp/{}", 4001 + n),
                1 => format!("/ip4/81.2.69.160/udp/{}/quic-v1", 4001 + n),
                _ => format!("/ip4/81.2.69.160/tcp/{}/ws", 4001 + n),
            };
            let id = world.acquaintance(server_ip(100 + n));
            world.core.on_candidate(world.now, &addr(&form));
            world.core.on_observed(world.now, id, &addr(&form));
            world.core.on_connection_closed(world.now, id);
        }
        world.run(minutes(1 + round));
    }
    world.open.insert(new.clone());
    let id = world.acquaintance(server_ip(300));
    world.core.on_candidate(world.now, &new);
    world.core.on_observed(world.now, id, &new);
    let moved = world.at();
    let found = world.run_until(minutes(30), |w| w.external.contains(&new));
    let took = found.expect("announced") - moved;
    assert!(took < minutes(1), "{took:?}");
}

/// An operator's servers name somebody else's address, and dial this node where it listens when asked about it.
#[test]
fn somebody_elses_address_takes_proofs_from_two_groups_and_a_listener() {
    // With a listen port of this node it would be a guess, and no more doubtful than the first IP that a peer sees.
    let theirs = addr("/ip4/45.67.0.9/tcp/4002");
    for (groups, listens) in [(1, true), (2, false), (2, true)] {
        let mut world = World::new();
        let stack = if listens {
            "tcp/4001"
        } else {
            "udp/4001/quic-v1"
        };
        let listen = addr(&format!("/ip4/192.168.1.2/{stack}"));
        world.core.on_listen_addr(world.now, &listen);
        for n in 0..6u8 {
            // All within one /16, or in two.
            let ip = IpAddr::from([45, 66 + 2 * (n % groups), n, 1]);
            world.server_at(Some(ip), Answer::DialBack);
            let id = world.acquaintance(IpAddr::from([45, 66, 100, n]));
            world.core.on_observed(world.now, id, &theirs);
            world.core.on_candidate(world.now, &theirs);
        }
        world.run(hours(3));
        let is_announced = world.external.contains(&theirs);
        let is_enough = groups == 2 && listens;
        assert_eq!(
            is_announced, is_enough,
            "{groups} groups, listens: {listens}"
        );
    }
}

/// There is room to remember 16,384 contacts. This comes to 16,800 within their lifetime.
#[test]
fn a_network_with_28_connections_a_second_takes_no_independent_vantage_away() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    for n in 0..16_800u32 {
        let from = addr(&format!(
            "/ip6/2a00:666::{:x}:{:x}/tcp/4001",
            n / 1_000,
            n % 1_000
        ));
        let id = world.connection(PeerId::random(), None, &from);
        world.core.on_connection_closed(world.now, id);
        if n % 28 == 0 {
            world.run(secs(1));
        }
    }
    let n = world.add_server(None, Answer::DialBack);
    world.servers[n].dials_from = server_ip(1);
    world.connect(n);
    world.run(secs(5));
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Independent));
}

/// The same socket, spelled as one for both families spells it: `/ip6/::ffff:81.2.69.160`.
#[test]
fn another_spelling_of_the_plain_address_takes_no_web_socket_address_away() {
    let ws = addr("/ip4/81.2.69.160/tcp/4001/ws");
    let mapped = addr("/ip6/::ffff:81.2.69.160/tcp/4001");
    for mapped_first in [true, false] {
        let mut world = World::new();
        if mapped_first {
            world.acquaintance(server_ip(300));
            world.core.on_candidate(world.now, &mapped);
        }
        for listen in [tcp(), ws.clone(), addr("/ip6/fd00::2/tcp/4001")] {
            world.core.on_listen_addr(world.now, &listen);
        }
        world.open.extend([tcp(), ws.clone()]);
        for _ in 0..8 {
            world.server(Answer::Truth);
        }
        world.run(minutes(5));
        for n in 0..30 {
            let id = world.acquaintance(server_ip(301 + n));
            world.core.on_observed(world.now, id, &mapped);
            world.core.on_candidate(world.now, &mapped);
            world.run(minutes(5));
        }
        world.run(hours(5));
        assert_eq!(world.verdicts(&ws), [Verdict::Reachable]);
        assert_eq!(world.core.addresses().count(), 2);
        assert_eq!(world.report(&mapped).address, tcp());
    }
}

/// The swarm does not say which peer an address is from: one that names it again and again seems to be many.
#[test]
fn somebody_elses_ip_that_one_peer_repeats_takes_proofs_from_two_groups() {
    let theirs = addr("/ip4/45.67.0.9/tcp/4001");
    for is_open in [true, false] {
        let mut world = World::new();
        let listen = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listen);
        if is_open {
            world.open.insert(tcp());
        }
        honest(&mut world, 6);
        // It dials this node where it listens.
        world.server_at(Some(one_ip()), Answer::DialBack);
        for n in 0..90 {
            world.acquaintance(server_ip(100 + n));
            for seen in [tcp(), theirs.clone()] {
                world.core.on_candidate(world.now, &seen);
            }
            world.run(minutes(1));
            assert!(!world.external.contains(&theirs), "after {n} minutes");
        }
        assert_eq!(world.external.contains(&tcp()), is_open);
    }
}

/// Two operators' hosts name a new IP every twenty seconds, as many hosts as tell of the real one.
#[test]
fn ips_that_two_operators_make_up_all_day_keep_the_real_one_from_nothing() {
    let new = addr("/ip4/81.2.69.161/tcp/4001");
    for hosts in [2, 6] {
        let mut world = World::new();
        let listen = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listen);
        world.open.insert(tcp());
        honest(&mut world, 8);
        let tell = |world: &mut World, address: &Multiaddr| {
            for n in 0..8 {
                let id = world.servers[n].connection.unwrap();
                world.core.on_observed(world.now, id, address);
                world.core.on_candidate(world.now, address);
                world.run(secs(1));
            }
        };
        tell(&mut world, &tcp());
        let mut before = 0;
        for n in 0..540 {
            if n == 360 {
                before = world.requests.len();
            }
            let made_up = addr(&format!("/ip4/99.{}.{}.3/tcp/4001", n / 200, n % 200));
            for host in 0..hosts {
                let id = world.acquaintance([45, 66 + host % 2, 0, host].into());
                world.core.on_observed(world.now, id, &made_up);
                world.core.on_candidate(world.now, &made_up);
                world.core.on_connection_closed(world.now, id);
            }
            world.run(secs(20));
            assert!(world.external.contains(&tcp()));
        }
        let requests = world.requests.len() - before;
        assert!(requests <= 80, "{requests} in the third hour");
        world.open = [new.clone()].into();
        let moved = world.at();
        tell(&mut world, &new);
        let is_there = |w: &World| w.external == [new.clone()].into();
        let found = world.run_until(hours(1), is_there);
        let took = found.expect("announced") - moved;
        assert!(took <= minutes(11), "{took:?}, {hosts} hosts");
    }
}

/// Servers and peers of two operators, who name ten addresses of strangers and claim to have dialed them, on a node that has room
/// for eight and was given `own`.
fn with_made_up_addresses(own: Option<&Multiaddr>) -> World {
    let mut world = World::with(Config::default().with_max_addresses(8));
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    for n in 0..8u8 {
        world.server_at(Some([45, 66 + n % 2, n, 1].into()), Answer::DialBack);
    }
    if let Some(own) = own {
        world.core.add_candidate(world.now, own).unwrap();
    }
    for n in 0..10u8 {
        let made_up = addr(&format!("/ip4/46.1.{n}.1/tcp/4001"));
        for observer in 0..2u8 {
            let id = world.acquaintance([45, 66 + observer, 100 + n, 1].into());
            world.core.on_observed(world.now, id, &made_up);
            world.core.on_candidate(world.now, &made_up);
        }
        world.run(minutes(10));
    }
    world
}

/// Four more of this node's own, a minute apart.
fn add_four(world: &mut World) {
    for n in 0..4u8 {
        let own = addr(&format!("/ip4/81.2.69.{}/tcp/4001", 170 + n));
        assert_eq!(world.core.add_candidate(world.now, &own), Ok(()), "{own}");
        world.run(minutes(1));
    }
}

#[test]
fn made_up_addresses_that_two_operators_prove_leave_room_for_this_nodes_own() {
    let mut world = with_made_up_addresses(None);
    let made_up = |world: &World| {
        let is_made_up = |it: &AddressReport| {
            it.verdict == Verdict::Reachable && !it.sources.added && !it.sources.listening
        };
        world.core.addresses().filter(is_made_up).count()
    };
    assert_eq!(made_up(&world), 8);
    add_four(&mut world);
    // Half of the room is theirs nevertheless: they may be this node's after all.
    assert_eq!(made_up(&world), 4);
}

#[test]
fn what_inherits_goes_with_a_plain_address_that_gives_way() {
    let heir = addr("/ip4/46.1.0.1/tcp/4001/ws");
    let mut world = with_made_up_addresses(Some(&heir));
    assert!(world.report(&heir).inherited);
    world.all_answer(&Answer::DialError);
    add_four(&mut world);
    let plain = addr("/ip4/46.1.0.1/tcp/4001");
    assert!(world.core.addresses().all(|it| it.address != plain));
    world.run(hours(1));
    assert_eq!(world.verdict(&heir), Verdict::Unreachable);
}
