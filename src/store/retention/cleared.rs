//! Rows of a session that was deleted, whatever their age: a reader finds some of them, and the writer deletes those.

use entity::id::SessionKey;
use sea_orm::{ConnectionTrait, Statement};
use tokio::time::Instant;

use super::{BYTES, Chunk, LANE, Retention, Table};
use crate::store::{Error, Patience};

impl Retention {
    /// Deletes up to `rows` of what a session has in `table`; fewer, if they are large. None if there is nothing.
    pub(in crate::store) async fn clear(
        &self,
        table: Table,
        session: &SessionKey,
        rows: u64,
    ) -> Result<Option<Chunk>, Error> {
        if table.key() != "id" {
            return self.clear_small(table, session, rows).await;
        }
        let (db, name) = (self.store.reader(), table.rows());
        let weight = table.weight().unwrap_or("0");
        // In no order: an index finds the session's.
        let ask = Statement::from_sql_and_values(
            db.get_database_backend(),
            format!(
                "SELECT id, CAST({weight} AS BIGINT) FROM {name} WHERE session_key = $1 LIMIT {rows}"
            ),
            [session.as_str().into()],
        );
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for row in db.query_all_raw(ask).await? {
            bytes += row.try_get_by_index::<i64>(1)?;
            if !ids.is_empty() && bytes > BYTES {
                break;
            }
            // Ids of ours, which are letters and digits.
            ids.push(format!("'{}'", row.try_get_by_index::<String>(0)?));
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let delete = format!("DELETE FROM {name} WHERE id IN ({})", ids.join(", "));
        let chunk = self.bite(delete).await?;
        Ok(Some(Chunk { asked: ids.len() as u64, ..chunk }))
    }

    /// The same of a table whose rows are small, and have no ids.
    async fn clear_small(
        &self,
        table: Table,
        session: &SessionKey,
        rows: u64,
    ) -> Result<Option<Chunk>, Error> {
        let (name, key) = (table.rows(), table.key());
        // A key of ours, which is letters and digits.
        let delete = format!(
            "DELETE FROM {name} WHERE ({key}) IN \
             (SELECT {key} FROM {name} WHERE session_key = '{session}' LIMIT {rows})"
        );
        let chunk = self.bite(delete).await?;
        Ok((chunk.rows > 0).then_some(chunk))
    }

    /// Carries out one statement that deletes.
    async fn bite(&self, delete: String) -> Result<Chunk, Error> {
        let unit = self.store.writer().run_aside(LANE, Patience::Fail, move |txn| {
            let delete = delete.clone();
            Box::pin(async move {
                let begun = Instant::now();
                let rows = txn.execute_unprepared(&delete).await?.rows_affected();
                Ok((begun, begun.elapsed(), rows))
            })
        });
        let (begun, took, rows) = unit.await?;
        Ok(Chunk { rows, asked: rows, took, held: begun.elapsed() })
    }
}
