use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use proptest::prelude::*;

use super::*;
use crate::service::NotDialed;

const TIMING: Timing = Timing {
    request: Duration::from_secs(9),
    read: Duration::from_secs(2),
    dial_data: Duration::from_secs(4),
    dial: Duration::from_secs(6),
    nonce: Duration::from_secs(3),
};

fn job(now: Instant) -> Job {
    let connection = ConnectionId::new_unchecked(1);
    Job::new(now, TIMING, Served::new(PeerId::random(), connection, None))
}

fn chosen() -> Chosen {
    Chosen {
        index: 3,
        addr: "/ip4/20.1.0.2/tcp/1".parse().expect("valid"),
        ip: None,
        is_udp: false,
        is_client_ip: false,
    }
}

fn answered(action: Option<Action>) -> DialResponse {
    match action {
        Some(Action::Answer(response)) => response,
        other => panic!("not an answer: {other:?}"),
    }
}

/// A job that has dialed.
fn dialing(now: Instant) -> Job {
    let mut job = job(now);
    let action = job.decided(now, Decision::Test(chosen(), None));
    assert_eq!(action, Some(Action::Dial(chosen())));
    job.dialing(now);
    job
}

#[test]
fn a_client_that_does_not_ask_is_reset() {
    let now = Instant::now();
    let mut job = job(now);
    assert_eq!(job.timed_out(now), None, "not due yet");
    assert_eq!(
        job.timed_out(now + TIMING.read),
        Some(Action::Reset(End::Misbehaved(Misbehaviour::SlowRequest)))
    );
}

#[test]
fn a_client_that_does_not_pay_is_reset_and_nothing_is_dialed() {
    let now = Instant::now();
    let mut job = job(now);
    let action = job.decided(now, Decision::Test(chosen(), Some(30_000)));
    assert_eq!(
        action,
        Some(Action::AskForData {
            index: 3,
            num_bytes: 30_000
        })
    );
    assert_eq!(
        job.timed_out(now + TIMING.dial_data),
        Some(Action::Reset(End::Misbehaved(Misbehaviour::SlowDialData)))
    );
}

#[test]
fn the_dial_follows_dial_data_after_the_delay() {
    let now = Instant::now();
    let delay = Duration::from_secs(1);
    let mut job = job(now);
    job.decided(now, Decision::Test(chosen(), Some(30_000)));
    assert_eq!(job.data_complete(now, delay), None);
    assert_eq!(job.deadline(), now + delay);
    assert_eq!(job.timed_out(now + delay), Some(Action::Dial(chosen())));
}

#[test]
fn a_second_dial_to_a_peer_waits_for_its_turn_and_is_rejected_when_it_would_have_no_fair_chance() {
    let now = Instant::now();
    let waiting = || {
        let mut job = job(now);
        job.decided(now, Decision::Test(chosen(), None));
        job.wait_for_turn(now, Limit::DialsOfPeer);
        job
    };
    assert_eq!(waiting().waits_to_dial(), Some(&chosen()));
    assert_eq!(dialing(now).waits_to_dial(), None);

    let mut late = waiting();
    assert!(late.deadline() - now <= TIMING.request - FAIR_DIAL - NONCE_RESERVE);
    let answer = answered(late.timed_out(late.deadline()));
    assert_eq!(answer.status, ResponseStatus::RequestRejected);
    assert_eq!(late.record.limit, Some(Limit::DialsOfPeer));
}

#[test]
fn the_delay_leaves_time_for_the_dial() {
    let now = Instant::now();
    let mut job = job(now);
    let late = now + Duration::from_secs(5);
    job.decided(now + TIMING.read, Decision::Test(chosen(), Some(30_000)));
    match job.data_complete(late, Duration::from_secs(3)) {
        Some(Action::Dial(_)) => {}
        None => assert!(job.deadline() <= now + Duration::from_secs(5)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_that_was_cut_short_leaves_a_dial_with_a_fair_chance() {
    let start = Instant::now();
    let mut job = job(start);
    job.decided(start, Decision::Test(chosen(), Some(30_000)));
    let paid = start + Duration::from_secs(4);
    assert_eq!(job.data_complete(paid, Duration::from_secs(3)), None);
    // No clock strikes on the dot.
    let late = job.deadline() + Duration::from_millis(300);
    assert_eq!(job.timed_out(late), Some(Action::Dial(chosen())));
    job.dialing(late);
    let response = answered(job.timed_out(job.deadline()));
    assert_eq!(response.dial_status, DialStatus::DialError);
}

#[test]
fn a_silent_target_is_a_dial_error_and_a_silent_client_a_dial_back_error() {
    let now = Instant::now();
    let mut job = dialing(now);
    let response = answered(job.timed_out(job.deadline()));
    assert_eq!(response.status, ResponseStatus::Ok);
    assert_eq!(response.dial_status, DialStatus::DialError);
    assert_eq!(response.addr_idx, 3);

    let mut job = dialing(now);
    job.connected(now);
    let response = answered(job.timed_out(job.deadline()));
    assert_eq!(response.dial_status, DialStatus::DialBackError);
}

#[test]
fn what_this_node_did_not_dial_is_never_a_dial_error() {
    let now = Instant::now();
    for cause in [
        NotDialed::Denied,
        NotDialed::NotSupported,
        NotDialed::OwnAddress,
        NotDialed::NoRoute,
        NotDialed::LocalFailure,
        NotDialed::Aborted,
    ] {
        let mut job = dialing(now);
        let response = answered(job.dial_ended(now, DialBackOutcome::NotDialed(cause)));
        assert_ne!(response.status, ResponseStatus::Ok, "{cause:?}");
        assert_eq!(response.dial_status, DialStatus::Unused);
        assert_eq!(response.addr_idx, 0);
    }
}

#[test]
fn a_dial_without_a_fair_chance_is_no_dial_error() {
    let start = Instant::now();
    let mut job = job(start);
    let asked = start + TIMING.read;
    job.decided(asked, Decision::Test(chosen(), Some(30_000)));
    let paid = asked + TIMING.dial_data;
    let action = job.data_complete(paid, Duration::ZERO);
    assert_eq!(action, Some(Action::Dial(chosen())));
    job.dialing(paid);
    assert!(job.deadline() < paid + FAIR_DIAL, "hardly any time is left");
    let response = answered(job.timed_out(job.deadline()));
    assert_eq!(response.status, ResponseStatus::InternalError);
    assert_eq!(response.dial_status, DialStatus::Unused);
}

#[test]
fn a_node_that_stalls_blames_nobody() {
    let start = Instant::now();
    let stalled = |job: &Job| job.deadline() + 2 * STALL;

    // What happened meanwhile counts.
    let mut job = dialing(start);
    let now = stalled(&job);
    assert_eq!(job.timed_out(now), None);
    let action = job.dial_ended(now, DialBackOutcome::Delivered);
    assert_eq!(answered(action).dial_status, DialStatus::Ok);

    // If nothing did, that may be due to the stall.
    let mut job = dialing(start);
    assert_eq!(job.timed_out(stalled(&job)), None);
    let response = answered(job.timed_out(job.deadline()));
    assert_eq!(response.status, ResponseStatus::InternalError);

    // However often it stalls, the request ends.
    let mut job = dialing(start);
    assert_eq!(job.timed_out(stalled(&job)), None);
    assert!(job.timed_out(stalled(&job)).is_some());
}

#[test]
fn an_answer_that_was_not_written_is_not_reported_as_sent() {
    let now = Instant::now();
    let mut job = dialing(now);
    answered(job.dial_ended(now, DialBackOutcome::Delivered));
    let served = job.into_event(now, End::NotAnswered);
    assert_eq!(served.status, None);
    assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
}

#[derive(Debug, Clone)]
enum Happens {
    Refused,
    Rejected,
    Chosen { pay: bool },
    Paid { delay: u64 },
    Connected,
    Ended(DialBackOutcome),
    Nothing,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let what = prop_oneof![
        1 => Just(Happens::Refused),
        1 => Just(Happens::Rejected),
        6 => any::<bool>().prop_map(|pay| Happens::Chosen { pay }),
        6 => (0..3000u64).prop_map(|delay| Happens::Paid { delay }),
        4 => Just(Happens::Connected),
        2 => Just(Happens::Ended(DialBackOutcome::Delivered)),
        1 => Just(Happens::Ended(DialBackOutcome::DialFailed(std::io::ErrorKind::ConnectionReset))),
        9 => Just(Happens::Nothing),
    ];
    (0..3000u64, what)
}

proptest! {
    /// Facts in any order and at any time, also senseless ones: the job ends within its time, answers at
    /// most once, and dials at most once.
    #[test]
    fn a_request_is_over_within_its_time(facts in prop::collection::vec(happens(), 0..12)) {
        let start = Instant::now();
        let end = start + TIMING.request;
        let mut now = start;
        let mut job = job(start);
        let mut dials = 0;
        let mut facts = facts.into_iter();
        let mut over = None;

        while over.is_none() {
            let (at, fact) = match facts.next() {
                Some((millis, fact)) => (now + Duration::from_millis(millis), fact),
                None => (job.deadline(), Happens::Nothing),
            };
            // Deadlines that pass before the fact are handled first.
            let mut actions = Vec::new();
            while job.deadline() <= at && over.is_none() {
                now = now.max(job.deadline());
                prop_assert!(job.deadline() <= end);
                let Some(action) = job.timed_out(now) else { break };
                if matches!(action, Action::Dial(_)) {
                    job.dialing(now);
                    dials += 1;
                } else {
                    over = Some(action);
                }
            }
            if over.is_some() {
                break;
            }
            now = now.max(at);
            actions.push(match fact {
                Happens::Refused => job.decided(now, Decision::Refuse),
                Happens::Rejected => job.decided(now, Decision::Reject),
                Happens::Chosen { pay } => {
                    job.decided(now, Decision::Test(chosen(), pay.then_some(30_000)))
                }
                Happens::Paid { delay } => {
                    job.data_complete(now, Duration::from_millis(delay))
                }
                Happens::Connected => {
                    job.connected(now);
                    None
                }
                Happens::Ended(outcome) => job.dial_ended(now, outcome),
                Happens::Nothing => None,
            });
            for action in actions.into_iter().flatten() {
                match action {
                    Action::Dial(_) => {
                        job.dialing(now);
                        dials += 1;
                    }
                    Action::AskForData { .. } => {}
                    action => over = Some(action),
                }
            }
        }
        prop_assert!(dials <= 1);
        prop_assert!(now <= end, "took {:?}", now - start);
        if let Some(Action::Answer(_)) = over {
            prop_assert!(job.deadline() <= end);
            prop_assert_eq!(job.state, State::Answer);
        }
    }
}
