//! The life of a session, over HTTP, from its creation to its logout.
//!
//! What happens is waited for on the event stream, or where the simulator sees it; nothing sleeps.

use reqwest::Method;
use serde_json::{Value, json};
use wagate::daemon::Daemon;
use wagate_simulator::{Contact, Fault, Lasting, Phone, ReceiptKind, ReceiptPolicy};

use crate::{
    camera,
    failure::Failure,
    http::{Http, accepted},
    readme,
    steps::{Failed, Steps},
    stream::EventStream,
    world::{FRIEND, OWNER, World},
};

/// What the story calls its session.
const SESSION: &str = "sandbox-check";

/// Who is there, and what is connected.
struct Scene {
    http: Http,
    stream: EventStream,
    phone: Phone,
    friend: Contact,
}

/// Plays it all.
pub(crate) async fn play(world: &World, steps: &mut Steps) -> Result<(), Failed> {
    let (daemon, http) = steps.run("start the daemon", world.start_daemon()).await?;
    let mut scene =
        steps.run("create a session and open its event stream", create(world, http)).await?;
    let qr = steps.run("the PNG reads back as the code that the status shows", scene.qr()).await?;
    steps.run("scan it with a phone: the session is ready", scene.scan(&qr)).await?;
    steps.run("the list counts it as connected", scene.listed()).await?;
    steps.run("receive a message: on the stream and in the list", scene.receive()).await?;
    let sent = steps.run("send a message: the contact reads what was written", scene.send());
    let sent = sent.await?;
    steps.run("sent: ack 1", scene.acknowledged(&sent, 1)).await?;
    steps.run("delivered: ack 2", scene.receipted(&sent, ReceiptKind::Delivered, 2)).await?;
    steps.run("read: ack 3", scene.receipted(&sent, ReceiptKind::Read, 3)).await?;
    steps.run("drop the socket: it reconnects", scene.reconnect()).await?;
    steps.run("stop the daemon", scene.stop(daemon)).await?;
    let daemon = steps
        .run("start it again: connected without a QR, and what came meanwhile is there", async {
            let (daemon, http) = world.start_daemon().await?;
            scene.resume(http).await?;
            Ok(daemon)
        })
        .await?;
    steps.run("log out: the phone lists no device any more", scene.log_out()).await?;
    let lines = readme::follow(world, &daemon);
    steps
        .run("the README's lines, with another session: the contact reads what they send", lines)
        .await?;
    steps.run("stop the daemon for good", stopped(daemon)).await
}

/// A message of ours, by both its names.
struct Sent {
    /// Ours.
    id: String,
    /// WhatsApp's.
    wa_id: String,
}

async fn create(world: &World, http: Http) -> Result<Scene, Failure> {
    let phone = world.simulator().phone(OWNER)?;
    let friend = world.simulator().contact(FRIEND)?;
    // Receipts are sent by hand, so that each level can be seen.
    friend.set_receipts(ReceiptPolicy::None);

    let created = http.post("/api/whatsapp/session", &json!({ "sessionId": SESSION })).await?;
    expect(&created, "/data/sessionId", &json!(SESSION))?;
    let mut stream = EventStream::open(&http, SESSION, None).await?;
    stream.named("snapshot").await?;
    Ok(Scene { http, stream, phone, friend })
}

impl Scene {
    /// Fetches the image, and compares what is on it with what the status says.
    async fn qr(&self) -> Result<String, Failure> {
        let path = format!("/api/whatsapp/session/{SESSION}/qr.png?wait=30");
        let answer = accepted(self.http.request(Method::GET, &path)).await?;
        let sequence = answer.headers().get("x-qr-sequence").cloned();
        let read = camera::read(&answer.bytes().await?)?;

        let status = self.status().await?;
        expect(&status, "/data/status", &json!("qr_generated"))?;
        expect(&status, "/data/needsQR", &json!(true))?;
        // Codes are good for a minute and twenty seconds; this one was asked for at its birth.
        expect(&status, "/data/qr", &json!(read)).map_err(|failure| {
            Failure::wrong(format!("{failure} (the image was number {sequence:?})"))
        })?;
        Ok(read)
    }

    async fn scan(&mut self, qr: &str) -> Result<(), Failure> {
        self.phone.scan(qr).await?;
        self.stream.named("ready").await?;
        self.phone.wait_logged_in(1).await?;
        let status = self.status().await?;
        expect(&status, "/data/isConnected", &json!(true))?;
        expect(&status, "/data/phoneNumber", &json!(OWNER))?;
        expect(&status, "/data/qr", &Value::Null)
    }

    async fn listed(&self) -> Result<(), Failure> {
        let list = self.http.get("/api/whatsapp/session/list-realtime").await?;
        expect(&list, "/summary/connected", &json!(1))?;
        expect(&list, "/data/0/sessionId", &json!(SESSION))
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        let text = "Can you hear me?";
        let wa_id = self.friend.send_text(OWNER, text).await?;
        let event = self.message(&wa_id).await?;
        expect(&event, "/data/message/body", &json!(text))?;
        expect(&event, "/data/message/fromMe", &json!(false))?;
        // It is durable by the time the contact sees the receipt.
        self.friend.wait_for_receipt(&wa_id, ReceiptKind::Delivered).await?;
        let stored = self.listed_message(&wa_id).await?;
        expect(&stored, "/body", &json!(text))?;
        expect(&stored, "/direction", &json!("inbound"))
    }

    async fn send(&self) -> Result<Sent, Failure> {
        let text = "Loud and clear.";
        let path = format!("/api/whatsapp/session/{SESSION}/messages");
        let accepted = self.http.post(&path, &json!({ "to": FRIEND, "text": text })).await?;
        let sent =
            Sent { id: text_of(&accepted, "/data/id")?, wa_id: text_of(&accepted, "/data/waId")? };
        let read = self.friend.wait_for_received(|message| message.id == sent.wa_id).await?;
        match read.text.as_deref() {
            Some(read) if read == text => Ok(sent),
            read => Err(Failure::wrong(format!("the contact read {read:?}"))),
        }
    }

    /// Has the contact send a receipt, and waits for what follows from it.
    async fn receipted(
        &mut self,
        sent: &Sent,
        kind: ReceiptKind,
        level: i64,
    ) -> Result<(), Failure> {
        self.friend.receipt(OWNER, std::slice::from_ref(&sent.wa_id), &kind)?;
        self.acknowledged(sent, level).await
    }

    /// Waits until the message has come so far; the API then says the same.
    async fn acknowledged(&mut self, sent: &Sent, level: i64) -> Result<(), Failure> {
        self.stream
            .until(|happened| {
                let event = &happened.data;
                let is_it = happened.name == "message_ack"
                    && event.pointer("/data/message/id") == Some(&json!(sent.wa_id))
                    && event.pointer("/data/ack") == Some(&json!(level));
                Ok(is_it.then_some(()))
            })
            .await?;
        let path = format!("/api/whatsapp/session/{SESSION}/messages/{}", sent.id);
        expect(&self.http.get(&path).await?, "/data/ack", &json!(level))
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        let logins = self.phone.logins().len();
        self.phone.fault(Fault::Drop, Lasting::Once).await;
        self.stream
            .until(|happened| {
                let lost = happened.name == "change_state"
                    && happened.data.pointer("/data/state") == Some(&json!("reconnecting"));
                Ok(lost.then_some(()))
            })
            .await?;
        self.stream.named("ready").await?;
        self.phone.wait_logged_in(logins + 1).await?;
        expect(&self.status().await?, "/data/isConnected", &json!(true))
    }

    async fn stop(&self, daemon: Daemon) -> Result<(), Failure> {
        stopped(daemon).await?;
        Ok(self.phone.wait_offline().await?)
    }

    /// Goes on with the next daemon, from the last event seen of the one before.
    async fn resume(&mut self, http: Http) -> Result<(), Failure> {
        let text = "Are you still there?";
        let wa_id = self.friend.send_text(OWNER, text).await?;
        self.stream = EventStream::open(&http, SESSION, Some(self.stream.position())).await?;
        self.http = http;

        let (mut ready, mut received) = (false, false);
        self.stream
            .until(|happened| {
                match happened.name.as_str() {
                    "qr" => return Err(Failure::wrong("a QR code was shown")),
                    "ready" => ready = true,
                    "message" => {
                        let id = happened.data.pointer("/data/message/id");
                        received |= id == Some(&json!(wa_id));
                    }
                    // The stream may begin after the login; the snapshot says so.
                    "snapshot" => {
                        let connected = happened.data.pointer("/sessions/0/isConnected");
                        ready |= connected == Some(&json!(true));
                    }
                    _ => {}
                }
                Ok((ready && received).then_some(()))
            })
            .await?;
        let status = self.status().await?;
        expect(&status, "/data/isConnected", &json!(true))?;
        expect(&self.listed_message(&wa_id).await?, "/body", &json!(text))?;
        match self.phone.devices().len() {
            1 => Ok(()),
            devices => Err(Failure::wrong(format!("the phone lists {devices} devices, not one"))),
        }
    }

    async fn log_out(&mut self) -> Result<(), Failure> {
        let path = format!("/api/whatsapp/session/{SESSION}/logout");
        let answer = self.http.post(&path, &json!({})).await?;
        expect(&answer, "/data/unlinked", &json!(true))?;
        expect(&answer, "/data/status", &json!("session_not_connected"))?;
        self.phone.wait_offline().await?;
        match self.phone.devices().len() {
            0 => Ok(()),
            devices => Err(Failure::wrong(format!("the phone still lists {devices} devices"))),
        }
    }

    async fn status(&self) -> Result<Value, Failure> {
        self.http.get(&format!("/api/whatsapp/session/status/{SESSION}")).await
    }

    /// Waits for the event of a message.
    async fn message(&mut self, wa_id: &str) -> Result<Value, Failure> {
        self.stream
            .until(|happened| {
                let is_it = happened.name == "message"
                    && happened.data.pointer("/data/message/id") == Some(&json!(wa_id));
                Ok(is_it.then(|| happened.data.clone()))
            })
            .await
    }

    /// The message with this id in the list of messages.
    async fn listed_message(&self, wa_id: &str) -> Result<Value, Failure> {
        let list = self.http.get(&format!("/api/whatsapp/session/{SESSION}/messages")).await?;
        let messages = list["data"].as_array().map_or(&[][..], Vec::as_slice);
        let found = messages.iter().find(|message| message["waId"] == wa_id);
        found.cloned().ok_or_else(|| Failure::wrong(format!("{wa_id} is not in the list: {list}")))
    }
}

async fn stopped(daemon: Daemon) -> Result<(), Failure> {
    if daemon.shutdown().await.is_clean() {
        Ok(())
    } else {
        Err(Failure::wrong("the daemon did not stop in good order within its time"))
    }
}

/// Insists that a member of an answer has a value.
fn expect(answer: &Value, pointer: &str, wanted: &Value) -> Result<(), Failure> {
    match answer.pointer(pointer) {
        Some(found) if found == wanted => Ok(()),
        found => {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
            Err(Failure::wrong(format!("{pointer} is {found}, not {wanted}")))
        }
    }
}

fn text_of(answer: &Value, pointer: &str) -> Result<String, Failure> {
    let text = answer.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
    text.ok_or_else(|| Failure::wrong(format!("{pointer} is not in {answer}")))
}
