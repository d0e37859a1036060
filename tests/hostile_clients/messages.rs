//! Messages that are too many, too long, or not what they should be.

use std::ops::ControlFlow;

use super::*;

#[tokio::test]
async fn ten_thousand_addresses_in_a_request() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    let addr: Multiaddr = "/ip4/20.66.0.1/tcp/1".parse().expect("valid");
    let mut request = Vec::new();
    for _ in 0..10_000 {
        request.extend_from_slice(&[0x0a, addr.len() as u8]);
        request.extend_from_slice(addr.as_ref());
    }
    // The server stops at the length, so that the rest may not be taken.
    let _ = send(&mut stream, &frame(&request)).await;
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::TooLong).await;
}

#[tokio::test]
async fn thousands_of_addresses_within_the_length() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    // Empty addresses take two bytes each.
    let request: Vec<u8> = [0x0a, 0x00].repeat(4000);
    let mut message = vec![0x0a, 0xc0, 0x3e];
    message.extend_from_slice(&request);
    send(&mut stream, &frame(&message)).await.expect("sent");
    let mut request = Framed::new(stream, MessageCodec::default());
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    let served = server.served().await;
    assert_eq!(served.asked_in_all, 4000);
    assert_eq!(served.passed_over.len(), 50);
    dialed_nothing_and_serves_on(server).await;
}

#[tokio::test]
async fn a_length_of_many_gigabytes() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    send(&mut stream, &[0xff, 0xff, 0xff, 0xff, 0x7f])
        .await
        .expect("sent");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::TooLong).await;
}

#[tokio::test]
async fn a_length_without_end() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    send(&mut stream, &[0xff; 64]).await.expect("sent");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::Garbage).await;
}

#[tokio::test]
async fn garbage() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    send(&mut stream, b"\x14GET / HTTP/1.1\r\n\r\n\r\n")
        .await
        .expect("sent");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::Garbage).await;
}

#[tokio::test]
async fn an_answer_in_place_of_a_request() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let stream = open_request(&mut attacker, connection).await;
    let mut request = Framed::new(stream, MessageCodec::default());
    request
        .send(Message::DialResponse(dialed(0, DialStatus::Ok)))
        .await
        .expect("sent");
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::NotARequest).await;
}

/// What a dial would bring is missing.
#[tokio::test]
async fn a_request_without_a_nonce_that_can_be_read() {
    let unreadable: [&[u8]; 3] = [
        &[],
        // Bytes, and four bytes.
        &[0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x15, 1, 2, 3, 4],
    ];
    for nonce in unreadable {
        let (server, mut attacker, connection) = attacked(Config::default()).await;
        let addr = attacker.listen(&format!("/ip4/{ATTACKER}/tcp/0")).await;
        let addr = public(&addr).to_vec();
        let request = [&[0x0a, addr.len() as u8][..], &addr, nonce].concat();
        let message = [&[0x0a, request.len() as u8][..], &request].concat();
        let mut stream = open_request(&mut attacker, connection).await;
        send(&mut stream, &frame(&message)).await.expect("sent");
        nothing_is_answered(&mut stream).await;
        was_cut_off(server, Misbehaviour::NoNonce).await;
    }
}

#[tokio::test]
async fn a_second_request_on_the_stream() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    // The first one's dial is under way while the second one comes.
    let silent = std::net::TcpListener::bind((ATTACKER, 0)).expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let addr: Multiaddr = format!("/ip4/20.66.0.1/tcp/{port}").parse().expect("valid");
    let mut request = ask(&mut attacker, connection, std::slice::from_ref(&addr), 1).await;
    request
        .send(Message::DialRequest(DialRequest::new([addr], 2)))
        .await
        .expect("sent");
    ends_without_a_message(&mut request).await;
    assert_eq!(
        server.served().await.end,
        End::Misbehaved(Misbehaviour::Unasked)
    );
    assert!(server.dials.all().len() <= 1, "never a second dial");
    drop(silent);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

/// Opens streams all at once, and returns those that were not dropped at once when all are settled or the
/// connection is gone.
async fn open_at_once(
    server: &Server,
    attacker: &mut RawPeer,
    connection: ConnectionId,
    count: usize,
) -> Vec<Stream> {
    attacker
        .with(move |swarm| {
            for _ in 0..count {
                swarm
                    .behaviour_mut()
                    .open(connection, DIAL_REQUEST_PROTOCOL);
            }
        })
        .await;
    let mut streams = Vec::new();
    for _ in 0..count {
        let settled = attacker
            .take("a stream is opened or not", |event| match event {
                SwarmEvent::Behaviour(RawEvent::Opened { result, .. }) => {
                    ControlFlow::Break(Some(result))
                }
                SwarmEvent::ConnectionClosed { .. } => ControlFlow::Break(None),
                other => ControlFlow::Continue(other),
            })
            .await;
        let Some(result) = settled else { break };
        streams.extend(result.ok());
        let load = server.load().await;
        assert!(load.requests <= 2, "two at once for a peer: {load:?}");
    }
    streams
}

#[tokio::test]
async fn hundreds_of_parallel_streams() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let streams = open_at_once(&server, &mut attacker, connection, 400).await;
    assert_eq!(
        server.misbehaved().await.cause,
        Misbehaviour::TooManyStreams
    );
    assert_eq!(server.dials.all(), []);
    server.serves_an_honest_client().await;
    drop(streams);
    server.is_idle().await;
}

#[tokio::test]
async fn a_thousand_parallel_streams() {
    // The muxer closes the connection at 512 of them.
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let streams = open_at_once(&server, &mut attacker, connection, 1000).await;
    assert!(streams.len() < 1000);
    assert_eq!(server.dials.all(), []);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}
