//! The operator's token: from its file into the database, if it may be.

use entity::id::OrganizationId;

use super::StartError;
use crate::{
    service::{Tokens, tokens::Adopted},
    state_dir::{OperatorToken, StateDir},
    store::Store,
};

/// What the token is called in lists.
const LABEL: &str = "operator.token";

/// Lets the database know of the operator's token. One that opens nothing is complained about, and stays where it is:
/// whoever has revoked it has others.
pub(super) async fn adopt(
    store: &Store,
    state: &StateDir,
    organization: &OrganizationId,
) -> Result<(), StartError> {
    let OperatorToken { secret, is_fresh } = state.operator_token(Tokens::new_secret)?;
    let adopted = Tokens::new(store.clone())
        .adopt(organization, (LABEL, &secret), is_fresh)
        .await
        .map_err(StartError::FirstRun)?;
    state.told_operator_token()?;
    let file = state.token_path();
    let file = file.display();
    match adopted {
        Adopted::Known => {}
        Adopted::New(id) => {
            tracing::info!(token.id = %id, "The token in {file} is an operator's from now on");
        }
        Adopted::Ended(id) => tracing::warn!(
            token.id = %id,
            "The token in {file} is revoked or expired, and opens nothing; delete the file and start \
             again to be given another one"
        ),
        Adopted::Unknown => tracing::warn!(
            "The token in {file} is none of this database's, which has others, and opens nothing; delete \
             the file and start again to be given another one"
        ),
    }
    Ok(())
}
