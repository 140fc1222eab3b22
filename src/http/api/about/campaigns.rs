//! Campaigns.

use serde_json::{Value, json};

use super::{AT, page, success};
use crate::{
    http::{
        api::{List, Success, campaigns::CampaignView},
        code::Code,
        operation::{Operation, Tag, label, operation, text},
    },
    service::campaigns::LONGEST_NAME,
};

fn example() -> Value {
    json!({
        "id": "camp_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "name": "Spring sale", "sessionId": "shop-1",
        "createdAt": AT, "updatedAt": AT,
    })
}

pub(in crate::http::api) fn create() -> Operation {
    operation("createCampaign", Tag::Campaigns, "Make a campaign")
        .about("So far it is a name and the session that it is sent from; it sends nothing yet.")
        .body([
            label("name", "What people call it.")
                .lengths(1..=LONGEST_NAME)
                .required()
                .example("Spring sale"),
            text("sessionId", "The session that it is sent from.")
                .pattern("^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"),
        ])
        .idempotent()
        .answers::<Success<CampaignView>>(201, "The campaign.", success(&example()))
        .says("Location", "Where it is.")
        .answers::<Success<CampaignView>>(
            200,
            "The campaign that an earlier request with this key has made.",
            success(&example()),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::SessionNotFound, Code::SessionMigrated])
}

pub(in crate::http::api) fn change() -> Operation {
    operation("changeCampaign", Tag::Campaigns, "Say from which session a campaign is sent")
        .about(
            "Once, as its messages are that session's: of a campaign that was made without one, or whose session was deleted.",
        )
        .body([text("sessionId", "The session that it is sent from.")
            .pattern("^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")
            .example("shop-1")])
        .answers::<Success<CampaignView>>(200, "The campaign as it is then.", success(&example()))
        .refuses([Code::SessionNotFound, Code::SessionMigrated, Code::CampaignHasSession])
}

pub(in crate::http::api) fn list() -> Operation {
    operation("listCampaigns", Tag::Campaigns, "All campaigns")
        .about("The oldest first.")
        .query([
            text("name", "Only the campaigns of this name.")
                .pattern("^[^\\u0000]*$")
                .example("Sale"),
            text("sessionId", "Only the campaigns that are sent from this session.")
                .pattern("^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")
                .example("shop-1"),
        ])
        .paged()
        .answers::<List<CampaignView>>(200, "A page of campaigns.", page(&example()))
        .refuses([Code::SessionNotFound])
}

pub(in crate::http::api) fn show() -> Operation {
    operation("getCampaign", Tag::Campaigns, "One campaign").answers::<Success<CampaignView>>(
        200,
        "The campaign.",
        success(&example()),
    )
}
