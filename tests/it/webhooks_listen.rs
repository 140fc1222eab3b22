//! `wagate webhook listen`: what happens, line by line, whatever becomes of the daemon.

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    program::{Process, command, ended},
    receiver::{Behaviour, Receiver},
    world::http_client,
};

/// A daemon's place: it comes back at the same address.
struct Place {
    directory: tempfile::TempDir,
    listen: String,
}

impl Place {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        Self { directory: tempfile::tempdir().unwrap(), listen }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn wagate(&self) -> Command {
        let mut command = command(&self.state());
        command.env("WAGATE_HTTP__LISTEN", &self.listen);
        command
    }

    fn start(&self) -> Process {
        Process::of(self.wagate(), &self.state())
    }

    fn listen(&self, options: &[&str]) -> Listening {
        Listening::of(self.wagate(), options)
    }
}

/// Has something happen.
async fn create(daemon: &Process, session: &str) {
    let request = http_client()
        .post(format!("{}/api/whatsapp/session", daemon.base()))
        .bearer_auth(daemon.token())
        .json(&json!({ "sessionId": session, "start": false }));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
}

/// `wagate webhook listen`, in a process of its own.
struct Listening {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Lines<BufReader<ChildStderr>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Listening {
    fn of(mut command: Command, options: &[&str]) -> Self {
        let mut child = command.args(["webhook", "listen"]).args(options).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let complaints = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, complaints }
    }

    /// The session that the next line is about.
    fn next(&mut self) -> String {
        self.line()["session_id"].as_str().unwrap().to_owned()
    }

    fn line(&mut self) -> Value {
        let line = self.lines.next().unwrap_or_else(|| panic!("{:?}", self.complaints.next()));
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    fn complaint(&mut self) -> String {
        self.complaints.next().unwrap().unwrap()
    }

    /// Waits for its end.
    fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let rest = self.lines.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_printed_line_by_line_and_a_restart_of_the_daemon_loses_none() {
    let place = Place::new();
    let daemon = place.start();
    create(&daemon, "one").await;
    let mut listening = place.listen(&["--since", "start"]);
    let line = listening.line();
    assert_eq!(
        (&line["type"], &line["session_id"], &line["data"]["sessionId"]),
        (&json!("session.created"), &json!("one"), &json!("one")),
    );
    assert!(line["sequence"].is_i64() && line["id"].as_str().unwrap().starts_with("evt_"));
    create(&daemon, "two").await;
    assert_eq!(listening.next(), "two");

    drop(daemon);
    let away = listening.complaint();
    assert!(away.contains("cannot be reached") && away.contains("trying again"), "{away}");
    let daemon = place.start();
    create(&daemon, "three").await;
    assert_eq!(listening.next(), "three");
    assert!(listening.complaint().contains("answers again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_daemon_that_is_not_there_yet_and_ends_after_as_many_as_were_asked_for() {
    let place = Place::new();
    // A first run makes the token that listening takes.
    drop(place.start());
    let mut listening = place.listen(&["--since", "start", "--count", "2"]);
    assert!(listening.complaint().contains("cannot be reached"));
    let daemon = place.start();
    for session in ["one", "two", "three"] {
        create(&daemon, session).await;
    }
    assert_eq!(listening.next(), "one");
    assert_eq!(listening.next(), "two");
    assert_eq!(listening.ended(), (Some(0), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_where_it_is_told_and_goes_on_where_it_ended() {
    let place = Place::new();
    let daemon = place.start();
    create(&daemon, "before").await;
    let cursor = place.directory.path().join("cursor");
    let keep = ["--cursor-file", cursor.to_str().unwrap(), "--count", "1"];

    // Without a word it begins now; the file says when that is.
    let first = place.listen(&keep);
    while !cursor.exists() {
        tokio::task::yield_now().await;
    }
    create(&daemon, "one").await;
    create(&daemon, "two").await;
    let (code, lines) = first.ended();
    assert!(code == Some(0) && lines.len() == 1 && lines[0].contains("\"one\""), "{lines:?}");
    let (code, lines) = place.listen(&keep).ended();
    assert!(code == Some(0) && lines.len() == 1 && lines[0].contains("\"two\""), "{lines:?}");
    let place_of_one = std::fs::read_to_string(&cursor).unwrap().trim().parse::<i64>().unwrap() - 1;

    let since =
        |place_in_feed: &str| place.listen(&["--since", place_in_feed, "--count", "1"]).next();
    assert_eq!(since("start"), "before");
    assert_eq!(since("1h"), "before");
    assert_eq!(since("2000-01-01T00:00:00Z"), "before");
    assert_eq!(since(&place_of_one.to_string()), "two");
    // Behind the last of them a new one comes first.
    let begun = place.directory.path().join("begun");
    let options = ["--since", "2999-01-01T00:00:00Z", "--cursor-file", begun.to_str().unwrap()];
    let mut future = place.listen(&options);
    while !begun.exists() {
        tokio::task::yield_now().await;
    }
    let mut of_type = place.listen(&["--since", "start", "--types", "session.deleted,call"]);
    let mut of_session = place.listen(&["--since", "start", "--session", "two"]);
    let deleted = http_client()
        .delete(format!("{}/api/whatsapp/session/one", daemon.base()))
        .bearer_auth(daemon.token());
    assert_eq!(deleted.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(of_type.line()["type"], "session.deleted");
    assert_eq!(of_session.next(), "two");
    create(&daemon, "three").await;
    loop {
        let session = future.next();
        if session == "three" {
            break;
        }
        assert_eq!(session, "one");
    }

    std::fs::write(&cursor, "900000\n").unwrap();
    let mut ahead = place.wagate();
    ahead.args(["webhook", "listen"]).args(keep);
    let (code, said) = ended(ahead);
    assert!(code == Some(1) && said.contains("it is another database than before"), "{said}");
    std::fs::write(&cursor, "nonsense").unwrap();
    let mut malformed = place.wagate();
    malformed.args(["webhook", "listen"]).args(keep);
    let (code, said) = ended(malformed);
    assert!(code == Some(64) && said.contains("does not hold the number of an event"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_or_missing_and_a_type_that_is_not_there_end_it_with_a_reason() {
    let place = Place::new();
    let daemon = place.start();
    let run = |change: &dyn Fn(&mut Command)| {
        let mut listen = place.wagate();
        listen.args(["webhook", "listen"]);
        change(&mut listen);
        ended(listen)
    };
    let (code, said) = run(&|it| {
        it.env("WAGATE_TOKEN", "wag_hidden");
    });
    assert!(code == Some(1) && said.contains("the daemon answers 401"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
    let (code, said) = run(&|it| {
        it.args(["--session", "nobody"]);
    });
    assert!(code == Some(1) && said.contains("404"), "{said}");
    let (code, said) = run(&|it| {
        it.args(["--types", "massage.*"]);
    });
    assert!(code == Some(64) && said.contains("no type of event is called that"), "{said}");
    let elsewhere = place.directory.path().join("elsewhere");
    let (code, said) = run(&|it| {
        it.env("WAGATE_STATE_DIR", &elsewhere);
    });
    assert!(code == Some(64) && said.contains("there is no token"), "{said}");
    // With an address and a token it needs no configuration, and so nothing of this machine.
    let token = place.directory.path().join("token");
    std::fs::write(&token, daemon.token()).unwrap();
    create(&daemon, "one").await;
    let mut far = command(Path::new("/nowhere/state"));
    far.env_clear().current_dir("/").env("WAGATE_HTTP__LISTEN", "nonsense");
    far.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let options = ["--url", daemon.base(), "--since", "0", "--token-file", token.to_str().unwrap()];
    assert_eq!(Listening::of(far, &options).next(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_passed_on_signed_until_it_is_taken_and_in_order() {
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let place = Place::new();
    let daemon = place.start();
    let receiver = Receiver::start().await;
    receiver.next([Behaviour::status(500), Behaviour::Close]);
    for session in ["one", "two"] {
        create(&daemon, session).await;
    }
    let mut listen = place.wagate();
    listen.env("WAGATE_WEBHOOK_SECRET", SECRET);
    let url = receiver.url();
    let options = ["--since", "start", "--count", "2", "--forward", &url];
    let mut listening = Listening::of(listen, &options);
    let printed = [listening.line(), listening.line()];
    assert!(listening.complaint().contains("it answers 500"));
    assert_eq!(listening.ended().0, Some(0));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4, "the first one three times");
    for (request, line) in requests.iter().zip([0, 0, 0, 1]) {
        assert!(request.is_signed_with(SECRET));
        assert_eq!(request.json(), printed[line]);
        assert_eq!(request.id(), printed[line]["id"].as_str().unwrap());
    }
}
