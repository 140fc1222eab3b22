//! The one error type that handlers return, and the one place where errors become answers.
//!
//! What each `code` means, and its status, is in [`Code`].

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{code::Code, problem::Problem};
use crate::{
    event::PairingFailure,
    qr,
    service::{
        self, Conflict, Thing,
        media::{MediaError, Obstacle},
        meta::{GraphError, Refusal},
    },
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Service(#[from] service::Error),

    #[error("a QR code could not be rendered")]
    Render(#[from] qr::Error),

    /// The request itself is at fault, or what it asks for is not there.
    #[error("{}", .0.detail)]
    Request(Problem),
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

impl ApiError {
    fn problem(self) -> Problem {
        match self {
            Self::Request(problem) => problem,
            Self::Render(_) => Problem::of(Code::Internal),
            Self::Service(error) => of_service(error),
        }
    }
}

fn of_service(error: service::Error) -> Problem {
    use service::Error;

    let retry_after = error.retry_after();
    let detail = error.to_string();
    let problem = |code| Problem::new(code, detail);
    match error {
        Error::NotFound(thing) => problem(not_found(thing)),
        Error::Invalid(errors) => Problem::invalid(errors),
        // The status is the one that clients of the seed know.
        Error::Conflict(Conflict::UserConnected) => {
            problem(Code::SessionExists).status(StatusCode::BAD_REQUEST)
        }
        Error::Conflict(conflict) => problem(conflicting(conflict)),
        Error::NotConnected { status } => {
            problem(Code::SessionNotConnected).with("sessionStatus", json!(status))
        }
        Error::Migrated { to } => problem(Code::SessionMigrated).with("migratedTo", json!(to)),
        Error::NotHandedOver(sessions) => {
            let sessions = sessions
                .iter()
                .map(|(id, why)| json!({ "sessionId": id, "reason": why.word() }))
                .collect::<Vec<_>>();
            problem(Code::MigrationRefused).with("sessions", sessions)
        }
        Error::KeyReused => problem(Code::IdempotencyKeyReused),
        Error::MadeGone => problem(Code::IdempotencyResultGone),
        Error::PairingRefused { failure, .. } => problem(pairing(failure))
            .with("reason", failure.word())
            .with("whatsappCode", json!(failure.code())),
        Error::PairingOutstanding { .. } => problem(Code::PairingCodeOutstanding),
        Error::Unauthenticated => problem(Code::Unauthenticated),
        Error::SignatureInvalid => problem(Code::SignedUrlInvalid),
        Error::SignatureExpired => problem(Code::SignedUrlExpired),
        Error::Forbidden { needs } => problem(Code::Forbidden).with("needs", json!(needs)),
        Error::Meta(refusal) => problem(of_meta(refusal)),
        Error::Elsewhere { node } => problem(Code::SessionOnOtherNode).with("node", node),
        Error::Graph(error) => of_graph(&error, problem),
        Error::Media(error) => of_media(&error, problem),
        Error::TooManyTests => problem(Code::TooManyTests),
        Error::Unavailable { .. } => problem(Code::Unavailable),
        Error::StoreUnavailable(_) => problem(Code::DatabaseUnavailable),
        Error::Client(_) => problem(Code::WhatsAppFailed),
        Error::Store(_) => Problem::of(Code::Internal),
    }
    .retry_after(retry_after)
}

/// What Meta says to what it was asked.
fn of_graph(error: &GraphError, problem: impl FnOnce(Code) -> Problem) -> Problem {
    match error {
        GraphError::Refused(refusal) if !refusal.is_passing() => problem(Code::MetaRefused)
            .with("metaCode", refusal.code)
            .with("metaSubcode", json!(refusal.subcode))
            .with("metaTrace", json!(refusal.trace)),
        GraphError::Client(_) => Problem::of(Code::Internal),
        _ => problem(Code::MetaUnavailable),
    }
}

/// Why there is no file.
fn of_media(error: &MediaError, problem: impl FnOnce(Code) -> Problem) -> Problem {
    match error {
        MediaError::None => problem(Code::MessageHasNoMedia),
        MediaError::ViewOnce => problem(Code::MediaViewOnce),
        MediaError::TooLarge { size, limit } => {
            problem(Code::MediaTooLarge).with("size", json!(size)).with("limit", *limit)
        }
        MediaError::Gone => problem(Code::MediaGone),
        MediaError::Damaged => problem(Code::MediaDamaged),
        MediaError::Unavailable(obstacle) => {
            let problem = problem(Code::MediaUnavailable).with("reason", obstacle.word());
            match obstacle {
                Obstacle::NotConnected(status) => problem.with("sessionStatus", json!(status)),
                _ => problem,
            }
        }
    }
}

/// What WhatsApp's refusal of a pairing code is answered with. Its own status is in the document, as
/// `whatsappCode`: a 403 of ours would say that the token may not.
const fn pairing(failure: PairingFailure) -> Code {
    match failure {
        PairingFailure::RateLimited => Code::PairingRateLimited,
        PairingFailure::NotAvailable => Code::PairingCodeNotAvailable,
        PairingFailure::Forbidden => Code::PairingForbidden,
        PairingFailure::ServerError | PairingFailure::Unreachable => Code::PairingUnavailable,
        _ => Code::PairingRefused,
    }
}

/// What Meta is answered. Where a seed says 403 to a signature, it is that.
const fn of_meta(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Challenge => Code::MetaChallengeRefused,
        Refusal::Signature => Code::MetaSignatureInvalid,
        Refusal::OwnSignature => Code::MetaSignatureRequired,
        Refusal::Disabled => Code::MetaAccountDisabled,
    }
}

const fn not_found(thing: Thing) -> Code {
    match thing {
        Thing::Session => Code::SessionNotFound,
        Thing::Message => Code::MessageNotFound,
        Thing::Organization => Code::OrganizationNotFound,
        Thing::Token => Code::TokenNotFound,
        Thing::Webhook => Code::WebhookNotFound,
        Thing::Delivery => Code::DeliveryNotFound,
        Thing::Replay => Code::ReplayNotFound,
        Thing::Campaign => Code::CampaignNotFound,
        Thing::Conversation => Code::ConversationNotFound,
        Thing::MetaAccount => Code::MetaAccountNotFound,
        Thing::MetaEvent => Code::MetaEventNotFound,
    }
}

const fn conflicting(conflict: Conflict) -> Code {
    match conflict {
        Conflict::SessionExists | Conflict::UserConnected => Code::SessionExists,
        Conflict::TooManySessions => Code::TooManySessions,
        Conflict::PhoneNumberKnown => Code::PhoneNumberKnown,
        Conflict::CampaignHasSession => Code::CampaignHasSession,
        Conflict::CampaignWithoutSession => Code::CampaignWithoutSession,
        Conflict::SessionExternal => Code::SessionExternal,
        Conflict::SessionNeverConnected => Code::SessionNeverConnected,
        Conflict::SessionEmbedded => Code::SessionEmbedded,
        Conflict::ReceiverAuth | Conflict::NoSecret => Code::WebhookAuthMismatch,
        Conflict::TokenEnded => Code::TokenEnded,
        Conflict::VpsSessionExists => Code::VpsSessionExists,
        Conflict::StatusWebhookClosed => Code::StatusWebhookClosed,
        Conflict::SessionNotRunning => Code::SessionNotRunning,
        Conflict::SessionAlreadyPaired => Code::SessionAlreadyPaired,
        Conflict::TooManyWebhooks => Code::TooManyWebhooks,
        Conflict::WebhookDisabled => Code::WebhookDisabled,
        Conflict::DeliveryInFlight => Code::DeliveryInFlight,
        Conflict::EventRetired => Code::EventRetired,
        Conflict::TooManyReplays => Code::TooManyReplays,
        Conflict::ReplayEnded => Code::ReplayEnded,
        Conflict::TooManyMetaAccounts => Code::TooManyMetaAccounts,
        Conflict::MetaNumberTaken => Code::MetaNumberTaken,
        Conflict::MetaAccountIncomplete => Code::MetaAccountIncomplete,
        Conflict::MetaAccountOff | Conflict::MetaNoToken => Code::MetaAccountNotSending,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // The cause goes to the log, and stays there.
        match &self {
            Self::Service(
                error @ (service::Error::Store(_)
                | service::Error::StoreUnavailable(_)
                | service::Error::Graph(GraphError::Client(_))
                | service::Error::Client(_)),
            ) => tracing::error!(error = error as &dyn std::error::Error, "Request failed"),
            Self::Render(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "Request failed");
            }
            Self::Service(_) | Self::Request(_) => {}
        }
        let problem = self.problem();
        let unauthenticated = problem.code == Code::Unauthenticated;
        let mut response = problem.into_response();
        if unauthenticated {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"wagate\""),
            );
        }
        response
    }
}
