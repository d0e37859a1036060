//! What comes and goes all day: mappings, networks, connections, ports, pools of external IPs. None of it is to be asked about
//! all day, and none may keep what stays from being asked about.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use libp2p_autonat_v2::reachability::{Config, Summary, Verdict};

use crate::world::{Answer, World, addr, hours, minutes, ms, secs, server_ip, server_ip6};

fn wan(stack: &str) -> Multiaddr {
    addr(&format!("/ip4/81.2.69.160/{stack}"))
}

fn tcp() -> Multiaddr {
    wan("tcp/4001")
}

/// A host behind a NAT that listens over these, with so many servers.
fn behind_nat(stacks: &[&str], servers: usize) -> World {
    let mut world = World::new();
    for stack in stacks {
        let listen = addr(&format!("/ip4/192.168.1.2/{stack}"));
        world.core.on_listen_addr(world.now, &listen);
    }
    for _ in 0..servers {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &wan(stacks[0]));
    }
    world
}

/// How many requests leave in the third hour, where something happens each time that so much time has passed.
fn third_hour(world: &mut World, step: Duration, mut each: impl FnMut(&mut World, usize)) -> usize {
    let times = usize::try_from(hours(1).as_secs() / step.as_secs()).unwrap();
    let mut before = 0;
    for n in 0..3 * times {
        if n == 2 * times {
            before = world.requests.len();
        }
        each(world, n);
        world.run(step);
    }
    world.requests.len() - before
}

/// A peer that this node meets for a moment, and that sees it there.
fn seen_by(world: &mut World, observer: usize, seen: &Multiaddr, passed_on: &Multiaddr) {
    let id = world.acquaintance(server_ip(observer));
    world.core.on_observed(world.now, id, seen);
    world.core.on_candidate(world.now, passed_on);
    world.core.on_connection_closed(world.now, id);
    world.drain();
}

/// A router that loses its mappings, or two programs that fight for a port.
#[test]
fn a_mapping_that_is_lost_and_made_all_day_causes_few_checks() {
    for (open, observed) in [(false, true), (true, true), (false, false)] {
        let mut world = behind_nat(&["tcp/4001"], 0);
        for _ in 0..10 {
            world.server(Answer::Truth);
            if observed {
                world.core.on_candidate(world.now, &tcp());
            }
        }
        if open {
            world.open.insert(tcp());
        }
        let requests = third_hour(&mut world, secs(10), |world, n| {
            if n % 2 == 0 {
                world.external.insert(tcp());
                world.core.on_external_confirmed(world.now, &tcp());
            } else {
                world.external.remove(&tcp());
                world.core.on_external_expired(world.now, &tcp());
            }
        });
        assert!(requests <= 80, "{requests}: open {open}, seen {observed}");
        // In the end it stays, and is tested.
        world.core.on_external_confirmed(world.now, &tcp());
        world.open.insert(tcp());
        let stays = world.at();
        let found = world.run_until(hours(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
        let took = found.expect("a verdict") - stays;
        assert!(took <= minutes(11), "{took:?}");
    }
}

/// The application watches its interfaces, and a host that runs containers always has a new one.
#[test]
fn a_network_that_changes_all_the_time_causes_few_checks() {
    for step in [5, 60] {
        let mut world = behind_nat(&["tcp/4001", "udp/4001/quic-v1"], 10);
        world.open.insert(tcp());
        let requests = third_hour(&mut world, secs(step), |world, _| {
            world.core.on_network_change(world.now);
        });
        assert!(requests <= 20, "{requests} with a change each {step} s");
        // The last of many changes is checked, too.
        world.core.on_network_change(world.now);
        world.open.clear();
        let changed = world.at();
        let found = world.run_until(hours(1), |w| w.external.is_empty());
        let took = found.expect("withdrawn") - changed;
        assert!(took <= minutes(11), "{took:?}");
    }
}

#[test]
fn a_link_that_goes_up_and_down_causes_few_checks() {
    for (servers, step) in [(1, 10), (1, 30), (4, 30)] {
        let mut world = behind_nat(&["tcp/4001", "udp/4001/quic-v1"], servers);
        world.open.insert(tcp());
        let requests = third_hour(&mut world, secs(step), |world, n| {
            for server in 0..servers {
                if n % 2 == 0 {
                    world.disconnect(server);
                } else {
                    world.connect(server);
                }
            }
        });
        assert!(requests <= 20, "{requests}: {servers} servers, {step} s");
        assert!(world.servers_wanted().len() <= 8);
    }
}

/// It is connected for fifteen seconds at a time, and never has an answer.
#[test]
fn a_server_that_keeps_coming_back_without_an_answer_is_left_alone() {
    for answer in [Answer::Silent, Answer::Reject, Answer::Reset] {
        let mut world = behind_nat(&["tcp/4001"], 0);
        world.server(answer.clone());
        world.core.on_candidate(world.now, &tcp());
        let requests = third_hour(&mut world, secs(15), |world, n| {
            if n % 2 == 0 {
                world.disconnect(0);
            } else {
                world.connect(0);
            }
        });
        assert!(requests <= 4, "{requests}: {answer:?}");
        let wanted = world.servers_wanted().len();
        assert!(wanted <= 10, "servers wanted {wanted} times: {answer:?}");
    }
}

/// It takes each request, and is gone before it answers.
#[test]
fn servers_that_leave_in_the_middle_of_each_request_are_left_alone() {
    let mut world = behind_nat(&["tcp/4001"], 0);
    world.open.insert(tcp());
    for _ in 0..6 {
        world.server(Answer::Leave);
        world.core.on_candidate(world.now, &tcp());
    }
    let requests = third_hour(&mut world, secs(60), |_, _| {});
    assert!(requests <= 12, "{requests}");
    world.all_answer(&Answer::Truth);
    let found = world.run_until(minutes(61), |w| w.external.contains(&tcp()));
    assert!(found.is_some(), "they are asked again");
}

/// It did once, before the carrier changed its NAT.
#[test]
fn ports_that_no_longer_work_are_not_all_asked_about_because_one_has_worked() {
    for stack in ["tcp/#", "udp/#/quic-v1"] {
        for peers in [1, 3] {
            let listen = stack.replace('#', "4001");
            let mut world = behind_nat(&[&listen], 0);
            for _ in 0..8 {
                world.server(Answer::Truth);
            }
            let first = wan(&stack.replace('#', "32768"));
            world.open.insert(first.clone());
            let requests = third_hour(&mut world, secs(30), |world, n| {
                if n == 20 {
                    world.open.clear();
                }
                let port = (32_768 + (n / peers * 7_919) % 28_000).to_string();
                let seen = wan(&stack.replace('#', &port));
                seen_by(world, 100 + n, &seen, &seen);
            });
            assert_eq!(
                world.verdict_changes(&first)[0].1,
                Verdict::Reachable,
                "{stack}"
            );
            assert!(requests <= 20, "{requests} over {stack}, {peers} peers");
        }
    }
}

/// What peers see of ports is asked about at full pace while such a port works. When it stops, that pace is over, each time.
#[test]
fn a_port_that_comes_and_goes_fills_no_budget_anew() {
    let mut world = behind_nat(&["tcp/4001"], 0);
    for _ in 0..8 {
        world.server(Answer::Truth);
    }
    let port = wan("tcp/32768");
    for n in 0..3 {
        seen_by(&mut world, 50 + n, &port, &port);
    }
    let mut asked = 0;
    for n in 0..540 {
        if n % 90 == 0 {
            let works = n / 90 % 2 == 0;
            world.open = works.then(|| port.clone()).into_iter().collect();
        }
        let seen = wan(&format!("tcp/{}", 33_000 + (n * 7_919) % 28_000));
        seen_by(&mut world, 100 + n, &seen, &seen);
        for _ in 0..10 {
            let before = world.requests.len();
            world.run(secs(1));
            if world.verdict(&port) != Verdict::Reachable {
                let sent = world.requests[before..].iter();
                let of_others = sent.filter(|it| ![&port, &tcp()].contains(&&it.2.addrs[0]));
                asked += of_others.count();
            }
        }
    }
    let changes = world.verdicts(&port).len();
    assert!(changes >= 4, "{changes}");
    assert!(asked <= 14, "{asked}, {changes} changes");
}

/// A carrier's NAT without paired pooling (RFC 4787, section 4.1) shows another IP of its pool to each few peers.
#[test]
fn a_pool_of_external_ips_is_not_asked_about_one_by_one_for_ever() {
    for (pool, peers) in [(4, 1), (16, 1), (16, 2), (64, 1), (64, 2), (1_000, 4)] {
        let mut world = behind_nat(&["tcp/4001", "udp/4001/quic-v1"], 0);
        for _ in 0..8 {
            world.server(Answer::Truth);
        }
        let requests = third_hour(&mut world, secs(30), |world, n| {
            let k = (n / peers * 37) % pool;
            let ip = format!("/ip4/81.2.{}.{}", 60 + k / 250, 1 + k % 250);
            let seen = addr(&format!("{ip}/tcp/{}", 20_000 + (n * 7_919) % 30_000));
            let passed_on = addr(&format!("{ip}/tcp/4001"));
            seen_by(world, 100 + n, &seen, &passed_on);
        });
        assert!(requests <= 80, "{requests}: {pool} IPs, {peers} peers");
        assert_eq!(world.core.summary(), Summary::Private);
        // Then it has an IP of its own, and a port that is forwarded.
        let own = addr("/ip4/82.3.4.5/tcp/4001");
        world.open.insert(own.clone());
        let moved = world.at();
        for n in 0..5 {
            seen_by(&mut world, 1_000 + n, &own, &own);
        }
        let found = world.run_until(hours(1), |w| w.external.contains(&own));
        let took = found.expect("announced") - moved;
        assert!(took <= minutes(11), "{took:?} after {pool} IPs");
    }
}

/// A phone on a train.
#[test]
fn a_host_that_moves_all_the_time_has_a_verdict_on_each_network_within_seconds() {
    for (forwarded, step) in [(false, 5), (true, 5), (true, 30)] {
        let mut world = behind_nat(&["tcp/4001", "udp/4001/quic-v1"], 0);
        for _ in 0..6 {
            world.server(Answer::Truth);
        }
        for n in 0..20 {
            let here = addr(&format!("/ip4/81.{}.69.160/tcp/4001", n + 1));
            for server in 0..6 {
                world.disconnect(server);
            }
            world.core.on_network_change(world.now);
            world.open.clear();
            if forwarded {
                world.open.insert(here.clone());
            }
            let moved = world.at();
            for server in 0..6 {
                world.run(ms(300));
                world.connect(server);
                let id = world.servers[server].connection.unwrap();
                world.core.on_observed(world.now, id, &here);
                world.core.on_candidate(world.now, &here);
            }
            let done = world.run_until(minutes(4), |w| {
                let is_left = w.external.iter().all(|it| *it == here);
                is_left && w.verdict(&here) != Verdict::Unknown
            });
            let took = done.expect("a verdict") - moved;
            assert!(took <= secs(5), "{took:?} on network {n}, {forwarded}");
            world.run(minutes(step) - took);
        }
        let requests = world.requests.len();
        assert!(requests <= 600, "{requests}: {forwarded}, {step} min");
    }
}

/// Each container has a global IPv6 address, for ten seconds.
#[test]
fn a_new_address_is_found_on_a_host_where_others_come_and_go_all_the_time() {
    let (old, new) = (
        addr("/ip6/2a05:1:2:3::1/tcp/4001"),
        addr("/ip6/2a05:9:9:9::1/tcp/4001"),
    );
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &old);
    world.open.extend([old.clone(), new.clone()]);
    for n in 0..10 {
        world.server_at(Some(server_ip6(n)), Answer::Truth);
    }
    let requests = third_hour(&mut world, secs(5), |world, n| {
        let of = |n: usize| addr(&format!("/ip6/2a05:1:2:{:x}::1/tcp/4001", 16 + n));
        world.core.on_listen_addr(world.now, &of(n));
        if let Some(gone) = n.checked_sub(2) {
            world.core.on_listen_addr_gone(world.now, &of(gone));
        }
    });
    assert!(requests <= 60, "{requests}");
    world.core.on_listen_addr_gone(world.now, &old);
    world.core.on_listen_addr(world.now, &new);
    let renumbered = world.at();
    let found = world.run_until(hours(1), |w| w.external.contains(&new));
    let took = found.expect("announced") - renumbered;
    assert!(took <= minutes(1), "{took:?}");
    assert!(!world.external.contains(&old));
}

/// What peers speak of is not here for the sake of a listener that comes in the same instant.
#[test]
fn an_address_that_peers_see_is_no_newcomer_because_a_listener_comes_too() {
    let mut world = World::with(Config::default().with_max_addresses(8));
    for n in 0..8 {
        world.server_at(Some(server_ip6(n)), Answer::Truth);
    }
    for n in 0..10 {
        let of_container = addr(&format!("/ip6/2a05:1:2:{:x}::1/tcp/4001", 16 + n));
        world.core.on_listen_addr(world.now, &of_container);
        world.run(secs(35));
        world.core.on_listen_addr_gone(world.now, &of_container);
    }
    world.open.insert(tcp());
    for _ in 0..2 {
        let id = world.acquaintance(server_ip(100));
        world.core.on_candidate(world.now, &tcp());
        world.core.on_connection_closed(world.now, id);
    }
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    world.run(secs(5));
    assert!(!world.asked_about(&tcp()).is_empty());
}

/// Whichever is told first: that the listener with the old certificate is gone, or that the one with the new is there.
#[test]
fn an_address_with_another_certificate_takes_the_place_of_the_old_one() {
    const HASHES: [&str; 2] = [
        "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g",
        "uEiAkH5a4DPGKUuOBjYw0CgwjLa2R_RF71v86aVxlqdKNOQ",
    ];
    for stack in ["webrtc-direct", "quic-v1/webtransport"] {
        for new_first in [false, true] {
            let [old, new] = HASHES.map(|hash| format!("udp/4001/{stack}/certhash/{hash}"));
            let mut world = behind_nat(&["udp/4001/quic-v1", &old], 6);
            world
                .open
                .extend([wan("udp/4001/quic-v1"), wan(&old), wan(&new)]);
            world.run(minutes(5));
            assert!(world.external.contains(&wan(&old)));
            let lan = |stack: &str| addr(&format!("/ip4/192.168.1.2/{stack}"));
            if new_first {
                world.core.on_listen_addr(world.now, &lan(&new));
            }
            world.core.on_listen_addr_gone(world.now, &lan(&old));
            if !new_first {
                world.core.on_listen_addr(world.now, &lan(&new));
            }
            world.run(secs(10));
            let announced = [&old, &new].map(|stack| world.external.contains(&wan(stack)));
            assert_eq!(announced, [false, true], "{stack}, new first: {new_first}");
        }
    }
}

/// A peer with as many dead connections as are considered comes back on a new one.
#[test]
fn a_server_with_many_dead_links_is_asked_on_the_new_one() {
    for dead in [1, 8, 12] {
        let mut world = behind_nat(&["tcp/4001"], 0);
        world.open.insert(tcp());
        world.server(Answer::Truth);
        for _ in 1..dead {
            world.connect(0);
        }
        world.now += hours(8);
        world.core.on_candidate(world.now, &tcp());
        // It asserts that the request leaves on this one.
        world.connect(0);
        let woke = world.at();
        let found = world.run_until(minutes(5), |w| w.verdict(&tcp()) == Verdict::Reachable);
        let took = found.expect("a verdict") - woke;
        assert!(took <= secs(2), "{took:?} with {dead} dead links");
    }
}

/// A host that is connected is contacted, however many others come and go meanwhile.
#[test]
fn a_flood_from_many_networks_makes_no_stranger_of_who_is_connected() {
    let mut world = World::new();
    for _ in 0..60 {
        world.server(Answer::DialBack);
    }
    for n in 0..18_000 {
        let from = addr(&format!("/ip6/2a00:666:1:{n:x}::1/tcp/4001"));
        let id = world.connection(PeerId::random(), None, &from);
        world.core.on_connection_closed(world.now, id);
        if n % 35 == 0 {
            world.run(secs(1));
        }
    }
    world.run(minutes(11));
    world.core.on_listen_addr(world.now, &tcp());
    for n in 0..60 {
        world.stranger(server_ip(n), &tcp());
    }
    assert_eq!(world.report(&tcp()).vantage, None);
}

/// What peers see from now on: those that are met anew over the link that is there now. Connections of before are not closed.
fn now_seen_at(world: &mut World, seen: &Multiaddr) {
    for n in 0..world.servers.len() {
        world.connect(n);
        let id = world.servers[n].connection.unwrap();
        world.core.on_observed(world.now, id, seen);
        world.core.on_candidate(world.now, seen);
        world.run(ms(500));
    }
}

/// A VPN that takes all traffic, for half an hour at a time. Nothing tells the client but what peers see.
#[test]
fn a_vpn_that_comes_and_goes_is_noticed_each_time() {
    let exit = addr("/ip4/185.1.2.3/tcp/4001");
    let mut world = behind_nat(&["tcp/4001"], 6);
    world.open.insert(tcp());
    world.run(hours(2));
    for round in 0..4 {
        world.open.clear();
        now_seen_at(&mut world, &exit);
        let gone = world.run_until(secs(10), |w| w.external.is_empty());
        assert!(gone.is_some(), "withdrawn, round {round}");
        world.run(minutes(40));
        world.open.insert(tcp());
        now_seen_at(&mut world, &tcp());
        let back = world.run_until(secs(10), |w| w.external.contains(&tcp()));
        assert!(back.is_some(), "announced, round {round}");
        world.run(minutes(40));
    }
}

/// A router with two uplinks that sends each connection over either.
#[test]
fn a_host_that_is_seen_at_two_ips_all_the_time_causes_few_checks() {
    let other = addr("/ip4/93.1.1.1/tcp/4001");
    for peers in [1, 2, 3, 7] {
        let mut world = behind_nat(&["tcp/4001"], 8);
        world.open.extend([tcp(), other.clone()]);
        let requests = third_hour(&mut world, secs(30), |world, n| {
            let seen = [tcp(), other.clone()][n / peers % 2].clone();
            seen_by(world, 100 + n, &seen, &seen);
        });
        assert!(
            requests <= 40,
            "{requests}, another IP for each {peers} peers"
        );
        assert_eq!(world.external, [tcp(), other.clone()].into());
    }
}

/// Something maps a port for each thing that it does, and confirms it; or listens there first.
#[test]
fn ports_that_are_mapped_for_a_moment_all_day_cause_few_checks() {
    for (step, listens) in [(1, false), (10, false), (60, false), (10, true)] {
        let mut world = behind_nat(&["tcp/4001"], 8);
        world.open.insert(tcp());
        let requests = third_hour(&mut world, secs(step), |world, n| {
            let listen = |n: usize| addr(&format!("/ip4/192.168.1.2/tcp/{}", 10_000 + n % 40_000));
            if listens {
                world.core.on_listen_addr(world.now, &listen(n));
                world.run(secs(1));
            }
            let mapped = |n: usize| wan(&format!("tcp/{}", 10_000 + n));
            world
                .core
                .on_external_confirmed(world.now, &mapped(n % 40_000));
            if let Some(gone) = n.checked_sub(1) {
                world
                    .core
                    .on_external_expired(world.now, &mapped(gone % 40_000));
                if listens {
                    world.core.on_listen_addr_gone(world.now, &listen(gone));
                }
            }
        });
        // A listener has a budget of its own besides.
        let most = if listens { 300 } else { 250 };
        assert!(requests <= most, "{requests}, one each {step} s");
        assert!(world.external.contains(&tcp()));
        // One that stays is tested all the same.
        let stays = wan("tcp/60000");
        world.core.on_external_confirmed(world.now, &stays);
        world.open.insert(stays.clone());
        let mapped = world.at();
        let found = world.run_until(hours(1), |w| w.verdict(&stays) == Verdict::Reachable);
        let took = found.expect("a verdict") - mapped;
        assert!(took <= minutes(6), "{took:?}");
    }
}

/// A router that gives the mapping another port each time that it is renewed.
#[test]
fn a_mapping_that_moves_to_another_port_is_announced_within_seconds() {
    let mut world = behind_nat(&["tcp/4001"], 6);
    world.run(minutes(20));
    let mut before: Option<Multiaddr> = None;
    for n in 0..12 {
        let mapped = wan(&format!("tcp/{}", 50_000 + 7 * n));
        world.open = [mapped.clone()].into();
        if let Some(before) = before.replace(mapped.clone()) {
            world.external.remove(&before);
            world.core.on_external_expired(world.now, &before);
        }
        world.external.insert(mapped.clone());
        world.core.on_external_confirmed(world.now, &mapped);
        let found = world.run_until(secs(5), |w| w.verdict(&mapped) == Verdict::Reachable);
        assert!(found.is_some(), "{mapped}");
        assert_eq!(world.core.summary(), Summary::Public);
        world.run(minutes(30));
        assert_eq!(world.external, [mapped].into());
    }
}
