//! What to do about what was found out, and what the NAT looks like.

use std::collections::BTreeSet;

use libp2p::Multiaddr;
use libp2p_autonat_v2::{
    address::{self, PortProtocol},
    client::{NatMapping, Verdict},
};

use super::{
    End,
    report::{Answer, Report},
};

impl Report {
    pub(super) fn nat(&self) -> &'static str {
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
    pub(super) fn advice(&self) -> Vec<String> {
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
}

fn it(count: usize) -> &'static str {
    match count {
        1 => "it",
        _ => "them",
    }
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
