//! Simulates thousands of nodes that find out whether they are reachable, by four policies in the same worlds.
//!
//! Ours is the crate's core itself, driven in virtual time. Prints a table, writes it as CSV and the first verdicts as a
//! chart, and exits with 1 if a figure is not what it is claimed to be. The same seed prints the same numbers; lines
//! that start with `wall` tell real time.
//!
//! `cargo run --example simulate -- [--seed N] [--scale PERCENT] [--out DIRECTORY]`

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use libp2p_autonat_v2::client::Vantage;

use crate::{
    policies::Policy,
    report::Figures,
    world::{Nat, Recipe, World},
};

mod policies;
mod report;
mod world;

const MINUTE: Duration = Duration::from_secs(60);
const ALL_NATS: &[Nat] = &[
    Nat::None,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::PortRestricted,
    Nat::Symmetric,
];

const SEVEN_30: &str = "7 servers, 30% cannot dial";
const SEVEN_10: &str = "7 servers, 10% cannot dial";
const TWENTY_50: &str = "20 servers, 50% cannot dial";
const MIXED: &str = "all NATs, all faults, forwarding that comes and goes";
const FILTERED: &str = "address-dependent filtering, 2 of 7 servers independent";
const UNSEEN: &str = "address-dependent filtering, no server independent";

struct Scenario {
    name: &'static str,
    nodes: u64,
    horizon: Duration,
    recipe: Recipe,
}

fn scenarios() -> Vec<Scenario> {
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
            name: SEVEN_30,
            nodes: 4_000,
            horizon: 3 * MINUTE,
            recipe: faulty(7, 0.3),
        },
        Scenario {
            name: SEVEN_10,
            nodes: 4_000,
            horizon: 3 * MINUTE,
            recipe: faulty(7, 0.1),
        },
        Scenario {
            name: TWENTY_50,
            nodes: 2_000,
            horizon: 3 * MINUTE,
            recipe: faulty(20, 0.5),
        },
        Scenario {
            name: MIXED,
            nodes: 1_000,
            horizon: 60 * MINUTE,
            recipe: Recipe {
                servers: 10,
                cannot_dial: 0.2,
                lies_error: 0.05,
                lies_ok: 0.05,
                refuses: 0.1,
                vanishes: 0.05,
                independent: 2,
                nats: ALL_NATS,
                forwarded: 0.4,
                changes: 0.5,
                sound_independents: false,
            },
        },
        Scenario {
            name: FILTERED,
            nodes: 500,
            horizon: 10 * MINUTE,
            recipe: restricted(2),
        },
        Scenario {
            name: UNSEEN,
            nodes: 500,
            horizon: 10 * MINUTE,
            recipe: restricted(0),
        },
    ]
}

struct Options {
    seed: u64,
    /// Nodes in percent of the default.
    scale: u64,
    out: PathBuf,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        scale: 100,
        out: PathBuf::from("target/simulation"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} takes a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|_| format!("{name} takes a whole number, not '{text}'"))
        };
        match name.as_str() {
            "--seed" => options.seed = number(value()?)?,
            "--scale" => options.scale = number(value()?)?.max(1),
            "--out" => options.out = PathBuf::from(value()?),
            _ => {
                return Err(format!(
                    "'{name}' is not an option; there are --seed N, --scale PERCENT and --out DIRECTORY"
                ));
            }
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(64);
        }
    };
    let start = Instant::now();
    let mut all = Vec::new();
    let mut claims = Vec::new();
    for scenario in scenarios() {
        let nodes = (scenario.nodes * options.scale / 100).max(1);
        eprintln!(
            "wall {:5.1} s: {}, {nodes} nodes",
            start.elapsed().as_secs_f64(),
            scenario.name
        );
        let mut figures: Vec<Figures> = Policy::ALL
            .iter()
            .map(|policy| Figures::new(scenario.name, policy.name()))
            .collect();
        let mut judged_by_filtering = Filtering::default();
        for node in 0..nodes {
            let world = World::new(
                &scenario.recipe,
                options.seed.wrapping_mul(1_000_003) + node,
            );
            for (policy, figures) in Policy::ALL.into_iter().zip(&mut figures) {
                let history = policy.run(&world, scenario.horizon);
                figures.add(&world, &history, scenario.horizon);
                if policy == Policy::Ours {
                    judged_by_filtering.add(&world, &history);
                }
            }
        }
        claims.extend(claims_of(&scenario, &figures, &judged_by_filtering));
        all.extend(figures);
    }
    println!("seed {}", options.seed);
    print!("{}", report::table(&all));
    println!();
    let mut kept = true;
    for (claim, holds) in &claims {
        println!("{} {claim}", if *holds { "holds:" } else { "BROKEN:" });
        kept &= holds;
    }
    println!("wall {:.1} s in all", start.elapsed().as_secs_f64());
    let chart = report::chart(&all, &[SEVEN_30, SEVEN_10, TWENTY_50]);
    let written = fs::create_dir_all(&options.out)
        .and_then(|()| fs::write(options.out.join("simulation.csv"), report::csv(&all)))
        .and_then(|()| fs::write(options.out.join("simulation.svg"), chart));
    if let Err(error) = written {
        eprintln!("can't write to {}: {error}", options.out.display());
        return ExitCode::FAILURE;
    }
    println!("written to {}", options.out.display());
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How our policy took address-dependent filtering.
#[derive(Default)]
struct Filtering {
    nodes: u64,
    /// Called reachable although two servers with an independent vantage were connected.
    fooled: u64,
    filtered: u64,
    contacted: u64,
}

impl Filtering {
    fn add(&mut self, world: &World, history: &policies::History) {
        self.nodes += 1;
        let informed_at = world.two_independents_at();
        let fooled = history
            .verdicts
            .iter()
            .any(|(at, yes)| *yes && informed_at.is_some_and(|informed| informed < *at));
        self.fooled += u64::from(fooled);
        self.filtered += u64::from(history.filtered);
        self.contacted += u64::from(history.vantage == Some(Vantage::Contacted));
    }
}

/// What is claimed of a scenario, and whether it holds.
fn claims_of(
    scenario: &Scenario,
    figures: &[Figures],
    filtering: &Filtering,
) -> Vec<(String, bool)> {
    let Some(ours) = figures.first() else {
        return Vec::new();
    };
    let wrong = ours.first_false_negative_share();
    let at_most = |limit: f64| {
        (
            format!(
                "{}: first verdict on reachable nodes wrong in {:.3}%, at most {}%",
                scenario.name,
                100.0 * wrong,
                100.0 * limit
            ),
            wrong <= limit,
        )
    };
    let mut claims = vec![
        (
            format!(
                "{}: nobody is called reachable without a dial-back",
                scenario.name
            ),
            ours.unfounded == 0,
        ),
        (
            format!(
                "{}: a verdict for every node with two servers that answer",
                scenario.name
            ),
            ours.speechless == 0,
        ),
    ];
    match scenario.name {
        SEVEN_30 => {
            claims.push(at_most(0.01));
            for other in figures.iter().skip(1).take(2) {
                let theirs = other.first_false_negative_share();
                claims.push((
                    format!(
                        "{}: ten times better than '{}' ({:.2}%)",
                        scenario.name,
                        other.policy,
                        100.0 * theirs
                    ),
                    theirs >= 10.0 * wrong,
                ));
            }
        }
        SEVEN_10 => claims.push(at_most(0.001)),
        TWENTY_50 => claims.push(at_most(0.08)),
        FILTERED => {
            claims.push((
                format!(
                    "{}: not called reachable once two independent servers are connected",
                    scenario.name
                ),
                filtering.fooled == 0,
            ));
            claims.push((
                format!("{}: recognised as filtering", scenario.name),
                filtering.filtered == filtering.nodes,
            ));
        }
        UNSEEN => claims.push((
            format!("{}: the vantage is reported as contacted", scenario.name),
            filtering.contacted == filtering.nodes,
        )),
        _ => {}
    }
    claims
}
