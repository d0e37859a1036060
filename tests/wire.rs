//! The wire format: vectors made by Google's protobuf runtime, hostile input, limits.

use std::collections::BTreeMap;

use asynchronous_codec::{BytesMut, Decoder, Encoder, Framed, FramedRead};
use futures::{SinkExt, StreamExt, executor::block_on, io::Cursor};
use libp2p::Multiaddr;
use libp2p_autonat_v2::protocol::{
    DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DecodeError, DialBack, DialBackClientCodec,
    DialBackResponse, DialBackServerCodec, DialBackStatus, DialData, DialDataChunk,
    DialDataRequest, DialRequest, DialResponse, DialStatus, EncodeError, Limits, MAX_ADDRESS_LEN,
    MAX_ADDRESSES, MAX_DIAL_BACK_LEN, MAX_DIAL_DATA_CHUNK, MAX_MESSAGE_LEN,
    MAX_PORTABLE_REQUEST_LEN, Malformed, Message, MessageCodec, ResponseStatus, write_dial_data,
};
use proptest::prelude::*;
use serde_json::{Value, json};

// ---- vectors ----

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("wire-vectors.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 27);
    vectors
}

fn frame(vector: &Value) -> Vec<u8> {
    let hex = vector["frame_hex"].as_str().unwrap();
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// A message in the words of the vectors.
fn meaning(message: &Message) -> Value {
    match message {
        Message::DialRequest(request) => {
            let addrs = request.addrs.iter();
            let addrs: Vec<_> = addrs
                .map(|a| a.as_ref().map(Multiaddr::to_string))
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

/// Reads one frame to the end of the stream, asserts that nothing is left, and writes it again.
fn there_and_back<D>(
    mut codec: D,
    mut back: impl for<'a> Encoder<Item<'a> = D::Item, Error = EncodeError>,
    frame: &[u8],
    meaning: impl Fn(&D::Item) -> Value,
) -> Result<(Value, Vec<u8>), DecodeError>
where
    D: Decoder<Error = DecodeError>,
{
    let mut src = BytesMut::from(frame);
    let message = codec.decode_eof(&mut src)?.expect("a message");
    assert!(src.is_empty());

    let meaning = meaning(&message);
    let mut dst = BytesMut::new();
    back.encode(message, &mut dst).unwrap();
    Ok((meaning, dst.to_vec()))
}

fn there_and_back_of(vector: &Value, frame: &[u8]) -> Result<(Value, Vec<u8>), DecodeError> {
    let is_response = vector["meaning"].get("dial_back_response").is_some();
    match vector["stream"].as_str().unwrap() {
        "dial-request" => {
            let codec = MessageCodec::default();
            there_and_back(codec, codec, frame, meaning)
        }
        "dial-back" if is_response => there_and_back(
            DialBackServerCodec::new(),
            DialBackClientCodec::new(),
            frame,
            |m| json!({ "dial_back_response": { "status": m.status.to_string() } }),
        ),
        "dial-back" => there_and_back(
            DialBackClientCodec::new(),
            DialBackServerCodec::new(),
            frame,
            |m| json!({ "dial_back": { "nonce": m.nonce } }),
        ),
        other => panic!("no such stream: {other}"),
    }
}

#[test]
fn every_valid_vector_means_what_it_says_and_is_written_alike() {
    for vector in vectors().iter().filter(|v| v["valid"] == true) {
        let name = vector["name"].as_str().unwrap();
        let frame = frame(vector);
        let (meaning, written) = there_and_back_of(vector, &frame).expect(name);
        assert_eq!(meaning, vector["meaning"], "{name}");
        if name != "unknown_field_is_skipped" {
            assert_eq!(written, frame, "{name}");
        }
    }
}

#[test]
fn every_invalid_vector_is_refused_for_its_own_reason() {
    let mut refused: BTreeMap<String, DecodeError> = BTreeMap::new();
    for vector in vectors().iter().filter(|v| v["valid"] == false) {
        let name = vector["name"].as_str().unwrap().to_owned();
        let error = there_and_back_of(vector, &frame(vector)).expect_err(&name);
        refused.insert(name, error);
    }
    let mut is = |name: &str, cause: fn(&DecodeError) -> bool| {
        let error = refused.remove(name).expect(name);
        assert!(cause(&error), "{name}: {error:?}");
    };
    use DecodeError as E;
    is("unknown_response_status", |e| {
        matches!(e, E::UnknownResponseStatus(777))
    });
    is("empty_message", |e| matches!(e, E::EmptyMessage));
    is("length_says_more_than_follows", |e| {
        matches!(e, E::Truncated)
    });
    is(
        "length_of_one_gigabyte",
        |e| matches!(e, E::LengthOverLimit { len, max: MAX_MESSAGE_LEN } if *len == 1 << 30),
    );
    is("overlong_varint_length", |e| {
        matches!(e, E::MalformedLength)
    });
    is("inner_length_beyond_frame", |e| {
        matches!(e, E::Malformed(Malformed::Overrun))
    });
    is("dial_back_truncated_nonce", |e| {
        matches!(e, E::Malformed(Malformed::Overrun))
    });
    assert!(refused.is_empty(), "not looked at: {refused:?}");
}

#[test]
fn a_vector_cut_short_is_waited_for_and_refused_at_the_end_of_the_stream() {
    for vector in vectors().iter().filter(|v| v["valid"] == true) {
        let frame = frame(vector);
        for cut in 1..frame.len() {
            let error = there_and_back_of(vector, &frame[..cut]).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated), "{error:?}");
        }
        if vector["stream"] == "dial-request" {
            for cut in 0..frame.len() {
                let mut src = BytesMut::from(&frame[..cut]);
                assert!(decode(&mut src).unwrap().is_none());
                assert_eq!(src, frame[..cut]);
            }
        }
    }
}

// ---- reading ----

fn decode(src: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
    MessageCodec::default().decode(src)
}

fn decode_one(message: &[u8]) -> Result<Message, DecodeError> {
    let mut src = BytesMut::from(&framed(message)[..]);
    let message = decode(&mut src).map(|message| message.expect("the whole message is there"));
    assert!(src.is_empty(), "a message is taken off, good or bad");
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = varint(message.len());
    bytes.extend(message);
    bytes
}

fn varint(number: usize) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    unsigned_varint::encode::usize(number, &mut buffer).to_vec()
}

/// A field with a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len()), value].concat()
}

fn request_of(message: &[u8]) -> DialRequest {
    match decode_one(message).unwrap() {
        Message::DialRequest(request) => request,
        other => panic!("not a request: {other:?}"),
    }
}

fn address() -> Multiaddr {
    "/ip4/203.0.113.7/tcp/4001".parse().unwrap()
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_message_arrives() {
    let longest = varint(MAX_MESSAGE_LEN);
    assert!(decode(&mut BytesMut::from(&longest[..])).unwrap().is_none());

    for len in [MAX_MESSAGE_LEN + 1, 1 << 30, usize::MAX] {
        let mut src = BytesMut::from(&varint(len)[..]);
        let capacity = src.capacity();
        for _ in 0..2 {
            let error = decode(&mut src).unwrap_err();
            assert!(
                matches!(error, DecodeError::LengthOverLimit { len: l, .. } if l == len as u64),
                "{error:?}"
            );
            assert!(!error.is_resumable());
        }
        assert_eq!(src.capacity(), capacity);
    }
}

#[test]
fn the_longest_message_is_read() {
    let data = field(4, &field(1, &vec![7; MAX_MESSAGE_LEN - 6]));
    assert_eq!(data.len(), MAX_MESSAGE_LEN);
    let message = decode_one(&data).unwrap();
    assert_eq!(
        message,
        Message::DialDataResponse {
            len: MAX_MESSAGE_LEN - 6
        }
    );
}

#[test]
fn a_limit_of_ones_own_is_kept() {
    let limits = Limits::default()
        .with_max_message_len(4)
        .with_max_addresses(1);
    let mut codec = MessageCodec::new(limits);

    let mut src = BytesMut::from(&[5][..]);
    let error = codec.decode(&mut src).unwrap_err();
    assert!(matches!(
        error,
        DecodeError::LengthOverLimit { len: 5, max: 4 }
    ));

    let request = Message::DialRequest(DialRequest::new([address()], 1));
    let error = codec.encode(request, &mut BytesMut::new()).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::LengthOverLimit { len: 21, max: 4 }
    ));

    let data = Message::DialDataResponse { len: 8 };
    let error = codec.encode(data, &mut BytesMut::new()).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::LengthOverLimit { len: 12, max: 4 }
    ));
}

#[test]
fn a_length_that_is_not_minimal_is_refused() {
    for prefix in [&[0x80, 0x00][..], &[0x81, 0x80, 0x00], &[0xff; 10]] {
        let mut src = BytesMut::from(prefix);
        let error = decode(&mut src).unwrap_err();
        assert!(matches!(error, DecodeError::MalformedLength), "{error:?}");
        assert!(!error.is_resumable());
    }
}

#[test]
fn addresses_behind_the_limit_are_counted_and_not_parsed() {
    let mut request = Vec::new();
    for _ in 0..4000 {
        request.extend(field(1, &[]));
    }
    request.extend([0x11, 7, 0, 0, 0, 0, 0, 0, 0]);
    let request = request_of(&field(1, &request));

    assert_eq!(request.addrs.len(), MAX_ADDRESSES);
    assert_eq!(request.unread, 4000 - MAX_ADDRESSES);
    assert_eq!(request.nonce, 7, "what follows is read all the same");
}

#[test]
fn an_address_that_does_not_parse_keeps_its_place() {
    let good = address();
    let name = "a".repeat(MAX_ADDRESS_LEN - 3);
    let long_dns: Vec<u8> = [&[0x35][..], &varint(name.len()), name.as_bytes()].concat();
    assert_eq!(long_dns.len(), MAX_ADDRESS_LEN);
    let too_long = [&long_dns[..], &[0x36, 0x01, b'a']].concat();
    assert!(Multiaddr::try_from(too_long.clone()).is_ok());

    let addrs = [&[0xff; 3][..], good.as_ref(), &too_long, &long_dns, &[]];
    let request = request_of(&field(1, &addrs.map(|a| field(1, a)).concat()));

    let parsed = Multiaddr::try_from(long_dns.clone()).ok();
    assert_eq!(request.addrs, [None, Some(good), None, parsed, None]);
    assert_eq!(request.unread, 0);
}

#[test]
fn fields_come_in_any_order_and_the_last_scalar_wins() {
    let nonce = |n: u8| [0x11, n, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let addr = field(1, address().as_ref());
    let message = [nonce(1), addr.clone(), nonce(2), addr].concat();
    let request = request_of(&field(1, &message));
    assert_eq!(request.nonce, 2);
    assert_eq!(request.addrs.len(), 2);

    let response = [0x18, 0x64, 0x08, 0x64, 0x10, 9, 0x08, 0xc8, 0x01, 0x10, 3];
    assert_eq!(
        decode_one(&field(2, &response)).unwrap(),
        Message::DialResponse(DialResponse {
            status: ResponseStatus::Ok,
            addr_idx: 3,
            dial_status: DialStatus::DialError,
        })
    );
}

#[test]
fn of_several_variants_the_last_one_wins_whole() {
    let first = field(1, &field(1, address().as_ref()));
    let second = field(1, &[0x11, 7, 0, 0, 0, 0, 0, 0, 0]);
    let request = request_of(&[first.clone(), second.clone()].concat());
    assert_eq!((request.addrs.len(), request.nonce), (0, 7));

    let data = field(4, &[field(1, &[0; 9]), field(1, &[0; 5])].concat());
    let message = decode_one(&[second, data].concat()).unwrap();
    assert_eq!(message, Message::DialDataResponse { len: 5 });

    let broken = field(2, &[0x08]);
    let error = decode_one(&[broken, first].concat()).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed(Malformed::Overrun)));
}

#[test]
fn unknown_fields_are_skipped_and_known_numbers_of_another_type_too() {
    let unknown = [
        field(9, b"abc"),
        vec![0x40, 0x96, 0x01],
        vec![0x4d, 1, 2, 3, 4],
    ]
    .concat();
    let data_request = [
        &unknown[..],
        &[0x10, 0xb0, 0xea, 0x01],
        &field(1, b"no number"),
    ]
    .concat();
    let message = [unknown, field(3, &data_request), vec![0x08, 0x01]].concat();
    assert_eq!(
        decode_one(&message).unwrap(),
        Message::DialDataRequest(DialDataRequest {
            addr_idx: 0,
            num_bytes: 30_000
        })
    );
}

#[test]
fn dial_data_without_bytes_counts_nothing() {
    for empty in [
        field(4, &[]),
        field(4, &field(1, &[])),
        field(4, &field(2, b"abc")),
    ] {
        let message = decode_one(&empty).unwrap();
        assert_eq!(message, Message::DialDataResponse { len: 0 });
    }
}

#[test]
fn a_status_that_is_unknown_costs_one_response_and_not_the_stream() {
    let ok = field(2, &[0x08, 0xc8, 0x01, 0x18, 0xc8, 0x01]);
    let minus_one = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
    let bad = [
        field(2, &[0x08, 0x66]),
        field(2, &minus_one),
        field(2, &[0x08, 0xc8, 0x01, 0x18, 0x66]),
        field(9, b"abc"),
        field(2, &[0x0b]),
    ];
    let mut src = BytesMut::new();
    for message in &bad {
        src.extend_from_slice(&framed(message));
        src.extend_from_slice(&framed(&ok));
    }

    let mut errors = Vec::new();
    for _ in &bad {
        let error = decode(&mut src).unwrap_err();
        assert!(error.is_resumable());
        errors.push(error);
        assert!(matches!(
            decode(&mut src).unwrap(),
            Some(Message::DialResponse(_))
        ));
    }
    assert!(src.is_empty());
    use DecodeError as E;
    assert!(
        matches!(
            errors[..],
            [
                E::UnknownResponseStatus(102),
                E::UnknownResponseStatus(-1),
                E::UnknownDialStatus(102),
                E::EmptyMessage,
                E::Malformed(Malformed::WireType(3)),
            ]
        ),
        "{errors:?}"
    );
}

#[test]
fn every_status_has_the_number_of_the_specification() {
    let codes = |codes: [i32; 4]| codes.map(ResponseStatus::from_code);
    use ResponseStatus as R;
    assert_eq!(
        codes([0, 100, 101, 200]),
        [R::InternalError, R::RequestRejected, R::DialRefused, R::Ok].map(Some)
    );
    use DialStatus as D;
    assert_eq!(
        [0, 100, 101, 200].map(DialStatus::from_code),
        [D::Unused, D::DialError, D::DialBackError, D::Ok].map(Some)
    );
    for code in -300..300 {
        assert!(R::from_code(code).is_none_or(|s| s.code() == code));
        assert!(D::from_code(code).is_none_or(|s| s.code() == code));
        assert!(DialBackStatus::from_code(code).is_none_or(|s| s.code() == code));
    }
    assert_eq!(DIAL_REQUEST_PROTOCOL, "/libp2p/autonat/2/dial-request");
    assert_eq!(DIAL_BACK_PROTOCOL, "/libp2p/autonat/2/dial-back");
}

// ---- the dial-back stream ----

#[test]
fn a_dial_back_response_of_unknown_status_is_refused() {
    let mut src = BytesMut::from(&[2, 0x08, 0x07][..]);
    let error = DialBackServerCodec::new().decode(&mut src).unwrap_err();
    assert!(matches!(error, DecodeError::UnknownDialBackStatus(7)));
    assert!(src.is_empty());
}

#[test]
fn a_long_dial_back_is_refused_on_its_length() {
    let mut src = BytesMut::from(&varint(MAX_DIAL_BACK_LEN + 1)[..]);
    let is_over_limit = |error| {
        let expected = MAX_DIAL_BACK_LEN as u64 + 1;
        matches!(error, DecodeError::LengthOverLimit { len, max: MAX_DIAL_BACK_LEN } if len == expected)
    };
    assert!(is_over_limit(
        DialBackClientCodec::new().decode(&mut src).unwrap_err()
    ));
    assert!(is_over_limit(
        DialBackServerCodec::new().decode(&mut src).unwrap_err()
    ));
}

#[test]
fn a_nonce_goes_one_way_and_its_answer_the_other() {
    block_on(async {
        let mut server = Framed::new(Cursor::new(Vec::new()), DialBackServerCodec::new());
        server.send(DialBack { nonce: 42 }).await.unwrap();
        let sent = server.into_inner().into_inner();

        let mut client = FramedRead::new(&sent[..], DialBackClientCodec::new());
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            DialBack { nonce: 42 }
        );
        assert!(client.next().await.is_none());

        let mut client = Framed::new(Cursor::new(Vec::new()), DialBackClientCodec::new());
        client.send(DialBackResponse::default()).await.unwrap();
        let sent = client.into_inner().into_inner();
        assert_eq!(sent, [0], "go reads this one byte and resets the stream");

        let mut server = FramedRead::new(&sent[..], DialBackServerCodec::new());
        let answer = server.next().await.unwrap().unwrap();
        assert_eq!(answer.status, DialBackStatus::Ok);
    });
}

// ---- writing ----

#[test]
fn a_request_says_how_long_it_is_before_it_is_written() {
    let mut request = DialRequest::new([], 0);
    while request.encoded_len() <= MAX_PORTABLE_REQUEST_LEN {
        let mut dst = BytesMut::new();
        let message = Message::DialRequest(request.clone());
        MessageCodec::default().encode(message, &mut dst).unwrap();
        let (len, rest) = unsigned_varint::decode::usize(&dst).unwrap();
        assert_eq!((len, rest.len()), (request.encoded_len(), len));

        request.nonce = u64::MAX;
        request.addrs.push(Some(address()));
    }
    assert_eq!(request.addrs.len(), 102);
}

#[test]
fn what_did_not_parse_is_written_as_it_came() {
    let addrs = [&[0xff; 3][..], address().as_ref(), &[0xfe; 2], &[]].map(|a| field(1, a));
    let frame = framed(&field(1, &addrs.concat()));
    let message = decode(&mut BytesMut::from(&frame[..])).unwrap().unwrap();
    let mut dst = BytesMut::new();
    MessageCodec::default().encode(message, &mut dst).unwrap();
    assert_eq!(dst, frame);
}

#[test]
fn a_message_with_too_much_dial_data_is_not_written() {
    let len = MAX_DIAL_DATA_CHUNK + 1;
    let is_refused = |error| matches!(error, EncodeError::DialDataOverLimit { len: l, max: MAX_DIAL_DATA_CHUNK } if l == len);
    let mut dst = BytesMut::new();
    let message = Message::DialDataResponse { len };
    assert!(is_refused(
        MessageCodec::default()
            .encode(message, &mut dst)
            .unwrap_err()
    ));
    assert!(dst.is_empty());
    assert!(is_refused(DialDataChunk::new(len).unwrap_err()));
}

#[test]
fn a_chunk_is_the_message_that_the_codec_writes() {
    for len in [0, 1, 100, 127, 128, 4000, MAX_DIAL_DATA_CHUNK] {
        let chunk = DialDataChunk::new(len).unwrap();
        let mut dst = BytesMut::new();
        let message = Message::DialDataResponse { len };
        MessageCodec::default().encode(message, &mut dst).unwrap();
        assert_eq!(chunk.as_bytes(), &dst[..]);
        assert_eq!(chunk.len(), len);
        assert_eq!(chunk.is_empty(), len == 0);
    }
}

#[test]
fn one_chunk_is_made_and_written_many_times() {
    let chunks: Vec<_> = DialData::new(100_000).collect();
    let (last, full) = chunks.split_last().unwrap();
    assert_eq!((full.len(), last.len()), (24, 100_000 - 24 * 4096));
    for chunk in full {
        assert_eq!(chunk.len(), MAX_DIAL_DATA_CHUNK);
        assert_eq!(chunk.as_bytes().as_ptr(), full[0].as_bytes().as_ptr());
    }
    assert_eq!(DialData::new(u64::MAX).unpaid(), u64::MAX);
    assert_eq!(DialData::new(0).count(), 0);
}

#[test]
fn dial_data_arrives_as_the_number_of_bytes_that_was_asked_for() {
    block_on(async {
        for num_bytes in [0, 1, 4095, 4096, 4097, 30_000, 65_536, 100_000] {
            let mut stream = Cursor::new(Vec::new());
            write_dial_data(&mut stream, num_bytes).await.unwrap();
            let sent = stream.into_inner();

            let mut received = 0;
            let mut framed = FramedRead::new(&sent[..], MessageCodec::default());
            while let Some(message) = framed.next().await {
                let Message::DialDataResponse { len } = message.unwrap() else {
                    panic!("not dial data");
                };
                received += len as u64;
            }
            assert_eq!(received, num_bytes);
        }
    });
}

// ---- memory ----

/// The most that a stream reads at once into the buffer of a `Framed`.
const READ: usize = 8 * 1024;

#[test]
fn dial_data_costs_no_allocation_once_the_buffer_is_there() {
    let chunk = DialDataChunk::new(MAX_DIAL_DATA_CHUNK).unwrap();
    let mut stream = chunk.as_bytes().iter().copied().cycle();
    let mut src = BytesMut::with_capacity(READ);
    let mut buffer = None;
    let mut received = 0;
    for round in 0..1000 {
        src.extend_from_slice(&stream.by_ref().take(READ).collect::<Vec<_>>());
        while let Some(message) = decode(&mut src).unwrap() {
            assert_eq!(message, Message::DialDataResponse { len: chunk.len() });
            received += 1;
        }
        // The bytes move within the buffer; its end moves only if it is another one.
        let end = src.as_ptr() as usize + src.capacity();
        if round >= 2 {
            assert_eq!(*buffer.get_or_insert(end), end, "round {round}");
        }
    }
    assert_eq!(received, 1000 * READ / chunk.as_bytes().len());
}

#[test]
fn the_buffer_of_a_stream_stays_bounded_whatever_comes() {
    block_on(async {
        let data = DialDataChunk::new(MAX_DIAL_DATA_CHUNK).unwrap();
        let longest = framed(&field(4, &field(1, &vec![0; MAX_MESSAGE_LEN - 6])));
        let many = framed(&field(1, &field(1, &[]).repeat(4000)));
        for frame in [data.as_bytes(), &longest, &many, &[2, 0x22, 0x00]] {
            let sent = frame.repeat(2_000_000 / frame.len());
            let mut stream = FramedRead::new(&sent[..], MessageCodec::default());
            while let Some(message) = stream.next().await {
                message.unwrap();
                // What can be left of a message, one read, and the doubling of a buffer that was
                // just too small for both.
                let bound = 2 * (2 * (MAX_MESSAGE_LEN + 2) + READ);
                assert!(stream.read_buffer().capacity() <= bound);
            }
        }
    });
}

// ---- properties ----

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
            any::<u64>()
        )
            .prop_map(|(addrs, nonce)| Message::DialRequest(DialRequest::new(addrs, nonce))),
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
    fn a_nonce_comes_back_as_it_was_written(nonce in any::<u64>()) {
        let mut stream = BytesMut::new();
        DialBackServerCodec::new().encode(DialBack { nonce }, &mut stream).unwrap();
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
