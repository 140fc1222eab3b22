//! A small client of the daemon's HTTP API.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::failure::Failure;

/// Longer than the longest long poll.
const DEADLINE: Duration = Duration::from_secs(90);

/// The API of one daemon, asked with its operator's token.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Http {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Result<Self, Failure> {
        // Somebody else in this process may have installed it.
        rustls::crypto::ring::default_provider().install_default().ok();
        // Nothing is kept open between requests: whoever counts descriptors counts only sessions.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        let (base, token) = (format!("http://{address}"), token.trim().to_owned());
        Ok(Self { base, token, client })
    }

    /// A request with the token, and no deadline.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// What `path` answers, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        json(accepted(self.request(Method::GET, path).timeout(DEADLINE)).await?).await
    }

    /// What a JSON body sent to `path` is answered with.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path).timeout(DEADLINE);
        let request = request.header("content-type", "application/json").body(body.to_string());
        json(accepted(request).await?).await
    }
}

/// Sends a request; anything but success is a failure that tells what came instead.
pub(crate) async fn accepted(request: RequestBuilder) -> Result<Response, Failure> {
    let (client, request) = request.build_split();
    let request = request?;
    let what = format!("{} {}", request.method(), request.url().path());
    let response = client.execute(request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    Err(Failure::Refused { request: what, status, body })
}

async fn json(response: Response) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}
