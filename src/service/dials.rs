//! The book of dials: from the moment that one is asked for until its socket is gone. Whether anybody still waits for it makes
//! no difference to how long it counts: in a swarm that others use too a dial cannot be called back, and a target can keep a
//! connection from closing.

use std::{collections::BTreeMap, net::IpAddr};

use libp2p_identity::PeerId;

use super::{
    command::{DialId, RequestId},
    limits::{Limit, Limits},
};

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    /// `None` for a name.
    target: Option<IpAddr>,
    /// Who waits for its outcome. `None` once that is known, or of no interest any more.
    request: Option<RequestId>,
    established: bool,
}

/// At most [`Limits::dials`] of them.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    dials: BTreeMap<DialId, Entry>,
    next: u64,
}

impl Dials {
    /// Those that may hold a socket.
    pub(crate) fn len(&self) -> usize {
        self.dials.len()
    }

    /// Those of them that nobody waits for any more.
    pub(crate) fn lingering(&self) -> usize {
        self.dials
            .values()
            .filter(|dial| dial.request.is_none())
            .count()
    }

    /// Whether this peer has a connection of a dial-back, or is about to get one. A dial that is given up before it is
    /// established, as to a silent target, is refused if it still gets through.
    pub(crate) fn occupy(&self, peer: PeerId) -> bool {
        self.dials
            .values()
            .any(|dial| dial.peer == peer && (dial.request.is_some() || dial.established))
    }

    /// Whether there is room for one more dial to this IP.
    pub(crate) fn room(&self, limits: &Limits, target: Option<IpAddr>) -> Result<(), Limit> {
        let over = self.dials.values().filter(|dial| dial.request.is_none());
        limits.place_for_dial(target, self.len(), over.map(|dial| dial.target))
    }

    pub(crate) fn start(
        &mut self,
        peer: PeerId,
        target: Option<IpAddr>,
        request: RequestId,
    ) -> DialId {
        let id = DialId(self.next);
        self.next += 1;
        self.dials.insert(
            id,
            Entry {
                peer,
                target,
                request: Some(request),
                established: false,
            },
        );
        id
    }

    /// The connection is established. Who waits for it.
    pub(crate) fn established(&mut self, id: DialId) -> Option<RequestId> {
        let dial = self.dials.get_mut(&id)?;
        dial.established = true;
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

    /// The socket of this dial is gone. Which peer it was to.
    pub(crate) fn gone(&mut self, id: DialId) -> Option<PeerId> {
        self.dials.remove(&id).map(|dial| dial.peer)
    }
}
