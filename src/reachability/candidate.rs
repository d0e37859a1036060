//! The addresses under consideration: where each was heard of, what is known about it, and which give way when there
//! are too many.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use libp2p_core::Multiaddr;
use web_time::Instant;

use crate::{
    address::{self, IpFamily, Neighbourhood, ThinWaist, Transport},
    reachability::{evidence::Evidence, schedule::Schedule, servers::subnet, verdict::Standing},
};

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
}

/// How many hosts see us at an address, as far as that can be told.
///
/// A host counts once, however often it says so. The swarm does not say who made an observation; what it passes on counts
/// at most once for each connection that this node has dialed: a peer reports once a connection, and then over and over,
/// and a stranger can connect to us as often as it likes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reports {
    observers: [Option<IpAddr>; Self::MAX],
    anonymous: u32,
    /// How many connections this node had dialed at the newest of those.
    dialed: Option<u64>,
}

impl Reports {
    /// More hosts than this make no difference.
    const MAX: usize = 4;

    pub(crate) fn note(&mut self, observer: Option<IpAddr>, dialed: u64) {
        match observer {
            None => {
                if self.dialed.is_none_or(|before| before < dialed) {
                    self.dialed = Some(dialed);
                    self.anonymous = self.anonymous.saturating_add(1);
                }
            }
            Some(_) if self.observers.contains(&observer) => {}
            Some(_) => {
                if let Some(free) = self.observers.iter_mut().find(|slot| slot.is_none()) {
                    *free = observer;
                }
            }
        }
    }

    pub(crate) fn count(self) -> usize {
        // The swarm passes on what is told with a name, too.
        let named = self.observers.iter().flatten().count();
        named.max(usize::try_from(self.anonymous).unwrap_or(usize::MAX))
    }

    pub(crate) fn max(self, other: Self) -> Self {
        if other.count() > self.count() {
            other
        } else {
            self
        }
    }
}

/// One address and all that is held about it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) addr: Multiaddr,
    pub(crate) class: Class,
    pub(crate) waist: Option<ThinWaist>,
    pub(crate) sources: Sources,
    /// Of its subnet; `None` for a name.
    pub(crate) subnet: Option<Neighbourhood>,
    /// Who sees us there.
    pub(crate) reports: Reports,
    /// Peers see its IP, but over another transport.
    pub(crate) unseen: bool,
    /// No server could be asked about it when it was last reviewed.
    pub(crate) hopeless: bool,
    pub(crate) first_seen: Instant,
    pub(crate) last_seen: Instant,
    pub(crate) evidence: Evidence,
    pub(crate) standing: Standing,
    pub(crate) schedule: Schedule,
    /// We told the swarm that it is an external address.
    pub(crate) announced: bool,
    /// Its verdict is that of the plain address on the same socket.
    pub(crate) inherited: bool,
    pub(crate) dial_data: u64,
    reviewed: Option<Reviewed>,
}

/// A review that came to nothing new. It holds until something happens to the candidate, or to the servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reviewed {
    /// Of the servers.
    pub(crate) epoch: u64,
    pub(crate) until: Option<Instant>,
    /// How many servers there were to ask, and whether one was left that was not heard; `None` if it was not looked for.
    pub(crate) servers: Option<(usize, bool)>,
}

impl Candidate {
    fn new(addr: Multiaddr, class: Class, now: Instant) -> Self {
        Self {
            waist: address::thin_waist(&addr),
            subnet: address::ip(&addr).map(subnet),
            addr,
            class,
            sources: Sources::default(),
            reports: Reports::default(),
            unseen: false,
            hopeless: false,
            first_seen: now,
            last_seen: now,
            evidence: Evidence::default(),
            standing: Standing::new(now),
            schedule: Schedule::default(),
            announced: false,
            inherited: false,
            dial_data: 0,
            reviewed: None,
        }
    }

    /// The review that another one would come to the same as.
    pub(crate) fn reviewed(&self, epoch: u64, now: Instant) -> Option<Reviewed> {
        self.reviewed
            .filter(|r| r.epoch == epoch && r.until.is_none_or(|until| now < until))
    }

    /// Nothing but what peers see speaks for it.
    pub(crate) fn is_only_observed(&self) -> bool {
        let sources = self.sources;
        !(sources.guessed || sources.listening || sources.confirmed || sources.added)
    }

    /// Whether peers speak of it, and it has no verdict that stands unchallenged.
    pub(crate) fn is_open(&self) -> bool {
        (!self.standing.is_decided() || self.standing.is_challenged()) && !self.is_unheard_of()
    }

    /// No peer that sees its IP speaks of its transport there, and nobody else does. Maybe no peer has it. A proof speaks for it.
    pub(crate) fn is_unheard_of(&self) -> bool {
        let guess = Sources {
            guessed: true,
            ..Sources::default()
        };
        self.unseen && self.sources == guess && !self.standing.is_proven()
    }

    /// A port that one peer saw once and that is none of ours is likely an ephemeral one, or a symmetric NAT's.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_only_observed() && self.reports.count() <= 1
    }

    /// How much speaks for keeping it: the highest rank never gives way, and a rank gives way to a higher one only.
    fn rank(&self) -> u8 {
        if self.announced
            || self.standing.is_proven()
            || self.sources.confirmed
            || self.sources.added
        {
            PROTECTED
        } else if self.sources.listening {
            3
        } else if self.schedule.in_flight > 0 {
            2
        } else if self.is_unheard_of() {
            // Or guesses at made-up IPs would push out twice as much.
            u8::from(self.reports.count() > 1)
        } else if self.reports.count() > 1 {
            2
        } else if self.sources.guessed {
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

    pub(crate) fn get(&self, id: AddressId) -> Option<&Candidate> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: AddressId) -> Option<&mut Candidate> {
        let candidate = self.by_id.get_mut(&id)?;
        candidate.reviewed = None;
        Some(candidate)
    }

    pub(crate) fn set_reviewed(&mut self, id: AddressId, reviewed: Reviewed) {
        if let Some(candidate) = self.by_id.get_mut(&id) {
            candidate.reviewed = Some(reviewed);
        }
    }

    pub(crate) fn find(&self, addr: &Multiaddr) -> Option<AddressId> {
        self.ids.get(addr).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressId, &Candidate)> {
        self.by_id.iter().map(|(id, candidate)| (*id, candidate))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (AddressId, &mut Candidate)> {
        self.by_id.iter_mut().map(|(id, candidate)| {
            candidate.reviewed = None;
            (*id, candidate)
        })
    }

    /// Tracks `addr`, which must be in its canonical form, and returns it with what had to give way for it. `None`
    /// where it is of no known transport, or where all that is tracked has more to speak for it.
    pub(crate) fn insert(
        &mut self,
        addr: Multiaddr,
        sources: impl FnOnce(&mut Sources),
        now: Instant,
    ) -> Option<(AddressId, Option<Candidate>)> {
        if let Some(id) = self.find(&addr) {
            let candidate = self.get_mut(id)?;
            sources(&mut candidate.sources);
            candidate.last_seen = now;
            return Some((id, None));
        }
        let class = Class::of(&addr)?;
        let mut candidate = Candidate::new(addr, class, now);
        sources(&mut candidate.sources);
        let gone = if self.by_id.len() >= self.max {
            Some(self.make_room(candidate.rank())?)
        } else {
            None
        };
        let id = AddressId(self.next);
        self.next += 1;
        self.ids.insert(candidate.addr.clone(), id);
        self.by_id.insert(id, candidate);
        Some((id, gone))
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

    /// Drops the least seen of the lowest rank, if `rank` may take its place.
    fn make_room(&mut self, rank: u8) -> Option<Candidate> {
        let (id, lowest) = self
            .by_id
            .iter()
            .min_by_key(|(_, c)| (c.rank(), c.reports.count(), c.last_seen))
            .map(|(id, c)| (*id, c.rank()))?;
        if lowest > rank || lowest == PROTECTED {
            return None;
        }
        self.remove(id)
    }
}
