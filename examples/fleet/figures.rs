//! What a run of the fleet is judged by.

use std::{collections::BTreeMap, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);
/// How long after its start a node is looked at.
const AFTER: [Duration; 2] = [MINUTE, Duration::from_secs(5 * 60)];

/// What one node went through. Costs are those of the time that counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeRecord {
    /// A filter lets in whom it has contacted: how many of the servers that it knows would tell is a matter of luck.
    pub(crate) is_filtered: bool,
    pub(crate) started: Duration,
    /// When it first knew whether it is reachable.
    pub(crate) decided: Option<Duration>,
    pub(crate) first_right: bool,
    /// Whether it was right a minute after its start, and five, where it has changed its mind since.
    right_after: [Option<bool>; AFTER.len()],
    pub(crate) is_right: bool,
    pub(crate) requests: u64,
    /// Requests that a server dialed for.
    pub(crate) answers: u64,
    pub(crate) rejections: u64,
    pub(crate) dial_data: u64,
}

impl NodeRecord {
    /// It says something else of itself than before; `right` tells whether that is so.
    pub(crate) fn note_summary(&mut self, now: Duration, is_known: bool, right: bool) {
        for (after, was_right) in AFTER.into_iter().zip(&mut self.right_after) {
            if self.started + after < now && was_right.is_none() {
                *was_right = Some(self.is_right);
            }
        }
        self.is_right = right;
        if is_known && self.decided.is_none() {
            self.decided = Some(now);
            self.first_right = right;
        }
    }

    fn was_right_after(&self, index: usize) -> bool {
        self.right_after[index].unwrap_or(self.is_right)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ServerRecord {
    /// Requests by the minute in which they came.
    pub(crate) by_minute: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) nodes: usize,
    pub(crate) servers: usize,
    times: Vec<Option<f64>>,
    first_wrong: f64,
    wrong_at_end: f64,
    right_after_minute: f64,
    right_after_5_minutes: f64,
    unfiltered_right_after_5_minutes: f64,
    pub(crate) requests_an_hour: f64,
    pub(crate) kb_an_hour: f64,
    rejected: f64,
    pub(crate) rejections: BTreeMap<&'static str, u64>,
    busiest_minute: u64,
    fairness: Option<f64>,
}

impl Figures {
    pub(crate) fn new(
        nodes: &[NodeRecord],
        servers: &[ServerRecord],
        rejections: BTreeMap<&'static str, u64>,
        counted: Duration,
    ) -> Self {
        let count = nodes.len() as f64;
        let hours = counted.as_secs_f64() / 3600.0;
        let time = |it: &NodeRecord| Some((it.decided? - it.started).as_secs_f64());
        let mut times: Vec<Option<f64>> = nodes.iter().map(time).collect();
        // Those without a verdict come last.
        times.sort_by(|a, b| {
            a.unwrap_or(f64::INFINITY)
                .total_cmp(&b.unwrap_or(f64::INFINITY))
        });
        let share = |what: &dyn Fn(&NodeRecord) -> bool| {
            nodes.iter().filter(|it| what(it)).count() as f64 / count
        };
        let sum = |what: &dyn Fn(&NodeRecord) -> u64| nodes.iter().map(what).sum::<u64>() as f64;
        let unfiltered: Vec<&NodeRecord> = nodes.iter().filter(|it| !it.is_filtered).collect();
        let right = unfiltered.iter().filter(|it| it.was_right_after(1)).count();
        let mut answers: Vec<u64> = nodes.iter().map(|it| it.answers).collect();
        answers.sort_unstable();
        let tenth = &answers[..answers.len().div_ceil(10)];
        let worst = tenth.iter().sum::<u64>() as f64 / tenth.len() as f64;
        let median = answers[answers.len() / 2] as f64;
        Self {
            nodes: nodes.len(),
            servers: servers.len(),
            times,
            first_wrong: share(&|it| it.decided.is_some() && !it.first_right),
            wrong_at_end: share(&|it| it.decided.is_some() && !it.is_right),
            right_after_minute: share(&|it| it.was_right_after(0)),
            right_after_5_minutes: share(&|it| it.was_right_after(1)),
            unfiltered_right_after_5_minutes: right as f64 / unfiltered.len() as f64,
            requests_an_hour: sum(&|it| it.requests) / count / hours,
            kb_an_hour: sum(&|it| it.dial_data) / 1000.0 / count / hours,
            rejected: sum(&|it| it.rejections) / sum(&|it| it.requests).max(1.0),
            rejections,
            busiest_minute: servers
                .iter()
                .flat_map(|it| it.by_minute.values())
                .max()
                .copied()
                .unwrap_or(0),
            fairness: (median > 0.0).then(|| worst / median),
        }
    }

    /// Seconds from its start until a node knows whether it is reachable; `None` if so many never do.
    pub(crate) fn time(&self, percentile: f64) -> Option<f64> {
        let at = (self.times.len() as f64 * percentile / 100.0) as usize;
        self.times[at.min(self.times.len() - 1)]
    }

    /// Share of nodes that don't know it after so many minutes.
    pub(crate) fn without(&self, minutes: u32) -> f64 {
        let limit = (MINUTE * minutes).as_secs_f64();
        let late = self
            .times
            .iter()
            .filter(|it| it.is_none_or(|time| time > limit));
        late.count() as f64 / self.times.len() as f64
    }

    pub(crate) fn right_after_minute(&self) -> f64 {
        self.right_after_minute
    }

    pub(crate) fn right_after_5_minutes(&self) -> f64 {
        self.right_after_5_minutes
    }

    /// The same of nodes without a filter that lets contacted hosts in.
    pub(crate) fn unfiltered_right_after_5_minutes(&self) -> f64 {
        self.unfiltered_right_after_5_minutes
    }

    /// Share of all requests.
    pub(crate) fn rejected(&self) -> f64 {
        self.rejected
    }

    /// The mean of the answers that the worst-served tenth got, against the median of all.
    pub(crate) fn fairness(&self) -> Option<f64> {
        self.fairness
    }

    pub(crate) fn columns(&self) -> [(&'static str, String); 17] {
        let seconds =
            |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("{time:.1}"));
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        [
            ("servers", self.servers.to_string()),
            ("time s p50", seconds(self.time(50.0))),
            ("time s p95", seconds(self.time(95.0))),
            ("time s p99", seconds(self.time(99.0))),
            ("none 1 min %", percent(self.without(1))),
            ("none 5 min %", percent(self.without(5))),
            ("none 30 min %", percent(self.without(30))),
            ("right 1 min %", percent(self.right_after_minute)),
            ("right 5 min %", percent(self.right_after_5_minutes)),
            (
                "unfiltered 5 min",
                percent(self.unfiltered_right_after_5_minutes),
            ),
            ("first wrong %", percent(self.first_wrong)),
            ("end wrong %", percent(self.wrong_at_end)),
            ("requests/h", format!("{:.2}", self.requests_an_hour)),
            ("dial data kB/h", format!("{:.1}", self.kb_an_hour)),
            ("rejected %", percent(self.rejected)),
            ("busiest /min", self.busiest_minute.to_string()),
            (
                "fairness",
                self.fairness
                    .map_or("-".to_owned(), |it| format!("{it:.2}")),
            ),
        ]
    }
}
