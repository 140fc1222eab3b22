//! What is owed to an endpoint whose order was changed.
//!
//! A delivery has the key among whose likes it keeps its order from when it was made, and what is due is
//! looked for by such keys. So a change of an endpoint's order goes through what it is owed, a few hundred
//! at a time; what was left of it, or was made with the old order in mind meanwhile, is found by upkeep.

use entity::{id::EndpointId, webhook::state::Ordering};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    Webhooks,
    fanout::STRICT,
    upkeep::{CHUNK, CLAIMED},
};
use crate::store::Error;

/// The conversation of an event that retention has taken.
const UNKNOWN: &str = "unknown";

/// Open deliveries that have a key, as their index has them.
const KEYED: &str = "state IN ('pending', 'claimed') AND order_key IS NOT NULL";

impl Webhooks {
    /// Gives all that is owed to an endpoint the key that its order asks for. Returns how many had another.
    pub(super) async fn reorder(&self, id: &EndpointId, ordering: Ordering) -> Result<u64, Error> {
        let mut total = 0;
        for wrong in wrong(ordering) {
            let which = format!(
                "SELECT id FROM webhook_delivery WHERE endpoint_id = '{id}' AND {wrong} \
                 ORDER BY seq LIMIT {CHUNK}"
            );
            let set = format!("order_key = {}", key(ordering));
            loop {
                let changed = self.chunk(which.clone(), set.clone(), "TRUE").await?;
                total += changed;
                if changed < CHUNK {
                    break;
                }
            }
        }
        if total > 0 {
            self.touch([id.clone()]);
        }
        Ok(total)
    }

    /// The same for all endpoints of which somebody has left something. Returns how many had another key.
    pub async fn reorder_all(&self) -> Result<u64, Error> {
        let of = |ordering: Ordering| {
            let there: Vec<_> = wrong(ordering)
                .iter()
                .map(|wrong| {
                    format!("EXISTS (SELECT 1 FROM webhook_delivery WHERE endpoint_id = e.id AND {wrong})")
                })
                .collect();
            format!("(e.ordering = '{}' AND ({}))", ordering.word(), there.join(" OR "))
        };
        let each = [Ordering::None, Ordering::ByConversation, Ordering::Strict].map(of);
        let ask = format!(
            "SELECT e.id, e.ordering FROM webhook_endpoint e WHERE e.state <> 'deleted' AND ({})",
            each.join(" OR ")
        );
        let db = self.store.reader();
        let ask = Statement::from_string(db.get_database_backend(), ask);
        let mut total = 0;
        for row in db.query_all_raw(ask).await? {
            let id: EndpointId = row.try_get_by_index(0)?;
            total += self.reorder(&id, row.try_get_by_index(1)?).await?;
        }
        Ok(total)
    }
}

/// Conditions on open deliveries that have a key which the order does not ask for; each has its index.
fn wrong(ordering: Ordering) -> Vec<String> {
    // What is being sent first: what waits must find it.
    let keyless =
        [CLAIMED, "state = 'pending'"].map(|open| format!("{open} AND order_key IS NULL"));
    match ordering {
        Ordering::None => vec![KEYED.to_owned()],
        Ordering::ByConversation => {
            let strict = format!("{KEYED} AND order_key = '{STRICT}'");
            [strict].into_iter().chain(keyless).collect()
        }
        Ordering::Strict => {
            let others = format!("{KEYED} AND order_key > '{STRICT}'");
            [others].into_iter().chain(keyless).collect()
        }
    }
}

/// The key of a delivery, as SQL.
fn key(ordering: Ordering) -> String {
    match ordering {
        Ordering::None => "NULL".to_owned(),
        Ordering::ByConversation => format!(
            "COALESCE((SELECT NULLIF(e.conversation, '') FROM webhook_event e \
             WHERE e.id = webhook_delivery.event_id), '{UNKNOWN}')"
        ),
        Ordering::Strict => format!("'{STRICT}'"),
    }
}
