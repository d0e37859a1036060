//! Which addresses are tracked, and what becomes of them.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_autonat_v2::{
    address::Transport,
    reachability::{CandidateError, Config, Summary, Verdict},
};

use crate::world::{Answer, World, addr, hours, minutes, ms, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn ws() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001/ws")
}

#[test]
fn an_address_that_cannot_be_tested_is_turned_down_by_its_reason() {
    let mut world = World::new();
    let now = world.now;
    let other = PeerId::random();
    for (address, error) in [
        (
            "/ip4/192.168.1.2/tcp/1".to_owned(),
            CandidateError::NotPublic,
        ),
        ("/ip4/127.0.0.1/tcp/1".to_owned(), CandidateError::NotPublic),
        ("/ip6/fe80::1/tcp/1".to_owned(), CandidateError::NotPublic),
        (
            format!("/ip4/81.2.69.160/tcp/1/p2p/{other}/p2p-circuit"),
            CandidateError::Relayed,
        ),
        ("/ip4/81.2.69.160".to_owned(), CandidateError::NotDialable),
        (
            "/ip4/81.2.69.160/tcp/0".to_owned(),
            CandidateError::NotDialable,
        ),
        (
            "/ip4/81.2.69.160/udp/1".to_owned(),
            CandidateError::NotDialable,
        ),
        ("/memory/1".to_owned(), CandidateError::NotDialable),
        (
            format!("/ip4/81.2.69.160/tcp/1/x-parity-ws/{}", "a".repeat(960)),
            CandidateError::TooLong,
        ),
        (
            format!("/ip4/81.2.69.160/tcp/1/p2p/{other}"),
            CandidateError::OtherPeer,
        ),
    ] {
        let result = world.core.add_candidate(now, &addr(&address));
        assert_eq!(result, Err(error), "{address}");
        world.core.on_candidate(now, &addr(&address));
        world.core.on_external_confirmed(now, &addr(&address));
        world.core.on_listen_addr(now, &addr(&address));
        assert_eq!(world.core.sizes().addresses, 0, "{address}");
    }
    for port in 1..=50 {
        let address = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        world.core.add_candidate(now, &address).unwrap();
    }
    let one_more = world
        .core
        .add_candidate(now, &addr("/ip4/81.2.69.160/tcp/51"));
    assert_eq!(one_more, Err(CandidateError::TooMany));
}

#[test]
fn a_private_address_is_tested_where_that_is_configured() {
    let private = addr("/ip4/192.168.1.2/tcp/4001");
    let mut world = World::with(Config::default().with_private_addresses(true));
    world.core.add_candidate(world.now, &private).unwrap();
    world.server(Answer::DialBack);
    world.run(secs(1));
    assert_eq!(world.verdict(&private), Verdict::Reachable);
}

#[test]
fn our_own_peer_id_at_the_end_makes_no_other_address() {
    let mut world = World::new();
    let with_id = tcp().with(Protocol::P2p(world.me));
    world.core.on_candidate(world.now, &with_id);
    world.core.on_candidate(world.now, &tcp());
    world.core.add_candidate(world.now, &with_id).unwrap();
    world.core.on_external_confirmed(world.now, &with_id);
    assert_eq!(world.core.sizes().addresses, 1);
    world.server(Answer::DialBack);
    world.run(secs(1));
    assert_eq!(world.requests[0].2.addrs, [tcp()]);
    assert!(world.core.address(&with_id).is_some());
    assert_eq!(world.core.check_now(world.now, &with_id), Ok(()));
}

#[test]
fn web_socket_inherits_from_tcp_and_web_transport_from_quic() {
    for (plain, heirs) in [
        (
            "/ip4/81.2.69.160/tcp/4001",
            [
                "/ip4/81.2.69.160/tcp/4001/ws",
                "/ip4/81.2.69.160/tcp/4001/tls/ws",
            ],
        ),
        (
            "/ip4/81.2.69.160/udp/4001/quic-v1",
            [
                "/ip4/81.2.69.160/udp/4001/quic-v1/webtransport",
                "/ip4/81.2.69.160/udp/4001/webrtc-direct",
            ],
        ),
    ] {
        let plain = addr(plain);
        let mut world = World::new();
        // One is there before, the other one comes later.
        world
            .core
            .add_candidate(world.now, &addr(heirs[0]))
            .unwrap();
        world.core.add_candidate(world.now, &plain).unwrap();
        world.open.insert(plain.clone());
        for _ in 0..3 {
            world.server(Answer::Truth);
        }
        world.run(secs(5));
        world
            .core
            .add_candidate(world.now, &addr(heirs[1]))
            .unwrap();
        world.run(ms(1));
        for heir in heirs.map(addr) {
            let report = world.report(&heir);
            assert_eq!(report.verdict, Verdict::Reachable, "{heir}");
            assert!(report.inherited, "{heir}");
            assert!(world.external.contains(&heir), "{heir}");
            assert_eq!(report.confidence, world.report(&plain).confidence, "{heir}");
            assert_eq!(report.vantage, world.report(&plain).vantage, "{heir}");
        }
        // What is lost with it is not taken for reachable any longer.
        world.open.clear();
        world.run(minutes(3));
        for heir in heirs.map(addr) {
            assert_eq!(world.verdict(&heir), Verdict::Unreachable, "{heir}");
            assert!(!world.external.contains(&heir), "{heir}");
        }
    }
}

#[test]
fn another_port_or_protocol_inherits_nothing() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 3]);
    world.open.insert(tcp());
    for other in [
        "/ip4/81.2.69.160/tcp/4002/ws",
        "/ip4/81.2.69.161/tcp/4001/ws",
        "/ip4/81.2.69.160/udp/4001/quic-v1/webtransport",
    ] {
        world.core.add_candidate(world.now, &addr(other)).unwrap();
    }
    world.run(secs(30));
    for report in world.core.addresses().filter(|r| r.address != tcp()) {
        assert_eq!(report.verdict, Verdict::Unreachable, "{}", report.address);
        assert!(!report.inherited);
    }
}

#[test]
fn an_heir_is_reachable_by_itself_where_the_plain_one_is_not_tracked() {
    let mut world = World::of(&ws(), vec![Answer::DialBack; 3]);
    world.run(secs(5));
    let report = world.report(&ws());
    assert_eq!(report.verdict, Verdict::Reachable);
    assert!(!report.inherited);
}

#[test]
fn a_port_that_one_peer_saw_waits_for_the_guess() {
    let ephemeral = addr("/ip4/81.2.69.160/tcp/61234");
    for open in [true, false] {
        let mut world = World::new();
        world
            .core
            .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
        world.core.on_candidate(world.now, &ephemeral);
        for _ in 0..3 {
            world.server(Answer::Truth);
        }
        if open {
            world.open.insert(tcp());
        }
        world.run(minutes(1));
        assert_eq!(world.requests[0].2.addrs, [tcp()], "the guess first");
        let asked = !world.asked_about(&ephemeral).is_empty();
        assert_eq!(asked, !open, "only if the guess fails");
        assert_eq!(world.verdict(&tcp()) == Verdict::Reachable, open);
    }
}

/// Found in the laboratory: the ports of connections to servers known over IPv6 kept these from being asked about the
/// address of a node that listened on IPv4 only.
#[test]
fn a_port_that_no_listener_can_be_behind_is_left_alone() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    let useless = [
        addr("/ip6/2a02:2e02:3ea0::2/tcp/61234"),
        addr("/ip4/81.2.69.160/udp/61234/quic-v1"),
    ];
    world.core.on_candidate(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::Truth);
        // Over QUIC all dials leave from one port.
        for seen in &useless {
            world.core.on_candidate(world.now, seen);
        }
    }
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    for seen in &useless {
        assert!(world.asked_about(seen).is_empty(), "{seen}");
        assert_eq!(world.verdict(seen), Verdict::Unknown);
    }
    assert_eq!(world.core.summary(), Summary::Private);

    world.core.check_now(world.now, &useless[0]).unwrap();
    world.run(secs(1));
    assert!(!world.asked_about(&useless[0]).is_empty(), "by hand");

    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/udp/4001/quic-v1"));
    world.run(minutes(1));
    assert!(
        !world.asked_about(&useless[1]).is_empty(),
        "with a listener"
    );
}

#[test]
fn a_port_that_two_peers_saw_does_not_wait() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    let seen = addr("/ip4/81.2.69.160/tcp/4777");
    for _ in 0..2 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &seen);
    }
    world.run(ms(250));
    assert!(!world.asked_about(&seen).is_empty());
}

#[test]
fn a_guess_goes_with_its_listener() {
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &listen);
    world
        .core
        .on_candidate(world.now, &addr("/ip4/81.2.69.160/tcp/61234"));
    world.server(Answer::DialBack);
    world.run(secs(2));
    assert!(world.external.contains(&tcp()));
    world.core.on_listen_addr_gone(world.now, &listen);
    world.drain();
    assert!(world.core.address(&tcp()).is_none());
    assert!(!world.external.contains(&tcp()), "expired");
}

#[test]
fn a_listen_address_that_goes_is_expired() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.server(Answer::DialBack);
    world.run(secs(2));
    assert!(world.external.contains(&tcp()));
    world.core.on_listen_addr_gone(world.now, &tcp());
    world.drain();
    assert!(world.external.is_empty());
    assert_eq!(world.core.sizes().addresses, 0);
    assert_eq!(world.core.summary(), Summary::Unknown);
}

/// A list of addresses that are not to be announced, say, or an operator who takes a mapping away.
#[test]
fn an_address_that_the_application_takes_back_stays_away_until_the_application_brings_it() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.core.on_candidate(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    world.run(hours(3));
    assert!(world.external.remove(&tcp()));
    world.core.on_external_expired(world.now, &tcp());
    world.drain();
    let report = world.report(&tcp());
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(report.servers, 0);
    assert!(!report.announced);
    // Peers go on seeing it.
    for _ in 0..60 {
        world.acquaintance(server_ip(700));
        world.core.on_candidate(world.now, &tcp());
        world.run(minutes(1));
    }
    assert!(world.external.is_empty());
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(secs(2));
    assert!(world.external.contains(&tcp()), "confirmed again");
}

#[test]
fn our_own_expiry_does_not_start_afresh() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    world.run(secs(5));
    world.all_answer(&Answer::DialError);
    world.run(minutes(3));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert!(world.report(&tcp()).servers > 0);
}

#[test]
fn an_address_that_others_confirmed_is_reported_on_and_left_alone() {
    let mut world = World::new();
    world.external.insert(tcp());
    world.core.on_external_confirmed(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::DialError);
    }
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert!(world.external.contains(&tcp()));
    assert!(!world.report(&tcp()).announced);
}

#[test]
fn an_address_that_others_confirm_after_us_is_theirs() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    world.core.on_candidate(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::DialBack);
    }
    world.run(secs(10));
    assert!(world.external.contains(&tcp()));
    // The operator configures it.
    world.core.on_external_confirmed(world.now, &tcp());
    world.all_answer(&Answer::DialError);
    world.run(minutes(5));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert!(world.external.contains(&tcp()), "left alone");
}

#[test]
fn an_address_that_others_confirmed_is_expired_where_that_is_configured() {
    let mut world = World::with(Config::default().with_expire_foreign(true));
    world.external.insert(tcp());
    world.core.on_external_confirmed(world.now, &tcp());
    for _ in 0..3 {
        world.server(Answer::Truth);
    }
    world.run(minutes(1));
    assert!(world.external.is_empty());
    world.open.insert(tcp());
    world.run(minutes(2));
    assert!(world.external.contains(&tcp()), "confirmed again");
}

/// Fakes on IPs of their own and on ours, before anything was probed.
fn flood(world: &mut World, from: u32, to: u32) {
    for n in from..to {
        let fake = if n % 2 == 0 {
            format!(
                "/ip4/{}/tcp/{}",
                std::net::Ipv4Addr::from(0x4000_0000 + n),
                1 + n % 65_000
            )
        } else {
            format!("/ip4/81.2.69.160/tcp/{}", 5_000 + n % 60_000)
        };
        world.core.on_candidate(world.now, &addr(&fake));
    }
}

#[test]
fn a_flood_of_candidates_is_bounded_and_the_real_address_is_confirmed() {
    for source in [
        "listening",
        "guessed",
        "reported by several",
        "added",
        "confirmed",
    ] {
        let mut world = World::new();
        let now = world.now;
        world.open.insert(tcp());
        // The whole of it once: it takes its time without optimisation.
        let count = if source == "reported by several" {
            100_000
        } else {
            10_000
        };
        flood(&mut world, 0, count / 2);
        match source {
            "listening" => world.core.on_listen_addr(now, &tcp()),
            "guessed" => {
                world
                    .core
                    .on_listen_addr(now, &addr("/ip4/192.168.1.2/tcp/4001"));
                for port in [61_001, 61_002] {
                    let seen = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
                    world.acquaintance(server_ip(700));
                    world.core.on_candidate(now, &seen);
                }
            }
            "reported by several" => {
                // Of another port.
                world
                    .core
                    .on_listen_addr(now, &addr("/ip4/192.168.1.2/tcp/4002"));
                for _ in 0..3 {
                    world.acquaintance(server_ip(700));
                    world.core.on_candidate(now, &tcp());
                }
            }
            "added" => world.core.add_candidate(now, &tcp()).unwrap(),
            _ => world.core.on_external_confirmed(now, &tcp()),
        }
        flood(&mut world, count / 2, count);
        let sizes = world.core.sizes();
        assert!(sizes.addresses <= 50, "{sizes:?}");
        for _ in 0..4 {
            world.server(Answer::Truth);
        }
        let proven = world.run_until(secs(30), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(proven.is_some(), "{source}");
        // Not even a flood that goes on displaces it then.
        for _ in 0..20 {
            flood(&mut world, 0, 500);
            world.run(secs(10));
        }
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "{source}");
        assert!(world.core.sizes().addresses <= 50);
    }
}

#[test]
fn a_flood_of_external_ips_starts_over_once_in_a_while_only() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 4]);
    world.run(hours(5));
    let before = world.requests.len();
    for n in 0..600u32 {
        let ip = std::net::Ipv4Addr::from(0x4000_0000 + n * 65_536 % 0x1000_0000);
        let fake = addr(&format!("/ip4/{ip}/tcp/4001"));
        world.core.on_candidate(world.now, &fake);
        world.run(secs(1));
    }
    let own = world.requests[before..]
        .iter()
        .filter(|(_, _, r)| r.addrs[0] == tcp())
        .count();
    assert!(own <= 45, "{own} checks of one address in ten minutes");
}

#[test]
fn time_that_goes_backwards_is_taken_to_stand_still() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 2]);
    world.run(secs(100));
    let later = world.now;
    for back in [1, 50, 100] {
        let earlier = later - secs(back);
        world.core.handle_timeout(earlier);
        world.core.add_candidate(earlier, &ws()).unwrap();
        world.core.check_now(earlier, &tcp()).unwrap();
        world.core.handle_timeout(earlier);
    }
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert!(world.report(&ws()).inherited);
}

#[test]
fn the_same_seed_gives_the_same_requests() {
    let run = || {
        let mut world = World::of(&tcp(), vec![Answer::Truth; 9]);
        world.run(hours(1));
        world
            .requests
            .iter()
            .map(|(at, n, r)| (*at, *n, r.nonce))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// Identify repeats itself every few minutes, and a hostile peer as often as it likes.
#[test]
fn a_port_that_one_peer_saw_many_times_waits_for_the_guess() {
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    let seen = addr("/ip4/81.2.69.160/tcp/4777");
    world.open.insert(tcp());
    world.server(Answer::Truth);
    world.server(Answer::Truth);
    let observer = world.servers[0].connection.unwrap();
    for _ in 0..20 {
        world.core.on_candidate(world.now, &seen);
        world.core.on_observed(world.now, observer, &seen);
        world.run(secs(30));
    }
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert!(world.asked_about(&seen).is_empty());
}

#[test]
fn what_was_added_and_then_expired_by_the_application_is_gone() {
    let mut world = World::of(&tcp(), vec![Answer::Truth; 3]);
    world.open.insert(tcp());
    world.run(secs(10));
    assert!(world.external.contains(&tcp()));
    world.core.on_external_expired(world.now, &tcp());
    world.run(secs(10));
    assert!(world.core.address(&tcp()).is_none());
    assert_eq!(world.core.summary(), Summary::Unknown);
}

#[test]
fn what_inherits_goes_with_the_plain_address_that_it_inherits_from() {
    for expired in [true, false] {
        let mut world = World::new();
        for listen in [tcp(), ws()] {
            world.core.on_listen_addr(world.now, &listen);
        }
        world.open.insert(tcp());
        for _ in 0..3 {
            world.server(Answer::Truth);
        }
        world.run(secs(5));
        assert!(world.report(&ws()).inherited);
        assert!(world.external.contains(&ws()));
        world.open.clear();
        if expired {
            world.core.on_external_expired(world.now, &tcp());
        } else {
            world.core.on_listen_addr_gone(world.now, &tcp());
        }
        world.drain();
        assert!(!world.external.contains(&ws()), "expired: {expired}");
        assert!(!world.report(&ws()).inherited);
        world.run(minutes(1));
        assert_eq!(world.verdict(&ws()), Verdict::Unreachable);
    }
}

/// js-libp2p proves each address by itself. When they are lost together, that is told once.
#[test]
fn an_heir_that_is_lost_is_not_confirmed_again_by_what_was_heard_before() {
    let mut world = World::new();
    for address in [ws(), tcp()] {
        world.core.add_candidate(world.now, &address).unwrap();
        world.open.insert(address);
    }
    for _ in 0..3 {
        world.server(Answer::Each(vec![Answer::DialBack, Answer::DialBack]));
    }
    world.run(secs(10));
    assert!(world.external.contains(&ws()));
    world.all_answer(&Answer::Each(vec![Answer::DialError, Answer::DialError]));
    world.run(minutes(5));
    let verdicts = world.verdicts(&ws());
    let back = verdicts
        .iter()
        .filter(|v| **v == Verdict::Reachable)
        .count();
    assert_eq!(back, 1, "{verdicts:?}");
    assert!(!world.external.contains(&ws()));
}

/// By then it is likely somebody else's.
#[test]
fn an_address_where_nobody_sees_this_node_any_longer_is_forgotten() {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    let old = tcp();
    let new = addr("/ip4/81.2.69.170/tcp/4001");
    for _ in 0..3 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &old);
    }
    world.run(hours(1));
    assert_eq!(world.verdict(&old), Verdict::Unreachable);
    world.run(hours(10));
    assert!(
        world.core.address(&old).is_some(),
        "the only one that is known"
    );
    for _ in 0..20 {
        world.acquaintance(server_ip(700));
        world.core.on_candidate(world.now, &new);
        world.run(minutes(30));
    }
    assert!(world.core.address(&old).is_none());
    assert!(world.core.address(&new).is_some());
}

/// A node that has moved, and of whose new IP one peer alone has told so far.
#[test]
fn an_ip_that_one_peer_saw_is_asked_about_again_in_its_time_and_on_demand() {
    for on_demand in [true, false] {
        let mut world = World::new();
        let listen = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listen);
        let new = addr("/ip4/81.2.69.170/tcp/4001");
        for _ in 0..3 {
            world.server(Answer::Truth);
            world.core.on_candidate(world.now, &tcp());
        }
        world.core.on_candidate(world.now, &new);
        world.run(minutes(3));
        assert_eq!(world.verdict(&new), Verdict::Unreachable);
        world.open.insert(new.clone());
        if on_demand {
            world.core.check_now(world.now, &new).unwrap();
            world.run(minutes(2));
        } else {
            world.run(minutes(5));
        }
        assert_eq!(
            world.verdict(&new),
            Verdict::Reachable,
            "on demand: {on_demand}"
        );
    }
}

/// Peers see this node at a new IP every few hours, and the application announces none of them.
#[test]
fn addresses_that_were_taken_back_leave_room_for_others() {
    let mut world = World::new();
    let listen = addr("/ip4/192.168.1.2/tcp/4001");
    world.core.on_listen_addr(world.now, &listen);
    for _ in 0..6 {
        world.server(Answer::Truth);
    }
    let move_to = |world: &mut World, n: u32, is_kept: bool| {
        let ip = format!("/ip4/81.2.69.{}", n + 1);
        let address = addr(&format!("{ip}/tcp/4001"));
        world.open = [address.clone()].into();
        if !is_kept {
            world.taken_back.insert(address.clone());
        }
        for _ in 0..3 {
            let observer = server_ip(100 + world.events.len());
            let id = world.acquaintance(observer);
            world.core.on_observed(world.now, id, &address);
            world.drain();
        }
        address
    };
    for n in 0..70 {
        let address = move_to(&mut world, n, false);
        world.run(minutes(40));
        assert!(!world.external.contains(&address));
    }
    let last = move_to(&mut world, 70, true);
    world.run(secs(5));
    assert!(world.external.contains(&last));
    // What was taken back stays away, tracked or not.
    let first = move_to(&mut world, 0, true);
    world.run(minutes(10));
    assert!(!world.external.contains(&first));
}

/// An application that confirms whatever is observed, over a transport that no server dials.
#[test]
fn confirmed_addresses_that_all_servers_refuse_leave_room_for_the_real_one() {
    let hash = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
    let webrtc = format!("udp/#/webrtc-direct/certhash/{hash}");
    for stack in ["tcp/#/ws", webrtc.as_str()] {
        let mut world = World::new();
        for _ in 0..8 {
            world.server(Answer::Only(Transport::Tcp));
        }
        for port in 20_000..20_080 {
            let stack = stack.replace('#', &port.to_string());
            let confirmed = addr(&format!("/ip4/81.2.69.160/{stack}"));
            world.core.on_external_confirmed(world.now, &confirmed);
            world.run(minutes(1));
        }
        world.open.insert(tcp());
        let listen = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listen);
        for n in 0..3 {
            world.acquaintance(server_ip(300 + n));
            world.core.on_candidate(world.now, &tcp());
        }
        world.run(secs(5));
        assert!(world.external.contains(&tcp()), "{stack}");
    }
}
