//! What the answers of servers amount to: the probability that an address is open, filtered or closed.
//!
//! This is Bayesian inference over a small model, computed exactly. An address is in one of three [`State`]s and changes
//! at most once within the window of evidence. A server's answer depends on the state, on its [`Vantage`] and on what the
//! server can do, which nobody tells: a latent variable of each server (able, unable, lying, dialing from inside), whose
//! shares among all servers are latent too. `docs/verdicts.md` has the model in words and the constants with their reasons.
//!
//! The constants are here, in [`Model`]; `likelihood` has the arithmetic, `prior` the priors by the kind of address, and
//! `evidence` the window of outcomes.
//!
//! Nothing here knows a clock, a swarm or a verdict: outcomes go in, a [`Posterior`] comes out.

use libp2p_identity::PeerId;
use web_time::Instant;

use crate::reachability::{
    contacts::Vantage,
    servers::{Ability, Host, IpGroup},
};

mod evidence;
pub(crate) use evidence::Evidence;

mod likelihood;
use likelihood::{Factors, Layout, Sweep, is_told_by};

mod prior;
pub(crate) use prior::prior;

#[cfg(test)]
mod tests;

/// What lets packets through to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Everybody's.
    Open,
    /// Those of IPs that this node has contacted: address-dependent filtering (RFC 4787, section 5).
    Filtered,
    /// Nobody's.
    Closed,
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Open, Self::Filtered, Self::Closed];

    const fn lets_in(self, vantage: Vantage) -> bool {
        match self {
            Self::Open => true,
            Self::Filtered => matches!(vantage, Vantage::Contacted),
            Self::Closed => false,
        }
    }
}

/// Who an outcome comes from, as far as outcomes of the same source hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A server. All servers of one host share their latent variable.
    Server {
        peer: PeerId,
        host: Host,
        group: IpGroup,
    },
    /// Whoever connected unasked. All strangers are one source, so that a crowd of them counts once.
    Strangers,
}

impl Source {
    pub(crate) fn group(&self) -> Option<IpGroup> {
        match self {
            Self::Server { group, .. } => Some(*group),
            Self::Strangers => None,
        }
    }

    fn host(&self) -> Option<Host> {
        match self {
            Self::Server { host, .. } => Some(*host),
            Self::Strangers => None,
        }
    }
}

/// What can be said of an asked server before it answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    pub(crate) vantage: Vantage,
    /// What is known of its ability to dial the address's transport over its IP family.
    pub(crate) ability: Ability,
    /// The prior probability that it gets in whatever the state: from inside, or over another address.
    pub(crate) inside: f64,
}

/// One answer that says something about the address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) at: Instant,
    pub(crate) source: Source,
    pub(crate) asked: Asked,
    pub(crate) success: bool,
}

/// The constants of the model. Shares are pairs of a value and its prior weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// P(success) of an able server whose packets get in.
    success: f64,
    /// P(success) of a liar whose packets get in.
    liar_success: f64,
    /// P(success) where packets don't get in.
    stray_success: f64,
    /// Shares of servers that cannot dial this transport and family.
    unable: [(f64, f64); 4],
    /// The same of servers of which only another IP family is known: how many of these can dial is another question.
    unable_other_family: [(f64, f64); 2],
    /// Shares of servers that answer at random.
    liars: [(f64, f64); 2],
    /// P(the servers of one IP group share their latent variable).
    common_cause: f64,
    /// Changes an hour.
    hazard: f64,
    /// P(the state after a change), by the state before. `None`: as if the address were new, so by its prior.
    after_change: Option<[[f64; 3]; 3]>,
}

/// Combinations of the unknown shares of unable servers and of liars.
const SHARES_OF_FAMILY: usize = 8;
/// The same with the share of unable servers of the other family, which varies slowest: the first half has its first value.
const SHARES: usize = 16;

impl Default for Model {
    fn default() -> Self {
        Self {
            // Chosen; a dial that fails for no reason is one in fifty.
            success: 0.98,
            liar_success: 0.5,
            stray_success: 0.005,
            // Wide on purpose: from networks where all servers dial to such where one in five does.
            unable: [(0.05, 0.35), (0.2, 0.35), (0.5, 0.2), (0.8, 0.1)],
            // Two of them that fail leave a verdict standing that others have proven, three don't; one that succeeds is worth
            // as much as any.
            unable_other_family: [(0.2, 0.5), (0.5, 0.5)],
            // A heavy tail, so that a crowd of liars is found out by those that contradict it.
            liars: [(0.02, 0.9), (0.2, 0.1)],
            // Five failures of one group amount to over 90%, and a full window of them to 96%.
            common_cause: 0.1,
            // Behind a NAT an open address changes once in four hours. Chosen; insensitive between 0.4 and 0.5 in the simulator.
            hazard: 0.5,
            after_change: None,
        }
    }
}

/// P(data, state now, shares): the unnormalised posterior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Posterior {
    joint: [[f64; SHARES]; 3],
}

/// What an answer is expected to bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expectation {
    /// P(success).
    pub(crate) success: f64,
    /// The expected fall of entropy, in nats.
    pub(crate) gain: f64,
}

impl Posterior {
    /// P(state), in the order of [`State::ALL`].
    pub(crate) fn states(&self) -> [f64; 3] {
        let sums = self.joint.map(|shares| shares.iter().sum::<f64>());
        let total: f64 = sums.iter().sum();
        sums.map(|sum| sum / total)
    }

    pub(crate) fn of(&self, state: State) -> f64 {
        self.states()[state as usize]
    }

    fn total(&self) -> f64 {
        self.joint.iter().flatten().sum()
    }

    fn entropy(&self) -> f64 {
        self.states()
            .iter()
            .filter(|p| **p > 0.0)
            .map(|p| -p * p.ln())
            .sum()
    }

    /// What is left of it when a part is taken away.
    fn without(&self, part: &Self) -> Self {
        let mut rest = *self;
        for (rest, part) in rest
            .joint
            .iter_mut()
            .flatten()
            .zip(part.joint.iter().flatten())
        {
            // The part may be of a moment later.
            *rest = (*rest - part).max(0.0);
        }
        rest
    }

    fn expectation(&self, success: &Self, failure: &Self) -> Expectation {
        let p = success.total() / self.total();
        Expectation {
            success: p,
            gain: self.entropy() - p * success.entropy() - (1.0 - p) * failure.entropy(),
        }
    }
}

/// The shares and their weights, for each combination.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Of honest servers that can dial, by what is known of their ability.
    able: [[f64; SHARES]; 3],
    /// Of honest servers that cannot.
    unable: [[f64; SHARES]; 3],
    liars: [f64; SHARES],
    weights: [f64; SHARES],
}

impl Model {
    /// P(success) of an able server and of a liar.
    fn success_of(&self, state: State, vantage: Vantage) -> (f64, f64) {
        if state.lets_in(vantage) {
            (self.success, self.liar_success)
        } else {
            (self.stray_success, self.stray_success)
        }
    }

    /// P(state `y` after a change | state `x` before).
    fn leads_to(&self, prior: [f64; 3], x: usize, y: usize) -> f64 {
        self.after_change.map_or(prior[y], |after| after[x][y])
    }

    fn factors(&self, state: State, outcome: &Outcome) -> Factors {
        let (able, liar) = self.success_of(state, outcome.asked.vantage);
        let of = |p: f64| if outcome.success { p } else { 1.0 - p };
        Factors {
            able: of(able),
            liar: of(liar),
            inside: of(self.success),
        }
    }

    fn all_shares(&self) -> Shares {
        let mut all = Shares {
            able: [[0.0; SHARES]; 3],
            unable: [[0.0; SHARES]; 3],
            liars: [0.0; SHARES],
            weights: [0.0; SHARES],
        };
        let mut i = 0;
        for (other_family, w) in self.unable_other_family {
            for (unable, weight) in self.unable {
                for (liars, weight_of_liars) in self.liars {
                    for (ability, unable) in [
                        (Ability::OtherFamily, other_family),
                        (Ability::SameFamily, unable),
                        (Ability::Shown, 0.0),
                    ] {
                        all.able[ability as usize][i] = (1.0 - liars) * (1.0 - unable);
                        all.unable[ability as usize][i] = (1.0 - liars) * unable;
                    }
                    all.liars[i] = liars;
                    all.weights[i] = w * weight * weight_of_liars;
                    i += 1;
                }
            }
        }
        all
    }

    /// The posterior after `outcomes`, which are in the order of their times, at `now`.
    pub(crate) fn posterior(
        &self,
        prior: [f64; 3],
        outcomes: &[Outcome],
        now: Instant,
    ) -> Posterior {
        let shares = self.all_shares();
        let doubtful = |o: &Outcome| o.asked.ability == Ability::OtherFamily;
        let likelihoods = if outcomes.iter().any(doubtful) {
            self.likelihoods::<SHARES>(prior, outcomes, &shares, now)
        } else {
            // The share of the other family makes no difference.
            let likelihoods = self.likelihoods::<SHARES_OF_FAMILY>(prior, outcomes, &shares, now);
            likelihoods.map(|of| std::array::from_fn(|i| of[i % SHARES_OF_FAMILY]))
        };
        Posterior {
            joint: likelihoods.map(|of| std::array::from_fn(|i| of[i] * shares.weights[i])),
        }
    }

    /// P(data, state now | shares), for the first `N` combinations of the shares.
    fn likelihoods<const N: usize>(
        &self,
        prior: [f64; 3],
        outcomes: &[Outcome],
        shares: &Shares,
        now: Instant,
    ) -> [[f64; N]; 3] {
        let Some(first) = outcomes.first().map(|o| o.at) else {
            return prior.map(|p| [p; N]);
        };
        let stays = |from: Instant, to: Instant| {
            let hours = to.saturating_duration_since(from).as_secs_f64() / 3600.0;
            (-self.hazard * hours).exp()
        };
        // P(the change comes right after outcome k).
        let changes: Vec<f64> = (0..outcomes.len())
            .map(|k| {
                let next = outcomes.get(k + 1).map_or(now, |o| o.at);
                stays(first, outcomes[k].at) * (1.0 - stays(outcomes[k].at, next))
            })
            .collect();
        let layout = Layout::of(outcomes);
        let unchanged = stays(first, now);
        let mut sweep = Sweep::<N>::default();
        State::ALL.map(|state| {
            let y = state as usize;
            let start = Sweep::<N>::new(self, shares, &layout, outcomes, state);
            // A change may lead back to the same state.
            let same = unchanged + (1.0 - unchanged) * self.leads_to(prior, y, y);
            let mut paths = start.product.map(|p| prior[y] * same * p);
            for before in State::ALL.into_iter().filter(|before| *before != state) {
                let x = before as usize;
                let path = prior[x] * self.leads_to(prior, x, y);
                let mut add = |product: &[f64; N], change: f64| {
                    for (sum, product) in paths.iter_mut().zip(product) {
                        *sum += path * change * product;
                    }
                };
                sweep.begin_at(&start);
                // Of changes that have the same likelihood: an outcome that says the same of both states makes no difference.
                let mut change = 0.0;
                for (k, outcome) in outcomes.iter().enumerate() {
                    let vantage = outcome.asked.vantage;
                    if state.lets_in(vantage) != before.lets_in(vantage) {
                        add(&sweep.product, change);
                        change = 0.0;
                        sweep.step(self, shares, layout.places[k], outcome, state, before);
                    }
                    change += changes[k];
                }
                add(&sweep.product, change);
            }
            paths
        })
    }

    /// The posteriors after a success and after a failure of a server that is in no IP group of the outcomes that `posterior`
    /// has seen.
    fn after_new(&self, posterior: &Posterior, asked: &Asked) -> [Posterior; 2] {
        let mut success = *posterior;
        let mut failure = *posterior;
        let shares = self.all_shares();
        let share_of_able = &shares.able[asked.ability as usize];
        for state in State::ALL {
            let (able, liar) = self.success_of(state, asked.vantage);
            let shares = share_of_able.iter().zip(&shares.liars);
            for (i, (able_share, liars)) in shares.enumerate() {
                let outside = able_share * able + liars * liar;
                let p = (1.0 - asked.inside) * outside + asked.inside * self.success;
                success.joint[state as usize][i] *= p;
                failure.joint[state as usize][i] *= 1.0 - p;
            }
        }
        [success, failure]
    }

    /// What an answer of such a server brings.
    pub(crate) fn expect_of_new(&self, posterior: &Posterior, asked: &Asked) -> Expectation {
        let [success, failure] = self.after_new(posterior, asked);
        posterior.expectation(&success, &failure)
    }

    /// The posterior after `outcomes`, the last of which `before` has not seen.
    pub(crate) fn posterior_with_last(
        &self,
        prior: [f64; 3],
        outcomes: &[Outcome],
        before: &Posterior,
        now: Instant,
    ) -> Posterior {
        match outcomes.split_last() {
            Some((last, others))
                if others
                    .iter()
                    .all(|o| o.source.group() != last.source.group()) =>
            {
                let [success, failure] = self.after_new(before, &last.asked);
                if last.success { success } else { failure }
            }
            _ => self.posterior(prior, outcomes, now),
        }
    }

    /// What an answer at `now` brings of a server that is in one of the outcomes' IP groups.
    pub(crate) fn expect_of_known(
        &self,
        prior: [f64; 3],
        outcomes: &mut Vec<Outcome>,
        posterior: &Posterior,
        source: Source,
        asked: Asked,
        now: Instant,
    ) -> Expectation {
        let after = |outcomes: &mut Vec<Outcome>, success| {
            outcomes.push(Outcome {
                at: now,
                source,
                asked,
                success,
            });
            let posterior = self.posterior(prior, outcomes, now);
            outcomes.pop();
            posterior
        };
        let success = after(outcomes, true);
        // A failure is what is left of all that can be, unless being asked changes what is known of the server.
        let failure = if is_told_by(outcomes, source, asked) {
            posterior.without(&success)
        } else {
            after(outcomes, false)
        };
        posterior.expectation(&success, &failure)
    }
}
