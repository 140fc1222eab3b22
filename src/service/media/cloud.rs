//! Files of messages to numbers at Meta's: asked for with the account's token, and verified.

use std::sync::Arc;

use entity::{message, meta::state::MetaStatus};

use super::{Media, MediaError, MediaFile, Obstacle};
use crate::{
    graph::{DownloadError, Error, MediaInfo},
    session::{AtMeta, Spot},
    store,
};

/// How often Meta is asked where a file is: an address is good for some minutes only.
const LOOKS: usize = 2;

/// Fetches the file of a message, in the turn that `spot` is.
pub(super) async fn bring(
    media: Media,
    spot: Spot,
    row: message::Model,
    at: AtMeta,
) -> Result<Arc<MediaFile>, MediaError> {
    let (token, number) = {
        let meta = media.store.meta();
        let found = meta.account_of_session(&row.organization_id, &row.session_key).await;
        let account = found.map_err(|error| away(&error))?;
        let account = account.filter(|it| it.status != MetaStatus::Disabled).ok_or(REFUSED)?;
        let token = meta.access_token(&account).await.map_err(|error| away(&error))?;
        (token.ok_or(REFUSED)?, account.phone_number_id)
    };
    let mut looks = 0;
    loop {
        looks += 1;
        let told = media.graph.media(token.expose(), &number, &at.id).await;
        let info = told.map_err(|error| why(&error, &row))?;
        match fetch(&media, &spot, &row, (token.expose(), &info, &at)).await {
            Err(MediaError::Gone) if looks < LOOKS => {}
            found => return found,
        }
    }
}

async fn fetch(
    media: &Media,
    spot: &Spot,
    row: &message::Model,
    (token, info, at): (&str, &MediaInfo, &AtMeta),
) -> Result<Arc<MediaFile>, MediaError> {
    let largest = spot.largest();
    if info.size.is_some_and(|size| size > largest) {
        return Err(MediaError::TooLarge { size: info.size, limit: largest });
    }
    let blank = spot.blank(info.size.unwrap_or(largest)).await?;
    let fetched = media.graph.download(token, info, (blank.file(), blank.limit())).await;
    let (length, sha256) = match fetched {
        Ok(written) => written,
        Err(DownloadError::TooLong) if info.size.is_none() => {
            return Err(MediaError::TooLarge { size: None, limit: largest });
        }
        Err(DownloadError::TooLong) => return Err(MediaError::Damaged),
        Err(DownloadError::Write(error)) => return Err(spot.not_stored(Some(&error))),
        Err(DownloadError::Graph(error)) => return Err(why(&error, row)),
    };
    let is_whole = info.size.is_none_or(|size| size == length);
    let expected = at.sha256.or(info.sha256);
    if is_whole && expected.is_none_or(|expected| expected == sha256) {
        Ok(blank.keep(length, sha256))
    } else {
        Err(MediaError::Damaged)
    }
}

const REFUSED: MediaError = MediaError::Unavailable(Obstacle::Refused);

fn why(error: &Error, row: &message::Model) -> MediaError {
    tracing::info!(
        error = error as &dyn std::error::Error,
        message.id = %row.id,
        "The media of a message could not be fetched from Meta"
    );
    match error {
        Error::Refused(refusal) if refusal.is_of_absence() => MediaError::Gone,
        Error::Refused(refusal) if !refusal.is_passing() => REFUSED,
        Error::ForeignHost => REFUSED,
        _ => MediaError::Unavailable(Obstacle::Unreachable),
    }
}

fn away(error: &store::Error) -> MediaError {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "The account of a message could not be looked up"
    );
    MediaError::Unavailable(Obstacle::Failed)
}
