//! Addresses in logs.

use std::fmt::{self, Write};

use libp2p_core::Multiaddr;

/// An address as it is written to the log: what is not printable ASCII is escaped. A stranger wrote it, and a name in it
/// may hold line breaks and what moves a terminal's cursor.
pub(crate) struct Printable<'a>(pub(crate) &'a Multiaddr);

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|char| {
            if char == ' ' || char.is_ascii_graphic() {
                f.write_char(char)
            } else {
                write!(f, "{}", char.escape_default())
            }
        })
    }
}
