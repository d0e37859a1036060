//! What a [`Config`] holds, by the names of its `with_*` calls.

use std::time::Duration;

use crate::{
    address::Neighbourhood,
    reachability::{Config, Vantage},
};

impl Config {
    /// See [`Self::with_private_addresses`].
    #[must_use]
    pub fn private_addresses(&self) -> bool {
        self.allow_private
    }

    /// See [`Self::with_max_addresses`].
    #[must_use]
    pub fn max_addresses(&self) -> usize {
        self.max_addresses
    }

    /// See [`Self::with_max_servers`].
    #[must_use]
    pub fn max_servers(&self) -> usize {
        self.max_servers
    }

    /// See [`Self::with_max_contacted_ips`].
    #[must_use]
    pub fn max_contacted_ips(&self) -> usize {
        self.max_contacted_ips
    }

    /// See [`Self::with_contact_lifetime`].
    #[must_use]
    pub fn contact_lifetime(&self) -> Duration {
        self.contact_lifetime
    }

    /// See [`Self::with_max_parallel`].
    #[must_use]
    pub fn max_parallel(&self) -> usize {
        self.max_parallel
    }

    /// See [`Self::with_max_in_flight`].
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// See [`Self::with_addresses_per_request`].
    #[must_use]
    pub fn addresses_per_request(&self) -> usize {
        self.addresses_per_request
    }

    /// See [`Self::with_gather_delay`].
    #[must_use]
    pub fn gather_delay(&self) -> Duration {
        self.gather_delay
    }

    /// See [`Self::with_recheck`].
    #[must_use]
    pub fn recheck(&self) -> (Duration, Duration) {
        (self.recheck_min, self.recheck_max)
    }

    /// See [`Self::with_request_timeouts`].
    #[must_use]
    pub fn request_timeouts(&self) -> (Duration, Duration) {
        (self.request_timeout, self.batch_timeout)
    }

    /// See [`Self::with_outcome_lifetime`].
    #[must_use]
    pub fn outcome_lifetime(&self) -> Duration {
        self.outcome_lifetime
    }

    /// See [`Self::with_requests_per_minute`].
    #[must_use]
    pub fn requests_per_minute(&self) -> usize {
        self.requests_per_minute
    }

    /// See [`Self::with_dial_data_budget`].
    #[must_use]
    pub fn dial_data_budget(&self) -> (u64, u64) {
        (self.max_dial_data, self.dial_data_per_hour)
    }

    /// See [`Self::with_required_vantage`].
    #[must_use]
    pub fn required_vantage(&self) -> Vantage {
        self.required_vantage
    }

    /// See [`Self::with_required_confidence`].
    #[must_use]
    pub fn required_confidence(&self) -> f64 {
        f64::from(self.required_confidence) / 1e6
    }

    /// See [`Self::with_required_servers`].
    #[must_use]
    pub fn required_servers(&self) -> usize {
        self.required_servers
    }

    /// See [`Self::with_confirmations`].
    #[must_use]
    pub fn confirmations(&self) -> bool {
        self.confirms
    }

    /// See [`Self::with_never_announced`].
    #[must_use]
    pub fn never_announced(&self) -> &[Neighbourhood] {
        &self.never_announced
    }

    /// See [`Self::with_expire_foreign`].
    #[must_use]
    pub fn expire_foreign(&self) -> bool {
        self.expire_foreign
    }

    /// See [`Self::with_connection_limit`].
    #[must_use]
    pub fn connection_limit(&self) -> Option<u32> {
        self.connection_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value is another than the default, so that no getter can read a neighbour's field.
    #[test]
    fn what_was_set_is_told() {
        let (short, long) = (Duration::from_secs(71), Duration::from_secs(72));
        let networks = [("192.0.2.0".parse().unwrap(), 24)];
        let config = Config::default()
            .with_private_addresses(true)
            .with_max_addresses(51)
            .with_max_servers(52)
            .with_max_contacted_ips(53)
            .with_contact_lifetime(Duration::from_secs(54))
            .with_max_parallel(4)
            .with_max_in_flight(55)
            .with_addresses_per_request(5)
            .with_gather_delay(Duration::from_secs(56))
            .with_recheck(short, long)
            .with_request_timeouts(2 * short, 2 * long)
            .with_outcome_lifetime(Duration::from_secs(57))
            .with_requests_per_minute(7)
            .with_dial_data_budget(58, 59)
            .with_required_vantage(Vantage::Independent)
            .with_required_confidence(0.6)
            .with_required_servers(8)
            .with_confirmations(false)
            .with_never_announced(networks)
            .with_expire_foreign(true)
            .with_connection_limit(Some(61));
        assert!(config.private_addresses() && config.expire_foreign());
        assert!(!config.confirmations());
        assert_eq!(config.max_addresses(), 51);
        assert_eq!(config.max_servers(), 52);
        assert_eq!(config.max_contacted_ips(), 53);
        assert_eq!(config.contact_lifetime(), Duration::from_secs(54));
        assert_eq!(config.max_parallel(), 4);
        assert_eq!(config.max_in_flight(), 55);
        assert_eq!(config.addresses_per_request(), 5);
        assert_eq!(config.gather_delay(), Duration::from_secs(56));
        assert_eq!(config.recheck(), (short, long));
        assert_eq!(config.request_timeouts(), (2 * short, 2 * long));
        assert_eq!(config.outcome_lifetime(), Duration::from_secs(57));
        assert_eq!(config.requests_per_minute(), 7);
        assert_eq!(config.dial_data_budget(), (58, 59));
        assert_eq!(config.required_vantage(), Vantage::Independent);
        assert_eq!(config.required_confidence(), 0.6);
        assert_eq!(config.required_servers(), 8);
        let [(ip, prefix)] = networks;
        let network = crate::address::neighbourhood(ip, prefix, prefix);
        assert_eq!(config.never_announced(), [network]);
        assert_eq!(config.connection_limit(), Some(61));
    }
}
