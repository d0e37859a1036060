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
    // Of the few servers that a node knows most may be hostile.
    let least = if matches!(scenario.kind, Kind::HostileServers) {
        99.5
    } else {
        99.9
    };
    let unfiltered = at_least(
        "right after 5 minutes, of those without a filter that lets contacted hosts in",
        "%",
        percent(it.unfiltered_right_after_5_minutes()),
        least,
    );
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
        Kind::FlashCrowd | Kind::HostileCrowd => vec![
            at_least(
                "right after a minute",
                "%",
                percent(it.right_after_minute()),
                95.0,
            ),
            unfiltered,
            at_most(
                "requests that are rejected",
                "%",
                percent(it.rejected()),
                50.0,
            ),
        ],
        Kind::HostileServers => vec![unfiltered],
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
        Kind::ServersLeave => vec![at_most(
            "without a verdict after 30 minutes",
            "%",
            percent(it.without(30)),
            1.0,
        )],
    };
    // Of those behind such a filter, some know no server that it keeps out, or one, whose word is not enough.
    let aims = match scenario.kind {
        Kind::FlashCrowd => vec![at_least(
            "right after 5 minutes, of all",
            "%",
            percent(it.right_after_5_minutes()),
            99.9,
        )],
        _ => Vec::new(),
    };
    let name = scenario.name;
    let nodes = it.nodes;
    let bounds = claims.into_iter().map(|claim| (claim, false));
    let aims = aims.into_iter().map(|claim| (claim, true));
    bounds
        .chain(aims)
        .map(|((text, holds), aim)| Checked {
            text: format!("{name}, {nodes} nodes: {text}"),
            holds,
            aim,
        })
        .collect()
}

/// In a smaller network a node soon knows all servers, and asks nobody new. Where there are hundreds, every server that comes is new
/// to it, and is asked.
const MANY_NODES: usize = 1_000;

/// Steady state costs a node the same however many there are.
pub(crate) fn of_series(series: &[(Scenario, Figures)]) -> Option<Checked> {
    let steady = series
        .iter()
        .filter(|(it, _)| it.kind == Kind::Steady && it.nodes >= MANY_NODES);
    let costs: Vec<f64> = steady.map(|(_, it)| it.requests_an_hour).collect();
    let least = costs.iter().copied().min_by(f64::total_cmp)?;
    let most = costs.iter().copied().max_by(f64::total_cmp)?;
    let (text, holds) = at_most(
        "steady state: the most requests a node and hour, of the fewest, from 1,000 nodes on",
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
