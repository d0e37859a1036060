//! What is held about each tracked address beyond where it was heard of: its evidence, its verdict, its schedule, and what the
//! last review came to, for as long as that holds.

use std::{collections::BTreeMap, time::Duration};

use web_time::Instant;

use crate::reachability::{
    belief::{Evidence, Model, Posterior},
    candidates::AddressId,
    contacts::Vantage,
    event::Obstacle,
    prospects::Prospects,
    schedule::Schedule,
    servers::Servers,
    verdict::{Standing, Verdict},
};

/// For how long a belief holds while nothing is heard. A state changes within a second with a probability of less than 1e-4.
const FRESH_BELIEF: Duration = Duration::from_secs(1);

/// One address.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) evidence: Evidence,
    pub(crate) standing: Standing,
    pub(crate) schedule: Schedule,
    /// Its verdict is that of the plain address on the same socket.
    pub(crate) inherited: bool,
    pub(crate) obstacle: Option<Obstacle>,
    /// Whether the application was told that it is unstable.
    pub(crate) told_unstable: bool,
    /// What the last look at it came to; `None` once something has happened to it.
    reviewed: Option<Reviewed>,
    /// The last belief, of which version of the evidence, when, and with which prior.
    posterior: Option<(u64, Instant, [f64; 3], Posterior)>,
}

/// A review that came to nothing new. It holds until something happens to the address or to the servers, or until time
/// changes something.
#[derive(Debug)]
pub(crate) struct Reviewed {
    /// Of which version of the table of servers.
    servers: u64,
    evidence: u64,
    pub(crate) until: Option<Instant>,
    pub(crate) prospects: Option<Prospects>,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            evidence: Evidence::default(),
            standing: Standing::new(now),
            schedule: Schedule::default(),
            inherited: false,
            obstacle: None,
            told_unstable: false,
            reviewed: None,
            posterior: None,
        }
    }

    /// The belief now.
    pub(crate) fn posterior(&mut self, model: &Model, prior: [f64; 3], now: Instant) -> Posterior {
        let posterior = self.belief(model, prior, now);
        if self.posterior.is_none_or(|(.., known)| known != posterior) {
            self.posterior = Some((self.evidence.version(), now, prior, posterior));
        }
        posterior
    }

    /// The same, without keeping it for the next time.
    pub(crate) fn belief(&self, model: &Model, prior: [f64; 3], now: Instant) -> Posterior {
        let version = self.evidence.version();
        match self.posterior {
            Some((of, at, with, posterior))
                if of == version
                    && with == prior
                    && now.saturating_duration_since(at) < FRESH_BELIEF =>
            {
                posterior
            }
            _ => model.posterior(prior, self.evidence.outcomes(), now),
        }
    }

    /// The belief when it was last looked at.
    pub(crate) fn last_posterior(&self) -> Option<&Posterior> {
        self.posterior.as_ref().map(|(.., posterior)| posterior)
    }

    /// Notes whether an outcome agrees with the verdict that stands.
    pub(crate) fn hear(
        &mut self,
        success: bool,
        vantage: Vantage,
        posterior: &Posterior,
        now: Instant,
    ) {
        let agrees = match self.standing.verdict() {
            Verdict::Unknown => true,
            Verdict::Reachable => success,
            Verdict::Filtered => success == (vantage == Vantage::Contacted),
            Verdict::Unreachable => !success,
        };
        self.standing.hear(agrees, &self.evidence, posterior, now);
    }

    /// The review that another one would come to the same as.
    pub(crate) fn reviewed(&self, servers: &Servers, now: Instant) -> Option<&Reviewed> {
        self.reviewed.as_ref().filter(|reviewed| {
            let looked_at = reviewed.prospects.as_ref().map(|it| &it.looked_at[..]);
            reviewed.evidence == self.evidence.version()
                && reviewed.until.is_none_or(|until| now < until)
                && !servers.have_changed(looked_at.unwrap_or_default(), reviewed.servers)
        })
    }

    pub(crate) fn set_reviewed(
        &mut self,
        servers: u64,
        until: Option<Instant>,
        prospects: Option<Prospects>,
    ) {
        self.reviewed = Some(Reviewed {
            servers,
            evidence: self.evidence.version(),
            until,
            prospects,
        });
    }

    pub(crate) fn touch(&mut self) {
        self.reviewed = None;
    }
}

/// All tracked addresses.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    by_id: BTreeMap<AddressId, Entry>,
}

impl Judged {
    pub(crate) fn insert(&mut self, id: AddressId, now: Instant) {
        self.by_id.insert(id, Entry::new(now));
    }

    pub(crate) fn remove(&mut self, id: AddressId) {
        self.by_id.remove(&id);
    }

    pub(crate) fn get(&self, id: AddressId) -> Option<&Entry> {
        self.by_id.get(&id)
    }

    /// To be changed, and so to be looked at again.
    pub(crate) fn get_mut(&mut self, id: AddressId) -> Option<&mut Entry> {
        let entry = self.by_id.get_mut(&id)?;
        entry.touch();
        Some(entry)
    }

    /// For what does not change its review.
    pub(crate) fn peek_mut(&mut self, id: AddressId) -> Option<&mut Entry> {
        self.by_id.get_mut(&id)
    }

    /// Something has happened to a request about it.
    pub(crate) fn touch(&mut self, id: AddressId) {
        self.get_mut(id);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressId, &Entry)> {
        self.by_id.iter().map(|(id, entry)| (*id, entry))
    }
}
