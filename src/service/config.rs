//! The options of the server, with their units, defaults, costs and risks.

use std::{net::IpAddr, time::Duration};

use super::{
    job::Timing,
    limits::{Limits, MAX_REQUESTS_PER_MINUTE},
    policy::Rules,
};
use crate::address::{IpFamily, Transport};
use crate::protocol;

/// Configuration of the [`Behaviour`](crate::server::Behaviour).
///
/// The defaults are safe and useful on a public node: nobody needs to change them to leave a server on.
/// A server costs what its limits allow and no more, whatever clients do:
///
/// | resource | bound with the defaults |
/// |---|---|
/// | dials | 900 a minute, 64 at once |
/// | received as dial data | 12 times 130 kB a minute, and 22 kB from each who gives up early: 26 kB/s, or 350 if clients in 220 networks do |
/// | memory for requests | 64 requests of at most 24 KiB |
/// | memory for dial-backs over QUIC | 24 of 3 MB |
/// | memory for rates | about 5,500 entries of at most 200 bytes |
/// | streams per connection | 16, without buffers until they are served |
///
/// Durations are [`Duration`]s and never over an hour, rates are per minute, sizes are in bytes. Each option says where
/// its default comes from, what it costs to raise it, and what goes wrong if it is set badly; a limit of zero does what
/// the option says.
///
/// What no option can express: **a WebSocket transport must not follow redirects.** With
/// `libp2p_websocket::Config::set_max_redirects` over zero (zero is its default) whoever is dialed can send the dial on to
/// any host and port, past every rule here.
///
/// Whoever runs a public server far from its limits should leave them; a server for a private
/// network with many nodes behind one IP should raise
/// [`with_max_requests_per_minute_per_neighbourhood`](Self::with_max_requests_per_minute_per_neighbourhood).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) timing: Timing,
    pub(crate) max_delay: Duration,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    pub(crate) max_streams: usize,
    pub(crate) max_message_len: usize,
    pub(crate) dialable: Option<Vec<(IpFamily, Transport)>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timing: Timing {
                request: Duration::from_secs(9),
                read: Duration::from_secs(2),
                dial_data: Duration::from_secs(4),
                dial: Duration::from_secs(6),
                nonce: Duration::from_secs(3),
            },
            max_delay: Duration::from_secs(3),
            limits: Limits {
                requests: 900,
                requests_of_peer: 12,
                requests_of_neighbourhood: 15,
                dial_data: 12,
                dial_data_of_neighbourhood: 3,
                target: 12,
                concurrent: 64,
                concurrent_of_peer: 2,
                dials: 64,
                quic_dials: 24,
                v4_prefix: 24,
                v6_prefix: 56,
            },
            rules: Rules {
                private_addresses: false,
                names: false,
                max_addresses: protocol::MAX_ADDRESSES,
                refused: Vec::new(),
            },
            max_streams: 16,
            max_message_len: protocol::MAX_MESSAGE_LEN,
            dialable: None,
        }
    }
}

/// What is dialed. [`PassedOver`](super::PassedOver) lists what is not, whatever is configured here.
impl Config {
    /// Dial private addresses too: loopback, RFC 1918, unique local, shared and link-local ones. Default: `false`, as in
    /// the specification's advice.
    ///
    /// For test networks and networks of one's own; costs nothing. On the Internet this lets every stranger make this
    /// node connect to any port of this host and of the networks that it is on. Multicast, unspecified and reserved addresses
    /// are not dialed in any case.
    #[must_use]
    pub const fn with_private_addresses(mut self, allowed: bool) -> Self {
        self.rules.private_addresses = allowed;
        self
    }

    /// Dial names (`/dns`, `/dns4`, `/dns6`). Default: `false`, as in the specification's advice.
    ///
    /// Whoever owns a name decides what it resolves to, and may let it point into this node's own
    /// network after the request was accepted: with this on, the rules on private addresses and
    /// on the server's own addresses do not protect. Use it only where the node can reach nothing that
    /// strangers cannot. Dial data is asked for every name; all names together share one limit on
    /// dials per target. One name may stand for many hosts, of which `libp2p-dns` dials up to 16. `/dnsaddr` is never
    /// dialed.
    #[must_use]
    pub const fn with_names(mut self, allowed: bool) -> Self {
        self.rules.names = allowed;
        self
    }

    /// Never dial into these networks, each an IP and the length of its prefix in bits. Default: none.
    ///
    /// For hosts with public IPs that only this node and its neighbours can reach: behind the same firewall, or behind a
    /// NAT64 with a prefix of its own, which leads to private IPv4 addresses. The node's own IPs need not be listed, nor its
    /// LAN, which is dialed only for clients that are in it. For its LAN it takes the /24 or /64 of the address that it would
    /// dial from, and the /64 of each IPv6 address that it listens on or has confirmed. **If the LAN has public IPs and is
    /// larger than that, list it.**
    ///
    /// An IPv4 network also stands for the IPv6 addresses that wrap it (IPv4-mapped, NAT64's well-known prefix, 6to4,
    /// Teredo). Costs one comparison per network and address of a request. Clients in a refused network are refused.
    #[must_use]
    pub fn with_refused_networks(
        mut self,
        networks: impl IntoIterator<Item = (IpAddr, u8)>,
    ) -> Self {
        self.rules.refused = networks.into_iter().collect();
        self
    }

    /// How many addresses of a request are looked at, from the first. Default: 50, as in go-libp2p.
    ///
    /// Each costs a parse, an allocation and a few comparisons. With a small number, clients that put addresses first
    /// which this server cannot dial are refused; with 0, all are.
    #[must_use]
    pub const fn with_max_addresses(mut self, addresses: usize) -> Self {
        self.rules.max_addresses = addresses;
        self
    }

    /// Fixes what this node can dial. Default: learned.
    ///
    /// By default, a family and transport is dialed if the node has a listener of that kind, or has
    /// dialed one successfully within the last hour, and its transport did not refuse one within
    /// the last ten minutes. One that has only a listener to show for itself is not dialed for ten minutes after dials
    /// timed out in eight networks, with no answer and no inbound connection within the hour: a firewall is likely. A pair
    /// that is listed here in error makes the server report
    /// `E_DIAL_ERROR` to clients that are reachable; one that is missing is refused.
    #[must_use]
    pub fn with_dialable(
        mut self,
        dialable: impl IntoIterator<Item = (IpFamily, Transport)>,
    ) -> Self {
        self.dialable = Some(dialable.into_iter().collect());
        self
    }
}

/// How often and how much. Whoever is over a limit gets `E_REQUEST_REJECTED`, before the request is
/// read wherever it can be told by then. A rejected request counts towards no limit.
///
/// "Per minute" means: within any 60 s. It takes up to 65 s until a use no longer counts.
impl Config {
    /// Requests per minute in all. Default: 900, where go-libp2p has 60. At most 65,536; more is taken for that.
    ///
    /// A node that starts makes ten requests or so, and where one node in a hundred serves and all start in the same minute,
    /// a server hears from a hundred. Most requests are for the client's own IP: what comes of those, it could send itself, and
    /// a server takes 3.6 ms of CPU for each at the most. Those for another IP have [a limit of their
    /// own](Self::with_max_dial_data_requests_per_minute).
    ///
    /// This bounds the dials that strangers can cause, and the memory: at most 1.5 kB for each request per
    /// minute. With 0 every request is rejected.
    ///
    /// Whoever asks from enough networks can use it up, and the others are rejected; they ask another server then. So
    /// that this takes more than one provider's customer, no /16 of IPv4 and no /32 of IPv6 gets more than a third, nor more
    /// than a third of the [dial data](Self::with_max_dial_data_requests_per_minute), unless the limit on a neighbourhood
    /// is higher. All relayed clients together get a tenth of both, rounded up. A host that has all three leaves something
    /// to the others.
    #[must_use]
    pub const fn with_max_requests_per_minute(mut self, requests: u32) -> Self {
        self.limits.requests = if requests < MAX_REQUESTS_PER_MINUTE {
            requests
        } else {
            MAX_REQUESTS_PER_MINUTE
        };
        self
    }

    /// Requests per minute of one peer. Default: 12, as in go-libp2p.
    ///
    /// A client that has just started asks several times in a row, later once or less per hour. Peer
    /// ids are free, so this only keeps honest clients from crowding others out. Too low, and clients learn slowly; with 0
    /// every request is rejected.
    #[must_use]
    pub const fn with_max_requests_per_minute_per_peer(mut self, requests: u32) -> Self {
        self.limits.requests_of_peer = requests;
        self
    }

    /// Requests per minute from one IP neighbourhood, see
    /// [`with_neighbourhood`](Self::with_neighbourhood). Default: 15, a little more than one peer may make.
    ///
    /// Keep it well under a third of the requests in all, which is what its network gets: it is what leaves something for
    /// others, in the network and elsewhere, when somebody with many peer ids asks without end. Clients behind one carrier-grade NAT share it. With 0 every request is rejected.
    #[must_use]
    pub const fn with_max_requests_per_minute_per_neighbourhood(mut self, requests: u32) -> Self {
        self.limits.requests_of_neighbourhood = requests;
        self
    }

    /// The prefix lengths that make a neighbourhood, in bits. Default: 24 for IPv4, the smallest network that is routed on
    /// its own; 56 for IPv6, a common size for one customer (RFC 6177). More than 32 and 128 count as those.
    ///
    /// Longer prefixes let one attacker be many; shorter ones let many clients share one limit. With 0 all of a family are
    /// one neighbourhood.
    #[must_use]
    pub const fn with_neighbourhood(mut self, v4_prefix: u8, v6_prefix: u8) -> Self {
        self.limits.v4_prefix = if v4_prefix > 32 { 32 } else { v4_prefix };
        self.limits.v6_prefix = if v6_prefix > 128 { 128 } else { v6_prefix };
        self
    }

    /// Requests per minute that need dial data, in all. Default: 12, as in go-libp2p.
    ///
    /// Each brings in up to 100,000 bytes of dial data, and up to an eighth more of what is around it. A higher number helps clients with several
    /// IPs, at the price of traffic, and lets more dials go to IPs that are not the client's. With 0 only the IP that a client
    /// is connected from is tested, and relayed clients never are.
    ///
    /// A request that ends before an eighth of its dial data has come does not count here, nor for its
    /// [target](Self::with_max_dials_per_minute_per_target), so that those who never pay leave something to those who would.
    /// It counts for its neighbourhood and network.
    #[must_use]
    pub const fn with_max_dial_data_requests_per_minute(mut self, requests: u32) -> Self {
        self.limits.dial_data = requests;
        self
    }

    /// Requests per minute that need dial data, from one IP neighbourhood. Default: 3, a quarter of those in all.
    ///
    /// So one neighbourhood leaves three quarters to the others. With 0 none is served, as with 0 in all. A neighbourhood whose limit is over a third of
    /// those in all takes its network along.
    #[must_use]
    pub const fn with_max_dial_data_requests_per_minute_per_neighbourhood(
        mut self,
        requests: u32,
    ) -> Self {
        self.limits.dial_data_of_neighbourhood = requests;
        self
    }

    /// Dials per minute of one IP (IPv6: of one /64), unless the client that asks has this IP itself. Default: 12, as many as
    /// one client could ask for.
    ///
    /// Many clients could otherwise send many servers to one victim, each of them within its own limit
    /// (libp2p/specs issue 640). A higher number is the victim's cost, not this node's. With 0 only the IP that a client is
    /// connected from is tested.
    #[must_use]
    pub const fn with_max_dials_per_minute_per_target(mut self, dials: u32) -> Self {
        self.limits.target = dials;
        self
    }

    /// Requests at once. Default: 64. A dial that gets no answer takes 6 s, so that ten of those are served in a second.
    ///
    /// Where many come at once this limit binds before that per minute, and leaves something of the minute to those who come
    /// later. A request holds a stream and a buffer of up to three messages. A client
    /// that stalls holds its place until the step's deadline. With 0 every request is rejected.
    #[must_use]
    pub const fn with_max_concurrent_requests(mut self, requests: u32) -> Self {
        self.limits.concurrent = requests;
        self
    }

    /// Requests of one peer at once. Default: 2, as in go-libp2p. With 0 every request is rejected.
    ///
    /// A higher number lets one peer hold more of the places for all; it helps clients that have several addresses tested at
    /// the same time.
    #[must_use]
    pub const fn with_max_concurrent_requests_per_peer(mut self, requests: u32) -> Self {
        self.limits.concurrent_of_peer = requests;
        self
    }

    /// Dial-backs at once. Default: 64, as many as requests: most of those wait for a dial, and a dial may outlive its request.
    ///
    /// Each holds a socket and a handshake, and counts until its socket is gone; see [`BoundedClose`](crate::server::BoundedClose) for
    /// targets that keep it. Those that are over but hold theirs take at most a quarter of the places for each neighbourhood.
    /// With 0 every request is rejected. In the node's own swarm a dial that nobody waits
    /// for any more counts until the transport gives it up, since it cannot be aborted there. Give the transport a timeout
    /// (the [`SwarmBuilder`](https://docs.rs/libp2p/0.57/libp2p/struct.SwarmBuilder.html) sets one of 10 s): without one, a
    /// target that accepts a TCP connection and says nothing keeps its place for good, and few of them stop the server.
    /// [A swarm of its own](crate::server::Behaviour::with_dialer) aborts such dials.
    #[must_use]
    pub const fn with_max_concurrent_dials(mut self, dials: u32) -> Self {
        self.limits.dials = dials;
        self
    }

    /// Dial-backs over QUIC at once. Default: 24: a dial that gets no answer takes its place for 8 s, so that 180 of those are served
    /// in a minute. With 16 a crowd still gets its answers, later.
    ///
    /// A dial from a new port is a QUIC endpoint of its own, and quinn gives each a receive buffer of 3 MB, which stays until the
    /// connection has drained: a tenth of a second to three seconds after it is closed, by an estimate that counts. So the default takes
    /// 72 MB at the most, and 130 MB with what glibc's allocator keeps. [`FreshPorts`](crate::server::FreshPorts) lets dials share
    /// endpoints: a crowd then takes 36 MB, and 46 MB with 64 at once. `MALLOC_MMAP_THRESHOLD_=1000000` in the environment makes
    /// that 20 MB, and 26 MB with 64. A dial that finds all places taken waits for as long as it would still have a fair chance,
    /// and is rejected then. With 0 nothing is dialed over QUIC. A dialer that [dials from its
    /// listeners](crate::server::DialBack::with_dials_from_listeners) has no such buffers and can have more.
    #[must_use]
    pub const fn with_max_concurrent_quic_dials(mut self, dials: u32) -> Self {
        self.limits.quic_dials = dials;
        self
    }

    /// Dial-request streams that are kept on one connection. Default: 16; libp2p-autonat 0.16 opens 10 at once.
    ///
    /// More than the concurrent requests of a peer, so that those over the limit can be told so: a rejected stream stays until
    /// the client has read so, for 2 s at most. It has no buffers here, but what the muxer has for it. Streams
    /// beyond are dropped without an answer, and counted as misbehaviour. With 0 that happens to all of them. To serve nobody,
    /// allow no requests instead.
    #[must_use]
    pub const fn with_max_streams_per_connection(mut self, streams: usize) -> Self {
        self.max_streams = streams;
        self
    }

    /// The longest message that is read, in bytes. Default: 8,192, as in go-libp2p. At most 65,536; more is taken for that.
    ///
    /// Each request at once may hold a buffer of three times that. With less than 4,102, clients that send dial data in full
    /// messages of 4,096 bytes are cut off; with less than 1,024, those that send a request as long as every implementation
    /// takes; with 0, all.
    #[must_use]
    pub const fn with_max_message_len(mut self, bytes: usize) -> Self {
        self.max_message_len = if bytes < MAX_MESSAGE_LEN {
            bytes
        } else {
            MAX_MESSAGE_LEN
        };
        self
    }
}

/// How long. Each step has a deadline of its own, and all of them end with that of the request. More than
/// an hour is taken for an hour.
impl Config {
    /// From the opening of the stream to the answer. Default: 9 s.
    ///
    /// The clients of `libp2p-autonat` 0.16 give up after 10 s, those of go-libp2p after 15 s, and take a
    /// server that answers later for a lost one. A dial that is left with less than 2 s, as with under 4 s here, and is not
    /// established by then is answered `E_INTERNAL_ERROR`: that says nothing about the address. With 0 nobody is served.
    #[must_use]
    pub const fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.timing.request = at_most_an_hour(timeout);
        self
    }

    /// For reading the request. Default: 2 s, some round trips: a client sends it right after it opened the stream.
    ///
    /// Longer, and clients that stall hold their places longer; shorter, and those on slow links are cut off, all of them
    /// with 0.
    #[must_use]
    pub const fn with_read_timeout(mut self, timeout: Duration) -> Self {
        self.timing.read = at_most_an_hour(timeout);
        self
    }

    /// For receiving all of the dial data. Default: 4 s, which takes an uplink of 0.2 Mbit/s and leaves time for the dial.
    ///
    /// Bytes that trickle in do not prolong it. Longer, and clients that stall hold their places longer; with 0 none can pay.
    #[must_use]
    pub const fn with_dial_data_timeout(mut self, timeout: Duration) -> Self {
        self.timing.dial_data = at_most_an_hour(timeout);
        self
    }

    /// The longest wait between dial data and dial. Default: 3 s, as in go-libp2p. The wait is random, uniform from zero.
    ///
    /// It spreads the dials of many servers that one attacker sends to the same target. Zero in tests;
    /// on the Internet zero gives that up. It costs the client time and the server nothing. It is cut short where the
    /// dial would come too late.
    #[must_use]
    pub const fn with_max_delay_after_dial_data(mut self, delay: Duration) -> Self {
        self.max_delay = at_most_an_hour(delay);
        self
    }

    /// For establishing the dialed connection, handshakes included. Default: 6 s: two lost TCP SYNs (RFC 6298) and a slow
    /// handshake, and it leaves time within 9 s. After that the client is told `E_DIAL_ERROR`.
    ///
    /// Too short condemns reachable clients on slow links, 0 all of them. Longer holds sockets longer.
    #[must_use]
    pub const fn with_dial_timeout(mut self, timeout: Duration) -> Self {
        self.timing.dial = at_most_an_hour(timeout);
        self
    }

    /// For delivering the nonce on the dialed connection. Default: 3 s, a few round trips; go-libp2p has 5 s, in 15 s for a
    /// request. After that the client is told `E_DIAL_BACK_ERROR`, and the connection is closed.
    ///
    /// Too short condemns slow clients, 0 all of them. Longer holds sockets longer.
    #[must_use]
    pub const fn with_dial_back_timeout(mut self, timeout: Duration) -> Self {
        self.timing.nonce = at_most_an_hour(timeout);
        self
    }
}

/// Longer messages cannot be configured. No request needs more: it has room for 63 addresses of the greatest length that is read.
const MAX_MESSAGE_LEN: usize = 65_536;

/// So that no sum with the time of day overflows.
const fn at_most_an_hour(duration: Duration) -> Duration {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    if duration.as_secs() < HOUR.as_secs() {
        duration
    } else {
        HOUR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_can_be_configured_overflows() {
        let config = Config::default()
            .with_request_timeout(Duration::MAX)
            .with_read_timeout(Duration::MAX)
            .with_dial_data_timeout(Duration::MAX)
            .with_dial_timeout(Duration::MAX)
            .with_dial_back_timeout(Duration::MAX)
            .with_max_delay_after_dial_data(Duration::MAX)
            .with_max_requests_per_minute(u32::MAX)
            .with_max_message_len(usize::MAX)
            .with_neighbourhood(255, 255);
        let now = web_time::Instant::now();
        assert!(now + config.timing.request + config.max_delay > now);
        assert_eq!(config.limits.requests, MAX_REQUESTS_PER_MINUTE);
        assert_eq!(config.max_message_len, MAX_MESSAGE_LEN);
        assert_eq!(
            (config.limits.v4_prefix, config.limits.v6_prefix),
            (32, 128)
        );
    }
}
