//! The schema of wagate: forward only, one step a file, written by hand.
//!
//! A migration describes one change on one day, so it names tables and columns as text and knows
//! nothing of the `entity` crate, which describes today. There is no way down: mistakes are mended by
//! the next step, disasters from a backup.

#![expect(
    elided_lifetimes_in_paths,
    reason = "the trait's methods are declared so, and must be implemented so"
)]

use sea_orm_migration::prelude::*;

mod m20261122_000001_tenants;
mod m20261122_000002_sessions;
mod m20261122_000003_messages;
mod m20261122_000004_devices;
mod m20261124_000010_vault;
mod m20261124_000020_leases;
mod m20261124_000030_retention;
mod m20261124_000031_installation;
mod m20261124_000040_message_history;
mod m20261124_000050_session_care;
mod m20261124_000060_pairing;
mod m20261124_000100_webhooks;
mod m20261124_000101_webhook_replays;
mod m20261124_000120_audit;
mod m20261124_000140_message_tries;
mod m20261124_000150_writer_lanes;
mod m20261124_000160_webhook_feed;
mod m20261124_000180_notices;
mod m20261129_000200_message_media;
mod m20261129_000210_external_sessions;
mod m20261129_000220_handover;
mod m20261129_000230_meta;
mod m20261129_000240_message_order;
mod m20261130_000320_undecryptable;
mod m20261130_000340_session_secrets;
mod m20261130_000360_meta_processing;
mod m20261130_000361_contacts;
mod m20261130_000362_message_statuses;
mod m20261130_000363_campaign_audience;
mod m20261130_000370_recounts;
mod m20261130_000371_vps_claims;
mod m20261130_000374_early_acks;
mod m20261130_000375_waiting_messages;
mod m20261130_000378_meta_outbox;
mod m20261130_000379_meta_silence;
mod m20261130_000386_meta_progress;
mod m20261130_000387_sealed_addresses;
mod m20261130_000390_missed_webhooks;
mod m20261130_000400_sealed_notices;
mod m20261130_000500_pairing_rounds;
mod m20261130_000600_deleted_sessions;
mod m20261130_000700_replaced_tokens;
mod m20261130_000710_dial_pause;
mod m20261130_000800_meta_people;
mod m20261130_000860_message_recipients;
mod m20261130_000870_given_numbers;
mod m20261130_000880_meta_claims;
mod m20261130_000890_keyless_deliveries;

/// All steps, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_tenants::Migration),
            Box::new(m20261122_000002_sessions::Migration),
            Box::new(m20261122_000003_messages::Migration),
            Box::new(m20261122_000004_devices::Migration),
            Box::new(m20261124_000010_vault::Migration),
            Box::new(m20261124_000020_leases::Migration),
            Box::new(m20261124_000030_retention::Migration),
            Box::new(m20261124_000031_installation::Migration),
            Box::new(m20261124_000040_message_history::Migration),
            Box::new(m20261124_000050_session_care::Migration),
            Box::new(m20261124_000060_pairing::Migration),
            Box::new(m20261124_000100_webhooks::Migration),
            Box::new(m20261124_000101_webhook_replays::Migration),
            Box::new(m20261124_000120_audit::Migration),
            Box::new(m20261124_000140_message_tries::Migration),
            Box::new(m20261124_000150_writer_lanes::Migration),
            Box::new(m20261124_000160_webhook_feed::Migration),
            Box::new(m20261124_000180_notices::Migration),
            Box::new(m20261129_000200_message_media::Migration),
            Box::new(m20261129_000210_external_sessions::Migration),
            Box::new(m20261129_000220_handover::Migration),
            Box::new(m20261129_000230_meta::Migration),
            Box::new(m20261129_000240_message_order::Migration),
            Box::new(m20261130_000320_undecryptable::Migration),
            Box::new(m20261130_000340_session_secrets::Migration),
            Box::new(m20261130_000360_meta_processing::Migration),
            Box::new(m20261130_000361_contacts::Migration),
            Box::new(m20261130_000362_message_statuses::Migration),
            Box::new(m20261130_000363_campaign_audience::Migration),
            Box::new(m20261130_000370_recounts::Migration),
            Box::new(m20261130_000371_vps_claims::Migration),
            Box::new(m20261130_000374_early_acks::Migration),
            Box::new(m20261130_000375_waiting_messages::Migration),
            Box::new(m20261130_000378_meta_outbox::Migration),
            Box::new(m20261130_000379_meta_silence::Migration),
            Box::new(m20261130_000386_meta_progress::Migration),
            Box::new(m20261130_000387_sealed_addresses::Migration),
            Box::new(m20261130_000390_missed_webhooks::Migration),
            Box::new(m20261130_000400_sealed_notices::Migration),
            Box::new(m20261130_000500_pairing_rounds::Migration),
            Box::new(m20261130_000600_deleted_sessions::Migration),
            Box::new(m20261130_000700_replaced_tokens::Migration),
            Box::new(m20261130_000710_dial_pause::Migration),
            Box::new(m20261130_000800_meta_people::Migration),
            Box::new(m20261130_000860_message_recipients::Migration),
            Box::new(m20261130_000870_given_numbers::Migration),
            Box::new(m20261130_000880_meta_claims::Migration),
            Box::new(m20261130_000890_keyless_deliveries::Migration),
        ]
    }
}
