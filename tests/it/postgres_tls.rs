//! TLS to PostgreSQL: what each `sslmode` asks for, against a server with a certificate.

use std::{net::TcpListener, path::Path};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{
        Patience, Store,
        connect::{OpenError, Options},
    },
};

use crate::{database, postgres::Cluster};

/// An authority that signs the server's certificate, which is for the name `localhost` alone, and
/// another one that has signed nothing.
const CERTIFICATES: &str = r#"
    authority() {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"
    }
    authority right
    authority wrong
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj /CN=localhost -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > server.ext
    openssl x509 -req -in server.csr -CA right.crt -CAkey right.key -CAcreateserial -days 2 \
        -extfile server.ext -out server.crt
    chmod 600 server.key
    printf 'ssl = on\nssl_cert_file = "%s"\nssl_key_file = "%s"\n' ../server.crt ../server.key \
        | tr '"' "'" >> data/postgresql.conf
    printf 'local all all trust\nhostssl all all 127.0.0.1/32 trust\n' > data/pg_hba.conf
"#;

async fn open(url: &str) -> Result<(Store, TaskTracker), OpenError> {
    let tracker = TaskTracker::new();
    let store =
        Store::open(Options::new(url), database::vault(), Clock::system(), &tracker).await?;
    Ok((store, tracker))
}

/// Whether the writer's connection is encrypted.
async fn is_encrypted(url: &str) -> Result<bool, OpenError> {
    let (store, tracker) = open(url).await?;
    let ask = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted = store.writer().run("ssl", Patience::Fail, move |txn| {
        Box::pin(async move {
            let ask = Statement::from_string(DbBackend::Postgres, ask);
            txn.query_one_raw(ask).await?.unwrap().try_get_by_index::<bool>(0)
        })
    });
    let encrypted = encrypted.await.unwrap();
    store.close().await;
    tracker.close();
    tracker.wait().await;
    Ok(encrypted)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_gets_what_it_asks_for_or_is_refused() {
    let Some(binaries) = database::server_binaries() else { return };
    // Free a moment ago; PostgreSQL has no other way to be told one.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off");
    let cluster = tokio::task::spawn_blocking(move || {
        Cluster::start(&binaries, Path::new("/tmp"), &settings, CERTIFICATES).unwrap()
    });
    let cluster = cluster.await.unwrap();
    // The directory is the server's own; what a client needs is copied out, as an operator does.
    let certificates = tempfile::tempdir().unwrap();
    for name in ["right.crt", "wrong.crt"] {
        std::fs::copy(cluster.directory.join(name), certificates.path().join(name)).unwrap();
    }
    let url = |host: &str, mode: &str, root: &str| {
        let root = certificates.path().join(root);
        format!(
            "postgres://postgres@{host}:{port}/postgres?sslmode={mode}&sslrootcert={}",
            root.display()
        )
    };

    for (host, mode, root, accepted) in [
        ("localhost", "verify-full", "right.crt", true),
        ("localhost", "verify-full", "wrong.crt", false),
        // The certificate is for another name.
        ("127.0.0.1", "verify-full", "right.crt", false),
        ("127.0.0.1", "verify-ca", "right.crt", true),
        ("127.0.0.1", "verify-ca", "wrong.crt", false),
    ] {
        let opened = is_encrypted(&url(host, mode, root)).await;
        let what = format!("{mode} of {host} with {root}: {opened:?}");
        match opened {
            Ok(encrypted) => assert!(accepted && encrypted, "{what}"),
            Err(refusal) => {
                assert!(!accepted && matches!(refusal, OpenError::Connect(_)), "{what}");
            }
        }
    }
    let plain = format!("postgres://postgres@localhost:{port}/postgres?sslmode=");
    assert!(is_encrypted(&format!("{plain}require")).await.unwrap());
    // The server demands it: who asks for nothing gets it, and who will not have it is turned away.
    let silent = plain.trim_end_matches("?sslmode=");
    assert!(is_encrypted(silent).await.unwrap());
    let refusal = is_encrypted(&format!("{plain}disable")).await.unwrap_err();
    assert!(matches!(refusal, OpenError::Connect(_)), "{refusal:?}");

    // A server without TLS is refused where it is required, before anything is told to it.
    let directory = cluster.directory.display();
    let socket = format!("postgres://postgres@localhost:{port}/postgres?host={directory}");
    let admin = sea_orm::Database::connect(socket).await.unwrap();
    let any = format!(
        "COPY (VALUES ('local all all trust'), ('host all all 127.0.0.1/32 trust')) \
         TO '{directory}/data/pg_hba.conf'"
    );
    admin.execute_unprepared(&any).await.unwrap();
    admin.execute_unprepared("ALTER SYSTEM SET ssl = off").await.unwrap();
    admin.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    // The reload is seen by a new connection, some time.
    let prefer = format!("{plain}prefer");
    let off = async { while !matches!(is_encrypted(&prefer).await, Ok(false)) {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), off).await.unwrap();
    assert!(!is_encrypted(&format!("{plain}disable")).await.unwrap());
    let refusal = is_encrypted(&format!("{plain}require")).await.unwrap_err();
    assert!(matches!(refusal, OpenError::Connect(_)), "{refusal:?}");
    admin.close().await.unwrap();
    tokio::task::spawn_blocking(move || drop(cluster)).await.unwrap();
}
