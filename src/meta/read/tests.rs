use entity::{
    kind::MessageKind,
    state::IdentityKind::{Phone, UserId, WaId},
};
use serde_json::{Value, json};

use super::*;
use crate::meta::Envelope;

/// What the items of one change tell.
fn read(field: &str, value: &Value) -> Vec<Result<Told, Unreadable>> {
    let body = json!({ "entry": [{ "id": "1", "changes": [{ "field": field, "value": value }] }] });
    read_raw(&body.to_string())
}

fn read_raw(body: &str) -> Vec<Result<Told, Unreadable>> {
    let envelope = Envelope::read(body.as_bytes()).unwrap();
    let change = &envelope.entries[0].changes[0];
    let listing = Listing::of(change);
    (0..change.listed().len()).map(|index| listing.read(index)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is written where it is handed over")]
fn message(item: Value) -> Message {
    let all = read("messages", &json!({ "messages": [item] }));
    let Ok(Told::Message(message)) = all.into_iter().next().unwrap() else { panic!("no message") };
    *message
}

fn said(item: Value) -> (MessageKind, Option<String>, Option<String>) {
    let mut item = item;
    (item["id"], item["from"]) = (json!("wamid.1"), json!("16505551234"));
    let Message { kind, body, target, .. } = message(item);
    (kind, body, target)
}

#[test]
fn every_type_of_message_has_a_kind_and_the_words_that_are_in_it() {
    let text = |it: &str| Some(it.to_owned());
    for (item, kind, body) in [
        (json!({ "type": "text", "text": { "body": "hi" } }), MessageKind::Text, text("hi")),
        (json!({ "type": "image", "image": { "caption": "x" } }), MessageKind::Image, text("x")),
        (json!({ "type": "video", "video": {} }), MessageKind::Video, None),
        (json!({ "type": "audio", "audio": { "voice": true } }), MessageKind::Audio, None),
        (json!({ "type": "sticker", "sticker": {} }), MessageKind::Sticker, None),
        (
            json!({ "type": "document", "document": { "filename": "a.pdf" } }),
            MessageKind::Document,
            text("a.pdf"),
        ),
        (
            json!({ "type": "location", "location": { "latitude": 1.5, "longitude": -2, "name": "Home" } }),
            MessageKind::Location,
            text("Home"),
        ),
        (
            json!({ "type": "location", "location": { "latitude": 1.5, "longitude": -2 } }),
            MessageKind::Location,
            text("1.5,-2"),
        ),
        (
            json!({ "type": "contacts", "contacts": [{ "name": { "formatted_name": "A B" } }, { "name": { "first_name": "C" } }] }),
            MessageKind::Contact,
            text("A B, C"),
        ),
        (
            json!({ "type": "button", "button": { "payload": "p", "text": "Yes" } }),
            MessageKind::Text,
            text("Yes"),
        ),
        (
            json!({ "type": "interactive", "interactive": { "type": "list_reply", "list_reply": { "id": "i", "title": "Priority" } } }),
            MessageKind::Text,
            text("Priority"),
        ),
        (
            json!({ "type": "interactive", "interactive": { "type": "nfm_reply", "nfm_reply": { "body": "Sent", "response_json": "{}" } } }),
            MessageKind::Text,
            text("Sent"),
        ),
        (
            json!({ "type": "order", "order": { "text": "Love" } }),
            MessageKind::Unsupported,
            text("Love"),
        ),
        (
            json!({ "type": "unsupported", "unsupported": { "type": "poll_creation" } }),
            MessageKind::Unsupported,
            None,
        ),
        (json!({ "type": "next_year_s" }), MessageKind::Unsupported, None),
        (json!({}), MessageKind::Unsupported, None),
    ] {
        assert_eq!(said(item.clone()), (kind, body, None), "{item}");
    }
}

#[test]
fn what_is_about_another_message_names_it() {
    let target = Some("wamid.0".to_owned());
    let reaction = |emoji: Value| json!({ "type": "reaction", "reaction": { "message_id": "wamid.0", "emoji": emoji } });
    assert_eq!(
        said(reaction(json!("👍"))),
        (MessageKind::Reaction, Some("👍".into()), target.clone())
    );
    // Taken back, in either spelling.
    assert_eq!(said(reaction(json!(""))).1.as_deref(), Some(""));
    assert_eq!(said(reaction(Value::Null)).1.as_deref(), Some(""));
    let edit = json!({ "type": "edit", "edit": { "original_message_id": "wamid.0", "message": { "type": "text", "text": { "body": "new" } } } });
    assert_eq!(said(edit), (MessageKind::Edit, Some("new".into()), target.clone()));
    let revoke = json!({ "type": "revoke", "revoke": { "original_message_id": "wamid.0" } });
    assert_eq!(said(revoke), (MessageKind::Revoke, None, target.clone()));
    let reply =
        json!({ "type": "text", "text": { "body": "yes" }, "context": { "id": "wamid.0" } });
    assert_eq!(said(reply).2, target);
}

#[test]
fn somebody_may_have_no_number_and_is_called_by_all_that_is_known() {
    let value = json!({
        "contacts": [
            { "profile": { "name": "Other" }, "wa_id": "1999555" },
            { "profile": { "name": "Sheena", "username": "@s" }, "wa_id": "", "user_id": "US.1" },
        ],
        "messages": [{ "from": "", "from_user_id": "US.1", "id": "a", "type": "text", "text": { "body": "x" } },
                     { "from": 1_999_555, "id": "b", "type": "text", "text": { "body": "x" } }],
    });
    let all = read("messages", &value);
    let person = |n: usize| match &all[n] {
        Ok(Told::Message(message)) => message.person.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(person(0).ids, [(UserId, "US.1".to_owned())]);
    assert_eq!(
        (person(0).name.as_deref(), person(0).username.as_deref()),
        (Some("Sheena"), Some("@s"))
    );
    let number = "1999555".to_owned();
    assert_eq!(person(1).ids, [(WaId, number.clone()), (Phone, number)]);
    assert_eq!(person(1).name.as_deref(), Some("Other"));
}

#[test]
fn an_id_of_whatsapp_s_own_is_known_as_one() {
    let value = json!({
        "contacts": [{ "wa_id": "16505551234", "user_id": "987654@lid" }],
        "messages": [{ "from": "987654@lid", "id": "a", "type": "text" }],
    });
    let Ok(Told::Message(message)) = &read("messages", &value)[0] else { panic!() };
    let lid = (entity::state::IdentityKind::Lid, "987654".to_owned());
    assert!(message.person.ids.contains(&lid), "{:?}", message.person);
    assert!(message.person.ids.contains(&(WaId, "16505551234".to_owned())));
    assert_eq!(message.person.ids.len(), 3);
}

#[test]
fn whoever_has_another_number_is_called_by_the_new_one_and_not_by_the_old() {
    let notice = message(json!({
        "from": "16505551234", "id": "a", "type": "system",
        "system": { "type": "user_changed_number", "wa_id": "12195555358", "body": "changed" },
    }));
    let renamed = notice.renamed.unwrap();
    assert_eq!(renamed.to.ids[0], (WaId, "12195555358".to_owned()));
    assert!(renamed.no_longer.ids.contains(&(Phone, "16505551234".to_owned())));
    assert!(message(json!({ "from": "1650555", "id": "a", "type": "text" })).renamed.is_none());
}

#[test]
fn what_cannot_be_read_is_so_alone_and_says_why() {
    let value = json!({ "messages": [
        "what?", { "from": "16505551234", "type": "text" }, { "id": "a", "type": "text" },
        { "from": "16505551234", "id": "b", "type": "text", "text": { "body": "whole" } },
    ], "statuses": [{ "id": "c" }, { "status": "sent" }, { "id": "d", "status": "sent" }] });
    let all = read("messages", &value);
    let why: Vec<_> = all.iter().map(|it| it.as_ref().err().map(|it| it.0)).collect();
    assert_eq!(
        why,
        [
            Some("no_object"),
            Some("no_id"),
            Some("nobody"),
            None,
            Some("no_status"),
            Some("no_id"),
            None
        ]
    );
}

#[test]
fn the_past_says_whose_each_message_is_and_how_far_it_had_come() {
    let value = json!({
        "metadata": { "display_phone_number": "+1 555-078-3881" },
        "history": [{ "threads": [{ "id": "16505551234", "messages": [
            { "from": "15550783881", "id": "a", "type": "text", "history_context": { "status": "READ" } },
            { "from": "16505551234", "id": "b", "type": "text", "history_context": { "status": "READ" } },
            { "id": 7.5 },
        ] }] }],
    });
    let Ok(Told::History(messages, unread)) = &read("history", &value)[0] else { panic!() };
    let of: Vec<_> = messages.iter().map(|it| (it.wa_id.as_str(), it.is_own, it.level)).collect();
    assert_eq!(of, [("a", true, 3), ("b", false, 0)]);
    assert_eq!(*unread, 1);
    assert!(messages.iter().all(|it| it.person.ids[0] == (WaId, "16505551234".to_owned())));
}

#[test]
fn half_a_surrogate_pair_and_a_nul_harm_nobody() {
    let all = read_raw(
        r#"{"entry":[{"id":"1","changes":[{"field":"messages","value":{"messages":[
            {"from":"16505551234","id":"a","type":"text","text":{"body":"x \ud800 \u0000 \u00e4"}}]}}]}]}"#,
    );
    let Ok(Told::Message(message)) = &all[0] else { panic!("{all:?}") };
    assert_eq!(message.body.as_deref(), Some("x \u{fffd} \0 ä"));
    assert!(message.raw.contains(r"\ud800"));
}

proptest::proptest! {
    #[test]
    fn no_value_is_too_strange(words in proptest::collection::vec("[a-z_]{1,9}|\"messages\"|\"statuses\"|\"id\"|\"from\"|\"type\"|\"system\"|[{}\\[\\]:,0-9]", 0..40)) {
        let value = words.concat();
        let body = format!(r#"{{"entry":[{{"changes":[{{"field":"messages","value":{{"messages":[{value}]}}}}]}}]}}"#);
        if Envelope::read(body.as_bytes()).is_some_and(|it| it.changes().next().is_some()) {
            read_raw(&body);
        }
    }
}
