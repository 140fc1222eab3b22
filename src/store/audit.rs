//! The audit log: who changed what, written in the transaction that changes it.

use std::net::IpAddr;

use entity::{
    UnixMillis, audit,
    id::{AuditId, OrganizationId, TokenId, in_order},
    kind::AuditAction,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Value, json};

use super::{Error, Patience, Store, organizations, page::Page};

/// Who changes something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// Nobody's, when it was done at the machine itself.
    pub token_id: Option<TokenId>,
    pub address: Option<IpAddr>,
    /// Whoever was at the command line there, as the system calls them.
    pub machine_user: Option<String>,
}

impl By {
    /// Somebody at the command line.
    pub fn machine_user(name: String) -> Self {
        Self { machine_user: Some(name), ..Self::default() }
    }
}

/// Writes an entry, in the transaction of the change. `detail` is an object without secrets; who was at the command line
/// is added to it, as there is neither token nor address then.
pub(super) async fn write(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    by: &By,
    at: UnixMillis,
    (action, target): (AuditAction, &str),
    detail: &Value,
) -> Result<(), DbErr> {
    let mut detail = detail.clone();
    if let Some(user) = &by.machine_user {
        detail["by"] = json!({ "via": "command line", "user": user });
    }
    audit::Model {
        id: AuditId::new(at, in_order(rand::random())),
        organization_id: organization.clone(),
        action,
        target: target.to_owned(),
        detail: detail.to_string(),
        token_id: by.token_id.clone(),
        address: by.address.map(|address| address.to_canonical().to_string()),
        at,
    }
    .into_active_model()
    .insert(txn)
    .await
    .map(drop)
}

/// Writes that what was asked for has come about, by whoever asked for it last since then; by nobody, if nobody has.
pub(super) async fn write_done(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    (asked, since): (AuditAction, UnixMillis),
    at: UnixMillis,
    (done, target): (AuditAction, &str),
) -> Result<(), DbErr> {
    let entry = audit::Entity::find()
        .filter(audit::COLUMN.organization_id.eq(organization.clone()))
        .filter(audit::COLUMN.at.gte(since))
        .filter(audit::COLUMN.action.eq(asked))
        .filter(audit::COLUMN.target.eq(target))
        .order_by_desc(audit::COLUMN.at)
        .order_by_desc(audit::COLUMN.id)
        .one(txn)
        .await?;
    let by = entry.map_or_else(By::default, |entry| By {
        token_id: entry.token_id,
        address: entry.address.and_then(|address| address.parse().ok()),
        machine_user: None,
    });
    write(txn, organization, &by, at, (done, target), &json!({})).await
}

/// Writes what somebody at the machine itself has changed for all tenants: to the log of the first organization, which is
/// the operator's own. Nowhere, while there is none.
pub(super) async fn write_of_daemon(
    txn: &DatabaseTransaction,
    by: &By,
    at: UnixMillis,
    what: (AuditAction, &str),
    detail: &Value,
) -> Result<(), DbErr> {
    let Some(first) = organizations::first(txn).await? else { return Ok(()) };
    write(txn, &first.id, by, at, what, detail).await
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub action: Option<AuditAction>,
    /// The id of what was changed.
    pub target: Option<String>,
    pub token_id: Option<TokenId>,
    /// From this time on, and before that one.
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
}

/// Queries over the audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
}

impl Audit {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes that the daemon goes by other values of these keys of its configuration from now on.
    pub async fn configuration_changed(
        &self,
        node: String,
        keys: Vec<String>,
    ) -> Result<(), Error> {
        let at = self.store.clock().now();
        self.store
            .writer()
            .run("audit", Patience::Fail, move |txn| {
                let (node, detail) = (node.clone(), json!({ "keys": keys }));
                Box::pin(async move {
                    let what = (AuditAction::ConfigurationChanged, node.as_str());
                    write_of_daemon(txn, &By::default(), at, what, &detail).await
                })
            })
            .await
    }

    /// A page of an organization's entries, the newest first.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        filter: &Filter,
        page: &Page<AuditId>,
    ) -> Result<Vec<audit::Model>, Error> {
        let mut query = audit::Entity::find()
            .filter(audit::COLUMN.organization_id.eq(organization.clone()))
            .order_by_desc(audit::COLUMN.at)
            .order_by_desc(audit::COLUMN.id)
            .limit(page.limit);
        let Filter { action, target, token_id, since, until } = filter.clone();
        let wanted = Condition::all()
            .add_option(action.map(|action| audit::COLUMN.action.eq(action)))
            .add_option(target.map(|target| audit::COLUMN.target.eq(target)))
            .add_option(token_id.map(|token| audit::COLUMN.token_id.eq(token)))
            .add_option(since.map(|since| audit::COLUMN.at.gte(since)))
            .add_option(until.map(|until| audit::COLUMN.at.lt(until)));
        query = query.filter(wanted);
        if let Some(after) = &page.after {
            let earlier = audit::COLUMN.at.lt(after.at);
            let same_time = audit::COLUMN.at.eq(after.at);
            let lower_id = audit::COLUMN.id.lt(after.id.clone());
            query = query.filter(
                Condition::any().add(earlier).add(Condition::all().add(same_time).add(lower_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }
}
