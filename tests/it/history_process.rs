//! What the past of many new accounts takes of a process's memory, as the kernel counts it.

use futures_util::future::join_all;
use wagate_simulator::{
    Carriage, History, HistoryChat, HistoryKind, Options, ReceiptKind, Simulator,
};

use crate::{
    process::{Installation, Process},
    world::BOB,
};

const ACCOUNTS: usize = 20;

/// Messages of each account, and how long each is: some 5 MiB an account.
const MESSAGES: u32 = 80;
const LENGTH: u32 = 64 * 1024;

/// What the process may grow by while all of them pair and hand over a hundred MiB: what twenty sessions take
/// in a debug build, the memory that is configured, two chunks being read, and what waits for the database.
const MOST_KIB: u64 = 90 * 1024;

/// A line of `/proc/PID/status`, in KiB.
fn memory(daemon: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn hour_ago() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() - 3_600
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_many_new_accounts_does_not_fill_the_process_s_memory() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    whatsapp.contact(BOB).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let settings = [("WAGATE_HISTORY__MODE", "full"), ("WAGATE_HISTORY__MEMORY", "8MiB")];
    let daemon = installation.try_start(&settings).unwrap();
    let before = memory(&daemon, "VmRSS:");
    let chunk = |chat| History::new(HistoryKind::Recent, Carriage::Download).chat(chat);
    join_all((0..ACCOUNTS).map(|n| {
        let (daemon, whatsapp) = (&daemon, &whatsapp);
        async move {
            let name = format!("s{n}");
            let code = daemon.code(&name).await.unwrap();
            let phone = whatsapp.phone(&format!("1556{n:07}")).unwrap();
            let past = HistoryChat::with(BOB).generated(MESSAGES, LENGTH, hour_ago());
            phone.set_history(vec![chunk(past)]);
            phone.scan(&code).await.unwrap();
            daemon.paired(&name).await.unwrap();
            // One chunk after another: when this has arrived, so has the first.
            let last = phone.send_history(chunk(HistoryChat::with(BOB))).await.unwrap();
            phone.wait_for_receipt(&last, ReceiptKind::HistSync).await.unwrap();
        }
    }))
    .await;
    let peak = memory(&daemon, "VmHWM:");
    eprintln!("{before} KiB before, {peak} KiB at most");
    for n in 0..ACCOUNTS {
        let page = format!("/api/whatsapp/session/s{n}/messages?limit=500");
        let page = daemon.get(&page).await;
        assert_eq!(page["data"].as_array().unwrap().len(), MESSAGES as usize);
    }
    assert!(peak - before <= MOST_KIB, "{before} KiB before, {peak} KiB at most");
    daemon.terminate().await;
    whatsapp.stop().await;
}
