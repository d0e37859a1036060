//! A stream of bytes between two ends in one process.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite};

/// How many bytes wait for the reader before the writer has to.
const WINDOW: usize = 256 * 1024;

#[derive(Default)]
struct Half {
    bytes: VecDeque<u8>,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Half {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

type Shared = Arc<Mutex<Half>>;

/// One end. Closed both ways when it is dropped.
pub struct Pipe {
    reads: Shared,
    writes: Shared,
}

/// Both ends.
pub fn pipe() -> (Pipe, Pipe) {
    let (here, there) = (Shared::default(), Shared::default());
    let other = Pipe {
        reads: there.clone(),
        writes: here.clone(),
    };
    let one = Pipe {
        reads: here,
        writes: there,
    };
    (one, other)
}

fn lock(half: &Shared) -> MutexGuard<'_, Half> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    /// Takes what has come in.
    pub fn take(&mut self) -> Vec<u8> {
        let mut half = lock(&self.reads);
        half.wake();
        half.bytes.drain(..).collect()
    }

    /// Whether the other end writes no more.
    pub fn is_ended(&self) -> bool {
        lock(&self.reads).closed
    }

    /// Puts bytes in, whether there is room or not.
    pub fn put(&mut self, bytes: &[u8]) {
        let mut half = lock(&self.writes);
        if !half.closed {
            half.bytes.extend(bytes);
            half.wake();
        }
    }

    /// Writes no more.
    pub fn end(&mut self) {
        let mut half = lock(&self.writes);
        half.closed = true;
        half.wake();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for half in [&self.reads, &self.writes] {
            let mut half = lock(half);
            half.closed = true;
            half.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut half = lock(&self.reads);
        let count = half.bytes.len().min(buffer.len());
        if count == 0 && !half.closed && !buffer.is_empty() {
            half.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        for (to, from) in buffer.iter_mut().zip(half.bytes.drain(..count)) {
            *to = from;
        }
        half.wake();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut half = lock(&self.writes);
        if half.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(half.bytes.len());
        if room == 0 {
            half.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        half.bytes.extend(&bytes[..count]);
        half.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
