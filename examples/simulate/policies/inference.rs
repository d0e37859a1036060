//! Exact inference by someone who knows how the worlds are made: the shares of NATs, faults and forwarding, when forwarding may
//! change, and how often a sound dial fails. Two things are left out: how long an answer takes, and that all nodes of a
//! scenario may have the same NAT; there it expects any.

use std::time::Duration;

use crate::world::{ALL_NATS, CHANGES, LUCK, Recipe, State, Transport, World};

pub(crate) const STATES: [State; 3] = [State::Open, State::Filtered, State::Closed];

/// Probabilities in the order of [`STATES`].
pub(crate) type Belief = [f64; 3];

/// A server was asked, and the nonce came back or it said `E_DIAL_ERROR`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// When it was asked.
    pub(crate) at: Duration,
    pub(crate) server: usize,
    pub(crate) success: bool,
    /// Whether a filter takes it for somebody whom the node has contacted.
    pub(crate) contacted: bool,
    /// Whether it was asked for the first time.
    pub(crate) first: bool,
}

/// When the ports are forwarded. Changes fall between two outcomes; the number is that of outcomes before the change.
#[derive(Debug, Clone, Copy)]
enum Forwarding {
    Never,
    Always,
    From(usize),
    Until(usize),
}

/// One way in which things may have gone, with its probability and those of what is wrong with each server.
struct Path {
    now: State,
    weight: f64,
    servers: Vec<Latents>,
}

/// The weight of each thing that may be wrong with a server that answers with an outcome.
#[derive(Debug, Clone, Copy)]
struct Latents {
    sound: f64,
    unable: f64,
    turncoat: f64,
}

impl Latents {
    fn sum(self) -> f64 {
        self.sound + self.unable + self.turncoat
    }
}

pub(crate) struct Inference<'a> {
    recipe: &'a Recipe,
    /// What is wrong with each server, before anything was heard.
    prior: Vec<Latents>,
    contacted: Vec<Vec<bool>>,
}

impl<'a> Inference<'a> {
    pub(crate) fn new(recipe: &'a Recipe, world: &World) -> Self {
        let silent = recipe.lies_ok + recipe.refuses + recipe.vanishes;
        let unable = recipe.cannot_dial + recipe.lies_error;
        let faulty = Latents {
            sound: 1.0 - unable - recipe.turns_coat - silent,
            unable,
            turncoat: recipe.turns_coat,
        };
        let sound = Latents {
            sound: 1.0,
            unable: 0.0,
            turncoat: 0.0,
        };
        let prior = |independent| {
            if independent && recipe.sound_independents {
                sound
            } else {
                faulty
            }
        };
        let contacted = |over: Transport| {
            let servers = world.servers.iter();
            servers.map(|it| it.is_contacted(over)).collect()
        };
        let independent = |it: &crate::world::Server| it.wants_dial_data();
        Self {
            recipe,
            prior: world
                .servers
                .iter()
                .map(|it| prior(independent(it)))
                .collect(),
            contacted: world.addresses.iter().map(|it| contacted(*it)).collect(),
        }
    }

    pub(crate) fn is_contacted(&self, server: usize, address: usize) -> bool {
        self.contacted[address][server]
    }

    /// All that can be concluded at `now` from `outcomes`, which are in the order of their times.
    pub(crate) fn posterior(&self, outcomes: &[Outcome], now: Duration) -> Posterior {
        // What it takes a node's NAT for is not that all are alike.
        let nats = match self.recipe.nats {
            [_] => ALL_NATS,
            several => several,
        };
        let mut paths = Vec::new();
        for state in STATES {
            let having = nats.iter().filter(|nat| nat.state() == state).count();
            let share = having as f64 / nats.len() as f64;
            if share == 0.0 {
                continue;
            }
            if state == State::Open {
                // Forwarding changes nothing.
                paths.push(self.path(outcomes, state, Forwarding::Never, share));
                continue;
            }
            for (forwarding, probability) in self.forwardings(outcomes, now) {
                if probability > 0.0 {
                    paths.push(self.path(outcomes, state, forwarding, share * probability));
                }
            }
        }
        paths.retain(|path| path.weight > 0.0);
        let total: f64 = paths.iter().map(|path| path.weight).sum();
        for path in &mut paths {
            path.weight /= total;
        }
        Posterior { paths }
    }

    fn forwardings(
        &self,
        outcomes: &[Outcome],
        now: Duration,
    ) -> impl Iterator<Item = (Forwarding, f64)> {
        let (forwarded, changes) = (self.recipe.forwarded, self.recipe.changes);
        let changing = forwarded * changes / 2.0;
        let before = move |at: Duration| {
            let (first, last) = (CHANGES.start as f64, CHANGES.end as f64);
            ((at.as_secs_f64() - first) / (last - first)).clamp(0.0, 1.0)
        };
        let ends = outcomes.iter().map(|it| it.at).chain([now]);
        let ends: Vec<f64> = ends.map(before).collect();
        let starts = std::iter::once(0.0).chain(ends.clone());
        let within: Vec<f64> = starts.zip(&ends).map(|(start, end)| end - start).collect();
        // What has not changed by now looks as if it never did.
        let later = changing * (1.0 - before(now));
        let still = [
            (Forwarding::Never, 1.0 - forwarded + later),
            (Forwarding::Always, forwarded * (1.0 - changes) + later),
        ];
        still
            .into_iter()
            .chain(within.into_iter().enumerate().flat_map(move |(k, share)| {
                [
                    (Forwarding::From(k), changing * share),
                    (Forwarding::Until(k), changing * share),
                ]
            }))
    }

    fn path(
        &self,
        outcomes: &[Outcome],
        nat: State,
        forwarding: Forwarding,
        probability: f64,
    ) -> Path {
        let state_after = |k: usize| {
            let forwarded = match forwarding {
                Forwarding::Never => false,
                Forwarding::Always => true,
                Forwarding::From(change) => k >= change,
                Forwarding::Until(change) => k < change,
            };
            if forwarded { State::Open } else { nat }
        };
        let mut servers = self.prior.clone();
        let mut weight = probability;
        for (k, outcome) in outcomes.iter().enumerate() {
            let success = if state_after(k).lets_in(outcome.contacted) {
                LUCK
            } else {
                0.0
            };
            let of = |success: f64| {
                if outcome.success {
                    success
                } else {
                    1.0 - success
                }
            };
            let it = &mut servers[outcome.server];
            it.sound *= of(success);
            it.unable *= of(0.0);
            it.turncoat *= of(if outcome.first { success } else { 0.0 });
            if it.sum() == 0.0 {
                weight = 0.0;
                break;
            }
        }
        Path {
            now: state_after(outcomes.len()),
            weight: weight * servers.iter().map(|it| it.sum()).product::<f64>(),
            servers,
        }
    }
}

pub(crate) struct Posterior {
    paths: Vec<Path>,
}

impl Posterior {
    pub(crate) fn belief(&self) -> Belief {
        self.sum(|_| 1.0)
    }

    fn sum(&self, factor: impl Fn(&Path) -> f64) -> Belief {
        let mut belief = [0.0; 3];
        for path in &self.paths {
            belief[path.now as usize] += path.weight * factor(path);
        }
        belief
    }

    /// The probability of a success if `server` is asked now.
    fn success(path: &Path, server: usize, contacted: bool, first: bool) -> f64 {
        let it = path.servers[server];
        let dials = if first {
            it.sound + it.turncoat
        } else {
            it.sound
        };
        let dials = if path.now.lets_in(contacted) {
            dials * LUCK
        } else {
            0.0
        };
        // A server may be such that this path is impossible.
        if it.sum() > 0.0 {
            dials / it.sum()
        } else {
            0.0
        }
    }

    /// How far the entropy is expected to fall, in nats, if `server` is asked now; and whether a success is the likelier answer.
    pub(crate) fn gain(&self, server: usize, contacted: bool, first: bool) -> (f64, bool) {
        let yes = self.sum(|path| Self::success(path, server, contacted, first));
        let no = self.sum(|path| 1.0 - Self::success(path, server, contacted, first));
        let p: f64 = yes.iter().sum();
        let after = p * entropy(yes) + (1.0 - p) * entropy(no);
        (entropy(self.belief()) - after, p > 0.5)
    }
}

/// In nats, of weights that need not add up to one.
fn entropy(weights: Belief) -> f64 {
    let total: f64 = weights.iter().sum();
    let shares = weights.iter().map(|weight| weight / total);
    shares
        .filter(|share| *share > 0.0)
        .map(|share| -share * share.ln())
        .sum()
}
