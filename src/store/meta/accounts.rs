//! Looking accounts up.

use std::collections::BTreeSet;

use entity::{
    id::{MetaAccountId, OrganizationId, SessionKey},
    meta::{account, state::MetaStatus},
    session,
    state::Origin,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait as _, Select, Statement,
};

use super::{Meta, carry::session_name};
use crate::store::{Error, page::Page};

/// Which accounts are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFilter {
    pub status: Option<MetaStatus>,
    /// Meta's id of the number, to the letter.
    pub phone_number_id: Option<String>,
}

/// The most accounts of one organization: all of them are looked at for a request of Meta's.
pub const MOST: u64 = 500;

impl Meta {
    /// Looks an account up.
    pub async fn account(
        &self,
        organization: &OrganizationId,
        id: &MetaAccountId,
    ) -> Result<Option<account::Model>, Error> {
        let found = account::Entity::find_by_id(id.clone())
            .filter(account::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// An organization's account of a phone number.
    pub async fn account_of_number(
        &self,
        organization: &OrganizationId,
        phone_number_id: &str,
    ) -> Result<Option<account::Model>, Error> {
        let found = account::Entity::find()
            .filter(account::COLUMN.organization_id.eq(organization.clone()))
            .filter(account::COLUMN.phone_number_id.eq(phone_number_id))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// Whether another organization had messages of a phone number that none but this one has now. Whoever claims a number that
    /// somebody has is told by an app of his own, and of what that one signs nothing is somebody else's.
    pub async fn was_anothers(
        &self,
        organization: &OrganizationId,
        phone_number_id: &str,
    ) -> Result<bool, Error> {
        let found = session::Entity::find()
            .filter(session::COLUMN.session_id.eq(session_name(phone_number_id, "")))
            .filter(session::COLUMN.origin.eq(Origin::Cloud))
            .filter(session::COLUMN.organization_id.ne(organization.clone()))
            .limit(1)
            .one(self.store.reader())
            .await?;
        if found.is_none() {
            return Ok(false);
        }
        let has = account::Entity::find()
            .filter(account::COLUMN.phone_number_id.eq(phone_number_id))
            .filter(account::COLUMN.organization_id.ne(organization.clone()))
            .limit(1)
            .one(self.store.reader())
            .await?;
        Ok(has.is_none())
    }

    /// An organization's account whose messages are kept under a session.
    pub async fn account_of_session(
        &self,
        organization: &OrganizationId,
        session: &SessionKey,
    ) -> Result<Option<account::Model>, Error> {
        let found = account::Entity::find()
            .filter(account::COLUMN.organization_id.eq(organization.clone()))
            .filter(account::COLUMN.session_key.eq(session.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// A page of an organization's accounts, the oldest first.
    pub async fn accounts(
        &self,
        organization: &OrganizationId,
        filter: &AccountFilter,
        page: &Page<MetaAccountId>,
    ) -> Result<Vec<account::Model>, Error> {
        let AccountFilter { status, phone_number_id } = filter.clone();
        let mut query = account::Entity::find()
            .filter(account::COLUMN.organization_id.eq(organization.clone()))
            .apply_if(status, |query, status| query.filter(account::COLUMN.status.eq(status)))
            .apply_if(phone_number_id, |query, number| {
                query.filter(account::COLUMN.phone_number_id.eq(number))
            })
            .order_by_asc(account::COLUMN.created_at)
            .order_by_asc(account::COLUMN.id)
            .limit(page.limit);
        if let Some(after) = &page.after {
            let later = account::COLUMN.created_at.gt(after.at);
            let same_time = account::COLUMN.created_at.eq(after.at);
            let higher_id = account::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// The accounts with this verify token, whosever they are, by its hash.
    pub async fn with_verify_token(&self, hash: &str) -> Result<Vec<account::Model>, Error> {
        self.of_everybody(has_verify_token(hash)).await
    }

    /// The account whose own path ends so.
    pub async fn at_path(&self, key: &str) -> Result<Option<account::Model>, Error> {
        let found = account::Entity::find()
            .filter(account::COLUMN.callback_key.eq(key))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// The accounts, whosever they are, of these phone numbers and business accounts. The oldest first.
    pub async fn named(
        &self,
        numbers: &BTreeSet<String>,
        wabas: &BTreeSet<String>,
    ) -> Result<Vec<account::Model>, Error> {
        if numbers.is_empty() && wabas.is_empty() {
            return Ok(Vec::new());
        }
        let number = account::Column::PhoneNumberId.is_in(numbers.iter().cloned());
        let waba = account::Column::WabaId.is_in(wabas.iter().cloned());
        self.of_everybody(Condition::any().add(number).add(waba)).await
    }

    /// Whose accounts have an app with one of these secrets, by its print, and what these are like. Of several organizations not
    /// all may be there.
    pub async fn owners_of_apps(
        &self,
        prints: Vec<String>,
    ) -> Result<Vec<(OrganizationId, MetaStatus)>, Error> {
        let found = account::Entity::find()
            .select_only()
            .column(account::Column::OrganizationId)
            .column(account::Column::Status)
            .distinct()
            .filter(account::Column::AppPrint.is_in(prints))
            // One organization has as many as there are statuses at most.
            .limit(4)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(found)
    }

    /// An account of each app that is not the installation's, whosever it is. Of more than `most` they are some: one of each
    /// organization before the second of any, and others the next time.
    pub async fn apps(&self, most: u64) -> Result<Vec<account::Model>, Error> {
        let find = format!(
            "SELECT m.* FROM meta_account m JOIN (\
             SELECT id, ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY id) AS turn FROM (\
             SELECT organization_id, MIN(id) AS id FROM meta_account WHERE app_print <> '' \
             GROUP BY organization_id, app_print) one) a ON a.id = m.id \
             ORDER BY a.turn, RANDOM() LIMIT {most}"
        );
        let db = self.store.reader();
        let find = Statement::from_string(db.get_database_backend(), find);
        Ok(account::Entity::find().from_raw_sql(find).all(db).await?)
    }

    /// The accounts of which this is true, whosever they are. The oldest first, but where there are very many: then those of one
    /// organization after those of the other, so that none of them leaves no room for another's.
    async fn of_everybody(&self, condition: Condition) -> Result<Vec<account::Model>, Error> {
        let those = account::Entity::find().filter(condition);
        let reader = self.store.reader();
        let found = oldest(those.clone()).all(reader).await?;
        if u64::try_from(found.len()).is_ok_and(|found| found < MOST) {
            return Ok(found);
        }
        let owners: Vec<OrganizationId> = those
            .clone()
            .select_only()
            .column(account::Column::OrganizationId)
            .distinct()
            .order_by_asc(account::COLUMN.organization_id)
            .into_tuple()
            .all(reader)
            .await?;
        let mut found = Vec::new();
        for owner in owners {
            let theirs = those.clone().filter(account::COLUMN.organization_id.eq(owner));
            found.extend(oldest(theirs).all(reader).await?);
        }
        Ok(found)
    }
}

/// The accounts with this verify token, whosever they are, by its hash.
pub fn of_verify_token(hash: &str) -> Select<account::Entity> {
    oldest(account::Entity::find().filter(has_verify_token(hash)))
}

fn has_verify_token(hash: &str) -> Condition {
    Condition::all().add(account::COLUMN.verify_hash.eq(hash))
}

fn oldest(those: Select<account::Entity>) -> Select<account::Entity> {
    those.order_by_asc(account::COLUMN.id).limit(MOST)
}
