//! The OpenAPI 3.1 document: every route of the table, with what follows from its kind.

mod refusals;

use std::collections::BTreeMap;

use bytes::Bytes;
use entity::state::Role;
use schemars::{
    JsonSchema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::{
    operation::{Content, Field, Operation, Response, Tag},
    outgoing,
    route::{Access, Errors, Key, Pace, Route, Statement},
    signed,
};

/// What the document begins with.
const INTRODUCTION: &str = include_str!("../docs/introduction.md");

/// The document, written.
#[derive(Clone, Debug, Default)]
pub(super) struct Document(pub(super) Bytes);

impl Document {
    pub(super) fn of(routes: &[Route]) -> Self {
        // JSON made here: nothing in it can fail to be written.
        Self(serde_json::to_vec(&document(routes)).unwrap_or_default().into())
    }
}

/// The document about these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        "/components/schemas".clone_into(settings.definitions_path.to_mut());
        settings.contract = Contract::Serialize;
        settings.meta_schema = None;
    });
    let mut writer = Writer { schemas: settings.into_generator(), problems: BTreeMap::new() };
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let method = route.statement().method.as_str().to_ascii_lowercase();
        let operation = writer.operation(route.statement(), route.operation());
        paths.entry(route.statement().path).or_default().insert(method, operation);
    }
    let tags: Vec<_> = Tag::ALL
        .iter()
        .map(|tag| json!({ "name": tag.name(), "description": tag.about() }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "wagate",
            "summary": "WhatsApp sessions over HTTP",
            "description": INTRODUCTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/", "description": "This daemon" }],
        "tags": tags,
        "paths": paths,
        "webhooks": outgoing::webhooks(),
        "components": {
            "schemas": writer.schemas.take_definitions(true),
            "responses": writer.problems,
            "headers": {
                "RequestId": {
                    "description": "What the log knows the request by.",
                    "schema": { "type": "string" },
                },
            },
            "parameters": {
                "Organization": {
                    "name": "X-Organization",
                    "in": "header",
                    "description": "For operators: the organization to act in, by its id or number, such as `1`. Without it, the token's own.",
                    "schema": { "type": "string" },
                },
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "What to call the request in the log, such as `order-4711`: 1 to 128 letters, digits, `.`, `_`, `:` or `-`. Anything else is not taken, and the request is given a name.",
                    "schema": { "type": "string" },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the organization, `wag_…`. A new installation has an operator's in `operator.token` in its state directory.",
                },
                // Pages show schemes by name: behind the token, which most want.
                "sessionSecret": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "secret",
                    "description": "The secret of a session that runs elsewhere, `whsec_…`: shown when it is made.",
                },
                "webhookSecret": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-webhook-secret",
                    "description": "The same in a header; or what the operator has set for the status webhook.",
                },
                "urlSignature": {
                    "type": "apiKey",
                    "in": "query",
                    "name": signed::PARAMETER,
                    "description": "Part of an address that was asked for (`qrUrl` of a session, `POST …/qr/url`): the last parameter, good for this address as it is.",
                },
            },
        },
    })
}

/// Collects what operations share.
struct Writer {
    schemas: SchemaGenerator,
    /// Responses that are one code, by its word.
    problems: BTreeMap<&'static str, Value>,
}

impl Writer {
    fn operation(&mut self, statement: &Statement, operation: &Operation) -> Value {
        let mut written = json!({
            "operationId": operation.id,
            "tags": [operation.tag.name()],
            "summary": operation.summary,
            "description": description(statement, operation),
            "parameters": parameters(statement, operation),
            "responses": self.responses(statement, operation),
            "security": security(statement),
        });
        if let Some(members) = &operation.body {
            written["requestBody"] = body(members, operation.is_open);
            if let Some(table) = operation.table {
                written["requestBody"]["content"]["text/csv"] =
                    json!({ "schema": { "type": "string" }, "example": table });
            }
        } else if let Some(example) = &operation.posted {
            written["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": {}, "example": example } },
            });
        }
        written
    }

    fn responses(&mut self, statement: &Statement, operation: &Operation) -> Value {
        let mut responses = Map::new();
        for response in &operation.responses {
            responses.insert(response.status.to_string(), self.response(response));
        }
        let elder = (statement.errors == Errors::Elder).then_some(operation);
        for (status, codes) in refusals::of(statement, operation) {
            let problem = self.problem(status, &codes, elder);
            // A route that answers the status in its own way says so itself.
            responses.entry(status.to_string()).or_insert(problem);
        }
        Value::Object(responses)
    }

    fn response(&mut self, response: &Response) -> Value {
        let mut content = Map::new();
        for part in &response.contents {
            match part {
                Content::Empty => {}
                Content::Json { schema, example } => {
                    let schema = schema(&mut self.schemas);
                    content.insert(
                        "application/json".to_owned(),
                        json!({ "schema": schema, "example": example }),
                    );
                }
                Content::Text { kind, example } => {
                    let text = json!({ "schema": { "type": "string" }, "example": example });
                    content.insert((*kind).to_owned(), text);
                }
                Content::Media(kinds) => content.extend(
                    kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": media(kind) }))),
                ),
            }
        }
        let mut headers = request_id();
        for (name, about) in &response.headers {
            headers[*name] = json!({ "description": about, "schema": { "type": "string" } });
        }
        let mut written = json!({ "description": response.about, "headers": headers });
        if !content.is_empty() {
            written["content"] = Value::Object(content);
        }
        written
    }
}

fn request_id() -> Value {
    json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } })
}

fn media(kind: &str) -> Value {
    if kind.starts_with("text/") || kind.starts_with("application/openmetrics-text") {
        json!({ "type": "string" })
    } else {
        // Bytes, which JSON Schema has no word for.
        json!({})
    }
}

fn description(statement: &Statement, operation: &Operation) -> String {
    let role = match statement.access {
        Access::Anybody => "Needs no token.".to_owned(),
        Access::AtLeast(role) => format!("Needs a token with the role `{}`.", role_word(role)),
        Access::Holder(Key::Session(role)) => format!(
            "Needs a token with the role `{}`, the session's secret or a signature.",
            role_word(role)
        ),
        Access::Holder(Key::Status(role)) => format!(
            "Needs the key of the status webhook, or a token with the role `{}` in its place.",
            role_word(role)
        ),
    };
    let pace = match statement.pace {
        Pace::Prompt => "",
        Pace::Waiting => " May wait.",
    };
    let errors = if statement.errors == Errors::Elder {
        " Its errors also have `statusCode`, `message` and, mostly, `error`, as clients of seed 002 read them."
    } else {
        ""
    };
    let about = if operation.about.is_empty() { "" } else { "\n\n" };
    format!("{}{about}{role}{pace}{errors}", operation.about)
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Manager => "manager",
        Role::Admin => "admin",
        Role::Operator => "operator",
    }
}

fn security(statement: &Statement) -> Value {
    match statement.access {
        Access::Anybody => json!([]),
        Access::Holder(Key::Session(role)) => json!([
            { "token": [role_word(role)] }, { "sessionSecret": [] }, { "webhookSecret": [] },
        ]),
        Access::Holder(Key::Status(_)) => json!([{ "webhookSecret": [] }]),
        Access::AtLeast(role) if statement.takes_signature => {
            json!([{ "token": [role_word(role)] }, { "urlSignature": [role_word(role)] }])
        }
        Access::AtLeast(role) => json!([{ "token": [role_word(role)] }]),
    }
}

fn parameters(statement: &Statement, operation: &Operation) -> Value {
    let mut parameters = Vec::new();
    for name in variables(statement.path) {
        let (schema, about, example) = variable(name);
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "description": about, "schema": schema, "example": example,
        }));
    }
    for (place, fields) in [("query", &operation.query), ("header", &operation.headers)] {
        for Field { name, about, schema, is_required, example } in fields {
            let mut parameter = json!({
                "name": name, "in": place, "required": is_required,
                "description": about, "schema": schema,
            });
            // The page sends the examples that parameters have: what nobody needs has one in its schema alone.
            match example {
                Some(example) if *is_required => parameter["example"] = example.clone(),
                Some(example) => parameter["schema"]["examples"] = json!([example]),
                None => {}
            }
            parameters.push(parameter);
        }
    }
    if matches!(statement.access, Access::AtLeast(_) | Access::Holder(Key::Session(_))) {
        parameters.push(json!({ "$ref": "#/components/parameters/Organization" }));
    }
    parameters.push(json!({ "$ref": "#/components/parameters/RequestId" }));
    Value::Array(parameters)
}

/// The names in braces.
fn variables(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// What a variable part of an address may be: schema, meaning, example.
fn variable(name: &str) -> (Value, &'static str, &'static str) {
    use entity::id::{
        CampaignId, ConversationId, DeliveryId, EndpointId, MessageId, MetaAccountId, MetaEventId,
        OrganizationId, ReplayId, SessionId, TokenId,
    };

    fn of<T: JsonSchema>() -> Value {
        T::json_schema(&mut SchemaGenerator::default()).to_value()
    }
    match name {
        "sessionId" => (of::<SessionId>(), "What the session is called.", "shop-1"),
        "messageId" => {
            (of::<MessageId>(), "Our id of the message.", "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V")
        }
        "organizationId" => {
            (of::<OrganizationId>(), "The organization.", "org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V")
        }
        "tokenId" => (of::<TokenId>(), "The token.", "tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        "webhookId" => (of::<EndpointId>(), "The endpoint.", "ep_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        "deliveryId" => (of::<DeliveryId>(), "The delivery.", "dlv_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        "campaignId" => (of::<CampaignId>(), "The campaign.", "camp_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        "conversationId" => {
            (of::<ConversationId>(), "The conversation.", "cnv_01JJ2Q8ZK4XG0V3M5N7P9R1T3V")
        }
        "replayId" => (of::<ReplayId>(), "The replay.", "rpl_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        "accountId" => {
            (of::<MetaAccountId>(), "The account at Meta.", "mac_01JJ2Q8ZK4XG0V3M5N7P9R1T3V")
        }
        "metaEventId" => {
            (of::<MetaEventId>(), "The event of Meta's.", "mev_01JJ2Q8ZK4XG0V3M5N7P9R1T3V")
        }
        "callbackKey" => (
            json!({ "type": "string" }),
            "The last part of the account's `ownPath`.",
            "n4Vv3m5N7P9R1T3VkQ8ZK4XG0V3M5N7P9R1T3VkQ8ZI",
        ),
        "code" => (json!({ "type": "string" }), "The problem's `code`.", "SESSION_NOT_FOUND"),
        _ => (json!({ "type": "string" }), "", ""),
    }
}

fn body(members: &[Field], is_open: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut example = Map::new();
    for Field { name, about, schema, is_required, example: value } in members {
        let mut schema = schema.clone();
        if *is_required {
            required.push(*name);
        } else if let Some(kind) = schema.get("type").cloned() {
            // `null` is as good as nothing everywhere.
            schema["type"] = json!([kind, "null"]);
            if let Some(Value::Array(words)) = schema.get_mut("enum") {
                words.push(Value::Null);
            }
        }
        schema["description"] = (*about).into();
        if let Some(value) = value {
            example.insert((*name).to_owned(), value.clone());
        }
        properties.insert((*name).to_owned(), schema);
    }
    json!({
        "required": !required.is_empty(),
        "content": { "application/json": {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": is_open,
            },
            "example": example,
        } },
    })
}
