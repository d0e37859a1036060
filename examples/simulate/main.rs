//! Simulates thousands of nodes that find out whether they are reachable, by five policies in the same worlds.
//!
//! Ours is the crate's core itself, driven in virtual time; the last one knows how the worlds are made, and shows what can be
//! had. Prints tables, writes them as CSV and figures, and exits with 1 if a figure is not what it is claimed to be. The same
//! seeds print the same numbers; lines that start with `wall` tell real time.
//!
//! `cargo run --release --example simulate -- [--seeds A-B] [--scenario KEY] [--worlds N] [--ours]
//! [--trace WORLD] [--out DIRECTORY]`

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use crate::{policies::Policy, report::Results, scenarios::Scenario};

mod calibration;
mod chart;
mod claims;
mod figures;
mod history;
mod network;
mod policies;
mod report;
mod run;
mod scenarios;
mod world;

struct Options {
    /// All of them; the figures are those of all their worlds together.
    seeds: std::ops::RangeInclusive<u64>,
    scenario: Option<String>,
    /// A seed and scenario.
    worlds: Option<u64>,
    policies: Vec<Policy>,
    /// Prints what happens in this world, and nothing else.
    trace: Option<u64>,
    out: PathBuf,
}

const USAGE: &str = "there are --seed N, --seeds A-B, --scenario KEY, --worlds N, --ours, \
                     --trace WORLD and --out DIRECTORY";

fn options() -> Result<Options, String> {
    let mut options = Options {
        seeds: 1..=1,
        scenario: None,
        worlds: None,
        policies: Policy::ALL.to_vec(),
        trace: None,
        out: PathBuf::from("target/simulation"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} takes a value"));
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{name} takes a whole number, not '{text}'"))
        };
        match name.as_str() {
            "--seed" | "--seeds" => {
                let text = value()?;
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                options.seeds = number(first)?..=number(last)?;
            }
            "--scenario" => options.scenario = Some(value()?),
            "--worlds" => options.worlds = Some(number(&value()?)?.max(1)),
            "--ours" => options.policies = vec![Policy::Ours],
            "--trace" => options.trace = Some(number(&value()?)?),
            "--out" => options.out = PathBuf::from(value()?),
            _ => return Err(format!("'{name}' is not an option; {USAGE}")),
        }
    }
    Ok(options)
}

fn chosen(options: &Options) -> Result<Vec<Scenario>, String> {
    let mut scenarios = scenarios::all();
    if let Some(key) = &options.scenario {
        let keys: Vec<&str> = scenarios.iter().map(|it| it.key).collect();
        let keys = keys.join(", ");
        scenarios.retain(|it| it.key == key);
        if scenarios.is_empty() {
            return Err(format!("'{key}' is not a scenario; there are {keys}"));
        }
    }
    for scenario in &mut scenarios {
        scenario.worlds = options.worlds.unwrap_or(scenario.worlds);
    }
    Ok(scenarios)
}

fn main() -> ExitCode {
    let chosen = options().and_then(|options| Ok((chosen(&options)?, options)));
    let (scenarios, options) = match chosen {
        Ok(chosen) => chosen,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(64);
        }
    };
    if let Some(world) = options.trace {
        for scenario in &scenarios {
            println!("{}, world {world}", scenario.name);
            let world = run::world_of(scenario, *options.seeds.start(), world);
            policies::trace(&world, scenario.horizon);
        }
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    println!("seeds {} to {}", options.seeds.start(), options.seeds.end());
    let mut all = Vec::new();
    for scenario in scenarios {
        let figures = run::run(&scenario, options.seeds.clone(), &options.policies);
        let results = Results { scenario, figures };
        print!(
            "{}{}",
            report::table(&results),
            report::reliability(&results)
        );
        println!("wall {:.1} s", start.elapsed().as_secs_f64());
        all.push(results);
    }
    println!();
    for results in &all {
        if let Some(ours) = results.of(Policy::Ours)
            && let Some((error, loss)) = ours.standing.error().zip(ours.standing.log_loss())
        {
            let name = results.scenario.name;
            println!(
                "calibration {name}: ECE {:.1} pp, log loss {loss:.2}",
                100.0 * error
            );
        }
    }
    let mut kept = true;
    for results in &all {
        for claim in claims::of(&results.scenario, results) {
            let word = match (claim.holds, claim.aim) {
                (true, _) => "holds: ",
                (false, false) => "BROKEN:",
                (false, true) => "MISSED:",
            };
            println!("{word} {}", claim.text);
            kept &= claim.holds || claim.aim;
        }
    }
    println!("wall {:.1} s in all", start.elapsed().as_secs_f64());
    let written = fs::create_dir_all(&options.out)
        .and_then(|()| fs::write(options.out.join("simulation.csv"), report::csv(&all)))
        .and_then(|()| fs::write(options.out.join("simulation.svg"), chart::wrong(&all)))
        .and_then(|()| {
            fs::write(
                options.out.join("calibration.svg"),
                chart::calibration(&all),
            )
        });
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
