//! Deciding whether a use is granted allocates nothing where the answer is yes, whatever is asked for and however many grants
//! there are. The allocator of this program counts, so this is a program of its own.

#![allow(unsafe_code, reason = "an allocator is unsafe to write; this one hands all on to the system's")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use downbeat_workflow::capability::{Capability, FileGrant, Grants, HttpGrant, ProgramGrant};
use downbeat_workflow::permission::{Carried, Command, Place, Request, Use, decide, may_connect};
use downbeat_workflow::secret::SecretGrant;

struct Counting;

thread_local! {
    /// Of this thread: the harness has others.
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no count any more, and is none of those that are looked at.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + 1));
}

// SAFETY: each call is the system allocator's own, with the same arguments and so the same promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of `System.dealloc`; every pointer came from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of `System.realloc`; every pointer came from there.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATED.get();
    black_box(work());
    ALLOCATED.get() - before
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Grants of every kind, the narrow ones among them; what is asked for stands last, behind others of its kind.
fn grants() -> Grants {
    let secret = |name: &str, host: &str| SecretGrant {
        name: name.into(),
        host: Some(host.into()),
        header: Some("authorization".into()),
        body: true,
        query: true,
        path: true,
        ..SecretGrant::default()
    };
    Grants {
        process: vec![
            "make".into(),
            ProgramGrant { args: Some(strings(&["push", "*"])), ..ProgramGrant::from("git") },
            ProgramGrant {
                args: Some(strings(&["fetch", "*", "--depth=*", "**"])),
                env: Some(strings(&["HOME", "TOKEN"])),
                directory: Some("src".into()),
                ..ProgramGrant::from("git")
            },
        ],
        http: vec![
            "other.example.org".into(),
            "10.0.0.1:*".into(),
            HttpGrant { methods: Some(strings(&["HEAD"])), ..HttpGrant::from("api.example.org") },
            HttpGrant {
                methods: Some(strings(&["GET", "POST"])),
                path: Some("/v1/".into()),
                ..HttpGrant::from("api.example.org")
            },
            "127.0.0.1:8080".into(),
            "[::1]:*".into(),
        ],
        files: vec![
            FileGrant { path: "data".into(), write: false },
            FileGrant { path: "build/out".into(), write: true },
        ],
        env: strings(&["LANG", "HOME"]),
        secrets: vec![
            secret("other", "api.example.org"),
            secret("key", "hooks.example.org"),
            secret("key", "api.example.org"),
            secret("key", "127.0.0.1:8080"),
        ],
        clock: true,
        random: true,
        artifacts: true,
        workspace: true,
        ..Grants::default()
    }
}

#[test]
fn a_use_that_is_granted_is_decided_without_an_allocation() {
    let grants = grants();
    let arguments = strings(&["fetch", "origin", "--depth=1", "a", "-b"]);
    let environment = [("TOKEN".to_owned(), "x".to_owned()), ("HOME".to_owned(), "/root".to_owned())];
    let program = |program, arguments, environment, directory| {
        Use::Program(Command { program, arguments, environment, directory })
    };
    let http = |tls, host, port, method, path| Use::Http(Request { tls, host, port, method, path });
    let secret = |tls, host, port, place| Use::Secret(Carried { name: "key", tls, host, port, place });
    let mut uses = vec![
        ("a program", program("make", &[][..], &[][..], None)),
        ("a program with all that narrows it", program("git", &arguments, &environment, Some("src/below"))),
        ("a name", http(true, "other.example.org", 443, "GET", "/")),
        ("a name in other letters, narrowed", http(true, "API.example.ORG", 443, "POST", "/v1/a%20b/c..d/e;f=g?h=.")),
        ("an address", http(false, "127.0.0.1", 8080, "GET", "/")),
        ("an address of IPv6", http(false, "0:0::1", 99, "GET", "/")),
        ("an address in brackets", http(false, "[::1]", 99, "GET", "/")),
        ("a directory", Use::Files { path: "data/a/b", write: false }),
        ("a directory that is written to", Use::Files { path: "build/out/c", write: true }),
        ("a variable", Use::Env("HOME")),
        ("a secret in a header", secret(true, "api.example.org", 443, Place::Header("authorization"))),
        ("a secret in a body, in the open", secret(false, "127.0.0.1", 8080, Place::Body)),
        ("a secret in a query", secret(true, "API.EXAMPLE.ORG", 443, Place::Query)),
        ("a secret in a path", secret(true, "api.example.org", 443, Place::Path)),
    ];
    uses.extend(Capability::WHOLE.map(|whole| (whole.word(), Use::Whole(whole))));
    for (what, wanted) in &uses {
        let decided = allocations(|| assert!(decide(&grants, wanted).is_ok(), "{what} is granted"));
        assert_eq!(decided, 0, "{what}");
    }
    // A connection is decided once more, by the address.
    for (grant, address) in
        grants.http.iter().zip(["1.1.1.1", "10.0.0.1", "2606:4700::1", "1.1.1.1", "127.0.0.1", "::1"])
    {
        let address = address.parse().unwrap();
        assert_eq!(allocations(|| assert!(may_connect(grant, address), "{} at {address}", grant.host)), 0);
    }
}

#[test]
fn an_allocation_is_counted() {
    assert_eq!(allocations(|| vec![1_u8]), 1);
}
