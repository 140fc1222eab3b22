//! The library's HTTP calls (the version, media), on one shared client with limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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

/// Where the version is asked for.
const WEB: &str = "https://web.whatsapp.com";

/// One HTTP client for all sessions. Built at the first call: most processes never make one.
#[derive(Debug, Default)]
pub(super) struct Http {
    /// Where a simulator is that stands for all of WhatsApp's servers, and speaks no TLS.
    simulator: Option<String>,
    client: std::sync::OnceLock<Result<reqwest::Client, String>>,
    /// For media: goes where it was sent and nowhere else, for as long as its caller says.
    media: std::sync::OnceLock<Result<reqwest::Client, String>>,
}

impl Http {
    /// For clients that dial `url` instead of WhatsApp, if they do.
    pub(super) fn new(url: Option<&str>) -> Self {
        let simulator = url.filter(|_| crate::SIMULATOR).and_then(|url| url.strip_prefix("ws://"));
        let host = simulator.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned());
        Self { simulator: host, ..Self::default() }
    }

    /// The same client, for one file that is no longer than `limit`.
    pub(super) fn bounded(this: &Arc<Self>, limit: usize) -> Bounded {
        Bounded { http: Arc::clone(this), limit, delivered: AtomicBool::new(false) }
    }

    fn client(&self) -> Result<&reqwest::Client, anyhow::Error> {
        built(&self.client, |builder| builder.timeout(DEADLINE))
    }

    /// Asks for a file of media. Follows nobody elsewhere.
    pub(super) async fn open(&self, url: &str) -> Result<reqwest::Response, anyhow::Error> {
        let none = reqwest::redirect::Policy::none();
        let client = built(&self.media, |builder| builder.redirect(none))?;
        let call = client.get(self.reachable(url.to_owned()));
        call.send().await.map_err(|error| error.without_url().into())
    }

    /// The same address at the simulator, if there is one: its media hosts are where they say they are, and who is
    /// asked for the version is where sessions are dialled.
    fn reachable(&self, mut url: String) -> String {
        let Some(simulator) = &self.simulator else { return url };
        if url.starts_with("https://127.0.0.1:") {
            url.replace_range(.."https".len(), "http");
        } else if let Some(path) = url.strip_prefix(WEB) {
            return format!("http://{simulator}{path}");
        }
        url
    }
}

fn built(
    client: &std::sync::OnceLock<Result<reqwest::Client, String>>,
    limits: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<&reqwest::Client, anyhow::Error> {
    client
        .get_or_init(|| {
            let builder = reqwest::Client::builder()
                .connect_timeout(CONNECT_DEADLINE)
                .pool_max_idle_per_host(2);
            limits(builder).build().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| anyhow::anyhow!("no HTTP client: {error}"))
}

impl Http {
    async fn exchange(
        &self,
        request: HttpRequest,
        limit: usize,
    ) -> Result<HttpResponse, anyhow::Error> {
        let method = request.method.parse::<reqwest::Method>()?;
        let url = self.reachable(request.url);
        let mut call = self.client()?.request(method, &url);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        // A URL may carry a token: errors are kept, the URL is not.
        let mut response = call.send().await.map_err(reqwest::Error::without_url)?;
        let status_code = response.status().as_u16();
        let announced = response.content_length().and_then(|it| usize::try_from(it).ok());
        // In one piece, so that growing it does not take twice the memory.
        let mut body = Vec::with_capacity(announced.unwrap_or(0).min(limit));
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > limit {
                anyhow::bail!("the answer is larger than {limit} bytes");
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status_code, body })
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        self.exchange(request, MAX_BODY).await
    }
}

/// [`Http`] for one file of known length.
#[derive(Debug)]
pub(super) struct Bounded {
    http: Arc<Http>,
    limit: usize,
    delivered: AtomicBool,
}

impl Bounded {
    /// Whether some host has begun to hand a file over: what is wrong with it is no matter of time.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl HttpClient for Bounded {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        let answer = self.http.exchange(request, self.limit).await?;
        if answer.status_code == 200 {
            self.delivered.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }
}
