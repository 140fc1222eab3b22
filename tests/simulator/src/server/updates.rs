//! Status updates: what somebody shows to everybody who knows them, all in one chat.

use std::sync::Arc;

use wacore_binary::Jid;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use super::Hub;
use super::writing::{distribution, enc};
use crate::Error;
use crate::clock::unix_seconds;
use crate::people::outbox::Written;
use crate::people::person::Person;

impl Hub {
    /// Somebody shows an account a status update; returns its id once it is in the queues.
    pub(crate) async fn show_status(
        &self,
        author: &Arc<Person>,
        to: &Arc<Person>,
        message: wa::Message,
    ) -> Result<String, Error> {
        let (id, chat) = (self.message_id(), Jid::status_broadcast());
        let written = Written { message: Arc::new(message), chat: chat.clone(), peer: false };
        author.outbox.remember(&id, written.clone());
        let name = chat.to_string();
        let failed = |error| Error::encrypt(&name, error);
        let chain = author.endpoint.distribute(&name).await.map_err(failed)?;
        let shared = author.endpoint.seal_group(&name, &written.message).await.map_err(failed)?;
        // With the chain each time: nobody keeps a list of who has it.
        let chain = distribution(&chat, chain);
        for companion in to.companions() {
            let sealed = self.seal(author, &companion, &chain).await?;
            let mut envelope = NodeBuilder::new("message")
                .attr("id", &id)
                .attr("t", unix_seconds())
                .attr("type", "text")
                .attr("notify", author.name())
                .attr("from", &chat)
                .attr("participant", author.pn_jid());
            if let Some(lid) = author.lid_jid() {
                envelope = envelope.attr("participant_lid", lid);
            }
            let parts = [enc(&sealed, &chain), enc(&shared, &written.message)];
            self.deliver(&companion, envelope.children(parts).build());
        }
        Ok(id)
    }
}
