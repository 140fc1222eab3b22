//! Audiences of campaigns.

use entity::state::AudienceState;
use serde_json::{Value, json};

use super::{AT, page, success};
use crate::http::{
    api::{
        Success,
        audience::{AddedView, DriftView, MemberList, StatisticsView},
    },
    code::Code,
    fields::{LONGEST_PAGE, USUAL_PAGE},
    operation::{Operation, Tag, any, operation, text, word},
};

fn member() -> Value {
    json!({
        "id": "mem_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "phoneNumber": "16505551234", "name": "Sheena",
        "messageId": "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQUFERjg0NDEzNDdFODU3MUMxMAA=",
        "state": "delivered", "error": null, "sentAt": AT, "deliveredAt": AT, "readAt": null,
        "playedAt": null, "failedAt": null, "createdAt": AT, "updatedAt": AT,
    })
}

fn sums() -> Value {
    json!({
        "audience": 3, "attached": 3, "sent": 2, "delivered": 2, "read": 1, "played": 0, "failed": 1,
    })
}

pub(in crate::http::api) fn add() -> Operation {
    operation("addCampaignAudience", Tag::Campaigns, "Add to an audience, or say which message went to whom")
        .about(
            "All of them or none, 5,000 at most. Whoever is there already is changed as far as something else is said, so a request can be sent \
             again. A table may be the body itself, as `text/csv`. With a `messageId`, which is Meta's id of a message or \
             our own of one that was sent here (`msg_…`), what Meta tells of that message counts for them: also what was told before, and that it was refused.",
        )
        .body([
            any("members", "A list of `phoneNumber`, and `name` and `messageId` where they are known.")
                .example(json!([{ "phoneNumber": "16505551234", "name": "Sheena" }])),
            text("csv", "The same as a table: a first line with `phone_number`, and `name` and `message_id` if they are there."),
        ])
        .or_table("phone_number,name\n16505551234,Sheena\n")
        .idempotent()
        .answers::<Success<AddedView>>(
            200,
            "What came of it.",
            success(&json!({ "added": 1, "attached": 0, "unchanged": 0 })),
        )
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key has done it.")
        .refuses([Code::CampaignWithoutSession])
}

pub(in crate::http::api) fn list() -> Operation {
    operation("listCampaignAudience", Tag::Campaigns, "A campaign's audience")
        .about("In the order in which they were added.")
        .query([word("state", AudienceState::WORDS, "Only those in this state.")])
        .pages_of(LONGEST_PAGE, USUAL_PAGE)
        .answers::<MemberList>(200, "A page of members.", page(&member()))
}

pub(in crate::http::api) fn statistics() -> Operation {
    operation("getCampaignStatistics", Tag::Campaigns, "How far a campaign has come")
        .about("Written in the same transaction as what each message has come to.")
        .answers::<Success<StatisticsView>>(200, "The sums.", success(&sums()))
}

pub(in crate::http::api) fn recount() -> Operation {
    let drift = json!({ "drift": false, "before": sums(), "statistics": sums() });
    operation("recountCampaign", Tag::Campaigns, "Count a campaign's audience anew")
        .about(
            "Sets the sums right, and says what they were and should have been at one moment, whatever is told meanwhile. They are never wrong, \
             unless somebody has changed the database. One audience of an organization is counted at a time.",
        )
        .body([])
        .answers::<Success<DriftView>>(200, "What they were, and what they should have been.", success(&drift))
}
