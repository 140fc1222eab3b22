//! Media of messages: from what is here, else from WhatsApp's media hosts, else from the phone.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use entity::{
    id::{MessageId, SessionKey},
    message,
    state::Direction,
};

use super::Sessions;
use crate::{
    session::{
        Error, Media, MediaError, MediaFile, Obstacle, Spot, ToldMedia,
        client::media::{Fetch, FetchError, is_path, read},
        media::{Found, PATIENCE, Renewal, Source, nameless},
        ownership::Ask,
        runner::Command,
    },
    store,
};

/// How long a session may take to say which hosts there are, before those that everybody knows are asked.
const HOSTS_PATIENCE: Duration = Duration::from_secs(6);

impl Sessions {
    /// What a message says of its media; none when it has none.
    pub async fn describe_media(
        &self,
        row: &message::Model,
    ) -> Result<Option<Media>, store::Error> {
        let raw = self.shared.store.raw(row).await?;
        Ok(raw.as_deref().and_then(|raw| read(raw).or_else(|| ToldMedia::read(raw, row.kind))))
    }

    /// The most bytes that a file may have.
    pub fn largest_media(&self) -> u64 {
        self.shared.media.settings().max_size
    }

    /// The media of a message, decrypted and verified. It is waited for no longer than `patience`, and comes
    /// all the same, to be here when it is asked for again.
    ///
    /// No session is needed for it, unless WhatsApp has it no more: then the phone is asked to upload it again.
    pub async fn media(
        &self,
        row: &message::Model,
        media: &Media,
        patience: Duration,
    ) -> Result<Arc<MediaFile>, MediaError> {
        let limit = self.largest_media();
        if media.size.is_some_and(|size| size > limit) {
            return Err(MediaError::TooLarge { size: media.size, limit });
        }
        let begin = || {
            let (this, row, media) = (self.clone(), row.clone(), media.clone());
            async move { this.bring(row, media).await }
        };
        self.shared.media.get(&row.id, patience, begin).await
    }

    /// The same of what is fetched by other means: `bring` does it in its turn, and verifies it.
    pub async fn media_by<F>(
        &self,
        row: &message::Model,
        patience: Duration,
        bring: impl FnOnce(Spot) -> F + Send + 'static,
    ) -> Result<Arc<MediaFile>, MediaError>
    where
        F: Future<Output = Result<Arc<MediaFile>, MediaError>> + Send + 'static,
    {
        let begin = || {
            let (depot, row) = (self.shared.media.clone(), row.clone());
            async move {
                let spot = Spot::of(&depot, &row).await?;
                let limit = depot.settings().time_limit;
                let brought = tokio::time::timeout(limit, bring(spot)).await;
                brought.unwrap_or(Err(MediaError::Unavailable(Obstacle::Unreachable)))
            }
        };
        self.shared.media.get(&row.id, patience, begin).await
    }

    async fn bring(self, mut row: message::Model, media: Media) -> Found {
        let source = media.source.as_ref().ok_or(MediaError::None)?;
        let mut is_renewed = false;
        loop {
            let path = row.media_path.clone().filter(|path| is_path(path));
            let path = path.as_deref().unwrap_or(&source.path);
            match self.fetch(&row, &media, source, path).await {
                Err(MediaError::Gone) if !is_renewed => {
                    is_renewed = true;
                    row = self.renew_media(&row).await?;
                }
                found => return found,
            }
        }
    }

    /// Fetches it from WhatsApp's media hosts.
    async fn fetch(
        &self,
        row: &message::Model,
        media: &Media,
        source: &Source,
        path: &str,
    ) -> Found {
        let depot = &self.shared.media;
        let settings = depot.settings();
        let limit = media.size.unwrap_or(settings.max_size);
        let _place = depot.place(&row.organization_id).await?;
        let room = depot.room(limit, PATIENCE).await?;
        let directory = settings.directory.clone();
        let file = tokio::task::spawn_blocking(move || nameless(&directory)).await;
        let file = match file {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => return Err(not_stored(row, &error)),
            Err(error) => return Err(not_stored(row, &error)),
        };
        let hosts = self.media_hosts(&row.session_key).await;
        let fetched = self.shared.factory.fetch(Fetch {
            kind: media.kind,
            source,
            path,
            size: media.size,
            limit,
            hosts,
            time_limit: settings.time_limit,
            stop: depot.stop().clone(),
            file,
        });
        match fetched.await {
            Ok(verified) => Ok(depot.file(verified, room)),
            Err(FetchError::Write(error)) => Err(not_stored(row, &*error)),
            Err(FetchError::TooLong) if media.size.is_none() => {
                Err(MediaError::TooLarge { size: None, limit })
            }
            Err(error) => {
                tracing::info!(
                    error = &error as &dyn StdError,
                    message.id = %row.id,
                    "The media of a message could not be fetched"
                );
                Err(match error {
                    FetchError::Gone(_) => MediaError::Gone,
                    FetchError::Damaged(_) | FetchError::TooLong => MediaError::Damaged,
                    _ => MediaError::Unavailable(Obstacle::Unreachable),
                })
            }
        }
    }

    /// The hosts that WhatsApp names to the session, if it is connected here.
    async fn media_hosts(&self, key: &SessionKey) -> Vec<String> {
        let asked = self.ask(key, |answer| Command::MediaHosts { answer });
        let answered = tokio::time::timeout(HOSTS_PATIENCE, asked).await;
        answered.map(Result::unwrap_or_default).unwrap_or_default()
    }

    /// Has the phone upload it again, by whichever daemon runs the session; answers the row that says where.
    async fn renew_media(&self, row: &message::Model) -> Result<message::Model, MediaError> {
        let ask = Ask::RenewMedia { message: row.id.to_string() };
        let renewed = self.by_its_owner(&row.session_key, ask).await;
        renewed.map_err(|error| match error {
            Error::Media(error) => error,
            Error::NotConnected { status } => {
                MediaError::Unavailable(Obstacle::NotConnected(status))
            }
            Error::NotFound => MediaError::Gone,
            _ => MediaError::Unavailable(Obstacle::PhoneSilent),
        })?;
        let found = self.shared.store.messages().find_by_id(&row.id).await;
        found.ok().flatten().ok_or(MediaError::Unavailable(Obstacle::Failed))
    }

    /// The same, where the session runs.
    pub(super) async fn do_renew_media(
        &self,
        key: &SessionKey,
        message: &MessageId,
    ) -> Result<(), Error> {
        let row = self
            .shared
            .store
            .messages()
            .find_by_id(message)
            .await?
            .filter(|row| row.session_key == *key);
        let row = row.ok_or(Error::NotFound)?;
        let source = self.describe_media(&row).await?.and_then(|media| media.source);
        // What a channel has published is no phone's to upload.
        let gone = || Error::Media(MediaError::Gone);
        let renewal = Renewal {
            wa_id: row.wa_id.clone(),
            chat: row.chat.clone(),
            sender: row.sender.clone(),
            is_from_me: row.direction == Direction::Outbound,
            key: source.and_then(|source| source.key).ok_or_else(gone)?,
        };
        let asked = self.ask_run(key, |answer| Command::RenewMedia { renewal, answer }).await;
        let (path, hold) = match asked {
            Err(Error::NotRunning) => match self.ownership.owner(key).await? {
                Some(node) => return Err(Error::Elsewhere { node }),
                None => return Err(self.not_connected(key).await),
            },
            asked => asked?,
        };
        let path = path.map_err(Error::Media)?;
        hold.store(&self.shared.store).messages().move_media(&row, path).await?;
        Ok(())
    }
}

fn not_stored(row: &message::Model, error: &(dyn StdError + 'static)) -> MediaError {
    tracing::error!(error, message.id = %row.id, "The media of a message could not be stored");
    MediaError::Unavailable(Obstacle::Failed)
}
