//! What the swarm announces: which external addresses this service has confirmed to it, and which others have. This is the book
//! of it; whether an address is to be announced is decided in `review/announce.rs`.
//!
//! The core and the swarm must always agree. So each confirmation and expiry that leaves is remembered until the swarm tells
//! of it, and the forms in which others have confirmed an address (with this node's `/p2p` or without) are kept.

use std::collections::{BTreeMap, VecDeque};

use libp2p_core::Multiaddr;

use crate::reachability::candidates::AddressId;

/// How many confirmations and expiries may be on their way through the swarm.
const MAX_ECHOES: usize = 256;
/// In how many forms others can confirm one address: with this node's `/p2p`, without, and spare ones.
const MAX_FORMS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    Confirmed,
    Expired,
}

#[derive(Debug, Default)]
struct Announced {
    /// This service confirmed it, in its canonical form.
    by_us: bool,
    /// How others have written it.
    by_others: Vec<Multiaddr>,
}

/// The external addresses of the swarm, as far as they are tracked.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    by_id: BTreeMap<AddressId, Announced>,
    echoes: VecDeque<(Multiaddr, Echo)>,
}

impl Announcements {
    pub(crate) fn is_by_us(&self, id: AddressId) -> bool {
        self.by_id.get(&id).is_some_and(|it| it.by_us)
    }

    pub(crate) fn is_by_others(&self, id: AddressId) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|it| !it.by_others.is_empty())
    }

    /// This service confirms it.
    pub(crate) fn confirm(&mut self, id: AddressId, addr: &Multiaddr) {
        self.by_id.entry(id).or_default().by_us = true;
        self.note_echo(addr, Echo::Confirmed);
    }

    /// Others have confirmed it, written so: from now on it is theirs to expire.
    pub(crate) fn note_confirmed(&mut self, id: AddressId, addr: &Multiaddr, form: &Multiaddr) {
        let announced = self.by_id.entry(id).or_default();
        if std::mem::take(&mut announced.by_us) && form != addr {
            announced.by_others.push(addr.clone());
        }
        if announced.by_others.len() < MAX_FORMS && !announced.by_others.contains(form) {
            announced.by_others.push(form.clone());
        }
    }

    /// All forms of it are to be expired, but for one that the swarm has expired already. Returns them.
    pub(crate) fn expire(
        &mut self,
        id: AddressId,
        addr: &Multiaddr,
        but: Option<&Multiaddr>,
    ) -> Vec<Multiaddr> {
        let Some(announced) = self.by_id.remove(&id) else {
            return Vec::new();
        };
        let mut forms = announced.by_others;
        if announced.by_us && !forms.contains(addr) {
            forms.push(addr.clone());
        }
        forms.retain(|form| Some(form) != but);
        for form in &forms {
            self.note_echo(form, Echo::Expired);
        }
        forms
    }

    /// It is no longer tracked: what this service has confirmed is to be expired, what others have is theirs.
    pub(crate) fn forget(&mut self, id: AddressId, addr: &Multiaddr) -> Option<Multiaddr> {
        let ours = self.expire_ours(id, addr);
        self.by_id.remove(&id);
        ours
    }

    /// This service takes its own confirmation back.
    pub(crate) fn expire_ours(&mut self, id: AddressId, addr: &Multiaddr) -> Option<Multiaddr> {
        let announced = self.by_id.get_mut(&id)?;
        let was = std::mem::take(&mut announced.by_us);
        if !was || announced.by_others.contains(addr) {
            return None;
        }
        self.note_echo(addr, Echo::Expired);
        Some(addr.clone())
    }

    /// A confirmation that was about to leave does not.
    pub(crate) fn call_off(&mut self, id: AddressId, addr: &Multiaddr) {
        self.take_echo(addr, Echo::Confirmed);
        if let Some(announced) = self.by_id.get_mut(&id) {
            announced.by_us = false;
        }
    }

    /// Whether the swarm tells of what this service did.
    pub(crate) fn take_echo(&mut self, addr: &Multiaddr, echo: Echo) -> bool {
        let at = self
            .echoes
            .iter()
            .position(|(a, e)| a == addr && *e == echo);
        at.and_then(|at| self.echoes.remove(at)).is_some()
    }

    fn note_echo(&mut self, addr: &Multiaddr, echo: Echo) {
        if self.echoes.len() >= MAX_ECHOES {
            self.echoes.pop_front();
        }
        self.echoes.push_back((addr.clone(), echo));
    }
}
