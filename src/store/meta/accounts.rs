//! Looking accounts up.

use std::collections::BTreeSet;

use entity::{
    id::{MetaAccountId, OrganizationId},
    meta::{account, state::MetaStatus},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait as _,
};

use super::Meta;
use crate::store::{Error, page::Page};

/// Which accounts are wanted.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    pub status: Option<MetaStatus>,
    /// Meta's id of the number, to the letter.
    pub phone_number_id: Option<String>,
}

/// The most accounts that are looked at for one request of Meta's.
const MOST: u64 = 500;

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
        let found = account::Entity::find()
            .filter(account::COLUMN.verify_hash.eq(hash))
            .order_by_asc(account::COLUMN.id)
            .limit(MOST)
            .all(self.store.reader())
            .await?;
        Ok(found)
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
        let found = account::Entity::find()
            .filter(Condition::any().add(number).add(waba))
            .order_by_asc(account::COLUMN.id)
            .limit(MOST)
            .all(self.store.reader())
            .await?;
        Ok(found)
    }
}
