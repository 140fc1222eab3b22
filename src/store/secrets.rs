//! The secrets among what the store itself keeps: pairing codes, what callers keep with sessions, and messages as they came.

use entity::{event, id::SessionKey, kind::EventKind, message, session};

use super::{Error, Patience, Store};
use crate::vault::{Column, OpenError, Part, Sealer};

/// Also in the payload of the event that announces it: the same sealed text.
const QR: Column = Column::new("session", "qr");
/// What a client elsewhere has told under a name that is none of ours: a pairing code may be in it.
const TOLD: Column = Column::new("event", "data");
/// What its caller keeps with a session that runs elsewhere: a device's private keys may be in it.
const DATA: Column = Column::new("session", "session_data");
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

pub(super) fn seal_data(sealer: &Sealer, session: &SessionKey, data: &str) -> String {
    sealer.seal_text(DATA, &[Part::from(session.as_str())], data)
}

/// Whether that is sealed.
pub(super) fn is_data_sealed(sealer: &Sealer, session: &SessionKey, stored: &str) -> bool {
    sealer.open_text(DATA, &[Part::from(session.as_str())], stored).is_ok()
}

fn open_data(sealer: &Sealer, session: &SessionKey, stored: String) -> Option<String> {
    match sealer.open_text(DATA, &[Part::from(session.as_str())], &stored) {
        Ok(data) => Some(data),
        // Of before it was sealed: the text of an object.
        Err(OpenError::NotSealed) => Some(stored),
        Err(err) => {
            complain(sealer, err, session.as_str());
            None
        }
    }
}

/// Seals what was told under an unknown name.
pub(super) fn seal_told(sealer: &Sealer, session: &SessionKey, data: &mut serde_json::Value) {
    let text = data.to_string();
    *data = sealer.seal_text(TOLD, &[Part::from(session.as_str())], &text).into();
}

/// Opens it in the payload of its event. What does not open is nothing.
pub(super) fn open_told(sealer: &Sealer, session: &SessionKey, payload: &mut String) {
    let Ok(mut data) = serde_json::from_str::<serde_json::Value>(payload) else { return };
    let Some(told) = data.get_mut("data") else { return };
    let Some(stored) = told.as_str() else { return };
    *told = match sealer.open_text(TOLD, &[Part::from(session.as_str())], stored) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
        // Of before it was sealed: a text.
        Err(OpenError::NotSealed) => return,
        Err(err) => {
            complain(sealer, err, session.as_str());
            serde_json::Value::Null
        }
    };
    *payload = data.to_string();
}

/// Seals it in the payload of an event of before it was sealed. False if there is nothing to seal.
pub(super) fn seal_old_told(sealer: &Sealer, session: &SessionKey, payload: &mut String) -> bool {
    let Ok(mut data) = serde_json::from_str::<serde_json::Value>(payload) else { return false };
    let Some(told) = data.get_mut("data") else { return false };
    let row = [Part::from(session.as_str())];
    if told.as_str().is_some_and(|stored| sealer.open_text(TOLD, &row, stored).is_ok()) {
        return false;
    }
    seal_told(sealer, session, told);
    *payload = data.to_string();
    true
}

/// Whether something in the payload of such events is sealed.
pub(super) const fn is_sealed(kind: EventKind) -> bool {
    matches!(kind, EventKind::Qr | EventKind::Unknown)
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

/// Seals a message as it came for another key of its row.
///
/// What does not open stays as it is. It is of use to whoever has its key one day, or knows what it was before it was
/// damaged, and to nobody once it is gone; and it opens as little for the new key as for the old one.
pub(super) fn reseal_raw(
    sealer: &Sealer,
    session: &SessionKey,
    row: &message::Model,
    dedupe_key: &str,
) -> Option<Vec<u8>> {
    let stored = row.raw.as_deref()?;
    match open_raw(sealer, session, &row.dedupe_key, stored) {
        Ok(opened) => Some(seal_raw(sealer, session, dedupe_key, &opened)),
        Err(err) => {
            sealer.count_unsealed(err);
            tracing::error!(
                error = &err as &dyn std::error::Error,
                row = row.id.as_str(),
                "A message as it came does not open; it is kept as it is"
            );
            Some(stored.to_vec())
        }
    }
}

/// Opens what is sealed in an event's payload. What does not open is nothing: a feed must not
/// stop at a row that somebody has damaged.
pub(super) fn open_event(sealer: &Sealer, row: &mut event::Model) {
    if row.kind == EventKind::Unknown {
        open_told(sealer, &row.session_key, &mut row.payload);
    }
    if row.kind != EventKind::Qr {
        return;
    }
    change_qr(&mut row.payload, |stored| {
        let opened = open_qr(sealer, &row.session_key, stored);
        opened.inspect_err(|err| complain(sealer, *err, row.id.as_str())).ok()
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

fn complain(sealer: &Sealer, err: OpenError, row: &str) {
    sealer.count_unsealed(err);
    tracing::error!(
        error = &err as &dyn std::error::Error,
        row,
        "A secret of a session does not open"
    );
}

impl Store {
    /// Opens the pairing codes of sessions, and what their callers keep with them. What does not open is nothing.
    pub(super) async fn open_sessions(
        &self,
        rows: Vec<session::Model>,
    ) -> Result<Vec<session::Model>, Error> {
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows {
            opened.push(self.opened(row).await?);
        }
        Ok(opened)
    }

    /// The same for one.
    pub(super) async fn opened(&self, mut row: session::Model) -> Result<session::Model, Error> {
        if row.qr.is_none() && row.session_data.is_none() {
            return Ok(row);
        }
        let sealer = self.sealer(&row.organization_id, Patience::Fail).await?;
        if let Some(stored) = &row.qr {
            let opened = open_qr(&sealer, &row.id, stored);
            row.qr = opened.inspect_err(|err| complain(&sealer, *err, row.id.as_str())).ok();
        }
        if let Some(stored) = row.session_data.take() {
            row.session_data = open_data(&sealer, &row.id, stored);
        }
        Ok(row)
    }

    /// The same for one that may not be there.
    pub(super) async fn open_session(
        &self,
        row: Option<session::Model>,
    ) -> Result<Option<session::Model>, Error> {
        match row {
            Some(row) => self.opened(row).await.map(Some),
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
                sealer.count_unsealed(*err);
                tracing::error!(
                    error = err as &dyn std::error::Error,
                    row = row.id.as_str(),
                    "A message as it came does not open"
                );
            })
            .ok())
    }
}
