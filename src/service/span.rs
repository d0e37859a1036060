//! The `tracing` span around each request. It has the fields of [`Served`], by the same names: those that are known
//! when a request is admitted from the start, the others from its end. It never decides anything, and costs nothing
//! while nobody listens at the level `DEBUG`. What has no request (rejections, misbehaviour) is logged where it is counted, in
//! `service.rs`.

use libp2p_core::Multiaddr;
use tracing::{
    Span,
    field::{Empty, debug, display},
};

use super::{PassedOver, Served};
use crate::address::Printable;

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
    let asked: Vec<_> = served.asked.iter().map(Printable).collect();
    span.record("asked", debug(asked));
    span.record("asked_in_all", served.asked_in_all);
    if let Some((index, addr)) = &served.tested {
        span.record("tested", debug((index, Printable(addr))));
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

/// Says of each address that was passed over why it was.
pub(super) fn log_passed_over(
    span: &Span,
    passed_over: &[(u32, PassedOver)],
    addrs: &[Option<Multiaddr>],
) {
    for (index, reason) in passed_over {
        let addr = addrs.get(*index as usize).and_then(Option::as_ref);
        tracing::debug!(
            parent: span,
            index,
            addr = addr.map(|addr| debug(Printable(addr))),
            ?reason,
            "passed over an address"
        );
    }
}
