//! Requests in, answers out: the service without a network. Every answer is JSON. Nothing that a customer wrote is
//! repeated in an answer, so nothing needs escaping.

use crate::catalogue::Catalogue;
use crate::http::{Request, Response};
use crate::pricing::{NoQuote, QUANTITY_MAX, quote};

/// The version that `/health` and the state file tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The price service.
#[derive(Debug)]
pub struct Service {
    catalogue: Catalogue,
}

impl Service {
    /// A service that sells what is in the catalogue.
    pub fn new(catalogue: Catalogue) -> Service {
        Service { catalogue }
    }

    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        if request.method != "GET" {
            return error(405, "only GET is understood here");
        }
        match request.path.as_str() {
            "/health" => Response { status: 200, body: format!(r#"{{"status":"ok","version":"{VERSION}"}}"#) },
            "/items" => self.items(),
            "/price" => self.price(request),
            _ => error(404, "there is /health, /items and /price?item=…&quantity=…"),
        }
    }

    fn items(&self) -> Response {
        let items: Vec<String> = self
            .catalogue
            .items()
            .map(|(item, unit_cents)| format!(r#"{{"item":"{item}","unit-cents":{unit_cents}}}"#))
            .collect();
        Response { status: 200, body: format!(r#"{{"items":[{}]}}"#, items.join(",")) }
    }

    fn price(&self, request: &Request) -> Response {
        let Some(item) = request.parameter("item") else {
            return error(400, "which item? as in /price?item=apple");
        };
        let Ok(quantity) = request.parameter("quantity").unwrap_or("1").parse() else {
            return error(400, "the quantity is a whole number");
        };
        let Some(unit_cents) = self.catalogue.unit_cents(item) else {
            return error(404, "there is no such item; /items lists them all");
        };
        match quote(unit_cents, quantity) {
            Ok(quote) => Response {
                status: 200,
                body: format!(
                    r#"{{"item":"{item}","quantity":{},"unit-cents":{},"total-cents":{}}}"#,
                    quote.quantity, quote.unit_cents, quote.total_cents
                ),
            },
            Err(NoQuote::Quantity) => error(400, &format!("the quantity is between 1 and {QUANTITY_MAX}")),
            Err(NoQuote::TooDear) => error(400, "that is more money than can be counted"),
        }
    }
}

fn error(status: u16, message: &str) -> Response {
    Response { status, body: format!(r#"{{"error":"{message}"}}"#) }
}
