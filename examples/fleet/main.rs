//! Simulates a network of thousands of nodes that ask each other whether they are reachable.
//!
//! Each node has the client's core, each server the server's side with its limits, all in one virtual time. Prints what each
//! scenario costs and how long it takes, writes that as CSV, and exits with 1 if a figure is not what it is claimed to be. The
//! same seed prints the same numbers; lines that start with `wall` tell real time.
//!
//! `cargo run --release --example fleet -- [--seed N] [--scenario KEY] [--nodes N] [--servers SHARE]
//! [--requests-per-minute N] [--out DIRECTORY]`

use std::{
    cmp::Reverse,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    figures::Figures,
    fleet::Fleet,
    scenarios::{SERIES_SERVERS, Scenario},
};

mod chart;
mod claims;
mod figures;
mod fleet;
#[allow(dead_code, reason = "the simulator of one node has more of it")]
#[path = "../simulate/network.rs"]
mod network;
mod population;
mod queue;
mod scenarios;

struct Options {
    seed: u64,
    scenario: Option<String>,
    nodes: Option<usize>,
    servers: Option<f64>,
    /// What each server admits.
    requests_per_minute: Option<u32>,
    out: PathBuf,
}

const USAGE: &str = "there are --seed N, --scenario KEY, --nodes N, --servers SHARE, \
                     --requests-per-minute N and --out DIRECTORY";

fn options() -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        scenario: None,
        nodes: None,
        servers: None,
        requests_per_minute: None,
        out: PathBuf::from("target/fleet"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| format!("{name} takes a value; {USAGE}"))?;
        let mistake = || format!("{name} does not take '{value}'");
        match name.as_str() {
            "--seed" => options.seed = value.parse().map_err(|_| mistake())?,
            "--scenario" => options.scenario = Some(value),
            "--nodes" => {
                options.nodes = Some(value.parse::<usize>().map_err(|_| mistake())?.max(1))
            }
            "--servers" => options.servers = Some(value.parse().map_err(|_| mistake())?),
            "--requests-per-minute" => {
                options.requests_per_minute = Some(value.parse().map_err(|_| mistake())?);
            }
            "--out" => options.out = PathBuf::from(value),
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
        scenario.nodes = options.nodes.unwrap_or(scenario.nodes);
        scenario.servers = options.servers.unwrap_or(scenario.servers);
        scenario.requests_per_minute = options.requests_per_minute;
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
    let start = Instant::now();
    println!("seed {}", options.seed);
    let series = match options.scenario {
        Some(_) => Vec::new(),
        None => {
            let most = scenarios.iter().map(|it| it.nodes).max().unwrap_or(0);
            scenarios::series(most, options.requests_per_minute)
        }
    };
    let count = scenarios.len();
    let mut all = run(scenarios.into_iter().chain(series).collect(), options.seed);
    for (scenario, figures) in &all {
        println!("{}, {} nodes", scenario.name, figures.nodes);
        for (name, value) in figures.columns() {
            println!("    {name:<16} {value:>10}");
        }
        for (limit, times) in &figures.rejections {
            println!("    rejected by {limit}: {times}");
        }
    }
    let table = csv(&all);
    let series = all.split_off(count);
    let claims = all
        .iter()
        .flat_map(|(scenario, it)| claims::of(scenario, it));
    let mut kept = true;
    for claim in claims.chain(claims::of_series(&series)) {
        let word = match (claim.holds, claim.aim) {
            (true, _) => "holds: ",
            (false, false) => "BROKEN:",
            (false, true) => "MISSED:",
        };
        println!("{word} {}", claim.text);
        kept &= claim.holds || claim.aim;
    }
    println!("wall {:.1} s in all", start.elapsed().as_secs_f64());
    let mut files = vec![("fleet.csv", table)];
    if !series.is_empty() {
        files.push(("fleet.svg", chart::series(&series, SERIES_SERVERS)));
    }
    let written = fs::create_dir_all(&options.out).and_then(|()| {
        let mut files = files.iter();
        files.try_for_each(|(name, text)| fs::write(options.out.join(name), text))
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

/// Runs the scenarios on all processors, the longest first, so that none of them is left to run alone.
fn run(scenarios: Vec<Scenario>, seed: u64) -> Vec<(Scenario, Figures)> {
    let mut order: Vec<usize> = (0..scenarios.len()).collect();
    order.sort_by_key(|index| Reverse(scenarios[*index].work()));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; scenarios.len()]);
    let threads = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scenario = &scenarios[index];
                    let start = Instant::now();
                    let figures = Fleet::new(scenario, seed).run();
                    eprintln!(
                        "wall {:.1} s: {}",
                        start.elapsed().as_secs_f64(),
                        scenario.name
                    );
                    done.lock().expect("no thread panics with the lock")[index] = Some(figures);
                }
            });
        }
    });
    let done = done.into_inner().expect("no thread panics with the lock");
    scenarios
        .into_iter()
        .zip(done.into_iter().flatten())
        .collect()
}

fn csv(all: &[(Scenario, Figures)]) -> String {
    let mut text = String::from("scenario,nodes");
    for (name, _) in all.first().into_iter().flat_map(|(_, it)| it.columns()) {
        let _ = write!(text, ",{name}");
    }
    text.push('\n');
    for (scenario, figures) in all {
        let _ = write!(text, "\"{}\",{}", scenario.name, figures.nodes);
        for (_, value) in figures.columns() {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text
}
