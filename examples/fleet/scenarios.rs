//! The scenarios.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Steady,
    FlashCrowd,
    FewServers,
    ServersLeave,
    HostileServers,
    HostileCrowd,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    /// For the command line.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) nodes: usize,
    /// Servers for each node.
    pub(crate) servers: f64,
    /// What a server admits in a minute, where it is not the default.
    pub(crate) requests_per_minute: Option<u32>,
    /// All nodes start within this time.
    pub(crate) start_within: Duration,
    /// Costs are counted from here on.
    pub(crate) count_from: Duration,
    pub(crate) horizon: Duration,
    /// A third of the servers leave.
    pub(crate) leave_at: Option<Duration>,
    /// Share of servers that lie or say nothing.
    pub(crate) hostile: f64,
    /// Clients, for each node, that ask whomever they can as often as they can, from a few networks.
    pub(crate) crowd: f64,
}

impl Scenario {
    /// How much there is to do, in a measure that only serves to compare: each node starts once, which is as much work as an hour
    /// of its life.
    pub(crate) fn work(&self) -> u64 {
        self.nodes as u64 * (self.horizon + 60 * MINUTE).as_secs()
    }
}

pub(crate) fn all() -> Vec<Scenario> {
    let base = Scenario {
        kind: Kind::FlashCrowd,
        key: "flash",
        name: "flash crowd, 1% servers",
        nodes: 10_000,
        servers: 0.01,
        requests_per_minute: None,
        start_within: MINUTE,
        count_from: Duration::ZERO,
        horizon: 6 * MINUTE,
        leave_at: None,
        hostile: 0.0,
        crowd: 0.0,
    };
    vec![
        Scenario {
            kind: Kind::Steady,
            key: "steady",
            name: "steady state, 1% servers",
            start_within: 30 * MINUTE,
            count_from: 60 * MINUTE,
            horizon: 90 * MINUTE,
            ..base.clone()
        },
        base.clone(),
        Scenario {
            kind: Kind::FewServers,
            key: "few",
            name: "flash crowd, 0.1% servers",
            servers: 0.001,
            horizon: 31 * MINUTE,
            ..base.clone()
        },
        Scenario {
            kind: Kind::ServersLeave,
            key: "leave",
            name: "a third of the servers leave after 15 min",
            start_within: 10 * MINUTE,
            count_from: 15 * MINUTE,
            leave_at: Some(15 * MINUTE),
            horizon: 45 * MINUTE,
            ..base.clone()
        },
        Scenario {
            kind: Kind::HostileServers,
            key: "hostile",
            name: "flash crowd, 5% of the servers are hostile",
            hostile: 0.05,
            ..base.clone()
        },
        Scenario {
            kind: Kind::HostileCrowd,
            key: "crowd",
            name: "flash crowd beside a hostile crowd of a tenth as many clients on three networks",
            crowd: 0.1,
            ..base
        },
    ]
}

/// Servers for each node in the series.
pub(crate) const SERIES_SERVERS: f64 = 0.1;

/// Steady state and flash crowd with more and more nodes, up to `most`.
pub(crate) fn series(most: usize, requests_per_minute: Option<u32>) -> Vec<Scenario> {
    let kinds = [Kind::Steady, Kind::FlashCrowd];
    let base = all().into_iter().filter(|it| kinds.contains(&it.kind));
    let base: Vec<Scenario> = base.collect();
    let counts = std::iter::successors(Some(100), |nodes| Some(nodes * 10));
    counts
        .take_while(|nodes| *nodes <= most)
        .flat_map(|nodes| {
            base.iter().map(move |it| Scenario {
                name: match it.kind {
                    Kind::Steady => "steady state, 10% servers",
                    _ => "flash crowd, 10% servers",
                },
                nodes,
                servers: SERIES_SERVERS,
                requests_per_minute,
                ..it.clone()
            })
        })
        .collect()
}
