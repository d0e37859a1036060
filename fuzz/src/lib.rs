//! A network in memory, for targets that drive a swarm: no sockets, no threads, no cryptography. The other side of each
//! connection is the fuzz target's own, down to the bytes of each stream.

pub mod net;
pub mod pipe;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::StreamExt;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_swarm::{NetworkBehaviour, Swarm, SwarmEvent};

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls the swarm until it has nothing to do.
pub fn drive<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    mut on_event: impl FnMut(SwarmEvent<B::ToSwarm>),
) {
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    for _ in 0..100_000 {
        woken.0.store(false, Ordering::Relaxed);
        match swarm.poll_next_unpin(&mut cx) {
            Poll::Ready(Some(event)) => on_event(event),
            // It may be pending only to let others have their turn.
            Poll::Pending if woken.0.load(Ordering::Relaxed) => {}
            Poll::Ready(None) | Poll::Pending => return,
        }
    }
    panic!("the swarm spins");
}

/// `/ip4/…/tcp/…`.
pub fn tcp(ip: [u8; 4], port: u16) -> Multiaddr {
    Multiaddr::from(std::net::Ipv4Addr::from(ip)).with(Protocol::Tcp(port))
}

/// A message with its length in front.
pub fn frame<E>(mut encoder: E, message: E::Item<'_>) -> Vec<u8>
where
    E: asynchronous_codec::Encoder,
{
    let mut buffer = asynchronous_codec::BytesMut::new();
    match encoder.encode(message, &mut buffer) {
        Ok(()) => buffer.to_vec(),
        Err(_) => Vec::new(),
    }
}

/// What is left when the answer to the proposal of a protocol is taken off; `None` if the answer is another.
pub fn behind_agreement<'a>(
    bytes: &'a [u8],
    protocol: &libp2p_swarm::StreamProtocol,
) -> Option<&'a [u8]> {
    let mut bytes = bytes;
    for line in ["/multistream/1.0.0", protocol.as_ref()] {
        bytes = bytes
            .strip_prefix(&[line.len() as u8 + 1])?
            .strip_prefix(line.as_bytes())?
            .strip_prefix(b"\n")?;
    }
    Some(bytes)
}
