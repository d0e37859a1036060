//! One dial-request stream: reads and writes the messages of the exchange, in the order that the
//! behaviour commands. It counts bytes and knows no policy, no limits and no clock.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use asynchronous_codec::Framed;
use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
use libp2p_swarm::Stream;

use super::{End, Misbehaviour};
use crate::protocol::{
    DecodeError, DialDataRequest, DialRequest, DialResponse, Limits, MAX_MESSAGE_LEN, Message,
    MessageCodec, ResponseStatus,
};

/// Dial data in smaller messages than this costs the server more than the client. The last message may
/// be smaller. go-libp2p draws the same line.
const MIN_DIAL_DATA_MESSAGE: usize = 100;

/// How many bytes of a rejected request are read and dropped: more than any request has.
const MAX_DRAIN: usize = 2 * MAX_MESSAGE_LEN;

/// What happened on the stream.
#[derive(Debug)]
pub(super) enum Progress {
    /// The request was read.
    Requested(DialRequest),
    /// The dial data is complete; this many bytes came.
    Paid(u64),
    /// The exchange is over, and with it the stream.
    Over { end: End, dial_data: u64 },
}

pub(super) struct Exchange {
    framed: Framed<Stream, MessageCodec>,
    step: Step,
    /// Dial data received so far, in bytes.
    paid: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing is read until the behaviour says so.
    Untouched,
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
    },
    WriteAnswer,
    WriteRejection,
    /// Reads what the client sends on a stream that was rejected, so that the rejection reaches it: to
    /// drop a stream with unread bytes is to reset it, and some peers then lose what they have
    /// not read yet.
    Drain {
        left: usize,
    },
}

impl Exchange {
    pub(super) fn new(stream: Stream, limits: Limits) -> Self {
        Self {
            framed: Framed::new(stream, MessageCodec::new(limits)),
            step: Step::Untouched,
            paid: 0,
        }
    }

    pub(super) fn read_request(&mut self) {
        if self.step == Step::Untouched {
            self.step = Step::ReadRequest;
        }
    }

    pub(super) fn ask_for_data(&mut self, request: DialDataRequest) {
        if matches!(self.step, Step::Wait | Step::WaitHalfClosed)
            && self.queue(Message::DialDataRequest(request))
        {
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

    /// Answers `E_REQUEST_REJECTED` without reading the request.
    pub(super) fn reject(&mut self) {
        let response = DialResponse::without_dial(ResponseStatus::RequestRejected);
        if self.step == Step::Untouched && self.queue(Message::DialResponse(response)) {
            self.step = Step::WriteRejection;
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
                Step::Untouched => return Poll::Pending,
                Step::ReadRequest => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(Message::DialRequest(request))) => {
                        self.step = Step::Wait;
                        return Poll::Ready(Progress::Requested(request));
                    }
                    Some(Ok(_)) => return self.over(misbehaved(Misbehaviour::NotARequest)),
                    Some(Err(error)) => return self.over(blame(&error)),
                    None => return self.over(End::ClientLeft),
                },
                Step::Wait => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(_)) => return self.over(misbehaved(Misbehaviour::Unasked)),
                    Some(Err(error)) => return self.over(blame(&error)),
                    None if self.was_reset(cx) => return self.over(End::ClientLeft),
                    None => self.step = Step::WaitHalfClosed,
                },
                Step::WaitHalfClosed => return Poll::Pending,
                Step::FlushDataRequest { due } => {
                    if ready!(self.framed.poll_flush_unpin(cx)).is_err() {
                        return self.over(End::ClientLeft);
                    }
                    self.step = Step::ReadData { due };
                }
                Step::ReadData { due } => match ready!(self.framed.poll_next_unpin(cx)) {
                    Some(Ok(Message::DialDataResponse { len })) => {
                        self.paid = self.paid.saturating_add(len as u64);
                        if self.paid >= due {
                            self.step = Step::Wait;
                            return Poll::Ready(Progress::Paid(self.paid));
                        }
                        if len < MIN_DIAL_DATA_MESSAGE {
                            return self.over(misbehaved(Misbehaviour::SmallDialData));
                        }
                    }
                    Some(Ok(_)) => return self.over(misbehaved(Misbehaviour::NotDialData)),
                    Some(Err(error)) => return self.over(blame(&error)),
                    None => return self.over(End::ClientLeft),
                },
                Step::WriteAnswer => {
                    // Closing flushes first.
                    let end = match ready!(self.framed.poll_close_unpin(cx)) {
                        Ok(()) => End::Answered,
                        Err(_) => End::ClientLeft,
                    };
                    return self.over(end);
                }
                Step::WriteRejection => {
                    if ready!(self.framed.poll_close_unpin(cx)).is_err() {
                        return self.over(End::ClientLeft);
                    }
                    self.step = Step::Drain { left: MAX_DRAIN };
                }
                Step::Drain { left } => {
                    let mut buffer = [0; 512];
                    match ready!(Pin::new(&mut *self.framed).poll_read(cx, &mut buffer)) {
                        Ok(read) if read > 0 && read < left => {
                            self.step = Step::Drain { left: left - read };
                        }
                        _ => return self.over(End::Answered),
                    }
                }
            }
        }
    }

    fn over(&self, end: End) -> Poll<Progress> {
        Poll::Ready(Progress::Over {
            end,
            dial_data: self.paid,
        })
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
