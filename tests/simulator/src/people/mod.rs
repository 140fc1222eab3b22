//! Who is on the simulated WhatsApp: people, their companions, their groups.
//!
//! There is one kind of [`Person`](person::Person): a number, a LID, a phone with a Signal identity
//! of its own, and as many linked companions as were paired. Calling somebody a *phone* or a
//! *contact* only says which handle a test holds; a contact may link a client too, and then writes
//! to real clients with everything that entails.

pub(crate) mod app_state;
pub(crate) mod companion;
mod contact;
mod directory;
pub(crate) mod group;
mod group_handle;
pub(crate) mod history;
pub(crate) mod media;
pub(crate) mod outbox;
pub(crate) mod person;
mod phone;
pub(crate) mod queue;

pub use contact::{Contact, TypingState};
pub(crate) use directory::Directory;
pub use group_handle::Group;
pub use history::{Carriage, Generated, History, HistoryChat, HistoryKind, HistoryMessage};
pub use media::{MediaDelivery, MediaFile, MediaKind, MediaLie, Reupload, SentMedia};
pub use person::{Addressing, ReceiptPolicy};
pub use phone::{DeviceInfo, Linked, Phone};
