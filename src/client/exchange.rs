//! The client's end of a dial-request stream: writes the request, pays dial data, reads the answers.
//!
//! It counts and checks what the protocol fixes (spec, "AutoNAT V2 Protocol") and knows no policy: what an answer means is for the core to
//! decide. A server may answer once, or once for each address as js-libp2p does, on the same stream.

use std::task::{Context, Poll, ready};

use asynchronous_codec::Framed;
use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};

use crate::{
    protocol::{
        DecodeError, DialDataRequest, DialDataWriter, DialRequest, DialResponse, Limits,
        MAX_DIAL_DATA, Message, MessageCodec, ResponseStatus,
    },
    reachability::{ProbeEnd, Violation},
};

/// What happened on the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Response(DialResponse),
    /// The server wants this many bytes of dial data for an address. Nothing goes on before [`Exchange::pay`] says whether
    /// it gets them.
    Asks {
        index: u32,
        bytes: u64,
    },
    /// The exchange is over, and with it the stream.
    Over(ProbeEnd),
    /// Likewise: the server ended the stream before it said anything. It may not have been able to read the request.
    Unread,
}

pub(super) struct Exchange<S> {
    framed: Framed<S, MessageCodec>,
    step: Step,
    addresses: usize,
    responses: usize,
    /// Whether the request was written and nothing has come back yet, not half a message.
    silent: bool,
    /// The addresses that dial data was asked for, one bit each.
    charged: u64,
}

enum Step {
    WriteRequest,
    Read,
    /// So many bytes were asked for.
    Await(u64),
    Pay(DialDataWriter),
    TurnDown,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<S> {
    /// The request has at most 64 addresses.
    pub(super) fn new(stream: S, request: DialRequest) -> Self {
        let mut framed = Framed::new(stream, MessageCodec::new(Limits::default()));
        let addresses = request.addrs.len();
        let step = match framed.start_send_unpin(Message::DialRequest(request)) {
            Ok(()) => Step::WriteRequest,
            Err(_) => Step::Close,
        };
        let silent = matches!(step, Step::WriteRequest);
        Self {
            framed,
            step,
            addresses,
            responses: 0,
            silent,
            charged: 0,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        loop {
            match &mut self.step {
                // Where writing fails, the server may have answered: go-libp2p rejects requests unread, and over QUIC that
                // fails the write.
                Step::WriteRequest => {
                    let _ = ready!(self.framed.poll_flush_unpin(cx));
                    self.step = Step::Read;
                }
                Step::Await(_) => return Poll::Pending,
                Step::TurnDown => return Poll::Ready(Progress::Over(ProbeEnd::DialDataRefused)),
                Step::Pay(writer) => {
                    let _ = ready!(writer.poll_write_to(&mut *self.framed, cx));
                    self.step = Step::Read;
                }
                Step::Read => match ready!(self.poll_message(cx)) {
                    Some(Ok(message)) => {
                        return Poll::Ready(self.read(message));
                    }
                    // The specification has a response with an unknown status discarded. Another may follow.
                    Some(Err(
                        DecodeError::UnknownResponseStatus(_) | DecodeError::UnknownDialStatus(_),
                    )) => {
                        if let Some(end) = self.count_response() {
                            return Poll::Ready(Progress::Over(end));
                        }
                    }
                    Some(Err(DecodeError::Io(_))) | None if self.silent => {
                        return Poll::Ready(Progress::Unread);
                    }
                    Some(Err(error)) => return Poll::Ready(Progress::Over(self.blame(&error))),
                    None => return Poll::Ready(Progress::Over(self.broken_off())),
                },
                Step::Close => {
                    // The answers are in: whether the server takes notice of the end does not matter.
                    let _ = ready!(self.framed.poll_close_unpin(cx));
                    return Poll::Ready(Progress::Over(self.broken_off()));
                }
            }
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, DecodeError>>> {
        let read = ready!(self.framed.poll_next_unpin(cx));
        if !matches!(read, None | Some(Err(DecodeError::Io(_)))) {
            self.silent = false;
        }
        Poll::Ready(read)
    }

    fn read(&mut self, message: Message) -> Progress {
        match message {
            Message::DialResponse(response) => {
                if let Some(end) = self.count_response() {
                    return Progress::Over(end);
                }
                let for_all = matches!(
                    response.status,
                    ResponseStatus::RequestRejected | ResponseStatus::InternalError
                );
                if for_all {
                    self.step = Step::Close;
                }
                Progress::Response(response)
            }
            Message::DialDataRequest(request) => self.asked_to_pay(request),
            _ => violation(Violation::UnexpectedMessage),
        }
    }

    /// The end of the exchange, if the server has none left to give.
    fn count_response(&mut self) -> Option<ProbeEnd> {
        if self.responses >= self.addresses {
            return Some(ProbeEnd::ProtocolViolation(Violation::TooManyResponses));
        }
        self.responses += 1;
        if self.responses == self.addresses {
            self.step = Step::Close;
        }
        None
    }

    /// Sends the dial data that was asked for, or breaks the exchange off.
    pub(super) fn pay(&mut self, pays: bool) {
        if let Step::Await(bytes) = self.step {
            self.step = if pays {
                Step::Pay(DialDataWriter::new(bytes))
            } else {
                Step::TurnDown
            };
        }
    }

    fn asked_to_pay(&mut self, request: DialDataRequest) -> Progress {
        let in_range = usize::try_from(request.addr_idx).is_ok_and(|i| i < self.addresses);
        let bit = 1u64.checked_shl(request.addr_idx).unwrap_or(0);
        if !in_range || self.charged & bit != 0 {
            return violation(Violation::DialDataIndex);
        }
        if request.num_bytes > MAX_DIAL_DATA {
            return violation(Violation::DialDataSize);
        }
        self.charged |= bit;
        self.step = Step::Await(request.num_bytes);
        Progress::Asks {
            index: request.addr_idx,
            bytes: request.num_bytes,
        }
    }

    fn blame(&self, error: &DecodeError) -> ProbeEnd {
        match error {
            DecodeError::Io(_) | DecodeError::Truncated => self.broken_off(),
            DecodeError::LengthOverLimit { .. } => ProbeEnd::ProtocolViolation(Violation::TooLong),
            _ => ProbeEnd::ProtocolViolation(Violation::Undecodable),
        }
    }

    /// A stream that ends or breaks after an answer is how some servers close it.
    fn broken_off(&self) -> ProbeEnd {
        if self.responses > 0 {
            ProbeEnd::Completed
        } else {
            ProbeEnd::Reset
        }
    }
}

fn violation(violation: Violation) -> Progress {
    Progress::Over(ProbeEnd::ProtocolViolation(violation))
}

#[cfg(test)]
mod tests;
