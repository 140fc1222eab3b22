//! What sessions cost, and what they do not go on costing.

use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;
use wagate_simulator::{Options, ReceiptPolicy, Simulator};

use crate::{
    database::{Kind, on, on_each},
    process::{Installation, Process},
    world::{ALICE, BOB, World},
};

/// Far more people than there are conversations under way.
const PEOPLE: usize = 400;
const WAVE: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn people_who_wrote_once_are_not_waited_for_ever_after() {
    on(Kind::Sqlite, async |database| {
        let world = World::start(database).await;
        let phone = world.connect("sales", ALICE).await;
        let people: Vec<_> =
            (0..PEOPLE).map(|n| world.whatsapp.contact(&format!("1558{n:07}")).unwrap()).collect();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        // The client keeps a task for each of the latest 128 conversations, and for no more.
        let mut half = 0;
        for (n, person) in people.iter().enumerate() {
            person.send_text(ALICE, "hello").await.unwrap();
            // In waves: while something is under way, nobody's place is given to another.
            if (n + 1) % WAVE == 0 {
                phone.wait_for_receipts(n + 1).await.unwrap();
            }
            if n + 1 == PEOPLE / 2 {
                half = tasks().saturating_sub(before);
            }
        }
        world.until_messages("sales", PEOPLE).await;
        let more = tasks().saturating_sub(before);
        assert!(more <= half + WAVE / 2, "{half} more tasks after half of them, {more} after all");
        assert!(more <= 128 + WAVE / 2, "{more} more tasks than before {PEOPLE} people wrote");
        world.end().await;
    })
    .await;
}

/// As large as groups are.
const MEMBERS: usize = 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_to_the_largest_group_reaches_all_and_keeps_nobody_waiting() {
    on(Kind::Sqlite, async |database| {
        let world = World::start(database).await;
        let phone = world.connect("sales", ALICE).await;
        let numbers: Vec<_> = (1..MEMBERS).map(|n| format!("1561{n:07}")).collect();
        for number in &numbers {
            world.whatsapp.contact(number).unwrap().set_receipts(ReceiptPolicy::None);
        }
        let members: Vec<_> =
            [ALICE].into_iter().chain(numbers.iter().map(String::as_str)).collect();
        let group = world.whatsapp.group("Everybody", &members).unwrap();
        world.whatsapp.contact(BOB).unwrap();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        // Whoever writes meanwhile is answered, and hears no less.
        let jid = group.jid();
        let (id, ()) = tokio::join!(world.send("sales", &jid, "hello all"), async {
            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.send_text(ALICE, "in between").await.unwrap();
            phone.wait_for_receipts(1).await.unwrap();
        });
        world.until_ack("sales", &id, 1).await;
        let sent = phone.wait_for_sent(|sent| sent.decrypted_by.len() == numbers.len()).await;
        assert_eq!(sent.unwrap().text.as_deref(), Some("hello all"));
        let more = tasks().saturating_sub(before);
        assert!(more < MEMBERS / 4, "{more} more tasks than before it was written");
        world.end().await;
    })
    .await;
}

const FEW: usize = 8;
const MANY: usize = 40;

/// In a debug build, where it is some 400; a release takes a fraction of it.
const KIB_PER_SESSION: u64 = 640;

fn name(session: usize) -> String {
    format!("s{session:03}")
}

async fn connect(daemon: &Process, whatsapp: &Simulator, sessions: std::ops::Range<usize>) {
    let all = stream::iter(sessions);
    all.for_each_concurrent(4, async |session| {
        let name = name(session);
        let code = daemon.code(&name).await.unwrap();
        let phone = whatsapp.phone(&format!("1559{session:07}")).unwrap();
        phone.scan(&code).await.unwrap();
        daemon.paired(&name).await.unwrap();
    })
    .await;
}

/// Descriptors and KiB of memory that a process uses.
fn used(daemon: &Process) -> (usize, u64) {
    let proc = format!("/proc/{}", daemon.id());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let memory = memory.split_whitespace().next().unwrap().parse().unwrap();
    (std::fs::read_dir(format!("{proc}/fd")).unwrap().count(), memory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_costs_a_descriptor_and_all_are_back_after_a_kill() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    connect(&daemon, &whatsapp, 0..FEW).await;
    let (descriptors, memory) = used(&daemon);
    connect(&daemon, &whatsapp, FEW..MANY).await;
    let (descriptors_after, memory_after) = used(&daemon);
    eprintln!("{FEW} sessions: {descriptors} descriptors, {memory} KiB");
    eprintln!("{MANY} sessions: {descriptors_after} descriptors, {memory_after} KiB");
    let more = MANY - FEW;
    // Requests of the test itself come and go.
    let most = descriptors + more + more / 4;
    assert!(descriptors_after <= most, "{descriptors}, then {descriptors_after}");
    let grown = memory_after.saturating_sub(memory);
    assert!(grown < KIB_PER_SESSION * u64::try_from(more).unwrap(), "{grown} KiB for {more}");

    daemon.kill();
    let daemon = installation.start();
    for session in 0..MANY {
        daemon.connected(&name(session)).await.unwrap();
    }
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    whatsapp.stop().await;
}

/// Transactions of a whole pairing, up to the connection: some forty, where there are no others.
const MOST_TRANSACTIONS: u64 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_pairing_are_hundreds_and_its_transactions_are_few() {
    on_each(async |database| {
        let world = World::start(database).await;
        let committed = async || {
            let figures = world.get("/metrics").await.body;
            let figures = figures.as_str().unwrap();
            let line = figures.lines().find_map(|it| it.strip_prefix("wagate_store_groups_total "));
            line.unwrap().parse::<u64>().unwrap()
        };
        let before = committed().await;
        world.connect("sales", ALICE).await;
        let took = committed().await - before;
        let keys = world.count("SELECT count(*) FROM wa_prekey").await;
        eprintln!("{keys} keys, {took} transactions");
        assert!(keys > 500, "{keys}: one each would be more than are allowed");
        assert!(took <= MOST_TRANSACTIONS, "{took} transactions for one pairing");
        world.end().await;
    })
    .await;
}
