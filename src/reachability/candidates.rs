//! The addresses under consideration: where each was heard of, how far it is trusted, and which give way when there are
//! too many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use libp2p_core::Multiaddr;
use web_time::Instant;

use crate::{
    address::{self, IpFamily, Neighbourhood, ThinWaist, Transport},
    reachability::observations::Reports,
};

mod support;
pub(crate) use support::{Support, Trust};

/// How many addresses of one IP are tracked of which only peers speak. A NAT shows one or two for each listener.
const MAX_OBSERVED_PER_IP: usize = 8;

/// Names a tracked address within the core. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AddressId(u64);

/// What a server must be able to dial for an address: the transport, and the IP family unless it is a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class {
    pub(crate) transport: Transport,
    pub(crate) family: Option<IpFamily>,
}

impl Class {
    pub(crate) fn of(addr: &Multiaddr) -> Option<Self> {
        Some(Self {
            transport: address::transport(addr)?,
            family: address::ip(addr).map(IpFamily::of),
        })
    }
}

/// Where an address was heard of. An address can have several sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sources {
    /// A peer says that it sees us there, by identify.
    pub observed: bool,
    /// The swarm listens on it.
    pub listening: bool,
    /// Somebody else confirmed it to the swarm: the operator, or a port mapping protocol.
    pub confirmed: bool,
    /// The application asked for it to be tested.
    pub added: bool,
    /// An observed external IP with one of our listen ports.
    pub guessed: bool,
}

impl Sources {
    fn none_left(self) -> bool {
        self == Self::default()
    }

    /// This node itself speaks for it.
    pub(crate) fn are_own(self) -> bool {
        self.listening || self.confirmed || self.added
    }
}

/// One address and where it was heard of.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) addr: Multiaddr,
    pub(crate) class: Class,
    pub(crate) waist: Option<ThinWaist>,
    /// The network that it shares with its neighbours; `None` for a name.
    pub(crate) network: Option<Neighbourhood>,
    pub(crate) sources: Sources,
    /// Who sees us there.
    pub(crate) reports: Reports,
    /// Peers see its IP, but over another transport.
    pub(crate) other_transport: bool,
    /// It is here since a listener came.
    pub(crate) came_with_listener: bool,
    pub(crate) first_seen: Instant,
    pub(crate) last_seen: Instant,
    /// Its verdict is that it is reachable. Set where the verdict is.
    pub(crate) is_reachable: bool,
    /// Its verdict is that it is not. Set where the verdict is.
    pub(crate) is_refuted: bool,
    /// Servers were asked about it, and none has an answer. Set before room is needed.
    pub(crate) is_unanswered: bool,
    /// The application has taken it back: it is not announced until the application or a new fact brings it again.
    pub(crate) is_withheld: bool,
    /// Bytes paid for its tests.
    pub(crate) dial_data: u64,
}

impl Candidate {
    fn new(addr: Multiaddr, class: Class, network: Option<Neighbourhood>, now: Instant) -> Self {
        Self {
            waist: address::thin_waist(&addr),
            network,
            addr,
            class,
            sources: Sources::default(),
            reports: Reports::default(),
            other_transport: false,
            came_with_listener: false,
            first_seen: now,
            last_seen: now,
            is_reachable: false,
            is_refuted: false,
            is_unanswered: false,
            is_withheld: false,
            dial_data: 0,
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.waist.map(|waist| waist.ip)
    }

    /// The larger network that it may share with servers behind one border; `None` where it is not public.
    pub(crate) fn wide_network(&self) -> Option<Neighbourhood> {
        let ip = self.ip();
        ip.filter(|ip| address::ip_scope(*ip).is_global())
            .map(address::wide_network)
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.class.transport.is_plain()
    }

    /// Nothing but what peers see speaks for it.
    pub(crate) fn is_only_observed(&self) -> bool {
        !self.sources.guessed && !self.sources.are_own()
    }

    /// Nobody but peers speaks for it, and of its IP those of one IP group only, or nobody of its port.
    pub(crate) fn is_hearsay(&self) -> bool {
        let is_vouched_for = self.sources.guessed && self.reports.groups() >= 2;
        !self.sources.are_own() && !is_vouched_for
    }

    /// Others than this node's own side speak for it, and these may be one peer that repeats itself.
    pub(crate) fn may_be_repeated(&self) -> bool {
        !self.sources.are_own() && self.reports.are_anonymous()
    }

    /// No peer that sees its IP speaks of its transport there, and nobody else does. Maybe no peer has it. A proof speaks
    /// for it.
    pub(crate) fn is_unobserved_guess(&self) -> bool {
        self.other_transport
            && self.sources.guessed
            && !self.sources.observed
            && !self.sources.are_own()
            && !self.is_reachable
    }

    /// How much speaks for keeping it: the highest rank never gives way, and a rank gives way to a higher one only.
    fn rank(&self) -> u8 {
        let given = self.sources.confirmed || self.sources.added;
        if self.is_reachable || given && !self.is_refuted && !self.is_unanswered {
            PROTECTED
        } else if self.sources.listening {
            3
        } else if self.is_withheld && !given {
            // `Reachability::withheld` remembers that it was taken back.
            0
        } else if self.is_unobserved_guess() {
            // Or guesses at made-up IPs would push out twice as much.
            u8::from(self.reports.count() > 1)
        } else if self.reports.count() > 1 && !self.is_refuted {
            2
        } else if self.sources.guessed || given {
            1
        } else {
            0
        }
    }
}

/// The rank of what never gives way.
const PROTECTED: u8 = 4;

/// All tracked addresses, at most `max`.
#[derive(Debug)]
pub(crate) struct Candidates {
    by_id: BTreeMap<AddressId, Candidate>,
    ids: HashMap<Multiaddr, AddressId>,
    next: u64,
    max: usize,
}

/// What a look for room came to.
enum Room {
    Enough,
    Instead(AddressId),
    None,
}

impl Candidates {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            ids: HashMap::new(),
            next: 0,
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.by_id.len() >= self.max
    }

    pub(crate) fn get(&self, id: AddressId) -> Option<&Candidate> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: AddressId) -> Option<&mut Candidate> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn find(&self, addr: &Multiaddr) -> Option<AddressId> {
        self.ids.get(addr).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressId, &Candidate)> {
        self.by_id.iter().map(|(id, candidate)| (*id, candidate))
    }

    /// The id that the next address to be tracked gets.
    pub(crate) fn next_id(&self) -> AddressId {
        AddressId(self.next)
    }

    /// `listener` has come: what is tracked from `first` on, and of its kind, is so for its sake.
    pub(crate) fn note_listener(&mut self, listener: &Multiaddr, first: AddressId) {
        for (_, candidate) in self.by_id.range_mut(first..) {
            candidate.came_with_listener |= address::listens_for(listener, &candidate.addr);
        }
    }

    pub(crate) fn ids(&self) -> Vec<AddressId> {
        self.by_id.keys().copied().collect()
    }

    /// Whether as much speaks for another IP of its family, or an address there is proven.
    pub(crate) fn is_contested(&self, candidate: &Candidate) -> bool {
        self.by_id.values().any(|other| {
            other.class.family == candidate.class.family
                && other.ip() != candidate.ip()
                && (other.is_reachable || other.reports.count() >= candidate.reports.count())
                && (other.sources.guessed || other.sources.are_own())
        })
    }

    /// The plain address on the same socket.
    pub(crate) fn plain_sibling(&self, candidate: &Candidate) -> Option<(AddressId, &Candidate)> {
        let waist = candidate.waist.filter(|_| !candidate.is_plain())?;
        self.iter()
            .find(|(_, other)| other.waist == Some(waist) && other.is_plain())
    }

    /// Tracks `addr`, which must be in its canonical form and is seen by `reports` if it is new. Returns its id, whether it is
    /// new, and what had to give way for it. `None` where it is of no known transport, or where all that is tracked has more to
    /// speak for it.
    pub(crate) fn insert(
        &mut self,
        addr: Multiaddr,
        network: Option<Neighbourhood>,
        sources: impl FnOnce(&mut Sources),
        reports: Reports,
        now: Instant,
    ) -> Option<Inserted> {
        if let Some(id) = self.find(&addr) {
            let candidate = self.get_mut(id)?;
            sources(&mut candidate.sources);
            candidate.last_seen = now;
            return Some(Inserted {
                id,
                is_new: false,
                gone: None,
            });
        }
        let class = Class::of(&addr)?;
        let mut candidate = Candidate::new(addr, class, network, now);
        sources(&mut candidate.sources);
        candidate.reports = reports;
        let gone = match self.room_for(&candidate) {
            Room::Enough => None,
            Room::Instead(id) => Some(id),
            Room::None => return None,
        };
        let gone = gone.and_then(|id| Some((id, self.remove(id)?)));
        let id = self.next_id();
        self.next += 1;
        self.ids.insert(candidate.addr.clone(), id);
        self.by_id.insert(id, candidate);
        Some(Inserted {
            id,
            is_new: true,
            gone,
        })
    }

    pub(crate) fn remove(&mut self, id: AddressId) -> Option<Candidate> {
        let candidate = self.by_id.remove(&id)?;
        self.ids.remove(&candidate.addr);
        Some(candidate)
    }

    /// Takes a source away, and the candidate with it if it was the last one.
    pub(crate) fn withdraw(
        &mut self,
        id: AddressId,
        source: impl FnOnce(&mut Sources),
    ) -> Option<Candidate> {
        let candidate = self.get_mut(id)?;
        source(&mut candidate.sources);
        if candidate.sources.none_left() {
            self.remove(id)
        } else {
            None
        }
    }

    /// An address of which only peers speak takes the place of another such address of its IP, once there are as many as one IP
    /// may have. Where the table is full, the least seen of the lowest rank gives way, if `newcomer` may take its place.
    fn room_for(&self, newcomer: &Candidate) -> Room {
        let worth = |c: &Candidate| (c.rank(), c.reports.count(), c.last_seen);
        if newcomer.is_only_observed() {
            let alike = || {
                self.iter()
                    .filter(|(_, c)| c.is_only_observed() && c.ip() == newcomer.ip())
            };
            if alike().count() >= MAX_OBSERVED_PER_IP {
                let least = alike().min_by_key(|(_, c)| worth(c));
                return match least.filter(|(_, c)| c.rank() < PROTECTED) {
                    Some((id, _)) => Room::Instead(id),
                    None => Room::None,
                };
            }
        }
        if !self.is_full() {
            return Room::Enough;
        }
        // Of equals, the kind of which there are most: no transport is to take the room of another.
        let mut alike: BTreeMap<(Class, u8), usize> = BTreeMap::new();
        for candidate in self.by_id.values().chain(std::iter::once(newcomer)) {
            *alike
                .entry((candidate.class, candidate.rank()))
                .or_default() += 1;
        }
        let count = |c: &Candidate| Reverse(alike.get(&(c.class, c.rank())).copied());
        let least = self
            .iter()
            .min_by_key(|(_, c)| (c.rank(), c.reports.count(), count(c), c.last_seen));
        let least = least.filter(|(_, c)| c.rank() <= newcomer.rank() && c.rank() < PROTECTED);
        // Two operators' servers can prove what their peers have made up.
        let is_own = newcomer.sources.are_own();
        let by_word = (is_own && least.is_none_or(|(_, c)| c.sources.are_own()))
            .then(|| self.least_proven_by_word())
            .flatten();
        let least = by_word.or(least);
        least.map_or(Room::None, |(id, _)| Room::Instead(id))
    }

    /// Of what works and peers alone speak for, the least seen, if that is more than half of all.
    fn least_proven_by_word(&self) -> Option<(AddressId, &Candidate)> {
        let by_word = || {
            self.iter()
                .filter(|(_, c)| c.is_reachable && !c.sources.are_own())
        };
        let least = by_word().min_by_key(|(_, c)| (c.reports.count(), c.last_seen));
        least.filter(|_| by_word().count() > self.max / 2)
    }
}

/// A tracked address, and what became of others for its sake.
#[derive(Debug)]
pub(crate) struct Inserted {
    pub(crate) id: AddressId,
    pub(crate) is_new: bool,
    pub(crate) gone: Option<(AddressId, Candidate)>,
}
