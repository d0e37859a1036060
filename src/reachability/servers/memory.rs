//! What a server has shown, remembered whether it is connected or not.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use web_time::Instant;

use crate::{
    address::IpFamily,
    reachability::{
        candidate::{AddressId, Class},
        servers::{Wish, slot},
        vantage::{Contacts, Vantage},
    },
};

/// How many classes, and how many refusals, are remembered for one server.
const MAX_CLASSES: usize = 16;
/// The first back-off of a server for a class that it refused to dial.
const REFUSAL_BACKOFF: Duration = Duration::from_secs(5 * 60);
/// The longest back-off.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);
/// A verdict waits so long for servers that were put off once.
pub(super) const BRIEF: Duration = Duration::from_secs(30);

/// Why a server is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setback {
    /// It is busy: `E_REQUEST_REJECTED`, or `E_INTERNAL_ERROR`.
    Rejected,
    /// It did not answer, or the exchange broke off.
    Failed,
    /// It broke the protocol, or claimed a dial-back that never came.
    Misbehaved,
}

impl Setback {
    /// The first back-off; it doubles with each setback in a row.
    fn backoff(self) -> Duration {
        match self {
            Self::Failed => Duration::from_secs(10),
            Self::Rejected => Duration::from_secs(30),
            Self::Misbehaved => Duration::from_secs(10 * 60),
        }
    }
}

/// What a server refuses to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Class(Class),
    /// That one, though it dials others of its class.
    Address(AddressId),
    /// It had no answer on that one, of which no peer spoke then.
    UnheardOf(AddressId),
}

impl Refused {
    const fn is_single(self) -> bool {
        matches!(self, Self::Address(_) | Self::UnheardOf(_))
    }

    fn concerns(self, wish: &Wish<'_>) -> bool {
        match self {
            Self::Class(class) => class == wish.class,
            Self::Address(id) => id == wish.id,
            Self::UnheardOf(id) => id == wish.id && wish.unheard_of,
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
#[derive(Debug, Clone, Copy)]
enum DialsFrom {
    Ip(IpAddr),
    /// A gateway put its own IP in place of it.
    Hidden,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// It has dialed these.
    able: Vec<Class>,
    /// It said that a dial of these failed while the address was proven by another.
    doubtful: Vec<Class>,
    refusals: Vec<Refusal>,
    pub(super) away_until: Option<Instant>,
    setbacks_in_a_row: u32,
    /// It has dialed another address of a request than the last.
    pub(super) dials_first: bool,
    /// Where its newest dial-back came from, over IPv4 and over IPv6.
    dials_from: [Option<DialsFrom>; 2],
    /// It was dialed by name: which of its IPs that contacted is not known.
    pub(super) named: bool,
    /// When it was asked, at most as often as the pace allows.
    asked: VecDeque<Instant>,
    /// The newest of those.
    pub(super) last_asked: Option<Instant>,
}

impl Memory {
    pub(super) fn is_able(&self, class: Class) -> bool {
        self.able.contains(&class)
    }

    pub(super) fn is_doubtful(&self, class: Class) -> bool {
        self.doubtful.contains(&class)
    }

    /// From where it dials back, if that is known.
    pub(super) fn vantage(
        &self,
        family: IpFamily,
        contacts: &Contacts,
        now: Instant,
    ) -> Option<Vantage> {
        self.dials_from[slot(family)].map(|from| match from {
            DialsFrom::Ip(ip) => contacts.vantage_of(ip, now),
            DialsFrom::Hidden => Vantage::Contacted,
        })
    }

    /// Put off for the first time in a row, and not for long: worth waiting for before the others are taken for all.
    pub(super) fn is_away_for_a_moment(&self, until: Instant, now: Instant) -> bool {
        self.setbacks_in_a_row <= 1 && until.saturating_duration_since(now) <= BRIEF
    }

    /// Until when it is backed off.
    pub(super) fn away_for(&self, wish: &Wish<'_>, now: Instant) -> Option<Instant> {
        let refused = self
            .refusals
            .iter()
            .filter(|refusal| refusal.what.concerns(wish))
            .map(|refusal| refusal.until);
        let away = self.away_until.into_iter().chain(refused).max();
        away.filter(|until| now < *until)
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
        remember(&mut self.able, class);
        self.doubtful.retain(|c| *c != class);
        self.refusals
            .retain(|refusal| refusal.what != Refused::Class(class));
        self.setbacks_in_a_row = 0;
        let family = from.map(IpFamily::of).or(class.family);
        if let Some(family) = family {
            let from = from.map_or(DialsFrom::Hidden, DialsFrom::Ip);
            self.dials_from[slot(family)] = Some(from);
        }
    }

    /// `true` if that ends a row of setbacks.
    pub(super) fn note_answer(&mut self, id: AddressId) -> bool {
        self.refusals
            .retain(|refusal| refusal.what != Refused::UnheardOf(id));
        std::mem::take(&mut self.setbacks_in_a_row) > 0
    }

    pub(super) fn note_doubt(&mut self, class: Class) {
        if !self.is_able(class) {
            remember(&mut self.doubtful, class);
        }
    }

    /// `false` if another refusal that still holds had to be forgotten.
    pub(super) fn note_refusal(&mut self, what: Refused, now: Instant) -> bool {
        let mut remembers_all = true;
        let before = self.refusals.iter().position(|r| r.what == what);
        let in_a_row = before.map_or(0, |i| self.refusals.remove(i).in_a_row + 1);
        if self.refusals.len() >= MAX_CLASSES {
            let single = |refusal: &Refusal| refusal.what.is_single();
            let least = self.refusals.iter().position(single);
            let gone = self.refusals.remove(least.unwrap_or(0));
            remembers_all = gone.until <= now;
        }
        self.refusals.push(Refusal {
            what,
            until: now + doubled(REFUSAL_BACKOFF, in_a_row),
            in_a_row,
        });
        remembers_all
    }

    pub(super) fn note_setback(&mut self, setback: Setback, now: Instant) {
        let until = now + doubled(setback.backoff(), self.setbacks_in_a_row);
        self.away_until = self.away_until.max(Some(until));
        self.setbacks_in_a_row = self.setbacks_in_a_row.saturating_add(1);
    }
}

fn remember<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        if list.len() >= MAX_CLASSES {
            list.remove(0);
        }
        list.push(item);
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first
        .saturating_mul(1u32.checked_shl(times.min(16)).unwrap_or(u32::MAX))
        .min(MAX_BACKOFF)
}
