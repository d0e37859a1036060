//! Attacks on a server that takes itself to be on the open Internet: default rules on what is dialed,
//! over real connections. Each test says what was dialed, what was answered, and that an honest client is
//! still served.
//!
//! The loopback interface plays the Internet: the server sees 127.a.b.c as 20.a.b.c, and its transport
//! records every dial and lets none leave.

#[path = "hostile_clients/addresses.rs"]
mod addresses;
#[path = "hostile_clients/dial_data.rs"]
mod dial_data;
#[path = "hostile_clients/floods.rs"]
mod floods;
#[path = "hostile_clients/messages.rs"]
mod messages;
#[path = "hostile_clients/resets.rs"]
mod resets;
#[path = "hostile_clients/slow_loris.rs"]
mod slow_loris;
#[path = "hostile_clients/sockets.rs"]
mod sockets;
mod support;
#[path = "hostile_clients/targets.rs"]
mod targets;

use std::time::Duration;

use asynchronous_codec::Framed;
use futures::{AsyncWriteExt, SinkExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream,
    swarm::{ConnectionId, SwarmEvent},
};
use libp2p_autonat_v2::{
    address::IpScope,
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBackClientCodec, DialRequest, DialStatus,
        Message, MessageCodec, ResponseStatus,
    },
    server::{Config, DialBackOutcome, End, Misbehaviour, NotDelivered, PassedOver, Served},
};
use support::{PATIENCE, RawEvent, RawPeer, autonat::*, frame, public, read_to_end, send, within};

/// An IP of the attacker, and another one that it may name.
const ATTACKER: &str = "127.66.0.1";
const OTHER_IP: &str = "127.66.0.2";

/// Deadlines short enough to wait for, and long enough for an honest client on a slow machine.
fn impatient() -> Config {
    Config::default()
        .with_read_timeout(Duration::from_secs(2))
        .with_dial_data_timeout(Duration::from_secs(3))
        .with_dial_timeout(Duration::from_secs(3))
        .with_dial_back_timeout(Duration::from_secs(3))
        .with_max_delay_after_dial_data(Duration::ZERO)
}

/// A server and an attacker with an IP of its own that is connected to it.
async fn attacked(config: Config) -> (Server, RawPeer, ConnectionId) {
    let mut server = Server::in_public(config);
    server.listen("/ip4/127.0.0.1/tcp/0").await;
    server.listen("/ip4/127.0.0.1/udp/0/quic-v1").await;
    let mut attacker = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = server.connects_to(&mut attacker, ATTACKER).await;
    (server, attacker, connection)
}

/// Asks for the addresses, all of which must be passed over for a reason that `expected` takes.
async fn are_refused(addrs: &[&str], expected: impl Fn(PassedOver) -> bool) {
    let addrs: Vec<Multiaddr> = addrs
        .iter()
        .map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
        .collect();
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let mut request = ask(&mut attacker, connection, &addrs, 1).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    ends_without_a_message(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.passed_over.len(), addrs.len());
    for (index, reason) in served.passed_over {
        assert!(expected(reason), "{}: {reason:?}", addrs[index as usize]);
    }
    dialed_nothing_and_serves_on(server).await;
}

fn is(scope: IpScope) -> impl Fn(PassedOver) -> bool {
    move |reason| reason == PassedOver::NotPublic(scope)
}

async fn dialed_nothing_and_serves_on(mut server: Server) {
    assert_eq!(server.dials.all(), [], "dialed for the attacker");
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

/// The request ended for this cause, without an answer and without a dial.
async fn was_cut_off(mut server: Server, cause: Misbehaviour) -> Box<Served> {
    let served = server.served().await;
    assert_eq!(served.end, End::Misbehaved(cause));
    assert_eq!(served.status, None);
    assert_eq!(served.dial_back, None);
    let misbehaved = server.misbehaved().await;
    assert_eq!(misbehaved.cause, cause);
    assert!(misbehaved.count >= 1);
    dialed_nothing_and_serves_on(server).await;
    served
}

/// Asks for an address on another IP and returns how much is to be paid.
async fn asked_to_pay(attacker: &mut RawPeer, connection: ConnectionId) -> (Requests, u64) {
    let addr = attacker.listen(&format!("/ip4/{OTHER_IP}/tcp/0")).await;
    let mut request = ask(attacker, connection, &[public(&addr)], 1).await;
    let data = dial_data_request(&mut request).await;
    (request, data.num_bytes)
}

async fn nothing_is_answered(stream: &mut Stream) {
    assert_eq!(read_to_end(stream).await, [], "an answer");
}
