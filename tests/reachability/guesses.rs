//! Guesses: listen ports at the external IPs that peers see, over the transport that they see or another one.

use std::{collections::BTreeSet, net::Ipv4Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::{
    address::Transport,
    reachability::{Config, Summary, Vantage, Verdict},
};

use crate::world::{Answer, World, addr, host, hours, minutes, secs, server_ip};

const TCP_LISTENER: &str = "/ip4/192.168.1.2/tcp/4001";
const QUIC_LISTENER: &str = "/ip4/192.168.1.2/udp/4001/quic-v1";
const BOTH: [&str; 2] = [TCP_LISTENER, QUIC_LISTENER];

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn quic() -> Multiaddr {
    addr("/ip4/81.2.69.160/udp/4001/quic-v1")
}

/// At an IP where nobody sees this node over QUIC.
fn elsewhere() -> Multiaddr {
    addr("/ip4/81.3.70.161/tcp/4001")
}

fn made_up(n: u32) -> Multiaddr {
    let ip = Ipv4Addr::from(0x0900_0000 + n * 7919);
    host(ip.into()).with(Protocol::Tcp(4001))
}

/// And one over TCP behind them.
fn many_over_quic(count: u16) -> Vec<String> {
    let quic = (0..count).map(|n| format!("/ip4/192.168.1.2/udp/{}/quic-v1", 4001 + n));
    quic.chain([TCP_LISTENER.to_owned()]).collect()
}

fn listening(listeners: &[impl AsRef<str>]) -> World {
    let mut world = World::new();
    for listener in listeners {
        world
            .core
            .on_listen_addr(world.now, &addr(listener.as_ref()));
    }
    world
}

/// A node with these listeners behind a NAT, that meets these servers over TCP, all of them.
fn met_over_tcp(listeners: &[impl AsRef<str>], answers: impl IntoIterator<Item = Answer>) -> World {
    let mut world = listening(listeners);
    for answer in answers {
        world.server(answer);
        world.core.on_candidate(world.now, &tcp());
    }
    world
}

#[test]
fn an_external_ip_with_a_listen_port_is_a_guess() {
    let mut world = listening(&[
        TCP_LISTENER,
        "/ip4/192.168.1.2/tcp/4002/ws",
        QUIC_LISTENER,
        "/ip4/192.168.1.2/udp/4003/webrtc-direct",
        "/ip6/fd00::2/tcp/4001",
    ]);
    world
        .core
        .on_candidate(world.now, &addr("/ip4/81.2.69.160/tcp/61234"));
    let tracked: Vec<_> = world.core.addresses().map(|r| r.address).collect();
    let browsers = [
        addr("/ip4/81.2.69.160/tcp/4002/ws"),
        addr("/ip4/81.2.69.160/udp/4003/webrtc-direct"),
    ];
    for guess in [tcp(), quic()].into_iter().chain(browsers) {
        assert!(tracked.contains(&guess), "{tracked:?}");
        assert!(world.report(&guess).sources.guessed);
    }
    assert_eq!(tracked.len(), 5, "none over IPv6: {tracked:?}");
}

#[test]
fn a_listener_of_a_transport_that_no_peer_uses_is_found() {
    for open in [BTreeSet::from([quic()]), BTreeSet::from([tcp(), quic()])] {
        let mut world = met_over_tcp(&BOTH, vec![Answer::Truth; 3]);
        world.open = open.clone();
        world.run(secs(10));
        assert_eq!(world.external, open);
        assert_eq!(world.core.summary(), Summary::Public);
    }
}

/// Found in the laboratory: when the IP changed, all connections of a node that listened on both came back over TCP.
#[test]
fn a_new_ip_is_tried_over_the_transport_that_no_peer_uses_any_more() {
    let mut world = met_over_tcp(&BOTH, vec![Answer::Truth; 5]);
    for _ in 0..2 {
        world.core.on_candidate(world.now, &quic());
    }
    world.open = BTreeSet::from([tcp(), quic()]);
    world.run(minutes(5));
    assert_eq!(world.external, world.open);
    let moved = [elsewhere(), addr("/ip4/81.3.70.161/udp/4001/quic-v1")];
    world.open = moved.iter().cloned().collect();
    for n in 0..5 {
        world.disconnect(n);
        world.connect(n);
        world.core.on_candidate(world.now, &moved[0]);
    }
    world.run(minutes(1));
    assert_eq!(world.external, world.open);
}

/// Servers that only have TCP refuse QUIC for ever.
#[test]
fn a_transport_that_nobody_speaks_of_or_dials_keeps_no_summary_open() {
    let mut world = met_over_tcp(&BOTH, vec![Answer::Only(Transport::Tcp); 3]);
    world.run(minutes(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.verdict(&quic()), Verdict::Unknown);
    assert!(!world.asked_about(&quic()).is_empty());
    assert_eq!(world.core.summary(), Summary::Private);
    // As soon as a peer sees it there, it may well be open.
    let mut world = met_over_tcp(&BOTH, vec![Answer::Only(Transport::Tcp); 3]);
    world.core.on_candidate(world.now, &quic());
    world.run(minutes(1));
    assert_eq!(world.core.summary(), Summary::Unknown);
}

/// An address that peers do see waits for none that nobody speaks of.
#[test]
fn what_no_peer_speaks_of_keeps_nothing_waiting() {
    let listeners = many_over_quic(5);
    // UDP leads nowhere.
    let stall = Answer::Over(Transport::Quic, Box::new(Answer::DialErrorAfter(secs(10))));
    for count in 1..=3 {
        let mut world = met_over_tcp(&listeners, vec![stall.clone(); count]);
        world.open.insert(tcp());
        let proven = world.run_until(secs(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(proven.is_some(), "{count} servers");

        // Long after the node was seen first.
        let mut world = met_over_tcp(&listeners, []);
        world.core.on_candidate(world.now, &tcp());
        world.run(minutes(2));
        world.open.insert(tcp());
        for _ in 0..count {
            world.server(stall.clone());
        }
        let proven = world.run_until(secs(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
        assert!(proven.is_some(), "{count} late servers");

        let silent = Answer::DialErrorAfter(secs(15));
        let mut world = met_over_tcp(&listeners, vec![silent; count]);
        let time = secs(if count == 1 { 31 } else { 18 });
        let lost = world.run_until(time, |w| w.verdict(&tcp()) == Verdict::Unreachable);
        assert!(lost.is_some(), "{count} servers");
    }
    // One that dials the last address of a request, as libp2p-autonat 0.16 does.
    let last = Answer::LastOrReset(quic());
    let mut world = met_over_tcp(&BOTH, [last]);
    world.open.insert(tcp());
    let proven = world.run_until(secs(1), |w| w.verdict(&tcp()) == Verdict::Reachable);
    assert!(proven.is_some());
}

#[test]
fn a_new_ip_that_one_peer_sees_is_tried_over_that_transport_first() {
    let mut world = met_over_tcp(&[QUIC_LISTENER, TCP_LISTENER], vec![Answer::Truth; 3]);
    world.run(minutes(2));
    world.open.insert(elsewhere());
    world.core.on_candidate(world.now, &elsewhere());
    let proven = world.run_until(secs(1), |w| w.verdict(&elsewhere()) == Verdict::Reachable);
    assert!(proven.is_some());
}

/// The application would look for them again and again.
#[test]
fn no_servers_are_wanted_for_a_transport_that_nobody_speaks_of() {
    for open in [true, false] {
        let mut world = met_over_tcp(&BOTH, vec![Answer::Only(Transport::Tcp); 5]);
        if open {
            world.open.insert(tcp());
        }
        world.run(hours(1));
        assert_eq!(world.servers_wanted(), [], "open: {open}");
    }
}

/// TCP and QUIC may leave by different IPs, and no peer be connected over QUIC for hours.
#[test]
fn a_guess_that_no_peer_speaks_of_makes_no_seen_address_outdated() {
    // Somebody may have seen it over QUIC there too, long ago.
    for once in [false, true] {
        let mut world = listening(&BOTH);
        for _ in 0..3 {
            world.server(Answer::Truth);
            world.core.on_candidate(world.now, &quic());
            world.core.on_candidate(world.now, &elsewhere());
        }
        if once {
            let there = addr("/ip4/81.3.70.161/udp/4001/quic-v1");
            world.core.on_candidate(world.now, &there);
        }
        world.run(hours(1));
        for _ in 0..20 {
            world.acquaintance(server_ip(700));
            world.core.on_candidate(world.now, &elsewhere());
            world.run(minutes(30));
        }
        assert!(world.core.address(&quic()).is_some());
        world.open.insert(quic());
        world.run(hours(2));
        assert!(world.external.contains(&quic()));
    }
}

#[test]
fn made_up_ips_are_no_less_doubtful_over_the_transport_that_nobody_speaks_of() {
    for confirmed in [true, false] {
        let mut world = listening(&BOTH);
        world.open.insert(tcp());
        if confirmed {
            world.core.on_external_confirmed(world.now, &tcp());
        }
        for n in 0..8 {
            world.server(Answer::Truth);
            if n == 0 {
                world.core.on_candidate(world.now, &tcp());
            }
        }
        world.run(minutes(5));
        let before = world.requests.len();
        for n in 0..12 {
            world.acquaintance(server_ip(700));
            world.core.on_candidate(world.now, &made_up(n));
            world.run(secs(10));
        }
        let strangers = world.requests[before..]
            .iter()
            .flat_map(|(_, _, request)| &request.addrs)
            .filter(|addr| ![tcp(), quic()].contains(addr))
            .count();
        assert!(strangers <= 13, "{strangers}, confirmed: {confirmed}");
    }
}

#[test]
fn guesses_at_made_up_ips_push_out_no_better_one() {
    let mut world = listening(&BOTH);
    let seen = addr("/ip4/81.2.69.160/tcp/61234");
    world.core.on_candidate(world.now, &seen);
    for n in 0..40 {
        world.core.on_candidate(world.now, &made_up(n));
    }
    assert!(world.core.address(&tcp()).is_some());
}

/// A stranger comes in on the listener, and nobody but the one address can be meant.
#[test]
fn a_stranger_speaks_for_the_address_that_peers_see() {
    let mut world = World::with(Config::default().with_required_vantage(Vantage::Independent));
    for listener in BOTH {
        world.core.on_listen_addr(world.now, &addr(listener));
    }
    world.open.insert(quic());
    for _ in 0..3 {
        world.server(Answer::Truth);
        world.core.on_candidate(world.now, &quic());
        world.core.on_candidate(world.now, &elsewhere());
    }
    world.run(minutes(20));
    // Met over TCP, the servers have not been contacted over UDP.
    assert_eq!(world.report(&quic()).vantage, Some(Vantage::Independent));
    for n in 0..5 {
        let ip = Ipv4Addr::new(77, n, 1, 1);
        let id = world.stranger(ip.into(), &addr(QUIC_LISTENER));
        world.run(secs(7));
        world.core.on_connection_closed(world.now, id);
        world.run(secs(40));
    }
    assert_eq!(world.report(&quic()).vantage, Some(Vantage::Independent));
    assert!(world.external.contains(&quic()));
}

#[test]
fn a_node_is_not_called_private_while_a_guess_is_asked_about() {
    let mut world = met_over_tcp(&BOTH, vec![Answer::Truth; 3]);
    for server in &mut world.servers {
        server.latency = secs(3);
    }
    world.open.insert(quic());
    world.run(minutes(2));
    assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
    assert_eq!(world.summaries(), [Summary::Public]);
}

/// It asks them again and again, and they must be there for what peers do see.
#[test]
fn silence_about_what_no_peer_speaks_of_sends_no_server_away() {
    let silent = Answer::LastOrReset(quic());
    let mut world = met_over_tcp(&BOTH, vec![silent; 3]);
    world.open.insert(tcp());
    world.run(hours(6));
    world.open = BTreeSet::from([elsewhere()]);
    for _ in 0..3 {
        world.core.on_candidate(world.now, &elsewhere());
    }
    let proven = world.run_until(minutes(1), |w| w.external.contains(&elsewhere()));
    assert!(proven.is_some());
}

/// Nothing had left from its port before, and the NAT mapped it nowhere.
#[test]
fn what_a_peer_begins_to_see_is_asked_about_at_once() {
    for answer in [Answer::Truth, Answer::LastOrReset(quic())] {
        let mut world = met_over_tcp(&BOTH, vec![answer; 3]);
        world.open.insert(tcp());
        world.run(hours(2));
        assert_ne!(world.verdict(&quic()), Verdict::Reachable);
        world.open.insert(quic());
        world.all_answer(&Answer::Truth);
        world.core.on_candidate(world.now, &quic());
        let proven = world.run_until(secs(2), |w| w.external.contains(&quic()));
        assert!(proven.is_some());
    }
}

#[test]
fn a_server_that_is_silent_about_many_guesses_is_left_alone() {
    let listeners = many_over_quic(20);
    let silent = Answer::Over(Transport::Quic, Box::new(Answer::Reset));
    let mut world = met_over_tcp(&listeners, [silent]);
    world.open.insert(tcp());
    world.run(hours(3));
    let before = world.requests.len();
    world.run(hours(1));
    let asked = world.requests.len() - before;
    assert!(asked <= 60, "{asked}");
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn an_address_about_which_nobody_answers_does_not_keep_a_guess_waiting_for_ever() {
    for count in 1..=3 {
        let silent = Answer::LastOrReset(tcp());
        let mut world = met_over_tcp(&BOTH, vec![silent; count]);
        world.open.insert(quic());
        world.run(minutes(20));
        assert!(world.external.contains(&quic()), "{count} servers");
    }
}

/// Where both are seen by nobody now, a stranger comes in at the one that is proven.
#[test]
fn a_proven_guess_is_no_less_than_an_address_that_peers_saw() {
    let moved = addr("/ip4/81.3.70.161/udp/4001/quic-v1");
    let mut world = met_over_tcp(&BOTH, vec![Answer::Truth; 5]);
    for _ in 0..2 {
        world.core.on_candidate(world.now, &quic());
    }
    world.open = BTreeSet::from([tcp(), quic()]);
    world.run(minutes(5));
    world.open = BTreeSet::from([elsewhere(), moved.clone()]);
    for _ in 0..5 {
        world.core.on_candidate(world.now, &elsewhere());
    }
    world.run(minutes(10));
    assert_eq!(world.external, world.open);
    assert_eq!(world.verdict(&quic()), Verdict::Unreachable);
    let before = world.asked_about(&quic()).len();
    for n in 0..5 {
        let ip = Ipv4Addr::new(77, n, 1, 1);
        let id = world.stranger(ip.into(), &addr(QUIC_LISTENER));
        world.run(secs(7));
        world.core.on_connection_closed(world.now, id);
        world.run(secs(7));
    }
    let asked = world.asked_about(&quic()).len() - before;
    assert!(asked <= 2, "no challenge for each stranger: {asked}");
    // After three hours nothing but the listener's new address is left.
    for _ in 0..12 {
        world.core.on_candidate(world.now, &elsewhere());
        world.run(minutes(30));
    }
    assert!(world.core.address(&quic()).is_none());
}

#[test]
fn a_guess_that_no_peer_speaks_of_makes_no_seen_address_doubtful() {
    let mut world = listening(&BOTH);
    for n in 0..3 {
        world.server(Answer::DialErrorAfter(secs(1)));
        world.core.on_candidate(world.now, &elsewhere());
        if n == 0 {
            world.core.on_candidate(world.now, &quic());
        }
    }
    let lost = world.run_until(secs(8), |w| w.verdict(&quic()) == Verdict::Unreachable);
    assert!(lost.is_some());
    assert!(world.summaries().iter().all(|s| *s == Summary::Private));
}

#[test]
fn what_a_port_mapping_named_before_is_a_guess_like_any_other() {
    let mut world = listening(&BOTH);
    world.core.on_external_confirmed(world.now, &quic());
    for _ in 0..3 {
        world.server(Answer::Only(Transport::Tcp));
        world.core.on_candidate(world.now, &tcp());
    }
    world.run(minutes(1));
    let before = world.servers_wanted().len();
    world.core.on_external_expired(world.now, &quic());
    world.run(hours(1));
    assert_eq!(world.core.summary(), Summary::Private);
    assert_eq!(world.servers_wanted().len(), before);
}
