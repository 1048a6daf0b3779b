//! Signatures of components: who vouches for these bytes. They are ed25519, and lie beside the component in the form that
//! other tools read: an in-toto statement in a DSSE envelope in a Sigstore bundle (v0.3), a bundle a line in
//! `COMPONENT.sigstore.jsonl`. Keys are PEM files as `openssl` writes them. Nothing here asks the network, and nothing decides
//! whose signature counts: that is for policies to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use downbeat_workflow::description::Digest;
use downbeat_workflow::policy::Outdated;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The largest file of bundles that is read. A signature is one KiB, an attestation of a build some ten.
const BUNDLES_MAX: u64 = 1 << 20;

/// Bundles beside a component that are kept and looked at: the latest. A build signs with two; each is held against every key.
pub(crate) const STATEMENTS_MAX: usize = 64;

/// Keys that a component's own bundles name and that they are held against. Whoever signs has a few.
const NAMED_MAX: usize = 8;

/// What a key as text begins with.
const PREFIX: &str = "ed25519:";

/// What stands before the 32 bytes of a public key in X.509's form (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// What a signature says that says nothing more than that these are the bytes, as cosign has it.
pub(crate) const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// What a signature says that says how the bytes came to be.
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A key that signs.
pub(crate) struct SecretKey(Ed25519KeyPair);

impl SecretKey {
    pub(crate) fn generate() -> io::Result<SecretKey> {
        Ed25519KeyPair::generate().map(SecretKey).map_err(|_| io::Error::other("there is no randomness to be had"))
    }

    /// Reads a PEM file, of this program or of `openssl genpkey -algorithm ed25519`.
    pub(crate) fn read(path: &Path) -> io::Result<SecretKey> {
        let text = fs::read_to_string(path)?;
        let key = from_pem(&text, "PRIVATE KEY").and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok());
        key.map(SecretKey).ok_or_else(|| {
            let is_public = from_pem(&text, "PUBLIC KEY").is_some();
            let other = path.to_str().and_then(|path| path.strip_suffix(".pub"));
            let message = match other {
                Some(other) if is_public => {
                    format!(
                        "it is the public half of a key, which only verifies; its private half signs: `--key {other}`"
                    )
                }
                None if is_public => {
                    "it is the public half of a key, which only verifies; its private half signs".to_owned()
                }
                _ => "it is no private key of ed25519 in PEM".to_owned(),
            };
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    /// Writes it to a new file that nobody else may read, and the public one to `PATH.pub`.
    pub(crate) fn write(&self, path: &Path) -> io::Result<PathBuf> {
        let der = self.0.to_pkcs8v1().map_err(|_| io::Error::other("the key can't be written out"))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(to_pem(der.as_ref(), "PRIVATE KEY").as_bytes())?;
        let public = PathBuf::from(format!("{}.pub", path.display()));
        let der: Vec<u8> = SPKI.iter().chain(self.0.public_key().as_ref()).copied().collect();
        fs::write(&public, to_pem(&der, "PUBLIC KEY"))?;
        Ok(public)
    }

    /// The public key, as policies have it.
    pub(crate) fn public(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.0.public_key()))
    }

    /// The signature of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// A public key as text: as it is, or from a PEM file of this name.
pub(crate) fn public_key(text: &str) -> io::Result<String> {
    if text.starts_with(PREFIX) {
        return Ok(text.to_owned());
    }
    let der = from_pem(&fs::read_to_string(text)?, "PUBLIC KEY");
    let key = der.and_then(|der| der.strip_prefix(&SPKI).filter(|key| key.len() == 32).map(|key| BASE64.encode(key)));
    let no_key = || io::Error::new(io::ErrorKind::InvalidData, "it is no public key of ed25519 in PEM");
    key.map(|key| format!("{PREFIX}{key}")).ok_or_else(no_key)
}

/// Whether this is the signature of the message by the key, `ed25519:…`.
pub(crate) fn verify(key: &str, message: &[u8], signature: &[u8]) -> bool {
    let key = key.strip_prefix(PREFIX).and_then(|key| BASE64.decode(key).ok());
    key.is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
}

/// A bundle, as far as it is of interest here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Value,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    sig: String,
    #[serde(default)]
    keyid: String,
}

/// What a key says of a component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// Who, `ed25519:…`.
    pub(crate) key: String,
    /// What kind of thing.
    pub(crate) kind: String,
    /// What more.
    pub(crate) predicate: Value,
}

impl Said {
    /// What kind of thing, for people: the name that it goes by, if it is known here, and the address that says it exactly.
    pub(crate) fn kind_told(&self) -> String {
        match self.kind.as_str() {
            SIGNED => format!("signature, {SIGNED}"),
            PROVENANCE => format!("SLSA provenance v1, {PROVENANCE}"),
            other => other.to_owned(),
        }
    }

    /// Whether it is a signature, and no other word about the bytes.
    pub(crate) fn vouches(&self) -> bool {
        matches!(self.kind.as_str(), SIGNED | PROVENANCE)
    }
}

/// A bundle in which a key says something of a component.
pub(crate) fn bundle(key: &SecretKey, name: &str, digest: &Digest, kind: &str, predicate: &Value) -> String {
    signed_statement(key, &json!([{ "name": name, "digest": { "sha256": digest.hex() } }]), kind, predicate)
}

fn signed_statement(key: &SecretKey, subjects: &Value, kind: &str, predicate: &Value) -> String {
    let statement = json!({ "_type": STATEMENT, "subject": subjects, "predicateType": kind, "predicate": predicate });
    let payload = statement.to_string();
    let signature = key.sign(&encoded(PAYLOAD, payload.as_bytes()));
    let bundle = Bundle {
        media_type: BUNDLE.to_owned(),
        verification_material: json!({ "publicKey": { "hint": key.public() } }),
        dsse_envelope: Envelope {
            payload: BASE64.encode(payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: vec![Signed { sig: BASE64.encode(signature), keyid: key.public() }],
        },
    };
    serde_json::to_string(&bundle).expect("a bundle holds nothing that JSON can't")
}

/// What DSSE signs: the payload's type and the payload, each with its length, so that none can be taken for another.
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

/// The file of bundles beside a component.
pub(crate) fn beside(component: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sigstore.jsonl", component.display()))
}

/// What these keys say of a component; what others say, and what is not right, is passed over. Only what is said of this very
/// digest counts.
pub(crate) fn said_of<'k>(component: &Path, digest: &Digest, keys: impl Iterator<Item = &'k str> + Clone) -> Vec<Said> {
    let text = bundles(component);
    lines(&text).filter_map(|line| said_in(line, digest, keys.clone())).collect()
}

/// The text of the bundles beside a component; none if there is no file, or one that nobody would have written there: a
/// pipe, a device, one that is too large.
fn bundles(component: &Path) -> String {
    // Nobody waits until somebody writes into a pipe.
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = fs::OpenOptions::new().read(true).custom_flags(no_wait).open(beside(component));
    let Some(file) = opened.ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file())) else {
        return String::new();
    };
    let mut text = String::new();
    match file.take(BUNDLES_MAX + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 <= BUNDLES_MAX => text,
        _ => String::new(),
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    lines().skip(lines().count().saturating_sub(STATEMENTS_MAX))
}

fn said_in<'k>(line: &str, digest: &Digest, keys: impl Iterator<Item = &'k str>) -> Option<Said> {
    let (key, statement) = stated(line, keys)?;
    let is_right = subjects(&statement).any(|subject| subject == digest.hex());
    let kind = statement["predicateType"].as_str()?.to_owned();
    is_right.then(|| Said { key: key.to_owned(), kind, predicate: statement["predicate"].clone() })
}

/// The statement of a bundle that one of these keys has signed, and which.
fn stated<'k>(line: &str, mut keys: impl Iterator<Item = &'k str>) -> Option<(&'k str, Value)> {
    let bundle: Bundle = serde_json::from_str(line).ok()?;
    let envelope = bundle.dsse_envelope;
    let ([signed], PAYLOAD) = (envelope.signatures.as_slice(), envelope.payload_type.as_str()) else { return None };
    let (payload, signature) = (BASE64.decode(&envelope.payload).ok()?, BASE64.decode(&signed.sig).ok()?);
    let message = encoded(&envelope.payload_type, &payload);
    let key = keys.find(|key| verify(key, &message, &signature))?;
    // Only now is it worth reading.
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    (statement["_type"] == STATEMENT).then_some((key, statement))
}

/// The digests that a statement is about, in hexadecimal digits.
fn subjects(statement: &Value) -> impl Iterator<Item = &str> {
    let subjects = statement["subject"].as_array().into_iter().flatten();
    subjects.filter_map(|subject| subject["digest"]["sha256"].as_str())
}

/// The signatures beside a component that are of other bytes, by those of these keys that have not signed it as it is: it was
/// changed since, or they are another one's. Of each key the latest.
pub(crate) fn outdated(component: &Path, digest: &Digest, keys: &[&str]) -> Vec<Outdated> {
    if keys.is_empty() {
        return Vec::new();
    }
    let text = bundles(component);
    let (mut latest, mut current) = (BTreeMap::new(), BTreeSet::new());
    for (key, statement) in lines(&text).filter_map(|line| stated(line, keys.iter().copied())) {
        if !matches!(statement["predicateType"].as_str(), Some(SIGNED | PROVENANCE)) {
            continue;
        }
        // A build makes several things, and says all of them in one.
        if subjects(&statement).any(|subject| subject == digest.hex()) {
            current.insert(key);
        } else if let Some(of) = subjects(&statement).find_map(|subject| Digest::parse(&format!("sha256:{subject}"))) {
            latest.insert(key, of);
        }
    }
    latest.retain(|key, _| !current.contains(key));
    latest.into_iter().map(|(key, digest)| Outdated { key: key.to_owned(), digest }).collect()
}

/// Those of the keys that have signed a component: said that these are the bytes, or how they came to be. A key says other
/// things as well, that they are to be used no more among them.
pub(crate) fn signed_by(component: &Path, digest: &Digest, keys: &[&str]) -> Vec<String> {
    if keys.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<String> = said_of(component, digest, keys.iter().copied())
        .into_iter()
        .filter(Said::vouches)
        .map(|said| said.key)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The keys that have signed a component by its bundles, whoever they are: that a signature is right says nothing of whose
/// it is.
pub(crate) fn of(component: &Path, digest: &Digest) -> Vec<String> {
    let named = named(component);
    signed_by(component, digest, &named.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The keys that a component's bundles name, whoever they are: nobody has checked what they say.
pub(crate) fn named(component: &Path) -> Vec<String> {
    let text = bundles(component);
    let key = |line: &str| {
        let bundle: Bundle = serde_json::from_str(line).ok()?;
        Some(bundle.dsse_envelope.signatures.first()?.keyid.clone()).filter(|key| key.starts_with(PREFIX))
    };
    let mut keys: Vec<String> = lines(&text).filter_map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(NAMED_MAX);
    keys
}

fn to_pem(der: &[u8], label: &str) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    BASE64.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (tempfile::TempDir, PathBuf, Digest, SecretKey) {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("step.wasm");
        fs::write(&component, b"component").unwrap();
        let (digest, key) = (Digest::of(b"component"), SecretKey::generate().unwrap());
        fs::write(beside(&component), bundle(&key, "step.wasm", &digest, SIGNED, &json!({})) + "\n").unwrap();
        (folder, component, digest, key)
    }

    #[test]
    fn a_signature_counts_for_its_key_and_its_digest_alone() {
        let (_folder, component, digest, key) = signed();
        let (own, other) = (key.public(), SecretKey::generate().unwrap().public());
        assert_eq!(signed_by(&component, &digest, &[&other, &own]), std::slice::from_ref(&own));
        assert_eq!(signed_by(&component, &digest, &[&other]), [""; 0]);
        assert_eq!(signed_by(&component, &Digest::of(b"another"), &[&own]), [""; 0]);
        assert_eq!(outdated(&component, &digest, &[&own]), []);
        assert_eq!(outdated(&component, &Digest::of(b"another"), &[&other]), []);
        let was = Outdated { key: own.clone(), digest: digest.clone() };
        assert_eq!(outdated(&component, &Digest::of(b"another"), &[&other, &own]), [was]);
        let both = fs::read_to_string(beside(&component)).unwrap()
            + &bundle(&key, "step.wasm", &Digest::of(b"another"), SIGNED, &json!({}));
        fs::write(beside(&component), both).unwrap();
        assert_eq!(outdated(&component, &Digest::of(b"another"), &[&own]), []);
        assert_eq!(named(&component), [own]);
    }

    #[test]
    fn a_statement_about_several_things_is_about_each_of_them() {
        let (_folder, component, digest, key) = signed();
        let subject = |bytes: &[u8]| json!({ "name": "x", "digest": { "sha256": Digest::of(bytes).hex() } });
        let subjects = json!([subject(b"beside it"), subject(b"component")]);
        fs::write(beside(&component), signed_statement(&key, &subjects, PROVENANCE, &json!({}))).unwrap();
        let own = key.public();
        assert_eq!(signed_by(&component, &digest, &[&own]), std::slice::from_ref(&own));
        assert_eq!(outdated(&component, &digest, &[&own]), []);
        let was = Outdated { key: own.clone(), digest: Digest::of(b"beside it") };
        assert_eq!(outdated(&component, &Digest::of(b"another"), &[&own]), [was]);
    }

    #[test]
    fn what_a_key_says_beside_that_these_are_the_bytes_is_no_signature() {
        let (_folder, component, digest, key) = signed();
        let own = key.public();
        for (kind, counts) in [
            ("https://example.org/revocation/v1", false),
            ("https://in-toto.io/attestation/test-result/v0.1", false),
            ("", false),
            (PROVENANCE, true),
            (SIGNED, true),
        ] {
            fs::write(beside(&component), bundle(&key, "step.wasm", &digest, kind, &json!({})) + "\n").unwrap();
            assert_eq!(!signed_by(&component, &digest, &[&own]).is_empty(), counts, "{kind}");
            assert_eq!(said_of(&component, &digest, [own.as_str()].into_iter()).len(), 1, "it is shown");
        }
    }

    #[test]
    fn of_many_bundles_the_latest_are_looked_at_and_of_many_keys_a_few() {
        let (_folder, component, digest, key) = signed();
        let own = key.public();
        let right = fs::read_to_string(beside(&component)).unwrap();
        let strange = |_| {
            let key = SecretKey::generate().unwrap();
            bundle(&key, "step.wasm", &digest, SIGNED, &json!({})) + "\n"
        };
        let strangers: String = (0..STATEMENTS_MAX).map(strange).collect();
        fs::write(beside(&component), format!("{strangers}{right}")).unwrap();
        assert_eq!(signed_by(&component, &digest, &[&own]), std::slice::from_ref(&own));
        assert_eq!((named(&component).len(), of(&component, &digest).len()), (NAMED_MAX, NAMED_MAX));
        fs::write(beside(&component), format!("{right}{strangers}")).unwrap();
        assert_eq!(signed_by(&component, &digest, &[&own]), [""; 0]);
        let large = " ".repeat(BUNDLES_MAX as usize);
        fs::write(beside(&component), format!("{large}\n{right}")).unwrap();
        assert_eq!(signed_by(&component, &digest, &[&own]), [""; 0]);
    }

    #[test]
    fn a_bundle_of_which_any_byte_of_what_is_signed_was_changed_counts_for_nothing() {
        let (_folder, component, digest, key) = signed();
        let line = fs::read_to_string(beside(&component)).unwrap();
        let own = key.public();
        let bundle: Value = serde_json::from_str(&line).unwrap();
        for part in ["/dsseEnvelope/payload", "/dsseEnvelope/signatures/0/sig"] {
            let text = bundle.pointer(part).unwrap().as_str().unwrap().to_owned();
            let bytes = BASE64.decode(&text).unwrap();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                let line = line.replace(&text, &BASE64.encode(changed));
                assert_eq!(said_in(&line, &digest, [own.as_str()].into_iter()), None, "{part} at {at}");
            }
        }
        let line = line.replace("in-toto+json", "in-toto+jsoN");
        assert_eq!(said_in(&line, &digest, [own.as_str()].into_iter()), None);
    }

    #[test]
    fn keys_are_files_that_are_read_as_they_were_written_and_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("release.key"), SecretKey::generate().unwrap());
        let public = key.write(&path).unwrap();
        assert_eq!(SecretKey::read(&path).unwrap().public(), key.public());
        assert_eq!(public_key(public.to_str().unwrap()).unwrap(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(key.write(&path).is_err(), "a key is not written over another one");
        assert!(public_key("no-such-file").is_err());
        let told = SecretKey::read(&public).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains("it is the public half") && told.contains("release.key`"), "{told}");
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        // openssl genpkey -algorithm ed25519, the key of RFC 8410's example.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, pem).unwrap();
        assert_eq!(
            SecretKey::read(&path).unwrap().public(),
            "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".to_owned()
        );
    }
}
