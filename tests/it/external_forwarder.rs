//! The script of the examples, run by Node beside a stand-in for whatsapp-web.js, against a gateway.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    database::{on_each, skip},
    http_app::App,
    receiver::{Behaviour, Receiver},
};

/// As whatsapp-web.js has its objects: with members that are not for others, and a way back to the client.
const STAND_IN: &str = r"
const { EventEmitter } = require('node:events');
const Events = Object.fromEntries(['authenticated', 'auth_failure', 'ready', 'message', 'message_create', 'message_revoke_everyone', 'message_ack', 'message_edit', 'message_reaction', 'media_uploaded', 'contact_changed', 'group_join', 'group_admin_changed', 'qr', 'loading_screen', 'disconnected', 'change_state', 'call', 'vote_update'].map((it) => [it.toUpperCase(), it]));
class Message {
  constructor(client, data) {
    Object.defineProperty(this, 'client', { value: client });
    Object.assign(this, data);
    this._data = { ...data._data, large: 'x'.repeat(2_000_000) };
  }
}
class LocalAuth {}
class Client extends EventEmitter {
  constructor(options) {
    super();
    this.options = options;
    this.itself = this;
  }
  initialize() {
    const now = Math.floor(Date.now() / 1000);
    const own = '6289876543210@c.us', other = '6281234567890@c.us';
    const id = (fromMe, id) => ({ fromMe, remote: other, id, _serialized: `${fromMe}_${other}_${id}` });
    const heard = new Message(this, { id: id(false, '3EB0A'), body: 'Hello', type: 'chat', from: other, to: own, fromMe: false, timestamp: now, ack: 1 });
    const sent = new Message(this, { id: id(true, '3EB0B'), body: 'Hi', type: 'chat', from: own, to: other, fromMe: true, timestamp: now, ack: 0 });
    this.emit('qr', '2@code');
    this.emit('authenticated');
    this.emit('loading_screen', '10', 'WhatsApp');
    this.info = { wid: { server: 'c.us', user: '6289876543210', _serialized: own }, pushname: 'Shop', platform: 'android' };
    this.emit('ready');
    this.emit('message_create', heard);
    this.emit('message', heard);
    this.emit('message_create', sent);
    this.emit('message', new Message(this, { id: id(false, '3EB0D'), body: '', type: 'document', hasMedia: true, from: other, to: own, fromMe: false, timestamp: now, _data: { mimetype: 'application/pdf', filename: 'Bill.pdf', size: 48213 } }));
    for (const ack of [1, 2, 3]) this.emit('message_ack', sent, ack);
    this.emit('message_reaction', { id: id(false, '3EB0C'), orphan: 0, timestamp: now, reaction: '👍', read: false, msgId: id(true, '3EB0B'), senderId: other });
    const notice = { ...heard, id: id(false, '3EB0N'), type: 'revoked', protocolMessageKey: id(false, '3EB0A') };
    this.emit('message_revoke_everyone', new Message(this, notice), null);
    this.emit('call', { id: 'call-1', from: other, timestamp: now, isVideo: true, isGroup: false, fromMe: false });
    this.emit('group_join', { id: { remote: '1203@g.us', id: 'n1' }, chatId: '1203@g.us', author: other, type: 'add', recipientIds: [own], timestamp: now });
    this.emit('message_edit', sent, 'Hi there', 'Hi');
    this.emit('vote_update', { voter: other, selectedOptions: [{ name: 'A' }], parentMessage: sent });
    this.emit('group_admin_changed', { id: { remote: '1203@g.us', id: 'n2' }, chatId: '1203@g.us', type: 'promote' });
    this.emit('contact_changed', sent, other, own, true);
    this.emit('change_state', 'TIMEOUT');
    this.emit('change_state', 'CONNECTED');
  }
}
module.exports = { Client, Events, LocalAuth };
";

/// One that has trouble of its own.
const STAND_IN_IN_TROUBLE: &str = r"
const { EventEmitter } = require('node:events');
const Events = { A: 'qr', B: 'loading_screen', C: 'change_state', D: 'disconnected', E: 'auth_failure' };
class LocalAuth {}
class Client extends EventEmitter {
  initialize() {
    Promise.reject(new Error('nobody looks at this'));
    this.emit('qr', '2@code');
    this.emit('loading_screen', 5, 'WhatsApp');
    this.emit('change_state', 'OPENING');
    setTimeout(() => Promise.reject(new Error('nor at this')), 1);
    this.emit('disconnected', new Error('LOGOUT'));
    this.emit('auth_failure');
    throw new Error('no browser');
  }
}
module.exports = { Client, Events, LocalAuth };
";

/// The script beside a stand-in, told to post to `url`. None where there is no Node.
fn run(modules: &std::path::Path, stand_in: &str, url: &str) -> Option<Script> {
    let module = modules.join("whatsapp-web.js");
    fs::create_dir(&module).unwrap();
    fs::write(module.join("index.js"), stand_in).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/whatsapp-web-js-forwarder.js");
    let node = Command::new("node")
        .arg(script)
        .env("NODE_PATH", modules)
        .env("WAGATE_WEBHOOK", url)
        .stderr(Stdio::piped())
        .spawn();
    node.ok().map(Script)
}

struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_forwards_what_a_client_emits() {
    on_each(async |database| {
        let opened = database.open_by_the_machine_s_clock().await;
        let app = App::over(opened, wagate::http::Limits::default()).await;
        let made = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        let modules = tempfile::tempdir().unwrap();
        let url = format!("{}{}", app.base, made["webhookUrl"].as_str().unwrap());
        let Some(mut node) = run(modules.path(), STAND_IN, &url) else { return skip("no node") };

        let mut seen = Vec::new();
        for _ in 0..600 {
            let page = app.get("/api/whatsapp/session/shop/events/page?after=0&limit=100").await;
            let page = page.json();
            let events = page["data"].as_array().unwrap().iter();
            let named: Vec<(String, Value)> = events
                .map(|it| (it["event"].as_str().unwrap().to_owned(), it["data"].clone()))
                .filter(|(name, _)| !name.contains('.'))
                .collect();
            seen = named;
            if seen.last().is_some_and(|(_, data)| data["state"] == "CONNECTED") {
                break;
            }
            assert!(
                node.0.try_wait().unwrap().is_none() || !seen.is_empty(),
                "the script has ended"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let names: Vec<_> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "qr",
                "authenticated",
                "loading_screen",
                "ready",
                "message",
                "message_create",
                "message",
                "message_ack",
                "message_ack",
                "message_ack",
                "message",
                "message",
                "call",
                "group_join",
                "unknown",
                "unknown",
                "unknown",
                "unknown",
                "change_state",
                "change_state"
            ]
        );
        // What has no name here comes whole, and without what the page has besides.
        let unknown: Vec<_> = seen.iter().filter(|(name, _)| name == "unknown").collect();
        let told = |place: usize, pointer: &str| unknown[place].1.pointer(pointer).cloned();
        let words: Vec<_> = (0..4).map(|place| told(place, "/event").unwrap()).collect();
        assert_eq!(
            words,
            ["message_edit", "vote_update", "group_admin_changed", "contact_changed"]
        );
        assert_eq!(told(0, "/data/body"), Some(json!("Hi there")));
        assert_eq!(told(0, "/data/before"), Some(json!("Hi")));
        assert_eq!(told(1, "/data/vote/parentMessage/body"), Some(json!("Hi")));
        assert_eq!(told(1, "/data/vote/parentMessage/_data"), None);
        assert_eq!(told(2, "/data/notification/type"), Some(json!("promote")));
        assert_eq!(told(3, "/data/arguments/1"), Some(json!("6281234567890@c.us")));
        let kinds: Vec<_> =
            seen.iter().filter_map(|(_, data)| data["message"]["type"].as_str()).collect();
        assert_eq!(kinds, ["text", "text", "document", "reaction", "revoke"]);
        let revoke = seen.iter().find(|(_, data)| data["message"]["type"] == "revoke").unwrap();
        assert_eq!(revoke.1["message"]["targetId"], "3EB0A", "the notice's own id is another");
        let page = app.get("/api/whatsapp/session/shop/messages").await.json();
        let document = page["data"].as_array().unwrap().iter().find(|it| it["waId"] == "3EB0D");
        let media = &document.unwrap()["media"];
        assert_eq!(
            (&media["mimetype"], &media["fileName"], &media["size"]),
            (&json!("application/pdf"), &json!("Bill.pdf"), &json!(48_213))
        );
        let shown = app.get("/api/whatsapp/session/shop").await.json()["data"].clone();
        assert_eq!(shown["isConnected"], true);
        assert_eq!(
            (&shown["phoneNumber"], &shown["pushName"]),
            (&json!("6289876543210"), &json!("Shop"))
        );
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_posts_again_in_order_until_it_is_taken_and_survives_what_fails() {
    let receiver = Receiver::start().await;
    let refused = |status| Behaviour::Answer(status, Vec::new(), b"because".to_vec());
    let later = Behaviour::Answer(429, vec![("retry-after", "1".to_owned())], Vec::new());
    receiver.next([refused(503), later, Behaviour::Reset]);
    // The code is taken; the second event never will be; of the third the secret is put right.
    receiver.next([Behaviour::status(200), refused(400), refused(401), Behaviour::status(202)]);
    let modules = tempfile::tempdir().unwrap();
    let Some(mut node) = run(modules.path(), STAND_IN_IN_TROUBLE, &receiver.url()) else {
        return skip("no node");
    };
    let requests = receiver.arrived(9).await;
    let events: Vec<_> = requests.iter().map(|it| it.json()["event"].clone()).collect();
    assert_eq!(
        events,
        [
            "qr",
            "qr",
            "qr",
            "qr",
            "loading_screen",
            "change_state",
            "change_state",
            "disconnected",
            "auth_failure"
        ]
    );
    // Whatever a client has for a reason, what is posted is text.
    assert_eq!(requests[7].json()["data"]["reason"], "Error: LOGOUT");
    assert_eq!(requests[8].json()["data"]["msg"], "");
    let keys: Vec<_> = requests.iter().map(|it| it.headers["idempotency-key"].clone()).collect();
    assert!(keys[..4].iter().all(|key| *key == keys[0]), "one event has one key: {keys:?}");
    assert_ne!(keys[4], keys[0]);
    assert_eq!(keys[5], keys[6]);
    assert!(requests[..4].iter().all(|it| it.body == requests[0].body));
    assert!(node.0.try_wait().unwrap().is_none(), "the script has ended");
    node.0.kill().unwrap();
    let mut said = String::new();
    node.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    for words in [
        "nobody looks at this",
        "nor at this",
        "no browser",
        "qr was not taken",
        "DROPPED loading_screen 400 because",
        "change_state was not taken",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
