//! What is printed at the end: the answer in words, a table, what the NAT looks like and what to do; or one JSON object.

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode, time::Duration};

use anstyle::Style;
use libp2p::Multiaddr;
use libp2p_autonat_v2::client::{AddressReport, NatMapping, Summary, Vantage, Verdict};
use serde_json::{Value, json};

use super::{End, Server, State};
use crate::terminal::{self, ASIDE, BAD, GOOD, HEADING, UNSURE, escape};

/// Nothing could be checked.
pub(super) struct Failure {
    why: String,
    code: u8,
}

impl Failure {
    /// Of this machine.
    pub(super) fn new(why: String) -> Self {
        Self { why, code: 5 }
    }

    /// On the command line.
    pub(super) fn mistake(why: String) -> Self {
        Self { why, code: 2 }
    }

    pub(super) fn print(&self, json: bool) {
        let Self { why, code } = self;
        match json {
            true => print_json(&json!({ "result": "error", "exit_code": code, "error": why })),
            false => terminal::complain(why),
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Reachable,
    Unreachable,
    Undecided,
    NoServer,
}

impl Answer {
    fn style(self) -> Style {
        match self {
            Self::Reachable => GOOD,
            Self::Unreachable => BAD,
            Self::Undecided | Self::NoServer => UNSURE,
        }
    }

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
pub(super) struct Report {
    pub(super) addresses: Vec<AddressReport>,
    /// Those that every server refused to dial.
    pub(super) undialed: BTreeSet<Multiaddr>,
    /// Those of sockets that this program does not listen on.
    pub(super) stray: BTreeSet<Multiaddr>,
    pub(super) summary: Summary,
    pub(super) mapping: NatMapping,
    pub(super) behind_nat: Option<bool>,
    pub(super) listening: Vec<Multiaddr>,
    pub(super) servers: Vec<Server>,
    pub(super) took: Duration,
    pub(super) end: End,
}

impl Report {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.answer().code())
    }

    pub(super) fn print(&self, json: bool) {
        match json {
            true => print_json(&self.to_json()),
            false => terminal::print(&self.to_text()),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        if self.count(Verdict::Reachable) > 0 {
            return Answer::Reachable;
        }
        if !self.servers.iter().any(was_asked) {
            return match self.end {
                End::Interrupted => Answer::Undecided,
                End::Done | End::TimedOut => Answer::NoServer,
            };
        }
        match self.summary {
            Summary::Private if !self.addresses.is_empty() => Answer::Unreachable,
            _ => Answer::Undecided,
        }
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.addresses
            .iter()
            .filter(|report| report.verdict == verdict)
            .count()
    }

    /// Proven from a host that was never contacted, which no filter lets in.
    pub(super) fn is_independent(&self) -> bool {
        self.addresses
            .iter()
            .any(|report| report.vantage == Some(Vantage::Independent))
    }

    fn to_text(&self) -> String {
        let answer = self.answer();
        let style = answer.style();
        let headline = self.headline();
        let (word, rest) = headline.split_once(['.', ',']).unwrap_or((&headline, ""));
        let mark = &headline[word.len()..headline.len() - rest.len()];
        let mut text = format!("\n{style}{word}{style:#}{mark}{rest}\n");
        if !self.addresses.is_empty() && answer != Answer::NoServer {
            text.push('\n');
            text.push_str(&self.table());
        }
        let unasked = self.unasked();
        if !unasked.is_empty() {
            let _ = writeln!(text, "\n{HEADING}Not asked:{HEADING:#}");
            for line in unasked {
                let _ = writeln!(text, "{}", wrap(&escape(&line)));
            }
        }
        let _ = writeln!(text, "\n{HEADING}NAT:{HEADING:#} {}", self.nat());
        let _ = writeln!(text, "\n{HEADING}What to do:{HEADING:#}");
        for advice in self.advice() {
            let _ = writeln!(text, "{}", wrap(&escape(&advice)));
        }
        text
    }

    /// The servers that did not answer, and why.
    fn unasked(&self) -> Vec<String> {
        let servers = self.servers.iter().enumerate();
        let unasked = servers.filter(|(_, server)| !was_asked(server));
        let lines = unasked.map(|(i, server)| {
            let why = match &server.state {
                State::Failed(why) | State::Useless(why) => why,
                State::Dialing => "there was no time to connect to it",
                _ => "it did not say what it speaks",
            };
            let why = why.trim_end_matches('.');
            format!("Server {} ({}): {why}.", i + 1, server.addr)
        });
        lines.collect()
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
            Answer::NoServer => "NO ANSWER. None of the servers could be asked.".to_owned(),
            Answer::Undecided if !self.servers.iter().any(was_asked) => {
                "UNDECIDED. It was interrupted before a server could be asked.".to_owned()
            }
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
        let addrs = self.addresses.iter();
        let addrs: Vec<String> = addrs.map(|report| shown(&report.address)).collect();
        let widths = addrs.iter().map(|addr| addr.chars().count());
        let width = widths.max().unwrap_or(0);
        let mut text = format!(
            "{HEADING}{:<width$}  {:<13}  {:>4}  {:<17}  servers{HEADING:#}\n",
            "address", "verdict", "sure", "proven by"
        );
        for (report, addr) in self.addresses.iter().zip(&addrs) {
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
            let style = style_of(report.verdict);
            let _ = writeln!(
                text,
                "{addr:<width$}  {style}{:<13}{style:#}  {sure:>4}  {by:<17}  {:>7}",
                verdict(report.verdict),
                report.servers
            );
        }
        text
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

fn print_json(value: &Value) {
    terminal::print(&format!("{}\n", terminal::json(value)));
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
        "given": server.given,
        "address": server.addr,
        "peer": server.peer.map(|peer| peer.to_string()),
        "state": state,
        "error": error,
        "observed": server.observed,
        "answers": server.answers,
        "rejections": server.rejections,
    })
}

/// As a line of text may hold it: a peer may have chosen it.
fn shown(addr: &Multiaddr) -> String {
    escape(&addr.to_string())
}

fn style_of(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Reachable => GOOD,
        Verdict::Unreachable | Verdict::Filtered => BAD,
        _ => ASIDE,
    }
}

/// A verdict as a person would say it.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reachable => "reachable",
        Verdict::Filtered => "filtered",
        Verdict::Unreachable => "NOT reachable",
        _ => "not known",
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
