//! To whom campaigns go, how far their messages have come, and the sums of that.
//!
//! - `member.rs`: what one of them has come to, and what that counts for; pure. `apply.rs`: writing it, with the
//!   sums, in the transaction of what it follows from. `sent.rs`: by which id a message is known. `add.rs`: in bulk. `list.rs`: for their owner. `recount.rs`: counting anew.

mod add;
mod apply;
mod list;
mod member;
mod recount;
mod sent;

use super::Store;

pub use self::{
    add::{Added, NewMember, Refused},
    member::Counts,
    recount::{Drift, Measured},
};
pub(super) use self::{apply::apply, sent::named};

/// Rows of one statement.
const CHUNK: usize = 500;

/// Commands and questions about audiences.
#[derive(Clone, Debug)]
pub struct Audience {
    store: Store,
}

impl Audience {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}
