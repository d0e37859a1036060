//! The limit: a policy that knows how the worlds are made, infers exactly, and asks where it expects to learn most.
//!
//! What it leaves wrong nobody could get right for as many probes.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::{
    history::{Claim, History, SAMPLING, Statement},
    policies::inference::{Belief, Inference, Outcome, STATES},
    world::{Answer, Recipe, State, World},
};

/// The share of certainty that a first verdict takes, another against a standing one, and both where nobody is worth asking.
const SURE: f64 = 0.98;
const SURE_AGAINST: f64 = 0.95;
const ENOUGH: f64 = 0.5;
const ENOUGH_AGAINST: f64 = 0.7;
/// The least fall of entropy, in nats for each unit of cost, that is worth a probe; and while a verdict stands. Of the second,
/// 0.03 leaves 9.7% wrong in the scenario with all faults, 0.02 8.8% for 40% more dial data, and 0.005 no less for three times
/// as much.
const WORTH: f64 = 0.005;
const WORTH_AGAINST: f64 = 0.02;
/// What a probe with dial data costs, in probes without.
const DIAL_DATA_COST: f64 = 2.0;
const IN_PARALLEL: usize = 3;
/// A server is left alone for so long.
const PACE: Duration = Duration::from_secs(60);
/// Who has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(12);
/// For how long after the last server has come others may still come.
const ARRIVALS: Duration = Duration::from_millis(500);
/// How often it asks itself whether something may have changed.
const LOOK: Duration = SAMPLING;

pub(crate) struct Run<'a> {
    world: &'a World,
    inference: Inference<'a>,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, usize)>>,
    under_way: Vec<Probe>,
    outcomes: Vec<Outcome>,
    servers: Vec<Asked>,
    history: History,
}

#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    times: u64,
    last: Option<Duration>,
    /// Gave an answer that says that it never gives an outcome.
    useless: bool,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    server: usize,
    address: usize,
    at: Duration,
    until: Duration,
    answer: Answer,
    first: bool,
    /// The likelier answer when it left.
    likely: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(recipe: &'a Recipe, world: &'a World) -> Self {
        Self {
            world,
            inference: Inference::new(recipe, world),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            under_way: Vec::new(),
            outcomes: Vec::new(),
            servers: vec![Asked::default(); world.servers.len()],
            history: History::of(world.addresses.len()),
        }
    }

    pub(crate) fn run(mut self, horizon: Duration) -> History {
        let servers = self.world.servers.iter();
        let arrivals: Vec<Duration> = servers.map(|it| it.connected_at + it.latency * 2).collect();
        let last = arrivals.iter().max().copied().unwrap_or_default();
        let looks = (1..).map(|n| LOOK * n).take_while(|at| *at <= horizon);
        let wakes = arrivals.into_iter().chain([last + ARRIVALS]).chain(looks);
        self.queue = wakes.map(|at| Reverse((at, usize::MAX))).collect();
        while let Some(Reverse((at, _))) = self.queue.pop() {
            if at > horizon {
                break;
            }
            self.now = at;
            self.hear();
            let arriving = at < last + ARRIVALS;
            self.decide(arriving);
            if at.as_nanos() % SAMPLING.as_nanos() == 0 && at > Duration::ZERO {
                self.sample();
            }
        }
        self.history
    }

    fn hear(&mut self) {
        let now = self.now;
        let (ended, under_way) = self.under_way.iter().partition(|it| it.until <= now);
        self.under_way = under_way;
        let ended: Vec<Probe> = ended;
        for probe in ended {
            match probe.answer.success() {
                Some(success) => self.outcomes.push(self.outcome(&probe, success)),
                None => self.servers[probe.server].useless = true,
            }
        }
        self.outcomes.sort_by_key(|it| it.at);
    }

    fn outcome(&self, probe: &Probe, success: bool) -> Outcome {
        Outcome {
            at: probe.at,
            server: probe.server,
            success,
            contacted: self.inference.is_contacted(probe.server, probe.address),
            first: probe.first,
        }
    }

    /// Asks whoever is worth it, and says what is certain enough.
    fn decide(&mut self, arriving: bool) {
        while self.under_way.len() < IN_PARALLEL {
            let Some(probe) = self.best() else {
                break;
            };
            self.queue.push(Reverse((probe.until, probe.server)));
            self.queue
                .push(Reverse((probe.at + PATIENCE, probe.server)));
            self.under_way.push(probe);
            let asked = &mut self.servers[probe.server];
            asked.times += 1;
            asked.last = Some(self.now);
            let wants = self.world.servers[probe.server].wants_dial_data();
            self.history.asked(probe.answer, wants);
        }
        let belief = self.inference.posterior(&self.outcomes, self.now).belief();
        let waiting = self.under_way.iter().any(|it| self.now < it.at + PATIENCE);
        let exhausted = !waiting && !arriving && !self.outcomes.is_empty();
        for address in 0..self.history.tracks.len() {
            self.judge(address, belief, exhausted);
        }
    }

    fn best(&self) -> Option<Probe> {
        let mut supposed = self.outcomes.clone();
        supposed.extend(self.under_way.iter().map(|it| self.outcome(it, it.likely)));
        supposed.sort_by_key(|it| it.at);
        let posterior = self.inference.posterior(&supposed, self.now);
        let decided = self.history.tracks.iter().all(|it| it.last.is_some());
        let least = if decided { WORTH_AGAINST } else { WORTH };
        let mut best: Option<(f64, Probe)> = None;
        for (server, it) in self.world.servers.iter().enumerate() {
            let asked = self.servers[server];
            let rested = asked.last.is_none_or(|at| self.now >= at + PACE);
            let there = it.connected_at + it.latency * 2 <= self.now;
            let busy = self.under_way.iter().any(|probe| probe.server == server);
            if asked.useless || !rested || !there || busy {
                continue;
            }
            let first = asked.times == 0;
            for address in 0..self.world.addresses.len() {
                let contacted = self.inference.is_contacted(server, address);
                let (gain, likely) = posterior.gain(server, contacted, first);
                let cost = if it.wants_dial_data() {
                    DIAL_DATA_COST
                } else {
                    1.0
                };
                let worth = gain / cost;
                if worth < least || best.as_ref().is_some_and(|(most, _)| *most >= worth) {
                    continue;
                }
                let (answer, after) = self.world.ask(server, address, self.now, asked.times);
                let probe = Probe {
                    server,
                    address,
                    at: self.now,
                    until: self.now + after,
                    answer,
                    first,
                    likely,
                };
                best = Some((worth, probe));
            }
        }
        best.map(|(_, probe)| probe)
    }

    fn judge(&mut self, address: usize, belief: Belief, exhausted: bool) {
        let likeliest = STATES
            .into_iter()
            .max_by(|a, b| belief[*a as usize].total_cmp(&belief[*b as usize]));
        let Some(state) = likeliest else {
            return;
        };
        let confidence = belief[state as usize];
        let standing = self.history.tracks[address].last;
        let needed = match (standing.is_some(), exhausted) {
            (false, false) => SURE,
            (true, false) => SURE_AGAINST,
            (false, true) => ENOUGH,
            (true, true) => ENOUGH_AGAINST,
        };
        let claim = self.claim(state);
        let same = standing.is_some_and(|standing| standing.is_right(state));
        // A vantage that is better, or worse, is no other verdict.
        if confidence >= needed || same {
            let statement = Statement {
                at: self.now,
                claim,
                confidence,
            };
            self.history.tracks[address].say(statement);
        }
    }

    fn claim(&self, state: State) -> Claim {
        match state {
            State::Open => {
                let mut proofs = self.outcomes.iter().filter(|it| it.success);
                if proofs.any(|it| !it.contacted) {
                    Claim::Independent
                } else {
                    Claim::Contacted
                }
            }
            State::Filtered => Claim::Filtered,
            State::Closed => Claim::Unreachable,
        }
    }

    fn sample(&mut self) {
        let belief = self.inference.posterior(&self.outcomes, self.now).belief();
        for track in &mut self.history.tracks {
            let Some(claim) = track.last else {
                continue;
            };
            let said = STATES
                .into_iter()
                .find(|state| claim.is_right(*state))
                .map_or(0.0, |state| belief[state as usize]);
            track.stands(Statement {
                at: self.now,
                claim,
                confidence: said,
            });
        }
    }
}
