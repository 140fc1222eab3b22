//! The secrets among what the store itself keeps: pairing codes, and messages as they came.

use entity::{event, id::SessionKey, kind::EventKind, message, session};

use super::{Error, Patience, Store};
use crate::vault::{Column, OpenError, Part, Sealer};

/// Also in the payload of the event that announces it: the same sealed text.
const QR: Column = Column::new("session", "qr");
const RAW: Column = Column::new("message", "raw");

pub(super) fn seal_qr(sealer: &Sealer, session: &SessionKey, qr: &str) -> String {
    sealer.seal_text(QR, &[Part::from(session.as_str())], qr)
}

pub(super) fn open_qr(
    sealer: &Sealer,
    session: &SessionKey,
    stored: &str,
) -> Result<String, OpenError> {
    sealer.open_text(QR, &[Part::from(session.as_str())], stored)
}

pub(super) fn seal_raw(
    sealer: &Sealer,
    session: &SessionKey,
    dedupe_key: &str,
    raw: &[u8],
) -> Vec<u8> {
    sealer.seal(RAW, &[Part::from(session.as_str()), Part::from(dedupe_key)], raw)
}

pub(super) fn open_raw(
    sealer: &Sealer,
    session: &SessionKey,
    dedupe_key: &str,
    stored: &[u8],
) -> Result<Vec<u8>, OpenError> {
    sealer.open(RAW, &[Part::from(session.as_str()), Part::from(dedupe_key)], stored)
}

/// Opens the pairing code in an event's payload. One that does not open is no code: a feed must not
/// stop at a row that somebody has damaged.
pub(super) fn open_event(sealer: &Sealer, row: &mut event::Model) {
    if row.kind != EventKind::Qr {
        return;
    }
    change_qr(&mut row.payload, |stored| {
        let opened = open_qr(sealer, &row.session_key, stored);
        opened.inspect_err(|err| complain(*err, row.id.as_str())).ok()
    });
}

/// Replaces the pairing code in the payload of a `qr` event.
pub(super) fn change_qr(payload: &mut String, change: impl FnOnce(&str) -> Option<String>) {
    let Ok(mut data) = serde_json::from_str::<serde_json::Value>(payload) else { return };
    if let Some(qr) = data.get_mut("qr")
        && let Some(text) = qr.as_str()
    {
        *qr = change(text).into();
        *payload = data.to_string();
    }
}

fn complain(err: OpenError, row: &str) {
    tracing::error!(error = &err as &dyn std::error::Error, row, "A pairing code does not open");
}

impl Store {
    /// Opens the pairing codes of sessions. One that does not open is no code.
    pub(super) async fn open_sessions(
        &self,
        mut rows: Vec<session::Model>,
    ) -> Result<Vec<session::Model>, Error> {
        for row in &mut rows {
            if let Some(stored) = &row.qr {
                let sealer = self.sealer(&row.organization_id, Patience::Fail).await?;
                let opened = open_qr(&sealer, &row.id, stored);
                row.qr = opened.inspect_err(|err| complain(*err, row.id.as_str())).ok();
            }
        }
        Ok(rows)
    }

    /// The same for one that may not be there.
    pub(super) async fn open_session(
        &self,
        row: Option<session::Model>,
    ) -> Result<Option<session::Model>, Error> {
        match row {
            Some(row) => Ok(self.open_sessions(vec![row]).await?.pop()),
            None => Ok(None),
        }
    }

    /// A message as it came: WhatsApp's protobuf. None when it was not kept, or does not open.
    pub async fn raw(&self, row: &message::Model) -> Result<Option<Vec<u8>>, Error> {
        let Some(stored) = &row.raw else { return Ok(None) };
        let sealer = self.sealer(&row.organization_id, Patience::Fail).await?;
        let opened = open_raw(&sealer, &row.session_key, &row.dedupe_key, stored);
        Ok(opened
            .inspect_err(|err| {
                tracing::error!(
                    error = err as &dyn std::error::Error,
                    row = row.id.as_str(),
                    "A message as it came does not open"
                );
            })
            .ok())
    }
}
