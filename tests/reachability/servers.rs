//! Whom the core asks, how often, and whom it leaves alone.

use std::{collections::BTreeSet, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{ProbeOutcome, Verdict};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::world::{Answer, World, addr, host, hours, minutes, ms, secs, server_ip6};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn any_answer(rng: &mut StdRng) -> Answer {
    match rng.random_range(0..16) {
        0..3 => Answer::Truth,
        3 => Answer::DialBack,
        4..6 => Answer::DialError,
        6 => Answer::OkWithoutNonce,
        7 => Answer::Refuse,
        8 => Answer::Reject,
        9 => Answer::InternalError,
        10 => Answer::Silent,
        11 => Answer::Eof,
        12 => Answer::Reset,
        13 => Answer::LateNonce(ms(rng.random_range(0..8_000))),
        14 => Answer::Index(rng.random_range(0..4)),
        _ => Answer::DialBackErrorWithoutNonce,
    }
}

/// Also that the core never spins, which `World::run` watches for.
#[test]
fn no_script_makes_the_core_ask_more_than_six_times_a_minute_or_twice_at_once() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        let count = rng.random_range(1..6);
        for port in 0..rng.random_range(1..5) {
            let address = addr(&format!("/ip4/81.2.69.160/tcp/{}", 4001 + port));
            world.core.add_candidate(world.now, &address).unwrap();
            if rng.random() {
                world.open.insert(address);
            }
        }
        for _ in 0..count {
            let answer = any_answer(&mut rng);
            world.server(answer);
        }
        for _ in 0..60 {
            let n = rng.random_range(0..count);
            for _ in 0..rng.random_range(0..10) {
                let answer = any_answer(&mut rng);
                world.servers[n].script.push_back(answer);
            }
            match rng.random_range(0..6) {
                0 => {
                    let _ = world.core.check_now(world.now, &tcp());
                }
                1 => world.core.on_candidate(
                    world.now,
                    &addr(&format!("/ip4/81.2.69.{}/tcp/4001", rng.random::<u8>())),
                ),
                2 if world.open.remove(&tcp()) => {}
                2 => assert!(world.open.insert(tcp())),
                _ => {}
            }
            world.run(secs(rng.random_range(1..240)));
        }
        assert!(world.busiest_minute() <= 6, "seed {seed}");
        assert_eq!(world.most_at_once, 1, "seed {seed}");
    }
}

#[test]
fn a_server_that_stops_and_starts_serving_is_still_asked_one_thing_at_a_time() {
    let mut world = World::of(&tcp(), [Answer::Silent]);
    world.run(secs(1));
    let id = world.servers[0].connection.unwrap();
    for _ in 0..4 {
        world.core.on_support(world.now, id, false);
        world.core.on_support(world.now, id, true);
        world.run(secs(1));
    }
    assert_eq!(world.most_at_once, 1);
}

/// How often a lone server that answers so is asked within an hour.
fn asked_within_an_hour(answer: Answer) -> (usize, Vec<u64>) {
    let mut world = World::of(&tcp(), [answer]);
    world.run(hours(1));
    let times: Vec<_> = world.requests.iter().map(|(at, _, _)| *at).collect();
    let gaps = times.windows(2).map(|p| (p[1] - p[0]).as_secs()).collect();
    (times.len(), gaps)
}

#[test]
fn a_server_that_rejects_is_left_alone_for_10_s_doubling_give_or_take_half() {
    for answer in [Answer::Reject, Answer::InternalError] {
        let (_, gaps) = asked_within_an_hour(answer);
        assert!(gaps.len() >= 6, "{gaps:?}");
        for (gap, doubled) in gaps.iter().zip((0..).map(|n| 10 << n)) {
            assert!((doubled / 2..=doubled * 3 / 2).contains(gap), "{gaps:?}");
        }
    }
}

#[test]
fn servers_that_reject_at_the_same_time_are_not_asked_again_at_the_same_time() {
    let mut world = World::of(&tcp(), vec![Answer::Reject; 12]);
    world.run(secs(60));
    let mut gaps = BTreeSet::new();
    for n in 0..12 {
        let of_server = world.requests.iter().filter(|(_, to, _)| *to == n);
        let times: Vec<Duration> = of_server.map(|(at, _, _)| *at).collect();
        gaps.insert((times[1] - times[0]).as_secs());
    }
    assert!(gaps.len() >= 6, "{gaps:?}");
}

#[test]
fn where_most_requests_are_rejected_fewer_answers_suffice() {
    let answers = |rejected: usize| {
        let mut world = World::of(&tcp(), vec![Answer::DialError; 12]);
        for server in &mut world.servers {
            server.script.extend(vec![Answer::Reject; rejected]);
        }
        world.run(minutes(3));
        assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
        let decided = world.verdict_changes(&tcp())[0].0;
        let failures = world
            .probed()
            .filter(|(at, probed)| *at <= decided && probed.outcome == ProbeOutcome::DialError);
        failures.count()
    };
    let (calm, crowded) = (answers(0), answers(3));
    assert!((1..calm).contains(&crowded), "{calm}, {crowded}");
}

#[test]
fn where_most_requests_are_rejected_checks_are_farther_apart() {
    let checks = |rejects: bool| {
        let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
        if rejects {
            for _ in 0..6 {
                world.server(Answer::Reject);
            }
        }
        world.run(minutes(10));
        let answered = world.outcomes();
        let proofs = answered
            .iter()
            .filter(|it| matches!(it, ProbeOutcome::Reachable(_)));
        proofs.count()
    };
    let (calm, crowded) = (checks(false), checks(true));
    assert!(crowded < calm, "{calm}, {crowded}");
}

#[test]
fn a_server_that_does_not_answer_is_left_alone_for_10_s_doubling() {
    for answer in [Answer::Eof, Answer::Reset, Answer::Unsupported] {
        let (_, gaps) = asked_within_an_hour(answer.clone());
        assert_eq!(gaps, [10, 20, 40, 80, 160, 320, 640, 1280], "{answer:?}");
    }
    let (_, gaps) = asked_within_an_hour(Answer::Silent);
    assert_eq!(gaps, [30, 40, 60, 100, 180, 340, 660, 1300]);
}

#[test]
fn a_server_that_breaks_the_protocol_or_makes_claims_is_left_alone_for_10_min_doubling() {
    let (_, gaps) = asked_within_an_hour(Answer::Violation);
    assert_eq!(gaps, [600, 1200]);
    let (_, gaps) = asked_within_an_hour(Answer::OkWithoutNonce);
    assert_eq!(gaps, [605, 1205]);
}

#[test]
fn a_refusal_holds_for_the_transport_only() {
    let quic = addr("/ip4/81.2.69.160/udp/4001/quic-v1");
    let mut world = World::of(&tcp(), [Answer::Refuse]);
    world.run(secs(2));
    assert_eq!(world.requests.len(), 1);
    world.servers[0].otherwise = Answer::DialBack;
    world.core.add_candidate(world.now, &quic).unwrap();
    world.run(secs(2));
    assert_eq!(world.verdict(&quic), Verdict::Reachable);
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// An application that waits until every address has its answer would wait for ever otherwise.
#[test]
fn a_refusal_of_a_whole_request_is_told_for_each_address() {
    let addresses = [
        tcp(),
        addr("/ip4/81.2.69.160/udp/4001/quic-v1"),
        addr("/ip6/2a02:2e02:3ea0::2/tcp/4001"),
    ];
    let mut world = World::new();
    for address in &addresses {
        world.core.add_candidate(world.now, address).unwrap();
    }
    world.server(Answer::Refuse);
    world.run(secs(1));
    assert_eq!(world.requests.len(), 1);
    for address in &addresses {
        let told: Vec<_> = world
            .probed()
            .filter(|(_, probed)| probed.address == *address)
            .map(|(_, probed)| probed.outcome)
            .collect();
        assert_eq!(told, [ProbeOutcome::Refused], "{address}");
    }
}

#[test]
fn a_refusal_of_many_addresses_of_one_transport_is_one_refusal() {
    let mut world = World::new();
    for port in 4001..4005 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    world.server(Answer::Refuse);
    world.run(secs(1));
    let asked = world.requests.len();
    assert_eq!(world.requests[0].2.addrs.len(), 4);
    world.run(minutes(5));
    assert!(world.requests.len() > asked, "asked again after 5 min");
}

#[test]
fn refusals_in_a_row_double_the_time() {
    let (_, gaps) = asked_within_an_hour(Answer::Refuse);
    assert_eq!(gaps, [300, 600, 1200]);
}

#[test]
fn an_answer_ends_the_doubling() {
    let mut world = World::of(&tcp(), [Answer::Reject]);
    world.run(minutes(10));
    world.servers[0].otherwise = Answer::DialBack;
    world.run(hours(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world.servers[0].otherwise = Answer::Reject;
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(secs(2));
    let before = world.requests.len();
    // The first back-off ends after 5 to 15 s, the second 10 s later at the earliest.
    world.run(secs(13));
    assert_eq!(world.requests.len(), before + 1);
}

#[test]
fn a_back_off_survives_a_reconnect() {
    let mut world = World::of(&tcp(), [Answer::Violation]);
    world.run(secs(5));
    for _ in 0..5 {
        world.disconnect(0);
        world.run(secs(1));
        world.connect(0);
        world.run(secs(20));
    }
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn the_pace_survives_a_reconnect() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    for _ in 0..60 {
        world.run(ms(500));
        world.disconnect(0);
        world.run(ms(500));
        world.connect(0);
        world.core.check_now(world.now, &tcp()).unwrap();
    }
    assert!(world.busiest_minute() <= 6, "{}", world.busiest_minute());
}

/// They may be busy, which says nothing about the address; the one that is left is not all there are.
#[test]
fn one_failure_does_not_decide_while_servers_are_backed_off_for_a_moment() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 6]);
    for server in &mut world.servers {
        server.script.push_back(Answer::Reject);
    }
    world.server(Answer::DialError);
    world.run(minutes(2));
    let changes = world.verdicts(&tcp());
    assert_eq!(changes, [Verdict::Reachable]);
}

#[test]
fn more_servers_are_asked_for_when_there_are_too_few_to_decide() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(secs(1));
    assert_eq!(world.servers_wanted().first().map(|w| w.1), Some(0));
    // At most once a minute.
    world.run(secs(30));
    for _ in 0..10 {
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(secs(2));
    }
    assert_eq!(world.servers_wanted().len(), 1);
    world.run(secs(30));
    world.server(Answer::Refuse);
    world.run(secs(1));
    assert_eq!(world.servers_wanted().len(), 2);
}

#[test]
fn no_servers_are_asked_for_when_there_are_enough() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(hours(1));
    assert!(world.servers_wanted().is_empty());
}

#[test]
fn a_server_that_goes_away_in_the_middle_changes_nothing_but_the_choice() {
    let mut world = World::of(&tcp(), [Answer::Silent]);
    world.run(secs(1));
    world.disconnect(0);
    world.server(Answer::DialBack);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn several_addresses_go_out_to_several_servers_at_the_same_time() {
    let mut world = World::new();
    for port in 0..4 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{}", 4001 + port));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    for _ in 0..4 {
        world.server(Answer::Silent);
    }
    world.run(ms(200));
    assert_eq!(world.requests.len(), 4);
    let mut first: Vec<_> = world.requests.iter().map(|(_, _, r)| &r.addrs[0]).collect();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 4, "each one about another address");
    assert!(world.requests.iter().all(|(_, _, r)| r.addrs.len() == 4));
}

/// A server dials one address of a request, and may take a proven one again rather than the one that is to be decided.
#[test]
fn a_server_is_not_given_again_what_it_has_spoken_of() {
    let addresses: Vec<_> = (4001..4006)
        .map(|port| addr(&format!("/ip4/81.2.69.160/tcp/{port}")))
        .collect();
    let mut world = World::new();
    for address in &addresses {
        world.core.add_candidate(world.now, address).unwrap();
    }
    world.open.insert(addresses[0].clone());
    world.server(Answer::Truth);
    world.run(secs(3));
    assert_eq!(world.verdict(&addresses[0]), Verdict::Reachable);
    assert_eq!(world.requests.len(), 5);
    for (n, (_, _, request)) in world.requests.iter().enumerate() {
        assert_eq!(request.addrs.len(), 5 - n, "{:?}", request.addrs);
    }
}

#[test]
fn a_request_names_ten_addresses_at_most_and_fits_1024_bytes() {
    let mut world = World::new();
    for port in 0..40 {
        let name = "n".repeat(if port % 2 == 0 { 60 } else { 1 });
        let address = addr(&format!("/dns/{name}.example/tcp/{}", 4001 + port));
        let _ = world.core.add_candidate(world.now, &address);
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{}", 4001 + port));
        let _ = world.core.add_candidate(world.now, &address);
    }
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    world.run(minutes(2));
    for (_, _, request) in &world.requests {
        assert!(request.addrs.len() <= 10);
        let message =
            libp2p_autonat_v2::protocol::DialRequest::new(request.addrs.clone(), request.nonce);
        assert!(message.encoded_len() <= 1024);
    }
}

/// It passed over an address of its own, say. What it dialed it can dial.
#[test]
fn a_server_is_not_left_alone_for_a_transport_that_it_has_just_dialed() {
    let other = addr("/ip4/81.2.69.161/tcp/4001");
    let mut world = World::new();
    let last = addr("/ip4/81.2.69.162/tcp/4001");
    for address in [&other, &tcp(), &last] {
        world.core.add_candidate(world.now, address).unwrap();
    }
    world.open.insert(tcp());
    world.server(Answer::Index(1));
    world.run(secs(1));
    let asked = |world: &World| world.asked_about(&other).len();
    assert_eq!(asked(&world), 1);
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world.run(secs(70));
    assert_eq!(asked(&world), 1, "passed over");
    assert!(!world.asked_about(&tcp()).is_empty(), "rechecked");
}

/// What is sent behind the address to be decided is for the same server to dial.
#[test]
fn no_address_is_sent_to_a_server_that_refuses_its_like_or_shares_its_network() {
    let tcp6 = addr("/ip6/2a02:1:2:3::1/tcp/4001");
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp6).unwrap();
    let near = world.server_at(Some("2a02:1:2:3::7".parse().unwrap()), Answer::Truth);
    let unable = world.server(Answer::Refuse);
    world.run(secs(1));
    assert_eq!(world.requests.len(), 1, "the one that is elsewhere");
    world.servers[unable].otherwise = Answer::Truth;
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(minutes(2));
    let sent: Vec<usize> = world
        .requests
        .iter()
        .filter(|(_, _, request)| request.addrs.contains(&tcp6))
        .map(|(_, n, _)| *n)
        .collect();
    assert_eq!(sent, [unable], "{near} is near");
    assert!(world.requests.iter().any(|(_, n, _)| *n == near));
}

/// As libp2p-autonat 0.16 does: it dials the last one, and resets the stream where nobody answers. With it alone, one address
/// that answers nothing must not keep the others from being asked about.
#[test]
fn an_address_about_which_no_answer_comes_keeps_no_other_waiting() {
    let dropped = addr("/ip4/81.2.69.160/tcp/4100");
    for (first, second) in [(&dropped, tcp()), (&tcp(), dropped.clone())] {
        let mut world = World::new();
        for address in [first, &second] {
            world.core.add_candidate(world.now, address).unwrap();
        }
        world.open.insert(tcp());
        world.server(Answer::LastOrReset(dropped.clone()));
        let found = world.run_until(minutes(2), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(found.is_some(), "{first} first");
    }
}

#[test]
fn a_proven_address_about_which_nobody_answers_any_longer_keeps_no_new_one_waiting() {
    let new = addr("/ip4/81.2.69.160/tcp/4002");
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    world.all_answer(&Answer::Silent);
    world.run(minutes(2));
    world.core.add_candidate(world.now, &new).unwrap();
    world.run(hours(1));
    assert!(!world.asked_about(&new).is_empty());
    assert!(world.asked_about(&tcp()).len() > 3, "nor that one");
}

/// Bootstrap peers are dialed by name, and which IP that led to is not known. Their dial-backs tell.
#[test]
fn servers_that_were_dialed_by_name_are_several_once_they_have_dialed_back() {
    for unable in [0, 1, 3] {
        for names in [
            "/dnsaddr/bootstrap.example",
            "/dns4/bootstrap.example/tcp/4001",
        ] {
            let mut world = World::new();
            let listen = addr("/ip4/192.168.1.2/tcp/4001");
            world.core.on_listen_addr(world.now, &listen);
            world.open.insert(tcp());
            for _ in 0..5 {
                let n = world.add_server(None, Answer::Truth);
                let peer = world.servers[n].peer;
                let id = world.connection(peer, None, &addr(names));
                world.servers[n].connection = Some(id);
                world.core.on_support(world.now, id, true);
                world.core.on_observed(world.now, id, &tcp());
                world.drain();
            }
            for _ in 0..unable {
                world.server(Answer::DialError);
            }
            world.run(secs(10));
            assert!(world.external.contains(&tcp()), "{names}, unable: {unable}");
            assert_eq!(world.verdicts(&tcp()), [Verdict::Reachable]);
            assert!(world.report(&tcp()).proven_by >= 2);
        }
    }
}

/// It is connected over both IP families, and the connection that was there first closes. Or it was dialed by name, and where
/// it is comes out with its first dial-back.
#[test]
fn a_server_that_turns_out_to_be_elsewhere_is_no_second_one() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    let (peer, first) = (world.servers[0].peer, world.servers[0].connection.unwrap());
    let over_ip6 = host(server_ip6(0)).with(Protocol::Tcp(4001));
    let second = world.connection(peer, None, &over_ip6);
    world.core.on_support(world.now, second, true);
    world.core.on_connection_closed(world.now, first);
    world.servers[0].connection = Some(second);
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(secs(10));
    assert_eq!(world.requests.len(), 2);
    let report = world.report(&tcp());
    assert_eq!((report.servers, report.proven_by), (1, 1));

    let mut world = World::of(&tcp(), []);
    let n = world.add_server(None, Answer::DialBack);
    world.servers[n].script.push_back(Answer::DialError);
    let by_name = addr("/dns4/bootstrap.example/tcp/4001");
    let id = world.connection(world.servers[n].peer, None, &by_name);
    world.servers[n].connection = Some(id);
    world.core.on_support(world.now, id, true);
    for _ in 0..2 {
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(secs(3));
    }
    assert!(world.requests.len() >= 2);
    assert_eq!(world.report(&tcp()).servers, 1);
}

/// A QUIC connection migrates to another network, which is the address's own.
#[test]
fn a_server_whose_address_changes_is_taken_to_be_where_it_is_now() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    assert_eq!(world.requests.len(), 1);
    let id = world.servers[0].connection.unwrap();
    let near = addr("/ip4/81.2.69.7/tcp/4001");
    world.core.on_address_change(world.now, id, &near);
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(minutes(1));
    assert_eq!(world.requests.len(), 1, "it is near");
    let far = addr("/ip4/91.2.69.7/tcp/4001");
    world.core.on_address_change(world.now, id, &far);
    world.run(minutes(1));
    assert!(world.requests.len() > 1, "it is not");
}
