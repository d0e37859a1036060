//! Which nonces prove something.

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use libp2p_autonat_v2::reachability::{Obstacle, ProbeOutcome, Verdict};

use crate::world::{Answer, Carrier, World, addr, ms, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

fn quic() -> Multiaddr {
    addr("/ip4/81.2.69.160/udp/4001/quic-v1")
}

/// Nothing of it counts, the stream is reset, and the address is tested by the next server.
fn proves_nothing(carrier: Carrier) {
    let mut world = World::of(&tcp(), [Answer::Nonce(carrier.clone())]);
    world.run(secs(8));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown, "{carrier:?}");
    assert_eq!(world.nonces, (0, 1), "{carrier:?}");
    assert_eq!(
        world.outcomes(),
        [ProbeOutcome::NonceMissing],
        "{carrier:?}"
    );
}

#[test]
fn a_nonce_on_our_own_connection_proves_nothing() {
    proves_nothing(Carrier::SameConnection);
}

#[test]
fn a_nonce_over_a_relay_proves_nothing() {
    proves_nothing(Carrier::Relayed);
}

#[test]
fn a_nonce_on_another_protocol_stack_proves_nothing() {
    for local in [
        "/ip4/192.168.1.2/udp/4001/quic-v1",
        "/ip4/192.168.1.2/tcp/4001/ws",
        "/ip6/fd00::2/tcp/4001",
    ] {
        proves_nothing(Carrier::OtherStack(addr(local)));
    }
}

#[test]
fn a_wrong_nonce_proves_nothing() {
    proves_nothing(Carrier::WrongNonce);
}

#[test]
fn a_nonce_on_a_connection_that_was_open_before_the_request_proves_nothing() {
    let mut world = World::new();
    let n = world.server(Answer::Nonce(Carrier::OpenBefore));
    let peer = world.servers[n].peer;
    let remote = addr("/ip4/20.0.1.1/tcp/40000");
    world.connection(peer, Some(addr("/ip4/192.168.1.2/tcp/4001")), &remote);
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.run(secs(8));
    assert_eq!(world.nonces, (0, 1));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
    assert_eq!(world.outcomes(), [ProbeOutcome::NonceMissing]);
}

#[test]
fn a_nonce_counts_once() {
    let mut world = World::of(&tcp(), [Answer::Nonce(Carrier::Twice)]);
    world.run(secs(8));
    assert_eq!(world.nonces, (1, 1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.report(&tcp()).servers, 1);
}

#[test]
fn a_nonce_from_another_peer_than_the_server_is_proof() {
    let mut world = World::of(&tcp(), [Answer::Nonce(Carrier::OtherPeer)]);
    world.run(secs(8));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
}

#[test]
fn a_nonce_may_come_five_seconds_after_the_response() {
    for (late, verdict) in [
        (ms(1), Verdict::Reachable),
        (ms(4_900), Verdict::Reachable),
        (ms(5_100), Verdict::Unknown),
    ] {
        let mut world = World::of(&tcp(), [Answer::LateNonce(late)]);
        world.run(secs(8));
        assert_eq!(world.verdict(&tcp()), verdict, "{late:?}");
    }
}

/// The response comes just before the time for the request is up, so that the nonce is awaited beyond it.
#[test]
fn waiting_for_a_late_nonce_beyond_the_deadline_does_not_keep_the_core_awake() {
    for late in [secs(2), secs(8)] {
        let mut world = World::of(&tcp(), [Answer::LateNonce(late)]);
        world.servers[0].latency = ms(19_500);
        world.run(secs(22));
        world.run(secs(5));
        assert!(world.wakes < 20, "{} wake-ups", world.wakes);
    }
}

#[test]
fn a_nonce_for_the_second_address_does_not_prove_the_first() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    world.core.add_candidate(world.now, &quic()).unwrap();
    let n = world.add_server(Some(server_ip(0)), Answer::Silent);
    // It says that it dialed the first, over TCP, and brings the nonce over QUIC.
    world.servers[n]
        .script
        .push_back(Answer::Nonce(Carrier::OtherStack(addr(
            "/ip4/192.168.1.2/udp/4001/quic-v1",
        ))));
    world.connect(n);
    world.run(secs(8));
    assert_eq!(world.verdict(&tcp()), Verdict::Unknown);
}

#[test]
fn a_nonce_after_all_is_over_is_not_taken() {
    let mut world = World::of(&tcp(), [Answer::DialBack]);
    world.run(secs(2));
    let nonce = world.requests[0].2.nonce;
    let id = world.connection(
        PeerId::random(),
        Some(addr("/ip4/192.168.1.2/tcp/4001")),
        &addr("/ip4/99.1.1.1/tcp/40000"),
    );
    assert!(!world.core.on_nonce(world.now, id, nonce));
}

#[test]
fn a_nonce_on_a_connection_that_nobody_told_of_is_not_taken() {
    let mut world = World::of(&tcp(), [Answer::Silent]);
    world.run(secs(1));
    let nonce = world.requests[0].2.nonce;
    let id = ConnectionId::new_unchecked(999);
    assert!(!world.core.on_nonce(world.now, id, nonce));
}

#[test]
fn a_name_is_proven_by_either_family() {
    let name = addr("/dns/node.example/tcp/4001");
    for local in ["/ip4/192.168.1.2/tcp/4001", "/ip6/fd00::2/tcp/4001"] {
        let mut world = World::of(&name, [Answer::Nonce(Carrier::OtherStack(addr(local)))]);
        world.run(secs(8));
        assert_eq!(world.verdict(&name), Verdict::Reachable, "{local}");
    }
}

#[test]
fn nonces_differ() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 8]);
    world.run(secs(300));
    let mut nonces: Vec<_> = world.requests.iter().map(|(_, _, r)| r.nonce).collect();
    let count = nonces.len();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), count);
    assert!(count > 5);
}

/// A proxy in front of this node may take the TLS away, and the server is not to blame.
#[test]
fn a_server_whose_nonce_came_over_another_stack_is_not_taken_for_a_liar() {
    let wss = addr("/ip4/81.2.69.160/tcp/443/tls/ws");
    for (carrier, honest) in [
        (
            Carrier::OtherStack(addr("/ip4/192.168.1.2/tcp/8080/ws")),
            true,
        ),
        (Carrier::SameConnection, false),
        (Carrier::Relayed, false),
    ] {
        let mut world = World::of(&wss, [Answer::Nonce(carrier.clone())]);
        world.run(secs(8));
        assert_eq!(
            world.outcomes(),
            [ProbeOutcome::NonceMissing],
            "{carrier:?}"
        );
        // The fault stays with that address: the server is there for others.
        let other = addr("/ip4/81.2.69.160/tcp/4001");
        world.core.add_candidate(world.now, &other).unwrap();
        world.run(secs(60));
        let asked = !world.asked_about(&other).is_empty();
        assert_eq!(asked, honest, "{carrier:?}");
        let obstacle = world.report(&wss).obstacle;
        assert_eq!(obstacle, honest.then_some(Obstacle::Proxied), "{carrier:?}");
    }
}

#[test]
fn a_dial_back_whose_nonce_comes_late_counts_once() {
    let mut world = World::new();
    world.core.on_listen_addr(world.now, &tcp());
    world.core.on_listen_addr(world.now, &quic());
    let n = world.add_server(Some(server_ip(0)), Answer::OkWithoutNonce);
    world.connect(n);
    world.run(secs(1));
    let request = world.requests[0].2.clone();
    // The connection is there, on a socket of ours and from an IP never contacted; the nonce is still to come.
    let id = world.stranger(server_ip(99), &request.addrs[0]);
    assert_eq!(world.verdict(&request.addrs[0]), Verdict::Unknown);
    assert!(world.core.on_nonce(world.now, id, request.nonce));
    world.run(ms(100));
    assert_eq!(world.verdict(&request.addrs[0]), Verdict::Reachable);
    assert_eq!(world.core.sizes().outcomes, 1);
}

/// What only peers speak of takes the word of two IP groups, and a server that leaves is who it was.
#[test]
fn a_server_that_leaves_before_its_nonce_comes_is_no_second_one() {
    let seen = addr("/ip4/81.2.69.160/tcp/5000");
    let mut world = World::new();
    world
        .core
        .on_listen_addr(world.now, &addr("/ip4/192.168.1.2/tcp/4001"));
    let n = world.add_server(Some(server_ip(0)), Answer::DialBack);
    world.connect(n);
    for _ in 0..2 {
        world.acquaintance([45, 76, 0, 1].into());
        world.core.on_candidate(world.now, &seen);
    }
    world.run(secs(40));
    let asked = world.requests.len();
    assert!(asked >= 1);
    let nonces = world.nonces.0;
    world.servers[n]
        .script
        .push_back(Answer::LateNonce(secs(3)));
    world.core.check_now(world.now, &seen).unwrap();
    world.run(secs(1));
    assert_eq!(world.requests.len(), asked + 1, "asked again");
    world.disconnect(n);
    world.run(secs(10));
    assert_eq!(world.nonces.0, nonces + 1, "it came in");
    assert_eq!(world.verdict(&seen), Verdict::Unknown);
}
