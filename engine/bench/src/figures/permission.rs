//! What it takes to decide whether grants cover a use: a request held against eight hosts, the last of which has it, with its
//! method and path. Beside it, only the names compared.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use downbeat_workflow::capability::{Grants, HttpGrant};
use downbeat_workflow::permission::{Request, Use, decide};

use super::ROUNDS;
use crate::measure::{Rounds, median, micros};
use crate::report::{Figure, Goal};
use crate::workshop::Workshop;

/// Hosts that are granted.
const HOSTS: usize = 8;

/// Of one round and side: the median of so many batches, each timed by itself.
const BATCHES: usize = 1_000;

/// Decisions in a batch, so that looking at the clock is a small part of it.
const DECISIONS: u32 = 100;

pub(super) fn measure(_: &Workshop) -> Result<Figure> {
    let host = |n: usize| HttpGrant {
        host: format!("service-{n}.example.org"),
        methods: Some(vec!["GET".to_owned(), "POST".to_owned()]),
        path: Some("/api/v1".to_owned()),
        ..HttpGrant::default()
    };
    let grants = Grants { http: (0..HOSTS).map(host).collect(), ..Grants::default() };
    let name = format!("service-{}.example.org", HOSTS - 1);
    let request = Request { tls: true, host: &name, port: 443, method: "POST", path: "/api/v1/releases/17" };
    ensure!(decide(&grants, &Use::Http(request)).is_ok(), "the last grant has it");
    let rounds = Rounds::of(
        ROUNDS,
        || {
            Ok(micros_each(|| {
                black_box(grants.http.iter().position(|grant| *grant.host == **black_box(&name)));
            }))
        },
        || {
            Ok(micros_each(|| {
                black_box(decide(black_box(&grants), &Use::Http(black_box(request))).is_ok());
            }))
        },
    )?;
    Ok(Figure::new(
        "permission decision, p50",
        rounds.ours(),
        "µs",
        rounds.limit(),
        "the names compared",
        rounds.ratio(),
        &[Goal::ValueAtMost(1.0)],
        format!("the last of {HOSTS} granted hosts, with methods and a path"),
    ))
}

/// The median of one decision, in microseconds.
fn micros_each(mut decision: impl FnMut()) -> f64 {
    median((0..BATCHES).map(|_| {
        let started = Instant::now();
        (0..DECISIONS).for_each(|_| decision());
        micros(started.elapsed()) / f64::from(DECISIONS)
    }))
}
