//! When the core asks.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p_autonat_v2::reachability::{Config, NotTracked, Verdict};

use crate::world::{Answer, World, addr, hours, minutes, ms, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// A node behind a NAT.
fn listening(port: u16) -> World {
    let mut world = World::new();
    let listen = addr(&format!("/ip4/192.168.1.2/tcp/{port}"));
    world.core.on_listen_addr(world.now, &listen);
    world
}

#[test]
fn the_first_probe_leaves_within_250_ms_of_a_candidate_and_a_server() {
    // Either may come first.
    let mut world = listening(4001);
    world.server(Answer::DialBack);
    world.run(secs(9));
    world.core.on_candidate(world.now, &tcp());
    world.run(ms(250));
    assert_eq!(world.requests.len(), 1);

    let mut world = listening(4001);
    world.core.on_candidate(world.now, &tcp());
    world.run(secs(9));
    world.server(Answer::DialBack);
    world.run(ms(250));
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn servers_are_given_time_to_gather_before_any_is_asked_but_not_for_long() {
    let first_request = |world: &World| world.requests[0].0;
    // Whatever else is due in between.
    let mut world = World::of(&tcp(), []);
    world.run(ms(60));
    world.server(Answer::DialBack);
    for n in 1..10 {
        world.after(ms(10 * n), |world| {
            let other = addr("/ip4/81.2.69.160/tcp/4002");
            world.core.add_candidate(world.now, &other).unwrap();
            world.core.check_now(world.now, &tcp()).unwrap();
        });
    }
    world.run(secs(1));
    assert_eq!(first_request(&world), ms(260));

    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.after(ms(50), |world| {
        world.server(Answer::DialBack);
    });
    world.run(secs(1));
    assert_eq!(first_request(&world), ms(150));

    // A peer that comes again and again, or one after the other, keeps nobody waiting.
    let mut world = World::of(&tcp(), []);
    let seldom = world.server(Answer::DialBack);
    for n in 1..20 {
        world.after(ms(n * 30), move |world| {
            world.disconnect(seldom);
            world.connect(seldom);
            world.server(Answer::Refuse);
        });
    }
    world.run(secs(1));
    assert!(first_request(&world) <= ms(200));

    // What is decided is checked without that.
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(secs(10));
    let asked = world.requests.len();
    world.server(Answer::DialBack);
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(ms(50));
    assert_eq!(world.requests.len(), asked + 1);
}

#[test]
fn servers_that_keep_one_waiting_do_not_hold_up_the_others() {
    let asked_by = |world: &World, time: Duration| {
        let asked = world.asked_about(&tcp());
        asked.iter().filter(|at| **at <= time).count()
    };
    // Dials that nobody answers: the others are asked after 2 s, up to three times as many at a time.
    let mut world = World::of(&tcp(), vec![Answer::DialErrorAfter(secs(6)); 9]);
    world.run(secs(1));
    assert_eq!(asked_by(&world, secs(1)), 3);
    world.run(secs(5));
    let asked = asked_by(&world, ms(2200));
    assert_eq!(asked, 9);
    assert_eq!(asked_by(&world, secs(6)), 9);
    world.run(secs(30));
    let (decided_at, verdict) = world.verdict_changes(&tcp())[0];
    assert_eq!(verdict, Verdict::Unreachable);
    assert!(decided_at <= ms(8300), "{decided_at:?}");

    // One that gets through is found among them.
    let mut world = World::of(&tcp(), vec![Answer::DialErrorAfter(secs(6)); 3]);
    world.run(secs(1));
    world.server(Answer::DialBack);
    world.run(secs(5));
    let (decided_at, verdict) = world.verdict_changes(&tcp())[0];
    assert_eq!(verdict, Verdict::Reachable);
    assert!(decided_at <= ms(2300), "{decided_at:?}");

    // What stands is in no hurry to have its margin.
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    for _ in 0..9 {
        world.server(Answer::Silent);
    }
    world.run(secs(8));
    assert!(world.asked_about(&tcp()).len() <= 1 + 3);
}

/// Else a port that has just been forwarded would have to wait for dials that nobody answers.
#[test]
fn addresses_that_keep_one_waiting_leave_room_for_others() {
    let mut world = World::new();
    for port in 4001..4005 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    for _ in 0..30 {
        world.server(Answer::Silent);
    }
    world.run(secs(4));
    assert_eq!(world.requests.len(), 12);
    let new = addr("/ip4/81.2.69.160/tcp/5001");
    world.core.add_candidate(world.now, &new).unwrap();
    world.run(secs(1));
    assert_eq!(world.asked_about(&new).len(), 3);
}

#[test]
fn peers_that_come_in_a_rhythm_hold_nothing_up() {
    for pause in [50, 99, 100, 150, 199, 200, 201, 250, 399, 400, 401] {
        let mut world = World::of(&tcp(), []);
        let seldom = world.server(Answer::Refuse);
        world.server(Answer::DialBack);
        for n in 1..60 {
            world.after(ms(n * pause), move |world| {
                world.disconnect(seldom);
                world.connect(seldom);
            });
        }
        world.run(secs(1));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "{pause} ms");
    }
}

/// A check of another address must not take the only server while others are awaited, nor name the new one to it.
#[test]
fn an_address_that_waits_for_servers_comes_first_when_they_are_there() {
    let other = addr("/ip4/81.2.69.160/tcp/4002");
    // The check may even be overdue.
    for outage in [secs(1), minutes(2)] {
        let mut world = World::of(&other, vec![Answer::DialError; 3]);
        world.run(secs(20));
        assert_eq!(world.verdict(&other), Verdict::Unreachable);
        for n in 0..3 {
            world.disconnect(n);
        }
        world.core.check_now(world.now, &other).unwrap();
        world.run(outage);
        world.connect(0);
        let since = world.requests.len();
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.after(ms(150), |world| {
            for _ in 0..2 {
                world.server(Answer::Silent);
            }
        });
        let wanted = world.servers_wanted().len();
        world.run(ms(199));
        assert_eq!(world.requests.len(), since);
        assert_eq!(world.servers_wanted().len(), wanted);
        world.run(ms(1));
        assert_eq!(world.requests[since].2.addrs[0], tcp());
    }
}

#[test]
fn without_a_server_nothing_is_polled_for() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(hours(5));
    assert!(world.wakes < 10, "{} wake-ups", world.wakes);
    assert!(world.requests.is_empty());
}

#[test]
fn without_an_address_nothing_is_polled_for() {
    let mut world = World::new();
    world.server(Answer::DialBack);
    world.run(hours(5));
    assert!(world.wakes < 10, "{} wake-ups", world.wakes);
    assert!(world.requests.is_empty());
}

/// The times between requests, of which those within 2 s count as one round.
fn rounds(world: &World) -> Vec<Duration> {
    let mut times: Vec<Duration> = world.requests.iter().map(|(at, _, _)| *at).collect();
    times.dedup_by(|later, earlier| *later - *earlier < secs(2));
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_settled_verdict_is_rechecked_after_30_s_doubling_to_an_hour() {
    for answer in [Answer::DialBack, Answer::DialError] {
        for count in [1, 4, 12] {
            let mut world = World::of(&tcp(), vec![answer.clone(); count]);
            world.run(minutes(20));
            let early = rounds(&world);
            assert!(early[0] >= secs(25), "{early:?}");
            // The time since the servers had appeared counts too, where one decides alone.
            assert!(early[0] <= secs(36), "{early:?}");
            let young = early
                .iter()
                .scan(Duration::ZERO, |at, gap| {
                    *at += *gap;
                    Some((*at, *gap))
                })
                .filter(|(at, _)| *at < minutes(10));
            for (at, gap) in young {
                assert!(gap <= secs(62), "{gap:?} at {at:?}, {answer:?} of {count}");
            }
            world.run(hours(12));
            let gaps = rounds(&world);
            let last = gaps[gaps.len() - 1];
            assert!(
                last > minutes(59) && last < minutes(61),
                "{answer:?} of {count}: {gaps:?}"
            );
            for pair in gaps.windows(2).skip(1) {
                assert!(pair[1] < 2 * pair[0] + secs(3), "{gaps:?}");
            }
            assert!(gaps.len() < 40, "{}", gaps.len());
        }
    }
}

#[test]
fn a_recheck_is_one_request_where_there_are_three_that_agree() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 6]);
    world.run(secs(20));
    let first = world.requests.len();
    assert_eq!(first, 3);
    world.run(hours(6));
    let rounds = rounds(&world).len();
    assert_eq!(world.requests.len(), first + rounds);
}

#[test]
fn rechecks_take_turns_among_the_servers() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(hours(10));
    let asked: Vec<usize> = (0..3)
        .map(|n| world.requests.iter().filter(|(_, s, _)| *s == n).count())
        .collect();
    let (most, least) = (asked.iter().max().unwrap(), asked.iter().min().unwrap());
    assert!(*least > 4 && *most < 3 * *least, "{asked:?}");
}

#[test]
fn a_changed_verdict_is_rechecked_soon() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 4]);
    world.open.insert(tcp());
    world.run(hours(10));
    world.open.clear();
    world
        .run_until(hours(2), |w| w.verdict(&tcp()) == Verdict::Unreachable)
        .expect("noticed");
    let before = world.requests.len();
    world.run(secs(40));
    assert!(world.requests.len() > before);
}

/// What brings the address to be asked about again at once, after ten quiet hours.
fn starts_over(change: impl Fn(&mut World)) {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    world.core.on_candidate(world.now, &tcp());
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.run(hours(10) + minutes(7));
    let next = world.report(&tcp()).next_probe.expect("a recheck");
    assert!(next > world.now + minutes(2), "a quiet moment");
    let before = world.requests.len();
    change(&mut world);
    world.run(secs(2));
    assert!(world.requests.len() > before, "asked again");
    // And from there on as at first.
    let before = world.requests.len();
    world.run(secs(35));
    assert!(world.requests.len() > before, "rechecked after 30 s");
}

#[test]
fn a_new_external_ip_starts_all_over() {
    starts_over(|w| {
        w.core
            .on_candidate(w.now, &addr("/ip4/81.2.69.170/tcp/4001"))
    });
}

#[test]
fn a_new_listen_address_starts_all_over() {
    starts_over(|w| {
        w.core
            .on_listen_addr(w.now, &addr("/ip4/192.168.1.2/tcp/5001"))
    });
}

#[test]
fn a_listen_address_that_goes_starts_all_over() {
    starts_over(|w| {
        w.core
            .on_listen_addr_gone(w.now, &addr("/ip4/192.168.1.2/tcp/4001"))
    });
}

#[test]
fn the_loss_of_all_connections_starts_all_over() {
    starts_over(|w| {
        for n in 0..4 {
            w.disconnect(n);
        }
        w.connect(2);
    });
}

#[test]
fn check_now_asks_at_once_whatever_the_verdict() {
    for answer in [Answer::DialBack, Answer::DialError] {
        let mut world = World::of(&tcp(), vec![answer; 4]);
        world.run(hours(3) + minutes(7));
        let before = world.requests.len();
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(ms(100));
        assert_eq!(world.requests.len(), before + 1);
    }
    let mut world = World::new();
    let untracked: Result<(), NotTracked> = world.core.check_now(world.now, &tcp());
    assert!(untracked.is_err());
}

/// An observed port that one peer saw is left alone once it failed, unless the user asks.
#[test]
fn check_now_asks_about_a_doubtful_address_too() {
    let mut world = listening(4002);
    world.core.on_candidate(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::DialError);
    }
    world.run(minutes(20));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    let before = world.requests.len();
    world.core.check_now(world.now, &tcp()).unwrap();
    world.run(secs(1));
    assert!(world.requests.len() > before);
}

#[test]
fn check_now_waits_for_a_server_whose_pace_is_used_up() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(3));
    for _ in 0..20 {
        world.core.check_now(world.now, &tcp()).unwrap();
        world.run(secs(1));
    }
    assert_eq!(world.busiest_minute(), 6);
    world.core.check_now(world.now, &tcp()).unwrap();
    let before = world.requests.len();
    world.run(secs(61));
    assert!(
        world.requests.len() > before,
        "asked when the minute is over"
    );
}

#[test]
fn near_a_connection_limit_nothing_is_asked() {
    let mut world = World::with(Config::default().with_connection_limit(Some(64)));
    world.core.add_candidate(world.now, &tcp()).unwrap();
    let strangers: Vec<_> = (0..57)
        .map(|n| world.stranger(server_ip(100 + n), &addr("/ip4/192.168.1.2/udp/1/quic-v1")))
        .collect();
    world.server(Answer::DialBack);
    world.run(minutes(1));
    assert!(world.requests.is_empty());
    for id in strangers.into_iter().take(20) {
        world.core.on_connection_closed(world.now, id);
    }
    world.run(secs(1));
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn a_server_that_wants_more_dial_data_than_there_is_keeps_nobody_else_from_being_asked() {
    for (per_answer, per_hour) in [(0, 8_000_000), (50_000, 8_000_000), (100_000, 0)] {
        let config = Config::default().with_dial_data_budget(per_answer, per_hour);
        let mut world = World::with(config);
        world.core.add_candidate(world.now, &tcp()).unwrap();
        world.server(Answer::DialData(60_000));
        world.run(secs(1));
        for _ in 0..3 {
            world.server(Answer::DialBack);
        }
        world.run(secs(2));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
        world.run(hours(3));
        assert_eq!(world.paid, 0);
        let asked = world.requests.iter().filter(|(_, n, _)| *n == 0).count();
        assert!(asked <= 8, "asked {asked} times in three hours");
    }
}

#[test]
fn dial_data_is_paid_within_the_budget_of_an_hour_whoever_wants_it_at_once() {
    let config = Config::default().with_dial_data_budget(100_000, 250_000);
    let mut world = World::with(config);
    for port in 4001..4009 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.add_candidate(world.now, &address).unwrap();
    }
    for _ in 0..10 {
        world.server(Answer::DialData(100_000));
    }
    world.run(secs(30));
    assert_eq!(world.paid, 200_000);
    world.run(minutes(59));
    assert_eq!(world.paid, 200_000);
    world.run(hours(2));
    assert!(world.paid > 200_000, "{}", world.paid);
    assert!(world.paid <= 4 * 250_000, "{}", world.paid);
}

#[test]
fn what_could_not_be_decided_is_rechecked_by_one_that_could_dial() {
    let mut world = World::of(&tcp(), vec![Answer::DialError; 4]);
    world.run(ms(400));
    world.server(Answer::DialBack);
    for _ in 0..4 {
        world.server(Answer::DialErrorAfter(secs(8)));
    }
    world.run(secs(20));
    for _ in 0..12 {
        world.server(Answer::DialError);
    }
    world.run(secs(60));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}
