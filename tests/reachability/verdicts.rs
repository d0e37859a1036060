//! How evidence becomes a verdict, and how a verdict is overturned.

use std::collections::HashMap;

use libp2p::Multiaddr;
use libp2p_autonat_v2::{
    protocol::DialStatus,
    reachability::{Config, Event, ProbeOutcome, Summary, Vantage, Verdict},
};

use crate::world::{Answer, World, addr, hours, minutes, ms, secs};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

#[test]
fn one_proof_makes_an_address_reachable() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    let report = world.report(&tcp());
    assert_eq!(report.verdict, Verdict::Reachable);
    assert_eq!(report.vantage, Some(Vantage::Contacted));
    // A filter would have let it in, too.
    assert!(
        (0.75..0.85).contains(&report.confidence),
        "{}",
        report.confidence
    );
    assert!(report.announced);
    assert!(world.external.contains(&tcp()));
    assert_eq!(world.core.summary(), Summary::Public);
    assert_eq!(world.nonces, (1, 0));
}

#[test]
fn a_lone_servers_failure_decides_only_after_others_had_time_to_appear() {
    let mut world = World::of(&tcp(), [Answer::DialError]);
    world.run(ms(4_900));
    assert_eq!(world.outcomes(), [ProbeOutcome::DialError]);
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
    world.run(ms(400));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.core.summary(), Summary::Private);
    assert!(world.external.is_empty());
}

#[test]
fn three_servers_unanimous_failure_decides_soon() {
    let mut world = World::of(&tcp(), vec![Answer::DialError; 3]);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
}

#[test]
fn a_proof_among_failures_is_what_counts_at_first() {
    for failing in 1..=6 {
        let answers = std::iter::repeat_n(Answer::DialError, failing).chain([Answer::DialBack]);
        let mut world = World::of(&tcp(), answers);
        // The failures come first, but fewer than four of them do not decide while a server is left.
        world.run(secs(60));
        assert_eq!(
            world.verdict(&tcp()),
            Verdict::Reachable,
            "{failing} failures"
        );
    }
}

/// Found in the laboratory: five of seven servers whose packets their own network drops failed at once, before the two
/// that can dial were through.
#[test]
fn five_of_seven_servers_that_cannot_dial_do_not_decide_before_the_others_are_heard() {
    for first in 0..7 {
        for second in 0..first {
            let mut world = World::of(&tcp(), vec![Answer::DialError; 7]);
            for able in [first, second] {
                world.servers[able].otherwise = Answer::DialBack;
            }
            world.run(secs(60));
            let verdicts = world.verdicts(&tcp());
            assert_eq!(verdicts, [Verdict::Reachable], "{first} and {second} can");
        }
    }
}

/// The wrong first verdict that servers without ability can bring about is not for ever.
#[test]
fn one_able_server_among_many_that_are_not_corrects_a_wrong_first_verdict() {
    for able_first in [false, true] {
        let mut world = World::of(&tcp(), vec![Answer::DialError; 6]);
        if able_first {
            world.server(Answer::DialBack);
            world.run(secs(30));
        } else {
            world.run(secs(30));
            assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
            world.server(Answer::DialBack);
        }
        world.run(minutes(2));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "{able_first}");
    }
}

#[test]
fn failures_without_ability_never_outvote_a_proof_that_can_be_repeated() {
    let mut world = World::of(&tcp(), vec![Answer::DialError; 12]);
    world.servers[5].otherwise = Answer::DialBack;
    world.run(hours(2));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    // Those that fall out of the window are not asked again and again.
    let asked = world.requests.len();
    assert!(asked < 100, "{asked} requests in two hours");
}

#[test]
fn one_failure_does_not_overturn_a_standing_verdict() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 5]);
    world.run(secs(5));
    for _ in 0..5 {
        world.script.push_back(Answer::DialError);
        world.run(hours(2));
        assert!(world.script.is_empty());
    }
    assert_eq!(world.verdict_changes(&tcp()).len(), 1);
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert!(world.outcomes().contains(&ProbeOutcome::DialError));
}

#[test]
fn one_proof_does_not_overturn_a_standing_verdict() {
    let mut world = World::of(&tcp(), [Answer::DialError]);
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    world.servers[0].script.push_back(Answer::DialBack);
    world.run(minutes(5));
    assert!(
        world
            .outcomes()
            .contains(&ProbeOutcome::Reachable(Vantage::Contacted))
    );
    assert_eq!(world.verdict_changes(&tcp()).len(), 1);
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
}

#[test]
fn two_servers_overturn_a_standing_verdict_in_either_direction() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    world.run(secs(5));
    world.all_answer(&Answer::DialError);
    // A recheck is at most a minute away, and the second server is asked at once.
    let lost = world.run_until(secs(62), |w| w.verdict(&tcp()) == Verdict::Unreachable);
    assert!(lost.is_some(), "not overturned");
    assert!(!world.external.contains(&tcp()), "expired");
    world.all_answer(&Answer::DialBack);
    let back = world.run_until(secs(62), |w| w.verdict(&tcp()) == Verdict::Reachable);
    assert!(back.is_some(), "not overturned again");
    assert!(world.external.contains(&tcp()), "confirmed again");
}

#[test]
fn a_surprise_is_checked_with_another_server_at_once() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(secs(5));
    world.all_answer(&Answer::DialError);
    world.run(minutes(2));
    let failures: Vec<_> = world
        .probed()
        .filter(|(_, p)| p.outcome == ProbeOutcome::DialError)
        .map(|(at, p)| (at, p.server))
        .collect();
    assert_ne!(failures[0].1, failures[1].1);
    assert!(failures[1].0 - failures[0].0 < ms(500), "{failures:?}");
}

#[test]
fn a_lone_server_overturns_a_verdict_by_saying_so_again_and_again() {
    for (first, then) in [
        (Answer::DialBack, Answer::DialError),
        (Answer::DialError, Answer::DialBack),
    ] {
        let mut world = World::of(&tcp(), [first]);
        world.run(secs(10));
        let before = world.verdict(&tcp());
        world.all_answer(&then);
        let surprise = world
            .run_until(secs(65), |w| w.requests.len() > 1)
            .expect("a recheck");
        let overturned = world
            .run_until(secs(60), |w| w.verdict(&tcp()) != before)
            .expect("overturned");
        let took = overturned - surprise;
        assert!(took >= secs(10) && took < secs(45), "{took:?}");
    }
}

#[test]
fn forwarding_that_is_removed_is_noticed_and_that_comes_back_too() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 5]);
    world.open.insert(tcp());
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    for _ in 0..3 {
        world.open.clear();
        let lost = world.run_until(secs(65), |w| w.verdict(&tcp()) == Verdict::Unreachable);
        assert!(lost.is_some());
        world.open.insert(tcp());
        let back = world.run_until(secs(65), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(back.is_some());
        world.run(minutes(1));
    }
}

/// Failures by servers that never dialed the transport do not outweigh a proof, and must not be repeated for ever either.
#[test]
fn a_challenge_that_nobody_can_settle_is_not_pursued_at_full_pace() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(10));
    world.disconnect(0);
    world.server(Answer::DialError);
    world.run(minutes(175));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    let asked = world.requests.len();
    assert!(asked < 60, "{asked} requests in three hours");
}

/// Or an address that died while nobody could tell would be announced for ever.
#[test]
fn a_proof_that_nobody_has_repeated_for_three_hours_no_longer_outweighs_failures() {
    for count in [1, 4] {
        let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
        world.run(secs(10));
        for n in 0..3 {
            world.disconnect(n);
        }
        for _ in 0..count {
            world.server(Answer::DialError);
        }
        world.run(minutes(170));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "{count}");
        let wanted = world.servers_wanted().len();
        assert_eq!(
            wanted > 0,
            count < 3,
            "{count} servers, {wanted} calls for more"
        );
        world.run(hours(5));
        assert_eq!(world.verdict(&tcp()), Verdict::Unreachable, "{count}");
        assert!(world.external.is_empty());
    }
}

#[test]
fn the_confidence_is_that_of_the_verdict_that_stands_not_of_the_one_before() {
    for count in [2, 4, 8] {
        let mut world = World::of(&tcp(), vec![Answer::Truth; count]);
        for open in [true, false, true, false] {
            if open {
                world.open.insert(tcp());
            } else {
                world.open.clear();
            }
            let verdict = if open {
                Verdict::Reachable
            } else {
                Verdict::Unreachable
            };
            // A recheck is at most a minute away; two servers must then say it twice.
            let found = world.run_until(secs(90), |w| w.verdict(&tcp()) == verdict);
            assert!(found.is_some(), "{count} servers, open: {open}");
            // All servers were contacted, so that more is not to be had of a proof.
            let least = if open { 0.75 } else { 0.7 };
            let confidence = world.report(&tcp()).confidence;
            assert!(
                confidence > least,
                "{confidence}, {count} servers, open: {open}"
            );
        }
    }
}

#[test]
fn what_is_no_evidence_leaves_the_address_to_be_tested() {
    for answer in [
        Answer::Refuse,
        Answer::Reject,
        Answer::InternalError,
        Answer::Silent,
        Answer::Eof,
        Answer::Reset,
        Answer::Unsupported,
        Answer::Violation,
        Answer::DialData(100_001),
        Answer::OkWithoutNonce,
        Answer::DialBackErrorWithoutNonce,
        Answer::DialErrorAfter(ms(25_200)),
    ] {
        let mut config = Config::default();
        if matches!(answer, Answer::DialErrorAfter(_)) {
            config = config.with_request_timeouts(secs(30), secs(30));
        }
        let mut world = World::with(config);
        world.core.add_candidate(world.now, &tcp()).unwrap();
        for _ in 0..3 {
            world.server(answer.clone());
        }
        world.run(minutes(3));
        assert!(!world.requests.is_empty(), "{answer:?}");
        assert_eq!(world.verdict(&tcp()), Verdict::Unknown, "{answer:?}");
        assert_eq!(world.report(&tcp()).servers, 0, "{answer:?}");
        assert!(!world.outcomes().is_empty(), "{answer:?}");
        world.server(Answer::DialBack);
        // Where the budget for dial data is the trouble, the address waits for the next hour's.
        let longest = match answer {
            Answer::DialData(_) => hours(1),
            _ => secs(1),
        };
        let proven = world.run_until(longest, |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(proven.is_some(), "{answer:?}");
    }
}

#[test]
fn every_answer_is_reported_once_and_by_its_name() {
    for (answer, outcome) in [
        (
            Answer::DialBack,
            ProbeOutcome::Reachable(Vantage::Contacted),
        ),
        (
            Answer::DialBackErrorWithNonce,
            ProbeOutcome::Reachable(Vantage::Contacted),
        ),
        (
            Answer::NonceThenEof,
            ProbeOutcome::Reachable(Vantage::Contacted),
        ),
        (Answer::DialError, ProbeOutcome::DialError),
        (Answer::Refuse, ProbeOutcome::Refused),
        (Answer::Reject, ProbeOutcome::Rejected),
        (Answer::InternalError, ProbeOutcome::InternalError),
        (Answer::OkWithoutNonce, ProbeOutcome::NonceMissing),
        (
            Answer::DialBackErrorWithoutNonce,
            ProbeOutcome::DialBackError,
        ),
    ] {
        let mut world = World::of(&tcp(), [answer.clone()]);
        world.run(secs(8));
        assert_eq!(world.outcomes(), [outcome], "{answer:?}");
    }
}

#[test]
fn a_failure_later_than_25_s_is_none() {
    let config = Config::default().with_request_timeouts(secs(30), secs(30));
    for (late, verdict, outcome) in [
        (ms(24_900), Verdict::Unreachable, ProbeOutcome::DialError),
        (ms(25_100), Verdict::Unknown, ProbeOutcome::LateDialError),
    ] {
        let mut world = World::with(config.clone());
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.server(Answer::DialErrorAfter(late));
        world.run(secs(31));
        assert_eq!(world.outcomes(), [outcome]);
        assert_eq!(world.verdict(&tcp()), verdict);
    }
}

#[test]
fn a_dial_back_error_with_the_nonce_is_proof() {
    let mut world = World::of(&tcp(), [Answer::DialBackErrorWithNonce]);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn answers_for_each_address_count_for_each() {
    let (quic, other) = (
        addr("/ip4/81.2.69.160/udp/4001/quic-v1"),
        addr("/ip4/81.2.69.161/tcp/4001"),
    );
    let mut world = World::new();
    for address in [&tcp(), &quic, &other] {
        world.core.add_candidate(world.now, address).unwrap();
    }
    let n = world.add_server(Some(crate::world::server_ip(0)), Answer::Silent);
    world.servers[n].script.push_back(Answer::Each(vec![
        Answer::DialBack,
        Answer::DialBack,
        Answer::DialError,
    ]));
    world.connect(n);
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.verdict(&quic), Verdict::Reachable);
    assert_eq!(world.verdict(&other), Verdict::Unreachable);
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn an_answer_about_an_address_behind_the_first_tests_that_one_and_refuses_the_first() {
    let quic = addr("/ip4/81.2.69.160/udp/4001/quic-v1");
    let third = addr("/ip6/2a01::1/tcp/4001");
    let mut world = World::new();
    for address in [&tcp(), &quic, &third] {
        world.core.add_candidate(world.now, address).unwrap();
    }
    world.server(Answer::DialError);
    world.servers[0].script.push_back(Answer::Index(1));
    world.open.insert(quic.clone());
    world.run(ms(400));
    assert_eq!(world.verdict(&quic), Verdict::Reachable);
    assert_eq!(world.report(&tcp()).servers, 0);
    assert!(
        world.asked_about(&tcp()).len() == 1,
        "refused for TCP over IPv4"
    );
}

#[test]
fn the_same_failure_twice_is_one_voice() {
    let mut world = World::of(&tcp(), [Answer::DialBack, Answer::DialError]);
    world.run(minutes(30));
    let report = world.report(&tcp());
    assert_eq!(report.servers, 2);
    assert_eq!(report.verdict, Verdict::Reachable);
}

#[test]
fn a_repeated_response_for_an_address_is_nonsense() {
    let mut world = World::of(&tcp(), [Answer::Silent]);
    world.run(ms(200));
    let id = world.requests[0].2.id;
    for _ in 0..3 {
        world.respond(0, id, 0, DialStatus::DialError);
    }
    world.respond(0, id, 9, DialStatus::DialError);
    world.run(minutes(1));
    assert_eq!(world.report(&tcp()).servers, 1);
    // It is left alone for ten minutes.
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn an_address_is_asked_about_until_it_is_sure_and_no_further() {
    let mut world = World::of(&tcp(), vec![Answer::DialError; 60]);
    world.run(minutes(20));
    let report = world.report(&tcp());
    assert!((8..=24).contains(&report.servers), "{}", report.servers);
    assert!(report.confidence > 0.98, "{}", report.confidence);
}

#[test]
fn outcomes_expire_and_the_verdict_stands() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(minutes(1));
    for n in 0..3 {
        world.disconnect(n);
    }
    world.run(hours(4));
    let report = world.report(&tcp());
    assert_eq!(report.verdict, Verdict::Reachable);
    assert_eq!(report.servers, 0);
    assert!((report.confidence - 0.5).abs() < 1e-9);
}

#[test]
fn an_operator_of_many_servers_does_not_outvote_the_others() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    for host in 1..=20 {
        let ip = std::net::Ipv4Addr::new(45, 45, host, 1);
        world.server_at(Some(ip.into()), Answer::DialError);
    }
    for n in 0..3 {
        world.server_at(Some(crate::world::server_ip(n)), Answer::DialBack);
    }
    world.run(secs(30));
    assert_eq!(
        world
            .verdict_changes(&tcp())
            .iter()
            .map(|(_, v)| *v)
            .collect::<Vec<_>>(),
        [Verdict::Reachable]
    );
}

#[test]
fn the_summary_is_public_with_one_private_with_none_and_unknown_before() {
    let other = addr("/ip4/81.2.69.160/tcp/4002");
    let mut world = World::new();
    assert_eq!(world.core.summary(), Summary::Unknown);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.core.add_candidate(world.now, &other).unwrap();
    for _ in 0..4 {
        world.server(Answer::Truth);
    }
    world.run(secs(10));
    assert_eq!(world.core.summary(), Summary::Private);
    world.open.insert(other.clone());
    world.run(minutes(2));
    assert_eq!(world.core.summary(), Summary::Public);
    world.open.clear();
    world.run(minutes(2));
    assert_eq!(world.core.summary(), Summary::Private);
    assert_eq!(
        world.summaries(),
        [Summary::Private, Summary::Public, Summary::Private]
    );
}

#[test]
fn a_pinned_summary_stays_and_an_unpinned_one_is_the_verdicts_again() {
    let mut world = World::of(&tcp(), vec![Answer::DialError; 3]);
    world.core.pin_summary(world.now, Some(Summary::Public));
    world.run(secs(10));
    assert_eq!(world.core.summary(), Summary::Public);
    world.core.pin_summary(world.now, None);
    world.drain();
    assert_eq!(world.core.summary(), Summary::Private);
    assert_eq!(world.summaries(), [Summary::Public, Summary::Private]);
    // Without verdicts nothing of a pin is left.
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.core.pin_summary(world.now, Some(Summary::Private));
    world.core.pin_summary(world.now, None);
    assert_eq!(world.core.summary(), Summary::Unknown);
}

#[test]
fn a_pin_does_not_outlive_itself_in_the_summary() {
    // One address is unreachable, another one undecided: private only if it was so before.
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(secs(10));
    world.core.pin_summary(world.now, Some(Summary::Private));
    world.core.pin_summary(world.now, None);
    assert_eq!(world.core.summary(), Summary::Public);
}

#[test]
fn verdict_events_tell_each_change_and_nothing_else() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 4]);
    for round in 0..6 {
        if round % 2 == 0 {
            world.open.insert(tcp());
        } else {
            world.open.clear();
        }
        world.run(minutes(3));
    }
    let mut before: HashMap<Multiaddr, Verdict> = HashMap::new();
    for (_, event) in &world.events {
        if let Event::VerdictChanged {
            address,
            old,
            new,
            confidence,
            ..
        } = event
        {
            assert_eq!(before.get(address).copied().unwrap_or_default(), *old);
            assert_ne!(old, new);
            assert!((0.0..=1.0).contains(confidence));
            before.insert(address.clone(), *new);
        }
    }
    assert_eq!(world.verdict_changes(&tcp()).len(), 6);
}

#[test]
fn the_time_to_the_first_verdict_is_told_once() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 4]);
    for open in [true, false, true] {
        world.open = open.then(tcp).into_iter().collect();
        world.run(minutes(20));
    }
    let told = world.events.iter().filter_map(|(_, event)| match event {
        Event::VerdictChanged {
            time_to_verdict, ..
        } => Some(*time_to_verdict),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(told.len() > 2, "it changed back and forth: {told:?}");
    let (first, later) = told.split_first().expect("a verdict");
    assert!(first.is_some_and(|took| took < secs(1)));
    assert!(later.iter().all(Option::is_none), "{told:?}");
}

/// As when a laptop wakes up: the first to be back is not all there are.
#[test]
fn the_first_server_to_be_back_after_all_were_lost_does_not_decide_alone() {
    let mut world = World::new();
    for answer in [
        Answer::DialError,
        Answer::Truth,
        Answer::Truth,
        Answer::Truth,
    ] {
        world.server(answer);
    }
    world.run(minutes(1));
    for n in 0..4 {
        world.disconnect(n);
    }
    world.run(secs(5));
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.open.insert(tcp());
    world.connect(0);
    world.run(ms(500));
    for n in 1..4 {
        world.connect(n);
    }
    world.run(secs(5));
    let verdicts = world.verdicts(&tcp());
    assert_eq!(verdicts, [Verdict::Reachable]);
}

#[test]
fn a_server_whose_pace_is_used_up_is_waited_for() {
    let second = addr("/ip4/81.2.69.160/tcp/4002");
    let mut world = World::with(Config::default().with_requests_per_minute(1));
    for address in [tcp(), second.clone()] {
        world.core.add_candidate(world.now, &address).unwrap();
        world.open.insert(address);
    }
    world.server(Answer::DialError);
    world.server(Answer::Truth);
    world.run(minutes(3));
    for address in [tcp(), second] {
        let changes = world.verdict_changes(&address);
        assert!(
            changes.iter().all(|(_, v)| *v == Verdict::Reachable),
            "{changes:?}"
        );
        assert_eq!(changes.len(), 1, "{address}");
    }
}

/// Found in the laboratory, on a machine so busy that only one of seven servers was there at first: its word took as long as
/// the others are given.
#[test]
fn the_time_for_others_to_appear_begins_with_the_first_word_where_there_are_few() {
    let mut world = World::of(&tcp(), [Answer::DialErrorAfter(secs(5))]);
    world.open.insert(tcp());
    world.run(secs(8));
    for _ in 0..2 {
        world.server(Answer::Truth);
    }
    world.run(secs(2));
    let verdicts = world.verdicts(&tcp());
    assert_eq!(verdicts, [Verdict::Reachable]);
}
