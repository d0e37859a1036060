//! Clients that stop in the middle and wait for the server to tire.

use std::time::Instant;

use super::*;

/// Sends pieces, ten in a second, until the stream takes no more. How long that took.
async fn trickle(stream: &mut Stream, piece: &[u8]) -> Duration {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    within(PATIENCE, "the server tires", async {
        loop {
            ticks.tick().await;
            if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    })
    .await;
    start.elapsed()
}

/// The deadlines of [`impatient`], and what they may be missed by on a busy machine.
const REQUEST_IN: Duration = Duration::from_secs(2 + 2);
const DIAL_DATA_IN: Duration = Duration::from_secs(3 + 2);

#[tokio::test]
async fn slow_loris_that_trickles_its_request() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    // A request of 8,000 bytes, which would take a quarter of an hour.
    send(&mut stream, &[0xc0, 0x3e, 0x0a, 0xbd, 0x3e])
        .await
        .expect("sent");
    let took = trickle(&mut stream, &[0]).await;
    assert!(took < REQUEST_IN, "{took:?}");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::SlowRequest).await;
}

#[tokio::test]
async fn slow_loris_that_trickles_a_byte_of_dial_data() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let (request, _) = asked_to_pay(&mut attacker, connection).await;
    let mut stream = request.into_inner();
    send(&mut stream, &[0xc0, 0x3e, 0x22, 0xbd, 0x3e])
        .await
        .expect("sent");
    let took = trickle(&mut stream, &[0]).await;
    assert!(took < DIAL_DATA_IN, "{took:?}");
    was_cut_off(server, Misbehaviour::SlowDialData).await;
}

#[tokio::test]
async fn slow_loris_that_trickles_its_dial_data() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let (request, _) = asked_to_pay(&mut attacker, connection).await;
    let mut stream = request.into_inner();
    let chunk = libp2p_autonat_v2::protocol::DialDataChunk::new(100).expect("allowed");
    let took = trickle(&mut stream, chunk.as_bytes()).await;
    assert!(took < DIAL_DATA_IN, "{took:?}");
    let served = was_cut_off(server, Misbehaviour::SlowDialData).await;
    assert!(served.dial_data_received >= 100);
}

#[tokio::test]
async fn slow_loris_that_never_asks() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::SlowRequest).await;
}

#[tokio::test]
async fn slow_loris_in_the_length() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    send(&mut stream, &[0x80]).await.expect("sent");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::SlowRequest).await;
}

#[tokio::test]
async fn slow_loris_in_the_request() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    send(&mut stream, &[0x40, 0x0a, 0x3e, 0x0a])
        .await
        .expect("sent");
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::SlowRequest).await;
}

#[tokio::test]
async fn slow_loris_in_the_dial_data() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
    pay(&mut request, 8000).await;
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::SlowDialData).await;
}

#[tokio::test]
async fn slow_loris_that_never_takes_the_answer() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let addr = "/ip4/10.0.0.1/tcp/1".parse().expect("valid");
    let request = ask(&mut attacker, connection, &[addr], 1).await;
    // It neither reads nor closes; the server is done with it all the same.
    assert_eq!(server.served().await.end, End::Answered);
    dialed_nothing_and_serves_on(server).await;
    drop(request);
}

#[tokio::test]
async fn slow_loris_that_never_takes_its_rejection() {
    let config = impatient().with_max_requests_per_minute_per_peer(1);
    let (mut server, mut attacker, connection) = attacked(config).await;
    let used = open_request(&mut attacker, connection).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(open_request(&mut attacker, connection).await);
    }
    server.rejected().await;
    // The places that the held streams took become free again, all by themselves.
    within(PATIENCE, "a stream is answered again", async {
        loop {
            let stream = open_request(&mut attacker, connection).await;
            let mut request = Framed::new(stream, MessageCodec::default());
            if let Some(Ok(_)) = request.next().await {
                return;
            }
        }
    })
    .await;
    drop((used, held));
    dialed_nothing_and_serves_on(server).await;
}
