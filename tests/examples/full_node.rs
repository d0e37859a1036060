//! Two full nodes and a relay: each does what its reachability asks for, and changes over with it.

use crate::{
    host::{EVERY_PORT, Firewall, host},
    process::{Process, example, run},
};

/// A full node that was told its listen port, which is a free one.
fn node(port: u16, hosts: &[&str]) -> Process {
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    Process::start(
        example("full_node"),
        hosts,
        &[("ALLOW_PRIVATE", "1"), ("LISTEN", &listen)],
    )
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

#[tokio::test]
async fn the_public_node_serves_the_dht_the_private_one_reserves_and_they_change_over() {
    let closed = Firewall::default();
    let (one, other) = (host(&closed).await, host(&closed).await);
    let hosts = [one.to_string(), other.to_string()];
    let hosts = [hosts[0].as_str(), hosts[1].as_str()];
    let (inside, outside) = (free_port(), free_port());
    closed.lock().expect("not poisoned").insert(inside);

    let mut private = node(inside, &hosts);
    let mut public = node(outside, &hosts);
    public.line("public: the DHT is in server mode").await;
    private.line("private: the DHT is in client mode").await;
    private.line("relay: ReservationReqAccepted").await;

    {
        let mut closed = closed.lock().expect("not poisoned");
        closed.clear();
        closed.insert(outside);
    }
    private.line("public: the DHT is in server mode").await;
    private.line("the slot on the relay is gone").await;
    public.line("private: the DHT is in client mode").await;
    public.line("relay: ReservationReqAccepted").await;
}

#[tokio::test]
async fn a_reservation_that_fails_is_told() {
    let closed = Firewall::default();
    closed.lock().expect("not poisoned").insert(EVERY_PORT);
    let (one, other) = (host(&closed).await, host(&closed).await);
    let nameless = [one, other].map(|mut addr| {
        addr.pop();
        addr.to_string()
    });
    let mut node = node(free_port(), &[&nameless[0], &nameless[1]]);
    node.line("private: the DHT is in client mode").await;
    let told = node.line("can't reserve on ").await;
    assert!(nameless.iter().any(|addr| told.contains(addr)), "{told}");
    assert!(told.contains("PeerId"), "says what is missing: {told}");
}

#[tokio::test]
async fn a_bad_argument_is_named() {
    for arg in ["--help", "/ip4/8.8.8.8/tcp"] {
        let run = run(example("full_node"), &[arg]).await;
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(arg), "{run:?}");
    }
}
