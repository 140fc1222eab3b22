//! Media of messages: described, and handed out as files that were verified.

use std::{sync::Arc, time::Duration};

use entity::{
    id::{MessageId, SessionId},
    message,
    state::Role,
};

use super::{Error, Messages, Principal, sessions};
use crate::{session::Sessions as Manager, store::Store};

pub use crate::session::{Media as Description, MediaError, MediaFile, MediaKind, Obstacle};

/// How long a caller waits for a file at most.
const PATIENCE: Duration = Duration::from_mins(1);

/// Media, as far as a caller may see it.
#[derive(Clone, Debug)]
pub struct Media {
    store: Store,
    messages: Messages,
    manager: Manager,
}

/// Media that a message has and that may be handed out.
#[derive(Clone, Debug)]
pub struct Offer {
    row: message::Model,
    pub media: Description,
    /// What its file hashes to, or there is none.
    pub sha256: [u8; 32],
}

impl Media {
    pub const fn new(store: Store, messages: Messages, manager: Manager) -> Self {
        Self { store, messages, manager }
    }

    /// What a message that the caller has seen says of its media; none when it has none.
    pub async fn describe(&self, row: &message::Model) -> Result<Option<Description>, Error> {
        if !row.kind.has_media() {
            return Ok(None);
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
        sessions::embedded(&found)?;
        let (row, _) = self.messages.find(caller, session, id).await?;
        let media = self.describe(&row).await?.ok_or(MediaError::None)?;
        if media.is_view_once {
            return Err(MediaError::ViewOnce.into());
        }
        let sha256 = *media.sha256().ok_or(MediaError::None)?;
        let limit = self.manager.largest_media();
        if media.size.is_some_and(|size| size > limit) {
            return Err(MediaError::TooLarge { size: media.size, limit }.into());
        }
        Ok(Offer { row, media, sha256 })
    }

    /// The file: from WhatsApp, if it is not here.
    pub async fn open(&self, offer: &Offer) -> Result<Arc<MediaFile>, Error> {
        Ok(self.manager.media(&offer.row, &offer.media, PATIENCE).await?)
    }
}
