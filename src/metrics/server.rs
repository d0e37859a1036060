//! The server's part of the metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{
    ip_or_dns_version, number, of_an_exchange, transport,
    values::{self, ADDRESSES},
    word,
};
use crate::{
    protocol::{DialStatus, ResponseStatus},
    server::{Behaviour, End, Event, Limit, Load, Misbehaviour, Served},
};

/// Go's labels in go's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CompletedLabels {
    server_error: &'static str,
    response_status: &'static str,
    dial_status: &'static str,
    dial_data_required: &'static str,
    ip_or_dns_version: &'static str,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests_completed: Family<CompletedLabels, Counter>,
    rejections: Family<LimitLabels, Counter>,
    passed_over: Family<ReasonLabels, Counter>,
    dial_backs: Family<OutcomeLabels, Counter>,
    misbehaviours: Family<CauseLabels, Counter>,
    request_duration: Histogram,
    dial_data_requested: Counter,
    dial_data_received: Counter,
    requests_in_flight: Gauge,
    dials_in_flight: Gauge,
    lingering_dials: Gauge,
    rate_entries: Gauge,
    queued: Gauge,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests_completed: Family::default(),
            rejections: Family::default(),
            passed_over: Family::default(),
            dial_backs: Family::default(),
            misbehaviours: Family::default(),
            request_duration: of_an_exchange(),
            dial_data_requested: Counter::default(),
            dial_data_received: Counter::default(),
            requests_in_flight: Gauge::default(),
            dials_in_flight: Gauge::default(),
            lingering_dials: Gauge::default(),
            rate_entries: Gauge::default(),
            queued: Gauge::default(),
        };
        registry.register(
            "requests_completed",
            "Requests Completed",
            this.requests_completed.clone(),
        );
        registry.register(
            "server_rejections",
            "Requests rejected, by the limit that they were over",
            this.rejections.clone(),
        );
        registry.register(
            "server_passed_over",
            "Addresses of requests that were not dialed, by reason",
            this.passed_over.clone(),
        );
        registry.register(
            "server_dial_backs",
            "Dial-backs by outcome",
            this.dial_backs.clone(),
        );
        registry.register(
            "server_misbehaviours",
            "Violations of the protocol by cause",
            this.misbehaviours.clone(),
        );
        registry.register_with_unit(
            "server_request_duration",
            "Time from the opening of a request's stream to its end",
            Unit::Seconds,
            this.request_duration.clone(),
        );
        registry.register_with_unit(
            "server_dial_data_requested",
            "Dial data asked for",
            Unit::Bytes,
            this.dial_data_requested.clone(),
        );
        registry.register_with_unit(
            "server_dial_data_received",
            "Dial data received",
            Unit::Bytes,
            this.dial_data_received.clone(),
        );
        registry.register(
            "server_requests_in_flight",
            "Requests being served",
            this.requests_in_flight.clone(),
        );
        registry.register(
            "server_dials_in_flight",
            "Dial-backs that hold a socket",
            this.dials_in_flight.clone(),
        );
        registry.register(
            "server_lingering_dials",
            "Dial-backs that are over and still hold a socket",
            this.lingering_dials.clone(),
        );
        registry.register(
            "server_rate_entries",
            "Peers, neighbourhoods and targets that the rate limits remember",
            this.rate_entries.clone(),
        );
        registry.register(
            "server_queued",
            "Commands and events that wait for the swarm",
            this.queued.clone(),
        );
        this.create();
        this
    }

    /// Creates the counters at 0.
    fn create(&self) {
        values::create(&self.requests_completed, all_completed_labels());
        let limits = values::limits().chain([DENIED]);
        values::create(&self.rejections, limits.map(|limit| LimitLabels { limit }));
        let reasons = values::reasons().map(|reason| ReasonLabels { reason });
        values::create(&self.passed_over, reasons);
        let outcomes = values::dial_back_outcomes().map(|outcome| OutcomeLabels { outcome });
        values::create(&self.dial_backs, outcomes);
        let causes = values::causes().map(|cause| CauseLabels { cause });
        values::create(&self.misbehaviours, causes);
    }

    pub(super) fn on_event(&self, event: &Event) {
        match event {
            Event::Served(served) => self.on_served(served),
            Event::Rejected(rejected) => {
                self.reject(rejected.limit.as_str(), rejected.count);
                let labels = CompletedLabels {
                    response_status: ResponseStatus::RequestRejected.as_str(),
                    ..UNTOLD
                };
                self.requests_completed
                    .get_or_create(&labels)
                    .inc_by(rejected.count);
            }
            Event::Misbehaved(misbehaved) => {
                let cause = misbehaved.cause.as_str();
                self.misbehaviours
                    .get_or_create(&CauseLabels { cause })
                    .inc_by(misbehaved.count);
                // Of the others, each is the end of a served request too.
                if misbehaved.cause == Misbehaviour::TooManyStreams {
                    self.requests_completed
                        .get_or_create(&TOO_MANY_STREAMS)
                        .inc_by(misbehaved.count);
                }
            }
            Event::JoinedLate(_) => {}
        }
    }

    fn reject(&self, limit: &'static str, count: u64) {
        self.rejections
            .get_or_create(&LimitLabels { limit })
            .inc_by(count);
    }

    fn on_served(&self, served: &Served) {
        self.requests_completed
            .get_or_create(&completed_labels(served))
            .inc();
        if served.status == Some(ResponseStatus::RequestRejected) {
            self.reject(served.limit.map_or(DENIED, Limit::as_str), 1);
        }
        for (_, reason) in &served.passed_over {
            let reason = reason.as_str();
            self.passed_over
                .get_or_create(&ReasonLabels { reason })
                .inc();
        }
        if let Some(outcome) = &served.dial_back {
            let outcome = outcome.as_str();
            self.dial_backs
                .get_or_create(&OutcomeLabels { outcome })
                .inc();
        }
        self.request_duration.observe(served.duration.as_secs_f64());
        self.dial_data_requested.inc_by(served.dial_data_requested);
        self.dial_data_received.inc_by(served.dial_data_received);
    }

    pub(super) fn on_state(&self, behaviour: &Behaviour) {
        let Load {
            requests,
            dials,
            lingering_dials,
            rate_entries,
            queued,
        } = behaviour.load();
        self.requests_in_flight.set(number(requests));
        self.dials_in_flight.set(number(dials));
        self.lingering_dials.set(number(lingering_dials));
        self.rate_entries.set(number(rate_entries));
        self.queued.set(number(queued));
    }
}

/// Go's labels of a request that came to nothing: the zero values of its statuses, and no address.
const UNTOLD: CompletedLabels = CompletedLabels {
    server_error: "nil",
    response_status: ResponseStatus::InternalError.as_str(),
    dial_status: DialStatus::Unused.as_str(),
    dial_data_required: word(false),
    ip_or_dns_version: "",
    transport: "",
};

/// The limit that counts where one of the node's own behaviours denied the dial.
const DENIED: &str = "denied";

/// The labels of a stream beyond those of one connection.
const TOO_MANY_STREAMS: CompletedLabels = CompletedLabels {
    server_error: "resource limit exceeded",
    ..UNTOLD
};

/// All labels of requests, for the usual addresses.
fn all_completed_labels() -> Vec<CompletedLabels> {
    let ended = |server_error| CompletedLabels {
        server_error,
        ..UNTOLD
    };
    // Nothing was read in the last of them.
    let mut all = vec![TOO_MANY_STREAMS, ended("bad request"), ended("other")];
    for (ip_or_dns_version, transport) in ADDRESSES {
        all.push(CompletedLabels {
            dial_data_required: word(true),
            ip_or_dns_version,
            transport,
            ..ended("dial data refused")
        });
    }
    // Whether the answer could be written or not.
    for (server_error, with_data) in [
        ("nil", false),
        ("nil", true),
        ("other", false),
        ("other", true),
    ] {
        let answered = |response_status: ResponseStatus, dial_status: DialStatus| CompletedLabels {
            response_status: response_status.as_str(),
            dial_status: dial_status.as_str(),
            dial_data_required: word(with_data),
            ..ended(server_error)
        };
        all.push(answered(ResponseStatus::DialRefused, DialStatus::Unused));
        all.push(answered(
            ResponseStatus::RequestRejected,
            DialStatus::Unused,
        ));
        for (ip_or_dns_version, transport) in ADDRESSES {
            all.extend(
                [
                    answered(ResponseStatus::InternalError, DialStatus::Unused),
                    answered(ResponseStatus::Ok, DialStatus::DialError),
                    answered(ResponseStatus::Ok, DialStatus::DialBackError),
                    answered(ResponseStatus::Ok, DialStatus::Ok),
                ]
                .map(|labels| CompletedLabels {
                    ip_or_dns_version,
                    transport,
                    ..labels
                }),
            );
        }
    }
    all
}

fn completed_labels(served: &Served) -> CompletedLabels {
    // These are looked at only where dial data is due, before it is asked for.
    let stopped_before_data = matches!(
        served.limit,
        Some(
            Limit::DialData
                | Limit::DialDataOfNeighbourhood
                | Limit::DialDataOfNetwork
                | Limit::Target
        )
    );
    // Go names the address that it set out to test, and none where it refuses or rejects.
    let turned_away = matches!(
        served.status,
        Some(ResponseStatus::DialRefused | ResponseStatus::RequestRejected)
    );
    let address = served
        .tested
        .as_ref()
        .filter(|_| !turned_away)
        .map(|(_, address)| address);
    CompletedLabels {
        server_error: server_error(served),
        response_status: served
            .status
            .unwrap_or(ResponseStatus::InternalError)
            .as_str(),
        dial_status: served
            .dial_status
            .filter(|_| served.status == Some(ResponseStatus::Ok))
            .unwrap_or(DialStatus::Unused)
            .as_str(),
        dial_data_required: word(served.dial_data_requested > 0 || stopped_before_data),
        ip_or_dns_version: address.map_or("", ip_or_dns_version),
        transport: address.map_or("", transport),
    }
}

/// Go's `getErrString`.
fn server_error(served: &Served) -> &'static str {
    let data_is_due = served.dial_data_received < served.dial_data_requested;
    match served.end {
        End::Answered => "nil",
        End::Misbehaved(Misbehaviour::NotARequest) => "bad request",
        End::ClientLeft | End::Misbehaved(_) if data_is_due => "dial data refused",
        End::ClientLeft | End::NotAnswered | End::Misbehaved(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;
    use libp2p_swarm::ConnectionId;

    use super::*;

    fn served(change: impl FnOnce(&mut Served)) -> Vec<&'static str> {
        let mut served = Served::new(PeerId::random(), ConnectionId::new_unchecked(1), None);
        let address = "/ip6/2001:db8::1/udp/1/quic-v1".parse().expect("valid");
        served.tested = Some((0, address));
        change(&mut served);
        let labels = completed_labels(&served);
        assert!(
            all_completed_labels().contains(&labels),
            "born at 1: {labels:?}"
        );
        vec![
            labels.server_error,
            labels.response_status,
            labels.dial_status,
            labels.dial_data_required,
            labels.ip_or_dns_version,
            labels.transport,
        ]
    }

    /// What go-libp2p's `serveDialRequest` makes of each.
    #[test]
    fn requests_are_labelled_as_go_labels_them() {
        let answered = served(|it| {
            it.end = End::Answered;
            it.status = Some(ResponseStatus::Ok);
            it.dial_status = Some(DialStatus::DialBackError);
        });
        let expected = ["nil", "OK", "E_DIAL_BACK_ERROR", "false", "ip6", "quic-v1"];
        assert_eq!(answered, expected);

        let not_written = served(|it| {
            it.end = End::NotAnswered;
            it.status = Some(ResponseStatus::Ok);
            it.dial_status = Some(DialStatus::Ok);
        });
        assert_eq!(
            not_written,
            ["other", "OK", "OK", "false", "ip6", "quic-v1"]
        );

        let nothing_read = served(|it| it.tested = None);
        let expected = ["other", "E_INTERNAL_ERROR", "UNUSED", "false", "", ""];
        assert_eq!(nothing_read, expected);

        let not_a_request = served(|it| {
            it.tested = None;
            it.end = End::Misbehaved(Misbehaviour::NotARequest);
        });
        let expected = ["bad request", "E_INTERNAL_ERROR", "UNUSED", "false", "", ""];
        assert_eq!(not_a_request, expected);

        for end in [
            End::ClientLeft,
            End::Misbehaved(Misbehaviour::SmallDialData),
        ] {
            let not_paid = served(|it| {
                it.end = end;
                it.dial_data_requested = 30_000;
                it.dial_data_received = 29_999;
            });
            let error = "dial data refused";
            let expected = [
                error,
                "E_INTERNAL_ERROR",
                "UNUSED",
                "true",
                "ip6",
                "quic-v1",
            ];
            assert_eq!(not_paid, expected);
        }

        let no_data_allowed = served(|it| {
            it.end = End::Answered;
            it.status = Some(ResponseStatus::RequestRejected);
            it.dial_status = Some(DialStatus::Unused);
            it.limit = Some(Limit::DialData);
        });
        let expected = ["nil", "E_REQUEST_REJECTED", "UNUSED", "true", "", ""];
        assert_eq!(no_data_allowed, expected);

        let not_dialed = served(|it| {
            it.end = End::Answered;
            it.status = Some(ResponseStatus::DialRefused);
            it.dial_status = Some(DialStatus::Unused);
        });
        let expected = ["nil", "E_DIAL_REFUSED", "UNUSED", "false", "", ""];
        assert_eq!(not_dialed, expected);
    }
}
