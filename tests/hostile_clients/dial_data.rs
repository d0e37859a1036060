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

/// A message of so much dial data: `before` stands in front of it in the `DialDataResponse`, `behind` behind that in the
/// message.
fn padded(len: usize, before: &[u8], behind: &[u8]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag], &frame(bytes)[..]].concat();
    let response = [before, &field(0x0a, &vec![0; len])].concat();
    frame(&[&field(0x22, &response), behind].concat())
}

/// Pays in these messages until the server has enough.
async fn is_not_taken_for_payment(message: Vec<u8>) {
    let (server, mut attacker, connection) = attacked(Config::default()).await;
    let (request, _) = asked_to_pay(&mut attacker, connection).await;
    let mut stream = request.into_inner();
    within(PATIENCE, "the server cuts the stream", async {
        while stream.write_all(&message).await.is_ok() && stream.flush().await.is_ok() {}
    })
    .await;
    let served = was_cut_off(server, Misbehaviour::PaddedDialData).await;
    assert!(served.dial_data_received <= 2 * 100, "after the second one");
}

#[tokio::test]
async fn dial_data_padded_with_unknown_fields() {
    let unknown = [&[0x4a], &frame(&[7; 8000])[..]].concat();
    is_not_taken_for_payment(padded(100, &[], &unknown)).await;
}

#[tokio::test]
async fn dial_data_padded_with_unknown_fields_inside() {
    let unknown = [&[0x4a], &frame(&[7; 8000])[..]].concat();
    is_not_taken_for_payment(padded(100, &unknown, &[])).await;
}

#[tokio::test]
async fn dial_data_padded_with_dial_data_that_the_last_field_replaces() {
    let replaced = [&[0x0a], &frame(&[7; 8000])[..]].concat();
    is_not_taken_for_payment(padded(100, &replaced, &[])).await;
}

/// A client that pays in messages of this size, the last one too, is dialed.
async fn is_served_in_messages_of(len: usize) {
    let (mut server, mut client, connection) = attacked(impatient()).await;
    let (mut request, due) = asked_to_pay(&mut client, connection).await;
    let messages = due.div_ceil(len as u64);
    for _ in 0..messages {
        let message = Message::DialDataResponse { len };
        request.send(message).await.expect("sent");
    }
    acknowledge(&mut client).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    let served = server.served().await;
    assert_eq!(served.dial_data_received, messages * len as u64);
}

#[tokio::test]
async fn dial_data_in_small_pieces_or_large_ones_is_not_padded() {
    for len in [100, 101, 1024, 4000, 4096] {
        is_served_in_messages_of(len).await;
    }
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
