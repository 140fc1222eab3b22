//! The parent's side of the line: a process in a role, and orders for it.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    process::{self, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::{
    failure::Failure,
    role::{Answer, Order},
    usage::{Usage, forget_peak},
};

/// Longer than anything takes, but for a party that hangs.
const DEADLINE: Duration = Duration::from_mins(10);

/// Who waits for which answer.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// A process in a role.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    /// Closed to end the process.
    input: Option<Mutex<ChildStdin>>,
    waiting: Waiting,
    numbers: AtomicU64,
    role: &'static str,
}

impl Child {
    /// Starts this program once more, in a role.
    pub(crate) fn spawn(
        role: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().map(Mutex::new);
        let waiting = Waiting::default();
        if let Some(output) = process.stdout.take() {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    match serde_json::from_str::<Answer>(&line) {
                        Ok(answer) => {
                            let waits = locked(&waiting).remove(&answer.number);
                            // Whoever gave up waiting does not need it.
                            waits.map(|waits| waits.send(answer).ok());
                        }
                        Err(error) => eprintln!("bench: not an answer of {role}: {error}"),
                    }
                }
                // Nobody answers any more: those who wait are told so.
                locked(&waiting).clear();
            });
        }
        Ok(Self { process, input, waiting, numbers: AtomicU64::new(0), role })
    }

    /// Gives an order and waits for its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        ask: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).insert(number, sender);
        let mut line = serde_json::to_vec(&Order { number, ask })?;
        line.push(b'\n');
        if let Some(input) = &self.input {
            locked(input).write_all(&line)?;
        }
        let answer = tokio::time::timeout(DEADLINE, answer)
            .await
            .map_err(|_| Failure::Deadline(DEADLINE))?
            .map_err(|_| Failure::wrong(format!("{} ended", self.role)))?;
        if let Some(error) = answer.error {
            return Err(Failure::wrong(format!("{}: {error}", self.role)));
        }
        Ok(serde_json::from_value(answer.value)?)
    }

    /// What the process uses at this moment.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        Ok(Usage::of(self.process.id())?)
    }

    /// Lets the process's peak of memory begin anew.
    pub(crate) fn forget_peak(&self) -> Result<(), Failure> {
        Ok(forget_peak(self.process.id())?)
    }

    /// Waits until the process has next to nothing to do any more.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        const WINDOW: Duration = Duration::from_secs(1);
        const IDLE: Duration = Duration::from_millis(40);
        let mut before = self.usage()?.cpu;
        for _ in 0..60 {
            tokio::time::sleep(WINDOW).await;
            let now = self.usage()?.cpu;
            if now.saturating_sub(before) < IDLE {
                return Ok(());
            }
            before = now;
        }
        Err(Failure::wrong(format!("{} does not come to rest", self.role)))
    }
}

/// Whatever happened, no process is left behind.
impl Drop for Child {
    fn drop(&mut self) {
        self.input = None;
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
