//! The command line: where to listen, who the server is, and what its limits are.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args as ClapArgs;
use libp2p::Multiaddr;
use libp2p_autonat_v2::server::Config;

use crate::transport::Names;

/// Serve AutoNAT v2: dial addresses for clients and tell them whether it got through
///
/// The defaults are safe on the open Internet. It prints its addresses, a line for each request, and what it did when it
/// stops. SIGINT or SIGTERM lets the requests under way end and then exits with 0; a second one exits at once.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 stopped by a signal, 1 failed, 2 a mistake on the command line or in the file."
)]
pub(crate) struct Args {
    /// Read options from this TOML file, under their names: `requests-per-peer = 20`. Those given here go before
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// File with the server's key; created, readable by its owner only, if it does not exist
    #[arg(long, value_name = "FILE", default_value = "autonat-server.key")]
    pub(crate) key: PathBuf,

    /// Listen here, TCP or QUIC [default: port 4001 of TCP and UDP, IPv4 and IPv6]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,

    /// Announce this address, one that a router maps to this machine
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) external: Vec<Multiaddr>,

    /// Dial back with a swarm of its own, so that the node's other connections see nothing of it
    #[arg(long)]
    pub(crate) own_dialer: bool,

    /// Dial back from this second IP over QUIC, which clients have never contacted: the strictest test. Implies --own-dialer
    #[arg(long, value_name = "IP")]
    pub(crate) dial_from: Vec<IpAddr>,

    /// Serve metrics in OpenMetrics form over HTTP at this address, under /metrics
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Connections at once, of all peers
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) max_connections: u32,

    /// Seconds until an idle connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) idle_timeout: u64,

    /// Don't print a line for each request
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) policy: Policy,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What is dialed.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Policy")]
pub(crate) struct Policy {
    /// Dial private addresses too. For networks of your own: on the Internet it lets strangers probe your hosts
    #[arg(long)]
    allow_private: bool,

    /// Dial names too. Whoever owns a name can let it point into your network
    #[arg(long)]
    allow_names: bool,

    /// Don't dial addresses in this network, even if they are public: your own, for example
    #[arg(long, value_name = "IP/BITS", value_parser = network)]
    refuse_network: Vec<(IpAddr, u8)>,

    /// Addresses of a request that are looked at [default: 50]
    #[arg(long, value_name = "N")]
    max_addresses: Option<usize>,
}

/// How often, how much and how long.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Requests per minute in all [default: 900]
    #[arg(long, value_name = "N")]
    requests: Option<u32>,
    /// Requests per minute of one peer [default: 12]
    #[arg(long, value_name = "N")]
    requests_per_peer: Option<u32>,
    /// Requests per minute from one IP neighbourhood [default: 15]
    #[arg(long, value_name = "N")]
    requests_per_neighbourhood: Option<u32>,
    /// Prefix length of an IPv4 neighbourhood [default: 24]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(..=32))]
    v4_prefix: Option<u8>,
    /// Prefix length of an IPv6 neighbourhood [default: 56]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(..=128))]
    v6_prefix: Option<u8>,
    /// Requests per minute that need dial data, in all [default: 12]
    #[arg(long, value_name = "N")]
    dial_data: Option<u32>,
    /// Requests per minute that need dial data, from one neighbourhood [default: 3]
    #[arg(long, value_name = "N")]
    dial_data_per_neighbourhood: Option<u32>,
    /// Dials per minute of one IP that is not the client's [default: 12]
    #[arg(long, value_name = "N")]
    dials_per_target: Option<u32>,
    /// Requests at once [default: 64]
    #[arg(long, value_name = "N")]
    concurrent_requests: Option<u32>,
    /// Requests of one peer at once [default: 2]
    #[arg(long, value_name = "N")]
    concurrent_requests_per_peer: Option<u32>,
    /// Dial-backs at once [default: 64]
    #[arg(long, value_name = "N")]
    concurrent_dials: Option<u32>,
    /// Request streams on one connection [default: 16]
    #[arg(long, value_name = "N")]
    streams_per_connection: Option<usize>,
    /// Longest message that is read, in bytes [default: 8192]
    #[arg(long, value_name = "BYTES")]
    message_len: Option<usize>,
    /// Milliseconds for a whole request [default: 9000]
    #[arg(long, value_name = "MS")]
    request_timeout: Option<u64>,
    /// Milliseconds for reading it [default: 2000]
    #[arg(long, value_name = "MS")]
    read_timeout: Option<u64>,
    /// Milliseconds for its dial data [default: 4000]
    #[arg(long, value_name = "MS")]
    dial_data_timeout: Option<u64>,
    /// Longest random wait after dial data, in milliseconds [default: 3000]
    #[arg(long, value_name = "MS")]
    dial_data_delay: Option<u64>,
    /// Milliseconds for a dial [default: 6000]
    #[arg(long, value_name = "MS")]
    dial_timeout: Option<u64>,
    /// Milliseconds for delivering the nonce [default: 3000]
    #[arg(long, value_name = "MS")]
    dial_back_timeout: Option<u64>,
}

impl Policy {
    pub(crate) fn names(&self) -> Names {
        match self.allow_names {
            true => Names::Dialed,
            false => Names::Refused,
        }
    }
}

impl Args {
    /// Where to listen, and whether it was asked for and must work.
    pub(crate) fn listen(&self) -> Vec<(Multiaddr, bool)> {
        if !self.listen.is_empty() {
            return self
                .listen
                .iter()
                .map(|addr| (addr.clone(), true))
                .collect();
        }
        let defaults = [
            ("/ip4/0.0.0.0/tcp/4001", true),
            ("/ip4/0.0.0.0/udp/4001/quic-v1", true),
            ("/ip6/::/tcp/4001", false),
            ("/ip6/::/udp/4001/quic-v1", false),
        ];
        let parsed = defaults
            .iter()
            .filter_map(|(text, must)| Some((text.parse().ok()?, *must)));
        parsed.collect()
    }

    /// The server's configuration.
    pub(crate) fn config(&self) -> Config {
        let (policy, limits) = (&self.policy, &self.limits);
        let config = Config::default()
            .with_private_addresses(policy.allow_private)
            .with_names(policy.allow_names)
            .with_refused_networks(policy.refuse_network.iter().copied())
            .with_neighbourhood(
                limits.v4_prefix.unwrap_or(24),
                limits.v6_prefix.unwrap_or(56),
            );
        let config = set(config, policy.max_addresses, Config::with_max_addresses);
        let counts: [(Option<u32>, With<u32>); 9] = [
            (limits.requests, Config::with_max_requests_per_minute),
            (
                limits.requests_per_peer,
                Config::with_max_requests_per_minute_per_peer,
            ),
            (
                limits.requests_per_neighbourhood,
                Config::with_max_requests_per_minute_per_neighbourhood,
            ),
            (
                limits.dial_data,
                Config::with_max_dial_data_requests_per_minute,
            ),
            (
                limits.dial_data_per_neighbourhood,
                Config::with_max_dial_data_requests_per_minute_per_neighbourhood,
            ),
            (
                limits.dials_per_target,
                Config::with_max_dials_per_minute_per_target,
            ),
            (
                limits.concurrent_requests,
                Config::with_max_concurrent_requests,
            ),
            (
                limits.concurrent_requests_per_peer,
                Config::with_max_concurrent_requests_per_peer,
            ),
            (limits.concurrent_dials, Config::with_max_concurrent_dials),
        ];
        let config = counts
            .into_iter()
            .fold(config, |config, (value, with)| set(config, value, with));
        let config = set(
            config,
            limits.streams_per_connection,
            Config::with_max_streams_per_connection,
        );
        let config = set(config, limits.message_len, Config::with_max_message_len);
        let times: [(Option<u64>, With<Duration>); 6] = [
            (limits.request_timeout, Config::with_request_timeout),
            (limits.read_timeout, Config::with_read_timeout),
            (limits.dial_data_timeout, Config::with_dial_data_timeout),
            (
                limits.dial_data_delay,
                Config::with_max_delay_after_dial_data,
            ),
            (limits.dial_timeout, Config::with_dial_timeout),
            (limits.dial_back_timeout, Config::with_dial_back_timeout),
        ];
        times.into_iter().fold(config, |config, (value, with)| {
            set(config, value.map(Duration::from_millis), with)
        })
    }
}

/// An option of the configuration.
type With<T> = fn(Config, T) -> Config;

/// Sets what was given, and leaves the default otherwise.
fn set<T>(config: Config, value: Option<T>, with: impl FnOnce(Config, T) -> Config) -> Config {
    match value {
        Some(value) => with(config, value),
        None => config,
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let mistake = || "not a network. One looks like 203.0.113.0/24 or 2001:db8::/32".to_owned();
    let (ip, bits) = text.split_once('/').ok_or_else(mistake)?;
    let ip: IpAddr = ip.parse().map_err(|_| mistake())?;
    let bits: u8 = bits.parse().map_err(|_| mistake())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    (bits <= longest).then_some((ip, bits)).ok_or_else(mistake)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: Args,
    }

    /// Each option against the setter that it stands for. The configuration tells its values to `Debug` only.
    #[test]
    fn each_option_sets_what_it_says() {
        let ms = Duration::from_millis;
        let networks = [
            ([192, 0, 2, 0].into(), 24),
            ("2001:db8::".parse().expect("an IP"), 32),
        ];
        let config = Config::default;
        let options: [(&[&str], Config); 24] = [
            (&[], config()),
            (&["--allow-private"], config().with_private_addresses(true)),
            (&["--allow-names"], config().with_names(true)),
            (
                &[
                    "--refuse-network=192.0.2.0/24",
                    "--refuse-network=2001:db8::/32",
                ],
                config().with_refused_networks(networks),
            ),
            (&["--max-addresses=7"], config().with_max_addresses(7)),
            (&["--requests=7"], config().with_max_requests_per_minute(7)),
            (
                &["--requests-per-peer=7"],
                config().with_max_requests_per_minute_per_peer(7),
            ),
            (
                &["--requests-per-neighbourhood=7"],
                config().with_max_requests_per_minute_per_neighbourhood(7),
            ),
            (&["--v4-prefix=17"], config().with_neighbourhood(17, 56)),
            (&["--v6-prefix=47"], config().with_neighbourhood(24, 47)),
            (
                &["--dial-data=7"],
                config().with_max_dial_data_requests_per_minute(7),
            ),
            (
                &["--dial-data-per-neighbourhood=5"],
                config().with_max_dial_data_requests_per_minute_per_neighbourhood(5),
            ),
            (
                &["--dials-per-target=7"],
                config().with_max_dials_per_minute_per_target(7),
            ),
            (
                &["--concurrent-requests=7"],
                config().with_max_concurrent_requests(7),
            ),
            (
                &["--concurrent-requests-per-peer=7"],
                config().with_max_concurrent_requests_per_peer(7),
            ),
            (
                &["--concurrent-dials=7"],
                config().with_max_concurrent_dials(7),
            ),
            (
                &["--streams-per-connection=7"],
                config().with_max_streams_per_connection(7),
            ),
            (&["--message-len=7777"], config().with_max_message_len(7777)),
            (
                &["--request-timeout=7777"],
                config().with_request_timeout(ms(7777)),
            ),
            (
                &["--read-timeout=1777"],
                config().with_read_timeout(ms(1777)),
            ),
            (
                &["--dial-data-timeout=1777"],
                config().with_dial_data_timeout(ms(1777)),
            ),
            (
                &["--dial-data-delay=1777"],
                config().with_max_delay_after_dial_data(ms(1777)),
            ),
            (
                &["--dial-timeout=1777"],
                config().with_dial_timeout(ms(1777)),
            ),
            (
                &["--dial-back-timeout=1777"],
                config().with_dial_back_timeout(ms(1777)),
            ),
        ];
        let default = format!("{:?}", config());
        for (given, wanted) in options {
            let args = Given::parse_from([&["serve"], given].concat()).args;
            let wanted = format!("{wanted:?}");
            assert_eq!(format!("{:?}", args.config()), wanted, "{given:?}");
            assert_eq!(wanted == default, given.is_empty(), "{given:?}");
        }
    }
}
