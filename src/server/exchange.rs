//! One dial-request stream: reads and writes the messages of the exchange, in the order that the
//! behaviour commands. It counts bytes and knows no policy, no limits and no clock.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use asynchronous_codec::Framed;
use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
use libp2p_swarm::Stream;

use super::{End, Misbehaviour};
use crate::protocol::{
    DecodeError, DialDataRequest, DialRequest, DialResponse, Limits, MAX_MESSAGE_LEN, Message,
    MessageCodec,
};

/// Dial data in smaller messages than this costs the server more than the client. The last message may
/// be smaller. go-libp2p draws the same line.
const MIN_DIAL_DATA_MESSAGE: usize = 100;

/// One byte in so many may be something other than dial data. Messages of the smallest size have one in twenty.
const PADDING: u64 = 8;

/// What happened on the stream.
#[derive(Debug)]
pub(super) enum Progress {
    /// The request was read.
    Requested(DialRequest),
    /// The dial data is complete.
    Paid,
    /// The exchange is over, and with it the stream.
    Over(End),
}

/// The bytes of dial data that have come in, as the behaviour reads them when a request is over, however it ends: a
/// handler may have no time to say so.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// A stream that was admitted. It has buffers of some 16 KiB.
pub(super) struct Exchange {
    framed: Framed<Stream, MessageCodec>,
    limits: Limits,
    step: Step,
    /// Dial data received so far, in bytes.
    paid: u64,
    meter: Option<Meter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ReadRequest,
    /// The behaviour's turn. The client has nothing to say, but may leave.
    Wait,
    /// As before; the client has closed its side, as it may.
    WaitHalfClosed,
    FlushDataRequest {
        due: u64,
    },
    ReadData {
        due: u64,
        /// What the codec had read before.
        before: u64,
    },
    WriteAnswer,
}

impl Exchange {
    /// Starts with reading the request.
    pub(super) fn new(stream: Stream, limits: Limits) -> Self {
        Self {
            framed: Framed::new(stream, MessageCodec::new(limits)),
            limits,
            step: Step::ReadRequest,
            paid: 0,
            meter: None,
        }
    }

    pub(super) fn ask_for_data(&mut self, request: DialDataRequest, meter: Meter) {
        if matches!(self.step, Step::Wait | Step::WaitHalfClosed)
            && self.queue(Message::DialDataRequest(request))
        {
            self.meter = Some(meter);
            self.step = Step::FlushDataRequest {
                due: request.num_bytes,
            };
        }
    }

    pub(super) fn answer(&mut self, response: DialResponse) {
        if self.step != Step::WriteAnswer && self.queue(Message::DialResponse(response)) {
            self.step = Step::WriteAnswer;
        }
    }

    /// Both messages of a server are far smaller than the write buffer, which holds no more than one of
    /// them at a time, so that there is always room.
    fn queue(&mut self, message: Message) -> bool {
        self.framed.start_send_unpin(message).is_ok()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        loop {
            match self.step {
                Step::ReadRequest => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(Message::DialRequest(request))) if has_no_nonce(&request) => {
                        return over(misbehaved(Misbehaviour::NoNonce));
                    }
                    Some(Ok(Message::DialRequest(request))) => {
                        self.step = Step::Wait;
                        return Poll::Ready(Progress::Requested(request));
                    }
                    Some(Ok(_)) => return over(misbehaved(Misbehaviour::NotARequest)),
                    Some(Err(error)) => return over(blame(&error)),
                    None => return over(End::ClientLeft),
                },
                Step::Wait => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(_)) => return over(misbehaved(Misbehaviour::Unasked)),
                    Some(Err(error)) => return over(blame(&error)),
                    None if self.was_reset(cx) => return over(End::ClientLeft),
                    None => self.step = Step::WaitHalfClosed,
                },
                Step::WaitHalfClosed => return Poll::Pending,
                Step::FlushDataRequest { due } => {
                    if ready!(self.framed.poll_flush_unpin(cx)).is_err() {
                        return over(End::ClientLeft);
                    }
                    let before = self.framed.codec().bytes_read();
                    self.step = Step::ReadData { due, before };
                }
                Step::ReadData { due, before } => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(Message::DialDataResponse { len })) => {
                        self.paid = self.paid.saturating_add(len as u64);
                        if let Some(meter) = &self.meter {
                            meter.set(self.paid);
                        }
                        if self.paid >= due {
                            self.step = Step::Wait;
                            return Poll::Ready(Progress::Paid);
                        }
                        if len < MIN_DIAL_DATA_MESSAGE {
                            return over(misbehaved(Misbehaviour::SmallDialData));
                        }
                        let read = self.framed.codec().bytes_read() - before;
                        let most = self.paid + self.paid / PADDING;
                        if read > most.saturating_add(self.limits.max_message_len()) {
                            return over(misbehaved(Misbehaviour::PaddedDialData));
                        }
                    }
                    Some(Ok(_)) => return over(misbehaved(Misbehaviour::NotDialData)),
                    Some(Err(error)) => return over(blame(&error)),
                    None => return over(End::ClientLeft),
                },
                Step::WriteAnswer => {
                    // Closing flushes first.
                    let end = match ready!(self.framed.poll_close_unpin(cx)) {
                        Ok(()) => End::Answered,
                        Err(_) => End::ClientLeft,
                    };
                    return over(end);
                }
            }
        }
    }

    /// Tells a reset from a half-close. yamux reads both as the end of the stream, but takes no more writes after a
    /// reset. Over QUIC a reset is an error when read; a libp2p client that drops its stream ends its side instead, and
    /// stops ours, mostly in the same packet. If not, it shows when the answer is written.
    fn was_reset(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(
            Pin::new(&mut *self.framed).poll_write(cx, &[]),
            Poll::Ready(Err(_))
        )
    }
}

/// A dial would have nothing to bring. Where there is no address to dial either, the request is refused for that.
fn has_no_nonce(request: &DialRequest) -> bool {
    !request.has_nonce() && request.addrs.iter().any(Option::is_some)
}

const fn over(end: End) -> Poll<Progress> {
    Poll::Ready(Progress::Over(end))
}

const fn misbehaved(cause: Misbehaviour) -> End {
    End::Misbehaved(cause)
}

/// A stream that breaks is the network's doing or the client's right; bytes without a meaning are a
/// violation.
const fn blame(error: &DecodeError) -> End {
    match error {
        DecodeError::Io(_) | DecodeError::Truncated => End::ClientLeft,
        DecodeError::LengthOverLimit { .. } => misbehaved(Misbehaviour::TooLong),
        _ => misbehaved(Misbehaviour::Garbage),
    }
}

/// How many bytes of a rejected request are read and dropped: more than any request has.
const MAX_DRAIN: usize = 2 * MAX_MESSAGE_LEN;

/// What a rejected client reads: a `DialResponse` of `E_REQUEST_REJECTED`, the same for all.
const REJECTION: [u8; 5] = [4, 0x12, 2, 0x08, 100];

/// A stream that was rejected before anything was read. It has no buffers.
pub(super) struct Rejection {
    stream: Stream,
    step: RejectionStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectionStep {
    Write {
        written: usize,
    },
    Close,
    /// Reads what the client sends, so that the rejection reaches it: to drop a stream with unread bytes is to
    /// reset it, and some peers then lose what they have not read yet.
    Drain {
        left: usize,
    },
}

impl Rejection {
    pub(super) const fn new(stream: Stream) -> Self {
        Self {
            stream,
            step: RejectionStep::Write { written: 0 },
        }
    }

    /// Ready when the stream can be dropped.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut stream = Pin::new(&mut self.stream);
        loop {
            match self.step {
                RejectionStep::Write { written } => {
                    let rest = REJECTION.get(written..).unwrap_or_default();
                    if rest.is_empty() {
                        self.step = RejectionStep::Close;
                        continue;
                    }
                    match ready!(stream.as_mut().poll_write(cx, rest)) {
                        Ok(more) if more > 0 => {
                            self.step = RejectionStep::Write {
                                written: written + more,
                            };
                        }
                        _ => return Poll::Ready(()),
                    }
                }
                // Closing flushes first.
                RejectionStep::Close => match ready!(stream.as_mut().poll_close(cx)) {
                    Ok(()) => self.step = RejectionStep::Drain { left: MAX_DRAIN },
                    Err(_) => return Poll::Ready(()),
                },
                RejectionStep::Drain { left } => {
                    let mut buffer = [0; 512];
                    match ready!(stream.as_mut().poll_read(cx, &mut buffer)) {
                        Ok(read) if read > 0 && read < left => {
                            self.step = RejectionStep::Drain { left: left - read };
                        }
                        _ => return Poll::Ready(()),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use asynchronous_codec::{BytesMut, Encoder};

    use super::*;
    use crate::protocol::ResponseStatus;

    #[test]
    fn a_rejection_is_the_message_that_the_codec_would_write() {
        let mut written = BytesMut::new();
        let response = DialResponse::without_dial(ResponseStatus::RequestRejected);
        MessageCodec::default()
            .encode(Message::DialResponse(response), &mut written)
            .expect("short enough");
        assert_eq!(written[..], REJECTION);
    }

    #[test]
    fn a_stream_that_was_not_admitted_is_small() {
        assert!(size_of::<Rejection>() <= size_of::<Stream>() + 32);
    }
}
