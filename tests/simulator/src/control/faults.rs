//! Faults.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, Body};
use super::people::scope;
use crate::{Fault, Lasting, Simulator};

/// A fault is named by `fault`, with its own fields beside it.
#[derive(Deserialize)]
pub(super) struct NewFault {
    #[serde(flatten)]
    fault: Fault,
    account: Option<String>,
    device: Option<u16>,
    #[serde(default)]
    lasting: Lasting,
}

pub(super) async fn list(State(simulator): State<Simulator>) -> Json<Vec<Value>> {
    Json(armed(&simulator))
}

pub(super) async fn inflict(
    State(simulator): State<Simulator>,
    Body(new): Body<NewFault>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let scope = scope(&simulator, new.account, new.device)?;
    simulator.fault(scope, new.fault, new.lasting).await;
    Ok(Json(armed(&simulator)))
}

pub(super) async fn clear(State(simulator): State<Simulator>) -> Json<Vec<Value>> {
    simulator.clear_faults(None);
    Json(armed(&simulator))
}

/// The armed faults, each with its scope and how often it strikes yet.
pub(super) fn armed(simulator: &Simulator) -> Vec<Value> {
    let armed = simulator.faults().into_iter();
    armed
        .map(|(scope, fault, left)| json!({ "scope": scope, "fault": fault, "left": left }))
        .collect()
}
