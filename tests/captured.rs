//! What other implementations really send: their messages byte by byte, as `interop/run --capture` recorded them.
//!
//! nim-libp2p is there twice: its present version, and an old one that has a nonce as a varint. The meaning beside each message was decoded by the recorder, not by this crate.

use asynchronous_codec::{BytesMut, Decoder, Encoder};
use libp2p::Multiaddr;
use libp2p_autonat_v2::protocol::{
    DecodeError, DialBack, DialBackClientCodec, DialBackServerCodec, EncodeError, Message,
    MessageCodec, NonceEncoding,
};
use serde_json::{Value, json};

#[path = "captured/zeros.rs"]
mod zeros;

use zeros::with_zeros;

const RECORDINGS: [(&str, &str); 5] = [
    ("go-libp2p", include_str!("captured/go-libp2p.json")),
    ("js-libp2p", include_str!("captured/js-libp2p.json")),
    ("nim-libp2p", include_str!("captured/nim-libp2p.json")),
    (NIM_OF_OLD, include_str!("captured/nim-libp2p-1.15.3.json")),
    ("rust-libp2p", include_str!("captured/rust-libp2p.json")),
];

const NIM_OF_OLD: &str = "nim-libp2p-1.15.3";

struct Frame {
    peer: &'static str,
    /// Where it is from, for whoever reads a failure.
    name: String,
    by_peer: bool,
    role: String,
    stream: String,
    bytes: Vec<u8>,
    meaning: Value,
}

/// All messages, exchange by exchange.
fn exchanges() -> Vec<Vec<Frame>> {
    let mut exchanges = Vec::new();
    for (peer, recording) in RECORDINGS {
        let recording: Value = serde_json::from_str(recording).unwrap();
        assert_eq!(recording["peer"], peer);
        for exchange in recording["exchanges"].as_array().unwrap() {
            let role = exchange["role"].as_str().unwrap();
            let frames = exchange["frames"].as_array().unwrap().iter().enumerate();
            let frames = frames.map(|(i, frame)| {
                let hex = frame["frame_hex"].as_str().unwrap();
                let mut bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
                let zeros = frame["zeros"].as_u64().unwrap_or(0) as usize;
                bytes.resize(bytes.len() + zeros, 0);
                Frame {
                    peer,
                    name: format!("{peer} as {role}, {}, message {i}", exchange["name"]),
                    by_peer: frame["from"] == "peer",
                    role: role.to_owned(),
                    stream: frame["stream"].as_str().unwrap().to_owned(),
                    bytes,
                    meaning: frame["meaning"].clone(),
                }
            });
            exchanges.push(frames.collect());
        }
    }
    assert!(exchanges.len() > 50, "all recordings are there");
    exchanges
}

impl Frame {
    fn by_server(&self) -> bool {
        (self.role == "server") == self.by_peer
    }

    /// What this crate reads in it, and writes for what it read.
    fn there_and_back(&self) -> (Value, Vec<u8>) {
        match (self.stream.as_str(), self.by_server()) {
            ("dial-request", _) => {
                self.through(MessageCodec::default(), MessageCodec::default(), in_words)
            }
            ("dial-back", true) => {
                let (dial_back, encoding) = self.dial_back();
                let mut bytes = BytesMut::new();
                DialBackServerCodec::new()
                    .with_nonce_encoding(encoding)
                    .encode(dial_back, &mut bytes)
                    .expect(&self.name);
                let meaning = json!({ "dial_back": { "nonce": dial_back.nonce } });
                (meaning, bytes.to_vec())
            }
            ("dial-back", false) => self.through(
                DialBackServerCodec::new(),
                DialBackClientCodec::new(),
                |m| json!({ "dial_back_response": { "status": m.status.to_string() } }),
            ),
            (stream, _) => panic!("no such stream: {stream}"),
        }
    }

    fn dial_back(&self) -> (DialBack, NonceEncoding) {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let mut codec = DialBackClientCodec::new();
        let dial_back = codec.decode(&mut bytes).expect(&self.name);
        assert!(bytes.is_empty(), "{}", self.name);
        (dial_back.expect(&self.name), codec.nonce_encoding())
    }

    /// How the nonce is written, if the message has one.
    fn nonce_encoding(&self) -> Option<NonceEncoding> {
        match (self.stream.as_str(), self.by_server()) {
            ("dial-back", true) => Some(self.dial_back().1),
            ("dial-request", false) => {
                let mut bytes = BytesMut::from(&self.bytes[..]);
                match MessageCodec::default().decode(&mut bytes) {
                    Ok(Some(Message::DialRequest(request))) => Some(request.nonce_encoding),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// As this crate writes it. A nonce has no zeros to write out.
    fn with_zeros(&self) -> Vec<u8> {
        match (self.stream.as_str(), self.by_server()) {
            ("dial-back", true) => self.bytes.clone(),
            _ => with_zeros(&self.bytes),
        }
    }

    fn through<D>(
        &self,
        mut reader: D,
        mut writer: impl for<'a> Encoder<Item<'a> = D::Item, Error = EncodeError>,
        in_words: impl Fn(&D::Item) -> Value,
    ) -> (Value, Vec<u8>)
    where
        D: Decoder<Error = DecodeError>,
    {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let message = reader.decode(&mut bytes).expect(&self.name);
        let message = message.expect(&self.name);
        assert!(bytes.is_empty(), "{}", self.name);
        let meaning = in_words(&message);
        writer.encode(message, &mut bytes).expect(&self.name);
        (meaning, bytes.to_vec())
    }
}

fn in_words(message: &Message) -> Value {
    match message {
        Message::DialRequest(request) => {
            let addrs = request.addrs.iter();
            let addrs: Vec<_> = addrs
                .map(|addr| addr.as_ref().map(Multiaddr::to_string))
                .collect();
            json!({ "dial_request": { "addrs": addrs, "nonce": request.nonce } })
        }
        Message::DialResponse(response) => json!({ "dial_response": {
            "status": response.status.to_string(),
            "addr_idx": response.addr_idx,
            "dial_status": response.dial_status.to_string(),
        } }),
        Message::DialDataRequest(request) => json!({ "dial_data_request": {
            "addr_idx": request.addr_idx,
            "num_bytes": request.num_bytes,
        } }),
        Message::DialDataResponse { len } => json!({ "dial_data_response": { "len": len } }),
        other => panic!("no words for {other:?}"),
    }
}

#[test]
fn every_captured_message_is_read_as_it_was_meant() {
    for frame in exchanges().iter().flatten() {
        assert_eq!(frame.there_and_back().0, frame.meaning, "{}", frame.name);
    }
}

#[test]
fn other_implementations_write_the_same_bytes_as_this_crate() {
    for frame in exchanges().iter().flatten().filter(|frame| frame.by_peer) {
        assert_eq!(
            frame.there_and_back().1,
            frame.with_zeros(),
            "{}",
            frame.name
        );
    }
}

#[test]
fn only_old_nim_has_a_varint_for_a_nonce_and_has_it_both_ways() {
    let mut varints = 0;
    for frame in exchanges().iter().flatten() {
        let Some(encoding) = frame.nonce_encoding() else {
            continue;
        };
        let expected = if frame.peer == NIM_OF_OLD {
            varints += 1;
            NonceEncoding::Varint
        } else {
            NonceEncoding::Fixed64
        };
        assert_eq!(encoding, expected, "{}", frame.name);
    }
    assert!(varints > 15, "{varints}");
}

#[test]
fn each_side_of_a_captured_dial_request_stream_is_read_in_one_go() {
    for exchange in exchanges() {
        for by_peer in [true, false] {
            let side: Vec<_> = exchange
                .iter()
                .filter(|frame| frame.by_peer == by_peer && frame.stream == "dial-request")
                .collect();
            let mut bytes = BytesMut::new();
            for frame in &side {
                bytes.extend_from_slice(&frame.bytes);
            }
            let mut codec = MessageCodec::default();
            for frame in side {
                let message = codec.decode(&mut bytes).unwrap().expect(&frame.name);
                assert_eq!(in_words(&message), frame.meaning, "{}", frame.name);
            }
            assert!(bytes.is_empty());
        }
    }
}

#[test]
fn the_nonce_that_was_asked_for_is_the_one_that_is_brought() {
    let mut brought = 0;
    for exchange in exchanges() {
        let asked = exchange
            .iter()
            .find_map(|frame| frame.meaning["dial_request"]["nonce"].as_u64())
            .expect("each exchange has a request");
        for nonce in exchange
            .iter()
            .filter_map(|frame| frame.meaning["dial_back"]["nonce"].as_u64())
        {
            assert_eq!(nonce, asked);
            brought += 1;
        }
    }
    assert!(brought > 20, "{brought}");
}

#[test]
fn js_answers_once_for_each_address_on_the_same_stream() {
    let exchanges = exchanges();
    let several = exchanges
        .iter()
        .find(|exchange| {
            exchange[0]
                .name
                .starts_with("js-libp2p as server, \"several")
        })
        .expect("it was recorded");
    let statuses: Vec<_> = several
        .iter()
        .filter_map(|frame| frame.meaning["dial_response"]["status"].as_str())
        .collect();
    assert_eq!(statuses, ["E_DIAL_REFUSED", "OK"]);
}
