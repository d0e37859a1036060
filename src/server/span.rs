//! The `tracing` span around each request. It has the fields of [`Served`], by the same names: those that are known
//! when a request is admitted from the start, the others from its end. It never decides anything, and costs nothing
//! while nobody listens at the level `DEBUG`.

use tracing::{
    Span,
    field::{Empty, debug, display},
};

use super::Served;

/// The span of a request that has just been admitted.
pub(super) fn open(served: &Served) -> Span {
    tracing::debug_span!(
        "autonat_v2_dial_request",
        client = %served.client,
        connection_id = %served.connection_id,
        observed_ip = served.observed_ip.map(display),
        asked = Empty,
        asked_in_all = Empty,
        tested = Empty,
        passed_over = Empty,
        dial_data_requested = Empty,
        dial_data_received = Empty,
        dial_back = Empty,
        limit = Empty,
        status = Empty,
        dial_status = Empty,
        end = Empty,
        duration = Empty,
    )
}

/// Writes down how the request ended. A field that is `None` stays empty.
pub(super) fn close(span: &Span, served: &Served) {
    if span.is_disabled() {
        return;
    }
    span.record("asked", debug(&served.asked));
    span.record("asked_in_all", served.asked_in_all);
    if let Some(tested) = &served.tested {
        span.record("tested", debug(tested));
    }
    span.record("passed_over", debug(&served.passed_over));
    span.record("dial_data_requested", served.dial_data_requested);
    span.record("dial_data_received", served.dial_data_received);
    if let Some(outcome) = &served.dial_back {
        span.record("dial_back", debug(outcome));
    }
    if let Some(limit) = served.limit {
        span.record("limit", limit.as_str());
    }
    if let Some(status) = &served.status {
        span.record("status", display(status));
    }
    if let Some(status) = &served.dial_status {
        span.record("dial_status", display(status));
    }
    span.record("end", debug(served.end));
    span.record("duration", debug(served.duration));
    span.in_scope(|| tracing::debug!("a dial request is over"));
}
