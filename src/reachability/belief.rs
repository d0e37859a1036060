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

    fn multiply(&mut self, factors: Factors) {
        self.able *= factors.able;
        self.liar *= factors.liar;
        self.inside *= factors.inside;
    }

    /// For each combination of the shares.
    fn likelihood(&self, shares: &Shares) -> [f64; SHARES] {
        let unable_likelihood = f64::from(u8::from(self.successes == 0));
        let unable = &shares.unable[self.ability as usize];
        let mut likelihood = [0.0; SHARES];
        for (i, likelihood) in likelihood.iter_mut().enumerate() {
            let (unable, liars) = (unable[i], shares.liars[i]);
            let outside = (1.0 - liars) * ((1.0 - unable) * self.able + unable * unable_likelihood)
                + liars * self.liar;
            *likelihood = (1.0 - self.inside_prior) * outside + self.inside_prior * self.inside;
        }
        likelihood
    }
}

/// P(outcome) for an able server, for a liar, and for one that gets in whatever the state.
#[derive(Debug, Clone, Copy)]
struct Factors {
    able: f64,
    liar: f64,
    inside: f64,
}

/// The shares and their weights, for each combination.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// By ability.
    unable: [[f64; SHARES]; 3],
    liars: [f64; SHARES],
    weights: [f64; SHARES],
}

/// The outcomes of one IP group: those of each host, and all together in case they have one cause.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Its hosts, in the layout.
    first: usize,
    end: usize,
    together: Latent,
    likelihood: [f64; SHARES],
}

impl Group {
    fn update(&mut self, model: &Model, shares: &Shares, hosts: &[Latent]) {
        let hosts = &hosts[self.first..self.end];
        let mut apart = [1.0; SHARES];
        for host in hosts {
            for (apart, likelihood) in apart.iter_mut().zip(host.likelihood(shares)) {
                *apart *= likelihood;
            }
        }
        if hosts.len() > 1 {
            let together = self.together.likelihood(shares);
            for (apart, together) in apart.iter_mut().zip(together) {
                *apart = model.common_cause * together + (1.0 - model.common_cause) * *apart;
            }
        }
        self.likelihood = apart;
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
            unable: [[0.0; SHARES]; 3],
            liars: [0.0; SHARES],
            weights: [0.0; SHARES],
        };
        for (i, (unable, liars, weight)) in self.shares().enumerate() {
            for ability in [Ability::OtherFamily, Ability::SameFamily, Ability::Shown] {
                all.unable[ability as usize][i] = self.unable_prior(ability, unable);
            }
            all.liars[i] = liars;
            all.weights[i] = weight;
        }
        all
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
        let shares = self.all_shares();
        let Some(first) = outcomes.first().map(|o| o.at) else {
            for (joint, prior) in joint.iter_mut().zip(prior) {
                *joint = shares.weights.map(|weight| prior * weight);
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
        let unchanged = stays(first, now);
        let mut sweep = Sweep::default();
        for state in State::ALL {
            let y = state as usize;
            let start = Sweep::new(self, &shares, &layout, outcomes, state);
            let mut paths = start.product.map(|p| prior[y] * unchanged * p);
            for before in State::ALL.into_iter().filter(|before| *before != state) {
                let x = before as usize;
                sweep.begin_at(&start);
                for (k, outcome) in outcomes.iter().enumerate() {
                    sweep.step(self, &shares, layout.places[k], outcome, state, before);
                    let path = prior[x] * self.to[x][y] * changes[k];
                    for (sum, product) in paths.iter_mut().zip(sweep.product) {
                        *sum += path * product;
                    }
                }
            }
            for ((joint, sum), weight) in joint[y].iter_mut().zip(paths).zip(shares.weights) {
                *joint = sum * weight;
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

/// Which group and which host each outcome belongs to. The hosts of a group are next to each other.
#[derive(Debug)]
struct Layout {
    /// Group and host.
    places: Vec<(usize, usize)>,
    /// Of each group: its first host, and the first that is none of its.
    groups: Vec<(usize, usize)>,
}

impl Layout {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut places = vec![(0, 0); outcomes.len()];
        let mut groups: Vec<(usize, usize)> = Vec::with_capacity(outcomes.len());
        let mut hosts = 0;
        for (i, outcome) in outcomes.iter().enumerate() {
            let group = outcome.source.group();
            let is_known = |before: &Outcome| before.source.group() == group;
            if outcomes[..i].iter().any(is_known) {
                continue;
            }
            let first = hosts;
            for (k, other) in outcomes.iter().enumerate().skip(i) {
                if !is_known(other) {
                    continue;
                }
                let host = other.source.host();
                let same_host =
                    (i..k).find(|j| is_known(&outcomes[*j]) && outcomes[*j].source.host() == host);
                let at = same_host.map_or(hosts, |j| places[j].1);
                hosts = hosts.max(at + 1);
                places[k] = (groups.len(), at);
            }
            groups.push((first, hosts));
        }
        Self { places, groups }
    }
}

/// The likelihood of all outcomes, while one after the other is moved from the state now to the state before.
#[derive(Debug, Default)]
struct Sweep {
    hosts: Vec<Latent>,
    groups: Vec<Group>,
    product: [f64; SHARES],
}

impl Sweep {
    /// All outcomes judged in `state`.
    fn new(
        model: &Model,
        shares: &Shares,
        layout: &Layout,
        outcomes: &[Outcome],
        state: State,
    ) -> Self {
        let count = layout.groups.last().map_or(0, |(_, end)| *end);
        let mut hosts: Vec<Option<Latent>> = vec![None; count];
        let mut together: Vec<Option<Latent>> = vec![None; layout.groups.len()];
        for (outcome, (group, host)) in outcomes.iter().zip(&layout.places) {
            for latent in [&mut hosts[*host], &mut together[*group]] {
                let latent = latent.get_or_insert_with(|| Latent::new(&outcome.asked));
                latent.meet(outcome);
                latent.multiply(model.factors(state, outcome));
            }
        }
        let hosts: Vec<Latent> = hosts.into_iter().flatten().collect();
        let mut groups: Vec<Group> = together
            .into_iter()
            .flatten()
            .zip(&layout.groups)
            .map(|(together, (first, end))| Group {
                first: *first,
                end: *end,
                together,
                likelihood: [1.0; SHARES],
            })
            .collect();
        let mut product = [1.0; SHARES];
        for group in &mut groups {
            group.update(model, shares, &hosts);
            for (p, likelihood) in product.iter_mut().zip(group.likelihood) {
                *p *= likelihood;
            }
        }
        Self {
            hosts,
            groups,
            product,
        }
    }

    /// As a copy, without new memory.
    fn begin_at(&mut self, start: &Self) {
        self.hosts.clone_from(&start.hosts);
        self.groups.clone_from(&start.groups);
        self.product = start.product;
    }

    /// Moves an outcome from `state` to the state before.
    fn step(
        &mut self,
        model: &Model,
        shares: &Shares,
        place: (usize, usize),
        outcome: &Outcome,
        state: State,
        before: State,
    ) {
        let (was, is) = (
            model.factors(state, outcome),
            model.factors(before, outcome),
        );
        let moved = Factors {
            able: is.able / was.able,
            liar: is.liar / was.liar,
            inside: 1.0,
        };
        let group = &mut self.groups[place.0];
        let old = group.likelihood;
        self.hosts[place.1].multiply(moved);
        group.together.multiply(moved);
        group.update(model, shares, &self.hosts);
        for ((p, new), old) in self.product.iter_mut().zip(group.likelihood).zip(old) {
            *p *= new / old;
        }
    }
}
