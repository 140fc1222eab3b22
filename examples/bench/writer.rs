//! The store's one write path: commits shared by many, beside a commit for each.

use std::{sync::Arc, time::Duration};

use entity::{
    UnixMillis,
    id::{MessageId, OrganizationId, SessionKey},
    kind::MessageKind,
    state::{DesiredState, Direction, MessageStatus},
};
use futures_util::future::try_join_all;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    event::{Event, NewMessage},
    store::{
        Patience, Store,
        audit::By,
        connect::Options,
        events::{NewEvent, Recorded},
        sessions::{Created, NewSession},
    },
    vault::{MasterKey, Vault},
};

use crate::{
    Size, databases,
    failure::Failure,
    machine,
    report::{Report, count},
    usage::Usage,
};

/// Enough for a rate; each of these costs a commit of its own.
const MOST_SINGLES: usize = 3000;

/// What it took to record messages.
#[derive(Clone, Copy, Debug)]
struct Recording {
    messages: usize,
    took: Duration,
    cpu: Duration,
    commits: u64,
}

impl Recording {
    fn rate(&self) -> f64 {
        count(self.messages as u64) / self.took.as_secs_f64()
    }

    fn commit_rate(&self) -> f64 {
        count(self.commits) / self.took.as_secs_f64()
    }

    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.messages as u64)
    }

    fn per_commit(&self) -> f64 {
        count(self.messages as u64) / count(self.commits.max(1))
    }
}

/// What is said of one database.
struct Names {
    events: &'static str,
    commits: &'static str,
    together: &'static str,
    cpu: &'static str,
}

const SQLITE: Names = Names {
    events: "SQLite: events per second",
    commits: "SQLite: commits per second",
    together: "SQLite: events per commit",
    cpu: "SQLite: CPU time per event",
};

const POSTGRES: Names = Names {
    events: "PostgreSQL: events per second",
    commits: "PostgreSQL: commits per second",
    together: "PostgreSQL: events per commit",
    cpu: "PostgreSQL: CPU time per event, ours",
};

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let sessions = size.sessions_or(100);
    let messages = size.messages_or(30_000);
    let directory = size.directory()?;
    let syncs = machine::syncs_per_second(directory.path())?;
    let mut report = Report::new(
        "writer",
        format!("{messages} messages of {sessions} sessions recorded, each waited for"),
        "a commit for each, on the same disk",
    );

    let sqlite = |name: &str| {
        format!("sqlite://{}", directory.path().join(name).with_extension("db").display())
    };
    compare(&mut report, &SQLITE, sqlite, sessions, messages).await?;
    match databases::cluster(size).await {
        Ok(cluster) => {
            databases::create(&cluster, &["grouped", "single"]).await?;
            compare(&mut report, &POSTGRES, |name| cluster.url(name), sessions, messages).await?;
        }
        Err(missing) => report.note(missing.to_string()),
    }
    report.figure("syncs per second of this disk", "", syncs, None, None);
    Ok(report)
}

/// Grouped and single commits on one kind of database, each on an empty one of its own.
async fn compare(
    report: &mut Report,
    names: &Names,
    url: impl Fn(&str) -> String,
    sessions: usize,
    messages: usize,
) -> Result<(), Failure> {
    let singles = messages.min(MOST_SINGLES);
    let grouped = record(url("grouped"), None, sessions, messages).await?;
    let single = record(url("single"), Some(1), sessions, singles).await?;
    report.figure(names.events, "", grouped.rate(), single.rate(), None);
    report.figure(names.commits, "", grouped.commit_rate(), single.commit_rate(), None);
    report.figure(names.together, "", grouped.per_commit(), single.per_commit(), None);
    report.figure(names.cpu, "us", grouped.micros(), single.micros(), None);
    Ok(())
}

/// Has each session record its messages one after another, all sessions at the same time.
async fn record(
    url: String,
    group_limit: Option<usize>,
    sessions: usize,
    messages: usize,
) -> Result<Recording, Failure> {
    let tracker = TaskTracker::new();
    let mut options = Options::new(url);
    options.group_limit = group_limit.unwrap_or(options.group_limit);
    let vault = Arc::new(Vault::new(MasterKey::generate(), None));
    let store = Store::open(options, vault, Clock::system(), &tracker).await.map_err(refused)?;
    let organization = store.organizations().ensure_default().await.map_err(refused)?.id;
    let mut keys = Vec::with_capacity(sessions);
    for session in 0..sessions {
        keys.push(create(&store, &organization, session).await?);
    }

    let each = messages.div_ceil(sessions);
    let (before, cpu) = (store.writer().stats(), Usage::of(std::process::id())?.cpu);
    let begun = Instant::now();
    let recordings = keys.into_iter().map(|key| {
        let (store, organization) = (store.clone(), organization.clone());
        tracker.spawn(async move {
            for number in 0..each {
                let new = message(&organization, &key, number);
                match store.writer().record(new, Patience::Fail).await.map_err(refused)? {
                    Recorded::New { .. } => {}
                    other => return Err(Failure::wrong(format!("a message was {other:?}"))),
                }
            }
            Ok(())
        })
    });
    for recorded in try_join_all(recordings).await.map_err(refused)? {
        recorded?;
    }
    let took = begun.elapsed();
    let cpu = Usage::of(std::process::id())?.cpu.saturating_sub(cpu);
    let commits = store.writer().stats().groups - before.groups;
    store.close().await;
    Ok(Recording { messages: each * sessions, took, cpu, commits })
}

pub(crate) async fn create(
    store: &Store,
    organization: &OrganizationId,
    session: usize,
) -> Result<SessionKey, Failure> {
    let new = NewSession {
        session_id: format!("bench-{session}").parse().map_err(refused)?,
        user_id: None,
        phone_number: None,
        desired_state: DesiredState::Stopped,
        is_notification: None,
        ai_config: None,
        external: None,
    };
    match store.sessions().create(organization, new, None, By::default()).await.map_err(refused)? {
        Created::New(row) => Ok(row.id),
        Created::Exists
        | Created::VpsTaken
        | Created::TooMany { .. }
        | Created::Before(_)
        | Created::KeyReused
        | Created::Gone => Err(Failure::wrong("the database was not empty")),
    }
}

/// As a contact's text arrives.
pub(crate) fn message(organization: &OrganizationId, key: &SessionKey, number: usize) -> NewEvent {
    let now = Clock::system().now();
    let contact = "15560000001@s.whatsapp.net";
    NewEvent {
        organization_id: organization.clone(),
        session_key: key.clone(),
        generation: None,
        event: Event::Message(Box::new(NewMessage {
            id: MessageId::new(now, rand::random()),
            wa_id: format!("3EB0{number:016X}"),
            chat: contact.to_owned(),
            sender: contact.to_owned(),
            direction: Direction::Inbound,
            kind: MessageKind::Text,
            body: Some(format!("message number {number}")),
            target_wa_id: None,
            interaction: None,
            raw: Some(vec![0; 48]),
            push_name: Some("Bench".to_owned()),
            sent_at: UnixMillis(now.0),
            is_group: false,
            offline: false,
            status: MessageStatus::Received,
        })),
        at: now,
        care: None,
        posted: None,
    }
}

pub(crate) fn refused(error: impl std::error::Error) -> Failure {
    Failure::wrong(format!("the store: {}", crate::failure::Chain(&error)))
}
