//! Dial data both ways: as many bytes as were asked for, however slowly the stream takes them, and read as that many.

#![no_main]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use arbitrary::Arbitrary;
use asynchronous_codec::{BytesMut, Decoder};
use futures::AsyncWrite;
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::protocol::{
    DialData, DialDataWriter, MAX_DIAL_DATA_CHUNK, Message, MessageCodec,
};

#[derive(Debug, Arbitrary)]
struct Input {
    amount: Amount,
    /// How many bytes the stream takes each time, again and again; for a 0 it is not ready.
    takes: Vec<u16>,
    /// In pieces of so many bytes it arrives.
    piece: u16,
}

#[derive(Debug, Arbitrary)]
enum Amount {
    /// Up to 16 messages, of which four are written at once.
    Usual(u16),
    /// More than anybody would pay.
    Any(u64),
}

/// No more than this is written: the stream breaks.
const ENOUGH: usize = 40_000;

struct Slow {
    taken: Vec<u8>,
    takes: Vec<u16>,
    turn: usize,
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty());
        if self.taken.len() >= ENOUGH {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let turn = self.turn;
        self.turn += 1;
        let takes = match self.takes.get(turn % self.takes.len().max(1)) {
            None => bytes.len(),
            Some(0) => return Poll::Pending,
            Some(takes) => bytes.len().min((*takes).into()),
        };
        self.taken.extend_from_slice(&bytes[..takes]);
        Poll::Ready(Ok(takes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fuzz_target!(|input: Input| {
    let amount = match input.amount {
        Amount::Usual(amount) => amount.into(),
        Amount::Any(amount) => amount,
    };
    let mut takes = input.takes;
    // Someday it is ready.
    if takes.iter().all(|takes| *takes == 0) {
        takes.clear();
    }
    let mut stream = Slow {
        taken: Vec::new(),
        takes,
        turn: 0,
    };
    let mut writer = DialDataWriter::new(amount);
    let mut cx = Context::from_waker(Waker::noop());
    let written = loop {
        if let Poll::Ready(written) = writer.poll_write_to(&mut stream, &mut cx) {
            break written;
        }
    };
    let taken = stream.taken;

    // The messages are those of the iterator.
    let mut messages = DialData::new(amount);
    assert_eq!(messages.unpaid(), amount);
    let mut expected = Vec::new();
    for message in messages.by_ref() {
        assert!((1..=MAX_DIAL_DATA_CHUNK).contains(&message.len()));
        expected.extend_from_slice(message.as_bytes());
        if expected.len() > taken.len() {
            break;
        }
    }
    match written {
        Ok(()) => {
            // Too long to be printed.
            assert!(
                taken == expected,
                "{} bytes of {}",
                taken.len(),
                expected.len()
            );
            assert_eq!(messages.unpaid(), 0);
        }
        Err(_) => assert!(expected.starts_with(&taken)),
    }

    let (mut codec, mut buffer) = (MessageCodec::default(), BytesMut::new());
    let mut read = 0_u64;
    for piece in taken.chunks(usize::from(input.piece).max(1 + taken.len() / 2_000)) {
        buffer.extend_from_slice(piece);
        while let Some(message) = codec.decode(&mut buffer).expect("it is well-formed") {
            match message {
                Message::DialDataResponse { len } => read += len as u64,
                other => panic!("not dial data: {other:?}"),
            }
        }
    }
    if written.is_ok() {
        assert_eq!(read, amount);
        assert!(buffer.is_empty());
    } else {
        assert!(read < amount);
    }
});
