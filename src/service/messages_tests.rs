use super::*;

#[test]
fn ids_look_like_those_of_the_web_client() {
    let id = whatsapp_id();
    assert_eq!(id.len(), 22);
    assert!(id.starts_with("3EB0"));
    assert!(id.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)));
}

#[test]
fn a_fingerprint_does_not_run_parts_together() {
    let session: SessionId = "a".parse().unwrap();
    assert_ne!(
        fingerprint(&session, "1@lid", "2", false),
        fingerprint(&session, "1@lid2", "", false)
    );
    assert_ne!(
        fingerprint(&session, "1@lid", "2", false),
        fingerprint(&session, "1@lid", "2", true)
    );
}
