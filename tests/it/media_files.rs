//! Files of messages, as tests ask for them: over plain HTTP, with and without a token.

use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use wagate_simulator::{MediaFile, SentMedia};

use crate::{
    contract::{self, Seen},
    world::{ALICE, BOB, World, http_client},
};

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Got {
    /// Asks, and sees to it that the document describes what is answered.
    pub(crate) async fn by(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let got = Self { status, headers, body: response.bytes().await.unwrap().to_vec() };
        contract::check(&Seen {
            method: method.as_str(),
            path: &path,
            status: status.as_u16(),
            content_type: got.header("content-type"),
            body: &got.body,
        });
        got
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is the file, whole.
    #[track_caller]
    pub(crate) fn is(&self, bytes: &[u8]) {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-length"), bytes.len().to_string());
        assert!(self.body == bytes, "{} bytes instead of {}", self.body.len(), bytes.len());
    }

    /// Asserts that this is a problem document with this status and code, and nothing of a file.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        if status == 503 {
            assert!(self.header("retry-after").parse::<u64>().unwrap() > 0);
        }
        problem
    }
}

/// Bytes that no two files have in common, of which none is easily guessed.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut state: u32 = rand::random::<u32>() | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

impl World {
    /// Has Bob send a file to Alice, and waits until her session has it; answers its address, and what was
    /// sent.
    pub(crate) async fn receive(&self, session: &str, file: MediaFile) -> (String, SentMedia) {
        let bob = self.whatsapp.contact(BOB).unwrap();
        let sent = bob.send_media(ALICE, file).await.unwrap();
        let message = self.until_message(session, &sent.id).await;
        let id = message["id"].as_str().unwrap();
        (format!("/api/whatsapp/session/{session}/messages/{id}/media"), sent)
    }

    /// Waits until a message with this id of WhatsApp's is there.
    pub(crate) async fn until_message(&self, session: &str, wa_id: &str) -> Value {
        let path = format!("/api/whatsapp/session/{session}/messages?limit=500");
        self.until(&format!("message {wa_id}"), async || {
            let seen = self.get(&path).await.body["data"].clone();
            let found = seen.as_array().unwrap().iter().find(|it| it["waId"] == wa_id);
            found.cloned().ok_or(seen)
        })
        .await
    }

    /// The file at this address, with the operator's token.
    pub(crate) async fn file(&self, path: &str) -> Got {
        Got::by(self.request(Method::GET, path)).await
    }

    /// The same with a header.
    pub(crate) async fn file_with(&self, path: &str, name: &str, value: &str) -> Got {
        Got::by(self.request(Method::GET, path).header(name, value)).await
    }

    /// A signed address of this one.
    pub(crate) async fn signed(&self, path: &str) -> String {
        let signed = self.post(&format!("{path}/url"), json!({ "expiresIn": 60 })).await;
        assert_eq!(signed.status, 200, "{}", signed.body);
        signed.body["data"]["url"].as_str().unwrap().to_owned()
    }

    /// As a tag of a page asks: with nothing but the address.
    pub(crate) fn as_a_tag(&self, method: Method, url: &str) -> RequestBuilder {
        http_client().request(method, format!("http://{}{url}", self.address()))
    }
}
