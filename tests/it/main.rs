//! One integration binary: real database, real HTTP, simulated WhatsApp.

#![expect(clippy::unwrap_used, reason = "a test whose helper cannot go on has failed")]
#![expect(clippy::future_not_send, reason = "a test's body stays on its own thread")]

mod care_wire;
mod cluster;
mod copies;
mod crash_matrix;
mod crash_wire;
mod database;
mod deletion_wire;
mod device_calls;
mod device_differential;
mod device_storage;
mod fleet_wire;
mod history_wire;
mod honesty;
mod http_app;
mod http_dashboard;
mod http_events;
mod http_input;
mod http_messages;
mod http_metrics;
mod http_qr;
mod http_roles;
mod http_server;
mod http_sessions;
mod http_tenants;
mod hung_up;
mod layering;
mod load;
mod master_key;
mod messages_wire;
mod node;
mod nodes_wire;
mod outage;
mod pairing_wire;
#[path = "../../examples/support/postgres.rs"]
mod postgres;
mod postgres_tls;
mod process;
mod program;
mod reads_wire;
mod restart_wire;
mod retention;
mod runs;
mod sealed_wire;
mod secrets;
mod sessions_wire;
mod shutdown_process;
mod soak;
mod store_checkpoints;
mod store_commands;
mod store_contention;
mod store_leases;
mod store_lost_commit;
mod store_open;
mod store_writer;
mod story;
mod texts;
mod unreadable_wire;
mod upgrade;
mod wishes_wire;
mod world;
