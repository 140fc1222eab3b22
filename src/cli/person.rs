//! Who is at the command line, by the name that the system has for them: for the audit log.

use std::fs;

/// Where local users have their names.
const USERS: &str = "/etc/passwd";

/// The user that runs this program; through `sudo`, the one who called that. A number where there is no name.
pub(super) fn user() -> String {
    let id = rustix::process::getuid();
    // Only root can say what it likes here, and root can write what it likes into the database.
    let called_sudo = std::env::var("SUDO_USER").ok().filter(|name| id.is_root() && is_name(name));
    called_sudo.unwrap_or_else(|| {
        let users = fs::read_to_string(USERS).unwrap_or_default();
        name_of(&users, id.as_raw()).unwrap_or_else(|| id.as_raw().to_string())
    })
}

/// What a file of users calls the one with this number.
fn name_of(users: &str, id: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _password, number) = (parts.next()?, parts.next()?, parts.next()?);
        (number.parse::<u32>() == Ok(id) && is_name(name)).then(|| name.to_owned())
    })
}

/// Whether it may be a user's name: nothing that spoils a line of a table.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|it| it.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_what_the_system_calls_them() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(users, 0).as_deref(), Some("root"));
        assert_eq!(name_of(users, 7), None);
        assert!(!is_name("") && !is_name("a b") && !is_name("a\nb"));
    }
}
