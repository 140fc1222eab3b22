//! Accounts of which something was told every day, and of which nothing is told any more.

use std::{collections::BTreeSet, time::Duration};

use entity::{
    UnixMillis,
    id::{EndpointId, MetaAccountId},
    meta::{account, state::MetaStatus},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Statement, sea_query::Expr,
};
use serde_json::{Value, json};

use super::Meta;
use crate::{
    event::payload::rfc3339,
    store::{
        Error, Patience, organizations,
        webhooks::{About, Known, announce},
    },
    webhook::EventType,
};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// So many days in a row there must have been something, for its absence to mean something.
const DAYS: i64 = 7;

/// Accounts that are looked at in one go.
const PAGE: u64 = 200;

/// An account whose silence has begun or is over.
#[derive(Clone, Debug)]
pub struct Silence {
    pub account: account::Model,
    turn: Turn,
}

impl Silence {
    /// It has begun.
    pub const fn begins(&self) -> bool {
        matches!(self.turn, Turn::Silent { .. })
    }
}

/// A change of an account's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Silent { since: UnixMillis },
    Recovered { since: UnixMillis },
}

impl Meta {
    /// Looks at a page of all accounts, those behind `last`, for some that have fallen silent for `after`, or are silent no more.
    /// With the last that was looked at; none when there are no more.
    pub async fn look_for_silence(
        &self,
        after: Duration,
        last: Option<&MetaAccountId>,
    ) -> Result<Option<(Vec<Silence>, MetaAccountId)>, Error> {
        let mut query = account::Entity::find().order_by_asc(account::COLUMN.id).limit(PAGE);
        if let Some(last) = last {
            query = query.filter(account::COLUMN.id.gt(last.clone()));
        }
        let page = query.all(self.store.reader()).await?;
        let Some(end) = page.last().map(|row| row.id.clone()) else { return Ok(None) };
        let mut found = Vec::new();
        for account in page {
            if let Some(turn) = self.turn(&account, after).await? {
                found.push(Silence { account, turn });
            }
        }
        Ok(Some((found, end)))
    }

    /// How many accounts have fallen silent, and were told of. Of one that is disabled, silence is what its owner wants.
    pub async fn silent_accounts(&self) -> Result<u64, Error> {
        let silent = account::Entity::find()
            .filter(account::COLUMN.silent_since.is_not_null())
            .filter(account::COLUMN.status.ne(MetaStatus::Disabled));
        Ok(silent.count(self.store.reader()).await?)
    }

    async fn turn(&self, row: &account::Model, after: Duration) -> Result<Option<Turn>, Error> {
        let now = self.store.clock().now();
        if row.status == MetaStatus::Disabled {
            // Nothing is taken of it.
            return Ok(None);
        }
        let Some(heard) = self.heard(row, now).await? else { return Ok(None) };
        let is_silent = now.since(heard) >= after;
        Ok(match row.silent_since {
            Some(since) if heard > since => Some(Turn::Recovered { since }),
            None if is_silent && self.was_busy(row, heard).await? => {
                Some(Turn::Silent { since: heard })
            }
            Some(_) | None => None,
        })
    }

    /// When something happened last of which Meta told, by Meta's word; what is ahead of us counts as now.
    async fn heard(
        &self,
        row: &account::Model,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Error> {
        let ask =
            "SELECT MAX(event_ts) FROM meta_event WHERE organization_id = $1 AND account_id = $2";
        let values = [row.organization_id.as_str().into(), row.id.as_str().into()];
        let db = self.store.reader();
        let ask = Statement::from_sql_and_values(db.get_database_backend(), ask, values);
        let found = db.query_one_raw(ask).await?;
        let Some(found) = found else { return Ok(None) };
        let at = found.try_get_by_index::<Option<i64>>(0)?;
        Ok(at.map(|at| std::cmp::min(UnixMillis(at), now)))
    }

    /// Whether something happened on each of the days up to `heard`.
    async fn was_busy(&self, row: &account::Model, heard: UnixMillis) -> Result<bool, Error> {
        let db = self.store.reader();
        for day in 0..DAYS {
            let ask = "SELECT 1 FROM meta_event WHERE organization_id = $1 AND account_id = $2 \
                       AND event_ts > $3 AND event_ts <= $4 LIMIT 1";
            let until = heard.0 - day * DAY;
            let values = [
                row.organization_id.as_str().into(),
                row.id.as_str().into(),
                (until - DAY).into(),
                until.into(),
            ];
            let ask = Statement::from_sql_and_values(db.get_database_backend(), ask, values);
            if db.query_one_raw(ask).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a turn down, and tells its owner of it, once whichever daemon looks; false if somebody else has. With whether Meta
    /// says that the app is subscribed, as far as that is known.
    pub async fn tell_of_silence(
        &self,
        silence: Silence,
        is_subscribed: Option<bool>,
    ) -> Result<bool, Error> {
        let Silence { account: row, turn } = silence;
        let (now, known) = (self.store.clock().now(), self.store.writer().known().clone());
        let lane = row.organization_id.to_string();
        let unit = self.store.writer().run(&lane, Patience::Wait, move |txn| {
            let (row, known) = (row.clone(), known.clone());
            Box::pin(async move { take_turn(txn, &known, now, (&row, turn), is_subscribed).await })
        });
        let told = unit.await?;
        let is_new = told.is_some();
        if let Some(touched) = told {
            self.store.webhooks().touch(touched);
            self.store.writer().ring();
        }
        Ok(is_new)
    }
}

async fn take_turn(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    (row, turn): (&account::Model, Turn),
    is_subscribed: Option<bool>,
) -> Result<Option<BTreeSet<EndpointId>>, DbErr> {
    let (kind, since, silent) = match turn {
        Turn::Silent { since } => (EventType::MetaAccountSilent, since, Some(since)),
        Turn::Recovered { since } => (EventType::MetaAccountRecovered, since, None),
    };
    // Before the account's row, as by whoever carries something out.
    organizations::lock(txn, &row.organization_id).await?;
    let unchanged = match row.silent_since {
        Some(before) => account::COLUMN.silent_since.eq(before),
        None => account::COLUMN.silent_since.is_null(),
    };
    // With another version, so that whoever is changing the account looks again.
    let written = account::Entity::update_many()
        .col_expr(account::Column::SilentSince, Expr::value(silent))
        .col_expr(account::Column::Version, Expr::col(account::Column::Version).add(1))
        .filter(account::COLUMN.id.eq(row.id.clone()))
        .filter(unchanged)
        .exec(txn)
        .await?;
    if written.rows_affected == 0 {
        return Ok(None);
    }
    let about = About::Account(row);
    announce(txn, known, now, about, kind, &data(row, since, is_subscribed)).await.map(Some)
}

fn data(row: &account::Model, since: UnixMillis, is_subscribed: Option<bool>) -> Value {
    json!({
        "accountId": row.id,
        "label": row.label,
        "phoneNumberId": row.phone_number_id,
        "displayPhoneNumber": row.display_phone_number,
        "wabaId": row.waba_id,
        "silentSince": rfc3339(since),
        "appSubscribed": is_subscribed,
    })
}
