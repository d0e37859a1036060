//! Clients that do not pay as they should.

use super::*;

#[tokio::test]
async fn dial_data_that_never_comes() {
    let (server, mut attacker, connection) = attacked(impatient()).await;
    let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::SlowDialData).await;
}

#[tokio::test]
async fn dial_data_in_one_byte_pieces() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let (mut request, due) = asked_to_pay(&mut attacker, connection).await;
    for _ in 0..due {
        let sent = request.send(Message::DialDataResponse { len: 1 }).await;
        if sent.is_err() {
            break;
        }
    }
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::SmallDialData).await;
}

#[tokio::test]
async fn dial_data_in_empty_pieces() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
    let _ = request.send(Message::DialDataResponse { len: 0 }).await;
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::SmallDialData).await;
}

#[tokio::test]
async fn dial_data_in_one_oversized_message() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let (request, due) = asked_to_pay(&mut attacker, connection).await;
    let mut stream = request.into_inner();
    let mut length = unsigned_varint::encode::u64_buffer();
    let _ = send(
        &mut stream,
        unsigned_varint::encode::u64(due + 8, &mut length),
    )
    .await;
    nothing_is_answered(&mut stream).await;
    was_cut_off(server, Misbehaviour::TooLong).await;
}

#[tokio::test]
async fn dial_data_without_end() {
    let config = Config::default();
    let (mut server, mut attacker, connection) = attacked(config).await;
    let (request, due) = asked_to_pay(&mut attacker, connection).await;
    let mut stream = request.into_inner();
    let chunk = libp2p_autonat_v2::protocol::DialDataChunk::new(4096).expect("allowed");
    // The server takes what is due and one message more, then no more.
    let mut sent = 0u64;
    within(PATIENCE, "the server cuts the stream", async {
        while stream.write_all(chunk.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {
            sent += 4096;
        }
    })
    .await;
    assert!(sent >= due);
    let served = server.served().await;
    assert_eq!(served.end, End::Misbehaved(Misbehaviour::Unasked));
    assert!(served.dial_data_received < due + 2 * 4096);
    assert!(server.dials.all().len() <= 1, "paid for once");
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn dial_data_that_ends_early() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
    pay(&mut request, 20_000).await;
    request.close().await.expect("the stream half-closes");
    ends_without_a_message(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.end, End::ClientLeft);
    assert_eq!(served.dial_data_received, 20_000);
    dialed_nothing_and_serves_on(server).await;
}

#[tokio::test]
async fn another_message_in_place_of_dial_data() {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
    let again = DialRequest::new(["/ip4/20.66.0.1/tcp/1".parse().expect("valid")], 2);
    request
        .send(Message::DialRequest(again))
        .await
        .expect("sent");
    ends_without_a_message(&mut request).await;
    was_cut_off(server, Misbehaviour::NotDialData).await;
}
