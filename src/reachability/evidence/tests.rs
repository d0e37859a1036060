use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::address::neighbourhood;

const CONTACTED: Finding = Finding::Proof(Vantage::Contacted);

fn finding() -> impl Strategy<Value = Finding> {
    prop_oneof![
        Just(CONTACTED),
        Just(Finding::Proof(Vantage::Independent)),
        Just(Finding::Inferred),
        (any::<bool>(), any::<bool>())
            .prop_map(|(able, independent)| Finding::Failure { able, independent }),
    ]
}

fn server(n: u8) -> Witness {
    let identity = libp2p_core::multihash::Multihash::wrap(0, &[n]).expect("short");
    Witness::Server(PeerId::from_multihash(identity).expect("an identity"))
}

fn record(evidence: &mut Evidence, n: u8, finding: Finding, at: Instant) {
    record_in(evidence, n, n, finding, at);
}

/// What a server says that lives in one of several networks.
fn record_in(evidence: &mut Evidence, n: u8, network: u8, finding: Finding, at: Instant) {
    let network = neighbourhood(Ipv4Addr::new(20, network, 0, 1).into(), 16, 32);
    evidence.record(server(n), Some(network), finding, at);
}

proptest! {
    #[test]
    fn a_network_has_one_vote_and_its_proof_speaks_for_it(
        outcomes in prop::collection::vec((any::<bool>(), any::<bool>(), 0..3_u8), 1..=WINDOW),
    ) {
        let now = Instant::now();
        let mut evidence = Evidence::default();
        for (n, (proof, able, network)) in (0..).zip(&outcomes) {
            let failure = Finding::Failure { able: *able, independent: false };
            let finding = if *proof { CONTACTED } else { failure };
            record_in(&mut evidence, n, *network, finding, now);
        }
        let networks = |with_proof: bool| {
            let has = |n| outcomes.iter().any(|(proof, _, at)| *at == n && (*proof || !with_proof));
            (0..3).filter(|n| has(*n)).count()
        };
        let tally = evidence.tally(None, true);
        prop_assert_eq!(tally.proofs, networks(true));
        prop_assert_eq!(tally.failures, networks(false) - networks(true));
    }

    #[test]
    fn the_order_of_outcomes_does_not_matter(
        (one, other) in prop::collection::vec((finding(), 0..1_000_u64), 1..=WINDOW)
            .prop_map(|found| (0..).zip(found).collect::<Vec<(u8, _)>>())
            .prop_flat_map(|found| (Just(found.clone()), Just(found).prop_shuffle())),
        one_vote_each: bool,
    ) {
        let start = Instant::now();
        let [a, b] = [one, other].map(|outcomes| {
            let mut evidence = Evidence::default();
            for (n, (finding, after)) in outcomes {
                record(&mut evidence, n, finding, start + Duration::from_millis(after));
            }
            evidence
        });
        prop_assert_eq!(a.tally(None, one_vote_each), b.tally(None, one_vote_each));
        prop_assert_eq!(a.vantage(), b.vantage());
        prop_assert_eq!(a.oldest(), b.oldest());
    }

    #[test]
    fn one_witness_has_one_vote_and_the_window_is_bounded(
        outcomes in prop::collection::vec((0..20_u8, finding()), 0..200),
    ) {
        let now = Instant::now();
        let mut evidence = Evidence::default();
        for (n, finding) in outcomes {
            record(&mut evidence, n, finding, now);
            prop_assert!(evidence.len() <= WINDOW);
            for (i, outcome) in evidence.outcomes.iter().enumerate() {
                prop_assert!(evidence.outcomes[i + 1..].iter().all(|o| o.witness != outcome.witness));
            }
        }
    }

    #[test]
    fn hearsay_of_unknown_ability_pushes_no_proof_out(
        proofs in 1..=KEPT_PROOFS,
        hearsay in prop::collection::vec(any::<bool>(), 0..100),
    ) {
        let now = Instant::now();
        let mut evidence = Evidence::default();
        for n in 0..proofs {
            record(&mut evidence, n as u8, CONTACTED, now);
        }
        for (n, independent) in (100..).zip(hearsay) {
            record(&mut evidence, n, Finding::Failure { able: false, independent }, now);
        }
        prop_assert_eq!(evidence.tally(None, false).proofs, proofs);
    }

    #[test]
    fn contacted_proofs_do_not_push_out_what_shows_a_filter(
        before in 0..=WINDOW,
        after in 0..100_usize,
    ) {
        let now = Instant::now();
        let mut evidence = Evidence::default();
        let mut proofs = 0..;
        let mut prove = |evidence: &mut Evidence, count: usize| {
            for n in proofs.by_ref().take(count) {
                record(evidence, n, CONTACTED, now);
            }
        };
        prove(&mut evidence, before);
        for n in 200..202 {
            record(&mut evidence, n, Finding::Failure { able: false, independent: true }, now);
        }
        prove(&mut evidence, after);
        let tally = evidence.tally(None, false);
        prop_assert!(tally.is_filtered() || before + after == 0);
    }
}
