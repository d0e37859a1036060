//! Attacks on the client by servers, and by peers that pretend to be some.
//!
//! Each attack runs over TCP and over QUIC. After it nothing is confirmed, no outcome counts, no probe is left, and an
//! honest server gets the address confirmed.

mod support;

use std::time::Duration;

use futures::{AsyncWriteExt, SinkExt, StreamExt, future};
use libp2p::{
    Multiaddr,
    swarm::{ConnectionId, SwarmEvent},
};
use libp2p_autonat_v2::{
    client::{Config, ProbeOutcome, Verdict, Violation},
    protocol::{DialDataRequest, DialStatus, Message, ResponseStatus},
    reachability::ProbeEnd,
};
use support::{
    autonat::{dialed, not_dialed},
    frame, read_to_end, send,
    serving::{Asked, Client, QUIC, RawServer, TCP},
    within,
};

/// A client with one address and a hostile server that it is connected to.
struct Scene {
    client: Client,
    server: RawServer,
    address: Multiaddr,
    /// The client's end of the connection.
    connection: ConnectionId,
}

/// No request runs out of time however slow the machine is, so that it ends as the server makes it end.
fn unhurried() -> Config {
    let long = Duration::from_secs(600);
    Config::default().with_request_timeouts(long, long)
}

/// A request runs out of time while the test waits for it, and an honest server on a slow machine is still in time.
fn hurried() -> Config {
    let short = Duration::from_secs(4);
    Config::default().with_request_timeouts(short, short)
}

fn violation(violation: Violation) -> ProbeOutcome {
    ProbeOutcome::NoAnswer(ProbeEnd::ProtocolViolation(violation))
}

impl Scene {
    async fn new(transport: &str) -> Self {
        Self::with_config(transport, unhurried()).await
    }

    async fn with_config(transport: &str, config: Config) -> Self {
        let mut server = RawServer::new();
        let served_at = server.node.listen(transport).await;
        let mut client = Client::new(config.with_addresses_per_request(1));
        let address = client.node.listen(transport).await;
        let connection = client.connect(&served_at).await;
        Self {
            client,
            server,
            address,
            connection,
        }
    }

    async fn asked(&mut self) -> Asked {
        let asked = self.server.asked().await;
        assert_eq!(asked.address(), self.address);
        asked
    }

    /// The probe ends like this, and the client is none the wiser and none the worse.
    async fn comes_to(mut self, outcome: ProbeOutcome) {
        let probed = self.client.probed(&self.address).await;
        assert_eq!(probed.outcome, outcome);
        assert_eq!(probed.server, self.server.peer_id());
        self.assert_unharmed().await;
    }

    /// The probe ends with the connection, or with the stream that broke just before.
    async fn breaks_off(mut self) {
        let outcome = self.client.probed(&self.address).await.outcome;
        assert!(
            matches!(
                outcome,
                ProbeOutcome::NoAnswer(ProbeEnd::ConnectionClosed | ProbeEnd::Reset)
            ),
            "{outcome:?}"
        );
        self.assert_unharmed().await;
    }

    async fn assert_unharmed(mut self) {
        self.client.is_idle().await;
        self.client.knows_nothing_of(&self.address).await;
        let sizes = self.client.sizes().await;
        assert!(sizes.addresses <= 3 && sizes.servers <= 1, "{sizes:?}");
        self.client
            .learns_from_an_honest_server(&self.address)
            .await;
    }
}

/// Runs an attack over both transports at once.
async fn over_both<F: Future<Output = ()>>(attack: impl Fn(&'static str) -> F) {
    future::join(attack(TCP), attack(QUIC)).await;
}

async fn asks_to_be_paid(requests: &[(u32, u64)], outcome: ProbeOutcome) {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        for (addr_idx, num_bytes) in requests.iter().copied() {
            let request = DialDataRequest {
                addr_idx,
                num_bytes,
            };
            asked.send(Message::DialDataRequest(request)).await;
        }
        let paid = asked.ended().await as u64;
        let due = requests.first().map_or(0, |(_, bytes)| *bytes);
        assert!(paid <= due, "{paid} bytes paid");
        if requests.len() == 1 {
            assert_eq!(paid, 0);
        }
        scene.comes_to(outcome).await;
    })
    .await;
}

#[tokio::test]
async fn dial_data_for_an_index_out_of_range() {
    for index in [1, 63, 64, u32::MAX] {
        asks_to_be_paid(&[(index, 30_000)], violation(Violation::DialDataIndex)).await;
    }
}

#[tokio::test]
async fn too_much_dial_data() {
    for bytes in [100_001, u64::MAX] {
        asks_to_be_paid(&[(0, bytes)], violation(Violation::DialDataSize)).await;
    }
}

#[tokio::test]
async fn dial_data_twice_for_one_address() {
    asks_to_be_paid(
        &[(0, 40_000), (0, 40_000)],
        violation(Violation::DialDataIndex),
    )
    .await;
}

async fn says(messages: &[&[u8]], outcome: ProbeOutcome) {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(message);
        }
        // What the client does not wait for it need not take.
        let _ = send(&mut asked.stream, &bytes).await;
        asked.ended().await;
        scene.comes_to(outcome).await;
    })
    .await;
}

/// A `Message` with a `DialResponse` of this status, index and dial status, each under 16,384.
fn response(status: u16, index: u16, dial_status: u16) -> Vec<u8> {
    let mut response = Vec::new();
    for (tag, value) in [(0x08, status), (0x10, index), (0x18, dial_status)] {
        response.extend([tag, (value & 0x7f) as u8 | 0x80, (value >> 7) as u8]);
    }
    let mut message = vec![0x12, response.len() as u8];
    message.extend(response);
    frame(&message)
}

#[tokio::test]
async fn unknown_status() {
    let no_answer = ProbeOutcome::NoAnswer(ProbeEnd::Completed);
    says(&[&response(42, 0, 0)], no_answer).await;
    says(&[&response(200, 0, 42)], no_answer).await;
}

#[tokio::test]
async fn response_for_an_index_out_of_range() {
    for status in [100, 200] {
        says(&[&response(200, 1, status)], violation(Violation::Response)).await;
    }
}

#[tokio::test]
async fn response_without_a_dial_status() {
    says(&[&response(200, 0, 0)], violation(Violation::Response)).await;
}

#[tokio::test]
async fn garbage() {
    says(&[&frame(&[0xff; 100])], violation(Violation::Undecodable)).await;
    says(&[&[0xff; 100]], violation(Violation::Undecodable)).await;
    says(&[&frame(b"")], violation(Violation::Undecodable)).await;
}

#[tokio::test]
async fn length_over_the_limit() {
    says(&[&[0x81, 0x40]], violation(Violation::TooLong)).await;
    says(
        &[&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
        violation(Violation::TooLong),
    )
    .await;
}

#[tokio::test]
async fn message_of_a_client() {
    // A DialRequest without addresses, and a DialDataResponse.
    says(
        &[&frame(&[0x0a, 0x00])],
        violation(Violation::UnexpectedMessage),
    )
    .await;
    says(
        &[&frame(&[0x22, 0x02, 0x0a, 0x00])],
        violation(Violation::UnexpectedMessage),
    )
    .await;
}

#[tokio::test]
async fn ok_without_a_nonce() {
    says(&[&response(200, 0, 200)], ProbeOutcome::NonceMissing).await;
}

#[tokio::test]
async fn endless_responses_for_one_address() {
    let endless = response(200, 0, 200).repeat(1_000);
    says(&[&endless], ProbeOutcome::NonceMissing).await;
    let endless = response(100, 0, 0).repeat(1_000);
    says(&[&endless], ProbeOutcome::Rejected).await;
}

#[tokio::test]
async fn endless_responses_for_several_addresses() {
    over_both(async |transport| {
        let mut server = RawServer::new();
        let served_at = server.node.listen(transport).await;
        let mut client = Client::new(unhurried());
        let address = client.node.listen(transport).await;
        for _ in 0..3 {
            client.node.listen(transport).await;
        }
        client.connect(&served_at).await;
        let mut asked = server.asked().await;
        assert!(asked.request.addrs.len() >= 4, "{:?}", asked.request);
        let endless = response(200, 0, 200).repeat(1_000);
        let _ = send(&mut asked.stream, &endless).await;
        asked.ended().await;
        // The second one is against the protocol, and what comes after it is not read for ever.
        let first = asked.address();
        assert_eq!(
            client.probed(&first).await.outcome,
            violation(Violation::Response)
        );
        client.is_idle().await;
        client.knows_nothing_of(&first).await;
        client.learns_from_an_honest_server(&address).await;
    })
    .await;
}

/// Delivers what `deliver` delivers, which is not acknowledged, and claims that all is well.
async fn delivers<F>(
    transport: &'static str,
    deliver: impl FnOnce(RawServer, ConnectionId, u64) -> F,
) where
    F: Future<Output = (RawServer, bool)>,
{
    let mut scene = Scene::new(transport).await;
    let mut asked = scene.asked().await;
    let connection = scene.server.dial(asked.client, &scene.address).await;
    let acknowledged;
    (scene.server, acknowledged) = deliver(scene.server, connection, asked.request.nonce).await;
    assert!(!acknowledged);
    asked.respond(dialed(0, DialStatus::Ok)).await;
    asked.ended().await;
    scene.comes_to(ProbeOutcome::NonceMissing).await;
}

#[tokio::test]
async fn wrong_nonce() {
    over_both(|transport| {
        delivers(transport, async |mut server, connection, nonce| {
            let mut acknowledged = server.deliver(connection, nonce ^ 1).await;
            acknowledged |= server.deliver(connection, 0).await;
            acknowledged |= server.deliver(connection, nonce.swap_bytes()).await;
            (server, acknowledged)
        })
    })
    .await;
}

#[tokio::test]
async fn garbage_for_a_nonce() {
    over_both(|transport| {
        delivers(transport, async |mut server, connection, nonce| {
            let fixed64 = nonce.to_le_bytes();
            let long = [&[0x09][..], &fixed64, &[0x12, 0xff, 0x7f], &[0; 100]].concat();
            for bytes in [
                vec![0xff; 50],
                frame(&[0xff; 9]),
                vec![0xff, 0x7f],
                frame(&long),
            ] {
                let mut stream = server.open_dial_back(connection).await;
                let _ = send(&mut stream, &bytes).await;
                assert!(read_to_end(&mut stream).await.is_empty());
            }
            (server, false)
        })
    })
    .await;
}

#[tokio::test]
async fn nonce_on_the_connection_of_the_request() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        let nonce = asked.request.nonce;
        assert!(!scene.server.deliver(asked.connection, nonce).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        asked.ended().await;
        scene.comes_to(ProbeOutcome::NonceMissing).await;
    })
    .await;
}

#[tokio::test]
async fn nonce_on_another_outbound_connection() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        // The client dials again, while the request is under way.
        let addr = scene.server.node.listen(transport).await;
        let client = scene.client.node.peer_id;
        scene.client.connect(&addr).await;
        let second = scene.server.node.connected_by(client).await;
        let second = if second == asked.connection {
            scene.server.node.connected_by(client).await
        } else {
            second
        };
        assert!(!scene.server.deliver(second, asked.request.nonce).await);
        let first = asked.connection;
        drop(asked);
        // The link may be dead, and the server not: it is asked on the other one.
        let again = scene.asked().await;
        assert_ne!(again.connection, first);
        drop(again);
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Reset))
            .await;
    })
    .await;
}

#[tokio::test]
async fn nonce_on_an_inbound_connection_older_than_the_request() {
    over_both(async |transport| {
        let mut server = RawServer::new();
        let mut client = Client::new(unhurried().with_addresses_per_request(1));
        let address = client.node.listen(transport).await;
        let connection = server.dial(client.node.peer_id, &address).await;
        let mut asked = server.asked().await;
        assert_eq!(asked.connection, connection);
        assert!(!server.deliver(connection, asked.request.nonce).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        asked.ended().await;
        assert_eq!(
            client.probed(&address).await.outcome,
            ProbeOutcome::NonceMissing
        );
        client.is_idle().await;
        client.knows_nothing_of(&address).await;
        client.learns_from_an_honest_server(&address).await;
    })
    .await;
}

#[tokio::test]
async fn nonce_over_another_protocol_stack() {
    over_both(async |transport| {
        let other = if transport == TCP { QUIC } else { TCP };
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        // It is listened on only now, so that the request is about the other one.
        let detour = scene.client.node.listen(other).await;
        assert!(!scene.server.dial_back(&asked, &detour).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        asked.ended().await;
        let outcome = scene.client.probed(&scene.address).await.outcome;
        assert_eq!(outcome, ProbeOutcome::NonceMissing);
        // The fault stays with that address, and the server is asked about the other one.
        let about = scene.server.asked().await;
        assert_eq!(about.address(), detour);
        drop(about);
        scene.client.is_idle().await;
        scene.client.knows_nothing_of(&scene.address).await;
        scene.client.knows_nothing_of(&detour).await;
        scene
            .client
            .learns_from_an_honest_server(&scene.address)
            .await;
    })
    .await;
}

#[tokio::test]
async fn nonce_through_a_relay() {
    use libp2p::{identity::Keypair, multiaddr::Protocol, relay};

    let keypair = Keypair::generate_ed25519();
    let behaviour = relay::Behaviour::new(keypair.public().to_peer_id(), relay::Config::default());
    let mut relay = support::Node::spawn(support::swarm(keypair, behaviour));
    let relay_at = relay.listen(TCP).await.with(Protocol::P2p(relay.peer_id));
    let relayed_at = relay_at.clone();
    relay
        .with(move |swarm| swarm.add_external_address(relay_at))
        .await;

    let mut server = RawServer::with_relay_client();
    let served_at = server.node.listen(TCP).await;
    let mut client = Client::with_relay_client(unhurried().with_addresses_per_request(1));
    let address = client.node.listen(TCP).await;
    let circuit = relayed_at.with(Protocol::P2pCircuit);
    let listen_on = circuit.clone();
    client
        .node
        .with(move |swarm| swarm.listen_on(listen_on).map(drop))
        .await
        .expect("the client can listen through a relay");
    client
        .node
        .event("a reservation", |event| match event {
            SwarmEvent::NewListenAddr { address, .. }
                if address.iter().any(|part| part == Protocol::P2pCircuit) =>
            {
                Some(())
            }
            _ => None,
        })
        .await;

    client.connect(&served_at).await;
    let mut asked = server.asked().await;
    assert_eq!(asked.address(), address);
    // Inbound, newer than the request, and over TCP as far as the relay.
    let through = circuit.with(Protocol::P2p(client.node.peer_id));
    let connection = server.dial(client.node.peer_id, &through).await;
    assert!(!server.deliver(connection, asked.request.nonce).await);
    asked.respond(dialed(0, DialStatus::Ok)).await;
    asked.ended().await;
    assert_eq!(
        client.probed(&address).await.outcome,
        ProbeOutcome::NonceMissing
    );
    client.is_idle().await;
    let report = client.report(&address).await.expect("tracked");
    assert_eq!((report.verdict, report.servers), (Verdict::Unknown, 0));
    client.learns_from_an_honest_server(&address).await;
}

#[tokio::test]
async fn repeated_nonce() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        assert!(scene.server.dial_back(&asked, &scene.address).await);
        assert!(!scene.server.dial_back(&asked, &scene.address).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        asked.ended().await;
        scene.client.confirmed(&scene.address).await;
        scene.client.is_idle().await;
        // Nor when the probe is over.
        assert!(!scene.server.dial_back(&asked, &scene.address).await);
        let report = scene.client.report(&scene.address).await.expect("tracked");
        assert_eq!((report.verdict, report.servers), (Verdict::Reachable, 1));
    })
    .await;
}

#[tokio::test]
async fn repeated_nonce_on_one_connection() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        let connection = scene.server.dial(asked.client, &scene.address).await;
        assert!(scene.server.deliver(connection, asked.request.nonce).await);
        assert!(!scene.server.deliver(connection, asked.request.nonce).await);
    })
    .await;
}

#[tokio::test]
async fn unsolicited_nonce() {
    over_both(async |transport| {
        let mut server = RawServer::new();
        let mut client = Client::new(unhurried());
        let address = client.node.listen(transport).await;
        // Without a request of this client.
        let mut stranger = RawServer::new();
        let connection = stranger.dial(client.node.peer_id, &address).await;
        for nonce in [0, 1, u64::MAX] {
            assert!(!stranger.deliver(connection, nonce).await);
        }
        // From a request that was given up.
        let connection = server.dial(client.node.peer_id, &address).await;
        let asked = server.asked().await;
        let nonce = asked.request.nonce;
        server.drops(asked).await;
        assert_eq!(
            client.probed(&address).await.outcome,
            ProbeOutcome::NoAnswer(ProbeEnd::Reset)
        );
        assert!(!server.deliver(connection, nonce).await);
        client.knows_nothing_of(&address).await;
        client.learns_from_an_honest_server(&address).await;
    })
    .await;
}

#[tokio::test]
async fn closed_before_the_stream_opens() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        scene.server.drops(asked).await;
        scene.client.probed(&scene.address).await;
        scene.client.is_idle().await;
        // The next probe leaves at the moment when the connection ends.
        for _ in 0..10 {
            let served_at = scene.server.node.listen(transport).await;
            let connection = scene.client.connect(&served_at).await;
            let address = scene.address.clone();
            scene
                .client
                .node
                .with(move |swarm| {
                    swarm
                        .behaviour_mut()
                        .autonat
                        .check_now(&address)
                        .expect("it is tracked");
                    swarm.close_connection(connection)
                })
                .await;
            scene.client.node.closed(connection).await;
        }
        scene.assert_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn closed_after_the_request() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        scene.server.close(asked.connection).await;
        scene.client.node.closed(scene.connection).await;
        scene.breaks_off().await;
    })
    .await;
}

#[tokio::test]
async fn closed_during_dial_data() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        let request = DialDataRequest {
            addr_idx: 0,
            num_bytes: 100_000,
        };
        asked.send(Message::DialDataRequest(request)).await;
        let first = within(support::PATIENCE, "dial data", asked.stream.next()).await;
        assert!(matches!(
            first,
            Some(Ok(Message::DialDataResponse { len: 4096 }))
        ));
        scene.server.close(asked.connection).await;
        scene.breaks_off().await;
    })
    .await;
}

#[tokio::test]
async fn closed_during_a_dial_back() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        let connection = scene.server.dial(asked.client, &scene.address).await;
        let mut stream = scene.server.open_dial_back(connection).await;
        send(&mut stream, &[0x09, 0x09]).await.expect("sent");
        scene.server.close(connection).await;
        scene.server.close(asked.connection).await;
        scene.breaks_off().await;
    })
    .await;
}

#[tokio::test]
async fn never_answers() {
    over_both(async |transport| {
        let mut scene = Scene::with_config(transport, hurried()).await;
        let mut asked = scene.asked().await;
        asked.ended().await;
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Timeout))
            .await;
    })
    .await;
}

#[tokio::test]
async fn never_reads_dial_data() {
    over_both(async |transport| {
        let mut scene = Scene::with_config(transport, hurried()).await;
        let mut asked = scene.asked().await;
        let request = DialDataRequest {
            addr_idx: 0,
            num_bytes: 100_000,
        };
        asked.send(Message::DialDataRequest(request)).await;
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Timeout))
            .await;
    })
    .await;
}

#[tokio::test]
async fn answers_a_byte_at_a_time() {
    over_both(async |transport| {
        let mut scene = Scene::with_config(transport, hurried()).await;
        let mut asked = scene.asked().await;
        // The start of a long message, and no end of it.
        let mut drip = async |byte: u8| send(&mut asked.stream, &[byte]).await;
        drip(0xff).await.expect("sent");
        drip(0x3f).await.expect("sent");
        for _ in 0..100 {
            if drip(0).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Timeout))
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_dial_back_streams() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        let connection = scene.server.dial(asked.client, &scene.address).await;
        // Two may be silent for a while; there is no room for a third one.
        let silent = [
            scene.server.open_dial_back(connection).await,
            scene.server.open_dial_back(connection).await,
        ];
        let mut third = scene.server.open_dial_back(connection).await;
        assert!(read_to_end(&mut third).await.is_empty());
        for _ in 0..1_000 {
            let mut stream = scene.server.open_dial_back(connection).await;
            // Should this take so long that the two have been given up: an end of the stream is no nonce either.
            let _ = stream.close().await;
            assert!(read_to_end(&mut stream).await.is_empty());
        }
        for mut stream in silent {
            assert!(read_to_end(&mut stream).await.is_empty());
        }
        // The right nonce still gets in.
        assert!(scene.server.deliver(connection, asked.request.nonce).await);
        drop(asked);
        let outcome = scene.client.probed(&scene.address).await.outcome;
        assert!(matches!(outcome, ProbeOutcome::Reachable(_)), "{outcome:?}");
        scene.client.is_idle().await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_wrong_nonces() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let asked = scene.asked().await;
        let connection = scene.server.dial(asked.client, &scene.address).await;
        for wrong in 0..1_000 {
            let nonce = asked.request.nonce.wrapping_add(1 + wrong);
            assert!(!scene.server.deliver(connection, nonce).await);
        }
        drop(asked);
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Reset))
            .await;
    })
    .await;
}

#[tokio::test]
async fn dial_back_stream_that_stalls() {
    over_both(async |transport| {
        let mut scene = Scene::new(transport).await;
        let mut asked = scene.asked().await;
        let connection = scene.server.dial(asked.client, &scene.address).await;
        let mut silent = scene.server.open_dial_back(connection).await;
        let mut halfway = scene.server.open_dial_back(connection).await;
        send(&mut halfway, &[0x09, 0x09, 1, 2, 3])
            .await
            .expect("sent");
        assert!(read_to_end(&mut silent).await.is_empty());
        assert!(read_to_end(&mut halfway).await.is_empty());
        asked.respond(not_dialed(ResponseStatus::DialRefused)).await;
        asked.ended().await;
        scene.comes_to(ProbeOutcome::Refused).await;
    })
    .await;
}

#[tokio::test]
async fn responses_that_are_not_about_a_dial() {
    for (status, outcome) in [
        (ResponseStatus::InternalError, ProbeOutcome::InternalError),
        (ResponseStatus::RequestRejected, ProbeOutcome::Rejected),
        (ResponseStatus::DialRefused, ProbeOutcome::Refused),
    ] {
        over_both(async |transport| {
            let mut scene = Scene::new(transport).await;
            let mut asked = scene.asked().await;
            asked.respond(not_dialed(status)).await;
            let _ = asked.stream.close().await;
            asked.ended().await;
            scene.comes_to(outcome).await;
        })
        .await;
    }
}
