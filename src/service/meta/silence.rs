//! Watches for accounts that have fallen silent: Meta tells of nothing when an app is no longer subscribed, a token is dead or an
//! address has become wrong, and nobody else would notice.

use std::time::Duration;

use entity::meta::account;
use tokio_util::sync::CancellationToken;

use super::Meta;
use crate::{
    clock::Clock,
    graph::{Error, Graph},
    store::{self, Store},
};

/// How long it is between two looks.
const LOOK: Duration = Duration::from_mins(10);

/// So long after a look has begun Meta is asked nothing more in it: owners are told whatever Meta takes its time for.
const ASKING: Duration = Duration::from_mins(1);

/// Whether Meta may be asked something in a look.
#[derive(Debug)]
struct Asking {
    until: Duration,
    /// It has not failed to answer.
    answers: bool,
}

impl Asking {
    fn begin(clock: &Clock) -> Self {
        Self { until: clock.monotonic() + ASKING, answers: true }
    }

    fn may(&self, clock: &Clock) -> bool {
        self.answers && clock.monotonic() < self.until
    }
}

/// Looks for silence. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch {
    store: Store,
    graph: Graph,
    after: Duration,
}

impl Meta {
    /// A watch that stands still until it is run.
    pub fn watch(&self) -> Watch {
        Watch {
            store: self.store.clone(),
            graph: self.graph.clone(),
            after: self.options.silent_after,
        }
    }
}

impl Watch {
    /// Looks again and again, until it is stopped. Never, where the operator wants none.
    pub async fn run(self, stop: CancellationToken) {
        if self.after.is_zero() {
            return;
        }
        let clock = self.store.clock().clone();
        loop {
            if let Err(error) = self.look_until(&stop).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Accounts at Meta could not be looked at"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
        }
    }

    /// Looks once, and tells what has changed. How much has.
    pub async fn look(&self) -> Result<usize, store::Error> {
        self.look_until(&CancellationToken::new()).await
    }

    async fn look_until(&self, stop: &CancellationToken) -> Result<usize, store::Error> {
        if self.after.is_zero() {
            return Ok(0);
        }
        let meta = self.store.meta();
        let (mut turns, mut last, mut asking) = (0, None, Asking::begin(self.store.clock()));
        while let Some((found, end)) = meta.look_for_silence(self.after, last.as_ref()).await? {
            last = Some(end);
            for silence in found {
                // Meta may be slow: what is left is found at the next look.
                if stop.is_cancelled() {
                    return Ok(turns);
                }
                let is_subscribed = if silence.begins() && asking.may(self.store.clock()) {
                    self.is_subscribed(&silence.account, &mut asking).await?
                } else {
                    None
                };
                turns += usize::from(meta.tell_of_silence(silence, is_subscribed).await?);
            }
        }
        Ok(turns)
    }

    /// Whether Meta says that the account's app is subscribed to its business account. Not known if the account does not say
    /// which app and business account these are, or Meta does not answer its token.
    async fn is_subscribed(
        &self,
        row: &account::Model,
        asking: &mut Asking,
    ) -> Result<Option<bool>, store::Error> {
        let Some(waba) = &row.waba_id else { return Ok(None) };
        let Some(token) = self.store.meta().access_token(row).await? else { return Ok(None) };
        match self.graph.subscribed_apps(token.expose(), waba).await {
            Ok(apps) => Ok(apps.has(row.app_id.as_deref())),
            Err(error) => {
                // It is not asked of the others, who would wait as long for nothing.
                asking.answers = !matches!(error, Error::Unreachable(_) | Error::Unanswered(_));
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    meta.account = %row.id,
                    "Meta does not say whether a silent account's app is subscribed"
                );
                Ok(None)
            }
        }
    }
}
