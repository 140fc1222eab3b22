//! A place among downloads, for whoever fetches a file by other means than a session's client.

use std::{fs::File, sync::Arc};

use entity::{id::MessageId, message};

use super::{
    MediaError, MediaFile, Obstacle,
    depot::{Depot, PATIENCE, Place, Room},
    nameless,
};

/// A turn to download one file. It ends when this is dropped.
#[derive(Debug)]
pub struct Spot {
    depot: Depot,
    message: MessageId,
    _place: Place,
}

/// An empty file, and room for what is to be in it.
#[derive(Debug)]
pub struct Blank {
    depot: Depot,
    file: File,
    room: Room,
    limit: u64,
}

impl Spot {
    /// Waits for a turn.
    pub(in crate::session) async fn of(
        depot: &Depot,
        row: &message::Model,
    ) -> Result<Self, MediaError> {
        let place = depot.place(&row.organization_id).await?;
        Ok(Self { depot: depot.clone(), message: row.id.clone(), _place: place })
    }

    /// The largest file that is downloaded.
    pub fn largest(&self) -> u64 {
        self.depot.settings().max_size
    }

    /// An empty file, when there is room for so many bytes.
    pub async fn blank(&self, limit: u64) -> Result<Blank, MediaError> {
        let room = self.depot.room(limit, PATIENCE).await?;
        let directory = self.depot.settings().directory.clone();
        let made = tokio::task::spawn_blocking(move || nameless(&directory)).await;
        let file = made.map_err(|_| self.not_stored(None))?;
        let file = file.map_err(|error| self.not_stored(Some(&error)))?;
        Ok(Blank { depot: self.depot.clone(), file, room, limit })
    }

    /// A file cannot be written.
    pub fn not_stored(&self, error: Option<&std::io::Error>) -> MediaError {
        tracing::error!(
            error = error.map(|it| it as &(dyn std::error::Error + 'static)),
            message.id = %self.message,
            "The media of a message could not be stored"
        );
        MediaError::Unavailable(Obstacle::Failed)
    }
}

impl Blank {
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The most bytes that it may come to have.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// What was written to it and verified, as a file for readers.
    pub fn keep(self, length: u64, sha256: [u8; 32]) -> Arc<MediaFile> {
        self.depot.file((self.file, length, sha256), self.room)
    }
}
