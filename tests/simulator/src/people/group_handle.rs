//! A handle to a group.

use std::sync::Arc;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::group::GroupChat;
use super::person::Person;
use crate::Error;
use crate::server::Hub;

/// A group chat of phones and contacts.
#[derive(Clone, Debug)]
pub struct Group {
    pub(crate) hub: Arc<Hub>,
    pub(crate) chat: Arc<GroupChat>,
}

impl Group {
    /// The group's address, `…@g.us`.
    pub fn jid(&self) -> String {
        self.chat.jid().to_string()
    }

    /// The members' phone numbers.
    pub fn members(&self) -> Vec<String> {
        self.chat.members().iter().map(ToString::to_string).collect()
    }

    /// Adds somebody; the members' clients are told.
    pub fn add(&self, number: &str) -> Result<(), Error> {
        let person = self.hub.existing(number)?;
        if self.chat.add(&person.pn) {
            self.announce("add", &person);
        }
        Ok(())
    }

    /// Removes somebody; the members' clients are told, and theirs as well.
    pub fn remove(&self, number: &str) -> Result<(), Error> {
        let person = self.hub.existing(number)?;
        if self.chat.remove(&person.pn) {
            self.announce("remove", &person);
        }
        Ok(())
    }

    /// Changes the subject; the members' clients are told.
    pub fn set_subject(&self, subject: &str) {
        self.chat.set_subject(subject);
        let change = NodeBuilder::new("subject").attr("subject", subject).build();
        self.tell(&change);
    }

    fn announce(&self, change: &'static str, person: &Person) {
        let by_lid = self.hub.addressing_of(&self.chat) == "lid";
        let participant = NodeBuilder::new("participant");
        let participant = match person.lid_jid().filter(|_| by_lid) {
            Some(lid) => participant.attr("jid", lid).attr("phone_number", person.pn_jid()),
            None => participant.attr("jid", person.pn_jid()),
        };
        self.tell(&NodeBuilder::new(change).children([participant.build()]).build());
    }

    fn tell(&self, change: &Node) {
        if let Some(author) = self.hub.directory.find(&self.chat.creator) {
            self.hub.announce_group(&self.chat, &author, change);
        }
    }
}
