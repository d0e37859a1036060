//! The scenarios, each a recipe for worlds.

use std::time::Duration;

use crate::world::{ALL_NATS, Nat, Recipe, Transport};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Seven30,
    Seven10,
    Twenty50,
    Mixed,
    OneTransport,
    Turncoats,
    Filtered,
    Unseen,
}

pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    /// For the command line.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    /// Worlds a seed.
    pub(crate) worlds: u64,
    pub(crate) horizon: Duration,
    pub(crate) recipe: Recipe,
}

pub(crate) fn all() -> Vec<Scenario> {
    let faulty = |servers, cannot_dial| Recipe {
        servers,
        cannot_dial,
        ..Recipe::default()
    };
    let restricted = |independent| Recipe {
        independent,
        nats: &[Nat::AddressRestricted],
        ..Recipe::default()
    };
    vec![
        Scenario {
            kind: Kind::Seven30,
            key: "seven-30",
            name: "7 servers, 30% cannot dial",
            worlds: 4_000,
            horizon: 3 * MINUTE,
            recipe: faulty(7, 0.3),
        },
        Scenario {
            kind: Kind::Seven10,
            key: "seven-10",
            name: "7 servers, 10% cannot dial",
            worlds: 4_000,
            horizon: 3 * MINUTE,
            recipe: faulty(7, 0.1),
        },
        Scenario {
            kind: Kind::Twenty50,
            key: "twenty-50",
            name: "20 servers, 50% cannot dial",
            worlds: 2_000,
            horizon: 3 * MINUTE,
            recipe: faulty(20, 0.5),
        },
        Scenario {
            kind: Kind::Mixed,
            key: "mixed",
            name: "all NATs, all faults, forwarding that comes and goes",
            worlds: 1_000,
            horizon: 60 * MINUTE,
            recipe: Recipe {
                servers: 10,
                cannot_dial: 0.2,
                lies_error: 0.05,
                lies_ok: 0.05,
                refuses: 0.1,
                vanishes: 0.05,
                independent: 2,
                sound_independents: false,
                nats: ALL_NATS,
                forwarded: 0.4,
                changes: 0.5,
                ..Recipe::default()
            },
        },
        Scenario {
            kind: Kind::OneTransport,
            key: "one-transport",
            name: "each server met over TCP or QUIC, all NATs",
            worlds: 500,
            horizon: 30 * MINUTE,
            recipe: Recipe {
                servers: 7,
                cannot_dial: 0.2,
                transports: &[Transport::Tcp, Transport::Quic],
                nats: ALL_NATS,
                forwarded: 0.4,
                ..Recipe::default()
            },
        },
        Scenario {
            kind: Kind::Turncoats,
            key: "turncoats",
            name: "7 servers, 30% dial back once and then never",
            worlds: 500,
            horizon: 60 * MINUTE,
            recipe: Recipe {
                turns_coat: 0.3,
                ..Recipe::default()
            },
        },
        Scenario {
            kind: Kind::Filtered,
            key: "filtered",
            name: "address-dependent filtering, 2 of 7 servers independent",
            worlds: 500,
            horizon: 10 * MINUTE,
            recipe: restricted(2),
        },
        Scenario {
            kind: Kind::Unseen,
            key: "unseen",
            name: "address-dependent filtering, no server independent",
            worlds: 500,
            horizon: 10 * MINUTE,
            recipe: restricted(0),
        },
    ]
}
