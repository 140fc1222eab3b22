//! Rows that are few among many that stay: a reader finds them, however long it looks, and the writer deletes those that
//! it is told, as far as they are still as they were found.

use std::sync::atomic::Ordering;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::Instant;

use super::{Chunk, Due, LANE};
use crate::store::{Error, Patience, Store, organizations};

impl Due {
    /// The statement that finds up to `rows` of those that are few.
    pub fn find(&self, database: DbBackend, rows: u64) -> String {
        let (name, owner) = (self.table.rows(), self.owner.as_deref().unwrap_or_default());
        let found = self.table.is_found(&self.condition, database, owner);
        let seen = self.seen.as_ref().map(|id| format!(" AND id > '{id}'")).unwrap_or_default();
        format!("SELECT id FROM {name} WHERE {found}{seen} ORDER BY id LIMIT {rows}")
    }
}

pub(super) async fn retire(store: &Store, due: &mut Due, rows: u64) -> Result<Chunk, Error> {
    let (table, db) = (due.table, store.reader());
    let (name, condition) = (table.rows(), due.condition.clone());
    let find = due.find(db.get_database_backend(), rows);
    let found = db.query_all_raw(Statement::from_string(db.get_database_backend(), find)).await?;
    let ids = found.iter().map(|row| row.try_get_by_index::<String>(0));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let Some(last) = ids.last().cloned() else {
        let none = std::time::Duration::ZERO;
        return Ok(Chunk { rows: 0, asked: rows, took: none, held: none });
    };
    due.seen = Some(last);
    // Ids of ours, which are letters and digits.
    let ids = ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let delete = format!("DELETE FROM {name} WHERE id IN ({ids}) AND {condition}");
    let organization = due.organization.clone();
    let unit = store.writer().run_aside(LANE, Patience::Fail, move |txn| {
        let (delete, organization) = (delete.clone(), organization.clone());
        Box::pin(async move {
            let begun = Instant::now();
            if let Some(organization) = organization {
                organizations::lock(txn, &organization).await?;
            }
            let rows = txn.execute_unprepared(&delete).await?.rows_affected();
            Ok((begun, begun.elapsed(), rows))
        })
    });
    let asked = rows;
    let (begun, took, rows) = unit.await?;
    store.retired.rows[table as usize].fetch_add(rows, Ordering::Relaxed);
    Ok(Chunk { rows, asked, took, held: begun.elapsed() })
}
