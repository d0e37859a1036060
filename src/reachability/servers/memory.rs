//! What a server has shown, remembered whether it is connected or not: what it can dial, what it refuses, from where it dials
//! back, how often it was asked, and until when it is left alone.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use web_time::Instant;

use super::place::Place;
use crate::{
    address::{IpFamily, PortProtocol},
    reachability::{
        candidates::{AddressId, Candidate, Class},
        contacts::{Contacts, Vantage},
        schedule::doubled,
    },
};

/// How many classes, and how many refusals, are remembered for one server.
const MAX_CLASSES: usize = 16;
/// The first back-off of a server for what it refused to dial.
const REFUSAL_BACKOFF: Duration = Duration::from_secs(5 * 60);
/// The longest back-off.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);
/// How often in a row a new connection ends the back-off of a server that does not answer. One that keeps coming back and is
/// silent on each connection has another reason than a dead link.
const MAX_REVIVALS: u32 = 4;
/// How many requests in a row it may leave in the middle of: a link that breaks does so once or twice.
const MAX_DEPARTURES: u32 = 4;
/// A verdict waits so long for servers that were put off once.
pub(super) const BRIEF: Duration = Duration::from_secs(30);

/// Why a server is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setback {
    /// It is busy: `E_REQUEST_REJECTED`, or `E_INTERNAL_ERROR`.
    Rejected,
    /// It did not answer, or the exchange broke off.
    Silent,
    /// It broke the protocol, or claimed a dial-back that never came.
    Misbehaved,
}

impl Setback {
    /// The first back-off; it doubles with each setback in a row.
    fn backoff(self) -> Duration {
        match self {
            Self::Silent => Duration::from_secs(10),
            Self::Rejected => Duration::from_secs(10),
            Self::Misbehaved => Duration::from_secs(10 * 60),
        }
    }
}

/// What a server refuses to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Class(Class),
    /// That one, though it may dial others of its class.
    Address(AddressId),
    /// It wants dial data for these, and is known through a relay only, over which none is paid.
    OverRelay(Class),
}

impl Refused {
    fn concerns(self, id: AddressId, class: Class) -> bool {
        match self {
            Self::Class(refused) | Self::OverRelay(refused) => refused == class,
            Self::Address(refused) => refused == id,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    what: Refused,
    until: Instant,
    in_a_row: u32,
}

/// Where a dial-back came from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum DialsFrom {
    Ip(IpAddr),
    /// A gateway put its own IP in place of it.
    Hidden,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Where it was when it left.
    pub(super) place: Option<Place>,
    /// It has dialed these.
    able: Vec<Class>,
    refusals: Vec<Refusal>,
    backed_off_until: Option<Instant>,
    /// The same because it did not answer: a new connection may bring it back.
    silent_until: Option<Instant>,
    /// How often one has, since it last answered.
    revivals: u32,
    /// How often it has left in the middle of a request, since it last answered.
    departures: u32,
    setbacks_in_a_row: u32,
    /// It has dialed another address of a request than the last.
    pub(super) dials_first: bool,
    pub(super) wants_dial_data: bool,
    /// Where its newest dial-back came from, over IPv4 and over IPv6.
    dials_from: [Option<DialsFrom>; 2],
    /// It was dialed by name: which of its IPs that contacted is not known.
    pub(super) is_named: bool,
    /// When it was asked, at most as often as the pace allows.
    asked: VecDeque<Instant>,
    /// The newest of those.
    pub(super) last_asked: Option<Instant>,
}

impl Memory {
    pub(super) fn is_able(&self, class: Class) -> bool {
        self.able.contains(&class)
    }

    pub(super) fn has_dialed(&self, family: IpFamily) -> bool {
        self.able.iter().any(|class| class.family == Some(family))
    }

    /// How much speaks for keeping it among others of its group: what it has shown, then how lately it was of use.
    pub(super) fn merit(&self, now: Instant) -> (bool, bool, Option<Instant>) {
        let usable = self.backed_off_until(now).is_none();
        (!self.able.is_empty(), usable, self.last_asked)
    }

    /// From where it dials back, if that is known.
    pub(super) fn vantage(
        &self,
        family: IpFamily,
        over: Option<PortProtocol>,
        contacts: &Contacts,
        now: Instant,
    ) -> Option<Vantage> {
        self.dials_from[family as usize].map(|from| match from {
            DialsFrom::Ip(ip) => contacts.vantage_of(ip, over, now),
            DialsFrom::Hidden => Vantage::Contacted,
        })
    }

    /// The source of its dial-backs, over either family.
    pub(super) fn dials_from(&self) -> Option<IpAddr> {
        self.dials_from
            .iter()
            .flatten()
            .find_map(|from| match from {
                DialsFrom::Ip(ip) => Some(*ip),
                DialsFrom::Hidden => None,
            })
    }

    pub(super) fn was_set_back_once(&self) -> bool {
        self.setbacks_in_a_row <= 1
    }

    pub(super) fn backed_off_until(&self, now: Instant) -> Option<Instant> {
        let until = self.backed_off_until.max(self.silent_until);
        until.filter(|until| now < *until)
    }

    /// Until when it is not to be asked about this address.
    pub(super) fn refuses_until(
        &self,
        id: AddressId,
        address: &Candidate,
        now: Instant,
    ) -> Option<Instant> {
        self.refusals
            .iter()
            .filter(|refusal| refusal.what.concerns(id, address.class) && now < refusal.until)
            .map(|refusal| refusal.until)
            .max()
    }

    /// Until when it has been asked as often as it may be.
    pub(super) fn paced_until(&self, per_minute: usize, now: Instant) -> Option<Instant> {
        let oldest = self
            .asked
            .front()
            .filter(|_| self.asked.len() >= per_minute)?;
        let ready = *oldest + Duration::from_secs(60);
        (now < ready).then_some(ready)
    }

    pub(super) fn note_asked(&mut self, per_minute: usize, now: Instant) {
        while self.asked.len() >= per_minute {
            self.asked.pop_front();
        }
        self.asked.push_back(now);
        self.last_asked = Some(now);
    }

    pub(super) fn note_proof(&mut self, class: Class, from: Option<IpAddr>) {
        self.end_setbacks();
        if !self.able.contains(&class) {
            if self.able.len() >= MAX_CLASSES {
                self.able.remove(0);
            }
            self.able.push(class);
        }
        self.lift_refusal(Refused::Class(class));
        self.lift_refusal(Refused::OverRelay(class));
        if let Some(family) = from.map(IpFamily::of).or(class.family) {
            let from = from.map_or(DialsFrom::Hidden, DialsFrom::Ip);
            self.dials_from[family as usize] = Some(from);
        }
    }

    /// `true` if there were any.
    pub(super) fn end_setbacks(&mut self) -> bool {
        self.revivals = 0;
        self.departures = 0;
        std::mem::take(&mut self.setbacks_in_a_row) > 0
    }

    /// It has left in the middle of a request. `true` if it does so again and again: then it is as good as silent.
    pub(super) fn note_departure(&mut self) -> bool {
        self.departures = self.departures.saturating_add(1);
        self.departures > MAX_DEPARTURES
    }

    /// There is another way to it, and that may be why it did not answer; without a relay dial data can be paid. `true` if it was
    /// left alone for either.
    pub(super) fn note_new_link(&mut self, is_relayed: bool) -> bool {
        let was_silent = self.revivals < MAX_REVIVALS && self.silent_until.take().is_some();
        self.revivals += u32::from(was_silent);
        let before = self.refusals.len();
        self.refusals
            .retain(|refusal| is_relayed || !matches!(refusal.what, Refused::OverRelay(_)));
        was_silent || self.refusals.len() < before
    }

    /// `true` if there was one.
    pub(super) fn lift_refusal_of(&mut self, id: AddressId) -> bool {
        self.lift_refusal(Refused::Address(id))
    }

    fn lift_refusal(&mut self, what: Refused) -> bool {
        let before = self.refusals.len();
        self.refusals.retain(|refusal| refusal.what != what);
        self.refusals.len() < before
    }

    /// `false` if another refusal that still holds had to be forgotten.
    pub(super) fn note_refusal(&mut self, what: Refused, now: Instant) -> bool {
        let mut remembers_all = true;
        let before = self.refusals.iter().position(|r| r.what == what);
        let in_a_row = before.map_or(0, |i| self.refusals.remove(i).in_a_row + 1);
        if self.refusals.len() >= MAX_CLASSES {
            let single = |refusal: &Refusal| matches!(refusal.what, Refused::Address(_));
            let least = self.refusals.iter().position(single);
            let gone = self.refusals.remove(least.unwrap_or(0));
            remembers_all = gone.until <= now;
        }
        self.refusals.push(Refusal {
            what,
            until: now + doubled(REFUSAL_BACKOFF, in_a_row, MAX_BACKOFF),
            in_a_row,
        });
        remembers_all
    }

    /// `lot` is drawn from 0 to 1: of those that a busy server has sent away together, not all come back together.
    pub(super) fn note_setback(&mut self, setback: Setback, lot: f64, now: Instant) {
        let backoff = doubled(setback.backoff(), self.setbacks_in_a_row, MAX_BACKOFF);
        let until = match setback {
            Setback::Rejected => now + backoff.mul_f64(0.5 + lot),
            Setback::Silent | Setback::Misbehaved => now + backoff,
        };
        let kept = match setback {
            Setback::Silent => &mut self.silent_until,
            Setback::Rejected | Setback::Misbehaved => &mut self.backed_off_until,
        };
        *kept = (*kept).max(Some(until));
        self.setbacks_in_a_row = self.setbacks_in_a_row.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_offs_double_up_to_an_hour() {
        let hour = Duration::from_secs(60 * 60);
        for setback in [Setback::Silent, Setback::Rejected, Setback::Misbehaved] {
            let first = setback.backoff();
            assert_eq!(doubled(first, 1, MAX_BACKOFF), 2 * first);
            assert_eq!(doubled(first, 12, MAX_BACKOFF), hour);
            assert_eq!(doubled(first, u32::MAX, MAX_BACKOFF), hour);
        }
    }
}
