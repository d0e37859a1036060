//! A multiplexer whose connections close in time, whatever the peer does.
//!
//! To close a connection in good order is to write the last bytes. A peer that made this node fill its send buffer, by
//! pings that must be answered for instance, and reads nothing, keeps them from ever being written, and with them the
//! socket: `libp2p-yamux` waits without a deadline, and `libp2p-swarm` drops no connection of which it was asked to close it.
//! This waits a moment and then fails, and the swarm drops what failed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, TryFutureExt, future::MapOk};
use futures_timer::Delay;
use libp2p_core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};

/// How long a connection may take to close. A peer that reads takes no time, since what is to be written fits into the
/// kernel's buffer; a slow one that has much to read before gets a few round trips. Chosen; all that depends on it is how
/// long a hostile peer keeps a socket.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// A multiplexer upgrade whose connections take at most two seconds to close.
///
/// Wrap the multiplexer of the swarm that dials, for all TCP-based transports:
///
/// ```
/// use libp2p::{SwarmBuilder, noise, tcp, yamux};
/// use libp2p_autonat_v2::server::{self, BoundedClose};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let swarm = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), noise::Config::new, || {
///         BoundedClose::new(yamux::Config::default())
///     })?
///     .with_quic()
///     .with_behaviour(|_| server::Behaviour::default())?
///     .build();
/// # let _ = swarm;
/// # Ok(())
/// # }
/// ```
///
/// Without it a dial-back whose target never reads holds its socket, and its place among
/// [those at once](super::Config::with_max_concurrent_dials), for as long as the target likes. QUIC needs no such thing.
#[derive(Debug, Clone, Default)]
pub struct BoundedClose<U>(U);

impl<U> BoundedClose<U> {
    /// Wraps a multiplexer upgrade, such as `libp2p_yamux::Config`.
    pub const fn new(multiplexer: U) -> Self {
        Self(multiplexer)
    }
}

impl<U: UpgradeInfo> UpgradeInfo for BoundedClose<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C, U, M> InboundConnectionUpgrade<C> for BoundedClose<U>
where
    U: InboundConnectionUpgrade<C, Output = M>,
    M: StreamMuxer,
{
    type Output = Muxer<M>;
    type Error = U::Error;
    type Future = MapOk<U::Future, fn(M) -> Muxer<M>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(socket, info).map_ok(Muxer::new)
    }
}

impl<C, U, M> OutboundConnectionUpgrade<C> for BoundedClose<U>
where
    U: OutboundConnectionUpgrade<C, Output = M>,
    M: StreamMuxer,
{
    type Output = Muxer<M>;
    type Error = U::Error;
    type Future = MapOk<U::Future, fn(M) -> Muxer<M>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(socket, info).map_ok(Muxer::new)
    }
}

/// The connection of a [`BoundedClose`].
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Muxer<M> {
    inner: M,
    /// Runs from the first attempt to close.
    closing: Option<Delay>,
}

impl<M> Muxer<M> {
    const fn new(inner: M) -> Self {
        Self {
            inner,
            closing: None,
        }
    }
}

impl<M> StreamMuxer for Muxer<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner)
            .poll_inbound(cx)
            .map_err(io::Error::other)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner)
            .poll_outbound(cx)
            .map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.inner).poll_close(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        self.closing
            .get_or_insert_with(|| Delay::new(CLOSE_TIME))
            .poll_unpin(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::{executor::block_on, future::poll_fn, io::Cursor};

    use super::*;

    /// A connection that closes only if it is told to.
    struct Stubborn {
        closes: bool,
    }

    impl StreamMuxer for Stubborn {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.closes {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
            Poll::Pending
        }
    }

    fn close(closes: bool) -> io::Result<()> {
        let mut muxer = Muxer::new(Stubborn { closes });
        block_on(poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx)))
    }

    #[test]
    fn a_connection_that_does_not_close_is_given_up() {
        let start = Instant::now();
        let error = close(false).expect_err("it does not close");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= CLOSE_TIME);
    }

    #[test]
    fn a_connection_that_closes_is_not_waited_for() {
        let start = Instant::now();
        close(true).expect("it closes");
        assert!(start.elapsed() < CLOSE_TIME);
    }
}
