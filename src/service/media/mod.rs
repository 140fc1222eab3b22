//! Media of messages: described, and handed out as files that were verified.
//!
//! `cloud.rs`: those of numbers at Meta's, which Meta is asked for.

mod cloud;

use std::{sync::Arc, time::Duration};

use entity::{
    id::{MessageId, SessionId},
    message,
    state::{Origin, Role},
};

use super::{Error, Messages, Principal, sessions};
use crate::{
    graph::{self, Graph},
    session::{AtMeta, Sessions as Manager},
    store::Store,
};

pub use crate::session::{Media as Description, MediaError, MediaFile, MediaKind, Obstacle};

/// How long a caller waits for a file at most.
const PATIENCE: Duration = Duration::from_mins(1);

/// Media, as far as a caller may see it.
#[derive(Clone, Debug)]
pub struct Media {
    store: Store,
    messages: Messages,
    manager: Manager,
    graph: Graph,
}

/// Media that a message has and that may be handed out.
#[derive(Clone, Debug)]
pub struct Offer {
    row: message::Model,
    pub media: Description,
    /// What its file hashes to, if that is known before it is here.
    pub sha256: Option<[u8; 32]>,
}

impl Media {
    pub fn new(store: Store, messages: Messages, manager: Manager, graph: &Graph) -> Self {
        Self { store, messages, manager, graph: graph.clone() }
    }

    /// What a message that the caller has seen says of its media; none when it has none.
    /// `channel` is where its session's socket lives.
    pub async fn describe(
        &self,
        channel: Origin,
        row: &message::Model,
    ) -> Result<Option<Description>, Error> {
        if !row.kind.has_media() {
            return Ok(None);
        }
        if channel == Origin::Cloud {
            let raw = self.store.raw(row).await?;
            return Ok(raw.and_then(|raw| Description::of_cloud(&raw, row.kind, graph::sha256)));
        }
        Ok(self.manager.describe_media(row).await?)
    }

    /// What there is to be handed out of a message.
    pub async fn look(
        &self,
        caller: &Principal,
        session: &SessionId,
        id: &MessageId,
    ) -> Result<Offer, Error> {
        caller.require(Role::Viewer)?;
        let found = sessions::find(&self.store, caller, session).await?;
        if found.origin != Origin::Cloud {
            sessions::embedded(&found)?;
        }
        let (row, _) = self.messages.find(caller, session, id).await?;
        let media = self.describe(found.origin, &row).await?.ok_or(MediaError::None)?;
        if media.is_view_once {
            return Err(MediaError::ViewOnce.into());
        }
        if !media.is_somewhere() {
            return Err(MediaError::None.into());
        }
        let sha256 = media.sha256().copied();
        let limit = self.manager.largest_media();
        if media.size.is_some_and(|size| size > limit) {
            return Err(MediaError::TooLarge { size: media.size, limit }.into());
        }
        Ok(Offer { row, media, sha256 })
    }

    /// The file: from WhatsApp, or from Meta, if it is not here.
    pub async fn open(&self, offer: &Offer) -> Result<Arc<MediaFile>, Error> {
        if let Some(AtMeta { id, sha256 }) = &offer.media.at_meta {
            let (this, row) = (self.clone(), offer.row.clone());
            let at = AtMeta { id: id.clone(), sha256: *sha256 };
            let bring = move |spot| cloud::bring(this, spot, row, at);
            return Ok(self.manager.media_by(&offer.row, PATIENCE, bring).await?);
        }
        Ok(self.manager.media(&offer.row, &offer.media, PATIENCE).await?)
    }
}
