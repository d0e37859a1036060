//! The hand-written readers and writers against the generated code.

use proptest::prelude::*;

use super::*;

/// Bytes that look like protobuf often enough to get deep into a reader: tags of this protocol
/// and others, lengths that fit and lengths that do not.
fn bytes_like_protobuf() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(vec![
        0x08, 0x09, 0x0a, 0x0d, 0x10, 0x11, 0x12, 0x18, 0x1a, 0x22, 0x2a, 0x3a,
    ]);
    let byte = prop_oneof![4 => tag, 3 => 0..12u8, 1 => any::<u8>(), 1 => Just(0x80)];
    prop::collection::vec(byte, 0..40)
}

/// Messages whose lengths are all right, of fields that are known or not, in any order and number.
fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (1..5u8, any::<u64>()).prop_map(|(number, value)| {
            let mut bytes = vec![number << 3];
            put_varint(value, &mut bytes);
            bytes
        }),
        (1..5u8, any::<[u8; 8]>()).prop_map(|(number, value)| {
            let mut bytes = vec![number << 3 | 1];
            bytes.extend(value);
            bytes
        }),
        (1..5u8, any::<[u8; 4]>()).prop_map(|(number, value)| {
            let mut bytes = vec![number << 3 | 5];
            bytes.extend(value);
            bytes
        }),
        (1..5u8, prop::collection::vec(any::<u8>(), 0..300)).prop_map(delimited),
    ];
    let inner = prop::collection::vec(leaf.clone(), 0..5).prop_map(|fields| fields.concat());
    let field = prop_oneof![4 => (1..6u8, inner).prop_map(delimited), 1 => leaf];
    prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat())
}

fn delimited((number, value): (u8, Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    put_varint(value.len() as u64, &mut bytes);
    bytes.extend(value);
    bytes
}

fn put_varint(number: u64, bytes: &mut Vec<u8>) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    bytes.extend(unsigned_varint::encode::u64(number, &mut buffer));
}

/// As the generated code reads a request with a varint for a nonce.
fn varint_by_the_generated_code(bytes: &[u8]) -> Option<u64> {
    let mut reader = BytesReader::from_bytes(bytes);
    match pb::VarintMessage::from_reader(&mut reader, bytes) {
        Ok(pb::VarintMessage {
            msg: mod_VarintMessage::OneOfmsg::dialRequest(request),
        }) => request.nonce,
        other => panic!("not a request: {other:?}"),
    }
}

fn by_the_generated_code(bytes: &[u8]) -> quick_protobuf::Result<pb::Message<'_>> {
    pb::Message::from_reader(&mut BytesReader::from_bytes(bytes), bytes)
}

/// What our reader is to make of a message that the generated code has read.
fn meaning(message: &pb::Message<'_>) -> Result<Message, String> {
    let refuse = |error: DecodeError| format!("{error:?}");
    match &message.msg {
        OneOfmsg::dialRequest(request) => {
            let addrs: Vec<_> = request.addrs.iter().map(|a| parse_address(a)).collect();
            let unparsed = request.addrs.iter().zip(&addrs);
            let unparsed = unparsed.filter(|(_, addr)| addr.is_none());
            Ok(Message::DialRequest(DialRequest {
                unparsed: unparsed.map(|(bytes, _)| bytes[..].into()).collect(),
                addrs,
                nonce: request.nonce.unwrap_or(0),
                nonce_encoding: NonceEncoding::Fixed64,
                without_nonce: request.nonce.is_none(),
                unread: 0,
            }))
        }
        OneOfmsg::dialResponse(response) => {
            let pb::DialResponse {
                status,
                addrIdx,
                dialStatus,
            } = *response;
            let (status, dial_status) = (status.unwrap_or(0), dialStatus.unwrap_or(0));
            Ok(Message::DialResponse(DialResponse {
                status: ResponseStatus::from_code(status)
                    .ok_or_else(|| refuse(DecodeError::UnknownResponseStatus(status)))?,
                addr_idx: addrIdx.unwrap_or(0),
                dial_status: DialStatus::from_code(dial_status)
                    .ok_or_else(|| refuse(DecodeError::UnknownDialStatus(dial_status)))?,
            }))
        }
        OneOfmsg::dialDataRequest(request) => Ok(Message::DialDataRequest(DialDataRequest {
            addr_idx: request.addrIdx.unwrap_or(0),
            num_bytes: request.numBytes.unwrap_or(0),
        })),
        OneOfmsg::dialDataResponse(response) => Ok(Message::DialDataResponse {
            len: response.data.as_ref().map_or(0, |data| data.len()),
        }),
        OneOfmsg::None => Err(refuse(DecodeError::EmptyMessage)),
    }
}

/// Our two readers and the generated one must agree about these bytes.
fn agree(bytes: &[u8]) {
    let read = read_message(bytes, usize::MAX);
    if let Some(len) = dial_data::read_header(bytes) {
        assert_eq!(read.as_ref().ok(), Some(&Message::DialDataResponse { len }));
    }
    if matches!(read, Err(DecodeError::Malformed(_))) {
        // Not for quick-protobuf: it may panic or never return.
        return;
    }
    let generated = by_the_generated_code(bytes).expect("what was walked over can be read");
    let mut meaning = meaning(&generated);
    // Of the generated readers each knows one kind of nonce.
    if let (Ok(Message::DialRequest(read)), Ok(Message::DialRequest(expected))) =
        (&read, &mut meaning)
        && read.nonce_encoding == NonceEncoding::Varint
    {
        expected.nonce = varint_by_the_generated_code(bytes).expect("a varint");
        expected.nonce_encoding = NonceEncoding::Varint;
        expected.without_nonce = false;
    }
    assert_eq!(read.map_err(|error| format!("{error:?}")), meaning);
}

proptest! {
    #[test]
    fn all_readers_agree_on_any_bytes(bytes in bytes_like_protobuf()) {
        agree(&bytes);
    }

    #[test]
    fn all_readers_agree_on_any_message(bytes in well_formed()) {
        agree(&bytes);
    }

    #[test]
    fn dial_data_is_counted_alike_by_header_and_by_field(
        len in 0..5000usize, wide in any::<bool>(), tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut inner = vec![DATA];
        put_len(len, wide, &mut inner);
        inner.resize(inner.len() + len, 0xaa);
        let mut bytes = vec![RESPONSE];
        put_len(inner.len(), wide, &mut bytes);
        bytes.extend(inner);
        prop_assert_eq!(dial_data::read_header(&bytes), Some(len));
        agree(&bytes);

        bytes.extend(&tail);
        prop_assert_eq!(dial_data::read_header(&bytes).is_some(), tail.is_empty());
        agree(&bytes);
    }
}

const RESPONSE: u8 = 0x22;
const DATA: u8 = 0x0a;

/// A length, as a minimal varint or with a byte more than it needs.
fn put_len(len: usize, wide: bool, bytes: &mut Vec<u8>) {
    put_varint(len as u64, bytes);
    if wide {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    }
}

#[test]
fn dial_data_written_by_hand_is_what_the_generated_code_writes() {
    for len in 0..=MAX_DIAL_DATA_CHUNK {
        let data = (len > 0).then(|| Cow::Owned(vec![0; len]));
        let message = pb::Message {
            msg: OneOfmsg::dialDataResponse(pb::DialDataResponse { data }),
        };
        let mut expected = BytesMut::new();
        append_frame(&message, usize::MAX, &mut expected).unwrap();

        let mut frame = BytesMut::new();
        append_dial_data(len, usize::MAX, &mut frame).unwrap();
        assert_eq!(frame, expected, "{len} bytes");
        assert_eq!(dial_data::message_len(len), message.get_size());
    }
}

/// Each of these makes quick-protobuf 0.8 read behind the end of the nested message. The last one
/// it reads for ever, a new address each time, unless overflow checks make it panic.
#[test]
fn a_nested_message_is_held_to_its_bounds() {
    for bytes in [
        // A varint that begins in the nested message and ends behind it.
        &[0x12, 0x02, 0x08, 0x80, 0x01][..],
        // An address longer than the request it is in.
        &[0x0a, 0x02, 0x0a, 0x05, 1, 2, 3, 4, 5],
        // A nonce longer than the request it is in.
        &[0x0a, 0x02, 0x11, 1, 2, 3, 4, 5, 6, 7, 8],
        // The second, then an unknown field whose length of 2^64 - 18 leads back to the address.
        &[
            0x0a, 0x02, 0x0a, 0x05, 1, 2, 3, 4, 5, 0x2a, 0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0x01,
        ],
    ] {
        assert!(
            matches!(
                read_message(bytes, usize::MAX),
                Err(DecodeError::Malformed(Malformed::Overrun))
            ),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn every_byte_of_a_message_is_counted_also_those_that_mean_nothing() {
    let mut codec = MessageCodec::default();
    let unknown = delimited((9, vec![7; 500]));
    let repeated = [delimited((1, vec![0; 300])), delimited((1, vec![0; 100]))].concat();
    let message = [delimited((4, repeated)), unknown].concat();
    let mut frame = BytesMut::new();
    let mut bytes = Vec::new();
    put_varint(message.len() as u64, &mut bytes);
    bytes.extend(message);
    frame.extend_from_slice(&bytes);
    let read = codec.decode(&mut frame).expect("well-formed");
    assert_eq!(read, Some(Message::DialDataResponse { len: 100 }));
    assert_eq!(codec.bytes_read(), bytes.len() as u64);
    // What has not arrived in full is not counted yet.
    frame.extend_from_slice(&bytes[..9]);
    assert!(matches!(codec.decode(&mut frame), Ok(None)));
    assert_eq!(codec.bytes_read(), bytes.len() as u64);
}
