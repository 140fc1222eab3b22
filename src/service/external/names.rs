//! The events that have a name here, in the words of whatsapp-web.js and of the seeds.

/// What an event of a client elsewhere is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Qr,
    Authenticated,
    Ready,
    LoadingScreen,
    ChangeState,
    Disconnected,
    AuthFailure,
    /// Of whoever.
    Message,
    /// The account's own, unless it says otherwise.
    MessageCreate,
    MessageAck,
    MessageRevoke,
    MessageReaction,
    Call,
    GroupJoin,
    GroupLeave,
    GroupUpdate,
}

/// Every word, and what it names.
const WORDS: [(&str, Name); 19] = [
    ("qr", Name::Qr),
    ("authenticated", Name::Authenticated),
    ("ready", Name::Ready),
    ("loading_screen", Name::LoadingScreen),
    ("change_state", Name::ChangeState),
    ("disconnected", Name::Disconnected),
    ("auth_failure", Name::AuthFailure),
    ("message", Name::Message),
    ("message_create", Name::MessageCreate),
    ("message_ack", Name::MessageAck),
    ("message_revoke", Name::MessageRevoke),
    ("message_revoke_everyone", Name::MessageRevoke),
    ("message_revoke_me", Name::MessageRevoke),
    ("message_reaction", Name::MessageReaction),
    ("call", Name::Call),
    ("incoming_call", Name::Call),
    ("group_join", Name::GroupJoin),
    ("group_leave", Name::GroupLeave),
    ("group_update", Name::GroupUpdate),
];

impl Name {
    pub(super) fn of(word: &str) -> Option<Self> {
        WORDS.iter().find(|(it, _)| *it == word).map(|(_, name)| *name)
    }
}
