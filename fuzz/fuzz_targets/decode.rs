//! The decoders over arbitrary bytes in arbitrary pieces: the pieces change nothing, each message is taken off the buffer
//! whole, nothing is waited for that is over the limit, and what was read can be written and read again.

#![no_main]

use std::fmt::Debug;

use arbitrary::Arbitrary;
use asynchronous_codec::{BytesMut, Decoder, Encoder};
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::protocol::{
    DialBackClientCodec, DialBackServerCodec, Limits, MAX_DIAL_BACK_LEN, Message, MessageCodec,
};

#[derive(Debug, Arbitrary)]
struct Input {
    stream: Stream,
    /// Lengths of the pieces that the bytes arrive in; the rest comes at once.
    pieces: Vec<u8>,
    bytes: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Stream {
    Requests { max_len: u16, max_addresses: u8 },
    Defaults,
    DialBacks,
    DialBackResponses,
}

/// The longest length prefix.
const PREFIX: usize = 10;

fuzz_target!(|input: Input| {
    let Input {
        stream,
        pieces,
        bytes,
    } = input;
    match stream {
        Stream::Requests {
            max_len,
            max_addresses,
        } => {
            let limits = Limits::default()
                .with_max_message_len(max_len.into())
                .with_max_addresses(max_addresses.into());
            messages(limits, max_len.into(), &bytes, &pieces);
        }
        Stream::Defaults => messages(Limits::default(), 8_192, &bytes, &pieces),
        Stream::DialBacks => {
            let codec = DialBackClientCodec::new;
            for read in both_ways(codec, MAX_DIAL_BACK_LEN, &bytes, &pieces) {
                again(DialBackServerCodec::new(), codec(), read);
            }
        }
        Stream::DialBackResponses => {
            let codec = DialBackServerCodec::new;
            for read in both_ways(codec, MAX_DIAL_BACK_LEN, &bytes, &pieces) {
                again(DialBackClientCodec::new(), codec(), read);
            }
        }
    }
});

fn messages(limits: Limits, max_len: usize, bytes: &[u8], pieces: &[u8]) {
    let codec = || MessageCodec::new(limits);
    for mut read in both_ways(codec, max_len, bytes, pieces) {
        if let Message::DialRequest(request) = &mut read {
            // Those were counted and not kept.
            request.unread = 0;
        }
        again(codec(), codec(), read);
    }
}

/// What comes out, which is the same whether the bytes come at once or in pieces.
fn both_ways<D>(codec: impl Fn() -> D, max_len: usize, bytes: &[u8], pieces: &[u8]) -> Vec<D::Item>
where
    D: Decoder<Item: Debug + PartialEq, Error: Debug>,
{
    let (whole, end) = read(codec(), max_len, bytes, &[]);
    let (in_pieces, same_end) = read(codec(), max_len, bytes, pieces);
    assert_eq!(whole, in_pieces);
    assert_eq!(end, same_end);
    whole
}

/// The messages up to the first error or the end, and the error.
fn read<D>(mut codec: D, max_len: usize, mut bytes: &[u8], pieces: &[u8]) -> (Vec<D::Item>, String)
where
    D: Decoder<Item: Debug, Error: Debug>,
{
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    let mut pieces = pieces.iter();
    loop {
        let piece = pieces.next().map_or(bytes.len(), |len| usize::from(*len));
        let (piece, rest) = bytes.split_at(piece.min(bytes.len()));
        buffer.extend_from_slice(piece);
        bytes = rest;
        loop {
            let buffered = buffer.len();
            match codec.decode(&mut buffer) {
                Ok(Some(message)) => {
                    assert!(buffer.len() < buffered, "a message out of nothing");
                    messages.push(message);
                }
                Ok(None) => {
                    assert_eq!(buffer.len(), buffered, "taken without a message");
                    assert!(buffered < max_len + PREFIX, "waits beyond the limit");
                    break;
                }
                Err(error) => return (messages, format!("{error:?}")),
            }
        }
        if bytes.is_empty() {
            let end = codec.decode_eof(&mut buffer);
            return (messages, format!("{end:?}"));
        }
    }
}

/// Writes the message, if it may be written, and reads it.
fn again<E, D, M>(mut encoder: E, mut decoder: D, message: M)
where
    for<'a> E: Encoder<Item<'a> = M>,
    D: Decoder<Item = M, Error: Debug>,
    M: Clone + Debug + PartialEq,
{
    let mut buffer = BytesMut::new();
    if encoder.encode(message.clone(), &mut buffer).is_ok() {
        let read = decoder.decode(&mut buffer);
        assert_eq!(read.expect("what was written can be read"), Some(message));
        assert!(buffer.is_empty());
    }
}
