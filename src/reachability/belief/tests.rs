//! The inference against vectors that were computed elsewhere, and against an enumeration of all that could be.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The model of the study that the vectors come from: no heavy tail of liars, a unit for each host, and changes
/// that lead where it says.
fn study() -> Model {
    Model {
        liars: [(0.02, 1.0), (0.02, 0.0)],
        hazard: 0.25,
        after_change: Some([[0.0, 0.3, 0.7], [0.8, 0.0, 0.2], [0.8, 0.2, 0.0]]),
        ..Model::default()
    }
}

const PRIOR: [f64; 3] = [0.50, 0.12, 0.38];

fn source(unit: u64) -> Source {
    let ip = std::net::IpAddr::from([20, u8::try_from(unit).unwrap(), 1, 1]);
    Source::Server {
        peer: PeerId::random(),
        host: Host::Ip(crate::address::neighbourhood(ip, 32, 64)),
        group: IpGroup::of(Some(ip)),
    }
}

fn outcome(start: Instant, at: f64, source: Source, success: bool, contacted: bool) -> Outcome {
    Outcome {
        at: start + Duration::from_secs_f64(at),
        source,
        asked: Asked {
            vantage: if contacted {
                Vantage::Contacted
            } else {
                Vantage::Independent
            },
            ability: Ability::SameFamily,
            inside: 0.0,
        },
        success,
    }
}

#[test]
fn the_posterior_agrees_with_the_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/belief-vectors.json");
    let text = std::fs::read_to_string(path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 15);
    let start = Instant::now();
    for vector in vectors {
        let able: Vec<u64> = vector["able"]
            .as_array()
            .unwrap()
            .iter()
            .map(|unit| unit.as_u64().unwrap())
            .collect();
        let outcomes: Vec<Outcome> = vector["outcomes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| {
                let unit = o[1].as_u64().unwrap();
                let (success, contacted) = (o[2].as_bool().unwrap(), o[3].as_bool().unwrap());
                let at = o[0].as_f64().unwrap();
                let mut outcome = outcome(start, at, source(unit), success, contacted);
                if able.contains(&unit) {
                    outcome.asked.ability = Ability::Shown;
                }
                outcome
            })
            .collect();
        let now = start + Duration::from_secs_f64(vector["now"].as_f64().unwrap());
        let posterior = study().posterior(PRIOR, &outcomes, now).states();
        for (got, wanted) in posterior
            .iter()
            .zip(vector["posterior"].as_array().unwrap())
        {
            let wanted = wanted.as_f64().unwrap();
            assert!(
                (got - wanted).abs() < 1e-9,
                "{}: {posterior:?}",
                vector["name"]
            );
        }
    }
}

/// One host or one group: its outcomes as judged for each value of its latent variable, without any arithmetic shared with
/// the code under test.
fn enumerate_latent(
    outcomes: &[(&Outcome, State)],
    (unable, unable_other_family, liars): (f64, f64, f64),
) -> f64 {
    let ability = outcomes.iter().map(|(o, _)| o.asked.ability).max().unwrap();
    let inside = outcomes
        .iter()
        .map(|(o, _)| o.asked.inside)
        .fold(0.0, f64::max);
    let unable = match ability {
        Ability::Shown => 0.0,
        Ability::SameFamily => unable,
        Ability::OtherFamily => unable_other_family,
    };
    let latents = [
        ((1.0 - inside) * (1.0 - liars) * (1.0 - unable), 0),
        ((1.0 - inside) * (1.0 - liars) * unable, 1),
        ((1.0 - inside) * liars, 2),
        (inside, 3),
    ];
    let success_of = |latent: i32, outcome: &Outcome, state: State| {
        let gets_in = match state {
            State::Open => true,
            State::Filtered => outcome.asked.vantage == Vantage::Contacted,
            State::Closed => false,
        };
        match (latent, gets_in) {
            (0, true) | (3, _) => 0.98,
            (2, true) => 0.5,
            (1, _) => 0.0,
            _ => 0.005,
        }
    };
    latents
        .iter()
        .map(|(weight, latent)| {
            let likelihood: f64 = outcomes
                .iter()
                .map(|(o, state)| {
                    let p = success_of(*latent, o, *state);
                    if o.success { p } else { 1.0 - p }
                })
                .product();
            weight * likelihood
        })
        .sum()
}

fn all_shares(model: &Model) -> Vec<(f64, f64, f64, f64)> {
    let mut all = Vec::new();
    for (unable, a) in model.unable {
        for (other, b) in model.unable_other_family {
            for (liars, c) in model.liars {
                all.push((unable, other, liars, a * b * c));
            }
        }
    }
    all
}

/// P(state now) by summing over all paths, all shares and all latent variables.
fn enumerate(model: &Model, outcomes: &[Outcome], now: Instant) -> [f64; 3] {
    let hours = |from: Instant, to: Instant| (to - from).as_secs_f64() / 3600.0;
    let mut sums = [0.0; 3];
    for (unable, other, liars, weight) in all_shares(model) {
        let likelihood = |states: &[State]| {
            let judged: Vec<_> = outcomes.iter().zip(states.iter().copied()).collect();
            let mut groups: Vec<Option<IpGroup>> =
                judged.iter().map(|(o, _)| o.source.group()).collect();
            groups.sort_unstable();
            groups.dedup();
            groups
                .iter()
                .map(|group| {
                    let of_group: Vec<_> = judged
                        .iter()
                        .filter(|(o, _)| o.source.group() == *group)
                        .copied()
                        .collect();
                    let mut hosts: Vec<Option<Host>> =
                        of_group.iter().map(|(o, _)| o.source.host()).collect();
                    hosts.sort_unstable();
                    hosts.dedup();
                    let apart: f64 = hosts
                        .iter()
                        .map(|host| {
                            let of_host: Vec<_> = of_group
                                .iter()
                                .filter(|(o, _)| o.source.host() == *host)
                                .copied()
                                .collect();
                            enumerate_latent(&of_host, (unable, other, liars))
                        })
                        .product();
                    if hosts.len() == 1 {
                        return apart;
                    }
                    let together = enumerate_latent(&of_group, (unable, other, liars));
                    model.common_cause * together + (1.0 - model.common_cause) * apart
                })
                .product::<f64>()
        };
        let first = outcomes.first().map_or(now, |o| o.at);
        for y in 0..3 {
            let all = vec![State::ALL[y]; outcomes.len()];
            let stays = (-model.hazard * hours(first, now)).exp();
            sums[y] += weight * PRIOR[y] * stays * likelihood(&all);
            for (x, before) in State::ALL.into_iter().enumerate() {
                for k in 1..=outcomes.len() {
                    let mut states = vec![before; outcomes.len()];
                    states[k..].fill(State::ALL[y]);
                    let from = outcomes[k - 1].at;
                    let to = outcomes.get(k).map_or(now, |o| o.at);
                    let path = (-model.hazard * hours(first, from)).exp()
                        * (1.0 - (-model.hazard * hours(from, to)).exp());
                    sums[y] += weight * PRIOR[x] * PRIOR[y] * path * likelihood(&states);
                }
            }
        }
    }
    let total: f64 = sums.iter().sum();
    sums.map(|sum| sum / total)
}

#[derive(Debug, Clone)]
struct Drawn {
    gap: u32,
    host: u8,
    group: u8,
    success: bool,
    contacted: bool,
    ability: u8,
    inside: bool,
    stranger: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        0..4_000_u32,
        0..3_u8,
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
        0..3_u8,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(gap, host, group, success, contacted, ability, inside, stranger)| Drawn {
                gap,
                host,
                group,
                success,
                contacted,
                ability,
                inside,
                stranger,
            },
        )
}

fn outcomes_of(drawn: &[Drawn], start: Instant) -> Vec<Outcome> {
    let mut at = start;
    drawn
        .iter()
        .map(|it| {
            at += Duration::from_secs(u64::from(it.gap));
            let ip = std::net::IpAddr::from([20, it.group, 1, it.host]);
            let server = Source::Server {
                peer: PeerId::random(),
                host: Host::Ip(crate::address::neighbourhood(ip, 32, 64)),
                group: IpGroup::of(Some(ip)),
            };
            Outcome {
                at,
                source: if it.stranger {
                    Source::Strangers
                } else {
                    server
                },
                asked: Asked {
                    vantage: if it.contacted {
                        Vantage::Contacted
                    } else {
                        Vantage::Independent
                    },
                    ability: [Ability::OtherFamily, Ability::SameFamily, Ability::Shown]
                        [usize::from(it.ability)],
                    inside: if it.inside { 0.3 } else { 0.0 },
                },
                success: it.success,
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_posterior_is_that_of_an_enumeration(
        drawn in prop::collection::vec(drawn(), 0..9),
        rest in 0..10_000_u64,
    ) {
        let start = Instant::now();
        let outcomes = outcomes_of(&drawn, start);
        let last = outcomes.last().map_or(start, |o| o.at);
        let now = last + Duration::from_secs(rest);
        let model = Model::default();
        let posterior = model.posterior(PRIOR, &outcomes, now).states();
        let wanted = enumerate(&model, &outcomes, now);
        for (got, wanted) in posterior.iter().zip(wanted) {
            prop_assert!((got - wanted).abs() < 1e-9, "{posterior:?}, {wanted:?}");
        }
    }

    /// What a server in an unheard group is expected to bring follows from the joint distribution alone.
    #[test]
    fn an_expectation_is_the_same_by_either_way(
        drawn in prop::collection::vec(drawn(), 0..9),
        ability in 0..3_usize,
        contacted: bool,
        inside: bool,
    ) {
        let start = Instant::now();
        let mut outcomes = outcomes_of(&drawn, start);
        let now = outcomes.last().map_or(start, |o| o.at);
        let model = Model::default();
        let posterior = model.posterior(PRIOR, &outcomes, now);
        let asked = Asked {
            vantage: if contacted { Vantage::Contacted } else { Vantage::Independent },
            ability: [Ability::OtherFamily, Ability::SameFamily, Ability::Shown][ability],
            inside: if inside { 0.3 } else { 0.0 },
        };
        let quick = model.expect_of_new(&posterior, &asked);
        let full = model.expect_of_known(PRIOR, &mut outcomes, &posterior, source(99), asked, now);
        prop_assert!((quick.success - full.success).abs() < 1e-9);
        prop_assert!((quick.gain - full.gain).abs() < 1e-9);
        prop_assert!(full.gain > -1e-9);
    }

    /// What a server in a heard group is expected to bring is what its success and its failure make of the belief.
    #[test]
    fn an_expectation_of_a_heard_group_is_that_of_both_answers(
        heard in prop::collection::vec(drawn(), 1..9),
        asks in drawn(),
    ) {
        let start = Instant::now();
        let mut drawn = heard;
        drawn.push(asks);
        let mut outcomes = outcomes_of(&drawn, start);
        let next = outcomes.pop().unwrap();
        let model = Model::default();
        let before = model.posterior(PRIOR, &outcomes, next.at);
        let [success, failure] = [true, false].map(|success| {
            let mut after = outcomes.clone();
            after.push(Outcome { success, ..next });
            model.posterior(PRIOR, &after, next.at)
        });
        // A server that turns out to be another one than was thought changes the belief by that alone.
        let p = success.total() / (success.total() + failure.total());
        let expected =
            model.expect_of_known(PRIOR, &mut outcomes, &before, next.source, next.asked, next.at);
        let entropy = p * success.entropy() + (1.0 - p) * failure.entropy();
        if is_told_by(&outcomes, next.source, next.asked) {
            prop_assert!((expected.success - p).abs() < 1e-9);
            prop_assert!((expected.gain - (before.entropy() - entropy)).abs() < 1e-9);
        }
    }
}

fn closed(model: &Model, outcomes: &[Outcome], now: Instant) -> f64 {
    model.posterior(PRIOR, outcomes, now).of(State::Closed)
}

/// In a company's network or one cloud region all servers are in one group.
#[test]
fn five_servers_of_one_group_amount_to_more_than_one_and_any_number_is_bounded() {
    let start = Instant::now();
    let group = |count: u8| -> Vec<Outcome> {
        (0..count)
            .map(|n| {
                let ip = std::net::IpAddr::from([20, 1, n, 1]);
                let source = Source::Server {
                    peer: PeerId::random(),
                    host: Host::Ip(crate::address::neighbourhood(ip, 32, 64)),
                    group: IpGroup::of(Some(ip)),
                };
                outcome(start, f64::from(n), source, false, true)
            })
            .collect()
    };
    let now = start + Duration::from_secs(60);
    let model = Model::default();
    let [one, five, many] = [1, 5, 24].map(|count| closed(&model, &group(count), now));
    assert!(one < 0.7, "{one}");
    assert!(five > 0.9, "{five}");
    assert!(many < 0.96, "{many}");
}

/// What one host says, it says once, whatever the number of its peer IDs.
#[test]
fn a_crowd_on_one_host_is_one_voice() {
    let start = Instant::now();
    let crowd: Vec<Outcome> = (0..24)
        .map(|n| outcome(start, f64::from(n), source(1), false, true))
        .collect();
    let now = start + Duration::from_secs(60);
    let model = Model::default();
    let one = closed(&model, &crowd[..1], now);
    let all = closed(&model, &crowd, now);
    assert!(all < one + 0.1, "{one}, {all}");
}

/// What lost the first packet loses the next one too, and the server was heard all the same.
#[test]
fn equal_failures_of_a_server_within_ten_seconds_count_once_as_the_newer() {
    let start = Instant::now();
    let server = source(1);
    let mut evidence = Evidence::default();
    for (at, kept) in [(0.0, 1), (9.0, 1), (18.0, 1), (29.0, 2)] {
        evidence.record(outcome(start, at, server, false, true));
        assert_eq!(evidence.len(), kept, "after {at} s");
        let newest = evidence.outcomes().last().unwrap().at;
        assert_eq!(newest, start + Duration::from_secs_f64(at));
    }
    evidence.record(outcome(start, 30.0, server, true, true));
    evidence.record(outcome(start, 31.0, server, true, true));
    assert_eq!(evidence.len(), 4, "successes each");
}

#[test]
fn the_only_proof_from_the_best_vantage_never_gives_way() {
    let start = Instant::now();
    let mut evidence = Evidence::default();
    let stranger = source(1);
    evidence.record(outcome(start, 0.0, stranger, true, false));
    for n in 1..100_u32 {
        evidence.record(outcome(start, f64::from(n), source(2), true, true));
        evidence.record(outcome(start, f64::from(n), stranger, true, true));
    }
    assert_eq!(evidence.len(), 24);
    assert_eq!(evidence.vantage(), Some(Vantage::Independent));
}

#[test]
fn all_strangers_are_one_outcome() {
    let start = Instant::now();
    let mut evidence = Evidence::default();
    for n in 0..50_u32 {
        evidence.record(outcome(start, f64::from(n), Source::Strangers, true, false));
    }
    assert_eq!(evidence.len(), 1);
}

/// It may have no address of the family at all.
#[test]
fn a_failure_weighs_less_where_only_the_other_family_of_the_server_is_known() {
    let start = Instant::now();
    let [less, usual, more] =
        [Ability::OtherFamily, Ability::SameFamily, Ability::Shown].map(|it| {
            let mut failure = outcome(start, 0.0, source(1), false, true);
            failure.asked.ability = it;
            closed(&Model::default(), &[failure], start)
        });
    assert!(
        less < usual - 0.001 && usual < more - 0.1,
        "{less}, {usual}, {more}"
    );
}

/// Some that succeed once and then always fail would otherwise outvote one that is right.
#[test]
fn a_crowd_of_liars_is_found_out_by_those_that_contradict_it() {
    let start = Instant::now();
    let now = start + Duration::from_secs(600);
    let mut outcomes = Vec::new();
    for n in 0..4_u32 {
        outcomes.push(outcome(
            start,
            f64::from(n),
            source(10 + u64::from(n)),
            true,
            true,
        ));
    }
    for n in 0..3_u32 {
        outcomes.push(outcome(
            start,
            300.0 + f64::from(n),
            source(10 + u64::from(n)),
            false,
            true,
        ));
    }
    outcomes.push(outcome(start, 310.0, source(13), true, true));
    let heavy = Model::default();
    let light = Model {
        liars: [(0.02, 1.0), (0.2, 0.0)],
        ..Model::default()
    };
    let [with, without] = [&heavy, &light].map(|model| closed(model, &outcomes, now));
    assert!(with < without, "{with}, {without}");
}
