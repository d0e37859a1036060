//! What a [`Config`] holds, by the names of its `with_*` calls.

use std::{net::IpAddr, time::Duration};

use super::Config;
use crate::address::{IpFamily, Transport};

impl Config {
    /// See [`Self::with_private_addresses`].
    #[must_use]
    pub fn private_addresses(&self) -> bool {
        self.rules.private_addresses
    }

    /// See [`Self::with_names`].
    #[must_use]
    pub fn names(&self) -> bool {
        self.rules.names
    }

    /// See [`Self::with_refused_networks`].
    #[must_use]
    pub fn refused_networks(&self) -> &[(IpAddr, u8)] {
        &self.rules.refused
    }

    /// See [`Self::with_max_addresses`].
    #[must_use]
    pub fn max_addresses(&self) -> usize {
        self.rules.max_addresses
    }

    /// See [`Self::with_dialable`].
    #[must_use]
    pub fn dialable(&self) -> Option<&[(IpFamily, Transport)]> {
        self.dialable.as_deref()
    }

    /// See [`Self::with_max_requests_per_minute`].
    #[must_use]
    pub fn max_requests_per_minute(&self) -> u32 {
        self.limits.requests
    }

    /// See [`Self::with_max_requests_per_minute_per_peer`].
    #[must_use]
    pub fn max_requests_per_minute_per_peer(&self) -> u32 {
        self.limits.requests_of_peer
    }

    /// See [`Self::with_max_requests_per_minute_per_neighbourhood`].
    #[must_use]
    pub fn max_requests_per_minute_per_neighbourhood(&self) -> u32 {
        self.limits.requests_of_neighbourhood
    }

    /// See [`Self::with_neighbourhood`].
    #[must_use]
    pub fn neighbourhood(&self) -> (u8, u8) {
        (self.limits.v4_prefix, self.limits.v6_prefix)
    }

    /// See [`Self::with_max_dial_data_requests_per_minute`].
    #[must_use]
    pub fn max_dial_data_requests_per_minute(&self) -> u32 {
        self.limits.dial_data
    }

    /// See [`Self::with_max_dial_data_requests_per_minute_per_neighbourhood`].
    #[must_use]
    pub fn max_dial_data_requests_per_minute_per_neighbourhood(&self) -> u32 {
        self.limits.dial_data_of_neighbourhood
    }

    /// See [`Self::with_max_dials_per_minute_per_target`].
    #[must_use]
    pub fn max_dials_per_minute_per_target(&self) -> u32 {
        self.limits.target
    }

    /// See [`Self::with_max_concurrent_requests`].
    #[must_use]
    pub fn max_concurrent_requests(&self) -> u32 {
        self.limits.concurrent
    }

    /// See [`Self::with_max_concurrent_requests_per_peer`].
    #[must_use]
    pub fn max_concurrent_requests_per_peer(&self) -> u32 {
        self.limits.concurrent_of_peer
    }

    /// See [`Self::with_max_concurrent_dials`].
    #[must_use]
    pub fn max_concurrent_dials(&self) -> u32 {
        self.limits.dials
    }

    /// See [`Self::with_max_concurrent_quic_dials`].
    #[must_use]
    pub fn max_concurrent_quic_dials(&self) -> u32 {
        self.limits.quic_dials
    }

    /// See [`Self::with_max_streams_per_connection`].
    #[must_use]
    pub fn max_streams_per_connection(&self) -> usize {
        self.max_streams
    }

    /// See [`Self::with_max_message_len`].
    #[must_use]
    pub fn max_message_len(&self) -> usize {
        self.max_message_len
    }

    /// See [`Self::with_request_timeout`].
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.timing.request
    }

    /// See [`Self::with_read_timeout`].
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        self.timing.read
    }

    /// See [`Self::with_dial_data_timeout`].
    #[must_use]
    pub fn dial_data_timeout(&self) -> Duration {
        self.timing.dial_data
    }

    /// See [`Self::with_max_delay_after_dial_data`].
    #[must_use]
    pub fn max_delay_after_dial_data(&self) -> Duration {
        self.max_delay
    }

    /// See [`Self::with_dial_timeout`].
    #[must_use]
    pub fn dial_timeout(&self) -> Duration {
        self.timing.dial
    }

    /// See [`Self::with_dial_back_timeout`].
    #[must_use]
    pub fn dial_back_timeout(&self) -> Duration {
        self.timing.nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value is another than the default and its neighbours', so that no getter can read another field.
    #[test]
    fn what_was_set_is_told() {
        let secs = Duration::from_secs;
        let networks = [("192.0.2.0".parse().unwrap(), 24)];
        let dialable = [(IpFamily::V6, Transport::Tcp)];
        let config = Config::default()
            .with_private_addresses(true)
            .with_refused_networks(networks)
            .with_max_addresses(31)
            .with_dialable(dialable)
            .with_max_requests_per_minute(71)
            .with_max_requests_per_minute_per_peer(32)
            .with_max_requests_per_minute_per_neighbourhood(33)
            .with_neighbourhood(23, 55)
            .with_max_dial_data_requests_per_minute(34)
            .with_max_dial_data_requests_per_minute_per_neighbourhood(35)
            .with_max_dials_per_minute_per_target(36)
            .with_max_concurrent_requests(37)
            .with_max_concurrent_requests_per_peer(38)
            .with_max_concurrent_dials(39)
            .with_max_concurrent_quic_dials(40)
            .with_max_streams_per_connection(41)
            .with_max_message_len(9_000)
            .with_request_timeout(secs(42))
            .with_read_timeout(secs(43))
            .with_dial_data_timeout(secs(44))
            .with_max_delay_after_dial_data(secs(45))
            .with_dial_timeout(secs(46))
            .with_dial_back_timeout(secs(47));
        assert!(config.private_addresses() && !config.names());
        assert!(Config::default().with_names(true).names());
        assert_eq!(config.refused_networks(), networks);
        assert_eq!(config.max_addresses(), 31);
        assert_eq!(config.dialable(), Some(&dialable[..]));
        assert_eq!(config.max_requests_per_minute(), 71);
        assert_eq!(config.max_requests_per_minute_per_peer(), 32);
        assert_eq!(config.max_requests_per_minute_per_neighbourhood(), 33);
        assert_eq!(config.neighbourhood(), (23, 55));
        assert_eq!(config.max_dial_data_requests_per_minute(), 34);
        assert_eq!(
            config.max_dial_data_requests_per_minute_per_neighbourhood(),
            35
        );
        assert_eq!(config.max_dials_per_minute_per_target(), 36);
        assert_eq!(config.max_concurrent_requests(), 37);
        assert_eq!(config.max_concurrent_requests_per_peer(), 38);
        assert_eq!(config.max_concurrent_dials(), 39);
        assert_eq!(config.max_concurrent_quic_dials(), 40);
        assert_eq!(config.max_streams_per_connection(), 41);
        assert_eq!(config.max_message_len(), 9_000);
        assert_eq!(config.request_timeout(), secs(42));
        assert_eq!(config.read_timeout(), secs(43));
        assert_eq!(config.dial_data_timeout(), secs(44));
        assert_eq!(config.max_delay_after_dial_data(), secs(45));
        assert_eq!(config.dial_timeout(), secs(46));
        assert_eq!(config.dial_back_timeout(), secs(47));
    }
}
