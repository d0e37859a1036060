//! The servers that can be asked: on which links, what each can dial and from where, when it may be asked again, and which IP
//! groups gave no usable answer lately.
//!
//! A server is a connected peer that speaks the dial-request protocol. What it has shown is remembered for a while
//! after it has left. Servers live in IP groups, one for each operator as far as IPs tell: a group has a bounded share of
//! the table and of each look through it, so that no crowd keeps others from being asked. Nothing is iterated in hash order.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use hashlink::LruCache;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use web_time::Instant;

pub(crate) use crate::reachability::contacts::IpGroup;
use crate::{
    address::{self, IpFamily, Neighbourhood},
    reachability::{
        candidates::{AddressId, Candidate, Class},
        config::Config,
        contacts::{Contacts, Vantage},
    },
};

mod crowding;
use crowding::Crowding;

mod gathering;
use gathering::Gathering;

mod memory;
use memory::{BRIEF, Memory};
pub(crate) use memory::{Refused, Setback};

mod place;
use place::Place;
pub(crate) use place::{Ability, Host, Link};

mod table;

/// Names one request that is under way. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub(crate) u64);

/// How many servers a look through them passes over at most.
const SAMPLE: usize = 256;
/// How many servers of one group it looks at, and one more for each time that it comes around.
const SAMPLE_PER_GROUP: usize = 4;
/// How many groups are remembered for servers that gave no usable answer, and for how long each is.
const MAX_TROUBLED: usize = 256;
const TROUBLE: Duration = Duration::from_secs(10 * 60);
/// How many servers are enough to decide by.
pub(crate) const WANTED_SERVERS: usize = 3;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) peer: PeerId,
    /// Connections on which it speaks the protocol, never empty.
    links: Vec<Link>,
    place: Place,
    memory: Memory,
    /// At which version of the table what can be asked of it last changed.
    changed: u64,
}

/// Whether a server can be asked about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    /// A probe is under way.
    Busy,
    /// Its pace says wait until then.
    Paced(Instant),
    /// It is backed off until then.
    BackedOff(Instant),
    /// It has refused the address or its kind, and is not asked about it until then.
    Refuses(Instant),
}

impl Server {
    pub(crate) fn host(&self) -> Host {
        self.place.host
    }

    pub(crate) fn group(&self) -> IpGroup {
        self.place.group
    }

    /// The connection to ask on: one that has not failed to answer, direct rather than relayed. It must not be a dial-back,
    /// which closes soon. So those that this node dialed come first, the newest before the others: it is the likeliest to be
    /// alive. Of those that the peer dialed, the oldest is the least likely to be a dial-back.
    fn link(&self) -> Option<&Link> {
        let dialed = self.links.iter().rev().filter(|link| !link.inbound);
        let accepted = self.links.iter().filter(|link| link.inbound);
        dialed
            .chain(accepted)
            .min_by_key(|link| (link.is_unresponsive, link.is_relayed))
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.link().map(|link| link.connection)
    }

    /// From where it can be expected to dial back. Its own dial-back makes the IP that it came from a contacted one for a
    /// while.
    pub(crate) fn vantage(&self, class: Class, contacts: &Contacts, now: Instant) -> Vantage {
        let Some(family) = class.family.filter(|_| !self.memory.is_named) else {
            return Vantage::Contacted;
        };
        let over = class.transport.port_protocol();
        if let Some(known) = self.memory.vantage(family, over, contacts, now) {
            return known;
        }
        let ips = self.direct_ips().flatten();
        ips.filter(|ip| IpFamily::of(*ip) == family)
            .map(|ip| contacts.vantage_of(ip, over, now))
            .min()
            .unwrap_or_else(|| contacts.vantage_of_unknown(over, now))
    }

    /// What is known of its ability to dial `class`.
    pub(crate) fn ability(&self, class: Class) -> Ability {
        if self.memory.is_able(class) {
            return Ability::Shown;
        }
        let is_at = |family| {
            let mut ips = self.direct_ips();
            // One that was dialed by name may be at either.
            ips.any(|ip| ip.is_none_or(|ip| IpFamily::of(ip) == family))
        };
        let over = |family| is_at(family) || self.memory.has_dialed(family);
        if class.family.is_none_or(over) {
            Ability::SameFamily
        } else {
            Ability::OtherFamily
        }
    }

    /// Whether it is likely to ask for dial data: it sees this node at another IP than the one to dial.
    pub(crate) fn wants_dial_data(&self, class: Class) -> bool {
        let other_family = |link: &Link| {
            link.is_relayed
                || link
                    .ip
                    .zip(class.family)
                    .is_some_and(|(ip, family)| IpFamily::of(ip) != family)
        };
        self.memory.wants_dial_data || self.link().is_some_and(other_family)
    }

    pub(crate) fn has_wanted_dial_data(&self) -> bool {
        self.memory.wants_dial_data
    }

    /// It shares a network with the address, or with this node: its dials don't cross the border that strangers have to
    /// cross, and many routers don't turn them back.
    pub(crate) fn is_near(&self, address: &Candidate) -> bool {
        self.place.is_private
            || address
                .network
                .is_some_and(|network| self.place.is_in(network))
    }

    /// Whether it shares the first octet of an IPv4 address, or the /32 of an IPv6 address.
    pub(crate) fn is_in_wide(&self, network: Neighbourhood) -> bool {
        self.place.is_in_wide(network)
    }

    /// When a request last left for it.
    pub(crate) fn last_asked(&self) -> Option<Instant> {
        self.memory.last_asked
    }

    pub(crate) fn backed_off_until(&self, now: Instant) -> Option<Instant> {
        self.memory.backed_off_until(now)
    }

    /// The IPs of its links that lead through no relay; `None` where it was dialed by name.
    fn direct_ips(&self) -> impl Iterator<Item = Option<IpAddr>> {
        let direct = self.links.iter().filter(|link| !link.is_relayed);
        direct.map(|link| link.ip)
    }
}

/// All servers that are connected, and what is remembered of those that were.
pub(crate) struct Servers {
    slots: Vec<Option<Server>>,
    free: Vec<usize>,
    index: HashMap<PeerId, usize>,
    /// The servers of each group, in the order of the groups.
    groups: Vec<(IpGroup, Vec<usize>)>,
    past: LruCache<PeerId, Memory>,
    /// Groups in which a server gave no usable answer, and when the last one did so.
    troubled: LruCache<IpGroup, Instant>,
    /// Who is being asked, connected or not, and on which host: whoever lives on one has one voice, and is asked one thing at a
    /// time.
    busy: Vec<(PeerId, Host, ProbeId)>,
    gathering: Gathering,
    crowding: Crowding,
    rng: SmallRng,
    max: usize,
    per_minute: usize,
    near_too: bool,
    /// Incremented when more or less can be asked than before, of any server. Whether one is busy is not part of that.
    version: u64,
    /// At which version other servers were there than before, or something changed for all of them.
    all_changed: u64,
}

impl Servers {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            groups: Vec::new(),
            past: LruCache::new(config.max_servers),
            troubled: LruCache::new(MAX_TROUBLED),
            busy: Vec::new(),
            gathering: Gathering::new(config.gather_delay),
            crowding: Crowding::default(),
            rng: SmallRng::seed_from_u64(seed),
            max: config.max_servers,
            per_minute: config.requests_per_minute,
            near_too: config.allow_private,
            version: 0,
            all_changed: 0,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether a look at the servers in these slots, at that version, may have another result now.
    pub(crate) fn have_changed(&self, slots: &[usize], since: u64) -> bool {
        let is_other = |i: &usize| {
            let server = self.slots.get(*i).and_then(Option::as_ref);
            server.is_none_or(|server| since < server.changed)
        };
        since < self.all_changed || since < self.version && slots.iter().any(is_other)
    }

    pub(crate) fn note_all_changed(&mut self) {
        self.version += 1;
        self.all_changed = self.version;
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn are_of_several_groups(&self) -> bool {
        self.groups.len() > 1
    }

    /// Whether it is connected, or was before.
    pub(crate) fn is_remembered(&self, peer: &PeerId) -> bool {
        self.memory(peer).is_some()
    }

    pub(crate) fn remembered(&self) -> usize {
        self.past.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Server> {
        self.slots.iter().flatten()
    }

    /// How many are not backed off.
    pub(crate) fn usable(&self, now: Instant) -> usize {
        self.all()
            .filter(|server| server.memory.backed_off_until(now).is_none())
            .count()
    }

    /// Whether one could be asked now, of those that a look through them would see.
    pub(crate) fn is_any_free(&self, now: Instant) -> bool {
        self.all().take(SAMPLE).any(|server| {
            !self.is_busy(server)
                && server.memory.backed_off_until(now).is_none()
                && server.memory.paced_until(self.per_minute, now).is_none()
        }) || self.len() > SAMPLE
    }

    fn is_busy(&self, server: &Server) -> bool {
        let is_it = |peer, host| peer == server.peer || host == server.place.host;
        self.busy.iter().any(|(peer, host, _)| is_it(*peer, *host))
    }

    /// When servers came, and until when others are likely to come.
    pub(crate) fn gathering(&self) -> &Gathering {
        &self.gathering
    }

    /// How many requests an answer takes at present.
    pub(crate) fn price(&self) -> f64 {
        self.crowding.price()
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Server> {
        self.get_with_slot(peer).map(|(_, server)| server)
    }

    pub(crate) fn get_with_slot(&self, peer: &PeerId) -> Option<(usize, &Server)> {
        let i = *self.index.get(peer)?;
        Some((i, self.slots.get(i)?.as_ref()?))
    }

    /// Who it is to the belief. One that has left is whom it was.
    pub(crate) fn identity(&self, peer: &PeerId) -> (Host, IpGroup) {
        let place = match self.get(peer) {
            Some(server) => Some(server.place),
            None => self.past.peek(peer).and_then(|memory| memory.place),
        };
        place.map_or((Host::Peer(*peer), IpGroup::of(None)), |place| {
            (place.host, place.group)
        })
    }

    /// What is remembered of it, whether it is connected or not.
    fn memory(&self, peer: &PeerId) -> Option<&Memory> {
        let connected = self.get(peer).map(|server| &server.memory);
        connected.or_else(|| self.past.peek(peer))
    }

    fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Server> {
        self.slots.get_mut(*self.index.get(peer)?)?.as_mut()
    }

    /// Changes what is remembered of `peer`. `change` says whether it did.
    fn change(&mut self, peer: &PeerId, change: impl FnOnce(&mut Memory) -> bool) {
        match self.index.get(peer) {
            Some(i) => self.change_at(*i, change),
            None => {
                self.past.get_mut(peer).map(change);
            }
        }
    }

    fn change_at(&mut self, slot: usize, change: impl FnOnce(&mut Memory) -> bool) {
        if let Some(Some(server)) = self.slots.get_mut(slot)
            && change(&mut server.memory)
        {
            self.version += 1;
            server.changed = self.version;
        }
    }

    /// The servers in an order that begins at a place given by `start`, from 0 to 1: one of each group, then the next one
    /// of each.
    pub(crate) fn around(&self, start: f64) -> impl Iterator<Item = (usize, &Server)> {
        let first = (start * self.groups.len() as f64) as usize;
        let rounds = (0..SAMPLE_PER_GROUP).flat_map(move |round| {
            let groups = self.groups.iter().skip(first);
            let groups = groups.chain(self.groups.iter().take(first));
            groups.filter_map(move |(_, members)| {
                let at = (start * 7919.0 * members.len() as f64) as usize + round;
                (round < members.len()).then(|| members[at % members.len()])
            })
        });
        rounds
            .filter_map(|i| Some((i, self.slots.get(i)?.as_ref()?)))
            .take(SAMPLE)
    }

    /// Whether `server` is on the address's own network, or this node's, where that matters.
    pub(crate) fn is_too_near(&self, server: &Server, address: &Candidate) -> bool {
        !self.near_too && server.is_near(address)
    }

    pub(crate) fn status(
        &self,
        server: &Server,
        id: AddressId,
        address: &Candidate,
        now: Instant,
    ) -> Status {
        if let Some(until) = server.memory.backed_off_until(now) {
            return Status::BackedOff(until);
        }
        if let Some(until) = server.memory.refuses_until(id, address, now) {
            return Status::Refuses(until);
        }
        if self.is_busy(server) {
            return Status::Busy;
        }
        if let Some(ready) = server.memory.paced_until(self.per_minute, now) {
            return Status::Paced(ready);
        }
        Status::Ready
    }

    /// Put off for the first time in a row, and not for long: a verdict waits for it.
    pub(crate) fn is_back_soon(&self, server: &Server, until: Instant, now: Instant) -> bool {
        server.memory.was_set_back_once() && until.saturating_duration_since(now) <= BRIEF
    }

    /// Whether servers of its group have kept this node waiting lately.
    pub(crate) fn is_troubled(&self, group: IpGroup, now: Instant) -> bool {
        self.troubled
            .peek(&group)
            .is_some_and(|at| now.saturating_duration_since(*at) < TROUBLE)
    }

    /// Whether this node may have contacted any of its IPs.
    pub(crate) fn was_dialed_by_name(&self, peer: &PeerId) -> bool {
        self.memory(peer).is_some_and(|memory| memory.is_named)
    }

    /// Whether it is known at a global IP, by a link of its own.
    pub(crate) fn is_at_global_ip(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(|server| {
            let mut ips = server.direct_ips().flatten();
            ips.any(|ip| address::ip_scope(ip).is_global())
        })
    }

    pub(crate) fn is_relayed(&self, peer: &PeerId) -> bool {
        self.get(peer)
            .and_then(Server::link)
            .is_none_or(|link| link.is_relayed)
    }

    /// A request left for it.
    pub(crate) fn note_asked(&mut self, peer: &PeerId, probe: ProbeId, now: Instant) {
        let per_minute = self.per_minute;
        if let Some(server) = self.get_mut(peer) {
            server.memory.note_asked(per_minute, now);
            let host = server.place.host;
            self.busy.push((*peer, host, probe));
        }
    }

    /// Nothing more can come of `probe`.
    pub(crate) fn set_idle(&mut self, probe: ProbeId) {
        self.busy.retain(|(.., busy_with)| *busy_with != probe);
    }

    /// It has dialed back over `class`, and from there unless that is hidden.
    pub(crate) fn note_proof(&mut self, peer: &PeerId, class: Class, from: Option<IpAddr>) {
        // It is news each time: its dial-back has made it a contacted host.
        self.change(peer, |memory| {
            memory.note_proof(class, from);
            true
        });
        if self
            .get(peer)
            .is_some_and(|it| it.group() == IpGroup::of(None))
        {
            self.regroup(peer);
        }
    }

    /// It gave an answer about `id` that is within the protocol.
    pub(crate) fn note_answer(&mut self, peer: &PeerId, id: AddressId, link: ConnectionId) {
        self.change(peer, |memory| {
            memory.lift_refusal_of(id) | memory.end_setbacks()
        });
        self.note_crowding(false);
        self.set_responsive(peer, link, true);
    }

    /// It refused to dial: the link works, and it is not busy.
    pub(crate) fn note_refused_answer(&mut self, peer: &PeerId, link: ConnectionId) {
        self.change(peer, Memory::end_setbacks);
        self.note_crowding(false);
        self.set_responsive(peer, link, true);
    }

    /// It did not answer on `link`: that says something about the link, and about the server only if there is no other.
    pub(crate) fn note_silence(&mut self, peer: &PeerId, link: ConnectionId, now: Instant) {
        self.set_responsive(peer, link, false);
        let others = self
            .get(peer)
            .is_some_and(|server| server.links.iter().any(|l| !l.is_unresponsive));
        if !others {
            self.note_setback(peer, Setback::Silent, now);
        }
    }

    /// Its connection was closed in the middle of a request, which says nothing unless it goes on like that.
    pub(crate) fn note_departure(&mut self, peer: &PeerId, now: Instant) {
        let mut is_habit = false;
        self.change(peer, |memory| {
            is_habit = memory.note_departure();
            false
        });
        if is_habit {
            self.note_setback(peer, Setback::Silent, now);
        }
    }

    fn set_responsive(&mut self, peer: &PeerId, link: ConnectionId, responsive: bool) {
        let link = self
            .get_mut(peer)
            .and_then(|server| server.links.iter_mut().find(|l| l.connection == link));
        if let Some(link) = link {
            link.is_unresponsive = !responsive;
        }
    }

    /// It has dialed another address of a request than the last.
    pub(crate) fn note_dials_first(&mut self, peer: &PeerId) {
        self.change(peer, |memory| {
            !std::mem::replace(&mut memory.dials_first, true)
        });
    }

    pub(crate) fn dials_first(&self, peer: &PeerId) -> bool {
        self.get(peer)
            .is_some_and(|server| server.memory.dials_first)
    }

    /// It asked for dial data, or answered without.
    pub(crate) fn note_dial_data(&mut self, peer: &PeerId, wanted: bool) {
        if let Some(server) = self.get_mut(peer) {
            let before = std::mem::replace(&mut server.memory.wants_dial_data, wanted);
            if wanted || before {
                // What is left to pay is another sum now.
                self.note_all_changed();
            }
        }
    }

    /// `false` if another refusal that still holds had to be forgotten.
    pub(crate) fn note_refusal(&mut self, peer: &PeerId, what: Refused, now: Instant) -> bool {
        let mut remembers_all = true;
        self.change(peer, |memory| {
            remembers_all = memory.note_refusal(what, now);
            true
        });
        remembers_all
    }

    /// It may be asked about `id` again: that is not what it refused, or did not answer about.
    pub(crate) fn lift_refusals_of(&mut self, id: AddressId) {
        for slot in 0..self.slots.len() {
            self.change_at(slot, |memory| memory.lift_refusal_of(id));
        }
    }

    /// It was asked and had nothing to say.
    pub(crate) fn note_trouble(&mut self, peer: &PeerId, now: Instant) {
        if let Some(server) = self.get(peer) {
            self.troubled.insert(server.place.group, now);
        }
    }

    fn note_crowding(&mut self, rejected: bool) {
        if self.crowding.note(rejected) {
            self.note_all_changed();
        }
    }

    pub(crate) fn note_setback(&mut self, peer: &PeerId, setback: Setback, now: Instant) {
        self.note_trouble(peer, now);
        if setback == Setback::Rejected {
            self.note_crowding(true);
        }
        let lot = self.rng.random();
        self.change(peer, |memory| {
            memory.note_setback(setback, lot, now);
            true
        });
    }
}
