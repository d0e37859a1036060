//! A forwarded port: what a router does that the node cannot see, and that comes and goes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_autonat_v2::client::{Summary, Verdict};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    scene::{becomes, brisk, external, honest, listen, summary_becomes},
    support::{
        address_of,
        serving::{Client, HonestServer, TCP},
    },
};

/// All three servers that have proven it are asked before it is expired, and checks of two addresses a second apart use up their
/// pace. The rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(60);

/// A port that is forwarded to a listener of the node.
struct Forwarding(JoinHandle<()>);

impl Forwarding {
    async fn new(port: u16, to: &Multiaddr) -> (Self, Multiaddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let to: SocketAddr = address_of(to);
        let task = tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut inside) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        let address = Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port));
        (Self(task), address)
    }

    /// New connections are refused from here on.
    async fn ends(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

async fn servers(client: &mut Client) -> [HonestServer; 3] {
    [
        honest(client, TCP).await,
        honest(client, TCP).await,
        honest(client, TCP).await,
    ]
}

async fn add(client: &Client, address: &Multiaddr) {
    let address = address.clone();
    client
        .with(move |autonat| autonat.add_candidate(&address))
        .await
        .expect("it can be tested");
}

fn port(address: &Multiaddr) -> u16 {
    address_of(address).port()
}

#[tokio::test]
async fn an_address_that_stops_working_is_expired_and_confirmed_when_it_works_again() {
    let mut client = Client::new(brisk());
    let (_, inside) = listen(&mut client, TCP).await;
    let (forwarding, outside) = Forwarding::new(0, &inside).await;
    add(&client, &outside).await;
    let _servers = servers(&mut client).await;
    client.confirmed(&outside).await;
    client.confirmed(&inside).await;

    forwarding.ends().await;
    let ended = Instant::now();
    client.expired(&outside).await;
    assert!(ended.elapsed() < NOTICED);
    becomes(&mut client, &outside, Verdict::Unreachable).await;
    assert_eq!(external(&client).await, std::slice::from_ref(&inside));
    let report = client.report(&outside).await.expect("still tracked");
    assert!(!report.announced);
    // The other address stands, and so does the summary.
    assert_eq!(
        client.report(&inside).await.expect("tracked").verdict,
        Verdict::Reachable
    );
    assert_eq!(
        client.with(|autonat| autonat.summary()).await,
        Summary::Public
    );

    let (_forwarding, _) = Forwarding::new(port(&outside), &inside).await;
    let back = Instant::now();
    client.confirmed(&outside).await;
    assert!(back.elapsed() < NOTICED);
    assert_eq!(
        client.report(&outside).await.expect("tracked").verdict,
        Verdict::Reachable
    );
}

#[tokio::test]
async fn a_port_that_nobody_forwards_is_unreachable_and_the_node_private() {
    let mut client = Client::new(brisk());
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port is free")
        .local_addr()
        .expect("it is bound")
        .port();
    let address = Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(closed));
    add(&client, &address).await;
    let _servers = servers(&mut client).await;
    becomes(&mut client, &address, Verdict::Unreachable).await;
    summary_becomes(&mut client, Summary::Private).await;
    assert!(external(&client).await.is_empty());
}
