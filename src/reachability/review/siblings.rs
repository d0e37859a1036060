//! The addresses that share a socket with a plain one: what they inherit from it, and how they lose that.

use web_time::Instant;

use crate::{
    address::ThinWaist,
    reachability::{
        Reachability, Verdict,
        candidates::{AddressId, Candidate},
    },
};

impl Reachability {
    /// The addresses that share a socket with a plain one inherit that it is reachable, and lose it with it.
    pub(in crate::reachability) fn share_with_siblings(&mut self, id: AddressId, now: Instant) {
        let Some(plain) = self.candidates.get(id).filter(|plain| plain.is_plain()) else {
            return;
        };
        let Some(waist) = plain.waist else {
            return;
        };
        if !plain.is_reachable {
            self.release_siblings(waist, now);
            return;
        }
        for sibling in self.ornamented_on(waist) {
            self.inherit(sibling, now);
        }
    }

    /// The addresses on this socket that are more than a plain one.
    fn ornamented_on(&self, waist: ThinWaist) -> Vec<AddressId> {
        let on_socket = |(_, c): &(AddressId, &Candidate)| c.waist == Some(waist) && !c.is_plain();
        let found = self.candidates.iter().filter(on_socket);
        found.map(|(id, _)| id).collect()
    }

    /// An address without proofs of its own inherits from a plain one on the same socket that has some.
    ///
    /// Not one that only peers speak of: a peer can name any number of them, on a socket where nothing listens for them.
    pub(in crate::reachability) fn inherit(&mut self, id: AddressId, now: Instant) {
        let Some(candidate) = self.candidates.get(id) else {
            return;
        };
        let Some((plain_id, plain)) = self.candidates.plain_sibling(candidate) else {
            return;
        };
        let is_given = plain.is_reachable
            && self
                .judged
                .get(plain_id)
                .is_some_and(|plain| plain.evidence.is_proven() || plain.standing.is_decided());
        let takes = self.judged.get(id).is_some_and(|entry| {
            entry.inherited || !candidate.is_only_observed() && !entry.evidence.is_proven()
        });
        if !is_given || !takes || candidate.is_withheld {
            return;
        }
        if let Some(entry) = self.judged.get_mut(id) {
            entry.inherited = true;
        }
        self.set_verdict(id, Verdict::Reachable, now);
        self.publish(id, now);
    }

    /// The plain address is no longer reachable: what inherited from it is to be tested by itself.
    pub(in crate::reachability) fn release_siblings(&mut self, waist: ThinWaist, now: Instant) {
        for heir in self.ornamented_on(waist) {
            self.disinherit(heir, now);
        }
    }

    /// What it inherited is gone, and what was heard about it before.
    pub(in crate::reachability) fn disinherit(&mut self, id: AddressId, now: Instant) {
        if !self.judged.get(id).is_some_and(|entry| entry.inherited) {
            return;
        }
        self.take_back(id);
        self.forget_verdict(id, now);
        self.publish(id, now);
    }
}
