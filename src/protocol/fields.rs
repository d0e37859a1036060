//! Walks over the fields of a protobuf message (Protocol Buffers, "Encoding").
//!
//! It borrows and never allocates, never looks beyond the message that it was given, and ends at
//! the first fault.
//!
//! Every message is walked before quick-protobuf sees it, because quick-protobuf 0.8 does not hold
//! a nested message to the bounds of the one around it. A varint or a length that crosses such a
//! bound leaves its reader behind its own end. From there the end of input is missed, and skipping
//! an unknown field computes `end - start` below zero: a panic with overflow checks, and without
//! them a length near 2^64 sets the reader back, so that a message of 20 bytes makes it collect
//! addresses until memory runs out.

use super::error::Malformed;

/// A field of a message, with its value if that is of a kind that the protocol uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in the order of the wire.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag).map_err(|_| Malformed::FieldNumber)? >> 3;
        if number == 0 {
            return Err(Malformed::FieldNumber);
        }

        let value = match (tag & 0b111) as u8 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| Malformed::Overrun)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Overrun)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => {
                self.fixed::<4>()?;
                Value::Fixed32
            }
            wire_type => return Err(Malformed::WireType(wire_type)),
        };

        Ok(Field { number, value })
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = varint(self.rest)?;
        self.rest = rest;
        Ok(number)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Overrun)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes a varint off the front. Unlike a length prefix it need not be minimal.
pub(super) fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let mut number = 0;
    let mut rest = bytes;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(Malformed::Overrun)?;
        rest = behind;

        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok((number, rest));
        }
    }
    Err(Malformed::Varint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
        Fields::of(message).collect()
    }

    #[test]
    fn each_kind_of_field_is_read() {
        let message = [
            0x08, 0x96, 0x01, // 1: a varint
            0x11, 1, 2, 3, 4, 5, 6, 7, 8, // 2: eight bytes
            0x1a, 0x02, 0xaa, 0xbb, // 3: a length and its bytes
            0x25, 1, 2, 3, 4, // 4: four bytes
        ];
        assert_eq!(
            walk(&message).unwrap(),
            [
                (1, Value::Varint(150)),
                (2, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
                (3, Value::Bytes(&[0xaa, 0xbb])),
                (4, Value::Fixed32),
            ]
            .map(|(number, value)| Field { number, value })
        );
    }

    #[test]
    fn each_fault_has_its_name() {
        for (message, fault) in [
            (&[0x00, 0x01][..], Malformed::FieldNumber),
            (&[0x80, 0x80, 0x80, 0x80, 0x10], Malformed::FieldNumber),
            (&[0x0b], Malformed::WireType(3)),
            (&[0x0c], Malformed::WireType(4)),
            (&[0x0e], Malformed::WireType(6)),
            (&[0x0f], Malformed::WireType(7)),
            (&[0x08], Malformed::Overrun),
            (&[0x08, 0x80], Malformed::Overrun),
            (&[0x09, 1, 2, 3, 4, 5, 6, 7], Malformed::Overrun),
            (&[0x0d, 1, 2, 3], Malformed::Overrun),
            (&[0x0a, 0x02, 0x00], Malformed::Overrun),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                Malformed::Overrun,
            ),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
                Malformed::Varint,
            ),
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
                ],
                Malformed::Varint,
            ),
        ] {
            assert_eq!(walk(message), Err(fault), "{message:02x?}");
        }
    }

    #[test]
    fn a_varint_may_be_longer_than_it_need_be_but_not_than_64_bits() {
        assert_eq!(varint(&[0x80, 0x00, 7]), Ok((0, &[7][..])));
        assert_eq!(
            varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            Ok((u64::MAX, &[][..]))
        );
    }
}
