//! What holds for every message and for any bytes.

use asynchronous_codec::{BytesMut, Decoder, Encoder};
use libp2p::Multiaddr;
use libp2p_autonat_v2::protocol::{
    DecodeError, DialBack, DialBackClientCodec, DialBackServerCodec, DialData, DialDataRequest,
    DialRequest, DialResponse, DialStatus, MAX_ADDRESSES, MAX_DIAL_DATA_CHUNK, Message,
    MessageCodec, NonceEncoding, ResponseStatus, write_dial_data,
};
use proptest::prelude::*;

fn addresses() -> impl Strategy<Value = Multiaddr> {
    let host = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| format!("/ip4/{}", std::net::Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| format!("/ip6/{}", std::net::Ipv6Addr::from(ip))),
        "[a-z]{1,60}\\.[a-z]{2,9}".prop_map(|name| format!("/dns/{name}")),
    ];
    let transport = prop_oneof![
        any::<u16>().prop_map(|port| format!("/tcp/{port}")),
        any::<u16>().prop_map(|port| format!("/tcp/{port}/tls/ws")),
        any::<u16>().prop_map(|port| format!("/udp/{port}/quic-v1")),
    ];
    (host, transport).prop_map(|(host, transport)| (host + &transport).parse().unwrap())
}

fn nonce_encodings() -> impl Strategy<Value = NonceEncoding> {
    prop::sample::select(vec![NonceEncoding::Fixed64, NonceEncoding::Varint])
}

fn messages() -> impl Strategy<Value = Message> {
    let response_status = prop::sample::select(vec![
        ResponseStatus::InternalError,
        ResponseStatus::RequestRejected,
        ResponseStatus::DialRefused,
        ResponseStatus::Ok,
    ]);
    let dial_status = prop::sample::select(vec![
        DialStatus::Unused,
        DialStatus::DialError,
        DialStatus::DialBackError,
        DialStatus::Ok,
    ]);
    prop_oneof![
        (
            prop::collection::vec(addresses(), 0..=MAX_ADDRESSES),
            any::<u64>(),
            nonce_encodings(),
        )
            .prop_map(|(addrs, nonce, encoding)| {
                let request = DialRequest::new(addrs, nonce).with_nonce_encoding(encoding);
                Message::DialRequest(request)
            }),
        (response_status, any::<u32>(), dial_status).prop_map(|(status, addr_idx, dial_status)| {
            Message::DialResponse(DialResponse {
                status,
                addr_idx,
                dial_status,
            })
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(addr_idx, num_bytes)| {
            Message::DialDataRequest(DialDataRequest {
                addr_idx,
                num_bytes,
            })
        }),
        (0..=MAX_DIAL_DATA_CHUNK).prop_map(|len| Message::DialDataResponse { len }),
    ]
}

/// A stream of good messages, with some bytes changed, added or lost.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (
        prop::collection::vec(messages(), 1..6),
        prop::collection::vec(damage, 0..4),
    )
        .prop_map(|(messages, damage)| {
            let mut stream = BytesMut::new();
            for message in messages {
                MessageCodec::default()
                    .encode(message, &mut stream)
                    .unwrap();
            }
            let mut stream = stream.to_vec();
            for (at, byte, kind) in damage {
                if stream.is_empty() {
                    break;
                }
                let at = at.index(stream.len());
                match kind {
                    0 => stream[at] = byte,
                    1 => stream.insert(at, byte),
                    2 => drop(stream.remove(at)),
                    _ => stream.truncate(at),
                }
            }
            stream
        })
}

/// Everything that a decoder makes of a stream that arrives in these pieces.
fn read_in_pieces(pieces: &[&[u8]]) -> Vec<Result<Message, String>> {
    let mut codec = MessageCodec::default();
    let mut src = BytesMut::new();
    let mut read = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        src.extend_from_slice(piece);
        loop {
            let is_last = i + 1 == pieces.len();
            let result = match is_last {
                true => codec.decode_eof(&mut src),
                false => codec.decode(&mut src),
            };
            match result {
                Ok(Some(message)) => read.push(Ok(message)),
                Ok(None) => break,
                Err(error) => {
                    read.push(Err(format!("{error:?}")));
                    if !error.is_resumable() {
                        return read;
                    }
                }
            }
        }
    }
    read
}

/// The stream, cut at these places.
fn cut<'a>(stream: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|at| at.index(stream.len() + 1)).collect();
    places.push(0);
    places.push(stream.len());
    places.sort_unstable();
    places
        .windows(2)
        .map(|ends| &stream[ends[0]..ends[1]])
        .collect()
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was_written(messages in prop::collection::vec(messages(), 1..5)) {
        let mut codec = MessageCodec::default();
        let mut stream = BytesMut::new();
        for message in &messages {
            codec.encode(message.clone(), &mut stream).unwrap();
        }
        for message in messages {
            prop_assert_eq!(codec.decode(&mut stream).unwrap(), Some(message));
        }
        prop_assert!(codec.decode_eof(&mut stream).unwrap().is_none());
    }

    #[test]
    fn a_nonce_comes_back_as_it_was_written(nonce in any::<u64>(), encoding in nonce_encodings()) {
        let mut stream = BytesMut::new();
        let mut codec = DialBackServerCodec::new().with_nonce_encoding(encoding);
        codec.encode(DialBack { nonce }, &mut stream).unwrap();
        let read = DialBackClientCodec::new().decode_eof(&mut stream).unwrap();
        prop_assert_eq!(read, Some(DialBack { nonce }));
    }

    #[test]
    fn what_is_read_does_not_depend_on_the_pieces_it_came_in(
        stream in prop_oneof![streams(), prop::collection::vec(any::<u8>(), 0..200)],
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        prop_assert_eq!(read_in_pieces(&cut(&stream, &places)), read_in_pieces(&[&stream]));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_or_its_buffer_grow(
        stream in prop_oneof![streams(), prop::collection::vec(any::<u8>(), 0..200)],
    ) {
        fn drain<D: Decoder<Error = DecodeError>>(mut codec: D, stream: &[u8]) {
            let mut src = BytesMut::from(stream);
            let end = src.as_ptr() as usize + src.capacity();
            loop {
                let before = src.len();
                match codec.decode_eof(&mut src) {
                    Ok(None) => break,
                    Err(error) if !error.is_resumable() => break,
                    _ => assert!(src.len() < before, "a message takes bytes off"),
                }
                assert_eq!(src.as_ptr() as usize + src.capacity(), end);
            }
        }
        drain(MessageCodec::default(), &stream);
        drain(DialBackServerCodec::new(), &stream);
        drain(DialBackClientCodec::new(), &stream);
    }

    #[test]
    fn dial_data_pays_what_is_asked_for(num_bytes in 0..2_000_000u64) {
        let chunks: Vec<_> = DialData::new(num_bytes).collect();
        prop_assert_eq!(chunks.iter().map(|c| c.len() as u64).sum::<u64>(), num_bytes);
        let full = chunks.iter().filter(|c| c.len() == MAX_DIAL_DATA_CHUNK).count();
        prop_assert!(chunks.len() - full <= 1);
    }
}

/// Takes a few bytes at a time, as many as the next of `steps` says, and nothing in between.
struct Narrow {
    written: Vec<u8>,
    steps: Vec<usize>,
    ready: bool,
}

impl futures::AsyncWrite for Narrow {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        let step = self.steps[self.written.len() % self.steps.len()].min(bytes.len());
        self.written.extend_from_slice(&bytes[..step]);
        std::task::Poll::Ready(Ok(step))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

proptest! {
    #[test]
    fn dial_data_is_the_same_however_the_stream_takes_it(
        num_bytes in 0u64..=100_000,
        steps in proptest::collection::vec(1usize..20_000, 1..8),
    ) {
        let mut stream = Narrow { written: Vec::new(), steps, ready: false };
        futures::executor::block_on(write_dial_data(&mut stream, num_bytes)).unwrap();
        let expected: Vec<u8> = DialData::new(num_bytes)
            .flat_map(|chunk| chunk.as_bytes().to_vec())
            .collect();
        prop_assert_eq!(stream.written, expected);
    }
}
