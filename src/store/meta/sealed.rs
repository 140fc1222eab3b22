//! The secrets of accounts, sealed and open, and the hashes by which they are found.

use std::fmt;

use entity::meta::{account, body};
use zeroize::Zeroizing;

use super::Meta;
use crate::{
    store::{Error, Patience},
    vault::{Column, OpenError, Part, Sealer},
};

const APP_SECRET: Column = Column::new("meta_account", "app_secret");
const PREVIOUS_SECRET: Column = Column::new("meta_account", "previous_secret");
const ACCESS_TOKEN: Column = Column::new("meta_account", "access_token");
const BODY: Column = Column::new("meta_body", "body");

/// Text that is not shown, and is wiped when it is let go of.
#[derive(Clone, PartialEq, Eq)]
pub struct Open(Zeroizing<String>);

impl Open {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Open {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open(…)")
    }
}

/// An account's secrets, open.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    pub app: Option<Open>,
    pub previous: Option<Open>,
}

/// Seals the secrets that are given into the account's row.
pub(super) fn seal_into(
    sealer: &Sealer,
    row: &mut account::Model,
    secrets: &Secrets,
    access_token: Option<&Open>,
) {
    let key = [Part::from(row.id.as_str())];
    let seal = |column, text: &Open| sealer.seal(column, &key, text.expose().as_bytes());
    row.app_secret = secrets.app.as_ref().map(|text| seal(APP_SECRET, text));
    row.previous_secret = secrets.previous.as_ref().map(|text| seal(PREVIOUS_SECRET, text));
    if let Some(token) = access_token {
        row.access_token = Some(seal(ACCESS_TOKEN, token));
    }
}

fn open(
    sealer: &Sealer,
    row: &account::Model,
    (column, kept): (Column, Option<&Vec<u8>>),
) -> Result<Option<Open>, OpenError> {
    let Some(kept) = kept else { return Ok(None) };
    let bytes = sealer.open(column, &[Part::from(row.id.as_str())], kept)?;
    let text = String::from_utf8(bytes).map_err(|_| OpenError::Altered)?;
    Ok(Some(text.into()))
}

pub(super) fn seal_body(sealer: &Sealer, row: &body::Model, body: &[u8]) -> Vec<u8> {
    sealer.seal(BODY, &[Part::from(row.id.as_str())], body)
}

impl Meta {
    /// An account's secrets. One that does not open is none: nothing is signed by it.
    pub async fn secrets(&self, row: &account::Model) -> Result<Secrets, Error> {
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        let opened = |cell| {
            open(&sealer, row, cell).unwrap_or_else(|error| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    meta.account = %row.id,
                    "A secret of an account at Meta does not open"
                );
                None
            })
        };
        Ok(Secrets {
            app: opened((APP_SECRET, row.app_secret.as_ref())),
            previous: opened((PREVIOUS_SECRET, row.previous_secret.as_ref())),
        })
    }

    /// What the Graph API is called with for an account. None if it has none, or it does not open.
    pub async fn access_token(&self, row: &account::Model) -> Result<Option<Open>, Error> {
        let sealer = self.store.sealer(&row.organization_id, Patience::Wait).await?;
        let opened = open(&sealer, row, (ACCESS_TOKEN, row.access_token.as_ref()));
        Ok(opened.unwrap_or_else(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                meta.account = %row.id,
                "The access token of an account at Meta does not open"
            );
            None
        }))
    }

    /// Seals secrets into an account's row: those of the app as they are given, the access token if it is given.
    pub async fn seal(
        &self,
        row: &mut account::Model,
        secrets: &Secrets,
        access_token: Option<&Open>,
    ) -> Result<(), Error> {
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        seal_into(&sealer, row, secrets, access_token);
        Ok(())
    }

    /// What was posted, as it came. None if it does not open.
    pub async fn open_body(&self, row: &body::Model) -> Result<Option<Vec<u8>>, Error> {
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        let opened = sealer.open(BODY, &[Part::from(row.id.as_str())], &row.body);
        Ok(opened
            .inspect_err(|error| {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    meta.body = %row.id,
                    "What Meta has posted does not open"
                );
            })
            .ok())
    }
}
