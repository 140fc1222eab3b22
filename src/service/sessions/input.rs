//! What callers want a session to be like, checked: all that is wrong at once.

use std::str::FromStr;

use entity::{
    id::SessionId,
    session,
    state::{DesiredState, Origin, ReceiverAuth},
};
use uuid::Uuid;

use super::{ChangeSession, CreateExternal, CreateSession, Error};
use crate::{
    service::{FieldError, external, recipient, text},
    store::sessions::{Change, NewExternal, NewSession, Receiver, Settings},
    webhook::SigningSecret,
};

/// The id of a session: the caller's, or one that is made up.
pub(super) fn named_session(id: Option<SessionId>) -> Result<SessionId, Error> {
    match id {
        Some(id) => Ok(id),
        None => SessionId::from_str(&format!("wa_{}", Uuid::new_v4()))
            .map_err(|error| Error::invalid("sessionId", error.to_string())),
    }
}

pub(super) fn new_session(create: CreateSession) -> Result<NewSession, Error> {
    let session_id = named_session(create.session_id)?;
    let user_id = create.user_id.map(|user| text::user_id("userId", &user)).transpose();
    let phone_number = create.phone_number.map(|number| digits("phoneNumber", &number)).transpose();
    let is_external = create.external.is_some();
    let external = create.external.as_ref().map(new_external).transpose();
    let ai_config = create.ai_config.map(|it| text::config("aiConfig", &it)).transpose();
    match (user_id, phone_number, external, ai_config) {
        (Ok(user_id), Ok(phone_number), Ok(external), Ok(ai_config)) => Ok(NewSession {
            session_id,
            user_id,
            phone_number,
            // Nobody starts here what runs elsewhere.
            desired_state: if create.stopped || is_external {
                DesiredState::Stopped
            } else {
                DesiredState::Running
            },
            is_notification: create.is_notification,
            ai_config,
            external,
        }),
        (user_id, phone_number, external, ai_config) => {
            let faults = [user_id.err(), phone_number.err(), external.err(), ai_config.err()];
            Err(Error::Invalid(faults.into_iter().flatten().collect()))
        }
    }
}

fn new_external(create: &CreateExternal) -> Result<NewExternal, FieldError> {
    let data = create.data.as_ref().map(external::session_data).transpose()?;
    Ok(NewExternal { data, receiver: receiver(create.auth, false) })
}

/// How events are let in from now on, with a secret if that takes one and there is none.
fn receiver(auth: ReceiverAuth, has_secret: bool) -> Receiver {
    let needs_secret = auth != ReceiverAuth::Token && !has_secret;
    Receiver { auth, secret: needs_secret.then(SigningSecret::generate_plain) }
}

pub(super) fn settings(change: ChangeSession, row: &session::Model) -> Result<Settings, Error> {
    let is_external = row.origin == Origin::External;
    let user_id = checked(change.user_id, |user| text::user_id("userId", &user));
    let phone_number = checked(change.phone_number, |number| digits("phoneNumber", &number));
    let ai_config = checked(change.ai_config, |object| text::config("aiConfig", &object));
    let data = checked(change.data, |data| external::session_data(&data));
    let elsewhere = |name, is_changed| {
        let fault = FieldError::new(name, "is for sessions that run elsewhere");
        (is_changed && !is_external).then_some(fault)
    };
    let misplaced = [
        elsewhere("sessionData", !matches!(data, Ok(Change::Keep))),
        elsewhere("webhookAuth", change.auth.is_some()),
    ];
    let misplaced: Vec<_> = misplaced.into_iter().flatten().collect();
    match (user_id, phone_number, ai_config, data) {
        (Ok(user_id), Ok(phone_number), Ok(ai_config), Ok(session_data))
            if misplaced.is_empty() =>
        {
            let has_secret = row.receiver_secret.is_some();
            Ok(Settings {
                user_id,
                phone_number,
                is_notification: change.is_notification,
                ai_config,
                session_data,
                receiver: change.auth.map(|auth| receiver(auth, has_secret)),
            })
        }
        (user_id, phone_number, ai_config, data) => {
            let faults = [user_id.err(), phone_number.err(), ai_config.err(), data.err()];
            Err(Error::Invalid(faults.into_iter().flatten().chain(misplaced).collect()))
        }
    }
}

fn checked<T, U>(
    change: Change<T>,
    check: impl FnOnce(T) -> Result<U, FieldError>,
) -> Result<Change<U>, FieldError> {
    Ok(match change {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::To(value) => Change::To(check(value)?),
    })
}

pub(super) fn digits(name: &str, number: &str) -> Result<String, FieldError> {
    recipient::phone_number(number)
        .map_err(|malformed| FieldError::new(name, malformed.to_string()))
}
