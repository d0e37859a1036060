//! The dashboard and the alerts, beside the metrics that there are.

#![allow(unreachable_pub, reason = "the test is its own crate")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use libp2p_autonat_v2::server;
use serde_json::Value;

use crate::observed::{client, server};

/// A file in `monitoring/`.
pub fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("monitoring")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Title and query of each panel of the dashboard.
pub fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("it is JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let panels = dashboard["panels"].as_array().expect("panels");
    let panels = panels.iter().filter(|panel| panel["type"] != "row");
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("queries");
            assert!(!targets.is_empty(), "{panel}");
            targets
                .iter()
                .map(move |target| (text(&panel["title"]), text(&target["expr"])))
        })
        .collect()
}

/// The names of the alerts.
pub fn alerts() -> BTreeSet<String> {
    let rules = read("alerts.yml");
    let lines = rules.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect()
}

/// All names of ours in a text, without the suffixes that samples have.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("libp2p_autonatv2_") && !word.ends_with('_'))
        .map(|word| {
            let suffix = ["_total", "_bucket"]
                .iter()
                .find_map(|it| word.strip_suffix(it));
            suffix.unwrap_or(word).to_owned()
        })
        .collect()
}

/// The families of a client that has an address, and of a server.
async fn exported() -> BTreeSet<String> {
    let mut client = client().await;
    client.node.listen("/ip4/127.0.0.1/tcp/0").await;
    let server = server(server::Config::default()).await;
    let types = [client.scrape().await.types, server.scrape().await.types];
    let names = types.into_iter().flat_map(BTreeMap::into_keys);
    names
        .filter(|name| name.starts_with("libp2p_autonatv2_"))
        .collect()
}

#[tokio::test]
async fn the_dashboard_shows_every_metric() {
    let shown = queries()
        .iter()
        .flat_map(|(_, query)| names(query))
        .collect::<BTreeSet<_>>();
    assert_eq!(shown, exported().await);
}

#[tokio::test]
async fn the_alerts_are_about_metrics_that_there_are() {
    let exported = exported().await;
    for name in names(&read("alerts.yml")) {
        assert!(exported.contains(&name), "{name}");
    }
}

/// `promtool` runs the tests where Prometheus is installed; this holds everywhere.
#[test]
fn every_alert_is_tested() {
    let alerts = alerts();
    assert_eq!(alerts.len(), read("alerts.yml").matches("expr:").count());
    let tests = read("alerts.test.yml");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
}
