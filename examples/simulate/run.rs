//! Runs all worlds of a scenario on all processors. The figures do not depend on how many there are.

use std::{
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{figures::Figures, policies::Policy, scenarios::Scenario, world::World};

/// Worlds that one thread runs in one go. The figures are summed up in this order, whoever is done first.
const BATCH: u64 = 50;

pub(crate) fn run(
    scenario: &Scenario,
    seeds: RangeInclusive<u64>,
    policies: &[Policy],
) -> Vec<(Policy, Figures)> {
    let batches: Vec<(u64, u64)> = seeds
        .flat_map(|seed| (0..scenario.worlds.div_ceil(BATCH)).map(move |batch| (seed, batch)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Vec::new(); batches.len()]);
    let threads = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((seed, batch)) = batches.get(index) else {
                        break;
                    };
                    let figures = run_batch(scenario, *seed, *batch, policies);
                    done.lock().expect("no thread panics with the lock")[index] = figures;
                }
            });
        }
    });
    let mut sums = vec![Figures::default(); policies.len()];
    for figures in done.into_inner().expect("no thread panics with the lock") {
        for (sum, figures) in sums.iter_mut().zip(figures) {
            sum.merge(figures);
        }
    }
    policies.iter().copied().zip(sums).collect()
}

fn run_batch(scenario: &Scenario, seed: u64, batch: u64, policies: &[Policy]) -> Vec<Figures> {
    let mut figures = vec![Figures::default(); policies.len()];
    let worlds = batch * BATCH..scenario.worlds.min((batch + 1) * BATCH);
    for world in worlds {
        let world = world_of(scenario, seed, world);
        for (policy, figures) in policies.iter().zip(&mut figures) {
            let history = policy.run(&scenario.recipe, &world, scenario.horizon);
            figures.add(&world, &history, scenario.horizon);
        }
    }
    figures
}

pub(crate) fn world_of(scenario: &Scenario, seed: u64, world: u64) -> World {
    let seed = seed.wrapping_mul(1_000_003).wrapping_add(world);
    World::new(&scenario.recipe, seed)
}
