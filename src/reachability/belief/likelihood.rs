//! The likelihood of all outcomes, while one after the other is moved from the state now to the state before: what the sum over
//! histories in [`Model`] is made of. Arithmetic only: the constants are in `belief.rs`.

use super::{Asked, Model, Outcome, Shares, Source, State};
use crate::reachability::servers::Ability;

/// The likelihood of the outcomes of one host, or of one group, for each value of its latent variable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latent {
    able: f64,
    liar: f64,
    inside: f64,
    successes: u32,
    ability: Ability,
    inside_prior: f64,
}

impl Latent {
    const UNHEARD: Self = Self {
        able: 1.0,
        liar: 1.0,
        inside: 1.0,
        successes: 0,
        ability: Ability::OtherFamily,
        inside_prior: 0.0,
    };

    fn meet(&mut self, outcome: &Outcome) {
        self.successes += u32::from(outcome.success);
        self.ability = self.ability.max(outcome.asked.ability);
        self.inside_prior = self.inside_prior.max(outcome.asked.inside);
    }

    /// Whether to be asked adds nothing to what is known of the server.
    fn tells(&self, asked: Asked) -> bool {
        self.ability >= asked.ability && self.inside_prior >= asked.inside
    }

    fn multiply(&mut self, factors: Factors) {
        self.able *= factors.able;
        self.liar *= factors.liar;
        self.inside *= factors.inside;
    }

    /// For each combination of the shares.
    fn likelihood<const N: usize>(&self, shares: &Shares) -> [f64; N] {
        let unable_likelihood = f64::from(u8::from(self.successes == 0));
        let able = &shares.able[self.ability as usize];
        let unable = &shares.unable[self.ability as usize];
        let inside = self.inside_prior * self.inside;
        let mut likelihood = [0.0; N];
        for (i, likelihood) in likelihood.iter_mut().enumerate() {
            let outside =
                able[i] * self.able + unable[i] * unable_likelihood + shares.liars[i] * self.liar;
            *likelihood = (1.0 - self.inside_prior) * outside + inside;
        }
        likelihood
    }
}

/// Whether the outcomes of the source's group, and those of its host if there are any, say as much of a server as `asked` does.
pub(super) fn is_told_by(outcomes: &[Outcome], source: Source, asked: Asked) -> bool {
    let mut group = Latent::UNHEARD;
    let mut host: Option<Latent> = None;
    for outcome in outcomes {
        if outcome.source.group() == source.group() {
            group.meet(outcome);
            if outcome.source.host() == source.host() {
                host.get_or_insert(Latent::UNHEARD).meet(outcome);
            }
        }
    }
    group.tells(asked) && host.is_none_or(|host| host.tells(asked))
}

/// P(outcome) for an able server, for a liar, and for one that gets in whatever the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub(super) able: f64,
    pub(super) liar: f64,
    pub(super) inside: f64,
}

/// The outcomes of one IP group: those of each host, and all together in case they have one cause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<const N: usize> {
    /// Its hosts, in the layout.
    first: usize,
    end: usize,
    together: Latent,
    likelihood: [f64; N],
}

impl<const N: usize> Group<N> {
    fn update(&mut self, model: &Model, shares: &Shares, hosts: &[Latent]) {
        let hosts = &hosts[self.first..self.end];
        let mut apart = [1.0; N];
        for host in hosts {
            for (apart, likelihood) in apart.iter_mut().zip(host.likelihood::<N>(shares)) {
                *apart *= likelihood;
            }
        }
        if hosts.len() > 1 {
            let together = self.together.likelihood::<N>(shares);
            for (apart, together) in apart.iter_mut().zip(together) {
                *apart = model.common_cause * together + (1.0 - model.common_cause) * *apart;
            }
        }
        self.likelihood = apart;
    }
}

/// Which group and which host each outcome belongs to. The hosts of a group are next to each other.
#[derive(Debug)]
pub(super) struct Layout {
    /// Group and host.
    pub(super) places: Vec<(usize, usize)>,
    /// Of each group: its first host, and the first that is none of its.
    groups: Vec<(usize, usize)>,
}

impl Layout {
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
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
#[derive(Debug)]
pub(super) struct Sweep<const N: usize> {
    hosts: Vec<Latent>,
    groups: Vec<Group<N>>,
    pub(super) product: [f64; N],
}

impl<const N: usize> Default for Sweep<N> {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            groups: Vec::new(),
            product: [1.0; N],
        }
    }
}

impl<const N: usize> Sweep<N> {
    /// All outcomes judged in `state`.
    pub(super) fn new(
        model: &Model,
        shares: &Shares,
        layout: &Layout,
        outcomes: &[Outcome],
        state: State,
    ) -> Self {
        let count = layout.groups.last().map_or(0, |(_, end)| *end);
        let mut hosts = vec![Latent::UNHEARD; count];
        let mut groups: Vec<Group<N>> = layout
            .groups
            .iter()
            .map(|(first, end)| Group {
                first: *first,
                end: *end,
                together: Latent::UNHEARD,
                likelihood: [1.0; N],
            })
            .collect();
        for (outcome, (group, host)) in outcomes.iter().zip(&layout.places) {
            let factors = model.factors(state, outcome);
            for latent in [&mut hosts[*host], &mut groups[*group].together] {
                latent.meet(outcome);
                latent.multiply(factors);
            }
        }
        let mut product = [1.0; N];
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
    pub(super) fn begin_at(&mut self, start: &Self) {
        self.hosts.clone_from(&start.hosts);
        self.groups.clone_from(&start.groups);
        self.product = start.product;
    }

    /// Moves an outcome from `state` to the state before.
    pub(super) fn step(
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
