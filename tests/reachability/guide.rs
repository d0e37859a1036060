//! The example in `docs/verdicts.md`, as the core goes through it. Who changes its numbers here changes them there.

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::reachability::{Vantage, Verdict};

use crate::world::{Answer, World, addr, host, secs, server_ip};

fn tcp() -> Multiaddr {
    addr("/ip4/81.2.69.160/tcp/4001")
}

/// A server that this node has dialed over QUIC only: for an address over TCP it is a stranger.
fn met_over_quic(world: &mut World, answer: Answer) {
    let n = world.add_server(Some(server_ip(world.servers.len())), answer);
    let remote = host(server_ip(n))
        .with(Protocol::Udp(4001))
        .with(Protocol::QuicV1);
    let id = world.connection(world.servers[n].peer, None, &remote);
    world.servers[n].connection = Some(id);
    world.core.on_support(world.now, id, true);
}

fn rounded(confidence: f64) -> f64 {
    (confidence * 1000.0).round() / 1000.0
}

fn confidence(world: &World) -> f64 {
    rounded(world.report(&tcp()).confidence)
}

#[test]
fn two_strangers_turn_reachable_into_filtered() {
    let mut world = World::of(&tcp(), vec![Answer::DialBack; 3]);
    assert_eq!(confidence(&world), 0.5, "before anything is heard");
    world.run(secs(10));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(world.report(&tcp()).vantage, Some(Vantage::Contacted));
    assert_eq!(confidence(&world), 0.806);

    met_over_quic(&mut world, Answer::DialError);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable, "in doubt");
    assert_eq!(confidence(&world), 0.397);

    met_over_quic(&mut world, Answer::DialError);
    world.run(secs(3));
    assert_eq!(world.verdict(&tcp()), Verdict::Filtered);
    assert_eq!(confidence(&world), 0.865);
    // The second stranger's word brings doubt again, and the first is heard once more: not five times within half a second,
    // as when its repeated failure left no trace.
    let asked: Vec<usize> = world.requests.iter().map(|(_, n, _)| *n).collect();
    assert_eq!(asked[3..], [3, 0, 4, 3]);
}

#[test]
fn one_strangers_proof_is_enough() {
    let mut world = World::new();
    world.core.add_candidate(world.now, &tcp()).unwrap();
    met_over_quic(&mut world, Answer::DialBack);
    world.run(secs(1));
    assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
    assert_eq!(confidence(&world), 0.995);
    assert_eq!(world.requests.len(), 1);
}

/// What contacted servers can show of each kind of address.
#[test]
fn contacted_proofs_alone_amount_to_so_much() {
    let of = |source: &dyn Fn(&mut World)| {
        let mut world = World::new();
        source(&mut world);
        for _ in 0..8 {
            world.server(Answer::DialBack);
        }
        world.run(secs(20));
        assert_eq!(world.verdict(&tcp()), Verdict::Reachable);
        rounded(world.report(&tcp()).confidence)
    };
    let added = of(&|world| world.core.add_candidate(world.now, &tcp()).unwrap());
    let listening = of(&|world| world.core.on_listen_addr(world.now, &tcp()));
    let confirmed = of(&|world| world.core.on_external_confirmed(world.now, &tcp()));
    assert_eq!((added, confirmed, listening), (0.806, 0.915, 0.943));
}

/// A lone server of unknown ability, and some more.
#[test]
fn failures_alone_amount_to_so_much() {
    let of = |count: usize| {
        let mut world = World::of(&tcp(), vec![Answer::DialError; count]);
        world.run(secs(20));
        assert_eq!(world.verdict(&tcp()), Verdict::Unreachable);
        rounded(world.report(&tcp()).confidence)
    };
    assert_eq!([1, 3].map(of), [0.677, 0.882]);
}

/// A server can dial an address that works, and say that it dialed the one of which only peers speak.
#[test]
fn where_only_peers_speak_of_an_address_proofs_amount_to_less() {
    let of = |port: u16| {
        let seen = addr(&format!("/ip4/81.2.69.160/tcp/{port}"));
        let mut world = World::new();
        let listener = addr("/ip4/192.168.1.2/tcp/4001");
        world.core.on_listen_addr(world.now, &listener);
        world.open.insert(seen.clone());
        for _ in 0..2 {
            world.server(Answer::Truth);
            world.core.on_candidate(world.now, &seen);
        }
        world.run(secs(20));
        assert_eq!(world.verdict(&seen), Verdict::Reachable);
        rounded(world.report(&seen).confidence)
    };
    assert_eq!([4001, 5000].map(of), [0.806, 0.804]);
}
