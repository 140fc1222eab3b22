//! Every reason there is for an end, so that no story leaves one out. Each list is checked by a match that
//! does not compile when a reason is added.

use proptest::prelude::*;
use wagate::event::{AuthFailure, Disconnect, Loss, PairingFailure};

/// One of these.
pub(crate) fn one_of<T: Clone + std::fmt::Debug + 'static>(
    all: Vec<T>,
) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

pub(crate) fn losses() -> Vec<Loss> {
    let all = vec![
        Loss::ConnectionLost,
        Loss::Unreachable,
        Loss::ServerNotTrusted,
        Loss::Silent,
        Loss::DialTimeout,
        Loss::LoginTimeout,
        Loss::PairingTimeout,
        Loss::LoadingTimeout,
        Loss::StreamError { code: None },
        Loss::StreamError { code: Some(515) },
        Loss::ServerUnavailable { code: 503 },
        Loss::RateLimited,
        Loss::ClientFailed,
        Loss::NotRecorded,
        Loss::Panicked,
        Loss::Restarted,
    ];
    for loss in &all {
        match loss {
            Loss::ConnectionLost
            | Loss::Unreachable
            | Loss::ServerNotTrusted
            | Loss::Silent
            | Loss::DialTimeout
            | Loss::LoginTimeout
            | Loss::PairingTimeout
            | Loss::LoadingTimeout
            | Loss::StreamError { .. }
            | Loss::ServerUnavailable { .. }
            | Loss::RateLimited
            | Loss::ClientFailed
            | Loss::NotRecorded
            | Loss::Panicked
            | Loss::Restarted => {}
        }
    }
    all
}

pub(crate) fn disconnects() -> Vec<Disconnect> {
    let all = vec![
        Disconnect::LoggedOut { code: Some(401) },
        Disconnect::LoggedOut { code: None },
        Disconnect::LoggedOutHere,
        Disconnect::Replaced,
        Disconnect::QrCodesExhausted,
        Disconnect::Stopped,
        Disconnect::Failed,
        Disconnect::Restored,
    ];
    for disconnect in &all {
        match disconnect {
            Disconnect::LoggedOut { .. }
            | Disconnect::LoggedOutHere
            | Disconnect::Replaced
            | Disconnect::QrCodesExhausted
            | Disconnect::Stopped
            | Disconnect::Failed
            | Disconnect::Restored => {}
        }
    }
    all
}

/// All but a ban, which is one until a time.
pub(crate) fn refusals() -> Vec<AuthFailure> {
    let all = vec![
        AuthFailure::PairingRefused { detail: "of no use".to_owned(), code: None },
        AuthFailure::OtherAccount { unlinked: true },
        AuthFailure::OtherAccount { unlinked: false },
        AuthFailure::MultideviceUnavailable,
        AuthFailure::CredentialsRefused { code: 401 },
        AuthFailure::AccountLocked,
        AuthFailure::ClientOutdated,
        AuthFailure::ConnectRefused { code: 406 },
        AuthFailure::ServerNotTrusted,
    ];
    for refusal in &all {
        match refusal {
            AuthFailure::PairingRefused { .. }
            | AuthFailure::OtherAccount { .. }
            | AuthFailure::MultideviceUnavailable
            | AuthFailure::CredentialsRefused { .. }
            | AuthFailure::AccountLocked
            | AuthFailure::Banned { .. }
            | AuthFailure::ClientOutdated
            | AuthFailure::ConnectRefused { .. }
            | AuthFailure::ServerNotTrusted => {}
        }
    }
    all
}

pub(crate) fn pairing_failures() -> Vec<PairingFailure> {
    let all = vec![
        PairingFailure::InvalidPhoneNumber,
        PairingFailure::RateLimited,
        PairingFailure::BadRequest,
        PairingFailure::Forbidden,
        PairingFailure::NotAvailable,
        PairingFailure::ServerError,
        PairingFailure::Refused { code: 499 },
        PairingFailure::Unreachable,
        PairingFailure::CodeWithdrawn,
        PairingFailure::CodeRefused,
        PairingFailure::PasskeyRequired,
        PairingFailure::PasskeyFailed,
    ];
    for failure in &all {
        match failure {
            PairingFailure::InvalidPhoneNumber
            | PairingFailure::RateLimited
            | PairingFailure::BadRequest
            | PairingFailure::Forbidden
            | PairingFailure::NotAvailable
            | PairingFailure::ServerError
            | PairingFailure::Refused { .. }
            | PairingFailure::Unreachable
            | PairingFailure::CodeWithdrawn
            | PairingFailure::CodeRefused
            | PairingFailure::PasskeyRequired
            | PairingFailure::PasskeyFailed => {}
        }
    }
    all
}
