//! What the past of many new accounts takes of a process's memory, as the kernel counts it.

use futures_util::future::join_all;
use wagate_simulator::{
    Carriage, History, HistoryChat, HistoryKind, Options, ReceiptKind, Simulator,
};

use crate::process::{Installation, Process};

const ACCOUNTS: usize = 20;

/// The past of each account: so many chats of so many messages of so many bytes, together some 5 MiB. One
/// account has more chats.
const CHATS: u32 = 5;
const MOST_CHATS: u32 = 24;
const MESSAGES: u32 = 16;
const LENGTH: u32 = 64 * 1024;

/// What the process may grow by while all of them hand over more than a hundred MiB. It was 28 to 33 MiB when
/// this was written: the memory that is configured, two chunks being read, what waits for the database and the
/// database's own; and 57 to 67 MiB where each chunk was put together before it was stored.
const MOST_KIB: u64 = 44 * 1024;

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

/// A chunk with this many chats.
fn past(chats: u32) -> History {
    (0..chats).fold(History::new(HistoryKind::Recent, Carriage::Download), |chunk, n| {
        let chat = HistoryChat::with(format!("1557{n:07}"));
        chunk.chat(chat.generated(MESSAGES, LENGTH, hour_ago()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_many_new_accounts_does_not_fill_the_process_s_memory() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    for n in 0..MOST_CHATS {
        whatsapp.contact(&format!("1557{n:07}")).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let settings = [("WAGATE_HISTORY__MODE", "full"), ("WAGATE_HISTORY__MEMORY", "8MiB")];
    let daemon = installation.try_start(&settings).unwrap();
    let start = memory(&daemon, "VmRSS:");
    let phones = join_all((0..ACCOUNTS).map(|n| {
        let (daemon, whatsapp) = (&daemon, &whatsapp);
        async move {
            let name = format!("s{n}");
            let code = daemon.code(&name).await.unwrap();
            let phone = whatsapp.phone(&format!("1556{n:07}")).unwrap();
            phone.scan(&code).await.unwrap();
            daemon.paired(&name).await.unwrap();
            phone
        }
    }))
    .await;
    // From here on the kernel notes a new peak: what sessions take of their own is another question.
    std::fs::write(format!("/proc/{}/clear_refs", daemon.id()), "5").unwrap();
    let before = memory(&daemon, "VmRSS:");
    join_all(phones.iter().enumerate().map(async |(n, phone)| {
        let id = phone.send_history(past(if n == 0 { MOST_CHATS } else { CHATS })).await.unwrap();
        phone.wait_for_receipt(&id, ReceiptKind::HistSync).await.unwrap();
    }))
    .await;
    let (peak, rest) = (memory(&daemon, "VmHWM:"), memory(&daemon, "VmRSS:"));
    eprintln!(
        "{start} KiB at the start, {before} KiB before, {peak} KiB at most, {rest} KiB after"
    );
    for n in 0..ACCOUNTS {
        let page = format!("/api/whatsapp/session/s{n}/messages?limit=500");
        let page = daemon.get(&page).await;
        let chats = if n == 0 { MOST_CHATS } else { CHATS };
        assert_eq!(page["data"].as_array().unwrap().len(), (chats * MESSAGES) as usize);
    }
    assert!(peak - before <= MOST_KIB, "{before} KiB before, {peak} KiB at most");
    daemon.terminate().await;
    whatsapp.stop().await;
}
