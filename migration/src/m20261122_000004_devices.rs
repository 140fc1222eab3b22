//! WhatsApp's own state of each linked device: Signal, app state, and what the protocol remembers.
//!
//! All of it is keyed by the device and goes with it; the device goes with its session.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, blob, blob_null, boolean, integer, pk_auto, text, text_null,
        text_uniq,
    },
    sea_orm,
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("device")
                    .col(pk_auto("id"))
                    .col(text_uniq("session_key"))
                    .col(blob_null("state"))
                    .col(text_null("pn"))
                    .col(text_null("lid"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("device", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;

        let columns = [text("address"), blob("key")];
        manager
            .create_table(of_device_small(manager, "wa_identity", &["address"], columns))
            .await?;
        let columns = [text("address"), blob("record")];
        manager.create_table(of_device("wa_session", &["address"], columns)).await?;
        let columns = [big_integer("prekey_id"), blob("record"), boolean("uploaded")];
        manager.create_table(of_device("wa_prekey", &["prekey_id"], columns)).await?;
        let columns = [big_integer("prekey_id"), blob("record")];
        manager.create_table(of_device("wa_signed_prekey", &["prekey_id"], columns)).await?;
        let columns = [text("address"), blob("record")];
        manager.create_table(of_device("wa_sender_key", &["address"], columns)).await?;
        let columns = [
            blob("key_id"),
            blob("key_data"),
            blob("fingerprint"),
            big_integer("key_timestamp"),
            big_integer("position"),
        ];
        manager.create_table(of_device("wa_sync_key", &["key_id"], columns)).await?;
        let columns = [text("name"), blob("state")];
        manager.create_table(of_device("wa_sync_version", &["name"], columns)).await?;
        let columns = [text("name"), blob("index_mac"), big_integer("version"), blob("value_mac")];
        manager
            .create_table(of_device_small(
                manager,
                "wa_mutation_mac",
                &["name", "index_mac"],
                columns,
            ))
            .await?;
        let columns = [text("group_jid"), text("device_jid"), boolean("has_key")];
        manager
            .create_table(of_device_small(
                manager,
                "wa_sender_key_device",
                &["group_jid", "device_jid"],
                columns,
            ))
            .await?;
        let columns = [
            text("lid"),
            text("phone_number"),
            big_integer("created_at"),
            big_integer("updated_at"),
            text("learning_source"),
            big_integer("position"),
        ];
        manager.create_table(of_device_small(manager, "wa_lid_mapping", &["lid"], columns)).await?;
        let columns = [text("address"), text("message_id"), blob("base_key")];
        manager
            .create_table(of_device_small(
                manager,
                "wa_base_key",
                &["address", "message_id"],
                columns,
            ))
            .await?;
        let columns = [
            text("user_part"),
            text("devices"),
            big_integer("listed_at"),
            text_null("phash"),
            big_integer_null("raw_id"),
        ];
        manager.create_table(of_device("wa_device_list", &["user_part"], columns)).await?;
        let columns = [text("group_jid"), blob("metadata")];
        manager.create_table(of_device("wa_group_metadata", &["group_jid"], columns)).await?;
        let columns = [
            text("jid"),
            blob("token"),
            big_integer("token_timestamp"),
            big_integer_null("sender_timestamp"),
        ];
        manager.create_table(of_device_small(manager, "wa_tc_token", &["jid"], columns)).await?;
        let columns =
            [text("chat_jid"), text("message_id"), blob("payload"), big_integer("stored_at")];
        manager
            .create_table(of_device("wa_sent_message", &["chat_jid", "message_id"], columns))
            .await?;
        let columns = [
            text("chat"),
            text("sender"),
            text("message_id"),
            blob("message"),
            big_integer("stored_at"),
        ];
        manager
            .create_table(of_device(
                "wa_pending_inbound",
                &["chat", "sender", "message_id"],
                columns,
            ))
            .await?;
        let columns = [
            text("chat"),
            text("sender"),
            text("message_id"),
            blob("secret"),
            big_integer("expires_at"),
            big_integer("message_ts"),
        ];
        manager
            .create_table(of_device_small(
                manager,
                "wa_msg_secret",
                &["chat", "sender", "message_id"],
                columns,
            ))
            .await?;

        // By number, for the way back; by time, for what expires.
        for (table, columns) in [
            ("wa_lid_mapping", ["phone_number", "position"].as_slice()),
            ("wa_sender_key_device", &["device_jid"]),
            ("wa_msg_secret", &["expires_at"]),
            ("wa_sent_message", &["stored_at"]),
        ] {
            let mut index = Index::create();
            index.name(format!("idx-{table}-{}", columns[0])).table(table).col("device_id");
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

/// A table of one device's state: its columns, keyed by the device and `key`.
fn of_device<const N: usize>(
    table: &'static str,
    key: &[&'static str],
    columns: [ColumnDef; N],
) -> TableCreateStatement {
    let mut statement = Table::create();
    statement.table(table).col(integer("device_id"));
    for column in columns {
        statement.col(column);
    }
    let mut primary = Index::create();
    primary.col("device_id");
    for column in key {
        primary.col(*column);
    }
    statement.primary_key(&mut primary).foreign_key(
        ForeignKey::create()
            .from(table, "device_id")
            .to("device", "id")
            .on_delete(ForeignKeyAction::Cascade),
    );
    statement
}

/// The same for rows of well under a hundred bytes: SQLite keeps those in the key's own tree, which
/// halves what is written. PostgreSQL has no such choice.
fn of_device_small<const N: usize>(
    manager: &SchemaManager,
    table: &'static str,
    key: &[&'static str],
    columns: [ColumnDef; N],
) -> TableCreateStatement {
    let mut statement = of_device(table, key, columns);
    if manager.get_database_backend() == sea_orm::DbBackend::Sqlite {
        statement.extra("WITHOUT ROWID");
    }
    statement
}
