//! Accounts: seed 003's four actions, and seed 004's view of an organization.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::meta::{account, state::MetaStatus};

use super::views::{AccountView, OverviewPage, RotatedView, UpsertedView};
use crate::{
    http::{
        api::{List, created, ok, once, webhooks::moment, with},
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::{Fields, Parameters},
        idempotency::idempotency_key,
        path::{MetaAccountPath, OrganizationPath},
    },
    service::{
        Meta,
        meta::{AccountFilter, AccountInput, MOST_ACCOUNTS},
    },
};

/// The members of a body that makes or changes an account.
fn input(mut body: Fields, is_new: bool) -> Result<AccountInput, ApiError> {
    let number =
        if is_new { Some(body.required_text("phoneNumberId")) } else { body.text("phoneNumberId") };
    let input = AccountInput {
        phone_number_id: number,
        label: body.change("label"),
        waba_id: body.change("wabaId"),
        display_phone_number: body.change("displayPhoneNumber"),
        app_id: body.change("appId"),
        app_secret: body.change("appSecret"),
        previous_until: body.parsed("previousAppSecretUntil", moment),
        access_token: body.change("accessToken"),
        verify_token: body.text("verifyToken"),
        callback_path: body.text("callbackPath"),
        status: status(&mut body),
    };
    body.finish()?;
    Ok(input)
}

const STATUS: &str = "must be `unverified`, `verified` or `disabled`";

fn status(body: &mut Fields) -> Option<MetaStatus> {
    body.parsed("status", |word| MetaStatus::of_word(word).ok_or(STATUS))
}

/// Which accounts are wanted.
fn filter(parameters: &mut Parameters) -> AccountFilter {
    AccountFilter {
        status: parameters.parsed("status", |word| MetaStatus::of_word(word).ok_or(STATUS)),
        phone_number_id: parameters.text("phoneNumberId"),
    }
}

/// 201 for a new account, 200 for one that was there and is changed.
#[tracing::instrument(name = "http.meta.upsert", skip_all)]
pub(super) async fn upsert(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let done = meta.upsert(&caller, input(body, true)?, key).await?;
    let location = format!("/api/meta/accounts/{}", done.account.id);
    let account = view(&meta, done.account).await?;
    let view = UpsertedView { account, verify_token: done.verify_token };
    let mut response = if done.is_new || done.replayed {
        created(&location, done.replayed, view)
    } else {
        ([(header::LOCATION, location)], with(StatusCode::OK, view)).into_response()
    };
    no_store(&mut response);
    Ok(response)
}

#[tracing::instrument(name = "http.meta.list", skip_all)]
pub(super) async fn list(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let filter = filter(&mut parameters);
    let page = parameters.page();
    parameters.finish()?;
    let listing = meta.list(&caller, &filter, page).await?;
    let sessions = meta.session_names(&caller.organization_id, &listing.accounts).await?;
    let data = listing.accounts.into_iter().map(|row| AccountView::of(&meta, row, &sessions));
    Ok(Json(List::new(data, listing.next.as_ref())))
}

#[tracing::instrument(name = "http.meta.show", skip_all)]
pub(super) async fn show(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let row = meta.find(&caller, &id).await?;
    Ok(ok(view(&meta, row).await?))
}

#[tracing::instrument(name = "http.meta.change", skip_all)]
pub(super) async fn change(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
    JsonObject(body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let row = meta.update(&caller, &id, input(body, false)?).await?;
    Ok(ok(view(&meta, row).await?))
}

#[tracing::instrument(name = "http.meta.delete", skip_all)]
pub(super) async fn delete(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    meta.delete(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[tracing::instrument(name = "http.meta.rotate", skip_all)]
pub(super) async fn rotate(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
    headers: HeaderMap,
    Unneeded(body): Unneeded,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    body.finish()?;
    let (row, verify_token) = meta.rotate(&caller, &id, key).await?;
    let replayed = verify_token.is_none();
    let view = RotatedView { account: view(&meta, row).await?, verify_token };
    let mut response = once(ok(view), replayed);
    no_store(&mut response);
    Ok(response)
}

#[tracing::instrument(name = "http.meta.set_status", skip_all)]
pub(super) async fn set_status(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaAccountPath(id): MetaAccountPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    // Looked up before its absence is told, so that what is nobody's is not there first of all.
    meta.find(&caller, &id).await?;
    let word = body.required_text("status");
    let wanted = MetaStatus::of_word(&word);
    if wanted.is_none() && !word.is_empty() {
        body.fault::<()>("status", STATUS);
    }
    body.finish()?;
    // A word that could not be read has ended the reading.
    let wanted = wanted.unwrap_or(MetaStatus::Disabled);
    let row = meta.set_status(&caller, &id, wanted).await?;
    Ok(ok(view(&meta, row).await?))
}

#[tracing::instrument(name = "http.meta.overview", skip_all)]
pub(super) async fn overview(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    OrganizationPath(id): OrganizationPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let filter = filter(&mut parameters);
    let page = parameters.page_of(MOST_ACCOUNTS);
    parameters.finish()?;
    let overview = meta.overview(&caller, &id, &filter, page).await?;
    let accounts = &overview.page.accounts;
    let sessions = meta.session_names(&overview.organization.id, accounts).await?;
    Ok(Json(OverviewPage::of(&meta, overview, &sessions)))
}

async fn view(meta: &Meta, row: account::Model) -> Result<AccountView, ApiError> {
    let owner = row.organization_id.clone();
    let sessions = meta.session_names(&owner, std::slice::from_ref(&row)).await?;
    Ok(AccountView::of(meta, row, &sessions))
}

/// A secret is in it, which no cache is to keep.
fn no_store(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
