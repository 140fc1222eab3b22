//! What one organization can learn of another by an id in a body or a query: no more than of an id that nobody has.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use wagate::http::{self, Limits, Statement};

use crate::{
    contract,
    database::on_each,
    http_app::{Answer, App, json as with_json},
    http_strangers::{furnish, never, stranger, whole},
    meta::{self, SHARED, complete, set_up},
    receiver::Receiver,
};

/// Every member and parameter that takes what a thing is called by, and what kind of thing that is.
const IDS: [(&str, &str, &str); 35] = [
    ("listAuditEntries", "target", "webhookId"),
    ("listAuditEntries", "tokenId", "tokenId"),
    ("listCampaigns", "sessionId", "sessionId"),
    ("createCampaign", "sessionId", "sessionId"),
    ("changeCampaign", "sessionId", "sessionId"),
    ("addCampaignAudience", "messageId", "waId"),
    ("addCampaignAudience", "messageId", "metaMessageId"),
    ("listContacts", "identity", "identity"),
    ("listConversations", "sessionId", "sessionId"),
    ("listConversations", "contactId", "contactId"),
    ("markConversationRead", "messageId", "metaMessageId"),
    ("sendMetaMessage", "replyTo", "metaMessageId"),
    ("sendMetaMessage", "to", "contactAddress"),
    ("listMetaAccounts", "phoneNumberId", "phoneNumberId"),
    ("getOrganizationWhatsApp", "phoneNumberId", "phoneNumberId"),
    ("listMetaEvents", "account", "accountId"),
    ("reprocessMetaEvents", "account", "accountId"),
    ("listOrganizations", "clientId", "clientId"),
    ("createWebhook", "session_ids", "sessionId"),
    ("changeWebhook", "session_ids", "sessionId"),
    ("registerWebhook", "phone_number", "linkedNumber"),
    ("createWebhook", "phone_numbers", "linkedNumber"),
    ("listSessions", "userId", "userId"),
    ("listMessages", "chat", "identity"),
    ("migrateSessions", "from", "sessionId"),
    ("reportStatus", "sessionId", "vpsSessionId"),
    ("reportStatusToFunction", "sessionId", "vpsSessionId"),
    // Before a session of the stranger's has such a user.
    ("connectUser", "user_id", "userId"),
    ("changeSession", "userId", "userId"),
    ("changeMetaAccount", "appId", "appId"),
    ("changeMetaAccount", "wabaId", "wabaId"),
    ("upsertMetaAccount", "appId", "appId"),
    ("upsertMetaAccount", "wabaId", "wabaId"),
    // What follows makes things that are called so.
    ("upsertMetaAccount", "phoneNumberId", "phoneNumberId"),
    ("changeMetaAccount", "phoneNumberId", "phoneNumberId"),
];

/// Those that would be sessions of the stranger's own afterwards, and so are asked last.
const MADE: [(&str, &str, &str); 2] =
    [("createSession", "userId", "userId"), ("createSession", "sessionId", "sessionId")];

/// Called like an id, and a time.
const TIMES: [(&str, &str); 2] = [("listMetaEvents", "from"), ("reprocessMetaEvents", "from")];

/// Told with a 400 that it is not there.
const LOOKED_UP: [(&str, &str); 4] = [
    ("addCampaignAudience", "messageId"),
    ("sendMetaMessage", "replyTo"),
    ("sendMetaMessage", "to"),
    ("migrateSessions", "from"),
];

/// Whether a member of this name takes an id, as far as its name tells.
fn names_a_thing(name: &str) -> bool {
    let ends = ["Id", "Ids", "_id", "_ids"];
    let words = ["id", "ids", "account", "from", "identity", "replyTo", "target"];
    words.contains(&name) || ends.iter().any(|end| name.ends_with(end))
}

/// What a schema calls its members, however deep they are.
fn members(document: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(shared) = schema["$ref"].as_str() {
        members(document, document.pointer(shared.trim_start_matches('#')).unwrap(), found);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(name.clone());
        members(document, inner, found);
    }
    let several = ["oneOf", "anyOf", "allOf"].map(|name| schema[name].as_array());
    for inner in several.into_iter().flatten().flatten().chain(schema.get("items")) {
        members(document, inner, found);
    }
}

#[test]
fn every_id_that_a_body_or_a_query_takes_is_tried_by_a_stranger() {
    let document = contract::document();
    let tried: BTreeSet<_> =
        IDS.iter().chain(&MADE).map(|(operation, name, _)| (*operation, *name)).collect();
    let mut missing = Vec::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            let mut names: BTreeSet<_> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|it| it["in"] == "query")
                .map(|it| it["name"].as_str().unwrap().to_owned())
                .collect();
            let contents = operation["requestBody"]["content"].as_object();
            for content in contents.into_iter().flatten().map(|(_, content)| content) {
                members(&document, &content["schema"], &mut names);
            }
            let names = names.iter().map(String::as_str).filter(|name| names_a_thing(name));
            let left = names.filter(|name| !tried.contains(&(id, *name)));
            missing.extend(
                left.filter(|name| !TIMES.contains(&(id, *name))).map(|it| format!("{id}: {it}")),
            );
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The stranger's app at Meta's is another one: who knows our app's secret may learn that a number is set up with it.
const THEIR_SECRET: &str = "their_app_secret";

fn account(number: &str, waba: &str) -> Value {
    let mut body = complete(number, waba, THEIR_SECRET);
    body["appId"] = json!("670843887433111");
    body
}

/// What the operation needs besides.
fn rest(operation: &str) -> Value {
    match operation {
        "createCampaign" => json!({ "name": "Theirs" }),
        "createSession" => json!({ "start": false }),
        "createWebhook" => json!({ "url": "https://receiver.test/" }),
        "registerWebhook" => json!({ "webhook_url": "https://receiver.test/" }),
        "sendMetaMessage" => json!({ "to": "16505551234", "text": "hello" }),
        "changeMetaAccount" => json!({ "appSecret": THEIR_SECRET }),
        "upsertMetaAccount" => account("3", "4"),
        "connectUser" => json!({ "phone_number": "6281234567899" }),
        "reportStatus" | "reportStatusToFunction" => json!({ "status": "connected" }),
        _ => json!({}),
    }
}

/// A member with the id, in the shape that it has there.
fn with_id(operation: &str, name: &str, id: &str) -> Value {
    let mut body = rest(operation);
    match (operation, name) {
        ("addCampaignAudience", _) => {
            // A member of its own each time, so that none is there already.
            let number: u32 = id.bytes().map(u32::from).sum();
            body["members"] = json!([{ "phoneNumber": format!("1650555{number:04}"), name: id }]);
        }
        (_, "session_ids" | "phone_numbers" | "from") => body[name] = json!([id]),
        _ => body[name] = json!(id),
    }
    body
}

/// A text without the signing secret in it. Base64 has letters that stand between words, too.
fn without_secret(text: &str) -> String {
    let Some((before, rest)) = text.split_once("whsec_") else { return text.to_owned() };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    format!("{before}<new>\"{after}")
}

/// An answer, without what is new in each: what was made is called something else every time, and has a secret of its own.
/// A refusal is compared as it is.
fn comparable(answer: &Answer, id: &str) -> (u16, Vec<(String, String)>, String) {
    let (status, mut headers, body) = whole(answer);
    if status >= 400 {
        return (status, headers, body);
    }
    headers.retain(|(name, _)| name != "content-length");
    let plain = |text: &str| {
        let is_of_word = |it: char| it.is_ascii_alphanumeric() || "_-+=".contains(it);
        let (text, mut plain) = (without_secret(text), String::new());
        for part in text.split_inclusive(|it| !is_of_word(it)) {
            let word = part.trim_end_matches(|it| !is_of_word(it));
            let end = &part[word.len()..];
            plain.push_str(if word.len() > 24 { "<new>" } else { word });
            plain.push_str(end);
        }
        plain
    };
    // Where it is said back, as a whole text or at the end of an address.
    let asked = format!("\"{id}\"");
    for (_, value) in &mut headers {
        let end = format!("/{id}");
        *value =
            value.strip_suffix(&end).map_or_else(|| plain(value), |it| format!("{it}/<asked>"));
    }
    // A number's messages are kept under a session that is called after it.
    let body = body.replace(&format!("\"meta_{id}\""), "\"meta_<asked>\"");
    (status, headers, plain(&body.replace(&asked, "\"<asked>\"")))
}

#[tokio::test]
async fn an_id_of_ours_in_a_body_or_a_query_is_to_a_stranger_what_nobody_has() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Receiver::start().await;
        let (organization, secret) = stranger(&app).await;
        let things = furnish(&app, &ours.url()).await;
        let none = never(&things);
        let theirs = furnish_stranger(&app, &secret, &organization).await;
        let pairs = pairs(&app, &things, &none).await;
        let before = standing(&app).await;

        let routes = http::routes(&Limits::default());
        for (operation, name, kind) in IDS.into_iter().chain(MADE) {
            let route = routes.iter().find(|it| it.operation == operation).unwrap();
            let (of_ours, of_none) = &pairs[kind];
            let ask = async |id: &str| {
                let answer = ask(&app, route, &theirs, &secret, name, id).await;
                // It was read, and the token is good.
                let is_looked_up = LOOKED_UP.contains(&(operation, name));
                let unread = answer.status == 401 || answer.status == 400 && !is_looked_up;
                assert!(!unread, "{operation}: {name}: {}", answer.text());
                comparable(&answer, id)
            };
            let (about_ours, about_none) = (ask(of_ours).await, ask(of_none).await);
            assert_eq!(about_ours, about_none, "{operation}: {name}");
        }
        assert_eq!(standing(&app).await, before, "a stranger has changed what is ours");
        app.close().await;
    })
    .await;
}

/// Asks with an id, as the stranger, about things of the stranger's own.
async fn ask(
    app: &App,
    route: &Statement,
    theirs: &BTreeMap<&str, String>,
    secret: &str,
    name: &str,
    id: &str,
) -> Answer {
    let path = theirs.iter().fold(route.path.to_owned(), |path, (variable, own)| {
        path.replace(&format!("{{{variable}}}"), own)
    });
    assert!(!path.contains('{'), "{path}: make such a thing of the stranger's");
    let request = if route.method == Method::GET {
        app.anonymous(Method::GET, &format!("{path}?{name}={id}"))
    } else {
        let body = with_id(route.operation, name, id);
        with_json(app.anonymous(route.method.clone(), &path), &body)
    };
    // The status webhook takes a token in the place of its key.
    let request = if route.is_for_all_origins {
        request.header("x-webhook-secret", secret)
    } else {
        request.bearer_auth(secret)
    };
    Answer::to(request.header("x-request-id", "the-same")).await
}

/// What of ours a stranger might have moved.
async fn standing(app: &App) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/api/whatsapp/session/list-realtime?migrated=true",
        "/api/campaigns",
        "/api/meta/accounts",
        "/api/conversations",
        "/api/webhooks",
    ] {
        let mut answer = app.get(path).await.json();
        answer.as_object_mut().unwrap().remove("timestamp");
        seen.push(answer);
    }
    seen
}

/// Things of the stranger's own, by their names in addresses.
async fn furnish_stranger(
    app: &App,
    secret: &str,
    organization: &str,
) -> BTreeMap<&'static str, String> {
    let make = async |path: &str, body: Value| {
        let request = app.anonymous(Method::POST, path).bearer_auth(secret);
        let answer = Answer::to(with_json(request, &body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()["data"]["id"].as_str().unwrap_or_default().to_owned()
    };
    make("/api/whatsapp/session", json!({ "sessionId": "their-own", "start": false })).await;
    let webhook = make("/api/webhooks", json!({ "url": "https://receiver.test/" })).await;
    let campaign =
        make("/api/campaigns", json!({ "name": "Of theirs", "sessionId": "their-own" })).await;
    let account = set_up(app, secret, account("3", "4")).await;
    let told = meta::text("4", "3", "wamid.theirs", "a word of theirs").to_string();
    meta::deliver(app, SHARED, THEIR_SECRET, told.as_bytes()).await;
    app.meta.drive().await.unwrap();
    let conversations = meta::get(app, secret, "/api/conversations").await.json();
    BTreeMap::from([
        ("sessionId", "their-own".to_owned()),
        ("organizationId", organization.to_owned()),
        ("webhookId", webhook),
        ("campaignId", campaign),
        ("accountId", account["id"].as_str().unwrap().to_owned()),
        ("conversationId", conversations["data"][0]["id"].as_str().unwrap().to_owned()),
    ])
}

/// Of each kind of thing what one of ours is called, and something like it that nobody has.
async fn pairs(
    app: &App,
    things: &BTreeMap<&'static str, String>,
    none: &BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, (String, String)> {
    // One who is connected, and one who runs elsewhere.
    let user = json!({ "sessionId": "of-a-user", "userId": "user-ours", "start": false });
    assert_eq!(app.post("/api/whatsapp/session", user).await.status, 201);
    app.connect("of-a-user").await;
    let elsewhere = json!({ "sessionData": { "vps_session_id": "vps-ours" } });
    app.external("elsewhere", elsewhere).await;
    app.tell("elsewhere", "ready", json!({})).await;

    let contacts = app.get("/api/contacts").await.json();
    let contact = contacts["data"][0]["id"].as_str().unwrap().to_owned();
    let conversations = app.get("/api/conversations").await.json();
    let at_meta = conversations["data"].as_array().unwrap();
    let at_meta = at_meta.iter().find(|it| it["channel"] == "cloud").unwrap();
    let messages = format!("/api/conversations/{}/messages", at_meta["id"].as_str().unwrap());
    let messages = app.get(&messages).await.json();
    let message = messages["data"][0]["id"].as_str().unwrap().to_owned();
    let nobody_s = |id: &str| format!("{}00000000000000000000000000", &id[..id.len() - 26]);

    let mut pairs: BTreeMap<_, _> =
        things.iter().map(|(name, id)| (*name, (id.clone(), none[name].clone()))).collect();
    let pair = |ours: &str, nobody_s: &str| (ours.to_owned(), nobody_s.to_owned());
    pairs.extend([
        ("contactId", pair(&contact, &nobody_s(&contact))),
        (
            "contactAddress",
            (format!("{contact}@contact"), format!("{}@contact", nobody_s(&contact))),
        ),
        ("metaMessageId", pair(&message, &nobody_s(&message))),
        ("userId", pair("user-ours", "user-none")),
        ("vpsSessionId", pair("vps-ours", "vps-none")),
        ("waId", pair("wamid.ours", "wamid.none")),
        ("identity", pair("15550001111", "15550009999")),
        ("linkedNumber", pair("6281234567890", "6281234567000")),
        ("phoneNumberId", pair("1", "9")),
        ("wabaId", pair("2", "8")),
        ("appId", pair("670843887433847", "670843887433000")),
        ("clientId", pair("1", "9")),
    ]);
    pairs
}
