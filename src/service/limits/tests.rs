use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits {
    requests: 20,
    requests_of_peer: 4,
    requests_of_neighbourhood: 8,
    dial_data: 5,
    dial_data_of_neighbourhood: 3,
    target: 3,
    concurrent: 10,
    concurrent_of_peer: 2,
    dials: 6,
    quic_dials: 6,
    v4_prefix: 24,
    v6_prefix: 56,
};

fn peer(n: u8) -> PeerId {
    // An identity hash of the number, which is quicker to make than a key.
    PeerId::from_multihash(
        libp2p_core::multihash::Multihash::wrap(0, &[n]).expect("shorter than the longest"),
    )
    .expect("an identity hash of few bytes is a peer id")
}

fn ip(n: u8) -> IpAddr {
    Ipv4Addr::new(20, n, 1, 1).into()
}

/// A client in a network of its own.
fn near(n: u8) -> Option<IpAddr> {
    Some(ip(n))
}

fn served(limiter: &mut Limiter, now: Instant, who: u8) -> Result<(), Limit> {
    let admitted = limiter.admit(now, peer(who), near(who), 0);
    if admitted.is_ok() {
        limiter.finish(&peer(who));
    }
    admitted
}

#[test]
fn a_peer_gets_its_requests_and_no_more_within_a_minute() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    for _ in 0..4 {
        assert_eq!(served(&mut limiter, start, 1), Ok(()));
    }
    assert_eq!(served(&mut limiter, start, 1), Err(Limit::RequestsOfPeer));
    assert_eq!(
        served(&mut limiter, start + MINUTE - Duration::from_secs(1), 1),
        Err(Limit::RequestsOfPeer)
    );
    assert_eq!(served(&mut limiter, start + MINUTE + SLOT, 1), Ok(()));
}

#[test]
fn peer_ids_are_cheap_but_the_neighbourhood_counts_them_together() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    let mut admitted = 0;
    for n in 0..=255 {
        if limiter.admit(start, peer(n), near(1), 0).is_ok() {
            limiter.finish(&peer(n));
            admitted += 1;
        }
    }
    assert_eq!(admitted, 8);
    assert_eq!(served(&mut limiter, start, 2), Ok(()));
}

/// Clients in a network of each kind that there is: IPv4, IPv6, behind a relay. Each is in a neighbourhood of its own where
/// there are any.
fn faces_of_one_provider(n: u8) -> [Option<IpAddr>; 3] {
    let v4 = Ipv4Addr::new(20, 1, n, 1).into();
    let v6 = std::net::Ipv6Addr::new(0x2a00, 0x64, n.into(), 0, 0, 0, 0, 1).into();
    [Some(v4), Some(v6), None]
}

/// The limits as they are by default, but for a few requests in all, so that a small crowd uses them up.
fn defaults() -> Limits {
    Limits {
        requests: 60,
        ..crate::server::Config::default().limits
    }
}

/// How many requests of this crowd get in.
fn admitted(
    limiter: &mut Limiter,
    now: Instant,
    ips: impl Iterator<Item = Option<IpAddr>>,
) -> usize {
    ips.zip(0..=255)
        .filter(|(ip, n)| {
            let admitted = limiter.admit(now, peer(*n), *ip, 0).is_ok();
            if admitted {
                limiter.finish(&peer(*n));
            }
            admitted
        })
        .count()
}

/// How many requests with dial data of this crowd get in, each for a target of its own.
fn paying(limiter: &mut Limiter, now: Instant, ips: impl Iterator<Item = Option<IpAddr>>) -> usize {
    ips.zip(0..=255)
        .filter(|(from, n)| {
            let target = Some(ip(*n));
            limiter
                .admit_target(now, *from, target, false, true)
                .is_ok()
        })
        .count()
}

#[test]
fn neighbourhoods_are_cheap_too_but_a_network_gets_a_third_and_all_relayed_clients_a_tenth() {
    let now = Instant::now();
    for (face, requests, with_data) in [(0, 20, 4), (1, 20, 4), (2, 6, 2)] {
        let crowd = || (0..=255).map(|n| faces_of_one_provider(n)[face]);
        let mut limiter = Limiter::new(defaults(), now);
        assert_eq!(admitted(&mut limiter, now, crowd()), requests);
        assert_eq!(paying(&mut limiter, now, crowd()), with_data);
    }
}

/// The same for a host that has one IPv4 address.
fn faces_of_one_host(n: u8) -> [Option<IpAddr>; 3] {
    let [_, v6, relayed] = faces_of_one_provider(n);
    [near(1), v6, relayed]
}

#[test]
fn one_host_or_provider_with_every_kind_of_network_leaves_something_to_others() {
    type Faces = fn(u8) -> [Option<IpAddr>; 3];
    let now = Instant::now();
    for (faces, requests, with_data) in [
        (faces_of_one_host as Faces, 41, 9),
        (faces_of_one_provider as Faces, 46, 10),
    ] {
        let crowd = || (0..=255).flat_map(faces);
        let others = || (0..=255).map(|n| Some(IpAddr::from([77, 7, n, 1])));

        let mut limiter = Limiter::new(defaults(), now);
        assert_eq!(admitted(&mut limiter, now, crowd()), requests);
        assert_eq!(admitted(&mut limiter, now, others()), 60 - requests);
        assert_eq!(paying(&mut limiter, now, crowd()), with_data);
        assert_eq!(paying(&mut limiter, now, others()), 12 - with_data);
        assert_eq!(served(&mut limiter, now, 99), Err(Limit::Requests));
    }
}

#[test]
fn a_neighbourhood_leaves_something_to_its_network() {
    let now = Instant::now();
    let mut limiter = Limiter::new(defaults(), now);
    let crowd = || std::iter::repeat_n(near(1), 200);
    let neighbours = || (0..=255).map(|n| Some(IpAddr::from([20, 1, 100, n])));
    assert_eq!(admitted(&mut limiter, now, crowd()), 15);
    assert_eq!(admitted(&mut limiter, now, neighbours()), 5);
    assert_eq!(paying(&mut limiter, now, crowd()), 3);
    assert_eq!(paying(&mut limiter, now, neighbours()), 1);
}

#[test]
fn a_neighbourhood_that_may_have_all_is_not_held_to_the_share_of_a_network() {
    let now = Instant::now();
    let limits = Limits {
        requests_of_neighbourhood: 60,
        dial_data_of_neighbourhood: 12,
        ..defaults()
    };
    let mut limiter = Limiter::new(limits, now);
    let lan = || std::iter::repeat_n(near(1), 200);
    assert_eq!(admitted(&mut limiter, now, lan()), 60);
    assert_eq!(paying(&mut limiter, now, lan()), 12);
}

#[test]
fn targets_that_keep_their_sockets_leave_places_to_other_neighbourhoods() {
    let limits = Limits { dials: 8, ..LIMITS };
    let hostile = |count| std::iter::repeat_n(near(1), count);
    let place =
        |at: u8, lingering: usize| limits.place_for_dial(near(at), lingering, hostile(lingering));
    assert_eq!(place(1, 1), Ok(()));
    assert_eq!(place(1, 2), Err(Limit::LingeringDials));
    assert_eq!(place(2, 2), Ok(()));
    assert_eq!(place(2, 8), Err(Limit::Dials));
    // A server with a single dial has it for all.
    let limits = Limits { dials: 1, ..LIMITS };
    assert_eq!(limits.place_for_dial(near(1), 0, hostile(0)), Ok(()));
}

#[test]
fn those_who_never_pay_leave_the_dial_data_to_those_who_do() {
    let start = Instant::now();
    let mut limiter = Limiter::new(defaults(), start);
    let mut now = start;
    for n in 0..60 {
        now += Duration::from_millis(500);
        let test = limiter.admit_target(now, near(n), Some(ip(n)), false, true);
        assert_eq!(test, Ok(()), "{n}");
        limiter.did_not_pay(now, Some(ip(n)));
    }
    assert_eq!(limiter.dial_data.used(limiter.slot_of(now)), 0);
    // But none of them can ask without end.
    for asked in 1.. {
        let test = limiter.admit_target(now, near(99), Some(ip(asked)), false, true);
        limiter.did_not_pay(now, Some(ip(asked)));
        if test.is_err() {
            assert_eq!((asked, test), (4, Err(Limit::DialDataOfNeighbourhood)));
            break;
        }
    }
}

#[test]
fn those_who_never_pay_leave_the_target_to_those_who_do() {
    let now = Instant::now();
    let mut limiter = Limiter::new(defaults(), now);
    let victim = Some(ip(200));
    for n in 0..12 {
        let test = limiter.admit_target(now, near(n), victim, false, true);
        assert_eq!(test, Ok(()), "{n}");
        limiter.did_not_pay(now, victim);
    }
    assert!(limiter.targets.is_empty(), "what is not used is forgotten");
    let test = limiter.admit_target(now, near(12), victim, false, true);
    assert_eq!(test, Ok(()));

    let mut limiter = Limiter::new(defaults(), now);
    for n in 0..12 {
        let test = limiter.admit_target(now, near(n), victim, false, true);
        assert_eq!(test, Ok(()), "{n}");
    }
    let test = limiter.admit_target(now, near(12), victim, false, true);
    assert_eq!(test, Err(Limit::Target));
}

/// Found by a review: 24 dials of one IP within 55.5 s, of requests that came in two windows and were dialed in one.
#[test]
fn a_target_is_dialed_so_often_in_a_minute_however_long_its_requests_take() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    let victim = Some(ip(200));
    let admit =
        |limiter: &mut Limiter, now, n| limiter.admit_target(now, near(n), victim, false, false);
    for n in 0..3 {
        assert_eq!(admit(&mut limiter, start, n), Ok(()));
    }
    assert_eq!(admit(&mut limiter, start, 3), Err(Limit::Target));
    let dialed = start + Duration::from_secs(9);
    for _ in 0..3 {
        limiter.dialed(dialed, victim);
    }
    let later = start + MINUTE + SLOT;
    assert_eq!(admit(&mut limiter, later, 3), Err(Limit::Target));
    assert_eq!(admit(&mut limiter, dialed + MINUTE + SLOT, 3), Ok(()));
}

#[test]
fn what_is_given_back_is_given_back_once_and_in_its_own_time() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    let later = start + SLOT;
    for n in 0..5 {
        let at = if n < 2 { start } else { later };
        let test = limiter.admit_target(at, near(n), Some(ip(n)), false, true);
        assert_eq!(test, Ok(()));
    }
    limiter.did_not_pay(start, Some(ip(0)));
    let used = |limiter: &Limiter, at: Instant| limiter.dial_data.used(limiter.slot_of(at));
    assert_eq!(used(&limiter, later), 4);
    // When the first slot is over, those of the second are still there.
    assert_eq!(used(&limiter, start + MINUTE + SLOT), 3);
    // What is not remembered any more cannot be given back.
    let test = limiter.admit_target(later + 2 * MINUTE, near(9), Some(ip(9)), false, true);
    assert_eq!(test, Ok(()));
    limiter.did_not_pay(start, Some(ip(1)));
    assert_eq!(used(&limiter, later + 2 * MINUTE), 1);
}

#[test]
fn a_rejected_request_uses_up_nothing() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    while served(&mut limiter, start, 1).is_ok() {}
    let entries = limiter.entries();
    for _ in 0..1000 {
        assert!(served(&mut limiter, start, 1).is_err());
    }
    assert_eq!(limiter.entries(), entries);
    // 4 of the 20 requests in all are gone, the thousand took none.
    for n in 2..6 {
        for _ in 0..4 {
            assert_eq!(served(&mut limiter, start, n), Ok(()));
        }
    }
    assert_eq!(served(&mut limiter, start, 7), Err(Limit::Requests));
}

#[test]
fn requests_at_once_are_limited_per_peer_and_in_all() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    assert_eq!(limiter.admit(start, peer(1), near(1), 0), Ok(()));
    assert_eq!(limiter.admit(start, peer(1), near(1), 0), Ok(()));
    assert_eq!(
        limiter.admit(start, peer(1), near(1), 0),
        Err(Limit::ConcurrentOfPeer)
    );
    limiter.finish(&peer(1));
    assert_eq!(limiter.admit(start, peer(1), near(1), 0), Ok(()));
    for n in 2..10 {
        assert_eq!(limiter.admit(start, peer(n), near(n), 0), Ok(()));
    }
    assert_eq!(
        limiter.admit(start, peer(11), near(11), 0),
        Err(Limit::Concurrent)
    );
}

#[test]
fn no_request_is_admitted_while_every_dial_is_taken() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    assert_eq!(limiter.admit(start, peer(1), near(1), 6), Err(Limit::Dials));
    assert_eq!(limiter.admit(start, peer(1), near(1), 5), Ok(()));
}

#[test]
fn one_target_is_not_dialed_for_many_strangers_at_once() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    let victim = Some(ip(99));
    for n in 0..3 {
        assert_eq!(
            limiter.admit_target(start, near(n), victim, false, false),
            Ok(())
        );
    }
    assert_eq!(
        limiter.admit_target(start, near(4), victim, false, false),
        Err(Limit::Target)
    );
    assert_eq!(
        limiter.admit_target(start, near(4), victim, true, false),
        Ok(()),
        "the client's own IP is its own affair"
    );
}

#[test]
fn one_neighbourhood_cannot_use_up_the_dial_data_of_all() {
    let start = Instant::now();
    let mut limiter = Limiter::new(LIMITS, start);
    for n in 0..3 {
        assert_eq!(
            limiter.admit_target(start, near(1), Some(ip(n)), false, true),
            Ok(())
        );
    }
    assert_eq!(
        limiter.admit_target(start, near(1), Some(ip(50)), false, true),
        Err(Limit::DialDataOfNeighbourhood)
    );
    for n in 0..2 {
        assert_eq!(
            limiter.admit_target(start, near(2), Some(ip(60 + n)), false, true),
            Ok(())
        );
    }
    assert_eq!(
        limiter.admit_target(start, near(3), Some(ip(70)), false, true),
        Err(Limit::DialData)
    );
}

#[test]
fn time_that_runs_backwards_gives_nothing_back() {
    let start = Instant::now();
    let later = start + MINUTE;
    let mut limiter = Limiter::new(LIMITS, start);
    for _ in 0..4 {
        assert_eq!(served(&mut limiter, later, 1), Ok(()));
    }
    assert_eq!(served(&mut limiter, start, 1), Err(Limit::RequestsOfPeer));
}

#[derive(Debug, Clone)]
enum Operation {
    Ask {
        who: u8,
        near: u8,
    },
    Finish,
    Test {
        near: u8,
        target: u8,
        data: bool,
    },
    /// One of the tests that were admitted is dialed.
    Dial {
        which: u8,
    },
    Pass {
        millis: u64,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0..12u8, 0..5u8).prop_map(|(who, near)| Operation::Ask { who, near }),
        5 => Just(Operation::Finish),
        3 => (0..5u8, 0..6u8, any::<bool>())
            .prop_map(|(near, target, data)| Operation::Test { near, target, data }),
        3 => any::<u8>().prop_map(|which| Operation::Dial { which }),
        3 => (0..20_000u64).prop_map(|millis| Operation::Pass { millis }),
    ]
}

/// What was admitted, kept in full: the naive model that the counters must agree with.
#[derive(Default)]
struct Log(Vec<(Instant, u8, u8)>);

impl Log {
    fn within(&self, now: Instant, span: Duration, of: impl Fn(u8, u8) -> bool) -> u32 {
        self.0
            .iter()
            .filter(|(at, who, near)| now.duration_since(*at) < span && of(*who, *near))
            .count() as u32
    }
}

proptest! {
    #[test]
    fn counters_agree_with_a_full_log(operations in prop::collection::vec(operation(), 1..400)) {
        let start = Instant::now();
        let mut now = start;
        let mut limiter = Limiter::new(LIMITS, start);
        let mut log = Log::default();
        let mut dialed: Vec<(Instant, u8)> = Vec::new();
        let mut reserved: Vec<u8> = Vec::new();
        let mut running: Vec<u8> = Vec::new();

        for operation in operations {
            match operation {
                Operation::Pass { millis } => now += Duration::from_millis(millis),
                Operation::Finish => {
                    if let Some(who) = running.pop() {
                        limiter.finish(&peer(who));
                    }
                }
                Operation::Ask { who, near: place } => {
                    let at_once = running.iter().filter(|r| **r == who).count() as u32;
                    let admitted = limiter.admit(now, peer(who), near(place), 0);
                    if admitted.is_ok() {
                        // Never more than the limit within a minute …
                        prop_assert!(at_once < LIMITS.concurrent_of_peer);
                        prop_assert!(running.len() < LIMITS.concurrent as usize);
                        prop_assert!(log.within(now, MINUTE, |w, _| w == who) < LIMITS.requests_of_peer);
                        prop_assert!(
                            log.within(now, MINUTE, |_, p| p == place) < LIMITS.requests_of_neighbourhood
                        );
                        prop_assert!(log.within(now, MINUTE, |_, _| true) < LIMITS.requests);
                        log.0.push((now, who, place));
                        running.push(who);
                    } else {
                        // … and never fewer than the limit within a minute and a slot.
                        let span = MINUTE + SLOT;
                        prop_assert!(
                            at_once >= LIMITS.concurrent_of_peer
                                || running.len() >= LIMITS.concurrent as usize
                                || log.within(now, span, |w, _| w == who) >= LIMITS.requests_of_peer
                                || log.within(now, span, |_, p| p == place)
                                    >= LIMITS.requests_of_neighbourhood
                                || log.within(now, span, |_, _| true) >= LIMITS.requests
                        );
                    }
                }
                Operation::Test { near: place, target, data } => {
                    let recent = dialed
                        .iter()
                        .filter(|(at, t)| now.duration_since(*at) < MINUTE && *t == target)
                        .count() as u32;
                    let admitted =
                        limiter.admit_target(now, near(place), Some(ip(target)), false, data);
                    if admitted.is_ok() {
                        let waiting = reserved.iter().filter(|t| **t == target).count() as u32;
                        prop_assert!(recent + waiting < LIMITS.target);
                        reserved.push(target);
                    }
                }
                Operation::Dial { which } => {
                    if !reserved.is_empty() {
                        let target = reserved.swap_remove(usize::from(which) % reserved.len());
                        limiter.dialed(now, Some(ip(target)));
                        dialed.push((now, target));
                        let recent = dialed
                            .iter()
                            .filter(|(at, t)| now.duration_since(*at) < MINUTE && *t == target)
                            .count() as u32;
                        prop_assert!(recent <= LIMITS.target);
                    }
                }
            }
            prop_assert!(limiter.peers.0.len() <= LIMITS.requests as usize);
            prop_assert!(limiter.neighbourhoods.0.len() <= LIMITS.requests as usize);
            prop_assert!(limiter.running.len() <= LIMITS.concurrent as usize);
        }

        // Whatever happened: once all is over and a minute has passed, nothing is remembered.
        for who in running {
            limiter.finish(&peer(who));
        }
        for target in reserved {
            limiter.dialed(now, Some(ip(target)));
        }
        now += MINUTE + SLOT + SLOT;
        limiter.slot(now);
        prop_assert_eq!(limiter.entries(), 0);
        prop_assert_eq!(limiter.running_in_all, 0);
    }
}
