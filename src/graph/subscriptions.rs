//! Which apps Meta tells of what happens to a business account.

use reqwest::Method;

use super::{Error, Graph, PROMPT, answer};

/// The most apps that are read of an answer.
const MOST: usize = 100;

impl Graph {
    /// The ids of the apps that are subscribed to a business account.
    pub async fn subscribed_apps(&self, token: &str, waba: &str) -> Result<Vec<String>, Error> {
        let path = [waba, "subscribed_apps"];
        let request = self.request(Method::GET, &path, token)?.timeout(PROMPT);
        let told = answer(request.send().await).await?;
        let all = told["data"].as_array().ok_or(Error::Unintelligible { status: 200 })?;
        let id = |app: &serde_json::Value| {
            let app = &app["whatsapp_business_api_data"];
            app["id"].as_str().map(str::to_owned)
        };
        Ok(all.iter().take(MOST).filter_map(id).collect())
    }
}
