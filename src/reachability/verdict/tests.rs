//! When the verdict changes, and when it does not.

use std::net::IpAddr;

use libp2p_identity::PeerId;

use super::*;
use crate::reachability::{
    belief::{Asked, Model, Outcome, Source},
    contacts::Vantage,
    servers::{Ability, Host, IpGroup},
};

fn changes(standing: &mut Standing, count: u32, start: Instant, pace: Duration) -> Instant {
    let mut now = start;
    for n in 0..count {
        now = start + pace * n;
        let verdict = if n % 2 == 0 {
            Verdict::Reachable
        } else {
            Verdict::Unreachable
        };
        standing.set(verdict, now);
    }
    now
}

#[test]
fn an_address_that_keeps_changing_is_unstable_for_three_hours() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let mut standing = Standing::new(start);
    let now = changes(&mut standing, 8, start, minute);
    assert!(
        !standing.is_unstable(now),
        "seven changes after the first verdict"
    );
    assert_eq!(standing.held_until(now), None);
    let mut standing = Standing::new(start);
    let now = changes(&mut standing, 9, start, minute);
    assert!(standing.is_unstable(now));
    let until = standing.unstable_until(now).unwrap();
    assert_eq!(until, start + minute + UNSTABLE_WITHIN);
    assert!(!standing.is_unstable(until));
    assert_eq!(standing.held_until(until), None);
}

#[test]
fn each_further_change_is_held_for_longer_up_to_an_hour() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let held = |count: u32| {
        let mut standing = Standing::new(start);
        let now = changes(&mut standing, count, start, minute);
        standing
            .held_until(now)
            .map(|until| (until - now).as_secs())
    };
    let expected = [300, 600, 1200, 2400, 3600, 3600].map(Some);
    assert_eq!([9, 10, 11, 12, 13, 16].map(held), expected);
}

fn outcome(n: u8, at: Instant, success: bool, ability: Ability) -> Outcome {
    let ip = IpAddr::from([20, n, 1, 1]);
    Outcome {
        at,
        source: Source::Server {
            peer: PeerId::random(),
            host: Host::Ip(crate::address::neighbourhood(ip, 32, 64)),
            group: IpGroup::of(Some(ip)),
        },
        asked: Asked {
            vantage: if success {
                Vantage::Contacted
            } else {
                Vantage::Independent
            },
            ability,
            inside: 0.0,
        },
        success,
    }
}

/// What is said once nobody is left to ask, where `proofs` contacted servers get through and `failures` independent ones don't.
fn verdict_against(standing: Verdict, proofs: u8, failures: u8, ability: Ability) -> Verdict {
    let start = Instant::now();
    let now = start + Duration::from_secs(60);
    let mut evidence = Evidence::default();
    for n in 0..proofs {
        evidence.record(outcome(n, start, true, Ability::SameFamily));
    }
    let model = Model::default();
    let prior = [0.50, 0.12, 0.38];
    let mut it = Standing::new(start);
    it.set(standing, start);
    let posterior = model.posterior(prior, evidence.outcomes(), start);
    it.hear(true, &evidence, &posterior, start);
    for n in 0..failures {
        evidence.record(outcome(100 + n, now, false, ability));
    }
    let posterior = model.posterior(prior, evidence.outcomes(), now);
    let outlook = Outlook {
        someone_left: false,
        prover_left: false,
        patience_over: true,
        groups_needed: 1,
    };
    it.judge(&evidence, &posterior, outlook, now)
}

/// Servers of which the other family is known, or a relay, may have no IPv4 at all.
#[test]
fn two_servers_that_may_be_unable_reveal_a_filter_at_first_but_take_no_proven_address_away() {
    let doubtful = |standing, proofs, failures| {
        verdict_against(standing, proofs, failures, Ability::OtherFamily)
    };
    for proofs in 1..=8 {
        let first = doubtful(Verdict::Unknown, proofs, 2);
        assert_eq!(first, Verdict::Filtered, "{proofs} proofs");
    }
    for proofs in [3, 8, 20] {
        let two = doubtful(Verdict::Reachable, proofs, 2);
        assert_eq!(two, Verdict::Reachable, "{proofs} proofs");
        let three = doubtful(Verdict::Reachable, proofs, 3);
        assert_eq!(three, Verdict::Filtered, "{proofs} proofs");
    }
}

#[test]
fn two_servers_that_dial_the_family_reveal_a_filter_in_any_case() {
    for standing in [Verdict::Unknown, Verdict::Reachable] {
        let verdict = verdict_against(standing, 3, 2, Ability::SameFamily);
        assert_eq!(verdict, Verdict::Filtered, "{standing}");
        let one = verdict_against(standing, 3, 1, Ability::OtherFamily);
        assert_eq!(one, Verdict::Reachable, "{standing}");
    }
}

/// An address of a public listener, which one failure alone does not refute.
fn public(outcomes: &[(Instant, bool, Vantage, Ability)]) -> (Evidence, Posterior) {
    let mut evidence = Evidence::default();
    for (n, (at, success, vantage, ability)) in (0..).zip(outcomes) {
        let mut outcome = outcome(n, *at, *success, *ability);
        outcome.asked.vantage = *vantage;
        evidence.record(outcome);
    }
    let now = outcomes.last().map_or_else(Instant::now, |(at, ..)| *at);
    let posterior = Model::default().posterior([0.66, 0.04, 0.30], evidence.outcomes(), now);
    (evidence, posterior)
}

fn exhausted() -> Outlook {
    Outlook {
        someone_left: false,
        prover_left: false,
        patience_over: true,
        groups_needed: 1,
    }
}

#[test]
fn a_verdict_whose_grounds_have_left_the_window_gives_way_like_none() {
    let now = Instant::now();
    let failure = (now, false, Vantage::Contacted, Ability::SameFamily);
    let proof = (now, true, Vantage::Contacted, Ability::SameFamily);
    let mut standing = Standing::new(now);
    standing.set(Verdict::Reachable, now);
    let (evidence, posterior) = public(&[failure]);
    let left = Verdict::Reachable.confidence(&posterior);
    assert!(left > UNLIKELY, "{left}");
    let without = standing.judge(&evidence, &posterior, exhausted(), now);
    assert_eq!(without, Verdict::Unreachable);
    let (evidence, posterior) = public(&[proof, failure]);
    let with = standing.judge(&evidence, &posterior, exhausted(), now);
    assert_eq!(with, Verdict::Reachable);
}

#[test]
fn a_failure_that_leaves_a_verdict_sure_brings_no_doubt() {
    let now = Instant::now();
    let proof = |vantage| (now, true, vantage, Ability::SameFamily);
    let failure = (now, false, Vantage::Contacted, Ability::OtherFamily);
    for (vantage, doubted) in [(Vantage::Independent, false), (Vantage::Contacted, true)] {
        let (evidence, posterior) = public(&[proof(vantage), proof(vantage), failure]);
        let mut standing = Standing::new(now);
        standing.set(Verdict::Reachable, now);
        standing.hear(false, &evidence, &posterior, now);
        assert_eq!(standing.contradicted_at().is_some(), doubted, "{vantage:?}");
    }
}

#[test]
fn an_outcome_that_agrees_ends_a_doubt_only_if_it_makes_the_verdict_likely_again() {
    let now = Instant::now();
    let proof = (now, true, Vantage::Contacted, Ability::SameFamily);
    let strangers_failure = (now, false, Vantage::Independent, Ability::Shown);
    for (failures, ends) in [(1, true), (4, false)] {
        let mut outcomes = vec![strangers_failure; failures];
        outcomes.push(proof);
        let (evidence, posterior) = public(&outcomes);
        let mut standing = Standing::new(now);
        standing.set(Verdict::Reachable, now);
        standing.hear(false, &evidence, &posterior, now);
        assert!(standing.contradicted_at().is_some(), "{failures}");
        standing.hear(true, &evidence, &posterior, now);
        let left = Verdict::Reachable.confidence(&posterior);
        assert_eq!(left > UNLIKELY, ends, "{failures}: {left}");
        assert_eq!(standing.contradicted_at().is_none(), ends, "{failures}");
    }
}
