//! Passing events on to a receiver on the developer's machine, signed as if they had come by webhook.

use std::time::Duration;

use reqwest::Url;

use crate::{
    clock::Clock,
    webhook::{SigningSecret, sign},
};

/// How long a receiver may take: an endpoint's usual limit.
const ANSWER: Duration = Duration::from_secs(15);

/// Tries of one event, and what is waited after each that failed.
pub(super) const TRIES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The receiver.
pub(super) struct Receiver {
    http: reqwest::Client,
    url: Url,
    secrets: Vec<SigningSecret>,
}

impl Receiver {
    pub(super) fn new(url: Url, secrets: Vec<SigningSecret>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(ANSWER)
            .user_agent(concat!("wagate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, url, secrets })
    }

    /// Tells of an event; what was answered if that was no 2xx.
    pub(super) async fn tell(&self, id: &str, body: &str) -> Result<(), String> {
        let now = Clock::system().now().as_secs();
        let mut request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now);
        if !self.secrets.is_empty() {
            let signature = sign(&self.secrets, id, now, body.as_bytes());
            request = request.header("webhook-signature", signature);
        }
        match request.body(body.to_owned()).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(error) if error.is_timeout() => Err("it does not answer".to_owned()),
            Err(error) if error.is_connect() => Err("it cannot be reached".to_owned()),
            Err(_) => Err("its answer is no HTTP".to_owned()),
        }
    }
}
