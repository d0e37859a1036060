//! What is printed at the end: the answer in words, a table, what the NAT looks like and what to do; or one JSON object.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use libp2p::Multiaddr;
use libp2p_autonat_v2::{
    address::{self, PortProtocol},
    client::{AddressReport, NatMapping, Summary, Vantage, Verdict},
};
use serde_json::{Value, json};

use crate::{End, Server, State};

/// Nothing could be checked.
pub(crate) struct Failure {
    why: String,
    code: u8,
}

impl Failure {
    /// Of this machine.
    pub(crate) fn new(why: String) -> Self {
        Self { why, code: 5 }
    }

    /// On the command line.
    pub(crate) fn mistake(why: String) -> Self {
        Self { why, code: 2 }
    }

    pub(crate) fn print(&self, json: bool) {
        let Self { why, code } = self;
        // Nothing is left to do if nobody reads it.
        let _ = match json {
            true => writeln!(
                io::stdout(),
                "{}",
                json!({ "result": "error", "exit_code": code, "error": why })
            ),
            false => writeln!(io::stderr(), "error: {why}"),
        };
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Reachable,
    Unreachable,
    Undecided,
    NoServer,
}

impl Answer {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
            Self::Undecided => "undecided",
            Self::NoServer => "no-server",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Reachable => 0,
            Self::Unreachable => 1,
            Self::Undecided => 3,
            Self::NoServer => 4,
        }
    }
}

/// All that was found out.
pub(crate) struct Report {
    pub(crate) addresses: Vec<AddressReport>,
    /// Those that every server refused to dial.
    pub(crate) undialed: BTreeSet<Multiaddr>,
    /// Those of sockets that this program does not listen on.
    pub(crate) stray: BTreeSet<Multiaddr>,
    pub(crate) summary: Summary,
    pub(crate) mapping: NatMapping,
    pub(crate) behind_nat: Option<bool>,
    pub(crate) listening: Vec<Multiaddr>,
    pub(crate) servers: Vec<Server>,
    pub(crate) took: Duration,
    pub(crate) end: End,
}

impl Report {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.answer().code())
    }

    pub(crate) fn print(&self, json: bool) {
        let text = match json {
            true => format!("{}\n", self.to_json()),
            false => self.to_text(),
        };
        // The exit code says it, too.
        let _ = io::stdout().write_all(text.as_bytes());
    }

    fn answer(&self) -> Answer {
        if self.count(Verdict::Reachable) > 0 {
            return Answer::Reachable;
        }
        if !self.servers.iter().any(was_asked) {
            return Answer::NoServer;
        }
        match self.summary {
            Summary::Private if !self.addresses.is_empty() => Answer::Unreachable,
            _ => Answer::Undecided,
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.addresses
            .iter()
            .filter(|report| report.verdict == verdict)
            .count()
    }

    /// Proven from a host that was never contacted, which no filter lets in.
    fn is_independent(&self) -> bool {
        self.addresses
            .iter()
            .any(|report| report.vantage == Some(Vantage::Independent))
    }

    fn to_text(&self) -> String {
        let mut text = format!("\n{}\n", self.headline());
        if !self.addresses.is_empty() && self.answer() != Answer::NoServer {
            text.push('\n');
            text.push_str(&self.table());
        }
        let _ = writeln!(text, "\nNAT: {}", self.nat());
        text.push_str("\nWhat to do:\n");
        for advice in self.advice() {
            let _ = writeln!(text, "{}", wrap(&advice));
        }
        text
    }

    fn headline(&self) -> String {
        let all = self.addresses.len();
        let reachable = self.count(Verdict::Reachable);
        match self.answer() {
            Answer::Reachable => {
                let on = match reachable == all {
                    true => each(all),
                    false => format!("{reachable} of {all} addresses"),
                };
                match self.is_independent() {
                    true => format!("YES. Strangers can reach this machine on {on}."),
                    false => format!(
                        "YES, most likely. The servers get through to this machine on {on}."
                    ),
                }
            }
            Answer::Unreachable if self.count(Verdict::Filtered) > 0 => {
                "NO. Only hosts that this machine contacted first get through; strangers don't."
                    .to_owned()
            }
            Answer::Unreachable => {
                let on = match all - self.count(Verdict::Unknown) {
                    decided if decided == all => any(all),
                    decided => format!("any of the {decided} addresses that were decided"),
                };
                format!("NO. Strangers cannot reach this machine on {on}.")
            }
            Answer::NoServer if self.end == End::Interrupted => {
                "NO ANSWER. It was interrupted before a server could be asked.".to_owned()
            }
            Answer::NoServer => "NO ANSWER. None of the servers could be asked.".to_owned(),
            Answer::Undecided if self.end == End::Interrupted => {
                "UNDECIDED. It was interrupted before the servers had said enough.".to_owned()
            }
            Answer::Undecided if all == 0 => {
                "UNDECIDED. No server sees an address of this machine that could be tested."
                    .to_owned()
            }
            Answer::Undecided if self.end == End::TimedOut => {
                "UNDECIDED. The time was over before the servers had said enough.".to_owned()
            }
            Answer::Undecided => {
                "UNDECIDED. What the servers say is not enough to tell.".to_owned()
            }
        }
    }

    fn table(&self) -> String {
        let width = self
            .addresses
            .iter()
            .map(|report| report.address.to_string().len())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "{:<width$}  {:<13}  {:>4}  {:<17}  servers\n",
            "address", "verdict", "sure", "proven by"
        );
        for report in &self.addresses {
            let sure = match report.verdict {
                Verdict::Unknown => "-".to_owned(),
                _ => format!("{:.0}%", floor_percent(report.confidence)),
            };
            let by = match (report.verdict, report.vantage) {
                (Verdict::Reachable, Some(Vantage::Independent)) => "a stranger",
                (Verdict::Reachable | Verdict::Filtered, Some(Vantage::Contacted)) => {
                    "a contacted host"
                }
                _ => "-",
            };
            let _ = writeln!(
                text,
                "{:<width$}  {:<13}  {sure:>4}  {by:<17}  {:>7}",
                report.address.to_string(),
                verdict(report.verdict),
                report.servers
            );
        }
        text
    }

    fn nat(&self) -> &'static str {
        let filtered = self.count(Verdict::Filtered) > 0;
        match (self.behind_nat, self.mapping) {
            (Some(false), _) if filtered => {
                "none, but a firewall lets in only hosts that were contacted first."
            }
            (Some(false), _) => "none. The servers see an IP that this machine has itself.",
            (None, _) => "not known. No server has said from where it sees this machine.",
            (Some(true), NatMapping::EndpointDependent) => {
                "there is one, and it uses another port for each destination (endpoint-dependent mapping, \"symmetric\")."
            }
            (Some(true), NatMapping::EndpointIndependent) if filtered => {
                "there is one. It keeps one port for all destinations (endpoint-independent mapping) and lets in only hosts that \
                 were contacted first (address-dependent filtering)."
            }
            (Some(true), NatMapping::EndpointIndependent) => {
                "there is one, and it keeps one port for all destinations (endpoint-independent mapping)."
            }
            (Some(true), _) => {
                "there is one. How it maps ports shows only with two servers on different hosts that are asked over QUIC."
            }
        }
    }

    /// What to do, the most useful first.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let nat = self.behind_nat != Some(false);
        match self.answer() {
            Answer::Reachable => {
                self.advise_reachable(&mut advice);
            }
            Answer::Unreachable => {
                advice.push(match nat {
                    true => self.forward(),
                    false => "Open the port in the firewall of this machine or of its network, for incoming connections."
                        .to_owned(),
                });
                if nat {
                    advice.push(
                        "If the router shows another external IP than the servers see, the provider has a NAT of its own: \
                         then forwarding does not help. Ask for a public IP, or use IPv6."
                            .to_owned(),
                    );
                }
                advice.push("Until then, reserve a slot on a relay, so that others can reach this machine through it.".to_owned());
                advice.push(self.hole_punching(nat));
            }
            Answer::Undecided if self.addresses.is_empty() => {
                advice.push(
                    "Ask servers on the Internet, outside of this network. For a check inside of a private network, add \
                     --allow-private."
                        .to_owned(),
                );
                advice.push(
                    "If you know the address that your router maps here, name it with --external."
                        .to_owned(),
                );
            }
            Answer::Undecided => {
                if self.servers.iter().any(|server| server.rejections > 0) {
                    advice.push(
                        "A server was busy and turned requests down: try again in a minute."
                            .to_owned(),
                    );
                }
                if self.undialed.iter().any(|addr| !address::is_public(addr)) {
                    advice.push(
                        "Servers turned private addresses down. Most never dial them; a server of your own does with \
                         --allow-private."
                            .to_owned(),
                    );
                } else if !self.undialed.is_empty() {
                    advice.push(
                        "No server dials some of the addresses: ask one that speaks that transport and IP version."
                            .to_owned(),
                    );
                }
                advice.push(match self.end {
                    End::Interrupted => "Let it run to its end.".to_owned(),
                    _ => "Ask more servers, on other networks, or give them more time with --timeout."
                        .to_owned(),
                });
            }
            Answer::NoServer => {
                advice.push(
                    "Check the servers' addresses and that they run, or ask others.".to_owned(),
                );
                for (i, server) in self.servers.iter().enumerate() {
                    let why = match &server.state {
                        State::Failed(why) | State::Useless(why) => why,
                        State::Dialing => "there was no time to connect to it",
                        _ => "it did not say what it speaks",
                    };
                    let why = why.trim_end_matches('.');
                    advice.push(format!("Server {} ({}): {why}.", i + 1, server.addr));
                }
            }
        }
        advice
    }

    fn advise_reachable(&self, advice: &mut Vec<String>) {
        if self.is_independent() {
            advice.push("Nothing: strangers get in.".to_owned());
        } else {
            advice.push(
                "Nothing, most likely. All tests came from hosts that this machine had contacted, which some NATs and \
                 firewalls let in and strangers not. A server that dials from a second IP would tell."
                    .to_owned(),
            );
        }
        let mut undecided = Vec::new();
        for report in &self.addresses {
            let addr = &report.address;
            match report.verdict {
                _ if self.stray.contains(addr) => {}
                Verdict::Unreachable | Verdict::Filtered => advice.push(format!(
                    "{addr}: open or forward {}, if you want it reachable too.",
                    port(addr)
                )),
                Verdict::Unknown if !self.undialed.contains(addr) => {
                    undecided.push(addr.to_string());
                }
                _ => {}
            }
        }
        if !self.undialed.is_empty() {
            let addrs: Vec<_> = self.undialed.iter().map(Multiaddr::to_string).collect();
            advice.push(format!(
                "{}: no server dials {}. Ask one on another machine that speaks that transport and IP version.",
                addrs.join(", "),
                it(addrs.len())
            ));
        }
        if !undecided.is_empty() {
            let more = match self.end {
                End::Interrupted => "when it was interrupted. Let it run to its end",
                _ => "yet. Give it more time with --timeout, or ask another server",
            };
            advice.push(format!("{}: not decided {more}.", undecided.join(", ")));
        }
    }

    fn forward(&self) -> String {
        let mut ports = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        for addr in &self.listening {
            if let Some(waist) = address::thin_waist(addr)
                && waist.ip.is_ipv4()
                && !waist.ip.is_loopback()
            {
                ports.insert(port(addr));
                hosts.insert(waist.ip.to_string());
            }
        }
        let ports: Vec<String> = ports.into_iter().collect();
        let hosts: Vec<String> = hosts.into_iter().collect();
        if ports.is_empty() {
            return "Forward the port on your router to this machine, or switch on UPnP there."
                .to_owned();
        }
        format!(
            "Forward {} on your router to this machine ({}), or switch on UPnP there and in your program. Then check again.",
            ports.join(" and "),
            hosts.join(" or ")
        )
    }

    fn hole_punching(&self, nat: bool) -> String {
        match self.mapping {
            _ if !nat => "Hole punching through a relay has a good chance: there is no NAT that changes ports.",
            NatMapping::EndpointIndependent => {
                "Hole punching through a relay (DCUtR) has a good chance: the NAT keeps one port for all destinations."
            }
            NatMapping::EndpointDependent => {
                "Hole punching has little chance: the NAT uses another port for each destination. Peers will stay on the relay."
            }
            _ => {
                "Whether hole punching has a chance is not known: ask two servers on different hosts over QUIC \
                 (/udp/PORT/quic-v1)."
            }
        }
        .to_owned()
    }

    fn to_json(&self) -> Value {
        let answer = self.answer();
        let addresses: Vec<Value> = self.addresses.iter().map(address_to_json).collect();
        let servers: Vec<Value> = self.servers.iter().map(server_to_json).collect();
        json!({
            "result": answer.as_str(),
            "exit_code": answer.code(),
            "summary": self.summary.as_str(),
            "explanation": self.headline(),
            "timed_out": self.end == End::TimedOut,
            "interrupted": self.end == End::Interrupted,
            "seconds": self.took.as_secs_f64(),
            "addresses": addresses,
            "servers": servers,
            "listening": self.listening,
            "nat": {
                "present": self.behind_nat,
                "mapping": self.mapping.as_str(),
                "explanation": self.nat(),
            },
            "advice": self.advice(),
        })
    }
}

/// Whether it spoke AutoNAT v2 at any time.
fn was_asked(server: &Server) -> bool {
    server.state == State::Serves || server.answers > 0 || server.rejections > 0
}

fn address_to_json(report: &AddressReport) -> Value {
    let sources = &report.sources;
    let named = [
        (sources.observed, "observed"),
        (sources.listening, "listening"),
        (sources.confirmed, "confirmed"),
        (sources.added, "added"),
        (sources.guessed, "guessed"),
    ];
    let sources: Vec<&str> = named
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| name)
        .collect();
    json!({
        "address": report.address,
        "verdict": report.verdict.as_str(),
        "confidence": report.confidence,
        "vantage": report.vantage.map(Vantage::as_str),
        "servers": report.servers,
        "sources": sources,
        "seconds_to_verdict": report.time_to_verdict.map(|time| time.as_secs_f64()),
        "dial_data_bytes": report.dial_data,
        "inherited": report.inherited,
    })
}

fn server_to_json(server: &Server) -> Value {
    let (state, error) = match &server.state {
        State::Dialing => ("dialing", None),
        State::Connected => ("connected", None),
        State::Serves => ("serves", None),
        State::Useless(why) => ("useless", Some(why.as_str())),
        State::Failed(why) => ("failed", Some(why.as_str())),
    };
    json!({
        "address": server.addr,
        "peer": server.peer.map(|peer| peer.to_string()),
        "state": state,
        "error": error,
        "observed": server.observed,
        "answers": server.answers,
        "rejections": server.rejections,
    })
}

/// A verdict as a person would say it.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reachable => "reachable",
        Verdict::Filtered => "filtered",
        Verdict::Unreachable => "NOT reachable",
        _ => "not known",
    }
}

fn it(count: usize) -> &'static str {
    match count {
        1 => "it",
        _ => "them",
    }
}

fn each(count: usize) -> String {
    match count {
        1 => "its one address".to_owned(),
        2 => "both of its addresses".to_owned(),
        more => format!("all of its {more} addresses"),
    }
}

fn any(count: usize) -> String {
    match count {
        1 => "its one address".to_owned(),
        2 => "either of its addresses".to_owned(),
        more => format!("any of its {more} addresses"),
    }
}

/// Never 100: nothing is that sure.
fn floor_percent(confidence: f64) -> f64 {
    (confidence * 100.0).floor().min(99.0)
}

fn port(addr: &Multiaddr) -> String {
    address::thin_waist(addr).map_or_else(
        || "the port".to_owned(),
        |waist| match waist.protocol {
            PortProtocol::Tcp => format!("TCP port {}", waist.port),
            PortProtocol::Udp => format!("UDP port {}", waist.port),
        },
    )
}

/// A list item, broken into lines.
fn wrap(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut out = String::from("  -");
    let mut used = out.len();
    for word in text.split_whitespace() {
        if used + 1 + word.len() > WIDTH {
            out.push_str("\n   ");
            used = 3;
        }
        out.push(' ');
        out.push_str(word);
        used += 1 + word.len();
    }
    out
}
