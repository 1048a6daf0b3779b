//! The interface `items`: what an attempt appends is handed to the observer, and the guest waits until it is kept. The
//! count begins anew with each attempt; whoever keeps the items knows which of them it has.

use downbeat_workflow::json::Json;
use downbeat_workflow::run::ITEMS_MAX;

use crate::bindings::downbeat::step::items as wit;
use crate::store::State;

/// What an attempt has appended.
#[derive(Default)]
pub(crate) struct Appended {
    count: u32,
    bytes: u64,
}

impl wit::Host for State {
    async fn append(&mut self, items: Vec<String>) -> Result<(), wit::Error> {
        let before = self.appended.count;
        if before as usize + items.len() > ITEMS_MAX {
            return Err(wit::Error::TooMany(ITEMS_MAX as u32));
        }
        let bytes = items.iter().fold(self.appended.bytes, |bytes, item| bytes + item.len() as u64);
        if bytes > self.limits.output {
            return Err(wit::Error::TooLarge(self.limits.output));
        }
        let mut parsed = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            parsed.push(Json::parse(item).map_err(|error| wit::Error::NotJson((index as u32, error.to_string())))?);
        }
        if parsed.is_empty() {
            return Ok(());
        }
        self.appended = Appended { count: before + parsed.len() as u32, bytes };
        if let Some(redactor) = self.log.redactor() {
            parsed = parsed.into_iter().map(|item| redactor.json(item)).collect();
        }
        let kept = self.log.observer().items(before, parsed);
        kept.await;
        Ok(())
    }
}
