//! The control API: the simulator over HTTP, for scripts and for clients in other languages.
//!
//! JSON in, JSON out. What a script gets wrong is a 400 that says so, what does not exist a 404,
//! what cannot be now a 409, and what did not happen in time a 504.
//!
//! | request | does |
//! |---|---|
//! | `GET /info` | counters, the WebSocket address, armed faults |
//! | `GET /violations`, `DELETE /violations` | protocol errors; forgets them |
//! | `GET /phones`, `POST /phones` | everybody; makes somebody `{number, name?, receipts?, …}` |
//! | `GET /contacts`, `POST /contacts` | the same: a contact is a person, too |
//! | `POST /groups` | makes a group `{subject, members}` |
//! | `POST /scan` | `{phone, qr}`: scans a QR code |
//! | `POST /link-code` | `{phone, code}`: types a code |
//! | `POST /history` | `{phone, chunks, on_pairing?}`: the phone hands history to its companions, now or when they are linked |
//! | `POST /inject` | `{from, to, text, count?}`: a contact (or a phone) writes |
//! | `POST /media` | `{from, to, kind, base64, mimetype?, name?, delivery?}`: a contact (or a phone) sends a file |
//! | `POST /typing` | `{from, to, state}` |
//! | `GET /sent?account=` | what an account's clients sent, decrypted |
//! | `POST /receipt` | `{from, to, ids, kind}`: a contact's receipt |
//! | `GET /receipts?account=` | receipts an account's clients sent |
//! | `POST /drop` | `{account?, device?}`: cuts connections |
//! | `POST /logout` | `{account, device?}`: unlinks |
//! | `GET /fault`, `POST /fault`, `DELETE /fault` | armed faults; `{fault, …, account?, device?, lasting?}`; clears |
//! | `GET /inflicted` | every fault that was made to happen, and whom it struck at once |
//! | `GET /script`, `POST /script`, `DELETE /script` | scripts at work; `{steps: [{after, fault, …, scope?, lasting?}], manual?}`; ends them |
//! | `POST /script/advance` | `{id, millis}`: moves the clock of a manual script |
//! | `POST /chaos` | `{seed, accounts, mean_millis, during_millis, troubles?}`: plays a script at random |
//! | `GET /sockets` | open sockets, and who has logged in on them |
//!
//! Faults and their fields are those of [`Fault`](crate::Fault), by their names in snake case; a
//! chunk of history is a [`History`](crate::History).

mod error;
mod faults;
mod messages;
mod people;
mod scripts;

use std::net::SocketAddr;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{Error, Simulator, Violation};

/// The routes of the control API.
pub fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/info", get(info))
        .route("/violations", get(violations).delete(forget_violations))
        .route("/phones", get(people::list).post(people::create))
        .route("/contacts", get(people::list).post(people::create))
        .route("/groups", post(people::create_group))
        .route("/scan", post(people::scan))
        .route("/link-code", post(people::link_code))
        .route("/history", post(people::history))
        .route("/drop", post(people::cut))
        .route("/logout", post(people::logout))
        .route("/inject", post(messages::inject))
        .route("/media", post(messages::media))
        .route("/typing", post(messages::typing))
        .route("/sent", get(messages::sent))
        .route("/receipt", post(messages::receipt))
        .route("/receipts", get(messages::receipts))
        .route("/fault", get(faults::list).post(faults::inflict).delete(faults::clear))
        .route("/inflicted", get(scripts::inflicted))
        .route("/script", get(scripts::list).post(scripts::start).delete(scripts::stop))
        .route("/script/advance", post(scripts::advance))
        .route("/chaos", post(scripts::chaos))
        .route("/sockets", get(scripts::sockets))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(simulator)
}

/// Serves the control API until [`Simulator::stop`]; returns where.
///
/// The API is a handle to the simulator like any other, so dropping all others does not stop it.
pub async fn serve(simulator: &Simulator, listen: SocketAddr) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(listen).await.map_err(Error::Listen)?;
    let address = listener.local_addr().map_err(Error::Listen)?;
    let routes = router(simulator.clone());
    simulator.hub().spawn(tracing::info_span!("control", %address), async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the control API ended");
        }
    });
    Ok(address)
}

async fn info(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({
        "url": simulator.url(),
        "media": simulator.media_address(),
        "counters": simulator.info(),
        "online": simulator.online_devices(),
        "faults": faults::armed(&simulator),
        "violations": simulator.violations().len(),
    }))
}

async fn violations(State(simulator): State<Simulator>) -> Json<Vec<Violation>> {
    Json(simulator.violations())
}

async fn forget_violations(State(simulator): State<Simulator>) -> Json<Vec<Violation>> {
    Json(simulator.take_violations())
}
