//! Figures of a scenario: the table, the CSV file and the chart.

use std::{fmt::Write as _, time::Duration};

use crate::{policies::History, world::World};

/// What one policy made of all worlds of a scenario. Shares are of the nodes that they can happen to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) scenario: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) nodes: u64,
    reachable: u64,
    unreachable: u64,
    reachable_at_end: u64,
    unreachable_at_end: u64,
    first_false_negatives: u64,
    first_false_positives: u64,
    standing_false_negatives: u64,
    standing_false_positives: u64,
    pub(crate) without_verdict: u64,
    /// Nodes without a verdict although two servers answer.
    pub(crate) speechless: u64,
    /// Nodes called reachable although nobody ever dialed back.
    pub(crate) unfounded: u64,
    verdicts: u64,
    probes: u64,
    dial_data: u64,
    flips: u64,
    hours: f64,
    times: Vec<Duration>,
    notice: Vec<Duration>,
}

impl Figures {
    pub(crate) fn new(scenario: &'static str, policy: &'static str) -> Self {
        Self {
            scenario,
            policy,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, world: &World, history: &History, horizon: Duration) {
        self.nodes += 1;
        self.probes += history.probes;
        self.dial_data += history.dial_data;
        self.hours += horizon.as_secs_f64() / 3600.0;
        let said_yes = history.verdicts.iter().any(|(_, reachable)| *reachable);
        self.unfounded += u64::from(said_yes && history.dial_backs == 0);
        let Some((at, first)) = history.verdicts.first().copied() else {
            self.without_verdict += 1;
            self.speechless += u64::from(world.answering() >= 2);
            return;
        };
        self.verdicts += history.verdicts.len() as u64;
        self.times.push(at);
        if world.is_reachable(at) {
            self.reachable += 1;
            self.first_false_negatives += u64::from(!first);
        } else {
            self.unreachable += 1;
            self.first_false_positives += u64::from(first);
        }
        let last = history.verdicts.last().is_some_and(|(_, last)| *last);
        if world.is_reachable(horizon) {
            self.reachable_at_end += 1;
            self.standing_false_negatives += u64::from(!last);
        } else {
            self.unreachable_at_end += 1;
            self.standing_false_positives += u64::from(last);
        }
        let mut changes = history.verdicts.len() as u64 - 1;
        if let Some(change) = world.change() {
            let noticed = history.verdicts.iter().find(|(at, _)| *at > change);
            if let Some((at, _)) = noticed {
                self.notice.push(*at - change);
                changes = changes.saturating_sub(1);
            }
        }
        self.flips += changes;
    }

    pub(crate) fn first_false_negative_share(&self) -> f64 {
        share(self.first_false_negatives, self.reachable)
    }

    fn columns(&self) -> [(&'static str, String); 11] {
        [
            (
                "first FN %",
                percent(self.first_false_negatives, self.reachable),
            ),
            (
                "first FP %",
                percent(self.first_false_positives, self.unreachable),
            ),
            (
                "standing FN %",
                percent(self.standing_false_negatives, self.reachable_at_end),
            ),
            (
                "standing FP %",
                percent(self.standing_false_positives, self.unreachable_at_end),
            ),
            ("no verdict %", percent(self.without_verdict, self.nodes)),
            ("probes/verdict", ratio(self.probes, self.verdicts)),
            ("bytes/verdict", ratio(self.dial_data, self.verdicts)),
            ("time s p50", seconds(&self.times, 50)),
            ("time s p95", seconds(&self.times, 95)),
            ("notice s p50", seconds(&self.notice, 50)),
            (
                "flips/h",
                format!(
                    "{:.3}",
                    self.flips as f64 / self.hours.max(f64::MIN_POSITIVE)
                ),
            ),
        ]
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.2}", 100.0 * share(part, whole))
}

fn ratio(a: u64, b: u64) -> String {
    if b == 0 {
        return "-".to_owned();
    }
    format!("{:.1}", a as f64 / b as f64)
}

fn seconds(times: &[Duration], percentile: usize) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() * percentile / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or_else(
        || "-".to_owned(),
        |time| format!("{:.2}", time.as_secs_f64()),
    )
}

pub(crate) fn table(all: &[Figures]) -> String {
    let mut text = String::new();
    let mut scenario = "";
    for figures in all {
        let columns = figures.columns();
        if figures.scenario != scenario {
            scenario = figures.scenario;
            let _ = writeln!(text, "\n{scenario} ({} nodes)", figures.nodes);
            let _ = write!(text, "{:<22}", "policy");
            for (name, _) in &columns {
                let _ = write!(text, " {name:>14}");
            }
            text.push('\n');
        }
        let _ = write!(text, "{:<22}", figures.policy);
        for (_, value) in &columns {
            let _ = write!(text, " {value:>14}");
        }
        text.push('\n');
    }
    text
}

pub(crate) fn csv(all: &[Figures]) -> String {
    let mut text = String::from("scenario,policy,nodes");
    for (name, _) in Figures::default().columns() {
        let _ = write!(text, ",{name}");
    }
    text.push('\n');
    for figures in all {
        let _ = write!(
            text,
            "\"{}\",\"{}\",{}",
            figures.scenario, figures.policy, figures.nodes
        );
        for (_, value) in figures.columns() {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text
}

/// Bars of the share of reachable nodes whose first verdict is wrong.
pub(crate) fn chart(all: &[Figures], scenarios: &[&'static str]) -> String {
    const COLOURS: [&str; 4] = ["#1b7837", "#d6604d", "#f4a582", "#92c5de"];
    const BAR: f64 = 26.0;
    const LEFT: f64 = 330.0;
    const SCALE: f64 = 7.0;
    let mut body = String::new();
    let mut y = 60.0;
    for scenario in scenarios {
        let _ = writeln!(
            body,
            r##"<text x="16" y="{y}" font-weight="bold">{scenario}</text>"##
        );
        y += 14.0;
        for (i, figures) in all.iter().filter(|f| f.scenario == *scenario).enumerate() {
            let (width, label) = if figures.reachable == 0 {
                (0.0, "never a verdict".to_owned())
            } else {
                let percent = 100.0 * figures.first_false_negative_share();
                (percent * SCALE, format!("{percent:.2} %"))
            };
            let text_y = y + 17.0;
            let label_x = LEFT + width + 8.0;
            let colour = COLOURS[i % COLOURS.len()];
            let _ = writeln!(
                body,
                r##"<text x="{}" y="{text_y}" text-anchor="end">{}</text><rect x="{LEFT}" y="{y}" width="{width:.1}" height="20" fill="{colour}"/><text x="{label_x:.1}" y="{text_y}">{label}</text>"##,
                LEFT - 10.0,
                figures.policy
            );
            y += BAR;
        }
        y += 30.0;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y}" font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="white"/><text x="16" y="28" font-size="17">Reachable nodes whose first verdict is wrong</text>
{body}</svg>
"##
    )
}
