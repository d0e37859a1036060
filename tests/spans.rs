//! What `tracing` says of a request, and of what the client finds, is what the events say. Alone in their file, since
//! callsites remember whether anyone listens, and tests on other threads would tell them that nobody does.

mod support;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol, swarm::SwarmEvent};
use libp2p_autonat_v2::{
    client::{self, Summary, Verdict},
    protocol::DIAL_BACK_PROTOCOL,
    server::{Config, End, Limit, PassedOver, Served},
};
use support::{
    RawPeer,
    autonat::*,
    serving::{Client, TestedEvent, honest_server},
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// What is logged by this process; held by the test whose turn it is.
static LOG: LazyLock<tokio::sync::Mutex<Spans>> = LazyLock::new(|| {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    tokio::sync::Mutex::new(spans)
});

type Fields = BTreeMap<&'static str, String>;

/// The spans of requests, in the order in which they were opened, and other lines: the fields that have a value.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(Id, Fields)>>>, Arc<Mutex<Vec<Fields>>>);

impl Spans {
    /// The fields of all that was logged beside spans.
    fn logged(&self) -> Vec<Fields> {
        std::mem::take(&mut self.1.lock().expect("not poisoned"))
    }

    fn take(&self) -> Vec<Fields> {
        let mut spans = self.0.lock().expect("not poisoned");
        spans.drain(..).map(|(_, fields)| fields).collect()
    }
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "autonat_v2_dial_request" {
            let mut fields = Values::default();
            attributes.record(&mut fields);
            let mut spans = self.0.lock().expect("not poisoned");
            spans.push((id.clone(), fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("libp2p_autonat_v2") {
            let mut fields = Values::default();
            event.record(&mut fields);
            self.1.lock().expect("not poisoned").push(fields.0);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock().expect("not poisoned");
        if let Some((_, fields)) = spans.iter_mut().rev().find(|(of, _)| of == id) {
            let mut more = Values::default();
            values.record(&mut more);
            fields.append(&mut more.0);
        }
    }
}

#[derive(Default)]
struct Values(Fields);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// The fields of the event that have a value, as text.
fn fields(served: &Served) -> Fields {
    // So that a field cannot be added to the event and forgotten in the span.
    let names = format!("{served:#?}");
    let names = names
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(':'))
        .filter(|(name, _)| !name.starts_with(' '));
    assert_eq!(names.count(), 15, "fields of {served:#?}");

    let mut fields = Fields::from([
        ("client", served.client.to_string()),
        ("connection_id", served.connection_id.to_string()),
        ("asked", format!("{:?}", served.asked)),
        ("asked_in_all", served.asked_in_all.to_string()),
        ("passed_over", format!("{:?}", served.passed_over)),
        (
            "dial_data_requested",
            served.dial_data_requested.to_string(),
        ),
        ("dial_data_received", served.dial_data_received.to_string()),
        ("end", format!("{:?}", served.end)),
        ("duration", format!("{:?}", served.duration)),
    ]);
    let optional = [
        ("observed_ip", served.observed_ip.map(|ip| ip.to_string())),
        (
            "tested",
            served.tested.as_ref().map(|tested| format!("{tested:?}")),
        ),
        (
            "dial_back",
            served.dial_back.map(|outcome| format!("{outcome:?}")),
        ),
        ("limit", served.limit.map(|limit| limit.as_str().to_owned())),
        ("status", served.status.map(|status| status.to_string())),
        (
            "dial_status",
            served.dial_status.map(|status| status.to_string()),
        ),
    ];
    fields.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    fields
}

#[tokio::test]
async fn the_span_of_a_request_has_the_fields_of_its_event() {
    let spans = LOG.lock().await;
    spans.take();
    let config = Config::default()
        .with_max_delay_after_dial_data(Duration::ZERO)
        .with_max_dials_per_minute_per_target(1);
    let mut server = Server::on_loopback(config);
    let at = server.listen(TCP).await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = client.connect(at).await;
    let multicast: Multiaddr = "/ip4/224.0.0.1/tcp/1".parse().expect("valid");
    let own = client.listen(TCP).await;
    let other = client.listen("/ip4/127.0.0.2/tcp/0").await;

    // One that is dialed, after one that is not.
    let mut request = ask(&mut client, connection, &[multicast, own], 1).await;
    acknowledge(&mut client).await;
    answer(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.end, End::Answered);
    assert_eq!(spans.take(), [fields(&served)]);

    // One that is paid for.
    let mut request = ask(&mut client, connection, std::slice::from_ref(&other), 2).await;
    let data = dial_data_request(&mut request).await;
    pay(&mut request, data.num_bytes).await;
    acknowledge(&mut client).await;
    answer(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.dial_data_received, data.num_bytes);
    assert_eq!(spans.take(), [fields(&served)]);

    // One over a limit, and one that ends without an answer.
    let mut request = ask(&mut client, connection, &[other], 3).await;
    answer(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.limit, Some(Limit::Target));
    assert_eq!(spans.take(), [fields(&served)]);
    drop(open_request(&mut client, connection).await);
    let served = server.served().await;
    assert_eq!(served.end, End::ClientLeft);
    assert_eq!(spans.take(), [fields(&served)]);

    // One that would write lines of its own into the log.
    let forged = Multiaddr::empty()
        .with(Protocol::Dns4(
            "a\nERROR the sky falls \u{1b}[2J\u{202e}".into(),
        ))
        .with(Protocol::Tcp(1));
    spans.logged();
    let mut request = ask(&mut client, connection, &[forged], 4).await;
    answer(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.passed_over, [(0, PassedOver::Name)]);
    let logged = [spans.take(), spans.logged()].concat();
    let text = |fields: &Fields| fields.values().cloned().collect::<String>();
    let names_it = |fields: &&Fields| text(fields).contains("the sky falls");
    assert_eq!(logged.iter().filter(names_it).count(), 2, "{logged:#?}");
    for fields in logged {
        let printable = text(&fields)
            .chars()
            .all(|char| !char.is_control() && char != '\u{202e}');
        assert!(printable, "{fields:?}");
    }
}

#[tokio::test]
async fn the_log_follows_a_verdict_to_its_answers() {
    let spans = LOG.lock().await;
    let mut server = honest_server();
    let at = server.listen(TCP).await;
    let mut client = Client::new(client::Config::default().with_private_addresses(true));
    let own = client.node.listen(TCP).await;
    client.connect(&at).await;
    let summary = client.node.event("a summary", |event| match event {
        SwarmEvent::Behaviour(TestedEvent::Autonat(client::Event::SummaryChanged {
            new, ..
        })) => Some(*new),
        _ => None,
    });
    assert_eq!(summary.await, Summary::Public);

    let logged = spans.logged();
    let is = |fields: &&Fields, expected: &[(&str, &str)]| {
        let mut expected = expected.iter();
        expected.all(|(name, value)| fields.get(name).is_some_and(|field| field == value))
    };
    let line = |expected: &[(&str, &str)]| {
        let found = logged.iter().position(|fields| is(&fields, expected));
        found.unwrap_or_else(|| panic!("no line has {expected:?}: {logged:#?}"))
    };
    let (address, server) = (own.to_string(), server.peer_id.to_string());
    let answer = line(&[
        ("server", &server),
        ("address", &address),
        ("outcome", "Reachable(Contacted)"),
    ]);
    let verdict = line(&[
        ("address", &address),
        ("old", Verdict::Unknown.as_str()),
        ("new", Verdict::Reachable.as_str()),
    ]);
    let summary = line(&[("old", "unknown"), ("new", "public")]);
    assert!(answer < verdict && verdict < summary, "{logged:#?}");
}
