//! Which database this is, and how often it was used. See `crate::copies` for what that is good for.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    installation, session,
    state::{DesiredState, Origin},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QuerySelect,
    sea_query::{Expr, Query},
};

use super::{Error, Patience, Store};

/// A key of the writer's lanes.
const LANE: &str = "installation";

/// The one row's key.
const ID: i32 = 1;

/// The database's own name and count.
#[derive(Clone, Debug)]
pub struct Installation {
    store: Store,
}

impl Installation {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Name and epoch; none in a copy that was not adopted yet.
    pub async fn read(&self) -> Result<Option<installation::Model>, Error> {
        Ok(installation::Entity::find_by_id(ID).one(self.store.reader()).await?)
    }

    /// Counts one more use; answers what is there afterwards.
    pub async fn advance(&self) -> Result<Option<installation::Model>, Error> {
        let rows = self.store.writer().run(LANE, Patience::Fail, |txn| {
            Box::pin(async move {
                installation::Entity::update_many()
                    .col_expr(
                        installation::Column::Epoch,
                        Expr::col(installation::Column::Epoch).add(1_i64),
                    )
                    .exec_with_returning(txn)
                    .await
            })
        });
        Ok(rows.await?.into_iter().next())
    }

    /// No session dials before `until`, whatever becomes of the process; one that is to last longer stays.
    pub async fn pause_dials(&self, until: UnixMillis) -> Result<(), Error> {
        self.store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let paused = installation::Column::DialsPausedUntil;
                Box::pin(async move {
                    installation::Entity::update_many()
                        .col_expr(paused, Expr::value(until))
                        .filter(Condition::any().add(paused.is_null()).add(paused.lt(until)))
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }

    /// From now on this is the database `name`, used `epoch` times.
    pub async fn adopt(&self, name: String, epoch: i64) -> Result<(), Error> {
        self.store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let row = installation::Model {
                    id: ID,
                    name: name.clone(),
                    epoch,
                    dials_paused_until: None,
                };
                Box::pin(async move {
                    installation::Entity::delete_by_id(ID).exec(txn).await?;
                    row.into_active_model().insert(txn).await.map(drop)
                })
            })
            .await
    }

    /// Embedded sessions that are linked to an account, of all organizations.
    pub async fn paired(&self) -> Result<Vec<(OrganizationId, SessionKey)>, Error> {
        let sessions = session::Entity::find()
            .select_only()
            .column(session::Column::OrganizationId)
            .column(session::Column::Id)
            .filter(is_paired())
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(sessions)
    }

    /// Has no linked session start by itself.
    pub async fn hold(&self) -> Result<(), Error> {
        self.store
            .writer()
            .run(LANE, Patience::Fail, |txn| {
                Box::pin(async move {
                    session::Entity::update_many()
                        .set(session::ActiveModel {
                            desired_state: Set(DesiredState::Stopped),
                            ..Default::default()
                        })
                        .filter(is_paired())
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }
}

fn is_paired() -> Condition {
    let devices = Query::select()
        .column("id")
        .from("device")
        .and_where(Expr::col("pn").is_not_null())
        .to_owned();
    Condition::all()
        .add(session::Column::Origin.eq(Origin::Embedded))
        .add(session::Column::DeviceId.in_subquery(devices))
}
