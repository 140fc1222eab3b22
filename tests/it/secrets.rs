//! The secrets of a linked device, and whether they can be read off a database.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use entity::id::SessionKey;
use sea_orm::TryGetable;
use wacore::store::traits::{
    AppSyncStore as _, DeviceStore as _, MsgSecretStore as _, ProtocolStore as _, SignalStore as _,
};
use wagate::{device::Backend, store::Store};

use crate::database::{Database, Kind};

/// A secret, and what it is.
pub(crate) type Secret = (String, Vec<u8>);

/// The device of the only session, and its session's key.
pub(crate) async fn device(database: &Database) -> (i32, SessionKey) {
    let rows = database.query("SELECT id, session_key FROM device").await;
    assert_eq!(rows.len(), 1);
    let key: String = rows[0].try_get_by_index(1).unwrap();
    (rows[0].try_get_by_index(0).unwrap(), key.parse().unwrap())
}

/// Every kind of secret that the only device has, as the client is given it.
pub(crate) async fn of_device(database: &Database, store: &Store) -> Vec<Secret> {
    let (id, key) = device(database).await;
    let backend = Backend::new(store.clone(), id, &key);
    let device = backend.load().await.unwrap().unwrap();
    let mut secrets = vec![
        ("noise key".to_owned(), device.noise_key.private_key.serialize().to_vec()),
        ("identity key".to_owned(), device.identity_key.private_key.serialize().to_vec()),
        ("signed prekey".to_owned(), device.signed_pre_key.private_key.serialize().to_vec()),
        ("ADV secret".to_owned(), device.adv_secret_key.to_vec()),
    ];
    let mut records = Vec::new();
    for address in column::<String>(database, "SELECT address FROM wa_session").await {
        let record = backend.get_session(&address).await.unwrap().unwrap();
        records.push((format!("session {address}"), record.to_vec()));
    }
    for address in column::<String>(database, "SELECT address FROM wa_sender_key").await {
        let record = backend.get_sender_key(&address).await.unwrap().unwrap();
        records.push((format!("sender key {address}"), record));
    }
    let prekeys = "SELECT prekey_id FROM wa_prekey ORDER BY prekey_id LIMIT 20";
    for id in column::<i64>(database, prekeys).await {
        let id = u32::try_from(id).unwrap();
        let record = backend.load_prekey(id).await.unwrap().unwrap();
        records.push((format!("prekey {id}"), record.to_vec()));
    }
    for (name, record) in &records {
        let found = private_fields(record);
        assert!(!found.is_empty(), "{name} has keys in it");
        secrets.extend(found.into_iter().map(|secret| (name.clone(), secret)));
    }
    for row in database.query("SELECT chat, sender, message_id FROM wa_msg_secret").await {
        let part = |at| row.try_get_by_index::<String>(at).unwrap();
        let secret = backend.get_msg_secret(&part(0), &part(1), &part(2)).await.unwrap();
        secrets.push(("secret of a message".to_owned(), secret.unwrap()));
    }
    for id in column::<Vec<u8>>(database, "SELECT key_id FROM wa_sync_key").await {
        let key = backend.get_sync_key(&id).await.unwrap().unwrap();
        secrets.push(("app state key".to_owned(), key.key_data));
    }
    for jid in column::<String>(database, "SELECT jid FROM wa_tc_token").await {
        let entry = backend.get_tc_token(&jid).await.unwrap().unwrap();
        // None was given with it, which is no secret.
        if !entry.token.is_empty() {
            secrets.push(("trusted contact's token".to_owned(), entry.token));
        }
    }
    let kinds = ["session", "prekey", "app state key"];
    assert!(kinds.iter().all(|kind| secrets.iter().any(|(name, _)| name.starts_with(kind))));
    secrets
}

async fn column<T: TryGetable>(database: &Database, sql: &str) -> Vec<T> {
    let rows = database.query(sql).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// The fields of 32 bytes in a Signal record, at whatever depth: private, root, chain and message
/// keys. Public keys have 33, with their type in front.
fn private_fields(message: &[u8]) -> Vec<Vec<u8>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    fn walk(mut bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Option<()> {
        while !bytes.is_empty() {
            match varint(&mut bytes)? & 7 {
                0 => {
                    varint(&mut bytes)?;
                }
                1 => bytes = bytes.get(8..)?,
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let field = bytes.get(..length)?;
                    bytes = &bytes[length..];
                    if length == 32 {
                        found.push(field.to_vec());
                    } else {
                        walk(field, found);
                    }
                }
                5 => bytes = bytes.get(4..)?,
                _ => return None,
            }
        }
        Some(())
    }
    let mut found = Vec::new();
    walk(message, &mut found);
    found
}

/// Every byte that the database has on disk, or that its dump has.
pub(crate) fn dump(database: &Database) -> Vec<u8> {
    match database.kind {
        Kind::Sqlite => {
            let mut bytes = Vec::new();
            for entry in std::fs::read_dir(database.path.parent().unwrap()).unwrap() {
                bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
            }
            bytes
        }
        Kind::Postgres => {
            let dump = std::process::Command::new("pg_dump")
                .args(["--no-sync", &database.url])
                .output()
                .unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            // Session keys of pg_dump's own making differ from one to the next.
            let text = String::from_utf8(dump.stdout).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('\\'));
            lines.collect::<Vec<_>>().join("\n").into_bytes()
        }
    }
}

/// Those of the secrets that can be read in `bytes`: as they are, in hexadecimal, in base64, or as
/// the numbers that JSON makes of bytes; and each of these once more in hexadecimal, as a dump
/// writes bytes.
pub(crate) fn found_in(bytes: &[u8], secrets: &[Secret]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, secret) in secrets {
        for form in forms(secret) {
            if contains(bytes, &form) || contains(bytes, hex(&form).as_bytes()) {
                found.push(name.clone());
                break;
            }
        }
    }
    found
}

fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec(), hex(secret).into_bytes()];
    forms.push(hex(secret).to_uppercase().into_bytes());
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    forms.push(numbers.join(",").into_bytes());
    // In the middle of something longer, base64 begins at any of three places.
    for skipped in 0..3 {
        let whole = &secret[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(STANDARD_NO_PAD.encode(whole).into_bytes());
        forms.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    // The first bytes are found fast, and are rare.
    let Some((first, rest)) = wanted.split_first() else { return true };
    let mut from = bytes;
    while let Some(at) = from.iter().position(|byte| byte == first) {
        from = &from[at + 1..];
        if from.starts_with(rest) {
            return true;
        }
    }
    false
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret: Vec<u8> = (100..132).collect();
    let named = [("it".to_owned(), secret.clone())];
    assert!(found_in(b"nothing here", &named).is_empty());
    for form in forms(&secret) {
        let bytes = [b"before ".as_slice(), &form, b" after"].concat();
        assert_eq!(found_in(&bytes, &named), ["it"]);
        assert_eq!(found_in(hex(&bytes).as_bytes(), &named), ["it"]);
        assert!(found_in(&bytes[..bytes.len() - 8], &named).is_empty());
    }
    for shift in 0..3 {
        let longer = [vec![0; shift], secret.clone(), vec![0; 9]].concat();
        assert_eq!(found_in(STANDARD_NO_PAD.encode(longer).as_bytes(), &named), ["it"]);
    }
}
