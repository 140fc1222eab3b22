//! Recording what was posted, through the one door.

use entity::{UnixMillis, kind::EventKind, session};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    Called, External, Outcome, Receipt,
    post::{Post, Timed},
};
use crate::{
    event::{Event, status},
    service::{Conflict, Error, Thing, text},
    store::{
        Patience,
        events::{Mark, NewEvent, Posted, Recorded, Request},
    },
};

impl External {
    /// Records what a post of the session `row` comes to.
    pub(super) async fn record(
        &self,
        row: &session::Model,
        post: Post,
        body: &Map<String, Value>,
        called: Option<Called>,
    ) -> Result<Receipt, Error> {
        let Post { name, before, event, at, timed, to, says_whose } = post;
        let is_known = !matches!(event, Some(Event::Unknown { .. }));
        let is_ready = matches!(event, Some(Event::Ready(_)));
        let said = text::hex(&Sha256::digest(serde_json::to_vec(body).unwrap_or_default()));
        let request = match &called {
            Some(Called::Key(key)) => {
                let key = text::hex(&Sha256::digest(key));
                Some(Request { key, fingerprint: said.clone() })
            }
            Some(Called::Id(_)) | None => None,
        };
        let writer = self.store.writer();
        let came = self.store.clock().now();
        let record = async |event: Event, at: UnixMillis, mark: Mark, until: UnixMillis| {
            let new = NewEvent {
                organization_id: row.organization_id.clone(),
                session_key: row.id.clone(),
                generation: None,
                event,
                at,
                care: None,
                posted: Some(Posted {
                    mark,
                    until,
                    came,
                    to: to.clone(),
                    says_whose,
                    request: request.clone(),
                }),
            };
            match writer.record(new, Patience::Fail).await? {
                Recorded::KeyReused => Err(Error::KeyReused),
                Recorded::Full => Err(Error::Conflict(Conflict::TooManySessions)),
                recorded => Ok(recorded),
            }
        };
        if let Some((at, event)) = before {
            record(event, at, Mark::Carried, at).await?;
        }
        let outcome = match event {
            None => Outcome::Nothing,
            Some(event) => {
                let mark = mark(&event, said, called, timed);
                match record(event, at, mark, timed.until(at)).await? {
                    Recorded::New { seq, .. } => Outcome::Recorded { seq },
                    Recorded::Duplicate | Recorded::Ignored => Outcome::Duplicate,
                    Recorded::Stale => Outcome::Older,
                    Recorded::Waiting | Recorded::KeyReused | Recorded::Full => Outcome::Nothing,
                }
            }
        };
        if is_ready {
            // Whoever has handed over to it has nobody here who sends what waits.
            self.store.handovers().give_up(Some(&row.id)).await?;
        }
        let after = self.store.sessions().find_by_key(&row.id).await?;
        // Deleted meanwhile, and the event with it.
        let after = after.ok_or(Error::NotFound(Thing::Session))?;
        Ok(Receipt {
            session_id: after.session_id,
            event: name,
            outcome,
            is_known,
            status: after.status,
        })
    }
}

/// By what a repetition is known. `said` is the hash of all that is said.
fn mark(event: &Event, said: String, called: Option<Called>, timed: Timed) -> Mark {
    match called {
        // The same key for something else is refused while the key is remembered, and is something else later.
        Some(Called::Key(key)) => {
            return Mark::Once(format!("k:{}:{said}", text::hex(&Sha256::digest(key))));
        }
        Some(Called::Id(id)) => return Mark::Once(format!("k:{id}")),
        None => {}
    }
    let is_about_status = status::is_about_status(event);
    match timed {
        // No two codes are the same, and nothing happens twice at one time.
        _ if event.kind() == EventKind::Qr => Mark::Once(said),
        Timed::Second if is_about_status => Mark::Second(said),
        Timed::Second | Timed::Exactly => Mark::Once(said),
        Timed::Not if is_about_status => Mark::Latest(said),
        Timed::Not => Mark::Lately(said),
    }
}
