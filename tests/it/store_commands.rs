//! What daemons ask of each other, as it lies in the database.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use wagate::store::nodes::NewNode;

use crate::database::{Database, on_each};

/// All there is in the table, as text.
async fn lying(database: &Database) -> String {
    let db = database.connect().await;
    let ask = "SELECT request || ' ' || coalesce(answer, '') FROM command";
    let ask = Statement::from_string(db.get_database_backend(), ask);
    let rows = db.query_all_raw(ask).await.unwrap();
    db.close().await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_and_its_answer_are_read_by_those_two_and_by_nobody_who_has_the_database() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let session = opened.session("shop").await;
        let lease = Some(Duration::from_secs(30));
        let new = NewNode { home: "a".to_owned(), name: "a".to_owned(), lease };
        let node = store.nodes().join(new).await.unwrap();
        store.leases().claim(&node, vec![session.id.clone()]).await.unwrap();

        let commands = store.commands();
        let (question, answer) = ("pair 4915112345678", "the code is ABCD-EFGH");
        let asked = commands.ask(&session.id, question, Duration::from_secs(25)).await.unwrap();
        let asked = asked.expect("the session is there");
        assert!(!lying(database).await.contains("4915112345678"));
        assert_eq!(commands.find(&asked).await.unwrap().unwrap().answer, None);

        let (taken, read) = commands.waiting(&node).await.unwrap().pop().unwrap();
        assert_eq!((&taken.session, read.as_str()), (&session.id, question));
        assert!(commands.take(&taken, &node).await.unwrap());
        assert!(!commands.take(&taken, &node).await.unwrap(), "once");
        assert!(commands.waiting(&node).await.unwrap().is_empty());
        assert!(!commands.withdraw(&asked, true).await.unwrap(), "somebody carries it out");

        // The answer to a deletion outlives the session.
        assert!(store.sessions().delete(&session.organization_id, &session.id).await.unwrap());
        commands.answer(&taken, answer).await.unwrap();
        let lying = lying(database).await;
        assert!(!lying.contains("ABCD") && lying.contains("sealed:"), "{lying}");
        let reply = commands.find(&asked).await.unwrap().unwrap();
        assert_eq!((reply.taken, reply.answer.as_deref()), (true, Some(answer)));
        assert!(commands.withdraw(&asked, false).await.unwrap());
        assert_eq!(commands.find(&asked).await.unwrap(), None);

        let nobody = commands.ask(&session.id, question, Duration::from_secs(25)).await.unwrap();
        assert!(nobody.is_none(), "a session that is gone is not asked about");
        opened.close().await;
    })
    .await;
}
