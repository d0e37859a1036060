//! The ports of other protocols, whose servers might make something of the bytes that a dial sends.
//!
//! The list is that of the Fetch standard ("bad port", <https://fetch.spec.whatwg.org/#port-blocking>), with which
//! browsers have faced the same question for decades: to which ports a stranger may make somebody else's machine
//! connect. Ports at which libp2p nodes are commonly reached, 80 and 443 among them, are not on it.

/// In ascending order. Port 0 is missing, since it is never dialed.
const BAD_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

pub(super) fn contains(port: u16) -> bool {
    BAD_PORTS.binary_search(&port).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_and_names_are_on_the_list_and_the_web_is_not() {
        assert!(BAD_PORTS.is_sorted());
        assert!([22, 25, 53, 123, 5060, 6667].into_iter().all(contains));
        assert!(![80, 443, 4001, 8080, 30333].into_iter().any(contains));
    }
}
