//! A role's side of the line: orders on standard input, answers on standard output.
//!
//! Each line is a JSON object. Orders are carried out side by side, so answers come in any order
//! and carry the number of theirs. The role ends with its input: with the parent.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::failure::{Chain, Failure};

/// An order, as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order<A> {
    pub(crate) number: u64,
    pub(crate) ask: A,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) value: Value,
}

/// Carries out orders until there are no more.
pub(crate) async fn serve<S, A, F>(state: Arc<S>, carry_out: fn(Arc<S>, A) -> F)
where
    S: Send + Sync,
    A: DeserializeOwned,
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    // A thread of the role's own: the runtime's would count as one of the party measured too, but
    // come and go.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let tracker = TaskTracker::new();
    while let Some(line) = lines.recv().await {
        let Order { number, ask } = match serde_json::from_str::<Order<A>>(&line) {
            Ok(order) => order,
            Err(error) => {
                eprintln!("bench: not an order: {error}");
                return;
            }
        };
        let work = carry_out(Arc::clone(&state), ask);
        tracker.spawn(async move {
            say(&match work.await {
                Ok(value) => Answer { number, error: None, value },
                Err(failure) => {
                    let error = Some(Chain(&failure).to_string());
                    Answer { number, error, value: Value::Null }
                }
            });
        });
    }
}

fn say(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        // If the parent is gone, so are we in a moment.
        io::stdout().lock().write_all(&line).ok();
    }
}
