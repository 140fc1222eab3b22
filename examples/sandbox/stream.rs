//! Server-sent events, read one by one.

use reqwest::{Method, Response};
use serde_json::Value;

use crate::{
    failure::Failure,
    http::{Http, accepted},
};

/// An open stream.
pub(crate) struct EventStream {
    response: Response,
    /// Received and not yet taken apart.
    buffer: Vec<u8>,
    /// The number of the last event, with which a later stream goes on.
    position: i64,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Happened {
    pub(crate) name: String,
    /// The event as the API shows it, or the snapshot.
    pub(crate) data: Value,
}

impl EventStream {
    /// The events of a session, from now on or `after` one.
    pub(crate) async fn open(
        http: &Http,
        session: &str,
        after: Option<i64>,
    ) -> Result<Self, Failure> {
        let after = after.map_or_else(String::new, |after| format!("?after={after}"));
        let path = format!("/api/whatsapp/session/{session}/events{after}");
        let request = http.request(Method::GET, &path).header("accept", "text/event-stream");
        Ok(Self { response: accepted(request).await?, buffer: Vec::new(), position: 0 })
    }

    /// Where a later stream would go on.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Reads on until `look` finds what is wanted. The step's deadline is the only one.
    pub(crate) async fn until<T>(
        &mut self,
        mut look: impl FnMut(&Happened) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            let happened = self.next().await?;
            if let Some(found) = look(&happened)? {
                return Ok(found);
            }
        }
    }

    /// Waits for an event with this name.
    pub(crate) async fn named(&mut self, name: &str) -> Result<Value, Failure> {
        self.until(|happened| Ok((happened.name == name).then(|| happened.data.clone()))).await
    }

    async fn next(&mut self) -> Result<Happened, Failure> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(happened) = self.parse(&String::from_utf8_lossy(&block))? {
                    return Ok(happened);
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Err(Failure::wrong("the event stream ended")),
            }
        }
    }

    /// One block of lines; comments and the reconnect interval are no event.
    fn parse(&mut self, block: &str) -> Result<Option<Happened>, Failure> {
        let field =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (Some(name), Some(data)) = (field("event"), field("data")) else { return Ok(None) };
        if let Some(id) = field("id").and_then(|id| id.parse().ok()) {
            self.position = id;
        }
        Ok(Some(Happened { name: name.to_owned(), data: serde_json::from_str(data)? }))
    }
}
