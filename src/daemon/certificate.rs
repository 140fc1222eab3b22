//! The certificate, looked at again when it may be another.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::http::{Reloaded, Tls, TlsError};

/// How soon a certificate that was replaced is served. Its files are small, and read from memory.
const EVERY: Duration = Duration::from_secs(10);

/// Looks at the files from time to time, until it is told to stop.
pub(super) async fn watch(tls: Arc<Tls>, stop: CancellationToken) {
    let mut complained_of = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match reload(&tls).await {
            Some(Err(error)) => {
                // Told once, for as long as it is the same.
                let what = error.to_string();
                if complained_of.as_ref() != Some(&what) {
                    complain(&error);
                    complained_of = Some(what);
                }
            }
            Some(Ok(outcome)) => {
                complained_of = None;
                if outcome == Reloaded::Replaced {
                    tracing::info!("The certificate is replaced");
                }
            }
            None => {}
        }
    }
}

/// Looks at the files because somebody asked, and says what came of it in any case.
pub(super) async fn look(tls: &Arc<Tls>) {
    match reload(tls).await {
        Some(Ok(Reloaded::Replaced)) => tracing::info!("The certificate is replaced"),
        Some(Ok(Reloaded::Same)) => tracing::info!("The certificate is the same as before"),
        Some(Err(error)) => complain(&error),
        None => {}
    }
}

/// None if the runtime is ending.
async fn reload(tls: &Arc<Tls>) -> Option<Result<Reloaded, TlsError>> {
    let tls = Arc::clone(tls);
    tokio::task::spawn_blocking(move || tls.reload()).await.ok()
}

fn complain(error: &TlsError) {
    let error: &dyn std::error::Error = error;
    tracing::error!(error, "The new certificate is of no use: the one before is served");
}
