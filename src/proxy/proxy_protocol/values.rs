//! The type-length-values behind the addresses of version 2 (`proxy-protocol.txt` section 2.2). Only the checksum of the
//! header is looked at (section 2.2.3); the others are the load balancer's own business.

/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 0x03;
/// Type and length.
const PREFIX: usize = 3;

/// Whether `header`, whose values begin at `from`, is what its sender summed up. It is where it has no checksum. A value
/// that the header cuts short ends the search: its end is known all the same.
pub(super) fn is_intact(header: &[u8], from: usize) -> bool {
    let mut at = from;
    while let Some(&[kind, high, low]) = header.get(at..at + PREFIX) {
        let start = at + PREFIX;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = header.get(start..end) else {
            return true;
        };
        if kind == CHECKSUM {
            let Ok(sum) = <[u8; 4]>::try_from(value) else {
                return false;
            };
            // Summed up with zeroes in its place.
            let (before, after) = (header.get(..start), header.get(end..));
            let parts = [
                before.unwrap_or_default(),
                &[0; 4],
                after.unwrap_or_default(),
            ];
            return crc32c(parts.into_iter().flatten()) == u32::from_be_bytes(sum);
        }
        at = end;
    }
    true
}

/// CRC32c (RFC 9260 appendix A), bit by bit: headers are short, and few have a checksum.
pub(super) fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}
