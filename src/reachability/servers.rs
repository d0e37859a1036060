//! The servers that can be asked: what each has shown, when each may be asked again, and which to ask next.
//!
//! A server is a connected peer that speaks the dial-request protocol. What it has shown is remembered for a while
//! after it has left. Nothing here is iterated in hash order, and a choice looks at a bounded number of servers.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use hashlink::LruCache;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use rand::{RngExt, rngs::StdRng};
use web_time::Instant;

use crate::{
    address::{self, IpFamily, Neighbourhood},
    reachability::{
        candidate::{AddressId, Candidate, Class},
        config::Config,
        evidence::{Evidence, WINDOW},
        judgement::WANTED_SERVERS,
        probe::ProbeId,
        vantage::{Contacts, Vantage},
    },
};

mod memory;
use memory::{BRIEF, Memory};
pub(crate) use memory::{Refused, Setback};

/// The prefix lengths that tell servers' operators apart.
const NEIGHBOURHOOD_V4: u8 = 16;
const NEIGHBOURHOOD_V6: u8 = 32;
/// How many servers a choice looks at.
const SAMPLE: usize = 64;
/// How many servers a look for the unheard passes over.
const CENSUS: usize = 256;
/// How many connections of one server are considered.
const MAX_LINKS: usize = 8;
/// How many neighbourhoods are remembered for servers that gave no usable answer.
const MAX_TROUBLED: usize = 256;
/// For how long each is.
const TROUBLE: Duration = Duration::from_secs(10 * 60);

/// A connection to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) relayed: bool,
    /// Of the peer, or of the relay. `None` where it was dialed by name.
    pub(crate) ip: Option<IpAddr>,
}

#[derive(Debug)]
struct Server {
    peer: PeerId,
    /// Connections on which it speaks the protocol, oldest first, never empty.
    links: Vec<Link>,
    place: Place,
    in_flight: Option<ProbeId>,
    memory: Memory,
}

/// Where a server is, as far as its links tell.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// `None` where no link has an IP: all such servers count as one operator's.
    neighbourhood: Option<Neighbourhood>,
    /// All direct links lead to this host or network.
    subnet: Option<Neighbourhood>,
    /// All direct links lead to IPs that are not global.
    private: bool,
    /// A direct link leads there, over IPv4 and over IPv6.
    direct: [bool; 2],
}

impl Place {
    fn of(links: &[Link]) -> Self {
        let direct = || links.iter().filter(|link| !link.relayed);
        let at = direct()
            .chain(links)
            .find_map(|link| link.ip)
            .map(|ip| address::neighbourhood(ip, NEIGHBOURHOOD_V4, NEIGHBOURHOOD_V6));
        let first = direct().next().and_then(|link| link.ip).map(subnet);
        let over = |family| direct().any(|l| l.ip.is_none_or(|ip| IpFamily::of(ip) == family));
        Self {
            neighbourhood: at,
            subnet: first.filter(|_| direct().all(|link| link.ip.map(subnet) == first)),
            private: first.is_some()
                && direct().all(|l| l.ip.is_some_and(|ip| !address::ip_scope(ip).is_global())),
            direct: [over(IpFamily::V4), over(IpFamily::V6)],
        }
    }
}

/// Whether a server can be asked about a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    /// A probe is under way.
    Busy,
    /// Its pace says wait until then.
    Paced(Instant),
    /// It is backed off until then and does not count as a server to ask.
    Away(Instant),
}

impl Server {
    fn link(&self) -> Option<Link> {
        self.links
            .iter()
            .find(|link| !link.relayed)
            .or_else(|| self.links.first())
            .copied()
    }

    /// Whether it shares a network with the address: its dials don't cross the border that strangers have to cross, and
    /// many routers don't turn them back.
    fn is_local_to(&self, wish: &Wish<'_>) -> bool {
        self.place.private || self.place.subnet.is_some() && self.place.subnet == wish.subnet
    }

    /// From where it can be expected to dial back. Its own dial-back makes the IP that it came from a contacted one for a
    /// while.
    fn vantage(&self, family: Option<IpFamily>, contacts: &Contacts, now: Instant) -> Vantage {
        let Some(family) = family.filter(|_| !self.memory.named) else {
            return Vantage::Contacted;
        };
        if let Some(known) = self.memory.vantage(family, contacts, now) {
            return known;
        }
        if self.place.direct[slot(family)] {
            Vantage::Contacted
        } else {
            Vantage::Independent
        }
    }

    fn status(&self, wish: &Wish<'_>, now: Instant, per_minute: usize) -> Status {
        if let Some(until) = self.memory.away_for(wish, now) {
            return Status::Away(until);
        }
        if self.in_flight.is_some() {
            return Status::Busy;
        }
        if let Some(ready) = self.memory.paced_until(per_minute, now) {
            return Status::Paced(ready);
        }
        Status::Ready
    }
}

/// The network that a host shares with its neighbours: an IPv6 /64 (RFC 4291, section 2.5.1), an IPv4 address with
/// whatever is behind it.
pub(crate) fn subnet(ip: IpAddr) -> Neighbourhood {
    address::neighbourhood(ip, 32, 64)
}

fn slot(family: IpFamily) -> usize {
    match family {
        IpFamily::V4 => 0,
        IpFamily::V6 => 1,
    }
}

/// What servers there are for one address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Census {
    /// How many count as servers to ask about it, heard or not, at most [`SAMPLE`].
    pub(crate) to_ask: usize,
    /// One can be asked now that was not heard in this round.
    pub(crate) ready: bool,
    /// One will be ready that was not heard: it is busy or paced.
    pub(crate) later: bool,
    pub(crate) independents_left: bool,
    pub(crate) neighbourhoods_left: bool,
    pub(crate) able_left: bool,
    /// When the first of those that are paced or backed off can be asked.
    pub(crate) next_ready: Option<Instant>,
    /// Until when time alone changes nothing about whom to ask.
    pub(crate) stale_at: Option<Instant>,
}

impl Census {
    /// One can be asked, now or later, that was not heard in this round.
    pub(crate) fn is_someone_left(&self) -> bool {
        self.ready || self.later
    }

    /// Nobody else is to be heard.
    pub(crate) fn without_unheard(self) -> Self {
        Self {
            to_ask: self.to_ask,
            stale_at: self.stale_at,
            ..Self::default()
        }
    }
}

/// A server chosen for a probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
}

/// What to look for in a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) id: AddressId,
    pub(crate) class: Class,
    pub(crate) unheard_of: bool,
    /// Of the address; `None` for a name.
    pub(crate) subnet: Option<Neighbourhood>,
    pub(crate) evidence: &'a Evidence,
    pub(crate) contacts: &'a Contacts,
    /// Where those are that are being asked about it.
    pub(crate) being_asked: &'a [Option<Neighbourhood>],
    /// Servers heard since then are not asked again; `None`: since ever.
    pub(crate) round: Option<Instant>,
    /// All may be asked again, those heard least recently first.
    pub(crate) anyone: bool,
    /// One that is able is worth more than one that says something new: what it says decides.
    pub(crate) able_first: bool,
}

impl<'a> Wish<'a> {
    /// For those that have not been heard about `candidate` in its present round.
    pub(crate) fn of(id: AddressId, candidate: &'a Candidate, contacts: &'a Contacts) -> Self {
        Self {
            id,
            class: candidate.class,
            unheard_of: candidate.is_unheard_of(),
            subnet: candidate.subnet,
            evidence: &candidate.evidence,
            contacts,
            being_asked: &[],
            round: candidate.standing.round(),
            anyone: false,
            able_first: false,
        }
    }

    fn is_new(&self, neighbourhood: Option<Neighbourhood>) -> bool {
        !self.evidence.has_neighbourhood(neighbourhood, self.round)
    }
}

/// Servers that came, or came back, one soon after the other.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

/// All servers that are connected, and what is remembered of those that were.
pub(crate) struct Servers {
    connected: Vec<Server>,
    index: HashMap<PeerId, usize>,
    past: LruCache<PeerId, Memory>,
    /// Neighbourhoods in which a server gave no usable answer, and when the last one did so.
    troubled: LruCache<Option<Neighbourhood>, Instant>,
    max: usize,
    per_minute: usize,
    local_too: bool,
    last_arrival: Option<Instant>,
    burst: Option<Burst>,
    gather_delay: Duration,
    /// Rises with each change to what a census counts, whether servers are busy or not apart.
    epoch: u64,
}

impl Servers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            connected: Vec::new(),
            index: HashMap::new(),
            past: LruCache::new(config.max_servers),
            troubled: LruCache::new(MAX_TROUBLED),
            max: config.max_servers,
            per_minute: config.requests_per_minute,
            local_too: config.allow_private,
            last_arrival: None,
            burst: None,
            gather_delay: config.gather_delay,
            epoch: 0,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn len(&self) -> usize {
        self.connected.len()
    }

    pub(crate) fn remembered(&self) -> usize {
        self.past.len()
    }

    /// How many are not backed off.
    pub(crate) fn usable(&self, now: Instant) -> usize {
        self.connected
            .iter()
            .filter(|server| server.memory.away_until.is_none_or(|until| until <= now))
            .count()
    }

    /// When a server came that was not known. One that comes again and again brings nothing new.
    pub(crate) fn last_arrival(&self) -> Option<Instant> {
        self.last_arrival
    }

    /// `None` if a server can be asked now about something; else when the first can that is not being asked.
    pub(crate) fn none_free_until(&self, now: Instant) -> Option<Option<Instant>> {
        let mut next = None;
        for server in self.connected.iter().take(CENSUS) {
            if server.in_flight.is_some() {
                continue;
            }
            let away = server.memory.away_until.filter(|until| now < *until);
            let paced = server.memory.paced_until(self.per_minute, now);
            match away.max(paced) {
                Some(at) => next = earliest(next, at),
                None => return None,
            }
        }
        (self.connected.len() <= CENSUS).then_some(next)
    }

    /// Until when others are likely to come, where so many can be asked already. One of them may dial from an IP that this node
    /// has not contacted, and tell of a filter that the first would pass.
    pub(crate) fn gathers_until(&self, to_ask: usize) -> Option<Instant> {
        let burst = self.burst?;
        let longest = burst.first + self.gather_delay * 2;
        let enough = (burst.last + self.gather_delay).min(longest);
        Some(if to_ask < WANTED_SERVERS {
            longest
        } else {
            enough
        })
    }

    fn note_arrival(&mut self, now: Instant) {
        // Longer than a burst is waited for: else one that comes in that rhythm would keep all waiting.
        let lull = self.gather_delay * 4;
        let first = self
            .burst
            .filter(|burst| now < burst.last + lull)
            .map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    fn get(&self, peer: &PeerId) -> Option<&Server> {
        self.connected.get(*self.index.get(peer)?)
    }

    fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Server> {
        self.connected.get_mut(*self.index.get(peer)?)
    }

    fn memory_mut(&mut self, peer: &PeerId) -> Option<&mut Memory> {
        match self.index.get(peer) {
            Some(i) => self.connected.get_mut(*i).map(|s| &mut s.memory),
            None => self.past.get_mut(peer),
        }
    }

    /// `peer` speaks the protocol on `link`. `true` if it was not known as a server.
    pub(crate) fn add(&mut self, peer: PeerId, link: Link, now: Instant) -> bool {
        let named = !link.relayed && link.ip.is_none();
        self.epoch += 1;
        if let Some(server) = self.get_mut(&peer) {
            server.memory.named |= named;
            let known = server.links.iter().any(|l| l.connection == link.connection);
            if !known && server.links.len() < MAX_LINKS {
                // Ids rise with age, and the oldest link comes first.
                let at = server
                    .links
                    .partition_point(|l| l.connection < link.connection);
                server.links.insert(at, link);
                server.place = Place::of(&server.links);
            }
            return false;
        }
        if self.connected.len() >= self.max && !self.evict_backed_off(now) {
            return false;
        }
        self.note_arrival(now);
        let past = self.past.remove(&peer);
        // The first to be back after all were lost brings the others behind it.
        if past.is_none() || self.connected.is_empty() {
            self.last_arrival = Some(now);
        }
        self.index.insert(peer, self.connected.len());
        let mut memory = past.unwrap_or_default();
        memory.named |= named;
        self.connected.push(Server {
            peer,
            links: vec![link],
            place: Place::of(&[link]),
            in_flight: None,
            memory,
        });
        true
    }

    /// `peer` no longer speaks the protocol on `connection`, or the connection is not to be used.
    pub(crate) fn remove(&mut self, peer: &PeerId, connection: ConnectionId) {
        let Some(i) = self.index.get(peer).copied() else {
            return;
        };
        let Some(server) = self.connected.get_mut(i) else {
            return;
        };
        server.links.retain(|link| link.connection != connection);
        server.place = Place::of(&server.links);
        let is_gone = server.links.is_empty();
        self.epoch += 1;
        if is_gone {
            self.forget(i);
        }
    }

    fn forget(&mut self, i: usize) {
        let server = self.connected.swap_remove(i);
        self.index.remove(&server.peer);
        if let Some(moved) = self.connected.get(i) {
            self.index.insert(moved.peer, i);
        }
        self.past.insert(server.peer, server.memory);
    }

    fn evict_backed_off(&mut self, now: Instant) -> bool {
        let backed_off = self.connected.iter().position(|server| {
            server.in_flight.is_none() && server.memory.away_until.is_some_and(|until| now < until)
        });
        backed_off.map(|i| self.forget(i)).is_some()
    }

    pub(crate) fn is_able(&self, peer: &PeerId, class: Class) -> bool {
        self.get(peer)
            .is_some_and(|server| server.memory.is_able(class))
    }

    /// From where `peer` can be expected to dial an address of `class`.
    pub(crate) fn vantage(
        &self,
        peer: &PeerId,
        class: Class,
        contacts: &Contacts,
        now: Instant,
    ) -> Vantage {
        self.get(peer).map_or(Vantage::Contacted, |server| {
            server.vantage(class.family, contacts, now)
        })
    }

    /// Whether `peer` can be asked about an address, as far as is known: it has not refused its like, and lives elsewhere.
    pub(crate) fn suits(&self, peer: &PeerId, wish: &Wish<'_>, now: Instant) -> bool {
        self.get(peer).is_some_and(|server| {
            !self.is_too_near(server, wish)
                && !matches!(server.status(wish, now, self.per_minute), Status::Away(_))
        })
    }

    /// Whether `peer` has still to be heard about an address, and can be asked.
    pub(crate) fn has_news(&self, peer: &PeerId, wish: &Wish<'_>, now: Instant) -> bool {
        self.suits(peer, wish, now)
            && wish
                .evidence
                .servers_since(wish.round)
                .all(|heard| heard != *peer)
    }

    pub(crate) fn neighbourhood(&self, peer: &PeerId) -> Option<Neighbourhood> {
        self.get(peer)?.place.neighbourhood
    }

    /// Whether this node may have contacted any of its IPs.
    pub(crate) fn was_dialed_by_name(&mut self, peer: &PeerId) -> bool {
        self.memory_mut(peer).is_some_and(|memory| memory.named)
    }

    pub(crate) fn set_in_flight(&mut self, peer: &PeerId, probe: ProbeId, now: Instant) {
        let per_minute = self.per_minute;
        if let Some(server) = self.get_mut(peer) {
            server.in_flight = Some(probe);
            server.memory.note_asked(per_minute, now);
        }
    }

    /// It has come back while a probe is under way.
    pub(crate) fn set_busy(&mut self, peer: &PeerId, probe: ProbeId) {
        if let Some(server) = self.get_mut(peer) {
            server.in_flight = Some(probe);
        }
    }

    pub(crate) fn set_idle(&mut self, peer: &PeerId, probe: ProbeId) {
        if let Some(server) = self.get_mut(peer)
            && server.in_flight == Some(probe)
        {
            server.in_flight = None;
        }
    }

    /// It has dialed back over `class`, and from there unless that is hidden.
    pub(crate) fn note_proof(&mut self, peer: &PeerId, class: Class, from: Option<IpAddr>) {
        self.epoch += 1;
        if let Some(memory) = self.memory_mut(peer) {
            memory.note_proof(class, from);
        }
    }

    /// It gave an answer about `id` that is within the protocol.
    pub(crate) fn note_answer(&mut self, peer: &PeerId, id: AddressId) {
        if let Some(memory) = self.memory_mut(peer) {
            let changed = memory.note_answer(id);
            if changed {
                self.epoch += 1;
            }
        }
    }

    /// It has dialed another address of a request than the last.
    pub(crate) fn note_dials_first(&mut self, peer: &PeerId) {
        if let Some(memory) = self.memory_mut(peer) {
            memory.dials_first = true;
        }
    }

    pub(crate) fn dials_first(&self, peer: &PeerId) -> bool {
        self.get(peer)
            .is_some_and(|server| server.memory.dials_first)
    }

    /// It said that a dial failed which works for others.
    pub(crate) fn note_doubt(&mut self, peer: &PeerId, class: Class) {
        if let Some(memory) = self.memory_mut(peer) {
            memory.note_doubt(class);
        }
    }

    /// `false` if another refusal that still holds had to be forgotten.
    pub(crate) fn note_refusal(&mut self, peer: &PeerId, what: Refused, now: Instant) -> bool {
        self.epoch += 1;
        self.memory_mut(peer)
            .is_none_or(|memory| memory.note_refusal(what, now))
    }

    /// It was asked and had nothing to say.
    pub(crate) fn note_trouble(&mut self, peer: &PeerId, now: Instant) {
        if let Some(server) = self.get(peer) {
            self.troubled.insert(server.place.neighbourhood, now);
        }
    }

    pub(crate) fn note_setback(&mut self, peer: &PeerId, setback: Setback, now: Instant) {
        self.epoch += 1;
        self.note_trouble(peer, now);
        if let Some(memory) = self.memory_mut(peer) {
            memory.note_setback(setback, now);
        }
    }

    /// Which servers are not to be asked again, by their places in `connected`: a look through all of them compares
    /// numbers then, and no peer IDs.
    fn heard(&self, wish: &Wish<'_>) -> [Option<usize>; WINDOW] {
        let mut heard = [None; WINDOW];
        if !wish.anyone {
            let places = wish
                .evidence
                .servers_since(wish.round)
                .map(|peer| self.index.get(&peer).copied());
            for (slot, place) in heard.iter_mut().zip(places) {
                *slot = place;
            }
        }
        heard
    }

    /// Counts what may still be heard, as far as it takes to know.
    pub(crate) fn census(&self, wish: &Wish<'_>, now: Instant) -> Census {
        let mut census = Census::default();
        let heard = self.heard(wish);
        for (i, server) in self.connected.iter().enumerate().take(CENSUS) {
            if self.is_too_near(server, wish) {
                continue;
            }
            let status = server.status(wish, now, self.per_minute);
            if let Status::Away(until) = status {
                if !server.memory.is_away_for_a_moment(until, now) {
                    census.next_ready = earliest(census.next_ready, until);
                    let near = until.checked_sub(BRIEF).filter(|at| now < *at);
                    census.stale_at = earliest(census.stale_at, near.unwrap_or(until));
                    continue;
                }
                census.stale_at = earliest(census.stale_at, until);
            }
            census.to_ask += 1;
            if heard.contains(&Some(i)) {
                continue;
            }
            match status {
                Status::Ready => census.ready = true,
                Status::Busy => census.later = true,
                Status::Paced(until) | Status::Away(until) => {
                    census.later = true;
                    census.next_ready = earliest(census.next_ready, until);
                }
            }
            census.independents_left = census.independents_left
                || server.vantage(wish.class.family, wish.contacts, now) == Vantage::Independent;
            census.able_left = census.able_left || server.memory.is_able(wish.class);
            census.neighbourhoods_left =
                census.neighbourhoods_left || wish.is_new(server.place.neighbourhood);
            if census.to_ask >= SAMPLE && census.is_someone_left() {
                break;
            }
        }
        census
    }

    fn is_too_near(&self, server: &Server, wish: &Wish<'_>) -> bool {
        !self.local_too && server.is_local_to(wish)
    }

    /// How much is to be learned from asking `server`. A neighbourhood that was not heard first, so that no crowd in one
    /// place keeps the others from being asked; then an independent vantage, then one that is able, then whoever was asked
    /// least recently. A neighbourhood that is being asked, or where servers keep one waiting, has nothing of this to offer.
    fn merit(&self, server: &Server, wish: &Wish<'_>, now: Instant) -> i64 {
        let mut merit = 0;
        let at = server.place.neighbourhood;
        let troubled = self
            .troubled
            .peek(&at)
            .is_some_and(|since| now.saturating_duration_since(*since) < TROUBLE);
        if !troubled && !wish.being_asked.contains(&at) {
            if wish.is_new(at) {
                merit += 8_000;
            }
            if server.vantage(wish.class.family, wish.contacts, now) == Vantage::Independent {
                merit += 4_000;
            }
        }
        if server.memory.is_able(wish.class) {
            merit += if wish.able_first { 16_000 } else { 2_000 };
        }
        if server.memory.is_doubtful(wish.class) {
            merit -= 16_000;
        }
        let idle = server.memory.last_asked.map_or(1_000, |asked| {
            now.saturating_duration_since(asked).as_secs().min(999) as i64
        });
        merit + idle
    }

    /// The best of a sample of the servers that can be asked now.
    pub(crate) fn choose(&self, wish: &Wish<'_>, rng: &mut StdRng, now: Instant) -> Option<Choice> {
        if self.connected.is_empty() {
            return None;
        }
        let start = rng.random_range(0..self.connected.len());
        let heard = self.heard(wish);
        let mut best: Option<(i64, &Server)> = None;
        let mut looked_at = 0;
        let all = self.connected.iter().enumerate();
        let around = all.clone().skip(start).chain(all.take(start));
        for (i, server) in around.take(CENSUS) {
            if server.status(wish, now, self.per_minute) != Status::Ready
                || heard.contains(&Some(i))
                || self.is_too_near(server, wish)
            {
                continue;
            }
            let merit = self.merit(server, wish, now);
            if best.is_none_or(|(most, _)| merit > most) {
                best = Some((merit, server));
            }
            looked_at += 1;
            if looked_at >= SAMPLE {
                break;
            }
        }
        let (_, server) = best?;
        Some(Choice {
            peer: server.peer,
            connection: server.link()?.connection,
        })
    }
}

fn earliest(a: Option<Instant>, b: Instant) -> Option<Instant> {
    Some(a.map_or(b, |a| a.min(b)))
}
