//! One request under way: the addresses it names, the nonces that came back for it, and what its answers prove.
//!
//! The nonce is the proof, never the server's word (spec, "AutoNAT V2 Protocol"). It counts when it came in on an
//! inbound, direct connection that was established after the request left, over the protocol stack of the address that
//! it is to prove, and not from the network of that address itself. A server could otherwise hand it back over a
//! connection that is open already, or dial from behind the same router.

use std::{net::IpAddr, time::Duration};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    address::{self, Neighbourhood},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{
        candidate::{AddressId, Class},
        event::ProbeOutcome,
        servers::subnet,
        vantage::Vantage,
    },
};

/// How long a nonce may come in after the response that speaks of it. go-libp2p waits as long.
pub(crate) const NONCE_GRACE: Duration = Duration::from_secs(5);
/// An `E_DIAL_ERROR` that comes later may not have been dialed for: js-libp2p answers so when its time has run out.
pub(crate) const CREDIBLE_FAILURE: Duration = Duration::from_secs(25);

/// Names one probe. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub(crate) u64);

/// One address of a request.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) id: AddressId,
    pub(crate) addr: Multiaddr,
    pub(crate) class: Class,
    subnet: Option<Neighbourhood>,
    /// From where the server could be expected to dial it when the request left.
    pub(crate) expected: Vantage,
    /// Bytes paid for it.
    pub(crate) dial_data: u64,
    answered: bool,
    pub(crate) refused: bool,
    claimed_ok: bool,
    /// The server says that it dialed it, and the nonce has until then to come in.
    awaits_nonce_until: Option<Instant>,
}

/// A nonce that came in for this probe.
#[derive(Debug, Clone)]
struct Delivery {
    connection: ConnectionId,
    local: Multiaddr,
    subnet: Option<Neighbourhood>,
    source: Source,
    used: bool,
}

impl Delivery {
    fn fits(&self, target: &Target) -> bool {
        fits(&self.local, self.subnet, target)
    }
}

/// Whether what came in at `local` from the network `from` can be a dial of `target`. From the target's own network it
/// crossed no border that strangers have to cross: a router turned it back, or it never left. What came in at another public
/// IP was a dial of that: it is rare to translate one public IP into another.
fn fits(local: &Multiaddr, from: Option<Neighbourhood>, target: &Target) -> bool {
    let own = from.is_some() && from == target.subnet;
    let at = address::ip(local).filter(|ip| address::ip_scope(*ip).is_global());
    let elsewhere = at
        .zip(address::ip(&target.addr))
        .is_some_and(|(at, wanted)| at.to_canonical() != wanted.to_canonical());
    !own && !elsewhere && address::same_stack(local, &target.addr)
}

/// Where a nonce came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// `None` if it is not known.
    pub(crate) ip: Option<IpAddr>,
    /// Its vantage at the time when the connection was established.
    pub(crate) vantage: Vantage,
}

/// What is known of the connection that a nonce came in on.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    pub(crate) id: ConnectionId,
    pub(crate) inbound: bool,
    pub(crate) relayed: bool,
    pub(crate) local: Multiaddr,
    /// Where it came from; `None` where dials within a network count too.
    pub(crate) subnet: Option<Neighbourhood>,
    pub(crate) source: Source,
    /// Its place in the order of all that happened.
    pub(crate) sequence: u64,
}

/// What an answer says about one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Proof(Source),
    Failure,
    Refused,
    /// A dial-back is claimed, and the nonce may still come in.
    AwaitsNonce,
    /// It came so late that nothing may have been dialed.
    LateFailure,
}

/// Why a response says nothing about any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    Rejected,
    InternalError,
    /// An index out of range, an answer to the same address again, or a dial status that does not belong to `OK`.
    Nonsense,
}

#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) server: PeerId,
    pub(crate) nonce: u64,
    pub(crate) targets: Vec<Target>,
    pub(crate) sent_at: Instant,
    pub(crate) sequence: u64,
    /// When it is given up, whatever the handler says.
    pub(crate) deadline: Instant,
    pub(crate) dial_data: u64,
    /// Dial data for an address of this class was beyond the budget.
    pub(crate) unaffordable: Option<Class>,
    /// The exchange on the stream is over.
    pub(crate) ended: bool,
    /// An answer for the request as a whole was reported.
    pub(crate) reported: bool,
    /// The weightiest outcome so far, for which target, and after which time.
    pub(crate) result: Option<(usize, ProbeOutcome, Duration)>,
    /// The nonce came in as it should, but where no address of the request can have led: over another stack, or from the
    /// address's own network.
    pub(crate) misdelivered: bool,
    deliveries: Vec<Delivery>,
}

impl Probe {
    pub(crate) fn new(
        server: PeerId,
        nonce: u64,
        targets: impl IntoIterator<Item = (AddressId, Multiaddr, Class, Vantage)>,
        sequence: u64,
        sent_at: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            server,
            nonce,
            targets: targets
                .into_iter()
                .map(|(id, addr, class, expected)| Target {
                    id,
                    subnet: address::ip(&addr).map(subnet),
                    addr,
                    class,
                    expected,
                    dial_data: 0,
                    answered: false,
                    refused: false,
                    claimed_ok: false,
                    awaits_nonce_until: None,
                })
                .collect(),
            sent_at,
            sequence,
            deadline,
            dial_data: 0,
            unaffordable: None,
            ended: false,
            reported: false,
            result: None,
            misdelivered: false,
            deliveries: Vec::new(),
        }
    }

    /// The address that the probe was sent for.
    pub(crate) fn primary(&self) -> Option<&Target> {
        self.targets.first()
    }

    /// Takes in the nonce, if `carrier` can prove anything with it. A server that answers once per address (js-libp2p)
    /// delivers it as often, each time on a new connection.
    pub(crate) fn accept(&mut self, carrier: &Carrier) -> bool {
        let fresh = carrier.inbound && !carrier.relayed && carrier.sequence > self.sequence;
        let is_wanted = self
            .targets
            .iter()
            .any(|target| !self.is_settled(target) && fits(&carrier.local, carrier.subnet, target));
        let acceptable = fresh
            && is_wanted
            && self.deliveries.len() < self.targets.len()
            && self.deliveries.iter().all(|d| d.connection != carrier.id);
        self.misdelivered |= fresh && !is_wanted;
        if acceptable {
            self.deliveries.push(Delivery {
                connection: carrier.id,
                local: carrier.local.clone(),
                subnet: carrier.subnet,
                source: carrier.source,
                used: false,
            });
        }
        acceptable
    }

    fn is_settled(&self, target: &Target) -> bool {
        target.answered && target.awaits_nonce_until.is_none()
    }

    /// Reads a response that came in at `now`.
    pub(crate) fn read(
        &mut self,
        response: DialResponse,
        now: Instant,
    ) -> Result<(usize, Answer), Unusable> {
        match response.status {
            ResponseStatus::RequestRejected => return Err(Unusable::Rejected),
            ResponseStatus::InternalError => return Err(Unusable::InternalError),
            ResponseStatus::DialRefused | ResponseStatus::Ok => {}
        }
        let index = usize::try_from(response.addr_idx).map_err(|_| Unusable::Nonsense)?;
        let target = self.targets.get_mut(index).ok_or(Unusable::Nonsense)?;
        if target.answered {
            return Err(Unusable::Nonsense);
        }
        if response.status == ResponseStatus::DialRefused {
            target.answered = true;
            target.refused = true;
            return Ok((index, Answer::Refused));
        }
        if response.dial_status == DialStatus::Unused {
            return Err(Unusable::Nonsense);
        }
        target.answered = true;
        if let Some(source) = self.take_delivery(index) {
            return Ok((index, Answer::Proof(source)));
        }
        if response.dial_status == DialStatus::DialError {
            let credible = now.saturating_duration_since(self.sent_at) <= CREDIBLE_FAILURE;
            let answer = if credible {
                Answer::Failure
            } else {
                Answer::LateFailure
            };
            return Ok((index, answer));
        }
        if let Some(target) = self.targets.get_mut(index) {
            target.awaits_nonce_until = Some(now + NONCE_GRACE);
            target.claimed_ok = response.dial_status == DialStatus::Ok;
        }
        Ok((index, Answer::AwaitsNonce))
    }

    /// An unused delivery that proves target `index`. One that fits several unanswered addresses proves none but the
    /// one that the server names.
    fn take_delivery(&mut self, index: usize) -> Option<Source> {
        let target = self.targets.get(index)?;
        let delivery = self
            .deliveries
            .iter_mut()
            .find(|d| !d.used && d.fits(target))?;
        delivery.used = true;
        Some(delivery.source)
    }

    /// Matches nonces that came in late with the answers that wait for them.
    pub(crate) fn settle_awaited(&mut self) -> Vec<(usize, Source)> {
        let mut settled = Vec::new();
        for index in 0..self.targets.len() {
            let waits = self
                .targets
                .get(index)
                .is_some_and(|target| target.awaits_nonce_until.is_some());
            if !waits {
                continue;
            }
            if let Some(source) = self.take_delivery(index) {
                if let Some(target) = self.targets.get_mut(index) {
                    target.awaits_nonce_until = None;
                }
                settled.push((index, source));
            }
        }
        settled
    }

    /// Gives up the nonces that are overdue. Returns for which addresses, and whether the server claimed `OK`.
    pub(crate) fn give_up_awaited(&mut self, now: Instant) -> Vec<(usize, bool)> {
        let mut overdue = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            if target.awaits_nonce_until.is_some_and(|until| until <= now) {
                target.awaits_nonce_until = None;
                overdue.push((index, target.claimed_ok));
            }
        }
        overdue
    }

    /// When the exchange is over: a nonce that came in without an answer proves the one address that it can be for.
    pub(crate) fn unclaimed_proof(&mut self) -> Option<(usize, Source)> {
        let delivery = self.deliveries.iter_mut().find(|d| !d.used)?;
        let mut fitting = self
            .targets
            .iter()
            .enumerate()
            .filter(|(_, target)| delivery.fits(target));
        let (index, target) = fitting.next()?;
        if fitting.next().is_some() || target.answered {
            return None;
        }
        delivery.used = true;
        let source = delivery.source;
        if let Some(target) = self.targets.get_mut(index) {
            target.answered = true;
        }
        Some((index, source))
    }

    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (usize, &Target)> {
        self.targets
            .iter()
            .enumerate()
            .filter(|(_, target)| !target.answered)
    }

    /// The one address that the server dialed, if it was one.
    pub(crate) fn dialed(&self) -> Option<usize> {
        let dialed = |target: &Target| target.answered && !target.refused;
        let mut answered = (0..self.targets.len())
            .filter(|i| self.targets.get(*i).is_some_and(|target| target.answered));
        let index = answered.next()?;
        (answered.next().is_none() && self.targets.get(index).is_some_and(dialed)).then_some(index)
    }

    pub(crate) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.targets.len()
    }

    pub(crate) fn answered(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.answered)
    }

    /// Whether the server dialed something, or says so.
    pub(crate) fn is_informed(&self) -> bool {
        self.answered().any(|target| !target.refused)
    }

    pub(crate) fn has_answers(&self) -> bool {
        self.answered().next().is_some()
    }

    /// The first address was refused and no other was mentioned: how a server refuses a request as a whole.
    pub(crate) fn refused_first_only(&self) -> bool {
        self.primary().is_some_and(|target| target.refused)
            && self.targets.iter().skip(1).all(|target| !target.answered)
    }

    /// Nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.ended
            && self
                .targets
                .iter()
                .all(|target| target.awaits_nonce_until.is_none())
    }

    /// When it next wants to be looked at.
    pub(crate) fn next_deadline(&self) -> Instant {
        let awaited = self
            .targets
            .iter()
            .filter_map(|target| target.awaits_nonce_until);
        let exchange = (!self.ended).then_some(self.deadline);
        awaited.chain(exchange).min().unwrap_or(self.deadline)
    }
}
