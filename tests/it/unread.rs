//! What the account's phone can be asked for, by what is in the database.

use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    kind::MessageKind,
    state::{Direction, MessageStatus},
};
use wagate::{
    event::{Ciphertext, Event, NewMessage},
    store::{Patience, events::NewEvent},
};

use crate::{database::on_each, http_app::App};

const OWN: &str = "15550001111@s.whatsapp.net";
const BOB: &str = "15550002222@s.whatsapp.net";

async fn say(app: &App, session: &str, event: Event) {
    let at = match &event {
        Event::Ciphertext(message) => message.sent_at,
        Event::Message(message) => message.sent_at,
        _ => app.clock.now(),
    };
    let new = NewEvent {
        organization_id: app.organization.clone(),
        session_key: app.row(session).await.id,
        generation: None,
        event,
        at,
        care: None,
        posted: None,
    };
    app.store.writer().record(new, Patience::Fail).await.unwrap();
}

/// The account has written this to Bob, and it could not be read.
fn ours(wa_id: &str, at: i64) -> Ciphertext {
    Ciphertext {
        wa_id: wa_id.to_owned(),
        chat: BOB.to_owned(),
        sender: OWN.to_owned(),
        direction: Direction::Outbound,
        sent_at: UnixMillis(at),
        is_group: false,
        offline: false,
        unavailable: false,
    }
}

/// The same, read.
fn read(wa_id: &str) -> Event {
    Event::Message(Box::new(NewMessage {
        id: MessageId::new(UnixMillis(1), in_order(1)),
        wa_id: wa_id.to_owned(),
        chat: BOB.to_owned(),
        sender: OWN.to_owned(),
        direction: Direction::Outbound,
        kind: MessageKind::Text,
        body: Some("hello".to_owned()),
        target_wa_id: None,
        interaction: None,
        raw: None,
        push_name: None,
        sent_at: UnixMillis(1),
        is_group: false,
        offline: false,
        status: MessageStatus::Sent,
    }))
}

#[tokio::test]
async fn what_the_phone_is_asked_for_is_the_account_s_own_and_was_never_read() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("sales").await;
        app.session("other").await;
        let of_bob = Ciphertext {
            sender: BOB.to_owned(),
            direction: Direction::Inbound,
            ..ours("of-bob", 500)
        };
        let group = "120363000000000000@g.us".to_owned();
        let to_a_group = Ciphertext { chat: group, is_group: true, ..ours("to-a-group", 500) };
        // The library asks for these by itself.
        let unavailable = Ciphertext { unavailable: true, ..ours("unavailable", 500) };
        let told = [
            ours("old", 99),
            ours("first:with:colons", 100),
            of_bob,
            to_a_group,
            unavailable,
            ours("read", 500),
            ours("second", 600),
        ];
        for message in told {
            say(&app, "sales", Event::Ciphertext(message)).await;
        }
        say(&app, "sales", read("read")).await;
        say(&app, "other", Event::Ciphertext(ours("elsewhere", 700))).await;

        let key = app.row("sales").await.id;
        let ask = async |limit| {
            let unread =
                app.store.events().unread_of_ours(&key, UnixMillis(100), limit).await.unwrap();
            for message in &unread {
                assert_eq!((&*message.chat, &*message.sender), (BOB, OWN));
            }
            unread.into_iter().map(|message| (message.wa_id, message.sent_at.0)).collect::<Vec<_>>()
        };
        let expected = [("first:with:colons".to_owned(), 100), ("second".to_owned(), 600)];
        assert_eq!(ask(100).await, expected);
        assert_eq!(ask(1).await, [("second".to_owned(), 600)]);
        app.close().await;
    })
    .await;
}
