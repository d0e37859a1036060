//! The behaviours beside the client: those that it tells, those that feed it, and limits that deny connections.

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, SwarmEvent, ToSwarm, dummy,
    },
};
use libp2p_autonat_v2::client::{self, Verdict};

use crate::{
    scene::{brisk, external, honest, listen, over_both},
    support::{
        Node, PATIENCE, RawPeer, from_new_port,
        serving::{Client, TCP, honest_server},
        swarm, within,
    },
};

/// Says to have heard of addresses.
#[derive(Default)]
struct Rumours(VecDeque<Multiaddr>);

impl NetworkBehaviour for Rumours {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: std::convert::Infallible,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, std::convert::Infallible>> {
        match self.0.pop_front() {
            Some(addr) => Poll::Ready(ToSwarm::NewExternalAddrCandidate(addr)),
            None => Poll::Pending,
        }
    }
}

#[derive(NetworkBehaviour)]
struct Neighbours {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
    rumours: Rumours,
}

/// A client that tells others of its external addresses only.
fn node(config: client::Config) -> Node<Neighbours> {
    let keypair = Keypair::generate_ed25519();
    let identify =
        identify::Config::new("/test/1".to_owned(), keypair.public()).with_hide_listen_addrs(true);
    let behaviour = Neighbours {
        identify: identify::Behaviour::new(identify),
        autonat: client::Behaviour::new(
            keypair.public().to_peer_id(),
            config.with_private_addresses(true),
        ),
        rumours: Rumours::default(),
    };
    Node::spawn(swarm(keypair, behaviour))
}

async fn confirmed(node: &mut Node<Neighbours>, addr: &Multiaddr) {
    node.event("the address is confirmed", |event| match event {
        SwarmEvent::ExternalAddrConfirmed { address } if address == addr => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_candidates_is_bounded_and_the_real_address_is_confirmed() {
    let mut node = node(brisk());
    let address = node.listen(TCP).await;
    let flood = (0..100_000_u32).map(|n| {
        let [_, b, c, d] = (n + 2).to_be_bytes();
        Multiaddr::empty()
            .with(Protocol::Ip4([127, b + 1, c, d].into()))
            .with(Protocol::Tcp(1))
    });
    let flood: VecDeque<_> = flood.collect();
    node.with(|swarm| swarm.behaviour_mut().rumours.0 = flood)
        .await;
    let mut server = honest_server();
    let at = server.listen(TCP).await;
    node.connect(from_new_port(at)).await;
    confirmed(&mut node, &address).await;
    // However long the flood takes, its end comes.
    within(10 * PATIENCE, "the flood is over", async {
        loop {
            let left = node.with(|swarm| swarm.behaviour().rumours.0.len()).await;
            if left == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (sizes, report, external) = node
        .with(move |swarm| {
            let autonat = &swarm.behaviour().autonat;
            let external: Vec<_> = swarm.external_addresses().cloned().collect();
            (autonat.sizes(), autonat.address(&address), external)
        })
        .await;
    assert!(sizes.addresses <= 50, "{sizes:?}");
    assert!(sizes.outcomes <= 8 * 50, "{sizes:?}");
    assert!(sizes.probes <= 16, "{sizes:?}");
    let report = report.expect("the real address is tracked");
    assert_eq!(report.verdict, Verdict::Reachable);
    assert_eq!(external, [report.address]);
}

/// What identify tells a bystander about this node, once it is told to.
async fn tells(
    node: &Node<Neighbours>,
    bystander: &mut Node<identify::Behaviour>,
    addresses: &[Multiaddr],
) {
    let to = bystander.peer_id;
    node.with(move |swarm| swarm.behaviour_mut().identify.push([to]))
        .await;
    bystander
        .event("identify's word", |event| match event {
            SwarmEvent::Behaviour(identify::Event::Received { info, .. })
                if info.listen_addrs.iter().collect::<HashSet<_>>()
                    == addresses.iter().collect() =>
            {
                Some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn identify_tells_others_of_an_address_as_long_as_it_is_confirmed() {
    over_both(async |transport| {
        let mut node = node(brisk());
        let keypair = Keypair::generate_ed25519();
        let behaviour = identify::Behaviour::new(identify::Config::new(
            "/test/1".to_owned(),
            keypair.public(),
        ));
        let mut bystander = Node::spawn(swarm(keypair, behaviour));
        let at = bystander.listen(transport).await;
        node.connect(from_new_port(at)).await;
        // One that is none of the client's business stays: identify does not push an empty list.
        let other = Multiaddr::from(Protocol::Memory(1));
        let added = other.clone();
        node.with(move |swarm| swarm.add_external_address(added))
            .await;
        tells(&node, &mut bystander, std::slice::from_ref(&other)).await;

        let listener = node
            .with(move |swarm| swarm.listen_on(transport.parse().expect("a multiaddr")))
            .await
            .expect("the transport can listen");
        let mut server = honest_server();
        let at = server.listen(transport).await;
        node.connect(from_new_port(at)).await;
        let address = node
            .event("an address is confirmed", |event| match event {
                SwarmEvent::ExternalAddrConfirmed { address } => {
                    (*address != other).then(|| address.clone())
                }
                _ => None,
            })
            .await;
        tells(&node, &mut bystander, &[other.clone(), address]).await;

        bystander.drain();
        node.with(move |swarm| swarm.remove_listener(listener))
            .await;
        node.event("the address is expired", |event| match event {
            SwarmEvent::ExternalAddrExpired { .. } => Some(()),
            _ => None,
        })
        .await;
        tells(&node, &mut bystander, &[other]).await;
    })
    .await;
}

/// Near its limit the swarm would deny dial-backs, and all would look unreachable.
#[tokio::test]
async fn nothing_is_asked_near_the_connection_limit() {
    over_both(async |transport| {
        let mut limited = Client::new(brisk().with_connection_limit(Some(2)));
        // No server, so that nothing is asked before the second one is there.
        let mut other = RawPeer::new(&[]);
        let at = other.listen(transport).await;
        let first = limited.connect(&at).await;
        let mut server = honest(&mut limited, transport).await;
        let (_, address) = listen(&mut limited, transport).await;

        // As much time as another client needs for the same.
        let mut control = Client::new(brisk());
        let (_, same) = listen(&mut control, transport).await;
        let at = server.listen(transport).await;
        control.connect(&at).await;
        control.confirmed(&same).await;
        let events = limited.node.drain();
        assert_eq!(limited.sizes().await.probes, 0, "{events:#?}");
        limited.knows_nothing_of(&address).await;

        limited
            .node
            .with(move |swarm| swarm.close_connection(first))
            .await;
        limited.confirmed(&address).await;
        assert_eq!(external(&limited).await, [address]);
    })
    .await;
}

/// What the operator or a port mapping confirmed is reported on and checked, and never withdrawn.
#[tokio::test]
async fn an_address_that_another_behaviour_confirms_is_checked_and_left_alone() {
    let mut client = Client::new(brisk());
    // Nobody listens there.
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("a multiaddr");
    let mapped = address.clone();
    client
        .node
        .with(move |swarm| swarm.add_external_address(mapped))
        .await;
    let _servers = [
        honest(&mut client, TCP).await,
        honest(&mut client, TCP).await,
        honest(&mut client, TCP).await,
    ];
    crate::scene::becomes(&mut client, &address, Verdict::Unreachable).await;
    let report = client.report(&address).await.expect("tracked");
    assert!(report.sources.confirmed && !report.announced);
    assert_eq!(external(&client).await, [address]);
}

/// A node that is dropped or idle holds nothing that wakes it up for ever.
#[tokio::test]
async fn a_client_that_lost_all_servers_waits_for_the_next() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let (_, address) = listen(&mut client, transport).await;
        let mut server = honest_server();
        let at = server.listen(transport).await;
        let connection = client.connect(&at).await;
        client.confirmed(&address).await;
        client.is_idle().await;
        client
            .node
            .with(move |swarm| swarm.close_connection(connection))
            .await;
        client.node.closed(connection).await;
        assert_eq!(client.with(|autonat| autonat.servers()).await, (0, 0));
        let before = client.report(&address).await.expect("tracked");
        assert_eq!(before.verdict, Verdict::Reachable);

        let again = honest(&mut client, transport).await;
        let probed = crate::scene::probed_by(&mut client, again.peer_id).await;
        assert_eq!(probed.address, address);
        assert!(probed.took < Duration::MAX);
        assert_eq!(external(&client).await, [address]);
    })
    .await;
}
