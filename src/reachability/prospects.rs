//! Who is worth asking about an address: what each server's answer is expected to bring, for what it costs.
//!
//! The gain is the expected fall of the entropy of the belief, in nats. A request costs one; one for which the server will
//! want dial data costs two; where servers reject, as many times that as an answer takes requests. Answers that are under way
//! count as their likelier kind, and as failures once they are late.

use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    address::Neighbourhood,
    reachability::{
        belief::{Asked, Evidence, Expectation, Model, Outcome, Posterior, Source},
        candidates::{AddressId, Candidate},
        contacts::{Contacts, Vantage},
        dial_data::DialData,
        probes::Probe,
        servers::{Ability, IpGroup, Server, Servers, Status, WANTED_SERVERS},
    },
};

/// The smallest expected gain for its cost that a request is made for. Chosen; insensitive between 0.002 and 0.01 in the
/// simulator.
pub(crate) const MIN_GAIN: f64 = 0.005;
/// The same for one that a server's coming is reason enough for, where the next check of the address is due later.
const NEWS: f64 = 0.02;
/// What a request costs for which the server wants dial data: 65 kB on average, where one without has 200 bytes.
const DIAL_DATA_COST: f64 = 2.0;
/// How likely an answer is from a group where servers have kept this node waiting lately.
const TROUBLED: f64 = 0.3;
/// How much an answer from an independent vantage counts for more where only such a one can change the verdict: enough to
/// come before all others, since gains run from 0.005 to 1.1 nats, and costs up to some 20.
const SOUGHT: f64 = 10_000.0;
/// Values that differ by less are equal: then whoever was asked least recently is asked.
const SIMILAR: f64 = 0.9;
/// After this time an answer is late. Most answers with a dial-back have come by then. go-libp2p waits for up to 3 s after
/// dial data; of three such servers at least one has answered, too.
pub(crate) const LATE: Duration = Duration::from_secs(2);
/// For how long a request that is under way is waited for. Most dials time out after 5 to 10 s.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(12);
/// The prior probability that a server gets in whatever the state, where it shares the first octet of an IPv4 address or the
/// /32 of an IPv6 address: large private networks use public space (VPNs 25/8 and 26/8), and a hosting company's hosts are
/// behind one border. The same where the dial-back came from there, or from a private IP though the server is known at a global
/// one.
pub(crate) const INSIDE_NEARBY: f64 = 0.3;
/// The same of a server that can have dialed another address than it says, where only peers speak of this one.
const INSIDE_OBSERVED: f64 = 0.05;
/// The same where a dial-back came from a private IP, and the server is known at no global one.
pub(crate) const INSIDE_PRIVATE: f64 = 0.5;
/// After how many servers that can be asked a look through them ends, of one IP group each where there are so many: the window
/// of evidence has room for fewer.
const COUNTED: usize = 32;

/// Who may be asked that was heard already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Nobody.
    Never,
    /// Those whose newest outcome is older.
    HeardBefore(Instant),
    /// Nobody, but those that were not heard are asked however little that brings.
    NobodyButAsk,
    /// Everybody, however little that brings.
    Anyone,
}

impl Again {
    const fn asks_anyway(self) -> bool {
        matches!(self, Self::NobodyButAsk | Self::Anyone)
    }

    /// Whether a server may be asked whose newest outcome is this one.
    fn allows(self, heard: Option<&Outcome>) -> bool {
        match (heard, self) {
            (None, _) | (_, Self::Anyone) => true,
            (Some(_), Self::Never | Self::NobodyButAsk) => false,
            (Some(heard), Self::HeardBefore(since)) => heard.at < since,
        }
    }
}

/// One address, and who may be asked about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) id: AddressId,
    pub(crate) candidate: &'a Candidate,
    pub(crate) evidence: &'a Evidence,
    pub(crate) again: Again,
}

/// What is believed of the address, and what more is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) prior: [f64; 3],
    pub(crate) posterior: Posterior,
    /// Whether an answer from a host that was never contacted is what matters.
    pub(crate) seeks_independent: bool,
    /// How many IP groups are to prove it.
    pub(crate) groups: usize,
}

/// How far the servers are looked through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Look {
    /// Until it is clear that one is left, and that there are enough to decide by: what a verdict waits for.
    Glance,
    /// For the best one to ask, from a place that this gives, from 0 to 1.
    Search(f64),
}

/// A server to ask, and what speaks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) value: f64,
}

/// What may still be heard about an address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prospects {
    /// The best of those that can be asked now.
    pub(crate) best: Option<Choice>,
    /// One is worth asking, now or soon.
    pub(crate) someone_left: bool,
    /// One that is being asked may bring something, until then at the latest.
    pub(crate) awaited_until: Option<Instant>,
    /// The same of one that has proven the address.
    pub(crate) prover_awaited: bool,
    /// One that has proven the address can be asked again, now or soon.
    pub(crate) prover_left: bool,
    /// How many can be asked about it at all, heard or not, as far as they were counted.
    pub(crate) to_ask: usize,
    /// How many refuse it.
    pub(crate) refusing: usize,
    /// When the first of those that are paced or backed off can be asked.
    pub(crate) next_ready: Option<Instant>,
    /// Time alone changes nothing of this before.
    pub(crate) stale_at: Option<Instant>,
    /// The servers that were looked at, by their places in the table.
    pub(crate) looked_at: Vec<usize>,
}

/// The facts that all questions are answered from.
#[derive(Clone, Copy)]
pub(crate) struct Survey<'a> {
    pub(crate) model: &'a Model,
    pub(crate) servers: &'a Servers,
    pub(crate) contacts: &'a Contacts,
    pub(crate) dial_data: &'a DialData,
    pub(crate) now: Instant,
}

/// What servers have in common whose answers are expected to bring the same.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Alike {
    asked: Asked,
    /// Whether its newest outcome was a success, if there is one.
    heard: Option<bool>,
    /// Its group has an outcome, or a likely one.
    is_group_heard: bool,
}

impl Survey<'_> {
    /// What can be said of `server` before it is asked about `candidate`.
    pub(crate) fn asked(&self, server: &Server, candidate: &Candidate) -> Asked {
        self.asked_within(server, candidate, candidate.wide_network())
    }

    fn asked_within(
        &self,
        server: &Server,
        candidate: &Candidate,
        wide: Option<Neighbourhood>,
    ) -> Asked {
        Asked {
            vantage: server.vantage(candidate.class, self.contacts, self.now),
            ability: server.ability(candidate.class),
            inside: inside_prior(server, candidate, wide),
        }
    }

    /// Who it is to the belief: the source of its outcomes, if it has any. With the next one these take its present place.
    fn source(server: &Server, heard: Option<&Outcome>) -> Source {
        heard.map_or_else(
            || Source::Server {
                peer: server.peer,
                host: server.host(),
                group: server.group(),
            },
            |outcome| outcome.source,
        )
    }

    /// The outcomes, and those that the requests under way are likely to bring.
    fn outlook<'b>(
        &self,
        question: &Question<'_>,
        wanted: &Wanted,
        under_way: impl Iterator<Item = &'b Probe>,
        prospects: &mut Prospects,
    ) -> (Vec<Outcome>, Posterior) {
        let mut outcomes = question.evidence.outcomes().to_vec();
        let known = wanted.posterior;
        let mut posterior = known;
        for probe in under_way {
            let (Some(server), Some(target)) = (self.servers.get(&probe.server), probe.primary())
            else {
                continue;
            };
            let asked = target.asked;
            let until = probe.sent_at + LONGEST_WAIT;
            if self.now < until && self.model.expect_of_new(&known, &asked).gain >= MIN_GAIN {
                prospects.awaited_until = prospects.awaited_until.max(Some(until));
                prospects.prover_awaited |= question.evidence.was_proven_by(&probe.server);
            }
            let is_late = probe.sent_at + LATE <= self.now;
            let success = !is_late && self.model.expect_of_new(&posterior, &asked).success >= 0.5;
            outcomes.push(Outcome {
                at: self.now,
                source: Self::source(server, question.evidence.newest_by(&probe.server)),
                asked,
                success,
            });
            posterior =
                self.model
                    .posterior_with_last(wanted.prior, &outcomes, &posterior, self.now);
        }
        (outcomes, posterior)
    }

    /// Looks through the servers, those that have proven the address first.
    pub(crate) fn prospects<'b>(
        &self,
        question: &Question<'_>,
        wanted: &Wanted,
        under_way: impl Iterator<Item = &'b Probe>,
        look: Look,
    ) -> Prospects {
        let mut prospects = Prospects::default();
        let (mut outcomes, posterior) = self.outlook(question, wanted, under_way, &mut prospects);
        let known_outcomes = question.evidence.len();
        let being_asked: Vec<PeerId> = outcomes[known_outcomes..]
            .iter()
            .filter_map(Outcome::server)
            .collect();
        let needs_group = wanted.groups > 1 && {
            let asked = outcomes[known_outcomes..].iter().filter_map(Outcome::group);
            let groups = question.evidence.proving_groups_with(asked);
            (1..wanted.groups).contains(&groups)
        };
        let mut known: Vec<(Alike, Expectation)> = Vec::new();
        let mut best: Option<(Choice, Option<Instant>)> = None;
        let provers: Vec<PeerId> = question.evidence.provers();
        let newest = question.evidence.newest();
        let mut heard_groups: Vec<IpGroup> = outcomes.iter().filter_map(Outcome::group).collect();
        heard_groups.sort_unstable();
        let wide = question.candidate.wide_network();
        prospects.looked_at.reserve(COUNTED);
        let first = provers
            .iter()
            .filter_map(|peer| self.servers.get_with_slot(peer));
        let others = self.servers.around(match look {
            Look::Glance => 0.0,
            Look::Search(start) => start,
        });
        for (is_prover, (slot, server)) in first
            .map(|found| (true, found))
            .chain(others.map(|found| (false, found)))
        {
            let heard = newest
                .binary_search_by_key(&server.peer, |(peer, _)| *peer)
                .ok()
                .map(|at| newest[at].1);
            let comes_twice = !is_prover && heard.is_some() && provers.contains(&server.peer);
            if comes_twice || self.servers.is_too_near(server, question.candidate) {
                continue;
            }
            prospects.looked_at.push(slot);
            let Some(status) = self.status(server, question, &mut prospects) else {
                continue;
            };
            prospects.to_ask += 1;
            if !question.again.allows(heard) || being_asked.contains(&server.peer) {
                continue;
            }
            let source = Self::source(server, heard);
            let alike = Alike {
                asked: self.asked_within(server, question.candidate, wide),
                heard: heard.map(|outcome| outcome.success),
                is_group_heard: source
                    .group()
                    .is_some_and(|group| heard_groups.binary_search(&group).is_ok()),
            };
            let expectation = match known.iter().find(|(it, _)| *it == alike) {
                Some((_, expectation)) => *expectation,
                None => {
                    let expectation = if alike.is_group_heard {
                        self.model.expect_of_known(
                            wanted.prior,
                            &mut outcomes,
                            &posterior,
                            source,
                            alike.asked,
                            self.now,
                        )
                    } else {
                        self.model.expect_of_new(&posterior, &alike.asked)
                    };
                    known.push((alike, expectation));
                    expectation
                }
            };
            let cost = if server.wants_dial_data(question.candidate.class) {
                DIAL_DATA_COST
            } else {
                1.0
            };
            let value = expectation.gain / (cost * self.servers.price());
            // What only peers speak of takes the word of a second group, and the application may want more.
            let value = if needs_group && !alike.is_group_heard {
                value.max(MIN_GAIN)
            } else {
                value
            };
            let is_worth_it = value >= MIN_GAIN;
            prospects.someone_left |= is_worth_it;
            prospects.prover_left |= is_prover && is_worth_it;
            match status {
                Status::Ready if is_worth_it || question.again.asks_anyway() => {
                    let sought =
                        wanted.seeks_independent && alike.asked.vantage == Vantage::Independent;
                    let value = if sought { value * SOUGHT } else { value };
                    self.consider(server, value, &mut best);
                }
                Status::Paced(until) | Status::BackedOff(until) => {
                    prospects.next_ready = earliest(prospects.next_ready, until);
                }
                _ => {}
            }
            let enough = if prospects.someone_left && look == Look::Glance {
                WANTED_SERVERS
            } else {
                COUNTED
            };
            let waits_for_better =
                matches!(look, Look::Search(_)) && prospects.someone_left && best.is_none();
            if !is_prover && prospects.to_ask >= enough && !waits_for_better {
                break;
            }
        }
        prospects.best = best.map(|(choice, _)| choice);
        prospects
    }

    /// Whether `server` may bring something about an address of which no more than its last `posterior` is looked at.
    pub(crate) fn has_news(
        &self,
        server: &Server,
        question: &Question<'_>,
        posterior: &Posterior,
    ) -> bool {
        let status = self.plain_status(server, question);
        let asked = self.asked(server, question.candidate);
        !self.servers.is_too_near(server, question.candidate)
            && !matches!(status, Status::Refuses(_))
            && question.may_ask(server)
            && self.model.expect_of_new(posterior, &asked).gain >= NEWS * self.servers.price()
    }

    /// Whether `server` can be named `question`'s address behind another one.
    pub(crate) fn suits(&self, server: &Server, question: &Question<'_>) -> bool {
        let status = self.plain_status(server, question);
        !self.servers.is_too_near(server, question.candidate)
            && !matches!(status, Status::BackedOff(_) | Status::Refuses(_))
            && question.may_ask(server)
    }

    /// Whether it can be asked. One that will want dial data beyond what it can be paid can't.
    fn plain_status(&self, server: &Server, question: &Question<'_>) -> Status {
        let wants =
            server.has_wanted_dial_data() || self.dial_data.has_paid(server.group(), self.now);
        if wants && let Err(until) = self.dial_data.answers_left(server.group(), self.now) {
            return Status::Refuses(until);
        }
        self.servers
            .status(server, question.id, question.candidate, self.now)
    }

    /// `None` if it does not count as a server to ask.
    fn status(
        &self,
        server: &Server,
        question: &Question<'_>,
        prospects: &mut Prospects,
    ) -> Option<Status> {
        let status = self.plain_status(server, question);
        match status {
            Status::BackedOff(until) => {
                prospects.stale_at = earliest(prospects.stale_at, until);
                if !self.servers.is_back_soon(server, until, self.now) {
                    prospects.next_ready = earliest(prospects.next_ready, until);
                    return None;
                }
            }
            Status::Refuses(until) => {
                prospects.refusing += 1;
                prospects.stale_at = earliest(prospects.stale_at, until);
                prospects.next_ready = earliest(prospects.next_ready, until);
                return None;
            }
            _ => {}
        }
        Some(status)
    }

    fn consider(&self, server: &Server, value: f64, best: &mut Option<(Choice, Option<Instant>)>) {
        let troubled = self.servers.is_troubled(server.group(), self.now);
        let value = if troubled { value * TROUBLED } else { value };
        let asked = server.last_asked();
        let is_better = best.is_none_or(|(before, asked_before)| {
            value * SIMILAR > before.value
                || value >= before.value * SIMILAR && asked < asked_before
        });
        if let Some(connection) = server.connection().filter(|_| is_better) {
            let choice = Choice {
                peer: server.peer,
                connection,
                value,
            };
            *best = Some((choice, asked));
        }
    }
}

impl Question<'_> {
    fn may_ask(&self, server: &Server) -> bool {
        self.again.allows(self.evidence.newest_by(&server.peer))
    }
}

/// The prior probability that `server` gets in whatever the state.
fn inside_prior(server: &Server, candidate: &Candidate, wide: Option<Neighbourhood>) -> f64 {
    if wide.is_some_and(|wide| server.is_in_wide(wide)) {
        INSIDE_NEARBY
    } else if candidate.is_only_observed() {
        INSIDE_OBSERVED
    } else {
        0.0
    }
}

/// What an unasked connection from a host that this node never contacted says: the same as a server's success from there.
pub(crate) const STRANGER: Asked = Asked {
    vantage: Vantage::Independent,
    ability: Ability::Shown,
    inside: 0.0,
};

/// The same where it came in on a listener behind a NAT, of which the address can only be inferred: another one may be mapped
/// to it. Seven times likelier if this one is.
pub(crate) const INFERRED_STRANGER: Asked = Asked {
    inside: 0.13,
    ..STRANGER
};

fn earliest(a: Option<Instant>, b: Instant) -> Option<Instant> {
    Some(a.map_or(b, |a| a.min(b)))
}
