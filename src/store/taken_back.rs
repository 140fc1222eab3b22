//! What daemons claimed of their sessions' sockets, and is not true any more: they are dead, or have fallen silent.

use entity::{
    id::{NodeId, SessionKey},
    lease, node, session,
    state::{DesiredState, Origin, SessionStatus},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};

use super::{
    Error,
    leases::{CHUNK, Leases, lock_free, of_session},
    nodes::Life,
    sessions::{LIVE, take_back},
    writer::Patience,
};

impl Leases {
    /// Sessions of a node whose statuses claim more than that they shall be connected.
    pub async fn claimed(&self, node: &NodeId) -> Result<Vec<SessionKey>, Error> {
        let shall_run = Condition::all()
            .add(session::COLUMN.desired_state.eq(DesiredState::Running))
            .add(session::COLUMN.status.ne(SessionStatus::Connecting));
        let keys = lease::Entity::find()
            .select_only()
            .column(lease::Column::SessionKey)
            .join(JoinType::InnerJoin, of_session())
            .filter(lease::COLUMN.node_id.eq(node.clone()))
            .filter(session::COLUMN.origin.eq(Origin::Embedded))
            .filter(session::COLUMN.status.is_in(LIVE))
            .filter(
                Condition::any()
                    .add(session::COLUMN.desired_state.eq(DesiredState::Stopped))
                    .add(shall_run),
            )
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(keys)
    }

    /// Takes back what a daemon that has fallen silent claimed of these sessions' sockets. They stay its own
    /// until its time is over; if it has said meanwhile that it lives, nothing is changed.
    pub async fn take_back_from(
        &self,
        life: &Life,
        sessions: Vec<SessionKey>,
    ) -> Result<(), Error> {
        let now = self.store.clock().now();
        for some in sessions.chunks(CHUNK) {
            let (life, some) = (life.clone(), some.to_vec());
            self.store
                .writer()
                .run("take_back", Patience::Fail, move |txn| {
                    let (life, some) = (life.clone(), some.clone());
                    Box::pin(async move {
                        // Locked until the commit: nobody takes one of them over meanwhile.
                        let still: Vec<SessionKey> = lease::Entity::find()
                            .filter(lease::COLUMN.session_key.is_in(some))
                            .filter(lease::COLUMN.node_id.eq(life.node.clone()))
                            .order_by_asc(lease::COLUMN.session_key)
                            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                            .all(txn)
                            .await?
                            .into_iter()
                            .map(|row| row.session_key)
                            .collect();
                        let is_silent = node::Entity::find_by_id(life.node)
                            .filter(node::COLUMN.expires_at.eq(life.expires_at))
                            .one(txn)
                            .await?
                            .is_some();
                        if is_silent { take_back(txn, still, now).await } else { Ok(()) }
                    })
                })
                .await?;
        }
        Ok(())
    }

    /// Takes back what the last owners of these sessions claimed of their sockets: they are gone.
    ///
    /// A session that shall run is `connecting` from now on, any other is not connected. Statuses
    /// that say why a session ended stay, and so does everything of a session that has an owner.
    pub async fn take_back(&self, sessions: Vec<SessionKey>) -> Result<(), Error> {
        let now = self.store.clock().now();
        for some in sessions.chunks(CHUNK) {
            let some = some.to_vec();
            self.store
                .writer()
                .run("take_back", Patience::Fail, move |txn| {
                    let some = some.clone();
                    Box::pin(async move {
                        // Locked until the commit: nobody comes to own one of them meanwhile.
                        let free = lock_free(txn, &some).await?;
                        take_back(txn, free, now).await
                    })
                })
                .await?;
        }
        Ok(())
    }
}
