//! From where an address is proven, and what a NAT's filtering makes of it.

use libp2p::Multiaddr;
use libp2p_autonat_v2::reachability::{
    Config, Event, NatMapping, ProbeOutcome, Summary, Vantage, Verdict,
};

use crate::world::{Answer, World, addr, host, hours, minutes, ms, secs, server_ip, server_ip6};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// A server known over IPv6 only, which dials back over IPv4.
fn independent(world: &mut World, answer: Answer) -> usize {
    let n = world.servers.len();
    world.add_server(Some(server_ip6(n)), answer);
    world.servers[n].dials_from = server_ip(500 + n);
    world.connect(n);
    n
}

/// A server known through a relay only.
fn relayed(world: &mut World, answer: Answer) -> usize {
    let n = world.servers.len();
    world.add_server(None, answer);
    world.servers[n].dials_from = server_ip(600 + n);
    world.connect(n);
    n
}

/// Found in the laboratory: the first server was there a tenth of a second before all others, something else was due, and it was
/// asked and believed at once.
#[test]
fn servers_that_come_at_the_same_time_are_all_there_before_one_is_asked() {
    let mut world = World::new();
    let first = world.server(Answer::DialBack);
    world.servers[first].latency = ms(10);
    world.run(ms(20));
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.after(ms(80), |world| {
        for _ in 0..3 {
            independent(world, Answer::DialErrorAfter(secs(6)));
            world.server(Answer::DialBack);
        }
    });
    world.run(minutes(1));
    let verdicts: Vec<_> = world.verdict_changes(&tcp());
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    assert_eq!(verdicts[0].1, Verdict::Filtered);
    assert!(!world.external.contains(&tcp()));
}

/// However many others have been heard by then.
#[test]
fn independent_servers_that_are_being_asked_are_waited_for() {
    for independents in 1..=5 {
        let mut world = World::new();
        for n in 0..20 {
            if n < independents {
                independent(&mut world, Answer::DialErrorAfter(secs(6)));
            } else {
                world.server(Answer::DialBack);
            }
        }
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.run(secs(6));
        assert_eq!(world.verdict(&tcp()), Verdict::Unknown, "{independents}");
        let asked = world.asked_about(&tcp()).len();
        assert!(asked <= 8 + independents, "{independents}: {asked}");
        world.run(minutes(1));
        if independents > 1 {
            let verdicts = world.verdict_changes(&tcp());
            assert_eq!(verdicts.len(), 1, "{independents}: {verdicts:?}");
            assert_eq!(verdicts[0].1, Verdict::Filtered);
        }
    }
}

#[test]
fn a_dial_back_from_the_ip_that_was_asked_is_a_contacted_one() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    assert_eq!(
        world.outcomes(),
        [ProbeOutcome::Reachable(Vantage::Contacted)]
    );
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Contacted));
}

#[test]
fn a_dial_back_from_an_ip_never_contacted_is_an_independent_one() {
    for relay in [false, true] {
        let mut world = World::new();
        world.core.add_candidate(world.now, &tcp()).unwrap();
        if relay {
            relayed(&mut world, Answer::DialBack);
        } else {
            independent(&mut world, Answer::DialBack);
        }
        world.run(secs(1));
        assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Independent));
    }
}

/// The first dial-back contacts the dialer's IP. That says nothing against what it has shown before.
#[test]
fn a_recheck_by_the_same_server_does_not_take_the_vantage_back() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    independent(&mut world, Answer::DialBack);
    world.run(minutes(5));
    assert!(world.requests.len() > 2);
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Independent));
}

/// Its own dial-backs contact the IP that they come from. When the NAT has forgotten that, it is a stranger's again.
#[test]
fn a_server_that_has_been_quiet_for_long_is_independent_again() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    let strict: Vec<usize> = (0..2)
        .map(|_| independent(&mut world, Answer::DialBack))
        .collect();
    world.run(minutes(10));
    for n in &strict {
        world.disconnect(*n);
    }
    world.run(minutes(20));
    // In the meantime a filter has come between.
    for n in strict {
        world.servers[n].otherwise = Answer::DialError;
        world.connect(n);
    }
    world.run(hours(4));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
}

#[test]
fn a_verdict_waits_for_servers_with_an_independent_vantage() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..20 {
        world.server(Answer::DialBack);
    }
    let n = independent(&mut world, Answer::DialBack);
    world.run(secs(1));
    let asked: Vec<usize> = world.requests.iter().map(|(_, n, _)| *n).collect();
    assert!(asked.iter().take(5).any(|asked| *asked == n), "{asked:?}");
    let report = world.report(&tcp());
    assert_eq!(report.vantage, Some(Vantage::Independent));
    assert!(report.confidence > 0.98, "{}", report.confidence);
}

#[test]
fn two_independent_failures_against_contacted_proofs_are_filtering() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    independent(&mut world, Answer::DialError);
    relayed(&mut world, Answer::DialError);
    world.run(secs(20));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    let changes = world.verdict_changes(&tcp());
    assert!(
        changes.iter().all(|(_, v)| *v != Verdict::Reachable),
        "{changes:?}"
    );
    assert_eq!(world.core.summary(), Summary::Private);
    assert!(world.external.is_empty());
    world.run(minutes(60));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    assert_eq!(world.verdict_changes(&tcp()).len(), 1);
}

#[test]
fn independent_servers_that_come_later_reveal_filtering() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    two_that_may_be_unable_and_one(&mut world);
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    assert!(world.external.is_empty(), "expired");
}

/// Three that agree are margin enough, but they could not have seen the filter.
#[test]
fn independent_servers_that_come_later_than_three_contacted_proofs_reveal_filtering() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    world.run(minutes(1));
    two_that_may_be_unable_and_one(&mut world);
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
}

/// Two servers of which the other family is known, or a relay, may have no IPv4 at all: what stands stays. A third one is too
/// much of a coincidence.
fn two_that_may_be_unable_and_one(world: &mut World) {
    independent(world, Answer::DialError);
    relayed(world, Answer::DialError);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    independent(world, Answer::DialError);
    world.run(minutes(1));
}

#[test]
fn one_independent_failure_is_not_enough_against_proofs() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    independent(&mut world, Answer::DialError);
    world.run(minutes(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn one_independent_proof_shows_that_there_is_no_filter() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    for _ in 0..3 {
        independent(&mut world, Answer::DialError);
    }
    independent(&mut world, Answer::DialBack);
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Independent));
}

#[test]
fn a_filter_that_goes_away_is_noticed() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    for _ in 0..3 {
        independent(&mut world, Answer::DialError);
    }
    world.run(secs(30));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    world.all_answer(&Answer::DialBack);
    world.run(minutes(3));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn an_address_that_must_be_proven_independently_is_not_confirmed_before() {
    let config = Config::default().with_required_vantage(Vantage::Independent);
    let mut world = World::with(config);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert!(world.external.is_empty());
    independent(&mut world, Answer::DialBack);
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(secs(10));
    assert!(world.external.contains(&tcp()));
    world.run(minutes(30));
    assert!(world.external.contains(&tcp()));
}

#[test]
fn an_heir_is_not_confirmed_before_the_plain_address_is() {
    let config = Config::default().with_required_vantage(Vantage::Independent);
    let ws = addr("/ip4/81.2.69.160/tcp/4001/ws");
    let mut world = World::with(config);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.core.add_candidate(world.now, &ws).unwrap();
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    world.run(secs(10));
    assert!(world.external.is_empty(), "{:?}", world.external);
    independent(&mut world, Answer::DialBack);
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(secs(10));
    assert!(world.external.contains(&tcp()));
    assert!(world.external.contains(&ws));
}

#[test]
fn a_strangers_connection_to_a_public_listener_is_proof() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.stranger(server_ip(3), &tcp());
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Independent));
}

#[test]
fn a_stranger_at_a_listener_behind_a_nat_is_an_inference_and_decides_nothing_alone() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.core.on_candidate(world.now, &tcp());
    world.stranger(server_ip(3), &addr("/ip4/192.168.1.2/tcp/4001"));
    world.run(secs(60));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
}

#[test]
fn a_neighbour_on_the_lan_or_a_contacted_peer_is_no_stranger() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.core.on_contact(world.now, server_ip(3));
    world.stranger(server_ip(3), &tcp());
    world.stranger("192.168.1.7".parse().unwrap(), &tcp());
    let relayed = host(server_ip(4))
        .with(libp2p::multiaddr::Protocol::Tcp(1))
        .with(libp2p::multiaddr::Protocol::P2p(libp2p::PeerId::random()))
        .with(libp2p::multiaddr::Protocol::P2pCircuit);
    world.connection(libp2p::PeerId::random(), Some(tcp()), &relayed);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
}

#[test]
fn a_crowd_of_strangers_is_one_voice_and_pushes_no_server_out() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    for _ in 0..5 {
        world.server(Answer::DialBack);
    }
    world.run(secs(5));
    let before = world.report(&tcp()).servers;
    let asked = world.requests.len();
    for n in 0..500 {
        world.stranger(server_ip(1_000 + n), &tcp());
    }
    world.run(secs(5));
    assert_eq!(world.report(&tcp()).servers, before);
    assert_eq!(world.requests.len(), asked);
}

#[test]
fn a_strangers_connection_is_not_an_answer_of_a_server() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.stranger(server_ip(3), &tcp());
    world.run(secs(1));
    assert_eq!(world.report(&tcp()).last_probe, None);
}

#[test]
fn the_nat_mapping_is_read_off_the_observed_ports() {
    for (ports, mapping) in [
        ([4001, 4001], NatMapping::EndpointIndependent),
        ([61_001, 61_002], NatMapping::EndpointDependent),
    ] {
        let mut world = World::new();
        assert_eq!(world.core.nat_mapping(), NatMapping::Unknown);
        for (n, port) in ports.into_iter().enumerate() {
            let remote = host(server_ip(n)).with(libp2p::multiaddr::Protocol::Udp(4001));
            let id = world.connection(libp2p::PeerId::random(), None, &remote);
            let observed = addr(&format!("/ip4/81.2.69.160/udp/{port}/quic-v1"));
            world.core.on_observed(world.now, id, &observed);
        }
        world.drain();
        assert_eq!(world.core.nat_mapping(), mapping);
        let told = world.events.iter().any(|(_, event)| {
            matches!(event, Event::NatMappingChanged { old: NatMapping::Unknown, new, .. } if *new == mapping)
        });
        assert!(told);
    }
}

#[test]
fn what_a_peer_that_dialed_observes_says_nothing_about_the_nat() {
    let mut world = World::new();
    for n in 0..2 {
        let remote = host(server_ip(n)).with(libp2p::multiaddr::Protocol::Udp(4001));
        let local = addr("/ip4/192.168.1.2/udp/4001/quic-v1");
        let id = world.connection(libp2p::PeerId::random(), Some(local), &remote);
        let observed = addr("/ip4/81.2.69.160/udp/4001/quic-v1");
        world.core.on_observed(world.now, id, &observed);
    }
    assert_eq!(world.core.nat_mapping(), NatMapping::Unknown);
}

/// What dials back then is any server, and the gateway's IP is nobody's.
#[test]
fn behind_a_gateway_that_hides_the_source_no_server_is_independent() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    for server in &mut world.servers {
        server.dials_from = "192.168.1.1".parse().unwrap();
    }
    world.run(hours(1));
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Contacted));
    world.all_answer(&Answer::DialError);
    world.run(hours(3));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    let changes = world.verdict_changes(&tcp());
    assert!(
        changes.iter().all(|(_, v)| *v != Verdict::Filtered),
        "{changes:?}"
    );
}
