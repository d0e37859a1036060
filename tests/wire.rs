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
    MAX_PORTABLE_REQUEST_LEN, Malformed, Message, MessageCodec, NonceEncoding, ResponseStatus,
    write_dial_data,
};
use serde_json::{Value, json};

#[path = "wire/properties.rs"]
mod properties;
#[path = "captured/zeros.rs"]
mod zeros;

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
        // Google's runtime leaves all zeros out.
        let expected = match vector["meaning"].get("dial_back") {
            _ if name == "unknown_field_is_skipped" => continue,
            Some(_) => frame,
            None => zeros::with_zeros(&frame),
        };
        assert_eq!(written, expected, "{name}");
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
    let limits = Limits::default().with_max_message_len(4);
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

    let mut codec = MessageCodec::new(Limits::default().with_max_addresses(1));
    let frame = framed(&field(1, &field(1, address().as_ref()).repeat(3)));
    let message = codec.decode(&mut BytesMut::from(&frame[..])).unwrap();
    let Some(Message::DialRequest(request)) = message else {
        panic!("not a request: {message:?}");
    };
    assert_eq!((request.addrs.len(), request.unread), (1, 2));
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

/// A nonce with a byte of its own at each place.
const NONCE: u64 = 0xfedc_ba98_7654_3210;
const FIXED64: [u8; 8] = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe];
const VARINT: [u8; 10] = [0x90, 0xe4, 0xd0, 0xb2, 0x87, 0xd3, 0xae, 0xee, 0xfe, 0x01];

#[test]
fn a_nonce_is_fixed64_or_a_varint_and_the_last_one_wins() {
    let fixed64 = [&[0x11][..], &FIXED64].concat();
    let varint = [&[0x10][..], &VARINT].concat();
    let (other, another) = ([&[0x11][..], &[7; 8]].concat(), vec![0x10, 7]);
    for (request, encoding) in [
        (fixed64.clone(), NonceEncoding::Fixed64),
        (varint.clone(), NonceEncoding::Varint),
        (
            [varint.clone(), fixed64.clone()].concat(),
            NonceEncoding::Fixed64,
        ),
        (
            [fixed64.clone(), varint.clone()].concat(),
            NonceEncoding::Varint,
        ),
        ([other, fixed64].concat(), NonceEncoding::Fixed64),
        ([another, varint].concat(), NonceEncoding::Varint),
    ] {
        let request = request_of(&field(1, &request));
        assert_eq!((request.nonce, request.nonce_encoding), (NONCE, encoding));
    }
}

#[test]
fn a_nonce_that_is_neither_counts_as_none() {
    for nonce in [&[0x12, 1, 7][..], &[0x15, 7, 0, 0, 0], &[]] {
        let address = field(1, address().as_ref());
        let request = request_of(&field(1, &[&address, nonce].concat()));
        assert_eq!((request.addrs.len(), request.nonce), (1, 0));
        assert!(!request.has_nonce());
    }
}

#[test]
fn a_nonce_of_zero_is_one_and_is_written_out() {
    for (encoding, nonce) in [
        (NonceEncoding::Fixed64, &[0x11, 0, 0, 0, 0, 0, 0, 0, 0][..]),
        (NonceEncoding::Varint, &[0x10, 0]),
    ] {
        let request = DialRequest::new([], 0).with_nonce_encoding(encoding);
        let mut written = BytesMut::new();
        MessageCodec::default()
            .encode(Message::DialRequest(request.clone()), &mut written)
            .unwrap();
        assert_eq!(written, framed(&field(1, nonce)));
        assert!(request.has_nonce());
        assert_eq!(request_of(&field(1, nonce)), request);
    }
}

#[test]
fn a_nonce_is_written_one_way_and_never_both() {
    for (encoding, nonce) in [
        (NonceEncoding::Fixed64, [&[0x11][..], &FIXED64].concat()),
        (NonceEncoding::Varint, [&[0x10][..], &VARINT].concat()),
    ] {
        let request = DialRequest::new([address()], NONCE).with_nonce_encoding(encoding);
        let expected = field(1, &[field(1, address().as_ref()), nonce].concat());
        assert_eq!(request.encoded_len(), expected.len());
        let mut written = BytesMut::new();
        MessageCodec::default()
            .encode(Message::DialRequest(request.clone()), &mut written)
            .unwrap();
        assert_eq!(written, framed(&expected));
        assert_eq!(request_of(&expected), request);
    }
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
        assert_eq!(sent, [2, 0x08, 0], "nim needs the zero");
        assert_eq!(sent, zeros::with_zeros(&[0]));

        let mut server = FramedRead::new(&sent[..], DialBackServerCodec::new());
        let answer = server.next().await.unwrap().unwrap();
        assert_eq!(answer.status, DialBackStatus::Ok);
    });
}

#[test]
fn a_dial_back_has_its_nonce_like_the_request() {
    for (encoding, nonce) in [
        (NonceEncoding::Fixed64, [&[0x09][..], &FIXED64].concat()),
        (NonceEncoding::Varint, [&[0x08][..], &VARINT].concat()),
    ] {
        let mut written = BytesMut::new();
        DialBackServerCodec::new()
            .with_nonce_encoding(encoding)
            .encode(DialBack { nonce: NONCE }, &mut written)
            .unwrap();
        assert_eq!(written, framed(&nonce));
        let mut codec = DialBackClientCodec::new();
        let read = codec.decode(&mut written).unwrap();
        assert_eq!(read, Some(DialBack { nonce: NONCE }));
        assert_eq!(codec.nonce_encoding(), encoding);
    }
}

// ---- writing ----

#[test]
fn zeros_are_written_where_an_address_was_dialed_or_is_to_be() {
    let written = |message| {
        let mut written = BytesMut::new();
        MessageCodec::default()
            .encode(message, &mut written)
            .unwrap();
        written.to_vec()
    };
    let response = |status, dial_status| {
        Message::DialResponse(DialResponse {
            status,
            addr_idx: 0,
            dial_status,
        })
    };
    assert_eq!(
        written(response(ResponseStatus::Ok, DialStatus::Ok)),
        [10, 0x12, 8, 0x08, 0xc8, 0x01, 0x10, 0, 0x18, 0xc8, 0x01]
    );
    assert_eq!(
        written(response(ResponseStatus::Ok, DialStatus::Unused)),
        [9, 0x12, 7, 0x08, 0xc8, 0x01, 0x10, 0, 0x18, 0]
    );
    assert_eq!(
        written(response(ResponseStatus::DialRefused, DialStatus::Unused)),
        [4, 0x12, 2, 0x08, 101]
    );
    assert_eq!(
        written(Message::DialDataRequest(DialDataRequest {
            addr_idx: 0,
            num_bytes: 30_000
        })),
        [8, 0x1a, 6, 0x08, 0, 0x10, 0xb0, 0xea, 0x01]
    );
}

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
