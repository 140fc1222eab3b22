//! What the API says about itself: the document, its page, and the codes of problems.

use std::{collections::BTreeSet, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use wagate::http::{self, Access, Limits};

use crate::{
    contract::{self, escape},
    database::{Kind, on},
    http_app::{Answer, App, json as with_json},
};

/// Every operation: path, method, and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let document = contract::document();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<_> = operations(&document)
        .into_iter()
        .map(|(path, method, _)| (method.to_ascii_uppercase(), path))
        .collect();
    let routes: BTreeSet<_> = http::routes(&Limits::default())
        .iter()
        .map(|route| (route.method.to_string(), route.path.to_owned()))
        .collect();
    assert_eq!(described, routes);
}

#[test]
fn every_operation_says_what_it_needs_and_what_it_answers() {
    let document = contract::document();
    let (mut ids, mut unclear) = (BTreeSet::new(), Vec::new());
    for route in http::routes(&Limits::default()) {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&method];
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is two operations");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{id}");
        let is_guarded = route.access != Access::Anybody;
        // Meta shows a signature, and no token.
        let is_signed = id == "receiveMetaEventsOfAccount";
        assert_eq!(responses.contains_key("401"), is_guarded || is_signed, "{id}");
        assert_eq!(operation["security"].as_array().unwrap().is_empty(), !is_guarded, "{id}");
        for parameter in operation["parameters"].as_array().unwrap() {
            let shared = parameter["$ref"].as_str().map(|it| it.trim_start_matches('#'));
            let parameter = shared.map_or(parameter, |it| document.pointer(it).unwrap());
            assert_ne!(parameter["description"], "", "{id}: {parameter}");
            // The page would send it, whether or not it means anything to who tries the route.
            let is_needed = parameter["required"] == true;
            assert!(is_needed || parameter.get("example").is_none(), "{id}: {parameter}");
            // What it may be is said all the same: by an example, or by what there is to choose from.
            let schema = &parameter["schema"];
            let says = ["examples", "enum", "default", "minimum", "format"];
            let is_clear = says.iter().any(|it| schema.get(it).is_some())
                || ["boolean", "array"].iter().any(|it| schema["type"] == *it)
                || shared.is_some();
            if !is_needed && !is_clear {
                unclear.push(format!("{id}: {}", parameter["name"]));
            }
        }
        for name in route.path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|it| it["name"] == name && it["in"] == "path"), "{id}");
        }
    }
    assert!(unclear.is_empty(), "{unclear:#?}");
    for (name, webhook) in document["webhooks"].as_object().unwrap() {
        let id = webhook["post"]["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{name}: {id} is two operations");
    }
}

#[test]
fn what_is_no_json_has_an_example_where_programs_read_it() {
    let document = contract::document();
    for (path, kind) in [
        ("/api/whatsapp/events", "text/event-stream"),
        ("/api/whatsapp/session/{sessionId}/events", "text/event-stream"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/webhook", "text/plain; charset=utf-8"),
    ] {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        let shown = content[kind]["example"].as_str();
        assert!(shown.is_some_and(|it| !it.is_empty()), "{path}: {content}");
    }
}

#[test]
fn every_example_is_as_its_schema_says() {
    let document = contract::document();
    let mut looked_at = 0;
    let webhooks = document["webhooks"].as_object().unwrap();
    let webhooks = webhooks.iter().map(|(name, it)| ("webhooks", name, "post", &it["post"]));
    let all = operations(&document);
    let paths = all.iter().map(|(path, method, it)| ("paths", path, method.as_str(), it));
    for (place, path, method, operation) in paths.chain(webhooks) {
        let begin = format!("/{place}/{}/{method}", escape(path));
        let mut contents = vec![format!("{begin}/requestBody/content")];
        for status in operation["responses"].as_object().unwrap().keys() {
            let response = format!("{begin}/responses/{status}");
            let shared = document.pointer(&format!("{response}/$ref")).and_then(Value::as_str);
            let response = shared.map_or(response, |it| it.trim_start_matches('#').to_owned());
            contents.push(format!("{response}/content"));
        }
        for content in contents {
            let kinds = document.pointer(&content).and_then(Value::as_object);
            for (kind, described) in kinds.into_iter().flatten() {
                let schema = format!("{content}/{}/schema", escape(kind));
                let several = described["examples"].as_object().into_iter().flatten();
                let several = several.map(|(_, example)| &example["value"]);
                for example in described.get("example").into_iter().chain(several) {
                    contract::check_value(&schema, example);
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 100, "{looked_at}");
}

/// The address with each variable part as its example has it.
fn address(path: &str, operation: &Value) -> String {
    let mut address = path.to_owned();
    for parameter in operation["parameters"].as_array().unwrap() {
        if parameter["in"] == "path" {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            address = address.replace(&name, parameter["example"].as_str().unwrap());
        }
    }
    address
}

#[tokio::test]
async fn routes_know_every_member_and_parameter_that_the_document_names() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (path, method, operation) in operations(&contract::document()) {
            let waits = operation["responses"]["200"]["content"].get("text/event-stream").is_some();
            if operation["security"] == json!([]) || waits {
                continue;
            }
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let query: Vec<_> = parameters
                .filter(|it| it["in"] == "query")
                .map(|it| format!("{}=0", it["name"].as_str().unwrap()))
                .collect();
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let address = format!("{}?{}", address(&path, &operation), query.join("&"));
            let mut request = app.request(method, &address);
            if let Some(body) = operation.get("requestBody") {
                let schema = &body["content"]["application/json"]["schema"];
                // Every member, with what none of them is.
                let names = schema["properties"].as_object().unwrap().keys();
                let members = names.map(|name| (name.clone(), json!([[]]))).collect();
                request = with_json(request, &Value::Object(members));
            }
            let answer = Answer::to(request).await;
            assert!(!answer.status.is_server_error(), "{path}: {}", answer.text());
            assert!(!answer.text().contains("is not known here"), "{path}: {}", answer.text());
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_document_is_served_as_it_is_and_its_page_needs_no_other_host() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let served = Answer::to(app.anonymous(Method::GET, "/openapi.json")).await;
        assert_eq!(served.status, 200);
        assert_eq!(served.json(), contract::document());

        let page = Answer::to(app.anonymous(Method::GET, "/docs")).await;
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        // Swagger UI shows what it was answered by addresses of this kind; nobody else does.
        assert!(policy.contains("; img-src data: blob:; media-src blob:;"), "{policy}");
        let dashboard = app.get("/dashboard").await;
        assert!(!dashboard.header("content-security-policy").contains("blob:"));
        assert!(!page.text().contains("://"), "{}", page.text());
        let parts = page.text().split('"').filter(|text| text.starts_with("/docs/"));
        for part in parts.map(ToOwned::to_owned) {
            let answer = Answer::to(app.anonymous(Method::GET, &part)).await;
            assert_eq!(answer.status, 200, "{part}");
            assert_eq!(answer.header("content-security-policy"), policy, "{part}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_type_of_a_problem_is_where_it_is_explained() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (path, code) in [
            ("/nowhere", "ROUTE_NOT_FOUND"),
            ("/api/whatsapp/session/nobody", "SESSION_NOT_FOUND"),
            ("/problems/NO_SUCH", "PROBLEM_NOT_FOUND"),
        ] {
            let problem = app.get(path).await.problem(404, code);
            let explained = app.anonymous(Method::GET, problem["type"].as_str().unwrap());
            let explained = Answer::to(explained).await.json();
            assert_eq!(explained["data"]["code"], code);
            assert_eq!(explained["data"]["title"], problem["title"]);
            assert_eq!(explained["data"]["example"]["type"], problem["type"]);
        }
        let all = Answer::to(app.anonymous(Method::GET, "/problems")).await.json();
        assert!(all["data"].as_array().unwrap().len() > 30);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_before_a_route_is_found_is_a_problem_too() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let long = format!("/livez?{}", "a".repeat(9000));
        Answer::to(app.anonymous(Method::GET, &long)).await.problem(414, "URI_TOO_LONG");

        let large = app.anonymous(Method::GET, "/livez").header("x-filler", "a".repeat(40_000));
        Answer::to(large).await.problem(431, "HEADERS_TOO_LARGE");
        let many = (0..150).fold(app.anonymous(Method::GET, "/livez"), |request, number| {
            request.header(format!("x-filler-{number}"), "a")
        });
        Answer::to(many).await.problem(431, "HEADERS_TOO_LARGE");

        let wrong = app.anonymous(Method::PUT, "/livez");
        let wrong = Answer::to(wrong).await;
        wrong.problem(405, "METHOD_NOT_ALLOWED");
        assert!(wrong.header("allow").contains("GET"));
        // A name for the request that is good is taken, any other is not.
        let named = app.request(Method::GET, "/nowhere").header("x-request-id", "order-4711");
        assert_eq!(
            Answer::to(named).await.problem(404, "ROUTE_NOT_FOUND")["requestId"],
            "order-4711"
        );
        app.close().await;
    })
    .await;
}

#[test]
fn the_problems_page_of_the_documentation_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/problems.md");
    let page = http::problems_page();
    if std::env::var_os("WAGATE_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
}
