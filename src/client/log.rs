//! What the client tells the application, as lines of the log at the level `DEBUG`: so that a verdict can be followed to the
//! answers that it comes from where nothing handles the events. Why the core decides something now is logged there, at `TRACE`.

use crate::{address::Printable, reachability::Event};

/// One line for each event, with its fields by the same names.
pub(super) fn event(event: &Event) {
    match event {
        Event::RequestStarted(started) => tracing::debug!(
            probe = ?started.probe,
            server = %started.server,
            addresses = started.addresses.len(),
            "a request leaves"
        ),
        Event::Probed(probed) => tracing::debug!(
            probe = ?probed.probe,
            server = %probed.server,
            address = ?Printable(&probed.address),
            outcome = ?probed.outcome,
            dial_data = probed.dial_data,
            took = ?probed.took,
            "a server was asked about an address"
        ),
        Event::RequestCompleted(completed) => tracing::debug!(
            probe = ?completed.probe,
            server = %completed.server,
            addresses = completed.addresses,
            dialed = ?completed.dialed.as_ref().map(Printable),
            outcome = ?completed.outcome,
            dial_data = completed.dial_data,
            took = ?completed.took,
            "a request is over"
        ),
        Event::VerdictChanged {
            address,
            old,
            new,
            vantage,
            confidence,
            time_to_verdict,
        } => tracing::debug!(
            address = ?Printable(address),
            old = old.as_str(),
            new = new.as_str(),
            vantage = vantage.map(|vantage| vantage.as_str()),
            confidence,
            ?time_to_verdict,
            "the verdict on an address changed"
        ),
        Event::SummaryChanged { old, new } => tracing::debug!(
            old = old.as_str(),
            new = new.as_str(),
            "the summary of all verdicts changed"
        ),
        Event::Obstructed { address, obstacle } => tracing::debug!(
            address = ?Printable(address),
            obstacle = obstacle.as_str(),
            "an address can't be tested"
        ),
        Event::StabilityChanged { address, unstable } => tracing::debug!(
            address = ?Printable(address),
            unstable,
            "how stable the verdict on an address is changed"
        ),
        Event::ServersWanted { known, wanted } => {
            tracing::debug!(known, wanted, "there are too few servers to decide");
        }
        Event::NatMappingChanged { old, new } => tracing::debug!(
            old = old.as_str(),
            new = new.as_str(),
            "the NAT maps ports in another way"
        ),
    }
}
