//! Scripts of faults, by hand or by the clock, and what faults there were.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, Body};
use crate::server::Play;
use crate::{Chaos, Error, Inflicted, Script, Simulator, Socket, Step};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewScript {
    steps: Vec<Step>,
    /// Whether the clock stands still until `/script/advance` moves it.
    #[serde(default)]
    manual: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    id: u64,
    millis: u64,
}

/// A script that is not over.
#[derive(Serialize)]
pub(super) struct PlayView {
    id: u64,
    /// Milliseconds since its beginning.
    position: u128,
    /// Steps to come.
    left: usize,
    /// When the next thing begins or ends.
    next: Option<u128>,
}

async fn view(play: &Play) -> PlayView {
    PlayView {
        id: play.id(),
        position: play.position().await.as_millis(),
        left: play.left().await,
        next: play.next_at().await.map(|next| next.as_millis()),
    }
}

pub(super) async fn list(State(simulator): State<Simulator>) -> Json<Vec<PlayView>> {
    let mut views = Vec::new();
    for play in simulator.plays() {
        views.push(view(&play).await);
    }
    Json(views)
}

pub(super) async fn start(
    State(simulator): State<Simulator>,
    Body(new): Body<NewScript>,
) -> Json<PlayView> {
    let script = Script { steps: new.steps };
    let play = if new.manual { simulator.stage(script) } else { simulator.play(script) };
    Json(view(&play).await)
}

/// Moves the clock of a script by hand; answers with what began.
pub(super) async fn advance(
    State(simulator): State<Simulator>,
    Body(advance): Body<Advance>,
) -> Result<Json<Value>, ApiError> {
    let play = simulator.plays().into_iter().find(|play| play.id() == advance.id);
    let play = play.ok_or(Error::UnknownScript(advance.id))?;
    let begun = play.advance(Duration::from_millis(advance.millis)).await;
    Ok(Json(json!({ "begun": begun, "script": view(&play).await })))
}

pub(super) async fn stop(State(simulator): State<Simulator>) -> Json<Vec<PlayView>> {
    for play in simulator.plays() {
        play.stop().await;
    }
    list(State(simulator)).await
}

/// Writes a script at random and plays it; answers with the script.
pub(super) async fn chaos(
    State(simulator): State<Simulator>,
    Body(chaos): Body<Chaos>,
) -> Result<Json<Value>, ApiError> {
    if chaos.mean_millis == 0 {
        return Err(ApiError::bad_request("mean_millis must be at least 1"));
    }
    for account in &chaos.accounts {
        simulator.existing(account)?;
    }
    let script = chaos.script();
    let play = simulator.play(script.clone());
    Ok(Json(json!({ "id": play.id(), "steps": script.steps })))
}

pub(super) async fn inflicted(State(simulator): State<Simulator>) -> Json<Vec<Inflicted>> {
    Json(simulator.inflicted())
}

pub(super) async fn sockets(State(simulator): State<Simulator>) -> Json<Vec<Socket>> {
    Json(simulator.sockets())
}
