//! Every `code` that a problem document can have: its status, and what it means.
//!
//! The one table of them. Documents, the OpenAPI description, `GET /problems/{code}` and
//! `docs/problems.md` are all written from it.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

macro_rules! codes {
    ($($variant:ident = $word:literal, $status:ident, $title:literal {
        about: $about:literal,
        detail: $detail:literal,
        $(members: $members:tt,)?
    })*) => {
        /// Why a request was refused, for programs. A word is never changed once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in documents.
            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The status of every answer with this code.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The problem in a few words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What has happened, and what can be done about it.
            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            /// What the detail says, usually.
            pub(crate) const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail,)* }
            }

            /// What its documents have besides the members of all, for example.
            pub(crate) fn members(self) -> Map<String, Value> {
                let members = match self {
                    $(Self::$variant => codes!(@members $($members)?),)*
                };
                match members {
                    Value::Object(members) => members,
                    _ => Map::new(),
                }
            }
        }
    };
    (@members) => { Value::Null };
    (@members $members:tt) => { json!($members) };
}

codes! {
    ValidationFailed = "VALIDATION_FAILED", BAD_REQUEST, "The request is not valid" {
        about: "A member of the body, a parameter, a header or a part of the address is missing, unknown or not as it \
                must be. `errors` has all that is wrong, each with a JSON pointer to where. Sending the same again is in vain.",
        detail: "the request is not valid: see `errors`",
        members: {
            "errors": [{ "pointer": "/to", "detail": "must have 7 to 15 digits, country code included" }]
        },
    }
    MalformedJson = "MALFORMED_JSON", BAD_REQUEST, "The body is not JSON" {
        about: "The body cannot be read as one JSON object. `errors` says where the reading ended, and why.",
        detail: "the body is not valid JSON",
        members: {
            "errors": [{ "pointer": "", "detail": "expected `,` or `}` at line 1 column 14" }]
        },
    }
    BadRequest = "BAD_REQUEST", BAD_REQUEST, "The request cannot be read" {
        about: "The request is broken in itself: its body ended before its stated length, say.",
        detail: "the request is not valid",
    }
    Unauthenticated = "UNAUTHENTICATED", UNAUTHORIZED, "A valid token is needed" {
        about: "There is no `Authorization: Bearer …` header, or its token is unknown, expired or revoked. Which of these, \
                and whether there is anything at the address, is not told.",
        detail: "a valid bearer token is needed",
    }
    Forbidden = "FORBIDDEN", FORBIDDEN, "The token's role is too low" {
        about: "The token is valid, and its role may not do this. `needs` is the lowest role that may.",
        detail: "the token's role does not allow this",
        members: { "needs": "manager" },
    }
    SignedUrlInvalid = "SIGNED_URL_INVALID", FORBIDDEN, "The signature does not fit" {
        about: "The address is signed, and not as it is: something of it was changed, the session is gone, or the token that asked for it \
                is no longer good. Which of these is not told. Ask for a new one.",
        detail: "the signature does not fit this address, or its token or session is gone",
    }
    SignedUrlExpired = "SIGNED_URL_EXPIRED", FORBIDDEN, "The signed address has expired" {
        about: "The address was good until the time in it. Ask for a new one.",
        detail: "the signed address has expired",
    }
    MetaSignatureRequired = "META_SIGNATURE_REQUIRED", UNAUTHORIZED, "The account's app has not signed it" {
        about: "The address is one account's at Meta, and `X-Hub-Signature-256` is missing, is not `sha256=` and 64 hexadecimal digits, or is not \
                the HMAC-SHA-256 of the body's bytes under the app's secret. The older `X-Hub-Signature` is not looked at.",
        detail: "the body is not signed by the account's app",
    }
    MetaSignatureInvalid = "META_SIGNATURE_INVALID", FORBIDDEN, "No app of ours has signed it" {
        about: "The address is shared, and `X-Hub-Signature-256` is missing, malformed, or not made with the app's secret of any account whose phone \
                number or business account the body names. Which of these is not told.",
        detail: "the body is not signed by the app of any account that it names",
    }
    MetaChallengeRefused = "META_CHALLENGE_REFUSED", FORBIDDEN, "The challenge is not answered" {
        about: "`hub.mode` is not `subscribe`, there is no `hub.challenge`, or `hub.verify_token` is not that of an account which is complete and not disabled. \
                Which of these is not told: `GET /api/meta/accounts` shows what an account lacks.",
        detail: "the verify token is not one that is taken here",
    }
    MetaAccountDisabled = "META_ACCOUNT_DISABLED", FORBIDDEN, "The account takes no events" {
        about: "The body is signed well, and every account that it is about is disabled, or not yet verified where the operator asks for that. \
                Nothing of it was kept.",
        detail: "the account takes no events",
    }
    RouteNotFound = "ROUTE_NOT_FOUND", NOT_FOUND, "There is no such address" {
        about: "No route of the API has this address. `GET /openapi.json` has them all.",
        detail: "there is nothing at this address",
    }
    SessionNotFound = "SESSION_NOT_FOUND", NOT_FOUND, "There is no such session" {
        about: "The organization has no session of this id. It may never have been, have been deleted, or belong to another organization.",
        detail: "there is no such session",
    }
    MessageNotFound = "MESSAGE_NOT_FOUND", NOT_FOUND, "There is no such message" {
        about: "The session has no message of this id, or it is older than what is kept.",
        detail: "there is no such message",
    }
    OrganizationNotFound = "ORGANIZATION_NOT_FOUND", NOT_FOUND, "There is no such organization" {
        about: "There is no organization of this id or number, or the token may not act in it: `X-Organization` is for operators.",
        detail: "there is no such organization",
    }
    TokenNotFound = "TOKEN_NOT_FOUND", NOT_FOUND, "There is no such token" {
        about: "The organization has no token of this id, or the caller's role is below the token's.",
        detail: "there is no such token",
    }
    WebhookNotFound = "WEBHOOK_NOT_FOUND", NOT_FOUND, "There is no such webhook endpoint" {
        about: "The organization has no webhook endpoint of this id, or it was deleted.",
        detail: "there is no such webhook",
    }
    DeliveryNotFound = "DELIVERY_NOT_FOUND", NOT_FOUND, "There is no such delivery" {
        about: "The organization has no delivery of this id, or it is older than what is kept.",
        detail: "there is no such delivery",
    }
    ReplayNotFound = "REPLAY_NOT_FOUND", NOT_FOUND, "There is no such replay" {
        about: "The organization has no replay of this id.",
        detail: "there is no such replay",
    }
    CampaignNotFound = "CAMPAIGN_NOT_FOUND", NOT_FOUND, "There is no such campaign" {
        about: "The organization has no campaign of this id.",
        detail: "there is no such campaign",
    }
    ConversationNotFound = "CONVERSATION_NOT_FOUND", NOT_FOUND, "There is no such conversation" {
        about: "The organization has no conversation of this id. It may have become one with another when two contacts turned out to be one person.",
        detail: "there is no such conversation",
    }
    MetaAccountNotFound = "META_ACCOUNT_NOT_FOUND", NOT_FOUND, "There is no such account at Meta" {
        about: "The organization has no account of this id, or no account has this address.",
        detail: "there is no such account at Meta",
    }
    MetaEventNotFound = "META_EVENT_NOT_FOUND", NOT_FOUND, "There is no such event of Meta's" {
        about: "The organization was told nothing of this id, or it is older than what is kept.",
        detail: "there is no such event of Meta's",
    }
    ProblemNotFound = "PROBLEM_NOT_FOUND", NOT_FOUND, "There is no such problem code" {
        about: "No problem document of this version has this code. `GET /problems` has them all.",
        detail: "there is no such problem code",
    }
    QrNotAvailable = "QR_NOT_AVAILABLE", NOT_FOUND, "There is no QR code to scan" {
        about: "The session shows no code at the moment. `reason` says why: `not_yet`, `expired` and `pairing` pass by themselves \
                (ask again with `wait`), with `typed_code_only` no QR code is left while a pairing code can be typed, `not_started`, `ended` and `failed` want a start, `already_connected` needs no code, and with `unchanged` \
                the code that the caller knows is still the newest.",
        detail: "the session is stopped: start it to get a QR code",
        members: { "reason": "not_started", "sessionStatus": "session_not_connected" },
    }
    MessageHasNoMedia = "MESSAGE_HAS_NO_MEDIA", NOT_FOUND, "The message has no media" {
        about: "The message is there, and nothing to be downloaded comes with it: it is a text, say, or does not tell where its media is.",
        detail: "the message has no media that could be downloaded",
    }
    MethodNotAllowed = "METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED, "The address does not take this method" {
        about: "There is something at this address, and not for this method: `Allow` has those that it takes.",
        detail: "this address does not take this method: see `Allow`",
    }
    NotAcceptable = "NOT_ACCEPTABLE", NOT_ACCEPTABLE, "None of the wanted formats is offered" {
        about: "`Accept` excludes all formats that the route can answer in.",
        detail: "none of the formats asked for by `Accept` is offered",
    }
    RequestTimeout = "REQUEST_TIMEOUT", REQUEST_TIMEOUT, "The request did not arrive in time" {
        about: "The body took too long to arrive. Nothing was done.",
        detail: "the request did not arrive in time",
    }
    SessionExists = "SESSION_EXISTS", CONFLICT, "The session exists" {
        about: "The organization has a session of this id: use it, or choose another id. `POST /api/whatsapp/connect` answers with 400 and this \
                code where the user has a session that is connected.",
        detail: "a session with this id exists",
    }
    TooManySessions = "TOO_MANY_SESSIONS", CONFLICT, "The organization has all the sessions it may have" {
        about: "Delete a session, or have the operator raise `maxSessions` of the organization.",
        detail: "the organization has as many sessions as it may have",
    }
    PhoneNumberKnown = "PHONE_NUMBER_KNOWN", CONFLICT, "The session has the phone number of its account" {
        about: "The session is linked to an account, and says that account's number: it cannot be set.",
        detail: "the session is linked to an account, whose phone number it has",
    }
    CampaignWithoutSession = "CAMPAIGN_WITHOUT_SESSION", CONFLICT, "The campaign has no session" {
        about: "Nobody has said from which session the campaign is sent, or the session was deleted: messages are a session's.",
        detail: "nobody has said from which session the campaign is sent, so it has no messages",
    }
    CampaignHasSession = "CAMPAIGN_HAS_SESSION", CONFLICT, "The campaign has a session" {
        about: "A campaign's messages are its session's, so it is said once from which it is sent. Make another campaign for another session.",
        detail: "the campaign is sent from another session",
    }
    SessionExternal = "SESSION_EXTERNAL", CONFLICT, "The session runs elsewhere" {
        about: "Only events of the session come here. It is started, stopped and written with where it runs; a number at Meta's is written with \
                through its account: `POST /api/meta/accounts/{accountId}/messages`.",
        detail: "the session runs elsewhere: only its events come here",
    }
    SessionMigrated = "SESSION_MIGRATED", CONFLICT, "Another session has taken over" {
        about: "The session has handed over to another one of the same account, which has its history, its webhooks, its settings and its \
                campaigns: use that one. `migratedTo` is its id. Nothing starts the old one again while the new one is there.",
        detail: "another session of the account has taken over",
        members: { "migratedTo": "shop-2" },
    }
    MigrationRefused = "MIGRATION_REFUSED", CONFLICT, "Sessions that were named cannot hand over" {
        about: "None has. `sessions` has those that cannot, each with the `reason`: `running` (connected, or on its way: stop it first), \
                `other_number`, `other_account` (the number was another account's then), `migrated_elsewhere`, `itself`, or `busy`, which passes.",
        detail: "sessions that were named cannot hand over: see `sessions`",
        members: { "sessions": [{ "sessionId": "shop-1", "reason": "running" }] },
    }
    SessionNeverConnected = "SESSION_NEVER_CONNECTED", CONFLICT, "The session was never connected" {
        about: "Whose number the session has is not known before it was connected once: until then nothing is handed over to it.",
        detail: "the session was never connected: whose number it has is not known",
    }
    SessionEmbedded = "SESSION_EMBEDDED", CONFLICT, "The session runs here" {
        about: "Events are posted for sessions that run elsewhere (`origin: external`). What happens on this one is seen here.",
        detail: "the session runs here: nobody else can tell what happens on it",
    }
    WebhookAuthMismatch = "WEBHOOK_AUTH_MISMATCH", CONFLICT, "The session's events are let in otherwise" {
        about: "`webhookAuth` of the session says how whoever posts its events proves that he may: by a secret in the address or a \
                header, or by a signature. A token is not taken beside that.",
        detail: "the session's events are let in by its own secret, not by a token: see `webhookAuth`",
    }
    TokenEnded = "TOKEN_ENDED", CONFLICT, "The token is no longer good" {
        about: "It is revoked or expired, and no other can take its place. Make a new token.",
        detail: "the token is revoked or expired: nothing can take its place",
    }
    VpsSessionExists = "VPS_SESSION_EXISTS", CONFLICT, "The id is another session's where it runs" {
        about: "A status that is reported names `vps_session_id` and nothing else, so one session of an organization at most has it.",
        detail: "another session of the organization has this `vps_session_id`",
    }
    IdempotencyResultGone = "IDEMPOTENCY_RESULT_GONE", CONFLICT, "What the request made is gone" {
        about: "The same request with this `Idempotency-Key` was carried out, and what it made was deleted since, or replaced. It is not made again: \
                whoever wants that sends a new key.",
        detail: "what the request with this idempotency key made is gone",
    }
    StatusWebhookClosed = "STATUS_WEBHOOK_CLOSED", FORBIDDEN, "The status webhook is closed" {
        about: "The operator has set no key for it (`external.webhook_secret_key`, `WEBHOOK_SECRET_KEY`), and has not opened it to \
                everybody (`external.allow_open`).",
        detail: "nobody may report a status: set `external.webhook_secret_key`, or `external.allow_open` to let everybody",
    }
    SessionNotRunning = "SESSION_NOT_RUNNING", CONFLICT, "The session is stopped" {
        about: "This needs a session that runs: start it first.",
        detail: "the session is stopped: start it first",
    }
    SessionNotConnected = "SESSION_NOT_CONNECTED", CONFLICT, "The session is not connected" {
        about: "Nothing can be sent at the moment; `sessionStatus` says why. A message sent with `queue: true` waits for the session.",
        detail: "the session is not connected",
        members: { "sessionStatus": "connecting" },
    }
    SessionAlreadyPaired = "SESSION_ALREADY_PAIRED", CONFLICT, "The session is linked already" {
        about: "The session belongs to an account: log it out first.",
        detail: "the session is linked to an account: log out first",
    }
    PairingCodeOutstanding = "PAIRING_CODE_OUTSTANDING", CONFLICT, "A pairing code for another number is good" {
        about: "A session shows one pairing code at a time. `Retry-After` says when the one for the other number has expired.",
        detail: "a pairing code for another number was given and is still good",
    }
    TooManyWebhooks = "TOO_MANY_WEBHOOKS", CONFLICT, "The organization has all the webhook endpoints it may have" {
        about: "Delete an endpoint that is not needed.",
        detail: "the organization has as many webhook endpoints as it may have",
    }
    WebhookDisabled = "WEBHOOK_DISABLED", CONFLICT, "The webhook endpoint is disabled" {
        about: "The endpoint is not called, as it failed for days or said that it is gone. Resume it first.",
        detail: "the endpoint is disabled: resume it first",
    }
    DeliveryInFlight = "DELIVERY_IN_FLIGHT", CONFLICT, "The delivery is under way" {
        about: "The event is being sent at this moment: look at the delivery again when it has ended.",
        detail: "the event is being delivered at this moment",
    }
    EventRetired = "EVENT_RETIRED", CONFLICT, "The event is no longer kept" {
        about: "The event is older than what is kept, and can no longer be sent.",
        detail: "the event is older than what is kept",
    }
    TooManyReplays = "TOO_MANY_REPLAYS", CONFLICT, "The organization has all the replays running that it may have" {
        about: "So many go on at a time. Wait until one has come to its end, or cancel one.",
        detail: "the organization has as many replays running as it may have",
    }
    ReplayEnded = "REPLAY_ENDED", CONFLICT, "The replay has ended" {
        about: "There is nothing left to cancel.",
        detail: "the replay has come to its end",
    }
    MediaViewOnce = "MEDIA_VIEW_ONCE", CONFLICT, "The media is to be viewed once" {
        about: "Its sender wants it to be opened once, on a phone. It is not handed out here.",
        detail: "the media is to be viewed once, on a phone: it is not handed out",
    }
    MediaGone = "MEDIA_GONE", GONE, "WhatsApp no longer has the media" {
        about: "WhatsApp keeps media for some weeks. The account's phone was asked to upload it again, and has lost it, or cannot be asked \
                for it, as for what a channel has published.",
        detail: "WhatsApp no longer has the media, and the phone cannot upload it again",
    }
    MediaTooLarge = "MEDIA_TOO_LARGE", PAYLOAD_TOO_LARGE, "The media is too large" {
        about: "`size` is what the message announces, `limit` what is downloaded at most (`media.max_size`), both in bytes.",
        detail: "the media is larger than what is downloaded: at most 104857600 bytes are",
        members: { "size": 300_000_000, "limit": 104_857_600 },
    }
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", RANGE_NOT_SATISFIABLE, "The file has no such part" {
        about: "`Range` asks for bytes that the file does not have. `size` is how many it has.",
        detail: "the file is shorter than the part that is asked for",
        members: { "size": 1024 },
    }
    TooManyMetaAccounts = "TOO_MANY_META_ACCOUNTS", CONFLICT, "The organization has all the accounts at Meta it may have" {
        about: "No more can be made. Point one that is not needed at another number.",
        detail: "the organization has as many accounts at Meta as it may have",
    }
    MetaNumberTaken = "META_NUMBER_TAKEN", CONFLICT, "The phone number is not available" {
        about: "The account cannot be of this phone number. What Meta tells of a number goes to one account: whose that is is not told. Who is sure that the number is \
                theirs asks the operator.",
        detail: "the phone number is not available",
    }
    MetaAccountIncomplete = "META_ACCOUNT_INCOMPLETE", CONFLICT, "The account is not complete" {
        about: "An account that lacks some of its configuration cannot be verified. `missing` of the account names what it lacks.",
        detail: "the account lacks some of its configuration: see `missing`",
    }
    MetaAccountNotSending = "META_ACCOUNT_NOT_SENDING", CONFLICT, "The account sends nothing" {
        about: "The account is disabled, or has no access token: `PATCH /api/meta/accounts/{accountId}` mends either. What waited to be sent when it was \
                disabled is not sent later: it has `failed`, with `error` `account_disabled` (`no_access_token` without a token).",
        detail: "the account is disabled: nothing is sent from it",
    }
    BodyTooLarge = "BODY_TOO_LARGE", PAYLOAD_TOO_LARGE, "The body is too large" {
        about: "The detail has the number of bytes that this route reads.",
        detail: "the body is too large: at most 65536 bytes are read",
    }
    UriTooLong = "URI_TOO_LONG", URI_TOO_LONG, "The address is too long" {
        about: "The address, with its query, is longer than any that the API has.",
        detail: "the address is too long: at most 8192 bytes are read",
    }
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", UNSUPPORTED_MEDIA_TYPE, "The body is not sent as JSON" {
        about: "A body must be JSON, sent as `application/json`, and not compressed.",
        detail: "the body must be JSON, as `application/json`",
    }
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request" {
        about: "A request with this `Idempotency-Key` was carried out, and it asked for something else. Each new request needs a new key.",
        detail: "the idempotency key was used for another request",
    }
    PairingCodeNotAvailable = "PAIRING_CODE_NOT_AVAILABLE", UNPROCESSABLE_ENTITY, "WhatsApp gives this account no pairing code" {
        about: "The account cannot be linked by a code; by a QR code it may be. `whatsappCode` is WhatsApp's own status.",
        detail: "WhatsApp gives no pairing code for this account: use a QR code",
        members: { "reason": "not_available", "whatsappCode": 452 },
    }
    PairingForbidden = "PAIRING_FORBIDDEN", UNPROCESSABLE_ENTITY, "WhatsApp forbids the pairing" {
        about: "WhatsApp does not let this account be linked. Asking again makes it no better.",
        detail: "WhatsApp forbids to link this account",
        members: { "reason": "forbidden", "whatsappCode": 403 },
    }
    PairingRefused = "PAIRING_REFUSED", UNPROCESSABLE_ENTITY, "WhatsApp refused the pairing" {
        about: "WhatsApp gave no code; `reason` and `whatsappCode` say as much as it told. It answers so also for a number \
                for which too many codes were asked.",
        detail: "WhatsApp did not take the request for a pairing code",
        members: { "reason": "bad_request", "whatsappCode": 400 },
    }
    PairingRateLimited = "PAIRING_RATE_LIMITED", TOO_MANY_REQUESTS, "WhatsApp was asked for too many pairing codes" {
        about: "WhatsApp wants to be left alone for a while, which may be hours. `Retry-After` says how long where that is known.",
        detail: "WhatsApp was asked for too many pairing codes: try again later",
        members: { "reason": "rate_limited", "whatsappCode": 429 },
    }
    RateLimited = "RATE_LIMITED", TOO_MANY_REQUESTS, "Too many requests" {
        about: "The token, or the address that the request comes from, has asked as often as it may, or showed too much that opens nothing. \
                `limit` says which limit it is, and `Retry-After` when to ask again.",
        detail: "too many requests: see `Retry-After`",
        members: { "limit": "token" },
    }
    StreamsOfCaller = "TOO_MANY_STREAMS_OF_CALLER", TOO_MANY_REQUESTS, "The caller has too many streams open" {
        about: "The token, or its organization, has as many streams and long polls as it may have at this daemon. `limit` says which of them. \
                Those that end make place.",
        detail: "the token, or its organization, has as many streams and long polls as it may have",
        members: { "limit": "token" },
    }
    TooManyTests = "TOO_MANY_TESTS", TOO_MANY_REQUESTS, "The organization is testing enough endpoints" {
        about: "A test waits for its receiver, and an organization has a few at a time. `Retry-After` says when to ask again.",
        detail: "the organization has as many tests of endpoints under way as it may have",
    }
    HeadersTooLarge = "HEADERS_TOO_LARGE", REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large" {
        about: "The request has more headers, or longer ones, than are read.",
        detail: "the headers are too large: at most 100 of them, and 32768 bytes in all, are read",
    }
    Internal = "INTERNAL", INTERNAL_SERVER_ERROR, "The daemon failed" {
        about: "A fault of ours. The operator's log has it under the request's id.",
        detail: "the request failed: the log says why, by its request id",
    }
    WhatsAppFailed = "WHATSAPP_FAILED", BAD_GATEWAY, "WhatsApp did not take it" {
        about: "The session is connected, and sending failed all the same. The message is kept as failed.",
        detail: "the WhatsApp client failed",
    }
    MetaRefused = "META_REFUSED", BAD_GATEWAY, "Meta refused it" {
        about: "The Graph API answered no, and the same again would be in vain. `metaCode` and `metaSubcode` are Meta's own, which its documentation explains: \
                190 is an access token that is no longer good, 100 a parameter, 131047 somebody who has not written for a day. `metaTrace` is what its \
                support asks for.",
        detail: "Meta refused it with code 190",
        members: { "metaCode": 190, "metaSubcode": 463, "metaTrace": "Az8or2yhqkZfEZ-_4Qn6Bam" },
    }
    MediaDamaged = "MEDIA_DAMAGED", BAD_GATEWAY, "The media is not what was announced" {
        about: "What WhatsApp's or Meta's media hosts have does not decrypt, or has another length or hash than its message says. Nothing of it is handed \
                out.",
        detail: "what WhatsApp has is not what the message announced",
    }
    MediaUnavailable = "MEDIA_UNAVAILABLE", SERVICE_UNAVAILABLE, "The media is not here yet" {
        about: "It passes: `Retry-After` says when to ask again. `reason` says why: `fetching` (it is on its way), `busy` (too much else is), \
                `unreachable` (WhatsApp's or Meta's media hosts), `phone_silent` (WhatsApp no longer has it, and the account's phone, which was asked to upload \
                it again, has not answered), `session_not_connected` (the same, and the phone can be asked only when the session is connected), \
                `meta_refused` (the account at Meta that the message came to is gone, disabled, or has no access token that is good), \
                `failed` (it could not be stored).",
        detail: "the media is on its way",
        members: { "reason": "fetching" },
    }
    MetaUnavailable = "META_UNAVAILABLE", SERVICE_UNAVAILABLE, "Meta cannot be asked just now" {
        about: "The Graph API could not be reached, did not answer, or wants to be asked later: `Retry-After` says when.",
        detail: "the Graph API could not be reached",
    }
    Unavailable = "UNAVAILABLE", SERVICE_UNAVAILABLE, "Not possible just now" {
        about: "It passes: `Retry-After` says when to ask again.",
        detail: "the session is busy",
    }
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", SERVICE_UNAVAILABLE, "The database is away" {
        about: "The database does not answer. The daemon waits for it and loses nothing; ask again after `Retry-After`.",
        detail: "the database is not available",
    }
    SessionOnOtherNode = "SESSION_ON_OTHER_NODE", SERVICE_UNAVAILABLE, "Another daemon runs the session" {
        about: "Another daemon on the same database runs the session, and did not answer in time. `node` is its name.",
        detail: "another daemon runs the session, and did not answer",
        members: { "node": "gateway-2" },
    }
    PairingUnavailable = "PAIRING_UNAVAILABLE", SERVICE_UNAVAILABLE, "WhatsApp gives no pairing code at the moment" {
        about: "WhatsApp failed or did not answer. Ask again after `Retry-After`.",
        detail: "WhatsApp did not answer",
        members: { "reason": "unreachable", "whatsappCode": null },
    }
    TooManyStreams = "TOO_MANY_STREAMS", SERVICE_UNAVAILABLE, "Too many streams are open" {
        about: "The daemon has as many streams and long polls as it may have. Those that end make place.",
        detail: "too many streams and long polls are open",
    }
    Timeout = "TIMEOUT", SERVICE_UNAVAILABLE, "The request took too long" {
        about: "No answer was ready in time. What was to be changed may be, or may yet be: look, or repeat the request with its `Idempotency-Key`.",
        detail: "the request took too long: whether it was carried out is not known",
    }
}

impl Code {
    /// The code of a word, in either case.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.word().eq_ignore_ascii_case(word))
    }

    /// Where the code is explained: the `type` of its documents, relative to the daemon's address.
    pub(crate) fn address(self) -> String {
        format!("/problems/{}", self.word())
    }

    /// A whole document, for example.
    pub(crate) fn example(self) -> Value {
        let mut document = json!({
            "type": self.address(),
            "title": self.title(),
            "status": self.status().as_u16(),
            "success": false,
            "code": self.word(),
            "detail": self.detail(),
            "requestId": "req_1f0c8b6c2f3b4d6e9a7b5c4d3e2f1a0b",
        });
        if let Value::Object(document) = &mut document {
            document.extend(self.members());
        }
        document
    }
}

/// All of them, for people: what `docs/problems.md` is.
pub(super) fn page() -> String {
    let mut page = include_str!("docs/problems.md").to_owned();
    for code in Code::ALL {
        let (word, status) = (code.word(), code.status().as_u16());
        let (title, about) = (code.title(), code.about());
        let example = serde_json::to_string_pretty(&code.example()).unwrap_or_default();
        page.extend([
            format!("\n## {word}\n\n{status}: {title}.\n\n{about}\n"),
            format!("\n```json\n{example}\n```\n"),
        ]);
    }
    page
}
