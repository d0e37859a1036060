//! The wire format: protocol names, messages, their codecs and the limits on them.
//!
//! Follows the AutoNAT v2 specification (`libp2p/specs`, `autonat/autonat-v2.md`, r2): proto3
//! messages, each behind its length as an unsigned varint. A stream of [`DIAL_REQUEST_PROTOCOL`]
//! carries [`Message`]s, read and written by [`MessageCodec`]. A stream of [`DIAL_BACK_PROTOCOL`]
//! carries one [`DialBack`] and one [`DialBackResponse`]; the server side of it is
//! [`DialBackServerCodec`], the client side [`DialBackClientCodec`].
//!
//! What this module must never do: allocate on the word of a remote (a length is checked before
//! the bytes behind it are waited for, and a buffer grows only by bytes that have arrived), copy
//! dial data, panic on input, or judge what a message asks for. It knows bytes and no policy.
//!
//! Where the specification leaves room, the decoders follow protobuf: fields come in any order,
//! the last of a repeated scalar wins, unknown fields are skipped. Of several variants in one
//! [`Message`] the last one wins whole; nothing is merged. Protobuf groups are refused.
//!
//! Two things are beside the specification, for nim-libp2p. A nonce is read as fixed64, as it should
//! be, and as a varint, which it was there until 2.0.0; [`NonceEncoding`] says which, and the other
//! one is never written beside it. And zeros are written out where nim-libp2p needs them: the index
//! and the dial status of a [`DialResponse`] that is `OK`, the index of a [`DialDataRequest`], the
//! status of a [`DialBackResponse`]. proto3 leaves them out, and reads them all the same.

use libp2p_swarm::StreamProtocol;

pub(crate) use self::message::Nonce;
pub use self::{
    codec::{DialBackClientCodec, DialBackServerCodec, Limits, MessageCodec},
    dial_data::{DialData, DialDataChunk, DialDataWriter, write_dial_data},
    error::{DecodeError, EncodeError, Malformed},
    message::{
        DialBack, DialBackResponse, DialBackStatus, DialDataRequest, DialRequest, DialResponse,
        DialStatus, Message, NonceEncoding, ResponseStatus,
    },
};

mod codec;
mod dial_data;
mod error;
mod fields;
mod message;

/// Made by pb-rs, see `generated/regenerate.sh`.
#[path = "protocol/generated/autonat_v2.rs"]
#[allow(
    dead_code,
    elided_lifetimes_in_paths,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::use_self,
    reason = "generated code"
)]
mod generated;

/// The stream on which a client asks a server to dial it.
pub const DIAL_REQUEST_PROTOCOL: StreamProtocol =
    StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// The stream on which a server, having dialed, hands over the nonce.
pub const DIAL_BACK_PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-back");

/// The longest [`Message`] that is read or written by default, in bytes without its length prefix.
///
/// go-libp2p and js-libp2p take 8,192, the longest of any implementation.
pub const MAX_MESSAGE_LEN: usize = 8192;

/// The longest [`DialRequest`] that every known implementation reads, in bytes without its length
/// prefix.
///
/// nim-libp2p stops at 1,024, rust-libp2p at 4,104, go-libp2p and js-libp2p at 8,192. See
/// [`DialRequest::encoded_len`].
pub const MAX_PORTABLE_REQUEST_LEN: usize = 1024;

/// The longest message on a dial-back stream, in bytes without its length prefix.
///
/// The messages of the specification have at most 11 bytes; the rest is room for unknown fields.
/// go-libp2p has the same limit.
pub const MAX_DIAL_BACK_LEN: usize = 1024;

/// How many addresses of a [`DialRequest`] are read by default. The others are counted.
///
/// go-libp2p inspects the first 50.
pub const MAX_ADDRESSES: usize = 50;

/// The longest address that is parsed, in bytes. A longer one counts as one that does not parse.
///
/// An address over [`MAX_PORTABLE_REQUEST_LEN`] could not be sent to every peer. The longest in
/// use, a relayed WebTransport address with two certificate hashes, has about 250 bytes.
pub const MAX_ADDRESS_LEN: usize = 1024;

/// The most bytes of `data` in one `DialDataResponse` (specification, "Amplification Attack
/// Prevention").
pub const MAX_DIAL_DATA_CHUNK: usize = 4096;

/// The fewest bytes of dial data that a server may ask for (specification, "Amplification Attack
/// Prevention").
pub const MIN_DIAL_DATA: u64 = 30_000;

/// The most bytes of dial data that a server may ask for (specification, "Amplification Attack
/// Prevention").
pub const MAX_DIAL_DATA: u64 = 100_000;
