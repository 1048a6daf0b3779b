//! A price service: what costs how much, over HTTP.
//!
//! `http` carries bytes and knows nothing of prices; `service` turns a request into an answer; `pricing` and `catalogue`
//! know nothing of HTTP. `main` wires them up, and is the only part that knows of a process and its files.

pub mod catalogue;
pub mod http;
pub mod pricing;
pub mod service;
