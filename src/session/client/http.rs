//! The library's HTTP calls (the version, media), on one shared client with limits.

use std::time::Duration;

use async_trait::async_trait;
use whatsapp_rust::{
    anyhow,
    http::{HttpClient, HttpRequest, HttpResponse},
};

/// Total time of one exchange.
const DEADLINE: Duration = Duration::from_mins(1);

/// Time to a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer taken: well above WhatsApp's largest media file that fits into memory.
const MAX_BODY: usize = 100 * 1024 * 1024;

/// One HTTP client for all sessions. Built at the first call: most processes never make one.
#[derive(Debug, Default)]
pub(super) struct Http {
    client: std::sync::OnceLock<Result<reqwest::Client, String>>,
}

impl Http {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn client(&self) -> Result<&reqwest::Client, anyhow::Error> {
        self.client
            .get_or_init(|| {
                reqwest::Client::builder()
                    .connect_timeout(CONNECT_DEADLINE)
                    .timeout(DEADLINE)
                    .pool_max_idle_per_host(2)
                    .build()
                    .map_err(|error| error.to_string())
            })
            .as_ref()
            .map_err(|error| anyhow::anyhow!("no HTTP client: {error}"))
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        let method = request.method.parse::<reqwest::Method>()?;
        let mut call = self.client()?.request(method, &request.url);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        // A URL may carry a token: errors are kept, the URL is not.
        let mut response = call.send().await.map_err(reqwest::Error::without_url)?;
        let status_code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > MAX_BODY {
                anyhow::bail!("the answer is larger than {MAX_BODY} bytes");
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status_code, body })
    }
}
