//! What was taken, with what stands at its place in its body.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
};

use entity::{UnixMillis, id::MetaBodyId, meta::event};

use super::{super::threads::Threads, Taken, translate::effect};
use crate::{
    meta::{Envelope, Listing, Told},
    store::{
        self, Store,
        meta::{Effect, Steps, Work},
    },
};

/// Some messages of a piece of the past cannot be read, and the others are there: a stable word.
const PARTLY_UNREAD: &str = "partly_unread";

/// Reads all that was taken. Each body is opened once.
pub(super) async fn read(
    store: &Store,
    threads: &Threads,
    rows: Vec<event::Model>,
) -> Result<Vec<Taken>, store::Error> {
    let mut ids: Vec<_> = rows.iter().map(|row| row.body_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut bodies = HashMap::new();
    for body in store.meta().bodies(ids).await? {
        let bytes = store.meta().open_body(&body).await?;
        bodies.insert(body.id.clone(), bytes);
    }
    let mut of_body = BTreeMap::<MetaBodyId, Vec<event::Model>>::new();
    for row in rows {
        of_body.entry(row.body_id.clone()).or_default().push(row);
    }
    let mut taken = Vec::new();
    for (id, rows) in of_body {
        match bodies.remove(&id) {
            None => taken.extend(failed(rows, "body_gone")),
            Some(None) => taken.extend(failed(rows, "body_sealed")),
            Some(Some(bytes)) => {
                let now = store.clock().now();
                let read = threads.read(bytes.len(), move || all(now, &bytes, rows));
                taken.extend(read.await.ok_or(store::Error::Stopped)?);
            }
        }
    }
    taken.sort_by(|a, b| a.row.id.cmp(&b.row.id));
    Ok(taken)
}

fn failed(rows: Vec<event::Model>, why: &'static str) -> impl Iterator<Item = Taken> {
    rows.into_iter().map(move |row| Taken { row, work: Err(why) })
}

/// Reads everything of one body.
fn all(now: UnixMillis, bytes: &[u8], rows: Vec<event::Model>) -> Vec<Taken> {
    let envelope = Envelope::read(bytes);
    let mut listings = HashMap::<(usize, usize), Listing<'_>>::new();
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let found = place(&row.place).and_then(|(e, c, index)| {
            let entry = envelope.as_ref()?.entries.get(e)?;
            Some(((e, c), index, entry, entry.changes.get(c)?))
        });
        let mut work = Work {
            event: row.clone(),
            effect: Effect::Nothing,
            number: None,
            waba: None,
            own: None,
            flaw: None,
            steps: Steps::default(),
        };
        let work = match found {
            // A whole body that is none of Meta's.
            None if row.place.is_empty() && envelope.is_some() => Ok(work),
            None if row.place.is_empty() => Err("malformed"),
            None => Err("not_there"),
            Some((at, index, entry, change)) => {
                let listing = listings.entry(at).or_insert_with(|| Listing::of(change));
                // One that is too strange for us is nobody else's trouble.
                let read = catch_unwind(AssertUnwindSafe(|| {
                    let told = listing.read(index);
                    let has_gap = matches!(&told, Ok(Told::History(_, unread)) if *unread > 0);
                    effect(told, &row, now).map(|it| (it, has_gap.then_some(PARTLY_UNREAD)))
                }));
                read.unwrap_or(Err("panicked")).map(|(effect, flaw)| {
                    (work.effect, work.flaw) = (effect, flaw);
                    work.number.clone_from(&change.number);
                    work.waba = entry.waba(change).map(str::to_owned);
                    work.own = listing.own().map(str::to_owned);
                    work
                })
            }
        };
        taken.push(Taken { row, work });
    }
    taken
}

/// Entry, change and item, each counted from 0: `0.2.17`.
fn place(text: &str) -> Option<(usize, usize, usize)> {
    let mut numbers = text.split('.').map(str::parse::<usize>);
    let mut number = || numbers.next()?.ok();
    Some((number()?, number()?, number()?))
}
