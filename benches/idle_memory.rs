//! Memory that an idle connection costs: the handlers of both roles, ours against those of `libp2p-autonat` 0.16.
//!
//! `cargo bench --bench idle_memory`

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionHandler, ConnectionId, NetworkBehaviour},
};
use libp2p_autonat::v2 as theirs;
use libp2p_autonat_v2::{client, server};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CONNECTIONS: usize = 10_000;

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let ours = per_connection(client::Behaviour::new(
        PeerId::random(),
        client::Config::default(),
    )) + per_connection(server::Behaviour::new(server::Config::default()));
    let theirs = per_connection(theirs::client::Behaviour::default())
        + per_connection(theirs::server::Behaviour::default());
    println!(
        "bytes per idle connection, both roles: ours {ours:.0}, libp2p-autonat 0.16 {theirs:.0}"
    );
    println!("ratio {:.3}, wanted: at most 0.5", ours / theirs);
}

/// The bytes of a handler and of all that it has allocated, as a swarm keeps it, together with what the behaviour keeps.
fn per_connection<B: NetworkBehaviour>(mut behaviour: B) -> f64 {
    let local: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().expect("a valid address");
    let remote: Multiaddr = "/ip4/127.0.0.1/tcp/4002".parse().expect("a valid address");
    let peer = PeerId::random();
    let mut handlers: Vec<B::ConnectionHandler> = Vec::with_capacity(CONNECTIONS);
    let before = dhat::HeapStats::get().curr_bytes;
    for id in 0..CONNECTIONS {
        let handler = behaviour
            .handle_established_inbound_connection(
                ConnectionId::new_unchecked(id),
                peer,
                &local,
                &remote,
            )
            .expect("the connection is accepted");
        // A swarm asks each handler what it listens for.
        let _ = handler.listen_protocol();
        handlers.push(handler);
    }
    let heap = dhat::HeapStats::get().curr_bytes.saturating_sub(before);
    let inline = size_of::<B::ConnectionHandler>();
    heap as f64 / CONNECTIONS as f64 + inline as f64
}
