//! Closed sets of webhooks, stored as readable text.

use crate::words;

words!(
    /// Whether an endpoint is called.
    EndpointState {
        /// Owed and called.
        Active = "active",
        /// Its owner's decision: owed and not called.
        Paused = "paused",
        /// Neither owed nor called, until somebody resumes it.
        Disabled = "disabled",
        /// Gone for its owner; the row stays until nothing refers to it.
        Deleted = "deleted",
    }
);

words!(
    /// Why an endpoint is disabled.
    DisabledReason {
        /// It failed for days without one success.
        Failing = "failing",
        /// It answered 410: nobody is there any more.
        Gone = "gone",
    }
);

words!(
    /// What the body of a request looks like.
    Format {
        /// One flat object per message.
        Flat = "flat",
        /// `type`, `timestamp`, `data`.
        Envelope = "envelope",
    }
);

words!(
    /// In what order an endpoint is told of events.
    Ordering {
        /// As it comes; each body carries a sequence number.
        None = "none",
        /// One at a time within a conversation, in the order of events.
        ByConversation = "by_conversation",
        /// One at a time, in the order of events.
        Strict = "strict",
    }
);

words!(
    /// How far a delivery has come.
    DeliveryState {
        /// To be sent when it is due.
        Pending = "pending",
        /// Somebody is sending it.
        Claimed = "claimed",
        /// The receiver answered 2xx.
        Succeeded = "succeeded",
        /// Given up: too many tries, too old, or the endpoint is gone.
        Exhausted = "exhausted",
        /// The endpoint was deleted before it was sent.
        Cancelled = "cancelled",
    }
);

words!(
    /// Why a delivery exists.
    Cause {
        /// Something happened.
        Event = "event",
        /// A range was asked for again.
        Replay = "replay",
        /// Something happened, and somebody has asked for it to be sent again.
        Retry = "retry",
    }
);

words!(
    /// How a replay stands.
    ReplayState {
        /// It has events left to look at.
        Running = "running",
        /// All that its endpoint wants of its range is owed.
        Done = "done",
        /// Somebody, or the endpoint's end, has stopped it; what was owed by then is still sent.
        Cancelled = "cancelled",
        /// Its endpoint was disabled; what was owed by then is sent if the endpoint is resumed in time.
        Stopped = "stopped",
    }
);
