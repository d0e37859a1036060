//! What applications and other behaviours do with the swarm's external addresses: mappings that come late, addresses that
//! are taken back, other spellings, every observed address added.

use std::time::Duration;

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{Config, Event, RequestCompleted, Summary, Verdict};

use crate::world::{Answer, World, addr, hours, minutes, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// A node behind a NAT with eight servers, which peers see at `tcp()`.
fn behind_nat(open: bool) -> World {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    if open {
        world.open.insert(tcp());
    }
    for _ in 0..8 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &tcp());
    }
    world
}

/// As the swarm tells of what the application does.
fn confirm(world: &mut World, addr: &Multiaddr) {
    world.external.insert(addr.clone());
    world.core.on_external_confirmed(world.now, addr);
}

fn expire(world: &mut World, addr: &Multiaddr) {
    world.external.remove(addr);
    world.core.on_external_expired(world.now, addr);
    world.drain();
}

/// A node behind a NAT with so many servers, which it has asked for so long in vain.
fn not_reachable(servers: usize, time: Duration) -> World {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    for _ in 0..servers {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(time);
    assert_eq!(world.verdicts(&tcp()), [Verdict::Unreachable]);
    world
}

/// How long it takes until `tcp()` is found reachable.
fn time_to_proof(world: &mut World) -> Duration {
    let asked = world.at();
    let found = world.run_until(minutes(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
    found.expect("a verdict") - asked
}

/// UPnP maps the port, or the operator adds it, after this node has found that it is not reachable.
#[test]
fn a_mapping_that_comes_late_is_found_at_once() {
    for servers in [1, 2, 3, 8] {
        for time in [45, 200, 1_300, 6 * 3_600] {
            for added in [false, true] {
                let mut world = not_reachable(servers, secs(time));
                world.open.insert(tcp());
                if added {
                    world.core.add_candidate(world.now, &tcp()).unwrap();
                } else {
                    confirm(&mut world, &tcp());
                }
                let took = time_to_proof(&mut world);
                let case = format!("{servers} servers, after {time} s, added: {added}");
                assert!(took <= secs(2), "{took:?}, {case}");
                world.run(hours(1));
                let verdicts = [Verdict::Unreachable, Verdict::Reachable];
                assert_eq!(world.verdicts(&tcp()), verdicts, "{case}");
            }
        }
    }
}

/// Its packets were dropped before the mapping was there.
#[test]
fn a_dial_that_was_under_way_when_the_mapping_came_says_nothing() {
    for servers in [2, 3, 8] {
        let mut world = not_reachable(servers, minutes(20));
        world.script.push_back(Answer::DialErrorAfter(secs(9)));
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(secs(1));
        world.open.insert(tcp());
        confirm(&mut world, &tcp());
        let took = time_to_proof(&mut world);
        assert!(took <= secs(2), "{took:?}, {servers} servers");
        world.run(secs(20));
        let verdicts = [Verdict::Unreachable, Verdict::Reachable];
        assert_eq!(world.verdicts(&tcp()), verdicts, "{servers} servers");
    }
}

/// The router that makes it has another NAT in front.
#[test]
fn a_mapping_that_leads_nowhere_changes_no_verdict() {
    let mut world = not_reachable(8, hours(6));
    confirm(&mut world, &tcp());
    world.run(secs(2));
    let report = world.report(&tcp());
    assert!(report.servers >= 2, "{} servers asked", report.servers);
    world.run(hours(3));
    assert_eq!(world.verdicts(&tcp()), [Verdict::Unreachable]);
}

/// It comes with the renewal of a lease every half an hour, too, and that is no news.
#[test]
fn a_mapping_that_is_confirmed_again_is_not_checked_again() {
    let mut world = behind_nat(true);
    confirm(&mut world, &tcp());
    world.run(hours(6));
    let before = world.requests.len();
    for _ in 0..60 {
        confirm(&mut world, &tcp());
        world.run(secs(10));
    }
    let requests = world.requests.len() - before;
    assert!(requests <= 1, "{requests} requests in ten minutes");
}

/// A list of addresses that the application does not announce, applied to the very event that tells of one.
#[test]
fn an_address_that_is_taken_back_on_the_event_that_tells_of_it_stays_away() {
    let mut world = behind_nat(true);
    world.taken_back.insert(tcp());
    for _ in 0..360 {
        world.core.on_candidate(world.now, &tcp());
        world.run(minutes(1));
        assert!(world.external.is_empty());
    }
    assert_eq!(world.confirmations, 1);
    // Until the application brings it again.
    world.taken_back.clear();
    confirm(&mut world, &tcp());
    world.run(minutes(1));
    assert!(world.external.contains(&tcp()));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

/// Peers tell of it all the time.
#[test]
fn an_address_that_the_application_takes_back_each_time_is_confirmed_once() {
    let mut world = behind_nat(true);
    for _ in 0..600 {
        world.core.on_candidate(world.now, &tcp());
        world.run(secs(1));
        if world.external.contains(&tcp()) {
            expire(&mut world, &tcp());
        }
    }
    assert_eq!(world.confirmations, 1);
}

/// An operator writes the own peer ID behind an address.
#[test]
fn the_swarm_and_the_core_agree_about_an_address_that_is_written_with_the_own_peer_id() {
    let named = |world: &World| tcp().with(Protocol::P2p(world.me));
    // Confirmed so, and proven.
    let mut world = behind_nat(true);
    let with_id = named(&world);
    confirm(&mut world, &with_id);
    world.run(minutes(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(
        world.external,
        [with_id.clone()].into(),
        "one of the two is enough"
    );
    expire(&mut world, &with_id);
    world.run(hours(2));
    assert!(world.external.is_empty(), "{:?}", world.external);

    // Proven first, then confirmed so.
    let mut world = behind_nat(true);
    let with_id = named(&world);
    world.run(minutes(10));
    confirm(&mut world, &with_id);
    world.run(minutes(10));
    expire(&mut world, &with_id);
    world.run(hours(2));
    assert!(world.external.is_empty(), "{:?}", world.external);

    // Proven, then expired so.
    let mut world = behind_nat(true);
    let with_id = named(&world);
    world.run(minutes(10));
    assert_eq!(world.external, [tcp()].into());
    expire(&mut world, &with_id);
    world.run(hours(2));
    assert!(world.external.is_empty(), "{:?}", world.external);
}

#[test]
fn what_was_confirmed_with_the_own_peer_id_is_expired_in_that_form() {
    let config = Config::default().with_expire_foreign(true);
    let mut world = World::with(config);
    let with_id = tcp().with(Protocol::P2p(world.me));
    confirm(&mut world, &with_id);
    for _ in 0..4 {
        world.server(Answer::Truth);
    }
    world.run(minutes(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert!(world.external.is_empty(), "{:?}", world.external);
}

/// It takes each candidate of the swarm for an external address, whatever port a peer saw.
#[test]
fn an_application_that_confirms_every_observed_address_leaves_room_for_the_real_one() {
    for added in [false, true] {
        let mut world = behind_nat(false);
        for n in 0..200u16 {
            let seen = addr(&format!("/ip4/81.2.69.160/tcp/{}", 40_000 + n));
            let connection = world.acquaintance(server_ip(100 + usize::from(n)));
            world.core.on_candidate(world.now, &seen);
            world.core.on_observed(world.now, connection, &seen);
            if added {
                // Where the table is full it is told so, and goes on.
                let _ = world.core.add_candidate(world.now, &seen);
            } else {
                confirm(&mut world, &seen);
            }
            world.run(minutes(1));
            world.core.on_connection_closed(world.now, connection);
        }
        let real = addr("/ip4/81.2.69.161/tcp/4001");
        world.open.insert(real.clone());
        for n in 0..3 {
            let connection = world.acquaintance(server_ip(400 + n));
            world.core.on_observed(world.now, connection, &real);
        }
        let asked = world.at();
        let found = world.run_until(hours(1), |w| w.verdict(&real) == Verdict::Reachable);
        let took = found.expect("tracked and proven") - asked;
        assert!(took < minutes(1), "{took:?}, added: {added}");
    }
}

#[test]
fn a_client_that_only_reports_leaves_the_external_addresses_alone() {
    let mut world = World::with(Config::default().with_confirmations(false));
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::Truth);
    }
    world.open.insert(tcp());
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.core.summary(), Summary::Public);
    world.open.clear();
    world.run(minutes(2));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.confirmations, 0);
    assert!(world.external.is_empty());
}

#[test]
fn each_request_is_told_of_when_it_leaves_and_when_it_is_over() {
    let mut world = World::of(&tcp(), [Answer::Truth, Answer::Reject, Answer::Silent]);
    world.run(minutes(5));
    let mut under_way = Vec::new();
    for (_, event) in &world.events {
        match event {
            Event::RequestStarted(started) => {
                assert_eq!(started.addresses, [tcp()]);
                under_way.push((started.probe, started.server));
            }
            Event::Probed(probed) => assert!(under_way.contains(&(probed.probe, probed.server))),
            Event::RequestCompleted(completed) => {
                let over = (completed.probe, completed.server);
                let at = under_way.iter().position(|it| *it == over);
                under_way.remove(at.expect("it has left"));
            }
            _ => {}
        }
    }
    assert!(
        world.requests.len() > 5,
        "{} requests",
        world.requests.len()
    );
    assert!(under_way.len() <= 1, "{under_way:?}");
}

#[test]
fn each_request_is_completed_once_with_the_outcome_that_counts() {
    for (answer, outcome, dialed) in [
        (Answer::DialBack, "reachable", true),
        (Answer::DialError, "dial-error", true),
        (Answer::Refuse, "refused", false),
        (Answer::Reject, "rejected", false),
        (Answer::OkWithoutNonce, "nonce-missing", true),
        (Answer::Silent, "timeout", false),
        (Answer::Reset, "reset", false),
    ] {
        let mut world = World::of(&tcp(), [answer.clone()]);
        world.run(minutes(1));
        // Nothing is to be asked any more; what is under way ends.
        world.core.on_external_expired(world.now, &tcp());
        let id = world.servers[0].connection.unwrap();
        world.core.on_support(world.now, id, false);
        world.run(minutes(1));
        let told = world.events.iter().filter_map(|(_, event)| match event {
            Event::RequestCompleted(completed) => Some(completed),
            _ => None,
        });
        let mut completed: Vec<&RequestCompleted> = told.collect();
        assert_eq!(completed.len(), world.requests.len(), "{answer:?}");
        completed.sort_by_key(|it| it.probe);
        completed.dedup_by_key(|it| it.probe);
        assert_eq!(completed.len(), world.requests.len(), "{answer:?}: twice");
        let first = completed[0];
        assert_eq!(first.outcome.as_str(), outcome, "{answer:?}");
        assert_eq!(first.dialed, dialed.then(tcp), "{answer:?}");
        assert_eq!(first.addresses, 1, "{answer:?}");
    }
}
