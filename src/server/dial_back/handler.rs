//! The end of a dial-back connection: opens one stream, writes the nonce, reads the answer, reports.
//! It serves nobody: the connection is about to close. It has no timer: the server's job holds the deadline and closes the connection.

use std::{
    convert::Infallible,
    fmt, io, mem,
    task::{Context, Poll},
};

use asynchronous_codec::Framed;
use futures::{AsyncRead, AsyncWrite, FutureExt, SinkExt, StreamExt, future::BoxFuture};
use libp2p_core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
    handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound},
};

use super::NotDelivered;
use crate::protocol::{
    DIAL_BACK_PROTOCOL, DecodeError, DialBack, DialBackResponse, DialBackServerCodec,
    DialBackStatus, Nonce,
};

type Delivery = BoxFuture<'static, Result<(), NotDelivered>>;

/// The handler of a connection of [`DialBack`](super::DialBack).
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Handler(State);

enum State {
    /// Not a dial-back, or one that is over.
    Idle,
    /// The stream is to be opened.
    Start {
        nonce: Nonce,
    },
    /// The stream is being opened.
    Opening {
        nonce: Nonce,
    },
    Delivering(Delivery),
    Ended(Result<(), NotDelivered>),
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Idle => "Idle",
            State::Start { .. } => "Start",
            State::Opening { .. } => "Opening",
            State::Delivering(_) => "Delivering",
            State::Ended(_) => "Ended",
        })
    }
}

impl Handler {
    pub(crate) const fn idle() -> Self {
        Self(State::Idle)
    }

    pub(crate) const fn deliver(nonce: Nonce) -> Self {
        Self(State::Start { nonce })
    }

    pub(crate) fn opened(&mut self, stream: Stream) {
        if let State::Opening { nonce } = self.0 {
            self.0 = State::Delivering(deliver(stream, nonce).boxed());
        }
    }

    pub(crate) fn not_opened<E>(&mut self, error: &StreamUpgradeError<E>) {
        if let State::Opening { .. } = self.0 {
            self.0 = State::Ended(Err(match error {
                StreamUpgradeError::Timeout => NotDelivered::TimedOut,
                StreamUpgradeError::NegotiationFailed => NotDelivered::ProtocolNotSupported,
                StreamUpgradeError::Apply(_) | StreamUpgradeError::Io(_) => {
                    NotDelivered::StreamClosed
                }
            }));
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match mem::replace(&mut self.0, State::Idle) {
            State::Start { nonce } => {
                self.0 = State::Opening { nonce };
                Poll::Ready(Step::OpenStream)
            }
            State::Delivering(mut delivery) => match delivery.poll_unpin(cx) {
                Poll::Ready(result) => Poll::Ready(Step::Report(result)),
                Poll::Pending => {
                    self.0 = State::Delivering(delivery);
                    Poll::Pending
                }
            },
            State::Ended(result) => Poll::Ready(Step::Report(result)),
            waiting @ (State::Idle | State::Opening { .. }) => {
                self.0 = waiting;
                Poll::Pending
            }
        }
    }
}

/// What the handler has for the connection or the behaviour.
#[derive(Debug)]
pub(crate) enum Step {
    OpenStream,
    Report(Result<(), NotDelivered>),
}

/// Writes the nonce and waits for the acknowledgement. What the client does to the stream after that
/// is of no interest: go-libp2p resets it.
async fn deliver<S>(stream: S, nonce: Nonce) -> Result<(), NotDelivered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = DialBackServerCodec::new().with_nonce_encoding(nonce.encoding);
    let mut framed = Framed::new(stream, codec);
    framed
        .send(DialBack {
            nonce: nonce.number,
        })
        .await
        .map_err(|_| NotDelivered::StreamClosed)?;
    match framed.next().await {
        Some(Ok(DialBackResponse {
            status: DialBackStatus::Ok,
        })) => Ok(()),
        Some(Err(DecodeError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
            Err(NotDelivered::Reset)
        }
        None | Some(Err(DecodeError::Io(_))) => Err(NotDelivered::StreamClosed),
        Some(Err(_)) => Err(NotDelivered::WrongAnswer),
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Result<(), NotDelivered>;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        self.poll(cx).map(|step| match step {
            Step::OpenStream => ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(DIAL_BACK_PROTOCOL), ()),
            },
            Step::Report(result) => ConnectionHandlerEvent::NotifyBehaviour(result),
        })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.opened(protocol),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.not_opened(&error);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::executor::block_on;

    use super::*;

    /// A stream that takes everything and then reads as it is told.
    struct Ends(Option<io::ErrorKind>);

    impl AsyncRead for Ends {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(self.0.map_or(Ok(0), |kind| Err(kind.into())))
        }
    }

    impl AsyncWrite for Ends {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_reset_after_the_nonce_is_told_from_a_closed_stream_and_a_lost_connection() {
        for (end, expected) in [
            (Some(io::ErrorKind::ConnectionReset), NotDelivered::Reset),
            (
                Some(io::ErrorKind::NotConnected),
                NotDelivered::StreamClosed,
            ),
            (None, NotDelivered::StreamClosed),
        ] {
            assert_eq!(
                block_on(deliver(Ends(end), Nonce::default())),
                Err(expected)
            );
        }
    }
}
