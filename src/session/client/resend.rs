//! Asking the account's phone for a message that it wrote itself.

use std::{sync::Arc, time::Duration};

use wacore::{
    chrono::DateTime,
    types::message::{MessageInfo, MessageSource},
};

use super::Sender;
use crate::store::events::Unread;

/// How long a request may take to be on its way. It may need new keys of the phone first.
const DEADLINE: Duration = Duration::from_mins(1);

impl Sender {
    /// Asks for a copy, as WhatsApp's own client does (`PLACEHOLDER_MESSAGE_RESEND`). True when the request is
    /// on its way, or can never be; whether the phone answers is another matter.
    ///
    /// The library knows the answer by what is given here, and reports a message with it.
    pub(in crate::session) async fn ask_phone(&self, message: &Unread) -> bool {
        let (Ok(chat), Ok(sender)) = (message.chat.parse(), message.sender.parse()) else {
            return true;
        };
        let info = MessageInfo {
            id: message.wa_id.clone(),
            source: MessageSource { chat, sender, is_from_me: true, ..MessageSource::default() },
            timestamp: DateTime::from_timestamp_millis(message.sent_at.0).unwrap_or_default(),
            ..MessageInfo::default()
        };
        let info = Arc::new(info);
        let _sending = self.barrier.sending();
        let asking = self.client.send_pdo_placeholder_resend_request(&info);
        matches!(tokio::time::timeout(DEADLINE, asking).await, Ok(Ok(())))
    }
}
