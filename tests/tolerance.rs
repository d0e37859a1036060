//! What the client and the server must put up with, since implementations that are in use do it. No foreign peer is
//! needed: raw streams do here what `interop/` has seen others do. Each tolerance has one named reason.
//!
//! The rest of the list is tested elsewhere:
//!
//! | tolerance | reason | test |
//! |---|---|---|
//! | a nonce up to 5 s after the response | go-libp2p | `reachability::nonces::a_nonce_may_come_five_seconds_after_the_response` |
//! | `E_DIAL_BACK_ERROR` although the nonce came | every server that loses the acknowledgement | `reachability::verdicts::a_dial_back_error_with_the_nonce_is_proof` |
//! | `E_DIAL_ERROR` after 25 s is no evidence | js-libp2p gives up addresses undialed | `reachability::verdicts::a_failure_later_than_25_s_is_none` |
//! | one request at a time to a server | js-libp2p resets the third | `reachability::servers::no_script_makes_the_core_ask_more_than_six_times_a_minute_or_twice_at_once` |
//! | requests under 1,024 bytes | nim-libp2p | `reachability::servers::a_request_names_ten_addresses_at_most_and_fits_1024_bytes` |
//! | our own `/p2p` on an address | js-libp2p | `reachability::candidates::our_own_peer_id_at_the_end_makes_no_other_address` |
//! | dial data that overshoots | js-libp2p | `server::the_last_message_of_dial_data_may_overshoot` |
//! | a half-close after the request, or none | both are seen | `server::a_client_may_half_close_after_its_request`, all others |
//! | a reset right after the acknowledgement | go-libp2p | `server::a_client_that_resets_right_after_the_response_byte_has_the_nonce` |
//! | addresses that do not parse | go-libp2p skips them | `server::an_address_that_does_not_parse_keeps_its_index` |
//! | 20 s for a request, 30 s with several addresses | js-libp2p takes up to 30 s | `reachability::config::tests::a_request_has_the_time_that_servers_take` |
//! | a request that comes over the server's own dial-back connection | js-libp2p, which runs its client there | `server::a_dial_back_connection_offers_the_protocol_and_serves_nobody` |
//! | a status that is not known | the specification discards it | `client::exchange::tests::a_response_with_an_unknown_status_is_discarded` |
//! | an acknowledgement without a byte of content | proto3 leaves out what is 0 | `wire::every_valid_vector_means_what_it_says_and_is_written_alike` |
//! | a server that reads a nonce as a varint only | nim-libp2p until 2.0.0 | `nim::a_server_that_cannot_read_the_nonce_is_asked_once_more_with_a_varint` |
//! | a client that has its nonce as a varint, and needs it back so | nim-libp2p until 2.0.0 | `nim::a_client_that_has_the_nonce_as_a_varint_gets_it_as_a_varint` |
//! | zeros that have to be written out | nim-libp2p | `wire::zeros_are_written_where_an_address_was_dialed_or_is_to_be` |
//! | one dial, one answer, whatever is asked | the specification | `server::the_first_address_that_passes_is_dialed_and_no_other` |

mod support;

#[path = "tolerance/nim.rs"]
mod nim;

use std::time::Duration;

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt, future};
use libp2p::Multiaddr;
use libp2p_autonat_v2::{
    client::{Config, ProbeOutcome, Verdict},
    protocol::{
        DialBack, DialBackServerCodec, DialDataRequest, DialResponse, DialStatus, Message,
        ResponseStatus,
    },
    reachability::ProbeEnd,
};
use support::{
    PATIENCE,
    autonat::{dialed, not_dialed},
    serving::{Client, QUIC, RawServer, TCP},
    within,
};

/// A client with so many addresses, connected to a server.
async fn scene(transport: &str, addresses: usize) -> (Client, RawServer, Vec<Multiaddr>) {
    let mut server = RawServer::new();
    let served_at = server.node.listen(transport).await;
    // Time enough for all addresses to be there before the first request.
    let long = Duration::from_secs(600);
    let config = Config::default()
        .with_gather_delay(Duration::from_millis(250))
        .with_request_timeouts(long, long);
    let mut client = Client::new(config);
    let mut listening = Vec::new();
    for _ in 0..addresses {
        listening.push(client.node.listen(transport).await);
    }
    client.connect(&served_at).await;
    (client, server, listening)
}

async fn over_both<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    future::join(test(TCP), test(QUIC)).await;
}

/// Once other servers had time to come.
async fn is_reachable(client: &Client, address: &Multiaddr) {
    let verdict = async || client.report(address).await.expect("tracked").verdict;
    within(PATIENCE, "the address is reachable", async {
        while verdict().await != Verdict::Reachable {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// js-libp2p: dials every address in order, asks for dial data for each, delivers the same nonce on several connections, and
/// answers for each on the one stream; a refusal may come first.
#[tokio::test]
async fn a_server_may_dial_and_answer_for_every_address_of_a_request() {
    over_both(async |transport| {
        let (mut client, mut server, _) = scene(transport, 3).await;
        let mut asked = server.asked().await;
        let addresses: Vec<_> = asked.request.addrs.iter().flatten().cloned().collect();
        assert!(addresses.len() >= 3, "{addresses:?}");

        let refusal = DialResponse {
            status: ResponseStatus::DialRefused,
            addr_idx: 0,
            dial_status: DialStatus::Unused,
        };
        asked.respond(refusal).await;
        for (addr_idx, address) in (0..).zip(&addresses).skip(1) {
            let request = DialDataRequest {
                addr_idx,
                num_bytes: 30_000,
            };
            asked.send(Message::DialDataRequest(request)).await;
            let mut paid = 0;
            while paid < 30_000 {
                let data = within(PATIENCE, "dial data", asked.stream.next()).await;
                let Some(Ok(Message::DialDataResponse { len })) = data else {
                    panic!("not dial data: {data:?}");
                };
                paid += len;
            }
            assert!(server.dial_back(&asked, address).await, "{address}");
            asked.respond(dialed(addr_idx, DialStatus::Ok)).await;
        }
        for address in &addresses[1..] {
            client.confirmed(address).await;
            is_reachable(&client, address).await;
        }
        assert_eq!(
            client.probed(&addresses[0]).await.outcome,
            ProbeOutcome::Refused
        );
    })
    .await;
}

/// go-libp2p: a host of its own dials back.
#[tokio::test]
async fn the_dial_back_may_come_from_another_peer_id() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut asked = server.asked().await;
        let mut dialer = RawServer::new();
        assert!(dialer.dial_back(&asked, &listening[0]).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        client.confirmed(&listening[0]).await;
    })
    .await;
}

/// go-libp2p: takes the nonce for delivered once it is written, and closes the dialer's connections.
#[tokio::test]
async fn the_connection_may_close_right_after_the_nonce() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut asked = server.asked().await;
        let connection = server.dial(asked.client, &listening[0]).await;
        let stream = server.open_dial_back(connection).await;
        let mut framed = Framed::new(stream, DialBackServerCodec::new());
        let nonce = asked.request.nonce;
        framed.send(DialBack { nonce }).await.expect("sent");
        // Over QUIC what was not sent yet is lost with the connection: one byte of the answer shows that it arrived.
        within(PATIENCE, "the acknowledgement", framed.next()).await;
        server.close(connection).await;
        asked.respond(dialed(0, DialStatus::Ok)).await;
        client.confirmed(&listening[0]).await;
    })
    .await;
}

/// `libp2p-autonat` 0.16: leaves the dial-back connection open, and resets the dial-back stream.
#[tokio::test]
async fn the_dial_back_connection_may_stay_open() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut asked = server.asked().await;
        let connection = server.dial(asked.client, &listening[0]).await;
        assert!(server.deliver(connection, asked.request.nonce).await);
        asked.respond(dialed(0, DialStatus::Ok)).await;
        client.confirmed(&listening[0]).await;
        client.is_idle().await;
        is_reachable(&client, &listening[0]).await;
    })
    .await;
}

/// js-libp2p on addresses that it takes for private, `libp2p-autonat` 0.16 on blackholed ones: the stream just ends.
#[tokio::test]
async fn a_stream_that_ends_without_an_answer_is_no_failure_of_the_address() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let asked = server.asked().await;
        server.drops(asked).await;
        assert_eq!(
            client.probed(&listening[0]).await.outcome,
            ProbeOutcome::NoAnswer(ProbeEnd::Reset)
        );
        client.is_idle().await;
        client.knows_nothing_of(&listening[0]).await;
        client.learns_from_an_honest_server(&listening[0]).await;
    })
    .await;
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut asked = server.asked().await;
        asked.stream.close().await.expect("closed");
        // The client asks again, as of a server that can't read the request.
        let mut again = server.asked().await;
        again.stream.close().await.expect("closed");
        let outcome = client.probed(&listening[0]).await.outcome;
        assert_eq!(outcome, ProbeOutcome::NoAnswer(ProbeEnd::Reset));
        client.is_idle().await;
        client.knows_nothing_of(&listening[0]).await;
    })
    .await;
}

/// A server may answer before the nonce is through.
#[tokio::test]
async fn the_nonce_may_come_after_the_answer() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut asked = server.asked().await;
        asked.respond(dialed(0, DialStatus::Ok)).await;
        client.knows_nothing_of(&listening[0]).await;
        assert!(server.dial_back(&asked, &listening[0]).await);
        client.confirmed(&listening[0]).await;
        is_reachable(&client, &listening[0]).await;
    })
    .await;
}

/// go-libp2p answers what is over its limit before it reads the request, and ends the stream.
#[tokio::test]
async fn a_rejection_may_come_before_the_request_is_read() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let (_, _, stream) = server.accept().await;
        let mut stream = Framed::new(stream, libp2p_autonat_v2::protocol::MessageCodec::default());
        let rejection = not_dialed(ResponseStatus::RequestRejected);
        stream
            .send(Message::DialResponse(rejection))
            .await
            .expect("sent");
        stream.close().await.expect("closed");
        assert_eq!(
            client.probed(&listening[0]).await.outcome,
            ProbeOutcome::Rejected
        );
        client.knows_nothing_of(&listening[0]).await;
    })
    .await;
}

/// go-libp2p resets on messages under 100 bytes that are not the last one, others on ones with more than 4,096.
#[tokio::test]
async fn dial_data_comes_in_messages_that_all_servers_take_and_is_paid_to_the_byte() {
    over_both(async |transport| {
        for num_bytes in [30_000, 32_768, 100_000] {
            let (_client, mut server, _) = scene(transport, 1).await;
            let mut asked = server.asked().await;
            let request = DialDataRequest {
                addr_idx: 0,
                num_bytes,
            };
            asked.send(Message::DialDataRequest(request)).await;
            let mut paid = 0;
            while paid < num_bytes {
                let data = within(PATIENCE, "dial data", asked.stream.next()).await;
                let Some(Ok(Message::DialDataResponse { len })) = data else {
                    panic!("not dial data: {data:?}");
                };
                paid += len as u64;
                assert!(len <= 4096, "{len}");
                assert!(len >= 100 || paid == num_bytes, "{len}");
            }
            assert_eq!(paid, num_bytes);
        }
    })
    .await;
}
