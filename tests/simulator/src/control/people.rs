//! Phones, contacts, groups; linking and unlinking.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, Body};
use crate::{
    Addressing, DeviceInfo, Fault, History, Lasting, Phone, ReceiptPolicy, Scope, Simulator,
};

#[derive(Serialize)]
pub(super) struct PersonView {
    number: String,
    lid: String,
    devices: Vec<DeviceInfo>,
    logins: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPerson {
    number: String,
    name: Option<String>,
    receipts: Option<ReceiptPolicy>,
    addressing: Option<Addressing>,
    lid_known: Option<bool>,
    /// How many messages to ask for again before reading them.
    fail_next: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    subject: String,
    members: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scan {
    phone: String,
    qr: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkCode {
    phone: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandDown {
    phone: String,
    chunks: Vec<History>,
    /// Whether this is for companions that are linked later.
    #[serde(default)]
    on_pairing: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cut {
    account: Option<String>,
    device: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logout {
    account: String,
    device: Option<u16>,
}

fn view(phone: &Phone) -> PersonView {
    PersonView {
        number: phone.number().to_owned(),
        lid: phone.lid().to_owned(),
        devices: phone.devices(),
        logins: phone.logins().len(),
    }
}

pub(super) async fn list(State(simulator): State<Simulator>) -> Json<Vec<PersonView>> {
    Json(simulator.everybody().iter().map(view).collect())
}

/// Makes somebody, or changes the habits of somebody who is there.
pub(super) async fn create(
    State(simulator): State<Simulator>,
    Body(new): Body<NewPerson>,
) -> Result<(StatusCode, Json<PersonView>), ApiError> {
    let phone = simulator.phone(&new.number)?;
    if let Some(name) = &new.name {
        phone.set_name(name);
    }
    if let Some(receipts) = new.receipts {
        phone.set_receipts(receipts);
    }
    if let Some(addressing) = new.addressing {
        phone.set_addressing(addressing);
    }
    if let Some(known) = new.lid_known {
        phone.set_lid_known(known);
    }
    if let Some(count) = new.fail_next {
        phone.as_contact().fail_next(count);
    }
    Ok((StatusCode::CREATED, Json(view(&phone))))
}

pub(super) async fn create_group(
    State(simulator): State<Simulator>,
    Body(new): Body<NewGroup>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if new.members.is_empty() {
        return Err(ApiError::bad_request("a group has at least one member"));
    }
    let members: Vec<&str> = new.members.iter().map(String::as_str).collect();
    let group = simulator.group(&new.subject, &members)?;
    let body = json!({ "jid": group.jid(), "members": group.members() });
    Ok((StatusCode::CREATED, Json(body)))
}

pub(super) async fn scan(
    State(simulator): State<Simulator>,
    Body(scan): Body<Scan>,
) -> Result<Json<Value>, ApiError> {
    let device = simulator.phone(&scan.phone)?.scan(&scan.qr).await?;
    Ok(Json(json!({ "device": device })))
}

pub(super) async fn link_code(
    State(simulator): State<Simulator>,
    Body(typed): Body<LinkCode>,
) -> Result<Json<Value>, ApiError> {
    let device = simulator.phone(&typed.phone)?.enter_code(&typed.code).await?;
    Ok(Json(json!({ "device": device })))
}

/// Hands history to the companions that are there, or to those to come.
pub(super) async fn history(
    State(simulator): State<Simulator>,
    Body(down): Body<HandDown>,
) -> Result<Json<Value>, ApiError> {
    let phone = simulator.existing(&down.phone)?;
    let mut ids = Vec::new();
    if down.on_pairing {
        phone.set_history(down.chunks);
    } else {
        for chunk in down.chunks {
            ids.push(phone.send_history(chunk).await?);
        }
    }
    Ok(Json(json!({ "ids": ids })))
}

/// Cuts connections that are there; says how many devices were.
pub(super) async fn cut(
    State(simulator): State<Simulator>,
    Body(cut): Body<Cut>,
) -> Result<Json<Value>, ApiError> {
    let scope = scope(&simulator, cut.account, cut.device)?;
    let online: Vec<_> = simulator
        .online_devices()
        .into_iter()
        .filter(|device| scope.includes(Some(device)))
        .collect();
    if !online.is_empty() {
        simulator.fault(scope, Fault::Drop, Lasting::Once).await;
    }
    Ok(Json(json!({ "dropped": online })))
}

pub(super) async fn logout(
    State(simulator): State<Simulator>,
    Body(logout): Body<Logout>,
) -> Result<Json<Value>, ApiError> {
    let phone = simulator.existing(&logout.account)?;
    let unlinked = match logout.device {
        Some(device) => phone.unlink(device).map(|()| 1)?,
        None => phone.unlink_all(),
    };
    Ok(Json(json!({ "unlinked": unlinked })))
}

/// The scope a request means; it must exist.
pub(super) fn scope(
    simulator: &Simulator,
    account: Option<String>,
    device: Option<u16>,
) -> Result<Scope, ApiError> {
    let Some(account) = account else {
        return match device {
            None => Ok(Scope::Everyone),
            Some(_) => Err(ApiError::bad_request("a device needs its account")),
        };
    };
    let number = simulator.existing(&account)?.number().to_owned();
    Ok(match device {
        Some(device) => Scope::Device(number, device),
        None => Scope::Account(number),
    })
}
