//! What can go wrong with the database, sorted by what should be done about it.

use sea_orm::{DbErr, RuntimeErr, SqlErr, SqlxError};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement itself is at fault; the same one will fail again.
    #[error("the database refused a statement")]
    Database(#[source] DbErr),
    /// Connection lost, no connection free, disk full, read-only, or busy beyond patience.
    #[error("the database is not available")]
    Unavailable(#[source] DbErr),
    /// It alone took longer than everything in one transaction may take, on a database that takes writes. Nothing
    /// was written.
    #[error("it took longer than one unit of work may")]
    TooLong,
    /// Somebody else owns the session that this was written for. Nothing was written.
    #[error("the session has another owner")]
    LeaseLost,
    /// The store was closed; nothing is read or written any more.
    #[error("the store is closed")]
    Stopped,
}

impl Error {
    /// Whether a row with the same unique key is there already.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Database(err)
            if matches!(err.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))))
    }
}

impl From<DbErr> for Error {
    fn from(err: DbErr) -> Self {
        match Fault::of(&err) {
            Fault::Statement => Self::Database(err),
            Fault::Contention | Fault::Outage => Self::Unavailable(err),
        }
    }
}

/// Who is to blame for an error, and so what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement: trying again is useless.
    Statement,
    /// Another transaction was in the way: the whole transaction may simply be run again, now.
    Contention,
    /// The database: later, on a new connection.
    Outage,
}

impl Fault {
    /// Sorts an error.
    pub(crate) fn of(err: &DbErr) -> Self {
        match err {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Outage,
            DbErr::Exec(RuntimeErr::SqlxError(err)) | DbErr::Query(RuntimeErr::SqlxError(err)) => {
                Self::of_driver(err)
            }
            _ => Self::Statement,
        }
    }

    fn of_driver(err: &SqlxError) -> Self {
        match err {
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
            // The two ends no longer agree where in the conversation they are, or in what
            // transaction: only a new connection helps.
            | SqlxError::Protocol(_)
            | SqlxError::InvalidSavePointStatement
            | SqlxError::BeginFailed => Self::Outage,
            SqlxError::Database(err) => err.code().map_or(Self::Statement, |code| of_code(&code)),
            _ => Self::Statement,
        }
    }
}

/// Sorts a database's own code: five characters of SQLSTATE, or SQLite's (extended) number.
fn of_code(code: &str) -> Fault {
    if code.len() == 5 {
        return match code {
            // Serialization failure, deadlock, lock not available.
            "40001" | "40P01" | "55P03" => Fault::Contention,
            // A standby, or a primary being demoted; a transaction that was left open, or took, for too long.
            "25006" | "25P03" | "25P04" => Fault::Outage,
            // Connection lost; out of disk, memory or connections; operator intervention; I/O;
            // the server's configuration file or its data (an index, a page) is damaged. Whoever
            // repairs that finds everything still waiting.
            code if ["08", "53", "57", "58", "F0", "XX"].iter().any(|it| code.starts_with(it)) => {
                Fault::Outage
            }
            _ => Fault::Statement,
        };
    }
    // The lower byte is the primary code; the rest says more about it.
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED, INTERRUPT.
        Ok(5 | 6 | 9) => Fault::Contention,
        // NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
        Ok(7 | 8 | 10 | 11 | 13 | 14 | 15 | 26) => Fault::Outage,
        _ => Fault::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_helps() {
        for (code, fault) in [
            ("23505", Fault::Statement),
            ("25P02", Fault::Statement),
            ("40001", Fault::Contention),
            ("40P01", Fault::Contention),
            ("53100", Fault::Outage),
            ("53200", Fault::Outage),
            ("53300", Fault::Outage),
            ("57014", Fault::Outage),
            ("57P01", Fault::Outage),
            ("57P02", Fault::Outage),
            ("57P03", Fault::Outage),
            ("58000", Fault::Outage),
            ("58030", Fault::Outage),
            ("F0000", Fault::Outage),
            ("XX000", Fault::Outage),
            ("XX001", Fault::Outage),
            ("XX002", Fault::Outage),
            ("42P01", Fault::Statement),
            ("22021", Fault::Statement),
            ("08006", Fault::Outage),
            ("25006", Fault::Outage),
            ("25P03", Fault::Outage),
            ("25P04", Fault::Outage),
            ("1", Fault::Statement),
            ("5", Fault::Contention),
            ("517", Fault::Contention),
            ("11", Fault::Outage),
            // CORRUPT_INDEX.
            ("779", Fault::Outage),
            ("26", Fault::Outage),
            ("13", Fault::Outage),
            ("778", Fault::Outage),
            ("1555", Fault::Statement),
            ("2067", Fault::Statement),
        ] {
            assert_eq!(of_code(code), fault, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_an_outage() {
        let err = DbErr::Query(RuntimeErr::SqlxError(SqlxError::PoolTimedOut.into()));
        assert!(matches!(Error::from(err), Error::Unavailable(_)));
        assert!(matches!(Error::from(DbErr::RecordNotInserted), Error::Database(_)));
    }
}
