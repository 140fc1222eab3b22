//! The words and rules of Meta's webhooks. Pure: no database, no socket, no clock.
//!
//! - `signature.rs`: whether a body is Meta's.
//! - `envelope.rs`: a body as entries and changes, whatever is in them. `names.rs`: the numbers and business
//!   accounts that it names, also of a body that is broken.
//! - `items.rs`: the single things that a change tells, and what makes each recognisable.
//! - `read/`: what each of them says.
//! - `split.rs`: a body that is several organizations', taken apart. `surrogates.rs`: one that is to be shown.
//!
//! Nothing here trusts a body to be as Meta documents it: its own examples are not. What is not understood
//! is kept as it is.

mod envelope;
mod items;
mod names;
mod read;
mod signature;
mod split;
mod surrogates;

pub use self::{
    envelope::{Change, Entry, Envelope},
    items::{Item, Kind, lane},
    names::Names,
    read::{Call, Listing, Message, Person, Renamed, Status, Told, Unreadable},
    signature::{Signature, is_signed_by},
    split::part,
    surrogates::paired,
};
