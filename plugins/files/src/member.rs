//! Reads an archive's entries one by one, within bounds, and makes of each what it means: a path below the folder, and a
//! file, a folder or a link. What can't be such is refused here; how entries stand to each other is judged in `unpack`.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};

use downbeat_sdk::Failure;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType, PaxExtensions};

use crate::trouble;
use crate::whole::BUFFER;

/// Bytes of an entry that only describes the next one: a long name, extended attributes. A path has at most 4,096 on Linux.
const DESCRIPTION_BYTES: u64 = 64 << 10;

/// How much of an archive may be read.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Uncompressed, with the archive's own headers.
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
    /// Leading names to leave out of each path.
    pub(crate) strip: usize,
}

/// One entry.
#[derive(Debug, PartialEq)]
pub(crate) struct Member {
    /// Relative, with `/` between names, none of them empty, `.` or `..`.
    pub(crate) path: String,
    pub(crate) content: Content,
    /// Whether its mode lets anybody execute it.
    pub(crate) executable: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Folder,
    File,
    /// A symbolic link.
    Link {
        target: String,
    },
    /// A hard link: the same as an earlier file.
    Same {
        path: String,
    },
}

/// Refuses an entry.
pub(crate) fn refused(archive: &str, entry: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::permanent(format!("the archive `{archive}` is refused: its entry `{}`: {reason}", entry.escape_debug()))
        .details(serde_json::json!({ "path": archive, "entry": entry }))
}

/// Hands every entry to `take`, with the content of a file. What `take` does not read is read afterwards, so that an
/// archive which is cut short is found.
pub(crate) fn each(
    archive: &str,
    bounds: Bounds,
    take: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut file = File::open(archive).map_err(|error| trouble::io(archive, "unpacked", &error))?;
    let kind = Kind::of(&mut file).map_err(|error| trouble::io(archive, "unpacked", &error))?;
    let file = BufReader::with_capacity(
        BUFFER,
        File::open(archive).map_err(|error| trouble::io(archive, "unpacked", &error))?,
    );
    let over = Cell::new(false);
    let content: Box<dyn Read> = match kind {
        Kind::Tar => Box::new(file),
        Kind::Gzip => Box::new(MultiGzDecoder::new(file)),
        Kind::Other(name) => {
            let reason = format!("it is {name}, and only tar is understood, as it is or compressed by gzip");
            return Err(trouble::failed(archive, "unpacked", reason));
        }
    };
    let content = Bounded { content, left: bounds.bytes, over: &over };
    let walked = walk(archive, Archive::new(content), bounds, take);
    match over.get() {
        // Whatever was made of the end that was put to it.
        true => Err(trouble::failed(
            archive,
            "unpacked",
            format!("uncompressed, it has more than {} bytes, which `max-bytes` allows", bounds.bytes),
        )),
        false => walked,
    }
}

fn walk(
    archive: &str,
    mut content: Archive<impl Read>,
    bounds: Bounds,
    take: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let damaged =
        |error: io::Error| trouble::failed(archive, "unpacked", format!("it is damaged, or no tar archive: {error}"));
    let mut next = Description::default();
    let mut count = 0;
    // The entries as they stand: what describes the next one is read here, where it is bounded.
    for entry in content.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        count += 1;
        if count > bounds.entries {
            let reason = format!("it has more than {} entries, which `max-entries` allows", bounds.entries);
            return Err(trouble::failed(archive, "unpacked", reason));
        }
        let header = entry.header().clone();
        let kind = header.entry_type();
        let size = entry.size();
        if matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        ) {
            let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            if size > DESCRIPTION_BYTES {
                return Err(refused(
                    archive,
                    &name,
                    format!("it describes another with more than {DESCRIPTION_BYTES} bytes"),
                ));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            next.add(kind, bytes).map_err(|reason| refused(archive, &name, reason))?;
            continue;
        }
        let Description { path, target } = std::mem::take(&mut next);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = target.or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
        let shown = String::from_utf8_lossy(&path).into_owned();
        let fault = |reason: String| refused(archive, &shown, reason);

        let names = names(&path).map_err(fault)?;
        if names.len() <= bounds.strip {
            io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
            continue;
        }
        let content = content_of(kind, &path, target, bounds.strip).map_err(fault)?;
        let executable = content == Content::File && header.mode().is_ok_and(|mode| mode & 0o111 != 0);
        let member = Member { path: names[bounds.strip..].join("/"), content, executable };
        let mut counted = Counted { content: &mut entry, bytes: 0 };
        take(&member, &mut counted)?;
        io::copy(&mut counted, &mut io::sink()).map_err(damaged)?;
        if counted.bytes < size {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    // What follows tar's end mark is read as well: only at its own end, gzip compares its checksum with what it gave.
    io::copy(&mut content.into_inner(), &mut io::sink()).map_err(damaged)?;
    match next.is_empty() {
        true => Ok(()),
        false => Err(damaged(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn content_of(kind: EntryType, path: &[u8], target: Option<Vec<u8>>, strip: usize) -> Result<Content, String> {
    let target = || {
        let target = target.filter(|target| !target.is_empty()).ok_or("it is a link to nothing")?;
        String::from_utf8(target).map_err(|_| "it is a link to a name that is no UTF-8")
    };
    Ok(match kind {
        // Archives older than 1988 have no type for folders.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Content::Folder,
        EntryType::Regular | EntryType::Continuous => Content::File,
        EntryType::Directory => Content::Folder,
        EntryType::Symlink => Content::Link { target: target()? },
        EntryType::Link => {
            let target = target()?;
            let names = names(target.as_bytes())?;
            let left = names.get(strip..).filter(|names| !names.is_empty());
            Content::Same { path: left.ok_or("it is a hard link to what `strip` leaves out")?.join("/") }
        }
        EntryType::GNUSparse => {
            return Err("it is a sparse file, which is not understood; pack without `--sparse`".into());
        }
        EntryType::Fifo => return Err("it is a pipe".into()),
        EntryType::Char | EntryType::Block => return Err("it is a device".into()),
        other => return Err(format!("it is of the unknown kind {:?}", char::from(other.as_byte()))),
    })
}

/// The names of a path that may be unpacked.
fn names(path: &[u8]) -> Result<Vec<&str>, String> {
    let path = std::str::from_utf8(path).map_err(|_| "its path is no UTF-8")?;
    if path.starts_with('/') {
        return Err("its path is absolute".into());
    }
    if path.contains(['\\', '\0']) {
        return Err("its path has a `\\`, which some systems take for a `/`, or a zero byte".into());
    }
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    match names.contains(&"..") {
        true => Err("its path leads upwards with `..`".into()),
        false => Ok(names),
    }
}

/// What was said about the entry that comes next.
#[derive(Default)]
struct Description {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Description {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.target.is_none()
    }

    fn add(&mut self, kind: EntryType, mut bytes: Vec<u8>) -> Result<(), &'static str> {
        let text = |bytes: &mut Vec<u8>| {
            while bytes.last() == Some(&0) {
                bytes.pop();
            }
            Some(std::mem::take(bytes))
        };
        match kind {
            EntryType::GNULongName => self.path = text(&mut bytes),
            EntryType::GNULongLink => self.target = text(&mut bytes),
            EntryType::XHeader => {
                for extension in PaxExtensions::new(&bytes) {
                    let extension = extension.map_err(|_| "its extended header is malformed")?;
                    match extension.key_bytes() {
                        b"path" => self.path = Some(extension.value_bytes().to_vec()),
                        b"linkpath" => self.target = Some(extension.value_bytes().to_vec()),
                        // Programs disagree about which size counts, and only files beyond 8 GiB need this one.
                        b"size" => return Err("its extended header gives another size"),
                        key if key.starts_with(b"GNU.sparse") => {
                            return Err("it is a sparse file, which is not understood; pack without `--sparse`");
                        }
                        _ => (),
                    }
                }
            }
            // For all entries, such as the commit that `git archive` notes: nothing in it changes what is unpacked, unless
            // it names all files the same.
            _ => {
                let names =
                    |extension: tar::PaxExtension<'_>| matches!(extension.key_bytes(), b"path" | b"linkpath" | b"size");
                if PaxExtensions::new(&bytes).any(|extension| extension.map_or(true, names)) {
                    return Err("its global header is malformed, or names all entries the same");
                }
            }
        }
        Ok(())
    }
}

/// What an archive's first bytes say it is.
enum Kind {
    Tar,
    Gzip,
    Other(&'static str),
}

impl Kind {
    fn of(file: &mut File) -> io::Result<Kind> {
        const OTHERS: [(&[u8], &str); 6] = [
            (b"PK\x03\x04", "a zip archive"),
            (b"\xfd7zXZ\0", "compressed by xz"),
            (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
            (b"BZh", "compressed by bzip2"),
            (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
            (b"Rar!\x1a\x07", "a RAR archive"),
        ];
        let mut start = Vec::new();
        file.take(8).read_to_end(&mut start)?;
        if start.starts_with(b"\x1f\x8b") {
            return Ok(Kind::Gzip);
        }
        let other = OTHERS.iter().find(|(bytes, _)| start.starts_with(bytes));
        Ok(other.map_or(Kind::Tar, |(_, name)| Kind::Other(name)))
    }
}

/// Gives an error instead of more bytes than allowed, and remembers it.
struct Bounded<'o, R> {
    content: R,
    left: u64,
    over: &'o Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)? as u64;
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                self.over.set(true);
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(count as usize)
    }
}

/// Counts what is read.
struct Counted<R> {
    content: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
