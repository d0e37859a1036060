//! The figures of all scenarios as a table and as a CSV file.

use std::fmt::Write as _;

use crate::{figures::Figures, policies::Policy, scenarios::Scenario};

/// What the policies made of one scenario.
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) figures: Vec<(Policy, Figures)>,
}

impl Results {
    pub(crate) fn of(&self, policy: Policy) -> Option<&Figures> {
        let found = self.figures.iter().find(|(it, _)| *it == policy);
        found.map(|(_, figures)| figures)
    }
}

fn columns(policy: Policy, figures: &Figures) -> [(&'static str, String); 19] {
    let sure = |value: Option<f64>, decimals| {
        let value = value.filter(|_| policy.states_confidence());
        number(value, decimals)
    };
    let pp = |error: Option<f64>| error.map(|error| 100.0 * error);
    [
        ("first wrong %", number(figures.first_wrong.percent(), 2)),
        (
            "first FN %",
            number(figures.first_false_negatives.percent(), 2),
        ),
        (
            "first FP %",
            number(figures.first_false_positives.percent(), 2),
        ),
        ("end wrong %", number(figures.wrong_at_end.percent(), 2)),
        (
            "end FN %",
            number(figures.standing_false_negatives.percent(), 2),
        ),
        (
            "end FP %",
            number(figures.standing_false_positives.percent(), 2),
        ),
        ("no verdict %", number(figures.without_verdict.percent(), 2)),
        ("probes/node", number(Some(figures.probes_a_node()), 1)),
        ("kB/verdict", number(figures.dial_data_a_verdict(), 1)),
        ("flips/h", number(Some(figures.flips_an_hour()), 3)),
        ("time s p50", number(figures.time(50), 2)),
        ("time s p95", number(figures.time(95), 2)),
        ("notice s p50", number(figures.notice(50), 1)),
        ("notice s p95", number(figures.notice(95), 1)),
        ("right %", number(pp(figures.standing.share_right()), 2)),
        ("first ECE pp", sure(pp(figures.first.error()), 1)),
        ("first loss", sure(figures.first.log_loss(), 3)),
        ("ECE pp", sure(pp(figures.standing.error()), 1)),
        ("log loss", sure(figures.standing.log_loss(), 3)),
    ]
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    let nodes = results.figures.first().map_or(0, |(_, it)| it.nodes);
    let _ = writeln!(text, "\n{} ({nodes} nodes)", results.scenario.name);
    for (i, (policy, figures)) in results.figures.iter().enumerate() {
        let columns = columns(*policy, figures);
        if i == 0 {
            let _ = write!(text, "{:<21}", "policy");
            for (name, _) in &columns {
                let _ = write!(text, " {name:>13}");
            }
            text.push('\n');
        }
        let _ = write!(text, "{:<21}", policy.name());
        for (_, value) in &columns {
            let _ = write!(text, " {value:>13}");
        }
        text.push('\n');
    }
    text
}

pub(crate) fn csv(all: &[Results]) -> String {
    let mut text = String::from("scenario,policy,nodes");
    for (name, _) in columns(Policy::Ours, &Figures::default()) {
        let _ = write!(text, ",{name}");
    }
    text.push('\n');
    for results in all {
        for (policy, figures) in &results.figures {
            let _ = write!(
                text,
                "\"{}\",\"{}\",{}",
                results.scenario.name,
                policy.name(),
                figures.nodes
            );
            for (_, value) in columns(*policy, figures) {
                let _ = write!(text, ",{value}");
            }
            text.push('\n');
        }
    }
    text
}

/// The reliability tables. Who does not say how sure it is says all with certainty.
pub(crate) fn reliability(results: &Results) -> String {
    let mut text = String::new();
    for (policy, figures) in &results.figures {
        for (what, calibration) in [("first", &figures.first), ("standing", &figures.standing)] {
            let _ = writeln!(text, "  {}, {what} verdicts", policy.name());
            text.push_str(&calibration.table());
        }
    }
    text
}
