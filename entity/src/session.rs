//! One linked device of one WhatsApp account, and all that is known of its state.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{OrganizationId, SessionId, SessionKey},
    state::{DesiredState, Origin, ReceiverAuth, SessionStatus, Trouble},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionKey,
    #[sea_orm(unique_key = "organization_session")]
    pub organization_id: OrganizationId,
    /// What its users call it.
    #[sea_orm(unique_key = "organization_session")]
    pub session_id: SessionId,
    pub origin: Origin,
    /// The tenant's own user, opaque to us.
    pub user_id: Option<String>,
    /// Digits only, with country code. The caller's until the account itself is known.
    pub phone_number: Option<String>,
    /// The number that a session which runs elsewhere was made with, until something speaks against it.
    pub given_phone_number: Option<String>,
    pub push_name: Option<String>,
    /// The account's own address, once paired: `<digits>@s.whatsapp.net`.
    pub account_jid: Option<String>,
    /// The account's hidden identity, once paired: `<digits>@lid`.
    pub account_lid: Option<String>,
    /// Where its Signal state is kept; none before the first start.
    pub device_id: Option<i32>,

    /// What the operator wants.
    pub desired_state: DesiredState,
    /// What was last observed. Written only through `event::transition`.
    pub status: SessionStatus,
    /// When `status` last changed.
    pub status_since: UnixMillis,
    /// Why, for people; none for the standard sentence of the status.
    pub message: Option<String>,
    /// The connection is lost and will be tried again.
    pub reconnecting: bool,
    /// When the next try is due, while waiting for one.
    pub next_attempt_at: Option<UnixMillis>,
    pub loading_percent: Option<i16>,

    /// The pairing code to show as a QR image. It contains a secret: never log it.
    pub qr: Option<String>,
    pub qr_issued_at: Option<UnixMillis>,
    pub qr_expires_at: Option<UnixMillis>,
    /// Counts QR codes of this session, over all of its life.
    pub qr_sequence: i64,
    /// When the newest QR code was issued, also after it is gone.
    pub last_qr_at: Option<UnixMillis>,
    /// Series of QR codes that nobody has scanned, in a row: shown to their end, or being shown.
    pub qr_rounds: i32,
    /// Until when the code to type is good, once it is all that is left: the QR codes of the series are used up.
    pub pairing_code_until: Option<UnixMillis>,
    /// Counts series of QR codes and pairing codes asked for, over all of the session's life.
    pub pairing_attempts: i64,
    /// Why the last pairing did not come about, in a stable word; none since one did.
    pub pairing_error: Option<String>,
    pub pairing_error_at: Option<UnixMillis>,
    /// When the session came to belong to another account than before, if it ever did.
    pub account_changed_at: Option<UnixMillis>,
    /// The phone number of the account before that.
    pub previous_phone_number: Option<String>,

    pub connected_at: Option<UnixMillis>,
    pub last_active_at: Option<UnixMillis>,
    /// Messages that could not be read when they came, over all of the session's life.
    pub undecryptable: i64,
    pub last_disconnect_reason: Option<String>,
    /// WhatsApp's own code for it, where it gave one.
    pub last_disconnect_code: Option<i32>,
    pub last_disconnect_at: Option<UnixMillis>,
    /// How long WhatsApp refuses this account, after a ban.
    pub banned_until: Option<UnixMillis>,

    /// When it was last dialled.
    pub last_dial_at: Option<UnixMillis>,
    /// Dials in a row that have not led to a connection that lasted.
    pub dial_failures: i32,
    /// What calls for more patience than a lost connection, until a connection has lasted.
    pub trouble: Option<Trouble>,
    /// How often that has happened in a row.
    pub trouble_count: i32,
    /// Until when WhatsApp wants no dials from here.
    pub throttled_until: Option<UnixMillis>,

    /// Whether its user wants notifications; none while nobody has said so, which means no.
    pub is_notification: Option<bool>,
    /// The tenant's own, as JSON text, opaque to us. Never logged.
    pub ai_config: Option<String>,

    /// The session that has taken over from this one, with its history: nothing starts this one again.
    /// It never names one that has handed over itself.
    pub migrated_to: Option<SessionKey>,
    pub migrated_at: Option<UnixMillis>,
    /// What the caller keeps with an external session: a JSON object, as text; sealed.
    pub session_data: Option<String>,
    /// What an external session is called where it runs: `vps_session_id` of its data. Of an organization's
    /// sessions one at most has it.
    pub vps_session_id: Option<String>,
    /// Since when. Of several organizations' sessions the first is meant.
    pub vps_claimed_at: Option<UnixMillis>,
    /// When it was deleted. Nobody finds it any more; its row is the last of it to go.
    pub deleted_at: Option<UnixMillis>,
    /// How whoever posts the events of an external session proves that he may.
    pub receiver_auth: Option<ReceiverAuth>,
    /// What he proves it with, if that is the session's own secret; sealed.
    pub receiver_secret: Option<Vec<u8>>,
    /// The secret before that, sealed, and until when it is as good.
    pub previous_receiver_secret: Option<Vec<u8>>,
    pub previous_receiver_until: Option<UnixMillis>,
    /// When what was last told of an external session's state was so, by its own word.
    pub observed_at: Option<UnixMillis>,
    /// The hash of what that was.
    pub observed_mark: Option<String>,

    /// Counts runs. A run that is not the newest changes nothing any more.
    pub generation: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
