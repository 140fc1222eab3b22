//! Which apps Meta tells of what happens to a business account.

use reqwest::Method;
use serde_json::Value;

use super::{Error, Graph, PROMPT, answer};

/// The most apps that are read of an answer.
const MOST: usize = 100;

/// The apps that are subscribed to a business account, as far as Meta has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    apps: Vec<String>,
    /// There are no others.
    is_all: bool,
}

impl Subscribed {
    /// Reads Meta's answer; none if it is not one.
    fn read(told: &Value) -> Option<Self> {
        let all = told["data"].as_array()?;
        let id = |app: &Value| app["whatsapp_business_api_data"]["id"].as_str().map(str::to_owned);
        let apps: Vec<_> = all.iter().take(MOST).filter_map(id).collect();
        // More may be on the next page, or be what could not be read.
        let is_all = apps.len() == all.len() && told["paging"]["next"].is_null();
        Some(Self { apps, is_all })
    }

    /// Whether an app is among them; if it is not known which, whether any is. None if that cannot be said.
    pub fn has(&self, app: Option<&str>) -> Option<bool> {
        if app.is_some_and(|app| self.apps.iter().any(|it| it == app)) {
            return Some(true);
        }
        let is_certain = self.is_all && (app.is_some() || self.apps.is_empty());
        is_certain.then_some(false)
    }
}

impl Graph {
    /// The apps that are subscribed to a business account.
    pub async fn subscribed_apps(&self, token: &str, waba: &str) -> Result<Subscribed, Error> {
        let path = [waba, "subscribed_apps"];
        let request = self.request(Method::GET, &path, token)?.timeout(PROMPT);
        let told = answer(request.send().await).await?;
        Subscribed::read(&told).ok_or(Error::Unintelligible { status: 200 })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(id: &Value) -> Value {
        json!({ "whatsapp_business_api_data": { "id": id, "name": "Shop" } })
    }

    #[test]
    fn an_app_is_not_subscribed_only_where_all_that_are_could_be_read() {
        let (ours, other) = (app(&json!("1")), app(&json!("2")));
        let next = json!({ "next": "https://graph.facebook.com/next" });
        let many = vec![other.clone(); MOST + 1];
        for (told, of_ours, of_unknown) in [
            (json!({ "data": [] }), Some(false), Some(false)),
            (json!({ "data": [ours, other] }), Some(true), None),
            (json!({ "data": [other] }), Some(false), None),
            (json!({ "data": [other], "paging": { "cursors": {} } }), Some(false), None),
            (json!({ "data": [other], "paging": next }), None, None),
            (json!({ "data": [ours], "paging": next }), Some(true), None),
            (json!({ "data": [], "paging": next }), None, None),
            (json!({ "data": [{}] }), None, None),
            (json!({ "data": [other, { "id": "1" }] }), None, None),
            (json!({ "data": [app(&json!(1))] }), None, None),
            (json!({ "data": many }), None, None),
        ] {
            let read = Subscribed::read(&told).unwrap();
            assert_eq!((read.has(Some("1")), read.has(None)), (of_ours, of_unknown), "{told}");
        }
        for told in [json!({}), json!({ "data": {} }), json!([])] {
            assert_eq!(Subscribed::read(&told), None, "{told}");
        }
    }
}
