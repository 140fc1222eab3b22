//! Lists: every one of them is walked page by page while it grows, takes filters, and refuses those it has not.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    contract,
    database::{Kind, on, on_each},
    http_app::App,
    meta::{NUMBER, SECRET, SHARED, WABA, complete, deliver, set_up, text},
    webhooks_api::{endpoint, log},
};

/// How a list is called, and how it grows.
pub(crate) struct Subject {
    operation: &'static str,
    pub(crate) path: String,
    /// The member that tells rows apart.
    id: &'static str,
}

/// Things that the lists of one endpoint and one session are about.
pub(crate) struct Ours {
    webhook: String,
    delivery: String,
    organization: String,
    campaign: String,
    account: String,
    conversation: String,
}

impl Ours {
    pub(crate) async fn make(app: &App) -> Self {
        let (webhook, _) = endpoint(app, json!({ "url": "https://receiver.test/" })).await;
        app.session("walked").await;
        let account = set_up(app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        told(app, "16505551234", "wamid.first").await;
        let conversations = app.get("/api/conversations").await.json();
        // The oldest, which no other has to go before.
        let owed = log(app, &webhook).await;
        let campaign = app.post("/api/campaigns", json!({ "name": "Walked" })).await.json();
        let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
        Self {
            delivery: id(owed.last().unwrap()),
            webhook,
            organization: app.organization.to_string(),
            campaign: id(&campaign["data"]),
            account: id(&account),
            conversation: id(&conversations["data"][0]),
        }
    }

    /// The list of this operation.
    pub(crate) fn subject(&self, operation: &'static str, path: &str) -> Subject {
        let path = path
            .replace("{sessionId}", "walked")
            .replace("{webhookId}", &self.webhook)
            .replace("{deliveryId}", &self.delivery)
            .replace("{organizationId}", &self.organization)
            .replace("{campaignId}", &self.campaign)
            .replace("{accountId}", &self.account)
            .replace("{conversationId}", &self.conversation);
        let id = match operation {
            "listSessions" => "sessionId",
            _ => "id",
        };
        Subject { operation, path, id }
    }

    /// Adds a row to the list.
    async fn grow(&self, app: &App, operation: &str, number: usize) {
        let made = match operation {
            "listOrganizations" => {
                app.post("/api/organizations", json!({ "name": format!("Org {number}") })).await
            }
            // Each is written down as well.
            "listTokens" | "listAuditEntries" => {
                app.post("/api/tokens", json!({ "role": "viewer" })).await
            }
            "listSessions" => {
                let body = json!({ "sessionId": format!("s{number}"), "start": false });
                app.post("/api/whatsapp/session", body).await
            }
            "listCampaigns" => {
                app.post("/api/campaigns", json!({ "name": format!("Sale {number}") })).await
            }
            "listWebhooks" => {
                app.post("/api/webhooks", json!({ "url": "https://receiver.test/" })).await
            }
            "listMetaAccounts" | "getOrganizationWhatsApp" => {
                // Both lists are of the same things.
                let number = format!("{}{number}", operation.len());
                app.post("/api/meta/accounts", complete(&number, WABA, SECRET)).await
            }
            "listMetaEvents" => {
                let body = text(WABA, NUMBER, &format!("wamid.{number}"), "hello").to_string();
                deliver(app, SHARED, SECRET, body.as_bytes()).await
            }
            "listContacts" => {
                return told(app, &format!("1650551{number:04}"), &format!("wamid.p{number}"))
                    .await;
            }
            "listConversations" => {
                told(app, &format!("1650552{number:04}"), &format!("wamid.q{number}")).await;
                // What was there before has a new message, and stays where it is.
                let later = 1_799_999_100 + number;
                return told_at(app, "16505551234", &format!("wamid.r{number}"), later).await;
            }
            "listConversationMessages" => {
                return told(app, "16505551234", &format!("wamid.c{number}")).await;
            }
            "listCampaignAudience" => {
                let path = format!("/api/campaigns/{}/audience", self.campaign);
                let member = json!({ "phoneNumber": format!("1650553{number:04}") });
                app.post(&path, json!({ "members": [member] })).await
            }
            "listReplays" => {
                // Those before it have to end, as only five may run.
                app.clock.advance(Duration::from_secs(1));
                app.store.webhooks().step_replays().await.unwrap();
                let path = format!("/api/webhooks/{}/replay", self.webhook);
                app.post(&path, json!({ "after_sequence": 0 })).await
            }
            "listDeliveryAttempts" => {
                let retry = format!("/api/webhooks/events/{}/retry", self.delivery);
                let retried = app.post(&retry, json!({})).await;
                app.deliveries.drive().await.unwrap();
                retried
            }
            "listDeliveries" | "listMessages" | "listEvents" | "listSessionEvents" => {
                app.hear("walked", &format!("1555000{number:04}"), "hello").await;
                return;
            }
            other => panic!("{other} is a list: say here how it grows"),
        };
        assert!(made.status.is_success(), "{}", made.text());
    }
}

/// Has somebody write to the number at Meta's.
async fn told(app: &App, from: &str, id: &str) {
    told_at(app, from, id, 1_799_999_000).await;
}

async fn told_at(app: &App, from: &str, id: &str, seconds: usize) {
    let body = text(WABA, NUMBER, id, "hello").to_string().replace("16505551234", from);
    let body = body.replace("1799999000", &seconds.to_string());
    assert_eq!(deliver(app, SHARED, SECRET, body.as_bytes()).await.status, 200);
    app.meta.drive().await.unwrap();
}

/// Every operation that lists what grows.
fn lists() -> Vec<(String, String, BTreeSet<String>)> {
    let document = contract::document();
    let mut lists = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(operation) = methods.get("get") else { continue };
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let query: BTreeSet<_> = parameters
            .filter(|it| it["in"] == "query")
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        let is_stream = operation["responses"]["200"]["content"].get("text/event-stream").is_some();
        if query.contains("limit") && !is_stream {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            lists.push((id, path.clone(), query));
        }
    }
    assert!(lists.len() >= 10, "{lists:?}");
    lists
}

/// Lists that do not grow, and so have no pages.
const SHORT: [&str; 2] = ["listEventTypes", "listProblems"];

#[test]
fn whatever_answers_a_list_that_grows_has_pages() {
    let document = contract::document();
    let of_schema = |schema: &Value| {
        let mut schema = schema;
        while let Some(shared) = schema["$ref"].as_str() {
            schema = document.pointer(shared.trim_start_matches('#')).unwrap();
        }
        schema.clone()
    };
    let mut without = BTreeSet::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().unwrap();
            let contents = operation["responses"]
                .as_object()
                .unwrap()
                .iter()
                .filter(|(status, _)| status.starts_with('2'))
                .filter_map(|(_, response)| response["content"].as_object())
                .flat_map(|contents| contents.values());
            let lists = contents
                .map(|content| of_schema(&of_schema(&content["schema"])["properties"]["data"]))
                .any(|data| data["type"] == "array");
            if lists && !parameters.iter().any(|it| it["name"] == "limit") {
                without.insert(operation["operationId"].as_str().unwrap());
            }
        }
    }
    assert_eq!(without, BTreeSet::from(SHORT));
}

/// The next page, and how to ask for the one after it.
async fn page(app: &App, subject: &Subject, place: &str) -> (Vec<String>, Option<String>) {
    let answer = app.get(&format!("{}?limit=2{place}", subject.path)).await;
    assert_eq!(answer.status, 200, "{}: {}", subject.operation, answer.text());
    let page = answer.json();
    // A seed's list may stand among other things.
    let rows = page["data"].as_array().or_else(|| page["data"]["accounts"].as_array());
    let rows: Vec<_> =
        rows.unwrap().iter().map(|row| row[subject.id].as_str().unwrap().to_owned()).collect();
    let next = match &page["cursor"] {
        // A feed goes on for ever: it ends for now where it has nothing more.
        Value::Number(cursor) => (!rows.is_empty()).then(|| format!("&after={cursor}")),
        _ => ["nextCursor", "next_cursor"]
            .iter()
            .find_map(|name| page[name].as_str())
            .map(|cursor| format!("&cursor={cursor}")),
    };
    assert!(rows.len() <= 2);
    (rows, next)
}

async fn walk(app: &App, ours: &Ours, subject: &Subject, grow: bool) -> Vec<String> {
    let (mut seen, mut place, mut number) = (Vec::new(), String::new(), 100);
    loop {
        let (rows, next) = page(app, subject, &place).await;
        seen.extend(rows);
        let Some(next) = next else { return seen };
        place = next;
        // What comes while it is read comes at the same moment as the last: the clock stands still.
        if grow && number < 106 {
            ours.grow(app, subject.operation, number).await;
            number += 1;
        }
    }
}

#[tokio::test]
async fn every_list_walked_while_it_grows_has_each_row_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        for (operation, path, _) in lists() {
            let subject = ours.subject(operation.leak(), &path);
            for number in 0..5 {
                ours.grow(&app, subject.operation, number).await;
            }
            if subject.operation == "listDeliveries" {
                log(&app, &ours.webhook).await;
            }
            app.clock.advance(Duration::from_millis(1));
            let before = walk(&app, &ours, &subject, false).await;
            assert!(before.len() >= 5, "{operation}: {before:?}", operation = subject.operation);
            assert_eq!(walk(&app, &ours, &subject, false).await, before, "{}", subject.operation);
            let seen = walk(&app, &ours, &subject, true).await;
            let distinct: BTreeSet<_> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "{}: {seen:?}", subject.operation);
            for row in &before {
                assert!(distinct.contains(row), "{}: {row} is missing", subject.operation);
            }
            // In the order that they had before.
            let old: Vec<_> = seen.iter().filter(|row| before.contains(row)).cloned().collect();
            assert_eq!(old, before, "{}", subject.operation);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_list_has_filters_and_refuses_what_is_none_of_them() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        for (operation, path, query) in lists() {
            let subject = ours.subject(operation.leak(), &path);
            let paging = ["limit", "cursor", "after", "wait"];
            let filters = query.iter().filter(|name| !paging.contains(&name.as_str()));
            assert_ne!(filters.count(), 0, "{} has no filter", subject.operation);
            app.get(&format!("{}?colour=red", subject.path)).await.invalid(&["/colour"]);
            app.get(&format!("{}?limit=0", subject.path)).await.invalid(&["/limit"]);
            let place = if query.contains("cursor") { "cursor" } else { "after" };
            let bad = app.get(&format!("{}?{place}=nonsense", subject.path)).await;
            bad.invalid(&[&format!("/{place}")]);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn filters_leave_what_was_asked_for() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        app.hear("walked", "15550001111", "hello").await;
        app.post("/api/organizations", json!({ "name": "Acme" })).await;
        app.clock.advance(Duration::from_secs(1));
        let viewer = app.post("/api/tokens", json!({ "role": "viewer" })).await.json();
        let expiring = json!({ "role": "manager", "expiresAt": "2027-01-15T08:00:02Z" });
        app.post("/api/tokens", expiring).await;
        let viewer = viewer["data"]["id"].as_str().unwrap().to_owned();
        app.clock.advance(Duration::from_secs(1));
        app.delete(&format!("/api/tokens/{viewer}")).await;
        app.post(&format!("/api/webhooks/{}/replay", ours.webhook), json!({ "after_sequence": 0 }))
            .await;
        app.post(&format!("/api/webhooks/{}/pause", ours.webhook), json!({})).await;
        let replays = format!("/api/webhooks/{}/replays", ours.webhook);
        let messages = "/api/whatsapp/session/walked/messages";

        for (address, count) in [
            ("/api/organizations?name=Acme".to_owned(), 1),
            ("/api/organizations?clientId=1".to_owned(), 1),
            ("/api/organizations?name=Nobody".to_owned(), 0),
            ("/api/tokens?role=viewer".to_owned(), 1),
            ("/api/tokens?state=revoked".to_owned(), 1),
            ("/api/tokens?state=expired".to_owned(), 1),
            ("/api/tokens?state=active".to_owned(), 1),
            ("/api/tokens?state=active&role=viewer".to_owned(), 0),
            (format!("/api/audit?target={viewer}"), 2),
            (format!("/api/audit?target={viewer}&action=token_revoked"), 1),
            ("/api/audit?since=2027-01-15T08:00:02Z&action=token_revoked".to_owned(), 1),
            ("/api/audit?until=2027-01-15T08:00:02Z&action=token_revoked".to_owned(), 0),
            (format!("/api/audit?tokenId={viewer}"), 0),
            ("/api/webhooks?state=paused".to_owned(), 1),
            ("/api/webhooks?state=active".to_owned(), 0),
            ("/api/webhooks?format=flat".to_owned(), 0),
            (format!("{replays}?state=running"), 1),
            (format!("{replays}?state=cancelled"), 0),
            (format!("{messages}?direction=inbound"), 1),
            (format!("{messages}?direction=outbound"), 0),
            (format!("{messages}?status=received"), 1),
            ("/api/whatsapp/events/page?type=message".to_owned(), 2),
            // The walked one, and that of the number at Meta.
            ("/api/whatsapp/events/page?type=session.created".to_owned(), 2),
            ("/api/whatsapp/events/page?type=call".to_owned(), 0),
        ] {
            let answer = app.get(&address).await;
            assert_eq!(answer.status, 200, "{address}: {}", answer.text());
            let found = answer.json()["data"].as_array().unwrap().len();
            assert_eq!(found, count, "{address}: {}", answer.text());
        }
        // What was looked at in vain is not looked at again.
        let all = app.get("/api/whatsapp/events/page").await.json()["cursor"].clone();
        let none = app.get("/api/whatsapp/events/page?type=call").await.json();
        assert_eq!(none["cursor"], all);
        for bad in
            ["/api/tokens?state=lost", "/api/audit?since=yesterday", "/api/webhooks?state=deleted"]
        {
            app.get(bad).await.problem(400, "VALIDATION_FAILED");
        }
        app.close().await;
    })
    .await;
}
