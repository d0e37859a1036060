//! nim-libp2p's form of a zero: written out, where others leave it out as proto3 does. This crate writes it too.

use std::collections::BTreeMap;

/// A frame of the stream `dial-request`, or of `dial-back` from the client to the server, with those zeros written out that
/// nim-libp2p needs. It may have them already.
pub(crate) fn with_zeros(frame: &[u8]) -> Vec<u8> {
    let (_, message) = unsigned_varint::decode::u64(frame).unwrap();
    let message = match message.split_first() {
        // `DialBackResponse`, field 1: the status.
        None | Some((0x08, _)) => with_fields(message, &[1]),
        // `DialResponse`: of an `OK`, the index and the dial status.
        Some((0x12, response)) if is_ok(delimited(response)) => {
            in_field(0x12, &with_fields(delimited(response), &[2, 3]))
        }
        // `DialDataRequest`, field 1: the index.
        Some((0x1a, request)) => in_field(0x1a, &with_fields(delimited(request), &[1])),
        _ => return frame.to_vec(),
    };
    [varint(message.len() as u64), message].concat()
}

fn is_ok(response: &[u8]) -> bool {
    numbers(response).get(&1) == Some(&200)
}

/// The message with each of these fields, all of which are numbers.
fn with_fields(message: &[u8], fields: &[u64]) -> Vec<u8> {
    let mut numbers = numbers(message);
    for field in fields {
        numbers.entry(*field).or_default();
    }
    let fields = numbers.into_iter();
    fields
        .flat_map(|(field, number)| [varint(field << 3), varint(number)].concat())
        .collect()
}

fn numbers(mut message: &[u8]) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    while !message.is_empty() {
        let (tag, rest) = unsigned_varint::decode::u64(message).unwrap();
        assert_eq!(tag & 0b111, 0, "all fields are numbers: {message:02x?}");
        let (number, rest) = unsigned_varint::decode::u64(rest).unwrap();
        numbers.insert(tag >> 3, number);
        message = rest;
    }
    numbers
}

fn delimited(field: &[u8]) -> &[u8] {
    let (len, message) = unsigned_varint::decode::u64(field).unwrap();
    assert_eq!(len, message.len() as u64);
    message
}

fn in_field(tag: u8, message: &[u8]) -> Vec<u8> {
    [&[tag][..], &varint(message.len() as u64), message].concat()
}

fn varint(number: u64) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    unsigned_varint::encode::u64(number, &mut buffer).to_vec()
}
