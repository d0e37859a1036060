//! The book of dials: from the moment that one is asked for until its socket is gone. Whether anybody still waits for it makes
//! no difference to how long it counts: in a swarm that others use too a dial cannot be aborted, and a target can keep a
//! connection from closing. Over QUIC there are fewer places.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use libp2p_identity::PeerId;
use web_time::Instant;

use super::{
    command::{DialId, RequestId},
    limits::{Limit, Limits},
    policy::Chosen,
};

/// How long a QUIC endpoint outlives its connection: three times the probe timeout (RFC 9000 section 10.2), which before the
/// first round trip is taken to be a second (RFC 9002 section 6.2.2: a round trip of 333 ms).
const UNKNOWN_DRAIN: Duration = Duration::from_secs(3);

/// The acknowledgement delay in a probe timeout (RFC 9000 section 18.2), three times.
const ACK_DELAYS: Duration = Duration::from_millis(3 * 25);

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    /// `None` for a name.
    target: Option<IpAddr>,
    is_udp: bool,
    started: Instant,
    established: Option<Instant>,
    /// Who waits for its outcome. `None` once that is known, or of no interest any more.
    request: Option<RequestId>,
}

impl Entry {
    /// When the last of its socket is gone, if the swarm says now that its connection is. Over QUIC from a new port the
    /// endpoint and its buffers stay until whatever is on its way from the other side must have arrived. An estimate, as the
    /// swarm does not tell: a probe timeout is a round trip and what it varies by, and the handshake took a round trip and
    /// the other side's time.
    fn drained_at(&self, now: Instant) -> Instant {
        let drain = self.established.map_or(UNKNOWN_DRAIN, |at| {
            let handshake = at.saturating_duration_since(self.started);
            (3 * handshake.min(UNKNOWN_DRAIN) + ACK_DELAYS).min(UNKNOWN_DRAIN)
        });
        now + drain
    }
}

/// At most [`Limits::dials`] of them.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    dials: BTreeMap<DialId, Entry>,
    /// When the last of those over QUIC is gone whose connections are. At most [`Limits::quic_dials`].
    draining: Vec<Instant>,
    next: u64,
}

impl Dials {
    /// Those that may hold a socket.
    pub(crate) fn len(&self) -> usize {
        self.dials.len() + self.draining.len()
    }

    /// Those of them that nobody waits for any more, and whose target has a say in how long they last.
    pub(crate) fn lingering(&self) -> usize {
        self.dials
            .values()
            .filter(|dial| dial.request.is_none())
            .count()
    }

    /// Whether a dial must wait, and for what: for the connection of another dial-back of the same peer to be gone, or, over
    /// QUIC, for one of few places.
    pub(crate) fn must_wait(&self, limits: &Limits, peer: PeerId, is_udp: bool) -> Option<Limit> {
        if self.occupies(peer) {
            return Some(Limit::DialsOfPeer);
        }
        (is_udp && self.quic_is_full(limits)).then_some(Limit::QuicDials)
    }

    /// Whether a dial-back may have a connection to this peer. A dial that is given up before it is established, as to a
    /// silent target, is refused if it still gets through, and its peer has no connection of it.
    pub(crate) fn occupies(&self, peer: PeerId) -> bool {
        self.dials
            .values()
            .any(|dial| (dial.request.is_some() || dial.established.is_some()) && dial.peer == peer)
    }

    pub(crate) fn quic_is_full(&self, limits: &Limits) -> bool {
        let quic = self.dials.values().filter(|dial| dial.is_udp).count() + self.draining.len();
        quic >= limits.quic_dials as usize
    }

    /// Whether there is room for one more dial to this IP.
    pub(crate) fn room(&self, limits: &Limits, target: Option<IpAddr>) -> Result<(), Limit> {
        let over = self.dials.values().filter(|dial| dial.request.is_none());
        limits.place_for_dial(target, self.len(), over.map(|dial| dial.target))
    }

    pub(crate) fn start(
        &mut self,
        now: Instant,
        peer: PeerId,
        chosen: &Chosen,
        request: RequestId,
    ) -> DialId {
        let id = DialId(self.next);
        self.next += 1;
        self.dials.insert(
            id,
            Entry {
                peer,
                target: chosen.ip,
                is_udp: chosen.is_udp,
                started: now,
                established: None,
                request: Some(request),
            },
        );
        id
    }

    /// The connection is established. Who waits for it.
    pub(crate) fn established(&mut self, now: Instant, id: DialId) -> Option<RequestId> {
        let dial = self.dials.get_mut(&id)?;
        dial.established = Some(now);
        dial.request
    }

    /// The outcome of this dial is known. Who waits for it, if anybody still does.
    pub(crate) fn ended(&mut self, id: DialId) -> Option<RequestId> {
        self.dials.get_mut(&id)?.request.take()
    }

    /// Nobody waits for the dial of this request any more, if it has one.
    pub(crate) fn give_up(&mut self, request: RequestId) -> Option<DialId> {
        let (id, dial) = self
            .dials
            .iter_mut()
            .find(|(_, dial)| dial.request == Some(request))?;
        dial.request = None;
        Some(*id)
    }

    /// The connection of this dial is gone.
    pub(crate) fn gone(&mut self, now: Instant, id: DialId) {
        if let Some(dial) = self.dials.remove(&id)
            && dial.is_udp
        {
            self.draining.push(dial.drained_at(now));
        }
    }

    /// When the next place over QUIC is free again, if one will be by itself.
    pub(crate) fn next_drained(&self) -> Option<Instant> {
        self.draining.iter().min().copied()
    }

    /// Frees the places of those that are gone by now. Whether there were any.
    pub(crate) fn drained(&mut self, now: Instant) -> bool {
        let before = self.draining.len();
        self.draining.retain(|at| *at > now);
        self.draining.len() < before
    }
}

#[cfg(test)]
mod tests {
    use libp2p_swarm::ConnectionId;

    use super::*;

    #[test]
    fn a_place_over_quic_is_taken_until_the_endpoint_has_drained() {
        let limits = Limits {
            quic_dials: 1,
            ..crate::service::Config::default().limits
        };
        let start = Instant::now();
        let quic = Chosen {
            index: 0,
            addr: "/ip4/20.1.0.1/udp/1/quic-v1".parse().expect("valid"),
            ip: Some([20, 1, 0, 1].into()),
            is_udp: true,
            is_client_ip: true,
        };
        let request = RequestId {
            connection: ConnectionId::new_unchecked(1),
            stream: 0,
        };
        for (handshake, drain) in [
            (Some(10), Duration::from_millis(30 + 75)),
            (Some(5_000), UNKNOWN_DRAIN),
            (None, UNKNOWN_DRAIN),
        ] {
            let mut dials = Dials::default();
            let peer = PeerId::random();
            let wait = |dials: &Dials, is_udp| dials.must_wait(&limits, PeerId::random(), is_udp);
            let id = dials.start(start, peer, &quic, request);
            assert_eq!(wait(&dials, true), Some(Limit::QuicDials));
            assert_eq!(wait(&dials, false), None);
            if let Some(millis) = handshake {
                dials.established(start + Duration::from_millis(millis), id);
            }
            let gone = start + Duration::from_secs(6);
            dials.gone(gone, id);
            assert_eq!(wait(&dials, true), Some(Limit::QuicDials));
            assert_eq!((dials.len(), dials.lingering()), (1, 0));
            assert_eq!(dials.next_drained(), Some(gone + drain));
            assert!(dials.drained(gone + drain));
            assert_eq!(wait(&dials, true), None);
        }
    }
}
