//! Secrets at rest: sealed before they reach the database, opened after they have left it.
//!
//! Whoever has the database, a backup of it or the disk it is on, and not the master key, has
//! nothing with which to read or write a WhatsApp account's messages.
//!
//! - `master.rs`: the one key that is kept outside of the database.
//! - `source.rs`: where it is kept, who may read it there, and how it is replaced.
//! - `seal.rs`: a value and its sealed form. `cell.rs`: which value it is, and so where it opens.
//! - `keyring.rs`: the data keys that are open in this process.
//!
//! `crate::store::keys` has the rows. Everything here is pure but for the key's file.
//!
//! # Using it
//!
//! A [`Sealer`] is one organization's, and is asked of the store: `store.sealer(&organization, …)`.
//! A column that holds secrets is a constant of type [`Column`]; the row is named by its key:
//!
//! ```ignore
//! const SECRET: Column = Column::new("endpoint", "secret");
//! let sealed = sealer.seal(SECRET, &[Part::from(id.as_str())], secret);
//! let secret = sealer.open(SECRET, &[Part::from(id.as_str())], &sealed)?;
//! ```
//!
//! # How it is done
//!
//! - Each organization has data keys of 256 random bits, numbered. The newest seals; all open.
//! - A data key is in the database wrapped by the master key. So the master key can be rotated while
//!   daemons run: data keys are wrapped again, values stay as they are.
//! - A value is sealed with AES-256-GCM, by `ring`, which has been in the tree for TLS. The key is
//!   the data key's for this cell alone (HKDF-SHA-256 over organization, table, column and row), so
//!   that a random nonce of 96 bits has to be new among one cell's writes only, not among billions of
//!   an organization's. Table, column, row and organization are additional data as well: a value
//!   moved to another place does not open.
//! - Sealed bytes are `format (1) | number of the data key (4, big-endian) | nonce (12) | ciphertext
//!   | tag (16)`: 33 more than the value. Sealed text is `sealed:` and that in base64.
//! - What is sealed and what is in clear is told apart by opening it: the tag of what was never sealed
//!   fits with a probability of 2⁻¹²⁸. Only the pass over rows from before needs to.
//!
//! - Addresses that open without a token are signed with HMAC-SHA-256, under a key that HKDF makes of the
//!   organization's data key for that alone: it survives restarts, and every daemon of the database has it.
//! - Keys that are kept are wiped when dropped. The key of a cell lives on the stack for one call, and what
//!   is opened belongs to the caller.
//! - Measured on an x86-64 with AES instructions: 1.2 µs to seal 300 bytes, 2.2 µs for 4,000.
//! - Data keys are not rotated. The form allows for it: values name the key they are sealed with.
//!
//! # What is sealed
//!
//! | where | what |
//! |---|---|
//! | `device.state` | Noise key, identity key, ADV secret, signed prekey, routing |
//! | `wa_session.record`, `wa_sender_key.record` | root, chain and message keys |
//! | `wa_prekey.record`, `wa_signed_prekey.record` | private halves of prekeys |
//! | `wa_sync_key.key_data` | keys of the app state |
//! | `wa_msg_secret.secret` | secrets of messages, which open reactions, edits and votes |
//! | `wa_tc_token.token` | tokens that let us write to a contact (an empty one stays empty) |
//! | `wa_sent_message.payload`, `wa_pending_inbound.message` | messages, with their keys |
//! | `message.raw` | the message as it came: media keys, its secret; of one that goes out through Meta, what Meta is asked |
//! | `command.request`, `command.answer` | what daemons ask of each other: phone numbers, pairing codes |
//! | `webhook_secret.secret`, `webhook_endpoint.headers` | what requests to an endpoint are signed with, and prove themselves by |
//! | `session.receiver_secret`, `.previous_receiver_secret` | what posted events of a session are signed with, or proved by |
//! | `meta_account.app_secret`, `.previous_secret`, `.access_token` | what Meta signs with, and what the Graph API is called with |
//! | `meta_body.body` | what Meta has posted: messages as they came |
//! | `webhook_endpoint.url`, and in the payloads of notices of endpoints | a path that may be all that keeps others from calling it |
//! | `event.payload` of `unknown` events, `webhook_event.payload` of theirs | what a client elsewhere calls by a name of its own: a pairing code |
//! | `session.qr`, `event.payload` of `qr` events, `webhook_event.payload` of theirs | the pairing code, which holds the ADV secret |
//!
//! # What is not, and why
//!
//! | where | why |
//! |---|---|
//! | files of messages in the state directory | decrypted, and without a name: gone with the process |
//! | `message.body`, other columns of `message`, other payloads of `event` and `webhook_event`, `webhook_attempt.response` | history that is searched and listed; protect the disk |
//! | `token.secret_hash`, `idempotency.fingerprint` | SHA-256 of what nobody can guess, or of no secret |
//! | `meta_account.verify_hash`, `.app_print` | keyed hashes, under a key of the first organization's: they are looked up before it is known whose they are |
//! | `meta_account.callback_key`, `meta_event` | a path that opens nothing without a signature; ids, kinds and times |
//! | `wa_identity`, `wa_base_key` | public keys |
//! | `wa_sync_version`, `wa_mutation_mac`, `wa_sync_key.fingerprint` | hashes and MACs; the keys behind them are sealed |
//! | `wa_lid_mapping`, `wa_device_list`, `wa_group_metadata`, `wa_sender_key_device`, `session`, keys of rows | addresses that are looked up; no secrets, though personal |
//! | `session.ai_config` | shown to every viewer as it is; the API says that it is no place for secrets |
//! | `organization`, `campaign`, `vault`, `data_key` | names, numbers; the data keys are wrapped |

mod cell;
mod keyring;
mod master;
mod seal;
pub mod source;

pub use self::{
    cell::{Column, Part},
    keyring::{Vault, Wrapped, WrongKey},
    master::{MasterKey, MasterKeyId, ParseError},
    seal::{OpenError, Sealer},
};
