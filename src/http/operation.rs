//! What a route says about itself to people and programs that have not called it yet.
//!
//! An [`Operation`] is part of every [`Route`](super::route::Route); [`super::openapi`] puts the document
//! together from them. It names the types that the handler serializes, so that their schemas are those of
//! the code. What every route of a kind has (a token, a path, a body that may be broken) is not repeated
//! here: it follows from the route.

use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::{
    code::Code,
    fields::{LONGEST_PAGE, USUAL_PAGE},
};
use crate::service::webhooks::{LONGEST_OVERLAP, OVERLAP};

/// A chapter of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Sessions,
    External,
    Messages,
    Events,
    Webhooks,
    Campaigns,
    Meta,
    Organizations,
    Tokens,
    Audit,
    Daemon,
}

impl Tag {
    /// In the order in which they are shown.
    pub(super) const ALL: [Self; 11] = [
        Self::Sessions,
        Self::External,
        Self::Messages,
        Self::Events,
        Self::Webhooks,
        Self::Campaigns,
        Self::Meta,
        Self::Organizations,
        Self::Tokens,
        Self::Audit,
        Self::Daemon,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::External => "Sessions elsewhere",
            Self::Messages => "Messages",
            Self::Events => "Events",
            Self::Webhooks => "Webhooks",
            Self::Campaigns => "Campaigns",
            Self::Meta => "Meta's Cloud API",
            Self::Organizations => "Organizations",
            Self::Tokens => "Tokens",
            Self::Audit => "Audit log",
            Self::Daemon => "The daemon",
        }
    }

    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Sessions => {
                "One linked device each: made, started, scanned or paired, watched, stopped and deleted."
            }
            Self::External => {
                "Devices that other programs run, such as whatsapp-web.js: what happens on them is posted here."
            }
            Self::Messages => "Sent and received, with how far each has come.",
            Self::Events => {
                "Everything that happens, recorded once, with a number: as a stream, or page by page."
            }
            Self::Webhooks => "URLs that are told of events, and what became of each telling.",
            Self::Campaigns => "Bulk sends: their names, and the sessions that they are sent from.",
            Self::Meta => "Numbers at Meta's Cloud API, and what Meta tells of them.",
            Self::Organizations => "The tenants.",
            Self::Tokens => "Who may call for an organization.",
            Self::Audit => "Who changed what, when, and from where.",
            Self::Daemon => "Whether it is well, and what it says about itself.",
        }
    }
}

/// A parameter, a header or a member of a body.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: Value,
    pub(super) is_required: bool,
    pub(super) example: Option<Value>,
}

impl Field {
    fn new(name: &'static str, about: &'static str, schema: Value) -> Self {
        Self { name, about, schema, is_required: false, example: None }
    }

    /// The request is refused without it.
    pub(super) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    pub(super) fn example(mut self, value: impl Into<Value>) -> Self {
        self.example = Some(value.into());
        self
    }

    /// What holds when it is not given.
    pub(super) fn usually(self, value: impl Into<Value>) -> Self {
        self.with("default", value)
    }

    /// A regular expression that every value matches.
    pub(super) fn pattern(self, pattern: &'static str) -> Self {
        self.with("pattern", pattern)
    }

    /// Characters that it may have.
    pub(super) fn lengths(self, lengths: RangeInclusive<usize>) -> Self {
        self.with("minLength", *lengths.start()).with("maxLength", *lengths.end())
    }

    fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.schema[keyword] = value.into();
        self
    }
}

pub(super) fn text(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "string" }))
}

/// A text that people read: no control characters.
pub(super) fn label(name: &'static str, about: &'static str) -> Field {
    text(name, about).pattern("^[^\\u0000-\\u001f\\u007f-\\u009f]*$")
}

pub(super) fn flag(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "boolean" }))
}

/// A whole number within limits.
pub(super) fn number(
    name: &'static str,
    limits: RangeInclusive<i64>,
    about: &'static str,
) -> Field {
    let schema = json!({ "type": "integer", "minimum": limits.start(), "maximum": limits.end() });
    Field::new(name, about, schema)
}

/// For how long an old secret is good beside its successor, in seconds: as
/// [`Fields::overlap`](super::fields::Fields::overlap) reads it.
pub(super) fn overlap(name: &'static str, about: &'static str) -> Field {
    let longest = i64::try_from(LONGEST_OVERLAP.as_secs()).unwrap_or(i64::MAX);
    number(name, 0..=longest, about).usually(OVERLAP.as_secs()).example(3600)
}

/// One of these words.
pub(super) fn word(name: &'static str, words: &[&str], about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "string", "enum": words }))
}

pub(super) fn texts(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "array", "items": { "type": "string" } }))
}

/// Texts by name.
pub(super) fn named_texts(name: &'static str, about: &'static str) -> Field {
    Field::new(
        name,
        about,
        json!({ "type": "object", "additionalProperties": { "type": "string" } }),
    )
}

/// Members of the caller's own choosing.
pub(super) fn object(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "object" }))
}

/// What may be of several types.
pub(super) fn any(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({}))
}

/// A point in time, as RFC 3339 writes it.
pub(super) fn time(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "string", "format": "date-time" }))
}

/// A phone number as people write it, country code first.
pub(super) fn phone_number(name: &'static str, about: &'static str) -> Field {
    text(name, about).pattern("^[+]?[1-9][0-9]{6,14}$").example("15550001111")
}

/// A URL.
pub(super) fn url(name: &'static str, about: &'static str) -> Field {
    Field::new(name, about, json!({ "type": "string", "format": "uri" }))
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a response carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing.
    Empty,
    /// What the handler serializes.
    Json { schema: SchemaOf, example: Value },
    /// Text in this format, such as this.
    Text { kind: &'static str, example: &'static str },
    /// Something in one of these formats.
    Media(&'static [&'static str]),
}

/// A response that is no problem.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) contents: Vec<Content>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

/// What a route says about itself.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// For generated clients: a name of a function. Never changed once released.
    pub(super) id: &'static str,
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) query: Vec<Field>,
    pub(super) headers: Vec<Field>,
    /// The members of its body, which is one JSON object.
    pub(super) body: Option<Vec<Field>>,
    /// Whether the body may have other members besides.
    pub(super) is_open: bool,
    /// An example of the table that may be there in its place, as `text/csv`.
    pub(super) table: Option<&'static str>,
    /// An example of a body that is read as bytes.
    pub(super) posted: Option<Value>,
    pub(super) responses: Vec<Response>,
    /// Problems of its own.
    pub(super) problems: Vec<Code>,
    /// Problems that are answered here with another status than elsewhere.
    pub(super) odd_problems: Vec<OddProblem>,
    /// What `message` of a problem says where that is not its detail.
    pub(super) messages: Vec<(Code, &'static str)>,
}

/// A problem that is another one here than elsewhere.
#[derive(Clone, Debug)]
pub(super) struct OddProblem {
    pub(super) status: u16,
    pub(super) code: Code,
    /// What has happened, and what can be done about it.
    pub(super) about: &'static str,
    pub(super) detail: String,
}

/// Begins the description of a route.
pub(super) fn operation(id: &'static str, tag: Tag, summary: &'static str) -> Operation {
    Operation {
        id,
        tag,
        summary,
        about: "",
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        is_open: false,
        table: None,
        posted: None,
        responses: Vec::new(),
        problems: Vec::new(),
        odd_problems: Vec::new(),
        messages: Vec::new(),
    }
}

impl Operation {
    /// The statuses of its responses that are no problems.
    pub(super) fn expected(&self) -> impl Iterator<Item = u16> + '_ {
        self.responses.iter().map(|response| response.status)
    }

    /// What the summary leaves open.
    pub(super) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    pub(super) fn query(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.query.extend(fields);
        self
    }

    /// It takes `limit` and `cursor`, as most lists do.
    pub(super) fn paged(self) -> Self {
        self.pages_of(LONGEST_PAGE, USUAL_PAGE)
    }

    pub(super) fn pages_of(self, longest: i64, usual: u64) -> Self {
        self.query([
            number("limit", 1..=longest, "The most entries of the page.").usually(usual),
            text("cursor", "Where the page begins: `nextCursor` of the page before.")
                .example("MDFKSjJROFpLNFhHMFYzTTVON1A5UjFUM1Y"),
        ])
    }

    pub(super) fn header(mut self, field: Field) -> Self {
        self.headers.push(field);
        self
    }

    /// A repeated request with the same `Idempotency-Key` makes nothing new.
    pub(super) fn idempotent(self) -> Self {
        let key = text(
            "Idempotency-Key",
            "Names the request, such as `order-4711`, so that sent again it makes nothing new: the answer is that of the first, with 200 and \
             `Idempotency-Replayed: true`, without secrets, which are shown once. What it made and is gone is not made again (409), but for a message. 1 to 255 visible ASCII \
             characters.",
        );
        self.header(key.pattern("^[!-~]{1,255}$").example("order-4711"))
            .refuses([Code::IdempotencyKeyReused, Code::IdempotencyResultGone])
    }

    pub(super) fn body(mut self, members: impl IntoIterator<Item = Field>) -> Self {
        self.body = Some(members.into_iter().collect());
        self
    }

    /// More members of its body.
    pub(super) fn also(mut self, members: impl IntoIterator<Item = Field>) -> Self {
        self.body.get_or_insert_default().extend(members);
        self
    }

    /// A body that may have other members besides: they are passed over.
    pub(super) fn open_body(mut self, members: impl IntoIterator<Item = Field>) -> Self {
        self.is_open = true;
        self.body(members)
    }

    /// Its member `csv` may be the body itself.
    pub(super) const fn or_table(mut self, example: &'static str) -> Self {
        self.table = Some(example);
        self
    }

    /// It takes bytes, whatever is in them; usually this.
    pub(super) fn posted(mut self, example: Value) -> Self {
        self.posted = Some(example);
        self
    }

    pub(super) fn answers<T: JsonSchema>(
        self,
        status: u16,
        about: &'static str,
        example: Value,
    ) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        self.response(status, about, vec![Content::Json { schema, example }])
    }

    /// An answer without a body.
    pub(super) fn answers_nothing(self, status: u16, about: &'static str) -> Self {
        self.response(status, about, vec![Content::Empty])
    }

    pub(super) fn response(
        mut self,
        status: u16,
        about: &'static str,
        contents: Vec<Content>,
    ) -> Self {
        self.responses.push(Response { status, about, contents, headers: Vec::new() });
        self
    }

    /// A header of the response described last.
    pub(super) fn says(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(response) = self.responses.last_mut() {
            response.headers.push((name, about));
        }
        self
    }

    /// It refuses with a code under another status than elsewhere, and for another reason.
    pub(super) fn refuses_with(mut self, odd: OddProblem) -> Self {
        self.odd_problems.push(odd);
        self
    }

    /// What `message` of the problems with this code says.
    pub(super) fn says_to(mut self, code: Code, message: &'static str) -> Self {
        self.messages.push((code, message));
        self
    }

    pub(super) fn refuses(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.problems.extend(codes);
        self
    }
}
