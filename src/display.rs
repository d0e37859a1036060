//! `Display` for what both roles tell: the fixed words of logs and metrics. With the feature `serde` the same words in serialized
//! form.

use std::fmt;

use crate::{client, server};

macro_rules! shown_by_its_word {
    ($($name:ty),* $(,)?) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

shown_by_its_word!(
    client::NatMapping,
    client::Obstacle,
    client::ProbeEnd,
    client::ProbeOutcome,
    client::Summary,
    client::Vantage,
    client::Verdict,
    server::DialBackOutcome,
    server::Limit,
    server::Misbehaviour,
    server::PassedOver,
);

/// What an application keeps, and reads again.
#[cfg(feature = "serde")]
macro_rules! read_by_its_word {
    ($($name:ident: $($variant:ident),+);* $(;)?) => {$(
        impl<'de> serde::Deserialize<'de> for client::$name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                [$(Self::$variant),+]
                    .into_iter()
                    .find(|it| it.as_str() == word)
                    .ok_or_else(|| serde::de::Error::unknown_variant(&word, &[]))
            }
        }
    )*};
}

#[cfg(feature = "serde")]
read_by_its_word!(
    NatMapping: Unknown, EndpointIndependent, EndpointDependent;
    Obstacle: Refused, Proxied, DeniedHere;
    Summary: Unknown, Public, Private;
    Vantage: Contacted, Independent;
    Verdict: Unknown, Reachable, Filtered, Unreachable;
);

/// Instants have no meaning elsewhere: how long the verdict has stood is written in their place.
#[cfg(feature = "serde")]
impl serde::Serialize for client::AddressReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut report = serializer.serialize_struct("AddressReport", 12)?;
        report.serialize_field("address", &self.address.to_string())?;
        report.serialize_field("verdict", &self.verdict)?;
        report.serialize_field("stands_for_seconds", &self.since.elapsed().as_secs_f64())?;
        report.serialize_field("confidence", &self.confidence)?;
        report.serialize_field("vantage", &self.vantage)?;
        report.serialize_field("servers", &self.servers)?;
        report.serialize_field("proven_by", &self.proven_by)?;
        report.serialize_field("dial_data", &self.dial_data)?;
        report.serialize_field("announced", &self.announced)?;
        report.serialize_field("inherited", &self.inherited)?;
        report.serialize_field("obstacle", &self.obstacle)?;
        report.serialize_field("unstable", &self.unstable)?;
        report.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_and_padded_like_any_text() {
        assert_eq!(client::Verdict::Reachable.to_string(), "reachable");
        assert_eq!(
            format!("{:>12}|", client::Vantage::Contacted),
            "   contacted|"
        );
        assert_eq!(server::Limit::Off.to_string(), server::Limit::Off.as_str());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn what_was_written_is_read_again() {
        use client::{NatMapping, Obstacle, Summary, Vantage, Verdict};

        let written = serde_json::to_string(&(
            [
                Verdict::Unknown,
                Verdict::Reachable,
                Verdict::Filtered,
                Verdict::Unreachable,
            ],
            [Vantage::Contacted, Vantage::Independent],
            [Summary::Unknown, Summary::Public, Summary::Private],
            [Obstacle::Refused, Obstacle::Proxied, Obstacle::DeniedHere],
            [
                NatMapping::Unknown,
                NatMapping::EndpointIndependent,
                NatMapping::EndpointDependent,
            ],
        ))
        .expect("it can be written");
        type All = (
            [Verdict; 4],
            [Vantage; 2],
            [Summary; 3],
            [Obstacle; 3],
            [NatMapping; 3],
        );
        let read: All = serde_json::from_str(&written).expect("it can be read");
        assert_eq!(
            serde_json::to_string(&read).expect("it can be written"),
            written
        );
        assert!(serde_json::from_str::<Verdict>("\"maybe\"").is_err());
    }
}
