//! A WhatsApp Web server with simulated phones and contacts, on the real wire protocol.
//!
//! Clients connect as they would to WhatsApp (WebSocket, Noise, binary XML, Signal), are linked by
//! QR code or by an eight-character code, and exchange messages with contacts that hold real Signal
//! identities. There is no shortcut on the wire: what a client sends is decrypted and verified, and
//! what is wrong with it is listed as a [`Violation`].
//!
//! ```no_run
//! # async fn example(qr: &str) -> Result<(), wagate_simulator::Error> {
//! use wagate_simulator::{Options, ReceiptPolicy, Simulator};
//!
//! let simulator = Simulator::start(Options::default()).await?;
//! let phone = simulator.phone("15550001111")?;
//! let bob = simulator.contact("15550002222")?;
//! bob.set_receipts(ReceiptPolicy::Read);
//!
//! // Point a client at `simulator.url()`, then scan what it shows:
//! phone.scan(qr).await?;
//! phone.wait_logged_in(1).await?;
//! bob.send_text("15550001111", "hello").await?;
//! let sent = phone.wait_for_sent(|message| message.text.as_deref() == Some("hi")).await?;
//! assert_eq!(sent.decrypted_by, ["15550002222"]);
//! assert!(simulator.violations().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Only a client that skips the check of the server's certificate can connect: the chain is
//! genuine but for its root, which is the simulator's own.
//!
//! The folders, bottom-up: `wire` (bytes to stanzas), `signal` (keys and ciphertexts), `people`
//! (who is there), `server` (what happens), `observe` (what can be seen of it), [`control`] (all of
//! it over HTTP).

mod address;
mod adv;
mod clock;
pub mod control;
mod error;
mod fault;
mod observe;
mod options;
mod people;
mod server;
mod signal;
mod simulator;
mod violation;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use address::DeviceKey;
pub use error::Error;
pub use fault::{Chaos, Fault, Lasting, Scope, Script, Step, Trouble};
pub use observe::{
    Inflicted, Info, Login, Receipt, ReceiptKind, SentMessage, Socket, SocketState, Typing,
};
pub use options::Options;
pub use people::{
    Addressing, Carriage, Contact, DeviceInfo, Generated, Group, History, HistoryChat, HistoryKind,
    HistoryMessage, Linked, MediaDelivery, MediaFile, MediaKind, MediaLie, Phone, ReceiptPolicy,
    Reupload, SentMedia, TypingState,
};
pub use server::Play;
pub use signal::content::MessageKind;
pub use simulator::Simulator;
pub use violation::{Violation, ViolationKind};
pub use wire::handshake::NoisePattern;

/// A plain text message.
pub fn text(text: &str) -> waproto::whatsapp::Message {
    waproto::whatsapp::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

/// Locks a mutex, whatever became of the last holder: a test that panicked has failed already, and
/// the others should say what they have to say.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reading<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn writing<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
