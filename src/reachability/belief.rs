//! What the answers of servers amount to: the probability that an address is open, filtered or closed.
//!
//! This is Bayesian inference over a small model, computed exactly. An address is in one of three [`State`]s and changes
//! at most once within the window of evidence. A server's answer depends on the state, on its [`Vantage`] and on what the
//! server can do, which nobody tells: a latent variable of each server (able, unable, lying, dialing from inside), whose
//! shares among all servers are latent too. `docs/verdicts.md` has the model in words and the constants with their reasons.
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
    fn group(&self) -> Option<IpGroup> {
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
    /// Shares of servers that answer at random.
    liars: [(f64, f64); 2],
    /// P(unable) that a server adds of which only another IP family is known.
    other_family: f64,
    /// P(the servers of one IP group share their latent variable).
    common_cause: f64,
    /// Changes an hour, out of each state.
    hazard: f64,
    /// Where a change leads to, by the state before.
    to: [[f64; 3]; 3],
}

/// Combinations of the two unknown shares.
const SHARES: usize = 8;

impl Default for Model {
    fn default() -> Self {
        Self {
            // Chosen; a dial that fails for no reason is one in fifty.
            success: 0.98,
            liar_success: 0.5,
            stray_success: 0.005,
            // Wide on purpose: from networks where all servers dial to such where one in five does.
            unable: [(0.05, 0.35), (0.2, 0.35), (0.5, 0.2), (0.8, 0.1)],
            // A heavy tail, so that a crowd of liars is found out by those that contradict it.
            liars: [(0.02, 0.9), (0.2, 0.1)],
            // Chosen; with 0.2 two such failures are too little for a first verdict of filtering.
            other_family: 0.05,
            // Five failures of one group amount to over 90%, and a full window of them to 96%.
            common_cause: 0.1,
            // Chosen; insensitive between 0.1 and 0.5 in the simulator.
            hazard: 0.25,
            to: [[0.0, 0.3, 0.7], [0.8, 0.0, 0.2], [0.8, 0.2, 0.0]],
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

    fn expectation(&self, success: &Self, failure: &Self) -> Expectation {
        let p = success.total() / self.total();
        Expectation {
            success: p,
            gain: self.entropy() - p * success.entropy() - (1.0 - p) * failure.entropy(),
        }
    }
}

/// The likelihood of the outcomes of one host, or of one group, for each value of its latent variable.
#[derive(Debug, Clone, Copy)]
struct Latent {
    able: f64,
    liar: f64,
    inside: f64,
    successes: u32,
    ability: Ability,
    inside_prior: f64,
}

impl Latent {
    fn new(asked: &Asked) -> Self {
        Self {
            able: 1.0,
            liar: 1.0,
            inside: 1.0,
            successes: 0,
            ability: asked.ability,
            inside_prior: asked.inside,
        }
    }

    fn meet(&mut self, outcome: &Outcome) {
        self.successes += u32::from(outcome.success);
        self.ability = self.ability.max(outcome.asked.ability);
        self.inside_prior = self.inside_prior.max(outcome.asked.inside);
    }

    /// Multiplies in the outcome as judged in `state`, or takes it out again.
    fn judge(&mut self, model: &Model, outcome: &Outcome, state: State, take_out: bool) {
        let p = model.success_of(state, outcome.asked.vantage);
        let factors = if outcome.success {
            [p.0, p.1, model.success]
        } else {
            [1.0 - p.0, 1.0 - p.1, 1.0 - model.success]
        };
        for (latent, factor) in [&mut self.able, &mut self.liar, &mut self.inside]
            .into_iter()
            .zip(factors)
        {
            *latent = if take_out {
                *latent / factor
            } else {
                *latent * factor
            };
        }
    }

    fn likelihood(&self, model: &Model, unable: f64, liars: f64) -> f64 {
        let unable = model.unable_prior(self.ability, unable);
        let unable_likelihood = f64::from(u8::from(self.successes == 0));
        let outside = (1.0 - liars) * ((1.0 - unable) * self.able + unable * unable_likelihood)
            + liars * self.liar;
        (1.0 - self.inside_prior) * outside + self.inside_prior * self.inside
    }
}

/// The outcomes of one IP group: those of each host, and all together in case they have one cause.
#[derive(Debug)]
struct Group {
    hosts: Vec<Latent>,
    together: Latent,
    likelihood: [f64; SHARES],
}

impl Group {
    fn update(&mut self, model: &Model) {
        for (likelihood, (unable, liars, _)) in self.likelihood.iter_mut().zip(model.shares()) {
            let apart: f64 = self
                .hosts
                .iter()
                .map(|host| host.likelihood(model, unable, liars))
                .product();
            *likelihood = if self.hosts.len() == 1 {
                apart
            } else {
                let together = self.together.likelihood(model, unable, liars);
                model.common_cause * together + (1.0 - model.common_cause) * apart
            };
        }
    }
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

    fn unable_prior(&self, ability: Ability, share: f64) -> f64 {
        match ability {
            Ability::Shown => 0.0,
            Ability::SameFamily => share,
            Ability::OtherFamily => 1.0 - (1.0 - share) * (1.0 - self.other_family),
        }
    }

    /// Share of unable servers, share of liars, and the prior weight of both.
    fn shares(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        self.unable.iter().flat_map(move |(unable, weight)| {
            self.liars
                .iter()
                .map(move |(liars, w)| (*unable, *liars, weight * w))
        })
    }

    /// The posterior after `outcomes`, which are in the order of their times, at `now`.
    pub(crate) fn posterior(
        &self,
        prior: [f64; 3],
        outcomes: &[Outcome],
        now: Instant,
    ) -> Posterior {
        let mut joint = [[0.0; SHARES]; 3];
        let weights: Vec<f64> = self.shares().map(|(_, _, weight)| weight).collect();
        let Some(first) = outcomes.first().map(|o| o.at) else {
            for (y, shares) in joint.iter_mut().enumerate() {
                for (p, weight) in shares.iter_mut().zip(&weights) {
                    *p = prior[y] * weight;
                }
            }
            return Posterior { joint };
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
        for state in State::ALL {
            let y = state as usize;
            let start = Sweep::new(self, &layout, outcomes, state);
            for (i, weight) in weights.iter().enumerate() {
                joint[y][i] += prior[y] * stays(first, now) * weight * start.product[i];
            }
            for before in State::ALL.into_iter().filter(|before| *before != state) {
                let x = before as usize;
                let mut sweep = start.clone_for(before);
                for (k, outcome) in outcomes.iter().enumerate() {
                    sweep.step(self, &layout, outcome, k, state);
                    let path = prior[x] * self.to[x][y] * changes[k];
                    for (i, weight) in weights.iter().enumerate() {
                        joint[y][i] += path * weight * sweep.product[i];
                    }
                }
            }
        }
        Posterior { joint }
    }

    /// The posteriors after a success and after a failure of a server that is in no IP group of the outcomes that `posterior`
    /// has seen.
    fn after_new(&self, posterior: &Posterior, asked: &Asked) -> [Posterior; 2] {
        let mut success = *posterior;
        let mut failure = *posterior;
        for state in State::ALL {
            let (able, liar) = self.success_of(state, asked.vantage);
            for (i, (unable, liars, _)) in self.shares().enumerate() {
                let unable = self.unable_prior(asked.ability, unable);
                let outside = (1.0 - liars) * (1.0 - unable) * able + liars * liar;
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
        let [success, failure] = [true, false].map(|success| {
            outcomes.push(Outcome {
                at: now,
                source,
                asked,
                success,
            });
            let posterior = self.posterior(prior, outcomes, now);
            outcomes.pop();
            posterior
        });
        posterior.expectation(&success, &failure)
    }
}

/// Which group and which host within it each outcome belongs to.
#[derive(Debug)]
struct Layout {
    places: Vec<(usize, usize)>,
    groups: Vec<(Option<IpGroup>, Vec<Option<Host>>)>,
}

impl Layout {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut groups: Vec<(Option<IpGroup>, Vec<Option<Host>>)> = Vec::new();
        let places = outcomes
            .iter()
            .map(|outcome| {
                let group = outcome.source.group();
                let g = groups.iter().position(|(it, _)| *it == group);
                let g = g.unwrap_or_else(|| {
                    groups.push((group, Vec::new()));
                    groups.len() - 1
                });
                let hosts = &mut groups[g].1;
                let host = outcome.source.host();
                let h = hosts.iter().position(|it| *it == host);
                let h = h.unwrap_or_else(|| {
                    hosts.push(host);
                    hosts.len() - 1
                });
                (g, h)
            })
            .collect();
        Self { places, groups }
    }
}

/// The likelihood of all outcomes, while one after the other is moved from the state now to the state before.
#[derive(Debug)]
struct Sweep {
    groups: Vec<Group>,
    product: [f64; SHARES],
    before: State,
}

impl Sweep {
    /// All outcomes judged in `state`.
    fn new(model: &Model, layout: &Layout, outcomes: &[Outcome], state: State) -> Self {
        let mut groups: Vec<Group> = Vec::with_capacity(layout.groups.len());
        for (outcome, (g, h)) in outcomes.iter().zip(&layout.places) {
            if groups.len() <= *g {
                groups.push(Group {
                    hosts: Vec::new(),
                    together: Latent::new(&outcome.asked),
                    likelihood: [1.0; SHARES],
                });
            }
            let group = &mut groups[*g];
            if group.hosts.len() <= *h {
                group.hosts.push(Latent::new(&outcome.asked));
            }
            for latent in [&mut group.hosts[*h], &mut group.together] {
                latent.meet(outcome);
                latent.judge(model, outcome, state, false);
            }
        }
        let mut product = [1.0; SHARES];
        for group in &mut groups {
            group.update(model);
            for (p, likelihood) in product.iter_mut().zip(group.likelihood) {
                *p *= likelihood;
            }
        }
        Self {
            groups,
            product,
            before: state,
        }
    }

    fn clone_for(&self, before: State) -> Self {
        let groups = self.groups.iter().map(|group| Group {
            hosts: group.hosts.clone(),
            ..*group
        });
        Self {
            groups: groups.collect(),
            product: self.product,
            before,
        }
    }

    /// Moves outcome `k` from `state` to the state before.
    fn step(&mut self, model: &Model, layout: &Layout, outcome: &Outcome, k: usize, state: State) {
        let (g, h) = layout.places[k];
        let group = &mut self.groups[g];
        let old = group.likelihood;
        for latent in [&mut group.hosts[h], &mut group.together] {
            latent.judge(model, outcome, state, true);
            latent.judge(model, outcome, self.before, false);
        }
        group.update(model);
        for ((p, new), old) in self.product.iter_mut().zip(group.likelihood).zip(old) {
            *p *= new / old;
        }
    }
}
