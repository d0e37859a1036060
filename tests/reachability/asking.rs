//! Rules of `docs/asking.md`, one by one: who is asked and how often, what is paid, what is tracked.

use std::collections::BTreeSet;

use libp2p::Multiaddr;
use libp2p_autonat_v2::reachability::{Config, Verdict};

use crate::world::{Answer, LATENCY, World, addr, hours, minutes, ms, secs, server_ip, server_ip6};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// Whom the core asked from `from` on.
fn asked_from(world: &World, from: usize) -> BTreeSet<usize> {
    world.requests[from..].iter().map(|(_, n, _)| *n).collect()
}

/// Contacted servers pass a filter whether it is still there or not.
#[test]
fn rechecks_of_a_filtered_address_go_to_independent_servers() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    for n in 3..6 {
        world.add_server(Some(server_ip6(n)), Answer::DialError);
        world.servers[n].dials_from = server_ip(500 + n);
        world.connect(n);
    }
    world.run(secs(20));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    let before = world.requests.len();
    world.run(minutes(30));
    let asked = asked_from(&world, before);
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|n| *n >= 3), "{asked:?}");
}

#[test]
fn servers_that_want_no_dial_data_are_asked_first() {
    let answers = [
        Answer::DialData(40_000),
        Answer::DialBack,
        Answer::DialData(40_000),
        Answer::DialBack,
        Answer::DialBack,
    ];
    let mut world = World::of(&tcp(), answers);
    world.open.insert(tcp());
    world.run(minutes(1));
    let paid = world.paid;
    let before = world.requests.len();
    world.run(hours(2));
    assert!(world.requests.len() > before + 5);
    assert_eq!(world.paid, paid, "there are others");
}

#[test]
fn a_server_whose_group_gave_no_answer_comes_after_others_for_ten_minutes() {
    for (wait, comes_first) in [(minutes(2), false), (minutes(11), true)] {
        let mut world = World::with(Config::default().with_max_parallel(1));
        world.core.add_candidate(world.now, &tcp()).unwrap();
        let silent = world.server(Answer::DialError);
        world.servers[silent].script.push_back(Answer::Silent);
        world.run(secs(25));
        for _ in 0..3 {
            world.server(Answer::DialError);
        }
        world.run(secs(2));
        world.core.on_external_expired(world.now, &tcp());
        assert_eq!(asked_from(&world, 0).len(), 4);
        // The silent one was asked longest ago.
        world.run(wait);
        let other = addr("/ip4/81.2.69.160/tcp/4002");
        world.core.add_candidate(world.now, &other).unwrap();
        let before = world.requests.len();
        world.run(secs(5));
        assert_eq!(world.requests[before].1 == silent, comes_first);
    }
}

#[test]
fn a_second_group_is_asked_where_the_application_wants_more_proofs() {
    let config = Config::default()
        .with_max_parallel(1)
        .with_required_servers(4);
    let mut world = World::with(config);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..6 {
        world.server(Answer::DialBack);
    }
    world.run(secs(20));
    assert!(world.external.contains(&tcp()), "before the first recheck");
    assert_eq!(world.requests.len(), 4);
}

#[test]
fn no_dial_data_goes_over_a_relay() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.open.insert(tcp());
    world.server_at(None, Answer::DialData(40_000));
    world.run(minutes(5));
    assert!(!world.requests.is_empty());
    assert_eq!(world.paid, 0);
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
}

/// Hole punching takes a second, and the first request is faster.
#[test]
fn a_server_that_could_not_be_paid_over_a_relay_is_asked_at_once_on_a_direct_connection() {
    for (after, stays) in [(ms(50), true), (ms(900), true), (ms(900), false)] {
        let mut world = World::new();
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.open.insert(tcp());
        let n = world.server_at(None, Answer::DialData(40_000));
        world.run(after);
        let relayed = world.servers[n].connection;
        world.servers[n].ip = Some(world.servers[n].dials_from);
        if !stays {
            world.disconnect(n);
        }
        world.connect(n);
        if let Some(relayed) = relayed.filter(|_| stays) {
            world.core.on_connection_closed(world.now, relayed);
        }
        let punched = world.at();
        let found = world.run_until(minutes(10), |w| w.verdict(&tcp()) == Verdict::Reachable);
        let took = found.expect("a verdict") - punched;
        assert!(took < secs(2), "{took:?} after {after:?}, stays: {stays}");
        assert_eq!(world.paid, 40_000);
    }
}

#[test]
fn dial_data_is_paid_once_for_each_address_of_a_request() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.server(Answer::Silent);
    world.run(secs(1));
    let request = world.requests[0].2.clone();
    let core = &mut world.core;
    let paid = (0..20).filter(|_| core.on_dial_data_request(world.now, request.id, 0, 30_000));
    assert_eq!(paid.count(), 1);
    for index in [1, 99, u32::MAX] {
        assert!(!core.on_dial_data_request(world.now, request.id, index, 30_000));
    }
}

#[test]
fn a_host_is_asked_one_thing_at_a_time() {
    let mut world = World::new();
    for port in 4001..4007 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    for _ in 0..4 {
        let n = world.server_at(Some(server_ip(1)), Answer::DialError);
        world.servers[n].latency = secs(1);
    }
    world.run(minutes(1));
    let times: Vec<_> = world.requests.iter().map(|(at, _, _)| *at).collect();
    assert!(times.len() > 4, "{times:?}");
    // The answer takes a second, and the end of the request as long again.
    let apart = times
        .windows(2)
        .all(|pair| pair[1] - pair[0] >= secs(1) + LATENCY);
    assert!(apart, "{times:?}");
}

#[test]
fn nine_requests_about_an_address_are_under_way_at_most() {
    let config = Config::default().with_max_in_flight(64);
    let mut world = World::with(config);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..20 {
        world.server(Answer::Silent);
    }
    world.run(ms(1_900));
    assert_eq!(world.requests.len(), 3);
    world.run(secs(17));
    assert_eq!(world.requests.len(), 9);
}

#[test]
fn eight_addresses_of_one_ip_of_which_only_peers_speak_are_tracked() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    for port in 5000..5020 {
        let seen = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.on_candidate(world.now, &seen);
        world.run(ms(10));
    }
    let observed = world.core.addresses().filter(|it| !it.sources.guessed);
    assert_eq!(observed.count(), 8);
    assert_eq!(world.core.sizes().addresses, 9, "with the guess");
}

/// The server is far, and what it calls a dial-back comes from behind the same router.
#[test]
fn a_nonce_from_the_addresss_own_network_proves_nothing_whoever_was_asked() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let n = world.add_server(Some(server_ip(1)), Answer::DialBack);
    world.servers[n].dials_from = "81.2.69.7".parse().unwrap();
    world.connect(n);
    world.run(secs(10));
    assert_eq!(world.nonces.0, 0);
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
}

/// A heard server may promise more, by its vantage: a few have to speak all the same.
#[test]
fn a_recheck_asks_somebody_new_until_three_servers_have_spoken() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let n = world.add_server(Some(server_ip6(0)), Answer::DialBack);
    world.servers[n].dials_from = server_ip(500);
    world.connect(n);
    world.run(secs(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    for _ in 0..4 {
        world.server(Answer::DialBack);
    }
    let before = world.requests.len();
    world.run(minutes(3));
    let asked: Vec<usize> = world.requests[before..]
        .iter()
        .map(|(_, n, _)| *n)
        .collect();
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(!asked[..2].contains(&n), "{asked:?}");
    assert_ne!(asked[0], asked[1]);
}

/// Whoever holds a name decides where it leads.
#[test]
fn a_name_is_tested_if_the_application_adds_it_and_not_if_peers_speak_of_it() {
    let name = addr("/dns4/node.example/tcp/4001");
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.server(Answer::DialError);
    world.core.on_candidate(world.now, &name);
    world.run(minutes(1));
    assert_eq!(world.core.sizes().addresses, 0);
    world.core.add_candidate(world.now, &name).unwrap();
    world.run(secs(10));
    assert_eq!(world.asked_about(&name).len(), 1);
}

#[test]
fn a_new_external_ip_has_what_is_known_checked_at_once() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.open.insert(tcp());
    for _ in 0..4 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(hours(3));
    let next = world.report(&tcp()).next_probe.expect("it is settled");
    assert!(next - world.now > minutes(1));
    let before = world.asked_about(&tcp()).len();
    let another = addr("/ip4/81.2.69.170/tcp/4001");
    world.core.on_candidate(world.now, &another);
    world.run(secs(5));
    assert_eq!(world.asked_about(&tcp()).len(), before + 1);
}

#[test]
fn an_outcome_counts_for_three_hours() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    world.disconnect(0);
    world.run(minutes(179));
    assert_eq!(world.report(&tcp()).servers, 1);
    world.run(minutes(2));
    assert_eq!(world.report(&tcp()).servers, 0);
}
