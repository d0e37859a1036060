//! Three policies of others in their plainest form. They ask servers in random order, one at a time, about each address for
//! itself, and state no probability.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    history::{History, Statement},
    world::{Answer, World},
};

pub(crate) struct Asker<'a> {
    world: &'a World,
    address: usize,
    rng: SmallRng,
    now: Duration,
    asked: Vec<u64>,
    history: History,
}

/// What `policy` makes of each address of `world`.
pub(crate) fn run(
    world: &World,
    horizon: Duration,
    policy: impl Fn(&mut Asker<'_>, Duration),
) -> History {
    let mut asker = Asker {
        world,
        address: 0,
        rng: SmallRng::seed_from_u64(world.seed ^ 0xa5a5),
        now: Duration::ZERO,
        asked: vec![0; world.servers.len()],
        history: History::of(world.addresses.len()),
    };
    for address in 0..world.addresses.len() {
        asker.address = address;
        asker.now = Duration::from_secs(1);
        policy(&mut asker, horizon);
        asker.history.tracks[address].sample_verdicts(horizon);
    }
    asker.history
}

impl Asker<'_> {
    fn say(&mut self, yes: bool) {
        self.history.tracks[self.address].say(Statement::plain(self.now, yes));
    }

    /// The answer of a random server among those that `may` be asked, when it has come.
    fn ask(&mut self, may: impl Fn(usize) -> bool) -> Option<(usize, Answer)> {
        let choice: Vec<usize> = (0..self.world.servers.len())
            .filter(|i| self.world.servers[*i].connected_at <= self.now && may(*i))
            .collect();
        if choice.is_empty() {
            return None;
        }
        let server = choice[self.rng.random_range(0..choice.len())];
        let (answer, after) = self
            .world
            .ask(server, self.address, self.now, self.asked[server]);
        self.asked[server] += 1;
        self.history
            .asked(answer, self.world.servers[server].wants_dial_data());
        self.now += after;
        Some((server, answer))
    }
}

/// The first probe that says anything decides for ever; a try every five seconds.
pub(crate) fn first_probe(asker: &mut Asker<'_>, horizon: Duration) {
    while asker.now < horizon {
        let answer = asker.ask(|_| true);
        match answer.and_then(|(_, answer)| answer.success()) {
            Some(success) => {
                asker.say(success);
                break;
            }
            None => asker.now += Duration::from_secs(5),
        }
    }
}

/// Successes less failures of the last five answers: two decide, three are enough for now. No server is asked twice in two
/// minutes; a check every five minutes.
pub(crate) fn net_count(asker: &mut Asker<'_>, horizon: Duration) {
    let mut window: Vec<bool> = Vec::new();
    let mut last_asked = vec![None::<Duration>; asker.world.servers.len()];
    while asker.now < horizon {
        let now = asker.now;
        let rested = |i: usize| {
            last_asked[i].is_none_or(|at: Duration| now - at >= Duration::from_secs(120))
        };
        let Some((server, answer)) = asker.ask(rested) else {
            asker.now += Duration::from_secs(5);
            continue;
        };
        last_asked[server] = Some(now);
        window.extend(answer.success());
        if window.len() > 5 {
            window.remove(0);
        }
        let successes = window.iter().filter(|success| **success).count() as i64;
        let net = 2 * successes - window.len() as i64;
        if net.abs() >= 2 {
            asker.say(net > 0);
        }
        if net.abs() >= 3 {
            asker.now += Duration::from_secs(300);
        }
    }
}

/// Four successes or eight failures from different first octets, each server asked once. Believes `OK` without a nonce.
pub(crate) fn segments(asker: &mut Asker<'_>, horizon: Duration) {
    let mut asked = BTreeSet::new();
    let (mut ok, mut failed) = (BTreeSet::new(), BTreeSet::new());
    while asker.now < horizon && asked.len() < asker.world.servers.len() {
        let Some((server, answer)) = asker.ask(|i| !asked.contains(&i)) else {
            asker.now += Duration::from_secs(1);
            continue;
        };
        asked.insert(server);
        let segment = asker.world.servers[server].v4.octets()[0];
        match answer {
            Answer::DialedBack | Answer::HollowOk => drop(ok.insert(segment)),
            Answer::DialError => drop(failed.insert(segment)),
            Answer::Refused | Answer::None => {}
        }
        if ok.len() >= 4 {
            asker.say(true);
            break;
        }
        if failed.len() >= 8 {
            asker.say(false);
            break;
        }
    }
}
