use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Waker,
};

use asynchronous_codec::{BytesMut, Decoder, Encoder};

use libp2p_core::Multiaddr;

use super::*;
use crate::protocol::{DialStatus, MAX_DIAL_DATA_CHUNK, NonceEncoding};

const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// What comes when all that arrived was read.
#[derive(Clone, Copy, Default)]
enum Then {
    #[default]
    Nothing,
    End,
    Reset,
}

#[derive(Default)]
struct Line {
    arrived: VecDeque<u8>,
    then: Then,
    written: BytesMut,
    /// How many bytes are taken before writing blocks; all without it.
    room: Option<usize>,
    takes_no_more: bool,
    closed: bool,
}

/// A stream in memory, and what a test knows of it.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Line>>);

impl Pipe {
    fn with<T>(&self, task: impl FnOnce(&mut Line) -> T) -> T {
        task(&mut self.0.lock().unwrap())
    }

    fn arrives(&self, bytes: &[u8]) {
        self.with(|line| line.arrived.extend(bytes));
    }

    fn says(&self, message: Message) {
        let mut bytes = BytesMut::new();
        MessageCodec::default().encode(message, &mut bytes).unwrap();
        self.arrives(&bytes);
    }

    fn answers(&self, addr_idx: u32, dial_status: DialStatus) {
        self.says(Message::DialResponse(response(addr_idx, dial_status)));
    }

    fn asks_for_dial_data(&self, addr_idx: u32, num_bytes: u64) {
        self.says(Message::DialDataRequest(DialDataRequest {
            addr_idx,
            num_bytes,
        }));
    }

    fn ends(&self, then: Then) {
        self.with(|line| line.then = then);
    }

    fn is_closed(&self) -> bool {
        self.with(|line| line.closed)
    }

    /// Takes the messages that were written.
    fn written(&self) -> Vec<Message> {
        self.with(|line| {
            let mut messages = Vec::new();
            while let Some(message) = MessageCodec::default().decode(&mut line.written).unwrap() {
                messages.push(message);
            }
            assert!(line.written.is_empty(), "half a message was written");
            messages
        })
    }

    fn dial_data(&self) -> Vec<usize> {
        self.written()
            .into_iter()
            .map(|message| match message {
                Message::DialDataResponse { len } => len,
                other => panic!("not dial data: {other:?}"),
            })
            .collect()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|line| {
            let n = buf.len().min(line.arrived.len());
            if n > 0 {
                for (to, from) in buf.iter_mut().zip(line.arrived.drain(..n)) {
                    *to = from;
                }
                return Poll::Ready(Ok(n));
            }
            match line.then {
                Then::Nothing => Poll::Pending,
                Then::End => Poll::Ready(Ok(0)),
                Then::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|line| {
            if line.takes_no_more {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let n = line.room.map_or(buf.len(), |room| buf.len().min(room));
            if n == 0 {
                return Poll::Pending;
            }
            line.room = line.room.map(|room| room - n);
            line.written.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|line| line.closed = true);
        Poll::Ready(Ok(()))
    }
}

fn response(addr_idx: u32, dial_status: DialStatus) -> DialResponse {
    DialResponse {
        status: ResponseStatus::Ok,
        addr_idx,
        dial_status,
    }
}

fn addresses(count: usize) -> Vec<Multiaddr> {
    (1..=count)
        .map(|port| format!("/ip4/20.1.0.1/tcp/{port}").parse().unwrap())
        .collect()
}

/// A request for so many addresses that is out.
fn asked(count: usize) -> (Exchange<Pipe>, Pipe) {
    let pipe = Pipe::default();
    let mut exchange = Exchange::new(pipe.clone(), DialRequest::new(addresses(count), NONCE));
    assert_eq!(poll(&mut exchange), Poll::Pending);
    assert_eq!(
        pipe.written(),
        [Message::DialRequest(DialRequest::new(
            addresses(count),
            NONCE
        ))]
    );
    (exchange, pipe)
}

fn poll(exchange: &mut Exchange<Pipe>) -> Poll<Progress> {
    exchange.poll(&mut Context::from_waker(Waker::noop()))
}

/// Likewise, and all that is asked for is paid.
fn poll_and_pay(exchange: &mut Exchange<Pipe>) -> Poll<Progress> {
    let progress = poll(exchange);
    if let Poll::Ready(Progress::Asks { .. }) = progress {
        exchange.pay(true);
    }
    progress
}

fn over(end: ProbeEnd) -> Poll<Progress> {
    Poll::Ready(Progress::Over(end))
}

fn broke(violation: Violation) -> Poll<Progress> {
    over(ProbeEnd::ProtocolViolation(violation))
}

fn responded(addr_idx: u32, dial_status: DialStatus) -> Poll<Progress> {
    Poll::Ready(Progress::Response(response(addr_idx, dial_status)))
}

fn pays(index: u32, bytes: u64) -> Poll<Progress> {
    Poll::Ready(Progress::Asks { index, bytes })
}

#[test]
fn one_answer_for_one_address_closes_the_stream() {
    let (mut exchange, pipe) = asked(1);
    pipe.answers(0, DialStatus::Ok);
    assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
    assert!(!pipe.is_closed(), "closed before the answer was told");
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
    assert!(pipe.is_closed());
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let (mut exchange, pipe) = asked(1);
    let mut bytes = BytesMut::new();
    MessageCodec::default()
        .encode(
            Message::DialResponse(response(0, DialStatus::DialError)),
            &mut bytes,
        )
        .unwrap();
    let (last, others) = bytes.split_last().unwrap();
    for byte in others {
        pipe.arrives(&[*byte]);
        assert_eq!(poll(&mut exchange), Poll::Pending);
    }
    pipe.arrives(&[*last]);
    assert_eq!(poll(&mut exchange), responded(0, DialStatus::DialError));
}

#[test]
fn answers_come_one_for_each_address() {
    let (mut exchange, pipe) = asked(3);
    pipe.says(Message::DialResponse(DialResponse {
        status: ResponseStatus::DialRefused,
        addr_idx: 1,
        dial_status: DialStatus::Unused,
    }));
    assert!(matches!(
        poll(&mut exchange),
        Poll::Ready(Progress::Response(_))
    ));
    assert_eq!(poll(&mut exchange), Poll::Pending, "more may come");
    assert!(!pipe.is_closed());
    pipe.answers(0, DialStatus::Ok);
    pipe.answers(2, DialStatus::DialError);
    assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
    assert_eq!(poll(&mut exchange), responded(2, DialStatus::DialError));
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
    assert!(pipe.is_closed());
}

#[test]
fn what_comes_after_the_last_answer_is_not_read() {
    let (mut exchange, pipe) = asked(1);
    pipe.answers(0, DialStatus::Ok);
    pipe.answers(0, DialStatus::Ok);
    pipe.arrives(b"not a message");
    assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
}

#[test]
fn a_rejection_is_for_all_addresses() {
    for status in [
        ResponseStatus::RequestRejected,
        ResponseStatus::InternalError,
    ] {
        let (mut exchange, pipe) = asked(3);
        let rejection = DialResponse::without_dial(status);
        pipe.says(Message::DialResponse(rejection));
        assert_eq!(
            poll(&mut exchange),
            Poll::Ready(Progress::Response(rejection))
        );
        assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
        assert!(pipe.is_closed());
    }
}

#[test]
fn a_stream_that_ends_without_a_word_may_not_have_been_read() {
    for then in [Then::End, Then::Reset] {
        let (mut exchange, pipe) = asked(1);
        pipe.ends(then);
        assert_eq!(poll(&mut exchange), Poll::Ready(Progress::Unread));
    }
}

#[test]
fn a_stream_that_ends_without_an_answer_after_a_word_was_broken_off() {
    for then in [Then::End, Then::Reset] {
        let (mut exchange, pipe) = asked(1);
        pipe.asks_for_dial_data(0, 30_000);
        assert_eq!(poll_and_pay(&mut exchange), pays(0, 30_000));
        pipe.ends(then);
        assert_eq!(poll(&mut exchange), over(ProbeEnd::Reset));
    }
}

#[test]
fn a_nonce_is_written_as_it_is_ordered() {
    for encoding in [NonceEncoding::Fixed64, NonceEncoding::Varint] {
        let pipe = Pipe::default();
        let request = DialRequest::new(addresses(1), NONCE).with_nonce_encoding(encoding);
        let mut exchange = Exchange::new(pipe.clone(), request.clone());
        assert_eq!(poll(&mut exchange), Poll::Pending);
        assert_eq!(pipe.written(), [Message::DialRequest(request)]);
    }
}

#[test]
fn a_stream_that_ends_after_an_answer_is_complete() {
    for then in [Then::End, Then::Reset] {
        let (mut exchange, pipe) = asked(2);
        pipe.answers(0, DialStatus::Ok);
        pipe.ends(then);
        assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
        assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
    }
}

#[test]
fn half_a_message_at_the_end_is_no_violation() {
    let (mut exchange, pipe) = asked(1);
    pipe.arrives(&[0x05, 0x12, 0x03]);
    pipe.ends(Then::End);
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Reset));
}

/// go-libp2p rejects a request over its limits before it reads it.
#[test]
fn an_answer_to_a_request_that_was_not_taken_is_read() {
    let pipe = Pipe::default();
    let rejection = DialResponse::without_dial(ResponseStatus::RequestRejected);
    pipe.says(Message::DialResponse(rejection));
    pipe.with(|line| line.takes_no_more = true);
    let mut exchange = Exchange::new(pipe.clone(), DialRequest::new(addresses(1), NONCE));
    assert_eq!(
        poll(&mut exchange),
        Poll::Ready(Progress::Response(rejection))
    );
}

#[test]
fn dial_data_is_paid_to_the_byte_in_the_largest_chunks() {
    for (num_bytes, messages) in [(1, 1), (4_096, 1), (30_000, 8), (65_536, 16), (100_000, 25)] {
        let (mut exchange, pipe) = asked(1);
        pipe.asks_for_dial_data(0, num_bytes);
        assert_eq!(poll_and_pay(&mut exchange), pays(0, num_bytes));
        assert_eq!(poll(&mut exchange), Poll::Pending);
        let sizes = pipe.dial_data();
        assert_eq!(sizes.iter().sum::<usize>() as u64, num_bytes);
        assert_eq!(sizes.len(), messages);
        assert!(sizes.iter().all(|size| *size <= MAX_DIAL_DATA_CHUNK));
        pipe.answers(0, DialStatus::Ok);
        assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
    }
}

#[test]
fn dial_data_is_paid_once_for_each_address() {
    let (mut exchange, pipe) = asked(3);
    for index in [2, 0, 1] {
        pipe.asks_for_dial_data(index, 30_000);
        assert_eq!(poll_and_pay(&mut exchange), pays(index, 30_000));
        assert_eq!(poll(&mut exchange), Poll::Pending);
        assert_eq!(pipe.dial_data().iter().sum::<usize>(), 30_000);
    }
    for index in [0, 1, 2] {
        pipe.asks_for_dial_data(index, 30_000);
    }
    assert_eq!(poll(&mut exchange), broke(Violation::DialDataIndex));
    assert_eq!(pipe.dial_data(), []);
}

#[test]
fn dial_data_against_the_protocol_is_not_paid() {
    for (index, num_bytes, violation) in [
        (2, 30_000, Violation::DialDataIndex),
        (63, 30_000, Violation::DialDataIndex),
        (64, 30_000, Violation::DialDataIndex),
        (u32::MAX, 30_000, Violation::DialDataIndex),
        (0, 100_001, Violation::DialDataSize),
        (1, u64::MAX, Violation::DialDataSize),
    ] {
        let (mut exchange, pipe) = asked(2);
        pipe.asks_for_dial_data(index, num_bytes);
        assert_eq!(poll(&mut exchange), broke(violation), "{index} {num_bytes}");
        assert_eq!(pipe.dial_data(), []);
        assert!(!pipe.is_closed(), "the stream is to be reset");
    }
}

#[test]
fn dial_data_that_is_not_granted_ends_the_exchange() {
    let (mut exchange, pipe) = asked(1);
    pipe.asks_for_dial_data(0, 30_000);
    assert_eq!(poll(&mut exchange), pays(0, 30_000));
    assert_eq!(poll(&mut exchange), Poll::Pending, "until it is told");
    exchange.pay(false);
    assert_eq!(poll(&mut exchange), over(ProbeEnd::DialDataRefused));
    assert_eq!(pipe.dial_data(), []);
    assert!(!pipe.is_closed(), "the stream is to be reset");
}

/// A server that takes all but the last byte must not get it for free.
#[test]
fn dial_data_is_told_before_the_first_byte_is_out() {
    let (mut exchange, pipe) = asked(1);
    pipe.asks_for_dial_data(0, 100_000);
    pipe.with(|line| line.room = Some(0));
    assert_eq!(poll_and_pay(&mut exchange), pays(0, 100_000));
    assert_eq!(poll(&mut exchange), Poll::Pending);
    pipe.with(|line| line.room = Some(10_000));
    assert_eq!(poll(&mut exchange), Poll::Pending);
    pipe.with(|line| line.room = None);
    assert_eq!(poll(&mut exchange), Poll::Pending);
    assert_eq!(pipe.dial_data().iter().sum::<usize>(), 100_000);
}

#[test]
fn an_answer_that_cuts_dial_data_short_is_read() {
    let (mut exchange, pipe) = asked(1);
    pipe.asks_for_dial_data(0, 100_000);
    assert_eq!(poll_and_pay(&mut exchange), pays(0, 100_000));
    let rejection = DialResponse::without_dial(ResponseStatus::RequestRejected);
    pipe.says(Message::DialResponse(rejection));
    pipe.with(|line| line.takes_no_more = true);
    assert_eq!(
        poll(&mut exchange),
        Poll::Ready(Progress::Response(rejection))
    );
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
}

#[test]
fn a_server_that_breaks_dial_data_off_has_not_answered() {
    let (mut exchange, pipe) = asked(1);
    pipe.asks_for_dial_data(0, 100_000);
    assert_eq!(poll_and_pay(&mut exchange), pays(0, 100_000));
    pipe.with(|line| line.takes_no_more = true);
    pipe.ends(Then::Reset);
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Reset));
}

#[test]
fn messages_of_a_client_are_violations() {
    for message in [
        Message::DialRequest(DialRequest::new(addresses(1), NONCE)),
        Message::DialDataResponse { len: 0 },
        Message::DialDataResponse { len: 4_096 },
    ] {
        let (mut exchange, pipe) = asked(1);
        pipe.says(message);
        assert_eq!(poll(&mut exchange), broke(Violation::UnexpectedMessage));
    }
}

#[test]
fn what_cannot_be_decoded_is_a_violation() {
    for (bytes, violation) in [
        // No content, no protobuf, and a length that is none.
        (&[0x00][..], Violation::Undecodable),
        (&[0x02, 0xff, 0xff], Violation::Undecodable),
        (&[0x80, 0x00], Violation::Undecodable),
        // 8,193 bytes to come.
        (&[0x81, 0x40], Violation::TooLong),
    ] {
        let (mut exchange, pipe) = asked(1);
        pipe.arrives(bytes);
        assert_eq!(poll(&mut exchange), broke(violation), "{bytes:02x?}");
        assert!(!pipe.is_closed(), "the stream is to be reset");
    }
}

/// As the specification says; one for another address may follow.
#[test]
fn a_response_with_an_unknown_status_is_discarded() {
    // A status, and a dial status, of 150.
    let unknown: [&[u8]; 2] = [
        &[0x05, 0x12, 0x03, 0x08, 0x96, 0x01],
        &[0x08, 0x12, 0x06, 0x08, 0xc8, 0x01, 0x18, 0x96, 0x01],
    ];
    for bytes in unknown {
        let (mut exchange, pipe) = asked(1);
        pipe.arrives(bytes);
        assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));

        let (mut exchange, pipe) = asked(2);
        pipe.arrives(bytes);
        assert_eq!(poll(&mut exchange), Poll::Pending);
        pipe.answers(1, DialStatus::Ok);
        assert_eq!(poll(&mut exchange), responded(1, DialStatus::Ok));
        assert_eq!(poll(&mut exchange), over(ProbeEnd::Completed));
    }
}

#[test]
fn a_violation_after_an_answer_is_told_as_one() {
    let (mut exchange, pipe) = asked(2);
    pipe.answers(0, DialStatus::Ok);
    pipe.arrives(&[0x00]);
    assert_eq!(poll(&mut exchange), responded(0, DialStatus::Ok));
    assert_eq!(poll(&mut exchange), broke(Violation::Undecodable));
}

#[test]
fn a_request_that_is_too_long_for_any_peer_is_not_sent() {
    let pipe = Pipe::default();
    let long: Multiaddr = format!("/dns4/{}/tcp/1", "x".repeat(9_000))
        .parse()
        .unwrap();
    let mut exchange = Exchange::new(pipe.clone(), DialRequest::new([long], NONCE));
    assert_eq!(poll(&mut exchange), over(ProbeEnd::Reset));
    assert_eq!(pipe.written(), []);
}

/// Whatever a server sends, the exchange ends or waits, and pays no more than it may.
#[test]
fn random_messages_never_cost_more_than_was_granted() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let count = rng.random_range(1..=10usize);
        let (mut exchange, pipe) = asked(count);
        for _ in 0..rng.random_range(0..30) {
            match rng.random_range(0..10) {
                0..5 => pipe.answers(rng.random_range(0..12), DialStatus::DialError),
                5..9 => {
                    pipe.asks_for_dial_data(rng.random_range(0..12), rng.random_range(0..110_000));
                }
                _ => pipe.arrives(&[rng.random(); 3]),
            }
        }
        if rng.random() {
            pipe.ends(Then::Reset);
        }
        let (mut paid, mut responses) = (0, 0);
        for step in 0.. {
            assert!(step < 100, "it goes on for ever");
            match poll(&mut exchange) {
                Poll::Ready(Progress::Asks { bytes, .. }) => {
                    let pays = rng.random();
                    exchange.pay(pays);
                    paid += if pays { bytes } else { 0 };
                }
                Poll::Ready(Progress::Response(_)) => responses += 1,
                Poll::Ready(Progress::Over(_) | Progress::Unread) | Poll::Pending => break,
            }
        }
        assert!(responses <= count);
        assert!(paid <= count as u64 * MAX_DIAL_DATA);
        let sent: usize = pipe.dial_data().iter().sum();
        assert!(sent as u64 <= paid);
    }
}
