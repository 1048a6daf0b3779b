//! The container: POSIX `ustar` with regular files in it, and of that only what is needed. A reader for all of tar (links,
//! sparse files, long names, extended headers) would be a reader of what a hostile file may hold.
//!
//! A member is a header of 512 bytes and its content, padded with zeros to a multiple of that; two blocks of zeros are the
//! end (IEEE Std 1003.1, `pax`, "ustar Interchange Format").

use std::io::{self, Read, Write};

pub(crate) const BLOCK: usize = 512;

/// The longest name: what the header has room for.
pub(crate) const NAME_MAX: usize = 100;

/// The largest member in bytes: what eleven octal digits hold, 8 GiB. An artifact has 1 GiB at most by default.
pub(crate) const MEMBER_BYTES_MAX: u64 = (1 << 33) - 1;

/// A header of a regular file.
pub(crate) fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    assert!(name.len() <= NAME_MAX && bytes <= MEMBER_BYTES_MAX, "whoever writes keeps to the limits");
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    // Mode, owner and group; size; time: the same for everybody, so that the same run is the same file.
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, "00000000000\0");
    // The sum is taken with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Whether the header is the one that this file writes for the name and size: any other is not read.
pub(crate) fn is_header(found: &[u8; BLOCK], name: &str, bytes: u64) -> bool {
    *found == header(name, bytes)
}

/// The size in a header of the first member, whose size nothing else tells.
pub(crate) fn size_in(found: &[u8; BLOCK]) -> Option<u64> {
    let digits = std::str::from_utf8(&found[124..135]).ok()?;
    u64::from_str_radix(digits, 8).ok()
}

/// Zeros after a content of so many bytes.
pub(crate) fn padding(bytes: u64) -> usize {
    (BLOCK - (bytes % BLOCK as u64) as usize) % BLOCK
}

/// Writes the zeros after a content.
pub(crate) fn pad(to: &mut dyn Write, bytes: u64) -> io::Result<()> {
    to.write_all(&[0; BLOCK][..padding(bytes)])
}

/// The end of an archive.
pub(crate) fn end(to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

/// Reads a block. The end of the file is an error, within a block and before one: archives end with blocks of their own.
pub(crate) fn block(from: &mut dyn Read) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    from.read_exact(&mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_that_tar_reads() {
        let header = header("blobs/ab", 1234);
        assert_eq!(&header[124..136], b"00000002322\0");
        let (before, after) = (&header[..148], &header[156..]);
        let sum: u32 = before.iter().chain(after).copied().map(u32::from).sum::<u32>() + 8 * u32::from(b' ');
        assert_eq!(&header[148..154], format!("{sum:06o}").as_bytes());
        assert!(is_header(&header, "blobs/ab", 1234) && !is_header(&header, "blobs/ab", 1235));
        assert_eq!(size_in(&header), Some(1234));
    }

    #[test]
    fn contents_end_at_whole_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
