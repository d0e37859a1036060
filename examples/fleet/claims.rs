//! What is claimed of each scenario, and whether it holds.

use crate::{
    figures::Figures,
    scenarios::{Kind, Scenario},
};

pub(crate) struct Checked {
    pub(crate) text: String,
    pub(crate) holds: bool,
    /// Aimed at, and not yet kept: told, but no failure.
    pub(crate) aim: bool,
}

fn at_most(what: &str, unit: &str, value: Option<f64>, limit: f64) -> (String, bool) {
    let value = value.unwrap_or(f64::INFINITY);
    let text = format!("{what} {value:.2}{unit}, at most {limit}{unit}");
    (text, value <= limit)
}

fn at_least(what: &str, unit: &str, value: Option<f64>, limit: f64) -> (String, bool) {
    let value = value.unwrap_or(0.0);
    let text = format!("{what} {value:.2}{unit}, at least {limit}{unit}");
    (text, value >= limit)
}

pub(crate) fn of(scenario: &Scenario, it: &Figures) -> Vec<Checked> {
    let percent = |share: f64| Some(100.0 * share);
    let claims = match scenario.kind {
        Kind::Steady => vec![
            at_most(
                "requests",
                " a node and hour",
                Some(it.requests_an_hour),
                20.0,
            ),
            at_most(
                "dial data",
                " kB a node and hour",
                Some(it.kb_an_hour),
                200.0,
            ),
        ],
        Kind::FlashCrowd => vec![
            at_least(
                "right within a minute",
                "%",
                percent(it.right_within_minute()),
                95.0,
            ),
            at_least(
                "right within 5 minutes",
                "%",
                percent(it.right_within_5_minutes()),
                99.9,
            ),
        ],
        Kind::FewServers => vec![
            at_most(
                "without a verdict after 30 minutes",
                "%",
                percent(it.without(30)),
                1.0,
            ),
            at_least(
                "answers of the worst-served tenth, of the median's",
                "",
                it.fairness(),
                0.33,
            ),
        ],
        Kind::ServersLeave | Kind::HostileServers | Kind::HostileCrowd => vec![at_most(
            "without a verdict after 30 minutes",
            "%",
            percent(it.without(30)),
            1.0,
        )],
    };
    let aim = matches!(
        scenario.kind,
        Kind::FlashCrowd | Kind::FewServers | Kind::HostileCrowd
    );
    let name = scenario.name;
    let nodes = it.nodes;
    claims
        .into_iter()
        .map(|(text, holds)| Checked {
            text: format!("{name}, {nodes} nodes: {text}"),
            holds,
            aim,
        })
        .collect()
}

/// Steady state costs a node the same however many there are.
pub(crate) fn of_series(series: &[(Scenario, Figures)]) -> Option<Checked> {
    let steady = series.iter().filter(|(it, _)| it.kind == Kind::Steady);
    let costs: Vec<f64> = steady.map(|(_, it)| it.requests_an_hour).collect();
    let least = costs.iter().copied().min_by(f64::total_cmp)?;
    let most = costs.iter().copied().max_by(f64::total_cmp)?;
    let (text, holds) = at_most(
        "steady state: the most requests a node and hour, of the fewest, over all numbers of nodes",
        "",
        Some(most / least),
        1.1,
    );
    (costs.len() > 1).then_some(Checked {
        text,
        holds,
        aim: true,
    })
}
