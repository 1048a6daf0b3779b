//! Ed25519 keys in the files that `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write: PKCS #8 and
//! SubjectPublicKeyInfo in PEM (RFC 8410). Their contents are of one length each, so that no reader of ASN.1 is needed.

use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::exit::Fault;

/// What stands before the 32 bytes of a private key (RFC 8410, section 7).
const PRIVATE: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What stands before the 32 bytes of a public key (RFC 8410, section 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Bytes of a key's file at most: both kinds have some 120.
const FILE_BYTES_MAX: u64 = 16 * 1024;

const HINT: &str = "`openssl genpkey -algorithm ed25519 -out key.pem` makes a key, `openssl pkey -in key.pem -pubout -out \
                    key.pub` writes its public half";

/// A key that signs.
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(crate) fn read(path: &Path) -> Result<Signer, Fault> {
        let (seed, is_private) = read(path)?;
        match Ed25519KeyPair::from_seed_unchecked(&seed) {
            Ok(pair) if is_private => Ok(Signer(pair)),
            _ => Err(Fault::refused(format!("{} holds a public key: signing needs the private one", path.display()))),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().expect("a signature of Ed25519 has 64 bytes")
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        public_of(&self.0)
    }
}

/// Reads a public key; of a private one, its public half.
pub(crate) fn public(path: &Path) -> Result<[u8; 32], Fault> {
    match read(path)? {
        (public, false) => Ok(public),
        (_, true) => Ok(Signer::read(path)?.public()),
    }
}

/// Whether the message was signed with the private half of the key.
pub(crate) fn is_signed(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

fn public_of(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("a public key of Ed25519 has 32 bytes")
}

/// The 32 bytes of a key, and whether it is a private one.
fn read(path: &Path) -> Result<([u8; 32], bool), Fault> {
    let unread = |error| Fault::refused(format!("the key {} can't be read: {error}", path.display()));
    if std::fs::metadata(path).map_err(unread)?.len() > FILE_BYTES_MAX {
        return Err(no_key(path));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    parse(&text).ok_or_else(|| no_key(path))
}

fn no_key(path: &Path) -> Fault {
    Fault::refused(format!("{} is no Ed25519 key in a PEM file", path.display())).hint(HINT)
}

fn parse(text: &str) -> Option<([u8; 32], bool)> {
    let between = |label: &str| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (inside, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let letters: String = inside.split_whitespace().collect();
        STANDARD.decode(letters).ok()
    };
    let key = |bytes: &[u8], before: &[u8]| bytes.strip_prefix(before)?.try_into().ok();
    match between("PRIVATE KEY") {
        Some(bytes) => Some((key(&bytes, &PRIVATE)?, true)),
        None => Some((key(&between("PUBLIC KEY")?, &PUBLIC)?, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.
    const PAIR: [&str; 2] = [
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
    ];

    #[test]
    fn the_keys_of_the_standard_are_read_and_belong_together() {
        let [(seed, true), (public, false)] = PAIR.map(|text| parse(text).unwrap()) else { panic!() };
        let signer = Signer(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        assert_eq!(signer.public(), public);
        let signature = signer.sign(b"words");
        assert!(is_signed(&public, b"words", &signature) && !is_signed(&public, b"other words", &signature));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----"] {
            assert_eq!(parse(text), None);
        }
    }
}
