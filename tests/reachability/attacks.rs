//! What servers, peers and neighbours can make this node believe, and what they cannot.

use std::net::{IpAddr, Ipv4Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{Summary, Vantage, Verdict};

use crate::world::{Answer, Carrier, World, addr, host, hours, minutes, ms, secs, server_ip};

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
    for near in ["2a02:1:2:3::7", "2a02:1:2:4::7", "2a02:1:2:ff::7"] {
        world.stranger(ip(near), &tcp6());
        world.run(secs(10));
        assert_eq!(world.verdict(&tcp6()), Verdict::Unknown, "{near}");
    }
    world.stranger(ip("2a00:1:2:104::7"), &tcp6());
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

/// Thirty servers in one network, or behind one relay, that answer so, and then eight honest ones.
fn crowd(relayed: bool, answer: &Answer) -> World {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.open.insert(tcp());
    for n in 0..30 {
        let ip = (!relayed).then(|| ip(&format!("2a00:666::{n:x}")));
        world.server_at(ip, answer.clone());
    }
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    world
}

/// Peers behind a relay, or known over the other family, look as if they had more to say than others.
#[test]
fn a_crowd_that_looks_independent_does_not_keep_the_others_from_being_asked() {
    for relayed in [true, false] {
        let mut world = crowd(relayed, &Answer::DialError);
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

/// Identify passes on what a peer claims to see where the port is one of ours, however the rest of it looks.
#[test]
fn addresses_that_a_peer_makes_up_on_a_proven_socket_inherit_nothing_and_leave_room_for_others() {
    let certhash = |n: u8| {
        let hash = libp2p::multihash::Multihash::<64>::wrap(0x12, &[n; 32]).unwrap();
        addr("/ip4/81.2.69.160/udp/4001/quic-v1/webtransport").with(Protocol::Certhash(hash))
    };
    for first in [true, false] {
        let quic = addr("/ip4/81.2.69.160/udp/4001/quic-v1");
        let mut world = World::new();
        let invent = |world: &mut World| {
            for n in 0..60 {
                world.core.on_candidate(world.now, &certhash(n));
                let ws = addr(&format!("/ip4/81.2.69.160/tcp/4001/x-parity-ws/{n}"));
                world.core.on_candidate(world.now, &ws);
            }
        };
        if first {
            invent(&mut world);
        }
        for address in [&quic, &tcp()] {
            world.core.on_listen_addr(world.now, address);
            world.open.insert(address.clone());
        }
        for _ in 0..4 {
            world.server(Answer::Truth);
        }
        world.run(minutes(1));
        invent(&mut world);
        world.run(minutes(10));
        let expected = std::collections::BTreeSet::from([quic, tcp()]);
        assert_eq!(world.external, expected, "first: {first}");
        let late = addr("/ip4/81.2.69.160/tcp/4002");
        world.core.on_listen_addr(world.now, &late);
        world.drain();
        assert!(world.core.address(&late).is_some(), "first: {first}");
    }
}

/// Silence leaves no evidence, so that where such servers are always looks as if nothing had been heard from there.
#[test]
fn a_crowd_that_stalls_does_not_keep_the_others_from_being_asked() {
    for relayed in [true, false] {
        let mut world = crowd(relayed, &Answer::Silent);
        let proven = world.run_until(minutes(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(proven.is_some(), "relayed: {relayed}");
        // Rechecks are not theirs either.
        world.open.clear();
        let lost = world.run_until(minutes(5), |w| w.verdict(&tcp()) == Verdict::Unreachable);
        assert!(lost.is_some(), "relayed: {relayed}");
    }
}

/// Each IP that a peer makes up is a guess about our listener, and a dial to a stranger.
#[test]
fn made_up_external_ips_keep_no_proven_address_from_its_rechecks() {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    world.open.insert(tcp());
    for _ in 0..3 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    let flood = |world: &mut World, seconds: u32| {
        for n in 0..seconds {
            for m in 0..25 {
                let ip = Ipv4Addr::from(0x0900_0000 + (n * 25 + m) * 7919);
                let observed = host(ip.into()).with(Protocol::Tcp(4001));
                world.core.on_candidate(world.now, &observed);
            }
            world.run(secs(1));
        }
    };
    let before = world.requests.len();
    flood(&mut world, 120);
    let about = |world: &World, own: bool| {
        let asked = world.requests[before..].iter();
        asked
            .filter(|(_, _, r)| (r.addrs[0] == tcp()) == own)
            .count()
    };
    assert!(about(&world, false) <= 13, "{}", about(&world, false));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world.open.clear();
    flood(&mut world, 75);
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert!(world.external.is_empty());
    assert_eq!(world.core.summary(), Summary::Private);
}

#[test]
fn two_servers_of_one_operator_do_not_make_a_filter() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    for n in 1..=2 {
        let ip = ip(&format!("2a00:666::{n}"));
        world.server_at(Some(ip), Answer::DialError);
    }
    world.run(minutes(30));
    assert_eq!(world.verdict_changes(&tcp()).len(), 1);

    // Nor at first.
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for n in 1..=2 {
        let ip = ip(&format!("2a00:666::{n}"));
        world.server_at(Some(ip), Answer::DialError);
    }
    for _ in 0..4 {
        world.server(Answer::DialBack);
    }
    world.run(minutes(30));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.verdict_changes(&tcp()).len(), 1);
}

/// Whoever has been asked has nothing new to say when it comes back, and must not put the next check off.
#[test]
fn a_server_that_comes_and_goes_puts_no_recheck_off() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 2]);
    let come_and_go = |world: &mut World, time: u64| {
        for _ in 0..time / 20 {
            world.run(secs(20));
            world.disconnect(0);
            world.connect(0);
        }
    };
    come_and_go(&mut world, 600);
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    world.open.insert(tcp());
    come_and_go(&mut world, 70 * 60);
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// The same with peers that nobody has seen before, and that do not answer.
#[test]
fn peers_that_are_new_each_time_put_no_recheck_off() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 2]);
    world.run(minutes(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    world.open.insert(tcp());
    for n in 0..210 {
        let ip = ip(&format!("2a00:666::{n:x}"));
        let newest = world.server_at(Some(ip), Answer::Reset);
        world.run(secs(20));
        world.disconnect(newest);
    }
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn arrivals_do_not_hold_a_verdict_back_for_long() {
    for known in [true, false] {
        let mut world = World::of(&tcp(), vec![Answer::DialError; 3]);
        let flapping = world.add_server(Some(ip("2a00:666::1")), Answer::Reset);
        let mut decided = None;
        for n in 0..250u32 {
            let n = if known {
                flapping
            } else {
                world.add_server(Some(ip(&format!("2a00:666::{n:x}"))), Answer::Reset)
            };
            world.connect(n);
            world.run(ms(400));
            world.disconnect(n);
            if world.verdict(&tcp()) == Verdict::Unreachable {
                decided = Some(world.at());
                break;
            }
        }
        let at = decided.expect("a verdict");
        let most = if known { secs(12) } else { secs(92) };
        assert!(at <= most, "{at:?}, known: {known}");
    }
}

#[test]
fn strangers_that_come_in_again_and_again_do_not_freeze_a_wrong_verdict() {
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &listen);
    for _ in 0..3 {
        world.server(Answer::DialError);
        world.core.on_candidate(world.now, &tcp());
    }
    let strangers = |world: &mut World, count: u16| {
        for n in 0..count {
            world.run(minutes(5));
            let from = Ipv4Addr::from(0x4d00_0001 + u32::from(n) * 65_536);
            let id = world.stranger(from.into(), &listen);
            world.run(secs(1));
            world.core.on_connection_closed(world.now, id);
        }
    };
    strangers(&mut world, 12);
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    world.server(Answer::DialBack);
    world.run(secs(30));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// A server that wants this node to announce somebody else's address can dial the one that works. Where the listener has a
/// public IP of its own, that shows.
#[test]
fn a_dial_back_at_our_own_public_ip_proves_no_other() {
    let victim = addr("/ip4/81.2.69.161/tcp/4001");
    let carrier = Carrier::OtherStack(tcp());
    let mut world = World::of(&victim, [Answer::Nonce(carrier)]);
    world.run(secs(8));
    assert_eq!(world.verdict(&victim), Verdict::Unknown);
    assert_eq!(world.nonces, (0, 1));
}

/// Peers that let the request hang and leave have nothing to answer for, and look new when they are back.
#[test]
fn peers_that_leave_in_the_middle_of_a_request_do_not_keep_the_others_from_being_asked() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 3]);
    world.open.insert(tcp());
    world.run(minutes(1));
    for n in 1..=2 {
        let ip = ip(&format!("2a00:666::{n}"));
        world.server_at(Some(ip), Answer::Leave);
    }
    world.open.clear();
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
}

/// There is always one that has not been heard; the one that has must be heard again all the same.
#[test]
fn silent_peers_do_not_keep_a_lone_server_from_its_second_word() {
    let mut world = World::of(&tcp(), [Answer::Truth]);
    world.open.insert(tcp());
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world.open.clear();
    let mut before = None;
    for n in 0..60 {
        let ip = ip(&format!("2a00:666::{n:x}"));
        let newest = world.server_at(Some(ip), Answer::Silent);
        world.run(secs(20));
        if let Some(before) = before.replace(newest) {
            world.disconnect(before);
        }
    }
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
}

/// One peer says that it sees this node at somebody else's IP, and a server of the same operator proves what it is asked. Where
/// honest servers refuse the kind, nobody contradicts it.
#[test]
fn a_listen_port_at_an_ip_that_one_peer_made_up_is_not_announced_on_one_operators_word() {
    let places = [
        ("/ip4/192.168.1.2", "/ip4/99.1.2.3", "tcp/4001"),
        ("/ip4/192.168.1.2", "/ip4/99.1.2.3", "tcp/4001/ws"),
        ("/ip4/192.168.1.2", "/ip4/99.1.2.3", "udp/4001/quic-v1"),
        ("/ip6/fd00::2", "/ip6/2a07:1::9", "tcp/4001"),
    ];
    for (lan, made_up, stack) in places {
        let made_up = addr(&format!("{made_up}/{stack}"));
        for honest in [
            Answer::Truth,
            Answer::Refuse,
            Answer::Silent,
            Answer::Reject,
        ] {
            for named in [false, true] {
                let mut world = World::new();
                let listen = addr(&format!("{lan}/{stack}"));
                world.core.on_listen_addr(world.now, &listen);
                for _ in 0..5 {
                    world.server(honest.clone());
                }
                // Two hosts of one operator.
                for n in 1..3 {
                    world.server_at(Some([45, 66, 0, n].into()), Answer::DialBack);
                    let connection = world.acquaintance([45, 66, 1, n].into());
                    if named {
                        world.core.on_observed(world.now, connection, &made_up);
                    } else {
                        world.core.on_candidate(world.now, &made_up);
                    }
                }
                for _ in 0..36 {
                    world.run(minutes(10));
                    assert!(world.external.is_empty(), "{made_up}, {honest:?}");
                }
            }
        }
    }
}

/// A second operator's proof is enough, and so is one where two have seen the IP, or where there is no other to ask.
#[test]
fn a_listen_port_at_an_ip_that_one_peer_sees_is_announced_on_the_word_of_two() {
    for (servers, seen_by) in [(2, 1), (1, 1), (1, 2)] {
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
        world.open.insert(tcp());
        for n in 0..servers {
            world.server_at(Some([45, 66 + n, 0, 1].into()), Answer::Truth);
        }
        if seen_by == 2 {
            world.server(Answer::Refuse);
        }
        for n in 0..seen_by {
            world.acquaintance([45, 76 + n, 0, 1].into());
            world.core.on_candidate(world.now, &tcp());
        }
        world.run(secs(2));
        let announced = world.external.contains(&tcp());
        assert!(announced, "{servers} servers, seen by {seen_by}");
    }
}

/// Both have shown that they can dial, and answer before all others from then on.
#[test]
fn two_able_liars_of_ten_that_answer_first_take_an_address_away_once_a_day_at_most() {
    for behind_nat in [false, true] {
        let mut world = World::new();
        let listen = if behind_nat {
            addr("/ip4/192.168.1.2/tcp/4001")
        } else {
            tcp()
        };
        world.core.on_listen_addr(world.now, &listen);
        world.open.insert(tcp());
        world.core.add_candidate(world.now, &tcp()).unwrap();
        for _ in 0..2 {
            let liar = world.server(Answer::Truth);
            world.servers[liar].latency = ms(1);
        }
        world.run(minutes(5));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
        for _ in 0..8 {
            world.server(Answer::Truth);
        }
        for liar in &mut world.servers[..2] {
            liar.otherwise = Answer::DialError;
        }
        let before = world.confirmations;
        for _ in 0..24 * 6 {
            world.core.check_now(world.now, &tcp()).unwrap();
            world.run(minutes(10));
        }
        let expiries = world.confirmations - before;
        assert!(expiries <= 1, "{expiries}");
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
        let told = world.requests.iter().filter(|(_, n, _)| *n < 2).count();
        assert!(told > 5, "the liars were asked {told} times");
    }
}

/// Two peers say that they see this node at one IP, and then at another. Then it moves, and its connections go on.
#[test]
fn peers_that_see_two_ips_by_turns_put_the_checks_for_a_new_one_off_by_nothing() {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    let see = |world: &mut World, n: usize, seen: &Multiaddr| {
        let id = world.servers[n].connection.unwrap();
        world.core.on_observed(world.now, id, seen);
    };
    world.open.insert(tcp());
    for turn in 0..200 {
        let other = addr(&format!("/ip4/93.1.{}.1/tcp/4001", turn % 2));
        for n in 0..8 {
            let seen = if n < 2 { other.clone() } else { tcp() };
            see(&mut world, n, &seen);
        }
        world.run(secs(10));
    }
    assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable]);
    let new = addr("/ip4/90.5.5.5/tcp/4001");
    world.open = [new.clone()].into();
    for n in 2..8 {
        see(&mut world, n, &new);
        world.run(secs(1));
    }
    assert_eq!(world.external, [new].into());
}
