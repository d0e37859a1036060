//! The client's part of the metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::sync::atomic::AtomicU64;

use super::{
    ip_or_dns_version, number, of_an_exchange, transport,
    values::{self, ADDRESSES, SUMMARIES, VERDICTS},
    word,
};
use crate::client::{
    Behaviour, Event, ProbeOutcome, RequestCompleted, Sizes, Summary, Vantage, Verdict,
};

type Ratio = Gauge<f64, AtomicU64>;

/// Go's labels in go's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CompletedLabels {
    ip_or_dns_version: &'static str,
    transport: &'static str,
    /// At most [`MAX_ADDRESSES`].
    addr_count: usize,
    dial_refused: &'static str,
    reachability: &'static str,
}

/// As many as a request has at most; a bound on the label should that change.
const MAX_ADDRESSES: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReachabilityLabels {
    reachability: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    verdict: &'static str,
    vantage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectionLabels {
    collection: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests: Family<OutcomeLabels, Counter>,
    requests_completed: Family<CompletedLabels, Counter>,
    probes: Family<OutcomeLabels, Counter>,
    probe_duration: Family<ReachabilityLabels, Histogram, fn() -> Histogram>,
    time_to_first_verdict: Family<VerdictLabels, Histogram, fn() -> Histogram>,
    verdict_changes: Family<VerdictLabels, Counter>,
    servers_wanted: Counter,
    dial_data_sent: Counter,
    addresses: Family<AddressLabels, Gauge>,
    confirmed_addresses: Gauge,
    lowest_confidence: Family<VerdictLabels, Ratio>,
    summary: Family<ReachabilityLabels, Gauge>,
    servers: Family<StateLabels, Gauge>,
    state_entries: Family<CollectionLabels, Gauge>,
}

/// From 50 ms to nearly half an hour: a verdict waits for servers to appear.
fn of_a_verdict() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 16))
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            requests_completed: Family::default(),
            probes: Family::default(),
            probe_duration: Family::new_with_constructor(of_an_exchange),
            time_to_first_verdict: Family::new_with_constructor(of_a_verdict),
            verdict_changes: Family::default(),
            servers_wanted: Counter::default(),
            dial_data_sent: Counter::default(),
            addresses: Family::default(),
            confirmed_addresses: Gauge::default(),
            lowest_confidence: Family::default(),
            summary: Family::default(),
            servers: Family::default(),
            state_entries: Family::default(),
        };
        registry.register(
            "client_requests",
            "Client Requests Total",
            this.requests.clone(),
        );
        registry.register(
            "client_requests_completed",
            "Client Requests Completed",
            this.requests_completed.clone(),
        );
        registry.register(
            "client_probes",
            "Answers of servers by outcome",
            this.probes.clone(),
        );
        registry.register_with_unit(
            "client_probe_duration",
            "Time from a request to the outcome that counts",
            Unit::Seconds,
            this.probe_duration.clone(),
        );
        registry.register_with_unit(
            "client_time_to_first_verdict",
            "Time from hearing of an address to the first verdict on it",
            Unit::Seconds,
            this.time_to_first_verdict.clone(),
        );
        registry.register(
            "client_verdict_changes",
            "Verdicts reached",
            this.verdict_changes.clone(),
        );
        registry.register(
            "client_servers_wanted",
            "Times that there were too few servers to decide about an address",
            this.servers_wanted.clone(),
        );
        registry.register_with_unit(
            "client_dial_data_sent",
            "Dial data paid to servers",
            Unit::Bytes,
            this.dial_data_sent.clone(),
        );
        registry.register(
            "client_addresses",
            "Tracked addresses by verdict and vantage",
            this.addresses.clone(),
        );
        registry.register(
            "client_confirmed_addresses",
            "Addresses that the client has confirmed to the swarm",
            this.confirmed_addresses.clone(),
        );
        registry.register(
            "client_lowest_confidence_ratio",
            "Confidence in the least sure address of a verdict",
            this.lowest_confidence.clone(),
        );
        registry.register(
            "client_summary",
            "1 for the summary that stands",
            this.summary.clone(),
        );
        registry.register(
            "client_servers",
            "Connected servers, and those of them that are not backed off",
            this.servers.clone(),
        );
        registry.register(
            "client_state_entries",
            "Sizes of the bounded collections",
            this.state_entries.clone(),
        );
        this.create();
        this
    }

    /// Creates the counters and the histograms at 0.
    fn create(&self) {
        let outcomes = ["success", "failure"].map(|outcome| OutcomeLabels { outcome });
        values::create(&self.requests, outcomes);
        values::create(&self.requests_completed, completed_labels());
        let outcomes = values::probe_outcomes().map(|outcome| OutcomeLabels { outcome });
        values::create(&self.probes, outcomes);
        let reachabilities = SUMMARIES.map(|summary| ReachabilityLabels {
            reachability: summary.as_str(),
        });
        values::create(&self.probe_duration, reachabilities);
        let verdicts = VERDICTS.map(|verdict| VerdictLabels {
            verdict: verdict.as_str(),
        });
        values::create(&self.verdict_changes, verdicts.clone());
        let unknown = Verdict::Unknown.as_str();
        let firsts = verdicts.into_iter().filter(|it| it.verdict != unknown);
        values::create(&self.time_to_first_verdict, firsts);
    }

    pub(super) fn on_event(&self, event: &Event) {
        match event {
            Event::Probed(probed) => {
                let outcome = probed.outcome.as_str();
                self.probes.get_or_create(&OutcomeLabels { outcome }).inc();
            }
            Event::RequestCompleted(completed) => self.on_completed(completed),
            Event::VerdictChanged {
                old,
                new,
                time_to_verdict,
                ..
            } => {
                let labels = VerdictLabels {
                    verdict: new.as_str(),
                };
                if old != new {
                    self.verdict_changes.get_or_create(&labels).inc();
                }
                if let Some(took) = time_to_verdict {
                    self.time_to_first_verdict
                        .get_or_create(&labels)
                        .observe(took.as_secs_f64());
                }
            }
            Event::ServersWanted { .. } => {
                self.servers_wanted.inc();
            }
            Event::RequestStarted(_)
            | Event::SummaryChanged { .. }
            | Event::NatMappingChanged { .. }
            | Event::Obstructed { .. }
            | Event::StabilityChanged { .. } => {}
        }
    }

    fn on_completed(&self, completed: &RequestCompleted) {
        self.dial_data_sent.inc_by(completed.dial_data);
        // Go tells its caller of an error where we have no outcome to act on.
        let (outcome, reachability) = match completed.outcome {
            ProbeOutcome::Reachable(_) => ("success", Summary::Public),
            ProbeOutcome::DialError => ("success", Summary::Private),
            ProbeOutcome::Refused => ("success", Summary::Unknown),
            _ => ("failure", Summary::Unknown),
        };
        let reachability = reachability.as_str();
        self.requests
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
        self.probe_duration
            .get_or_create(&ReachabilityLabels { reachability })
            .observe(completed.took.as_secs_f64());
        if outcome == "failure" {
            return;
        }
        let dialed = completed.dialed.as_ref();
        let refused = completed.outcome == ProbeOutcome::Refused;
        let labels = CompletedLabels {
            ip_or_dns_version: dialed.map_or("unknown", ip_or_dns_version),
            transport: dialed.map_or("unknown", transport),
            addr_count: completed.addresses.min(MAX_ADDRESSES),
            dial_refused: word(refused),
            reachability,
        };
        self.requests_completed.get_or_create(&labels).inc();
    }

    pub(super) fn on_state(&self, behaviour: &Behaviour) {
        let vantages = values::vantages();
        let mut counts = [[0_usize; 3]; 4];
        let mut lowest = [None::<f64>; 4];
        let mut confirmed = 0;
        for report in behaviour.addresses() {
            let verdict = VERDICTS.iter().position(|it| *it == report.verdict);
            let vantage = vantages.iter().position(|it| *it == report.vantage);
            confirmed += usize::from(report.announced);
            if let (Some(verdict), Some(vantage)) = (verdict, vantage) {
                counts[verdict][vantage] += 1;
                let so_far = &mut lowest[verdict];
                *so_far = Some(so_far.map_or(report.confidence, |it| it.min(report.confidence)));
            }
        }
        for ((verdict, counts), lowest) in VERDICTS.into_iter().zip(counts).zip(lowest) {
            let verdict = verdict.as_str();
            for (vantage, count) in vantages.into_iter().zip(counts) {
                let vantage = vantage.map_or("none", Vantage::as_str);
                self.addresses
                    .get_or_create(&AddressLabels { verdict, vantage })
                    .set(number(count));
            }
            let labels = VerdictLabels { verdict };
            match lowest {
                Some(lowest) => {
                    self.lowest_confidence.get_or_create(&labels).set(lowest);
                }
                None => {
                    self.lowest_confidence.remove(&labels);
                }
            }
        }
        self.confirmed_addresses.set(number(confirmed));
        for summary in SUMMARIES {
            let reachability = summary.as_str();
            self.summary
                .get_or_create(&ReachabilityLabels { reachability })
                .set((behaviour.summary() == summary).into());
        }
        let (known, usable) = behaviour.servers();
        for (state, count) in [("known", known), ("usable", usable)] {
            self.servers
                .get_or_create(&StateLabels { state })
                .set(number(count));
        }
        let Sizes {
            addresses,
            outcomes,
            servers,
            remembered_servers,
            contacted_ips,
            probes,
        } = behaviour.sizes();
        for (collection, size) in [
            ("addresses", addresses),
            ("outcomes", outcomes),
            ("servers", servers),
            ("remembered-servers", remembered_servers),
            ("contacted-ips", contacted_ips),
            ("probes", probes),
        ] {
            self.state_entries
                .get_or_create(&CollectionLabels { collection })
                .set(number(size));
        }
    }
}

/// All labels of requests that succeed, for the usual addresses.
fn completed_labels() -> impl Iterator<Item = CompletedLabels> {
    (1..=MAX_ADDRESSES).flat_map(|addr_count| {
        let dialed = ADDRESSES.into_iter().flat_map(move |(version, transport)| {
            [Summary::Public, Summary::Private].map(|summary| CompletedLabels {
                ip_or_dns_version: version,
                transport,
                addr_count,
                dial_refused: word(false),
                reachability: summary.as_str(),
            })
        });
        let refused = CompletedLabels {
            ip_or_dns_version: "unknown",
            transport: "unknown",
            addr_count,
            dial_refused: word(true),
            reachability: Summary::Unknown.as_str(),
        };
        dialed.chain([refused])
    })
}
