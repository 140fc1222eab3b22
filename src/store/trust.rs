//! Whether a PostgreSQL connection that has done nothing still has another end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::{
    SqlxError,
    sqlx::{Connection as _, PgConnection, Postgres, pool::PoolOptions},
};
use tokio::time::{Instant, timeout};

/// How long a connection has to say that it lives, which is a round trip. More, and it would be waited for by all
/// who want to read.
const ALIVE: Duration = Duration::from_secs(2);

/// A lane's connection that did something a moment ago needs not be asked: that would be a round trip for each group.
const IDLE: Duration = Duration::from_millis(100);

/// Has a lane's pool ask its connection whether it lives, after a pause: a group that finds it silent takes as long as
/// any group may, and a daemon that stops has less.
pub(super) fn ask_when_idle(pool: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
    ask_after(IDLE, ALIVE, pool)
}

fn ask_after(
    idle: Duration,
    alive: Duration,
    pool: PoolOptions<Postgres>,
) -> PoolOptions<Postgres> {
    pool.before_acquire(move |connection, about| {
        Box::pin(async move {
            if about.idle_for < idle {
                return Ok(true);
            }
            if lives(connection, alive).await? { Ok(true) } else { Err(silent()) }
        })
    })
}

/// Whether it answers, or breaks, within the time that it has.
async fn lives(connection: &mut PgConnection, alive: Duration) -> Result<bool, SqlxError> {
    match timeout(alive, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// An error has the pool close the connection without a word to the server, which might not be heard.
fn silent() -> SqlxError {
    SqlxError::Protocol("it has gone silent".to_owned())
}

/// Until when a pool's connections were made that are not trusted any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// Has a PostgreSQL pool ask its connections whether they live, for a short time only, and close those that it
    /// is not to trust.
    pub(super) fn guard(&self, pool: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
        let (taken, given_back) = (self.clone(), self.clone());
        pool.before_acquire(move |connection, about| {
            let trust = taken.clone();
            Box::pin(async move { trust.ask(connection, about.age).await })
        })
        // The pool asks once more by itself, and waits for ever: not of one that is silent by now.
        .after_release(move |connection, about| {
            let trust = given_back.clone();
            Box::pin(async move { trust.ask(connection, about.age).await })
        })
    }

    async fn ask(&self, connection: &mut PgConnection, age: Duration) -> Result<bool, SqlxError> {
        if self.has_ended(age) {
            return Err(SqlxError::Protocol("a connection of its age has gone silent".to_owned()));
        }
        if lives(connection, ALIVE).await? {
            return Ok(true);
        }
        self.end();
        Err(silent())
    }

    /// Trusts nothing that there is now.
    pub(super) fn end(&self) {
        self.end_at(Instant::now());
    }

    fn end_at(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Whether a connection of this age is not to be trusted.
    fn has_ended(&self, age: Duration) -> bool {
        let ended = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_some_and(|ended| ended.elapsed() <= age)
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sqlx::Pool;

    use super::*;
    use crate::store::peer::Peer;

    #[test]
    fn only_what_was_made_after_the_silence_is_trusted() {
        let trust = Trust::default();
        assert!(!trust.has_ended(Duration::from_hours(1)));
        trust.end_at(Instant::now().checked_sub(Duration::from_mins(10)).unwrap());
        assert!(trust.has_ended(Duration::from_mins(11)));
        assert!(trust.has_ended(Duration::from_hours(1)));
        assert!(!trust.has_ended(Duration::from_mins(9)));
    }

    /// A lane's pool, which asks what has done nothing for `idle`.
    fn lane(peer: &Peer, idle: Duration) -> Pool<Postgres> {
        let pool = PoolOptions::new().max_connections(1).test_before_acquire(false);
        let alive = Duration::from_millis(500);
        ask_after(idle, alive, pool).connect_lazy_with(peer.options())
    }

    /// A group: its connection is used, and given back.
    async fn group(pool: &Pool<Postgres>) -> Result<(), SqlxError> {
        let mut connection = pool.acquire().await?;
        connection.ping().await
    }

    #[tokio::test]
    async fn a_connection_that_did_nothing_is_asked_before_a_group_begins_and_replaced_if_it_is_silent()
     {
        let peer = Peer::new().await;
        let pool = lane(&peer, Duration::ZERO);
        for _ in 0..3 {
            group(&pool).await.unwrap();
        }
        assert_eq!(peer.connections(), 1, "it lives");
        // Back in the pool before it falls silent: the pool asks it then, too, and without end.
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        peer.fall_silent();
        group(&pool).await.unwrap();
        assert_eq!(peer.connections(), 2);
        assert_eq!(pool.size(), 1, "the silent one is not there any more");
    }

    #[tokio::test]
    async fn a_connection_that_has_just_done_something_is_not_asked() {
        let peer = Peer::new().await;
        let pool = lane(&peer, Duration::from_hours(1));
        group(&pool).await.unwrap();
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        peer.fall_silent();
        drop(pool.acquire().await.unwrap());
        assert_eq!(peer.connections(), 1);
    }
}
