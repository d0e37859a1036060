//! What both simulators take networks to be: NATs, transports, faults of servers, and what comes of a dial.
//!
//! NATs are named by RFC 4787: mapping is endpoint-independent (EIM) or address- and port-dependent (ADPM), filtering is
//! endpoint-independent (EIF), address-dependent (ADF) or address- and port-dependent (APDF). A filter is kept for each IP and
//! transport protocol: who was contacted over TCP was not over UDP. Dial-backs that get in change no filter.

use libp2p::{Multiaddr, PeerId};

/// How often the dial of a sound server succeeds where the packets get in.
pub(crate) const LUCK: f64 = 0.98;

/// What stands between the node and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    None,
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
}

impl Nat {
    /// The state of an address behind it that is not forwarded.
    pub(crate) fn state(self) -> State {
        match self {
            Self::None | Self::FullCone => State::Open,
            Self::AddressRestricted => State::Filtered,
            Self::PortRestricted | Self::Symmetric => State::Closed,
        }
    }
}

/// The truth about an address: who gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Everybody.
    Open,
    /// Who was contacted.
    Filtered,
    /// Nobody.
    Closed,
}

impl State {
    pub(crate) fn lets_in(self, contacted: bool) -> bool {
        match self {
            Self::Open => true,
            Self::Filtered => contacted,
            Self::Closed => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Quic,
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It can't dial this transport, and calls that `E_DIAL_ERROR`.
    CannotDial,
    /// It always says `E_DIAL_ERROR`.
    LiesError,
    /// It dials back the first time, and says `E_DIAL_ERROR` ever after.
    TurnsCoat,
    /// It says `OK` and never dials.
    LiesOk,
    Refuses,
    /// It does not answer.
    Vanishes,
}

impl Fault {
    /// What a server that has it answers where its packets get in or not, if it is asked for the `first` time.
    pub(crate) fn answer(
        self,
        gets_in: bool,
        first: bool,
        mut luck: impl FnMut() -> bool,
    ) -> Answer {
        match self {
            Self::TurnsCoat if !first => Answer::DialError,
            Self::None | Self::TurnsCoat if gets_in && luck() => Answer::DialedBack,
            Self::None | Self::TurnsCoat | Self::CannotDial | Self::LiesError => Answer::DialError,
            Self::LiesOk => Answer::HollowOk,
            Self::Refuses => Answer::Refused,
            Self::Vanishes => Answer::None,
        }
    }
}

/// What a server answers, as the node will see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The nonce came back, and then `OK`.
    DialedBack,
    DialError,
    /// `OK`, but no nonce.
    HollowOk,
    Refused,
    None,
}

impl Answer {
    /// Whether the nonce came back; `None` if the answer says nothing about the address.
    pub(crate) fn success(self) -> Option<bool> {
        match self {
            Self::DialedBack => Some(true),
            Self::DialError => Some(false),
            Self::HollowOk | Self::Refused | Self::None => None,
        }
    }
}

pub(crate) fn addr(ip: &str, over: Transport) -> Multiaddr {
    let text = match over {
        Transport::Tcp => format!("{ip}/tcp/4001"),
        Transport::Quic => format!("{ip}/udp/4001/quic-v1"),
    };
    text.parse().expect("a valid multiaddr")
}

/// A peer that is the same in every run. No key of its own is needed, for nothing is signed.
pub(crate) fn peer(seed: u64) -> PeerId {
    // A SHA-256 multihash.
    let mut bytes = [0; 34];
    bytes[..2].copy_from_slice(&[0x12, 32]);
    bytes[2..10].copy_from_slice(&seed.to_le_bytes());
    PeerId::from_bytes(&bytes).expect("a multihash of 32 bytes")
}
