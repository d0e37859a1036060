//! nim-libp2p 1.15.3 as it was recorded (`tests/captured/nim-libp2p-1.15.3.json`), as a server and as a client.
//!
//! It has a nonce as a varint both ways, and takes a message without a field that it knows for none, zero or not. All that is
//! changed in its messages are the nonce that a client of ours draws and the port where this test listens.

use libp2p::{
    PeerId, Stream,
    futures::{AsyncReadExt, AsyncWriteExt},
};
use libp2p_autonat_v2::{
    protocol::DIAL_BACK_PROTOCOL,
    server::{self, DialBackOutcome, End},
};
use serde_json::Value;

use super::*;
use crate::support::{
    RawPeer, address_of,
    autonat::{Server, open_request},
    frame, send,
};

/// An exchange of the recording.
struct Recorded(Value);

impl Recorded {
    /// `role`: nim's.
    fn find(role: &str, name: &str) -> Self {
        let recording = include_str!("../captured/nim-libp2p-1.15.3.json");
        let recording: Value = serde_json::from_str(recording).unwrap();
        let mut exchanges = recording["exchanges"].as_array().unwrap().iter();
        let exchange = exchanges.find(|it| it["role"] == role && it["name"] == name);
        Self(exchange.expect("it was recorded").clone())
    }

    /// The first message of this kind, which this side sent.
    fn message(&self, by: &str, kind: &str) -> Option<Vec<u8>> {
        let mut frames = self.0["frames"].as_array().unwrap().iter();
        let message = frames.find(|it| it["from"] == by && it["meaning"].get(kind).is_some())?;
        let hex = message["frame_hex"].as_str().unwrap();
        let mut bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        let zeros = message["zeros"].as_u64().unwrap_or(0) as usize;
        bytes.resize(bytes.len() + zeros, 0);
        Some(bytes)
    }

    fn nim(&self, kind: &str) -> Vec<u8> {
        self.message("peer", kind).expect(kind)
    }

    /// What nim took for this kind of message.
    fn tap(&self, kind: &str) -> Vec<u8> {
        self.message("tap", kind).expect(kind)
    }
}

fn varint(number: u64) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    unsigned_varint::encode::u64(number, &mut buffer).to_vec()
}

/// The next message, its length included. `None` at the end of the stream.
async fn read(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    within(PATIENCE, "a message", async {
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.ok()?;
            frame.extend(byte);
            if let Ok((len, _)) = unsigned_varint::decode::usize(&frame) {
                let start = frame.len();
                frame.resize(start + len, 0);
                stream.read_exact(&mut frame[start..]).await.ok()?;
                return Some(frame);
            }
        }
    })
    .await
}

// ---- as a server ----

/// What nim reads in a request for one address, if it can: the nonce.
fn nonce_of(request: &[u8]) -> Option<u64> {
    let (_, message) = unsigned_varint::decode::usize(request).unwrap();
    let (_, request) = unsigned_varint::decode::usize(message.strip_prefix(&[0x0a])?).unwrap();
    let (len, rest) = unsigned_varint::decode::usize(request.strip_prefix(&[0x0a])?).unwrap();
    let (nonce, rest) = unsigned_varint::decode::u64(rest[len..].strip_prefix(&[0x10])?).unwrap();
    assert!(rest.is_empty(), "a nonce, and nothing else");
    Some(nonce)
}

/// A request that nim has read.
struct Question {
    client: PeerId,
    stream: Stream,
    nonce: u64,
    /// How many requests before it were dropped.
    dropped: usize,
}

async fn reads(server: &mut RawServer) -> Question {
    let mut dropped = 0;
    loop {
        let (client, _, mut stream) = server.accept().await;
        let request = read(&mut stream).await.expect("a request");
        if let Some(nonce) = nonce_of(&request) {
            return Question {
                client,
                stream,
                nonce,
                dropped,
            };
        }
        dropped += 1;
    }
}

/// Brings the nonce, and takes the acknowledgement if nim can read it.
async fn dials_back(
    server: &mut RawServer,
    question: &Question,
    addr: &Multiaddr,
    recorded: &Recorded,
) {
    let connection = server.dial(question.client, addr).await;
    let mut stream = server.open_dial_back(connection).await;
    let nonce = |nonce| frame(&[&[0x08][..], &varint(nonce)].concat());
    assert_eq!(recorded.nim("dial_back"), nonce(18_364_758_544_493_064_720));
    send(&mut stream, &nonce(question.nonce)).await.unwrap();
    let acknowledgement = read(&mut stream).await.expect("an acknowledgement");
    assert_eq!(acknowledgement, recorded.tap("dial_back_response"));
    server.close(connection).await;
}

/// nim-libp2p before 2.1.0 drops a request that has the nonce as fixed64, unread.
#[tokio::test]
async fn a_server_that_cannot_read_the_nonce_is_asked_once_more_with_a_varint() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let recorded = Recorded::find("server", "reachable");
        let mut question = reads(&mut server).await;
        assert_eq!(question.dropped, 1);
        dials_back(&mut server, &question, &listening[0], &recorded).await;
        send(&mut question.stream, &recorded.nim("dial_response"))
            .await
            .unwrap();
        question.stream.close().await.unwrap();
        // It is one probe to the core.
        let outcome = client.probed(&listening[0]).await.outcome;
        assert!(matches!(outcome, ProbeOutcome::Reachable(_)), "{outcome:?}");
        is_reachable(&client, &listening[0]).await;

        let address = listening[0].clone();
        client
            .with(move |autonat| autonat.check_now(&address).expect("tracked"))
            .await;
        let question = reads(&mut server).await;
        assert_eq!(question.dropped, 0, "what worked is remembered");
    })
    .await;
}

#[tokio::test]
async fn a_server_of_old_nim_is_paid_and_believed_in_its_refusals() {
    over_both(async |transport| {
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let recorded = Recorded::find("server", "another IP");
        let mut question = reads(&mut server).await;
        send(&mut question.stream, &recorded.nim("dial_data_request"))
            .await
            .unwrap();
        let mut paid = 0;
        while paid < 51_200 {
            let data = read(&mut question.stream).await.expect("dial data");
            // Two tags and two lengths of two bytes each, and the length of the message.
            paid += data.len() - 8;
        }
        assert_eq!(paid, 51_200);
        dials_back(&mut server, &question, &listening[0], &recorded).await;
        send(&mut question.stream, &recorded.nim("dial_response"))
            .await
            .unwrap();
        client.confirmed(&listening[0]).await;

        // It said so of a dial that failed, too, until June 2026.
        let closed = Recorded::find("server", "closed port");
        let (mut client, mut server, listening) = scene(transport, 1).await;
        let mut question = reads(&mut server).await;
        send(&mut question.stream, &closed.nim("dial_response"))
            .await
            .unwrap();
        question.stream.close().await.unwrap();
        assert_eq!(
            client.probed(&listening[0]).await.outcome,
            ProbeOutcome::Refused
        );
        client.knows_nothing_of(&listening[0]).await;
    })
    .await;
}

// ---- as a client ----

/// nim-libp2p before 2.1.0 takes our nonce for none, and its versions up to 2.2.1 an answer without an index for one about no
/// address.
#[tokio::test]
async fn a_client_that_has_the_nonce_as_a_varint_gets_it_as_a_varint() {
    for name in ["reachable", "dial data", "several"] {
        let recorded = Recorded::find("client", name);
        let pays = name == "dial data";
        let config = server::Config::default().with_max_delay_after_dial_data(Duration::ZERO);
        let mut server = Server::in_public(config);
        server.listen("/ip4/127.0.0.1/tcp/0").await;
        let mut nim = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        let seen_at = if pays { "127.1.0.4" } else { "127.1.0.2" };
        let connection = server.connects_to(&mut nim, seen_at).await;
        let port = address_of(&nim.listen("/ip4/127.1.0.2/tcp/0").await).port();

        let mut stream = open_request(&mut nim, connection).await;
        let request = at_port(&recorded.nim("dial_request"), port);
        send(&mut stream, &request).await.unwrap();
        if pays {
            // The zero before the number of bytes.
            let ask = read(&mut stream).await.expect("a request for dial data");
            let (_, ask) = unsigned_varint::decode::usize(&ask).unwrap();
            let number = ask[2..]
                .strip_prefix(&[0x08, 0x00, 0x10])
                .expect("an index");
            let (due, _) = unsigned_varint::decode::usize(number).unwrap();
            let data = recorded.nim("dial_data_response");
            for _ in 0..due.div_ceil(1024) {
                send(&mut stream, &data).await.unwrap();
            }
        }

        let (_, _, mut dial_back) = nim.accept().await;
        let nonce = read(&mut dial_back).await.expect("a nonce");
        assert_eq!(nonce, recorded.tap("dial_back"), "{name}");
        send(&mut dial_back, &recorded.nim("dial_back_response"))
            .await
            .unwrap();
        dial_back.close().await.unwrap();

        let response = read(&mut stream).await.expect("a response");
        let nims_own = Recorded::find("server", "reachable").nim("dial_response");
        assert_eq!(response, nims_own, "{name}");
        let served = server.served().await;
        assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
        assert_eq!(served.end, End::Answered);
    }
}

/// The recorded request, with another port for that of its first address.
fn at_port(request: &[u8], port: u16) -> Vec<u8> {
    let recorded = [4, 20, 1, 0, 2, 6, 0x0f, 0xa2];
    let at = request
        .windows(recorded.len())
        .position(|window| window == recorded)
        .expect("the address of the recording");
    let mut request = request.to_vec();
    request[at + 6..at + 8].copy_from_slice(&port.to_be_bytes());
    request
}
