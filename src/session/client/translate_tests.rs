use wacore::types::message::{MessageInfo, MessageSource};
use waproto::buffa::MessageField;

use super::*;

fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

fn received(message: wa::Message, source: MessageSource) -> InboundMessage {
    let info = MessageInfo {
        source,
        id: "3EB0ABC".into(),
        push_name: "Bob".to_owned(),
        timestamp: DateTime::from_timestamp(1_640_995_200, 0).unwrap(),
        ..MessageInfo::default()
    };
    InboundMessage::builder().message(message.into()).info(info.into()).build()
}

fn from_bob() -> MessageSource {
    MessageSource {
        chat: jid("15550002222@s.whatsapp.net"),
        sender: jid("15550002222:3@s.whatsapp.net"),
        ..MessageSource::default()
    }
}

fn key(id: &str) -> MessageField<wa::MessageKey> {
    MessageField::some(wa::MessageKey { id: Some(id.to_owned()), ..Default::default() })
}

#[test]
fn what_a_pairing_meets_is_heard() {
    use wacore::types::events::{PairPasskeyRequest, PairingCodeRefresh, PairingQrCodesExhausted};

    let passkey = PairPasskeyRequest::builder().request_options_json("{}".to_owned()).build();
    let heard = signals(&Event::PairPasskeyRequest(passkey));
    assert!(matches!(heard[..], [Signal::PasskeyRequested]), "{heard:?}");

    let refresh = PairingCodeRefresh::builder().force_manual(true).build();
    let heard = signals(&Event::PairingCodeRefresh(refresh));
    let withdrawn = PairingFailure::CodeWithdrawn;
    assert!(
        matches!(heard[..], [Signal::PairingCodeFailed(failure)] if failure == withdrawn),
        "{heard:?}"
    );

    // The client stays for a pairing code that is still good.
    for disconnected in [false, true] {
        let exhausted = PairingQrCodesExhausted::builder().disconnected(disconnected).build();
        let heard = signals(&Event::PairingQrCodesExhausted(exhausted));
        assert!(
            matches!(heard[..], [Signal::QrCodesExhausted { goes_on }] if goes_on != disconnected),
            "{heard:?}"
        );
    }
}

#[test]
fn a_text_is_read_with_who_wrote_it_and_when() {
    let message =
        inbound(&received(wa::Message::text("hello"), from_bob()), UnixMillis(5)).unwrap();
    assert_eq!(message.kind, MessageKind::Text);
    assert_eq!(message.body.as_deref(), Some("hello"));
    assert_eq!(message.chat, "15550002222@s.whatsapp.net");
    assert_eq!(message.sender, "15550002222@s.whatsapp.net", "a device is not a person");
    assert_eq!(message.sent_at, UnixMillis(1_640_995_200_000));
    assert_eq!(message.direction, Direction::Inbound);
    assert_eq!(
        message.dedupe_key(),
        "m:15550002222@s.whatsapp.net:15550002222@s.whatsapp.net:3EB0ABC"
    );
}

#[test]
fn a_hidden_identity_gives_way_to_the_number_when_both_are_known() {
    let source = MessageSource {
        chat: jid("100000000000002@lid"),
        sender: jid("100000000000002@lid"),
        sender_alt: Some(jid("15550002222@s.whatsapp.net")),
        ..MessageSource::default()
    };
    let message =
        inbound(&received(wa::Message::text("x"), source.clone()), UnixMillis(5)).unwrap();
    assert_eq!(
        (message.chat, message.sender),
        ("15550002222@s.whatsapp.net".to_owned(), "15550002222@s.whatsapp.net".to_owned(),)
    );

    let hidden = MessageSource { sender_alt: None, ..source };
    let message = inbound(&received(wa::Message::text("x"), hidden), UnixMillis(5)).unwrap();
    assert_eq!(message.chat, "100000000000002@lid");
}

#[test]
fn what_was_sent_on_the_phone_is_outbound_in_the_chat_it_was_sent_to() {
    let source = MessageSource {
        chat: jid("15550002222@s.whatsapp.net"),
        sender: jid("15550001111@s.whatsapp.net"),
        is_from_me: true,
        ..MessageSource::default()
    };
    let message = inbound(&received(wa::Message::text("x"), source), UnixMillis(5)).unwrap();
    assert_eq!(message.direction, Direction::Outbound);
    assert_eq!(message.chat, "15550002222@s.whatsapp.net");
    assert_eq!(message.status, MessageStatus::Sent);
}

#[test]
fn reactions_edits_and_revokes_name_the_message_they_are_about() {
    let reaction = wa::Message {
        reaction_message: MessageField::some(wa::message::ReactionMessage {
            key: key("R"),
            text: Some("👍".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let protocol = |kind, edited: Option<wa::Message>| wa::Message {
        protocol_message: MessageField::some(wa::message::ProtocolMessage {
            key: key("P"),
            r#type: Some(kind),
            edited_message: edited.map_or_else(MessageField::none, MessageField::some),
            ..Default::default()
        }),
        ..Default::default()
    };
    let edit = protocol(ProtocolType::MESSAGE_EDIT, Some(wa::Message::text("better")));
    let revoke = protocol(ProtocolType::REVOKE, None);

    for (message, kind, body, target) in [
        (reaction, MessageKind::Reaction, Some("👍"), "R"),
        (edit, MessageKind::Edit, Some("better"), "P"),
        (revoke, MessageKind::Revoke, None, "P"),
    ] {
        let message = inbound(&received(message, from_bob()), UnixMillis(5)).unwrap();
        assert_eq!((message.kind, message.body.as_deref()), (kind, body));
        assert_eq!(message.target_wa_id.as_deref(), Some(target));
    }
}

#[test]
fn what_we_do_not_know_is_kept_raw() {
    let message = wa::Message {
        live_location_message: MessageField::some(wa::message::LiveLocationMessage::default()),
        ..Default::default()
    };
    let kept = inbound(&received(message.clone(), from_bob()), UnixMillis(5)).unwrap();
    assert_eq!(kept.kind, MessageKind::Unsupported);
    assert_eq!(kept.raw, Some(codec::message_to_vec(&message)));
}

#[test]
fn what_devices_tell_each_other_is_no_message() {
    let keys = wa::Message {
        sender_key_distribution_message: MessageField::some(
            wa::message::SenderKeyDistributionMessage {
                group_id: Some("1@g.us".to_owned()),
                ..Default::default()
            },
        ),
        ..Default::default()
    };
    assert_eq!(inbound(&received(keys, from_bob()), UnixMillis(5)), None);
}

#[test]
fn a_nul_that_postgresql_could_not_store_is_replaced() {
    let message = inbound(&received(wa::Message::text("a\0b"), from_bob()), UnixMillis(5)).unwrap();
    assert_eq!(message.body.as_deref(), Some("a\u{fffd}b"));
}

#[test]
fn only_the_servers_acknowledgements_of_messages_count() {
    let ack = |class: &str, error: Option<&str>| {
        ServerAck::builder()
            .id("3EB0".to_owned())
            .class(class.to_owned())
            .from(jid("15550002222@s.whatsapp.net"))
            .timestamp(DateTime::from_timestamp(1_640_995_200, 0).unwrap())
            .maybe_error(error.map(str::to_owned))
            .build()
    };
    assert_eq!(server_ack(&ack("receipt", None)), None);
    assert_eq!(server_ack(&ack("message", None)).unwrap().level, AckLevel::Sent);
    let refused = server_ack(&ack("message", Some("479"))).unwrap();
    assert_eq!((refused.level, refused.error.as_deref()), (AckLevel::Error, Some("479")));
}

#[test]
fn receipts_become_levels_and_those_of_our_own_devices_do_not() {
    let receipt = |kind, is_from_me| {
        Receipt::builder()
            .source(MessageSource { is_from_me, ..from_bob() })
            .message_ids(vec!["A".into(), "B".into()])
            .timestamp(DateTime::from_timestamp(1_640_995_200, 0).unwrap())
            .r#type(kind)
            .offline(false)
            .build()
    };
    let levels = |receipt| receipts(&receipt).map(|ack| (ack.wa_id, ack.level)).collect::<Vec<_>>();
    assert_eq!(
        levels(receipt(ReceiptType::Read, false)),
        [("A".to_owned(), AckLevel::Read), ("B".to_owned(), AckLevel::Read)]
    );
    assert_eq!(levels(receipt(ReceiptType::Delivered, true)), []);
    assert_eq!(levels(receipt(ReceiptType::Retry, false)), []);
}
