//! What one policy made of all worlds of a scenario.

use std::time::Duration;

use crate::{
    calibration::Calibration,
    history::{Claim, History, Track},
    world::World,
};

/// Sums over nodes, or over their addresses where they have several. Shares are of those that they can happen to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) nodes: u64,
    addresses: u64,
    pub(crate) first_false_negatives: Share,
    pub(crate) first_false_positives: Share,
    pub(crate) first_wrong: Share,
    pub(crate) standing_false_negatives: Share,
    pub(crate) standing_false_positives: Share,
    pub(crate) wrong_at_end: Share,
    pub(crate) without_verdict: Share,
    /// Nodes without a verdict although two servers answer.
    pub(crate) speechless: u64,
    /// Nodes called reachable although nobody ever dialed back.
    pub(crate) unfounded: u64,
    /// Called reachable although two servers with an independent vantage were connected.
    pub(crate) fooled: u64,
    pub(crate) last: Vec<(Claim, u64)>,
    verdicts: u64,
    probes: u64,
    dial_data: u64,
    flips: u64,
    hours: f64,
    times: Vec<Duration>,
    notice: Vec<Duration>,
    pub(crate) first: Calibration,
    pub(crate) standing: Calibration,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) part: u64,
    pub(crate) whole: u64,
}

impl Share {
    fn add(&mut self, happened: bool) {
        self.part += u64::from(happened);
        self.whole += 1;
    }

    fn merge(&mut self, other: Self) {
        self.part += other.part;
        self.whole += other.whole;
    }

    /// Of all that either can happen to: what happened to the one part or is missing from it.
    pub(crate) fn or(self, missing: Self) -> Self {
        Self {
            part: self.part + missing.part,
            whole: missing.whole,
        }
    }

    /// `None` if there is nobody whom it could have happened to.
    pub(crate) fn percent(self) -> Option<f64> {
        (self.whole > 0).then(|| 100.0 * self.part as f64 / self.whole as f64)
    }
}

impl Figures {
    pub(crate) fn add(&mut self, world: &World, history: &History, horizon: Duration) {
        self.nodes += 1;
        self.probes += history.probes;
        self.dial_data += history.dial_data;
        let mut verdicts = history.tracks.iter().flat_map(|track| &track.verdicts);
        let said_yes = verdicts.any(|(_, yes)| *yes);
        self.unfounded += u64::from(said_yes && history.dial_backs == 0);
        for track in &history.tracks {
            self.add_track(world, track, horizon);
        }
    }

    fn add_track(&mut self, world: &World, track: &Track, horizon: Duration) {
        self.addresses += 1;
        self.hours += horizon.as_secs_f64() / 3600.0;
        if let Some(statement) = &track.first {
            self.first.add(statement, world.state(statement.at));
        }
        for statement in &track.standing {
            self.standing.add(statement, world.state(statement.at));
        }
        if let Some(last) = track.last {
            self.count_last(last, 1);
        }
        let informed_at = world.two_independents_at();
        let fooled = |at: Duration| informed_at.is_some_and(|informed| informed < at);
        let mut verdicts = track.verdicts.iter();
        self.fooled += u64::from(verdicts.any(|(at, yes)| *yes && fooled(*at)));
        let Some((at, first)) = track.verdicts.first().copied() else {
            self.without_verdict.add(true);
            self.speechless += u64::from(world.answering() >= 2);
            return;
        };
        self.without_verdict.add(false);
        self.verdicts += track.verdicts.len() as u64;
        self.times.push(at);
        let truth = world.is_reachable(at);
        self.first_wrong.add(first != truth);
        if truth {
            self.first_false_negatives.add(!first);
        } else {
            self.first_false_positives.add(first);
        }
        let last = track.verdicts.last().is_some_and(|(_, last)| *last);
        let truth = world.is_reachable(horizon);
        self.wrong_at_end.add(last != truth);
        if truth {
            self.standing_false_negatives.add(!last);
        } else {
            self.standing_false_positives.add(last);
        }
        let mut changes = track.verdicts.len() as u64 - 1;
        if let Some(change) = world.change() {
            let noticed = track.verdicts.iter().find(|(at, _)| *at > change);
            if let Some((at, _)) = noticed {
                self.notice.push(*at - change);
                changes = changes.saturating_sub(1);
            }
        }
        self.flips += changes;
    }

    fn count_last(&mut self, claim: Claim, times: u64) {
        match self.last.iter_mut().find(|(known, _)| *known == claim) {
            Some((_, count)) => *count += times,
            None => self.last.push((claim, times)),
        }
    }

    /// How many addresses have this claim at the end.
    pub(crate) fn ended_with(&self, claim: Claim) -> u64 {
        let found = self.last.iter().find(|(known, _)| *known == claim);
        found.map_or(0, |(_, count)| *count)
    }

    pub(crate) fn addresses(&self) -> u64 {
        self.addresses
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.addresses += other.addresses;
        self.first_false_negatives
            .merge(other.first_false_negatives);
        self.first_false_positives
            .merge(other.first_false_positives);
        self.first_wrong.merge(other.first_wrong);
        self.standing_false_negatives
            .merge(other.standing_false_negatives);
        self.standing_false_positives
            .merge(other.standing_false_positives);
        self.wrong_at_end.merge(other.wrong_at_end);
        self.without_verdict.merge(other.without_verdict);
        self.speechless += other.speechless;
        self.unfounded += other.unfounded;
        self.fooled += other.fooled;
        for (claim, count) in other.last {
            self.count_last(claim, count);
        }
        self.verdicts += other.verdicts;
        self.probes += other.probes;
        self.dial_data += other.dial_data;
        self.flips += other.flips;
        self.hours += other.hours;
        self.times.extend(other.times);
        self.notice.extend(other.notice);
        self.first.merge(other.first);
        self.standing.merge(other.standing);
    }

    pub(crate) fn probes_a_node(&self) -> f64 {
        self.probes as f64 / self.nodes as f64
    }

    /// In kB. Each change between yes and no is a verdict.
    pub(crate) fn dial_data_a_verdict(&self) -> Option<f64> {
        (self.verdicts > 0).then(|| self.dial_data as f64 / 1000.0 / self.verdicts as f64)
    }

    /// Of an address, those apart with which it noticed a change.
    pub(crate) fn flips_an_hour(&self) -> f64 {
        self.flips as f64 / self.hours
    }

    /// Seconds to the first verdict.
    pub(crate) fn time(&self, percentile: usize) -> Option<f64> {
        quantile(&self.times, percentile)
    }

    /// Seconds from a change to the next verdict.
    pub(crate) fn notice(&self, percentile: usize) -> Option<f64> {
        quantile(&self.notice, percentile)
    }
}

fn quantile(times: &[Duration], percentile: usize) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() * percentile / 100).min(times.len().saturating_sub(1));
    times.get(at).map(Duration::as_secs_f64)
}
