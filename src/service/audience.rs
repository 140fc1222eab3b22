//! To whom campaigns go: added in bulk, found again, counted.
//!
//! A member is called by a number. Which message went to whom may be said at once or later; what Meta has told of it by then
//! counts as well.

use std::ops::RangeInclusive;

use entity::{
    audience, campaign,
    id::{AudienceId, CampaignId},
    state::{AudienceState, Role},
};

use super::{
    Campaigns, Conflict, Error, FieldError, Principal, SOON, Thing,
    created::{self, Created},
    recipient,
};
use crate::store::audience::{NewMember, Refused};

pub use crate::store::audience::{Added, Counts, Drift};

/// The most that one request adds.
pub const MOST: usize = 5000;

/// How many audiences are counted at a time, one of each organization.
const COUNTERS: usize = 2;

/// How often it is counted anew because another daemon has just done so.
const TRIES: usize = 5;

const COUNTING: Error = Error::Unavailable {
    what: "audiences are being counted already: one at a time of each organization, and two in all",
    retry_after: SOON,
};

/// The longest name, in characters, and the longest id of a message, in bytes.
const LONGEST_NAME: usize = 200;
const IDS: RangeInclusive<usize> = 1..=250;

/// Columns of a table that is given as text.
const COLUMNS: [&str; 3] = ["phone_number", "name", "message_id"];

/// Somebody to be added, as it is said.
#[derive(Clone, Debug, Default)]
pub struct MemberInput {
    pub phone_number: String,
    pub name: Option<String>,
    pub message_id: Option<String>,
}

/// A page of an audience, in the order in which they were added.
#[derive(Clone, Debug)]
pub struct AudiencePage {
    pub members: Vec<audience::Model>,
    pub next: Option<AudienceId>,
}

impl Campaigns {
    /// Adds members, all or none, once for each key.
    pub async fn add_audience(
        &self,
        caller: &Principal,
        id: &CampaignId,
        members: Vec<MemberInput>,
        key: Option<String>,
    ) -> Result<Created<Added>, Error> {
        caller.require(Role::Manager)?;
        if members.is_empty() || members.len() > MOST {
            return Err(Error::invalid("members", format!("must be 1 to {MOST}")));
        }
        let (mut all, mut faults) = (Vec::with_capacity(members.len()), Vec::new());
        for (n, input) in members.into_iter().enumerate() {
            match member(n, input) {
                Ok(member) => all.push(member),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            faults.truncate(100);
            return Err(Error::Invalid(faults));
        }
        let organization = &caller.organization_id;
        let key = key.map(|key| created::key(key, &request(id, &all)));
        match self.store.audience().add(organization, id, (all, key), caller.by()).await? {
            Ok(added) => added.try_into(),
            Err(Refused::NoCampaign) => Err(Error::NotFound(Thing::Campaign)),
            Err(Refused::NoSession) => Err(Error::Conflict(Conflict::CampaignWithoutSession)),
            Err(Refused::NoMessage(n)) => {
                let detail = "is no message that was sent from the campaign's session";
                Err(Error::Invalid(vec![fault(n, "messageId", detail)]))
            }
            Err(Refused::MessageTaken(n)) => {
                let fault = fault(n, "messageId", "is the message of another member");
                Err(Error::Invalid(vec![fault]))
            }
        }
    }

    /// Lists an audience: those in one state, if it is said.
    pub async fn audience(
        &self,
        caller: &Principal,
        id: &CampaignId,
        state: Option<AudienceState>,
        after: Option<&AudienceId>,
        limit: u64,
    ) -> Result<AudiencePage, Error> {
        let row = self.row(caller, id).await?;
        let organization = &caller.organization_id;
        let store = self.store.audience();
        let mut members = store.list(organization, &row.id, state, after, limit + 1).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_more = members.len() > limit;
        members.truncate(limit);
        let next = members.last().filter(|_| is_more).map(|it| it.id.clone());
        Ok(AudiencePage { members, next })
    }

    /// How many have come how far.
    pub async fn statistics(&self, caller: &Principal, id: &CampaignId) -> Result<Counts, Error> {
        let row = self.row(caller, id).await?;
        Ok(self.store.audience().statistics(&row.id).await?)
    }

    /// Counts them anew, sets the sums right, and says what they were.
    pub async fn recount(&self, caller: &Principal, id: &CampaignId) -> Result<Drift, Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        let (audience, organization) = (self.store.audience(), &caller.organization_id);
        // Counting a large audience keeps one of the few connections for a while.
        let _turn = self.counting.enter(organization, 1, COUNTERS).ok_or(COUNTING)?;
        for _ in 0..TRIES {
            let measured = audience.measure(&row.id).await?;
            if audience.correct(organization, &row.id, measured).await? {
                return Ok(measured.drift);
            }
        }
        Err(COUNTING)
    }

    async fn row(&self, caller: &Principal, id: &CampaignId) -> Result<campaign::Model, Error> {
        caller.require(Role::Viewer)?;
        let found = self.store.campaigns().find(&caller.organization_id, id).await?;
        found.ok_or(Error::NotFound(Thing::Campaign))
    }
}

/// What is asked for. An empty name or id was taken for none.
fn request<'a>(id: &'a CampaignId, members: &'a [NewMember]) -> Vec<&'a str> {
    let each = members.iter().flat_map(|it| {
        let [name, wa_id] = [&it.name, &it.wa_id].map(|it| it.as_deref().unwrap_or_default());
        [it.phone_number.as_str(), name, wa_id]
    });
    ["audience", id.as_str()].into_iter().chain(each).collect()
}

fn member(n: usize, input: MemberInput) -> Result<NewMember, FieldError> {
    let MemberInput { phone_number, name, message_id } = input;
    let phone_number = recipient::phone_number(&phone_number)
        .map_err(|error| fault(n, "phoneNumber", &error.to_string()))?;
    let name = name.filter(|it| !it.is_empty());
    if name.as_ref().is_some_and(|it| it.chars().count() > LONGEST_NAME || it.contains('\0')) {
        return Err(fault(n, "name", "is too long, or has U+0000 in it"));
    }
    let message_id = message_id.filter(|it| !it.is_empty());
    let is_id = |it: &String| IDS.contains(&it.len()) && !it.chars().any(char::is_control);
    if message_id.as_ref().is_some_and(|it| !is_id(it)) {
        return Err(fault(n, "messageId", "is no id of a message"));
    }
    Ok(NewMember { phone_number, name, wa_id: message_id })
}

fn fault(n: usize, name: &str, detail: &str) -> FieldError {
    FieldError { pointer: format!("/members/{n}/{name}"), detail: detail.to_owned() }
}

/// Members of a table that is given as text: a first line with the columns' names, and one for each of them.
///
/// As RFC 4180 has it: what has a comma, a quote or a new line in it stands in quotes, and a quote in it is two.
pub fn of_csv(text: &str) -> Result<Vec<MemberInput>, String> {
    let mut lines = rows(text.trim_start_matches('\u{feff}'))?.into_iter();
    let header = lines.next().ok_or("has no first line")?;
    let columns: Option<Vec<usize>> = header
        .iter()
        .map(|name| COLUMNS.iter().position(|it| name.trim().eq_ignore_ascii_case(it)))
        .collect();
    let columns = columns.filter(|it| it.contains(&0));
    let columns = columns.ok_or_else(|| {
        format!(
            "must have a first line with these columns, of which only the first must be there: {}",
            COLUMNS.join(", ")
        )
    })?;
    for (n, column) in columns.iter().enumerate() {
        if columns[..n].contains(column) {
            return Err(format!("names the column `{}` twice", COLUMNS[*column]));
        }
    }
    let mut members = Vec::new();
    for (n, line) in lines.enumerate() {
        if line.len() != columns.len() {
            return Err(format!(
                "row {} has {} columns and not {}",
                n + 2,
                line.len(),
                columns.len()
            ));
        }
        let mut member = MemberInput::default();
        for (column, value) in columns.iter().zip(line) {
            match column {
                0 => member.phone_number = value,
                1 => member.name = Some(value),
                _ => member.message_id = Some(value),
            }
        }
        members.push(member);
    }
    Ok(members)
}

fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut in_quotes, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if in_quotes || cell.is_empty() => in_quotes = !in_quotes,
            ',' if !in_quotes => row.push(std::mem::take(&mut cell)),
            '\r' if !in_quotes && chars.peek() == Some(&'\n') => {}
            '\n' if !in_quotes => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if in_quotes {
        return Err("has a quote that does not end".to_owned());
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    // A line with nothing on it says nothing.
    rows.retain(|row| row.len() > 1 || row.first().is_some_and(|it| !it.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_is_read_as_it_is_written_elsewhere() {
        let text = "\u{feff}name,phone_number\r\n\"Budi, \"\"B\"\"\",+62 812 3456 7890\r\n\r\n\"a\nb\",1650555";
        let members = of_csv(text).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].name.as_deref(), Some("Budi, \"B\""));
        assert_eq!(members[0].phone_number, "+62 812 3456 7890");
        assert_eq!(members[1].name.as_deref(), Some("a\nb"));
        for wrong in
            ["", "name\nx", "phone_number,age\n1,2", "phone_number\n1,2", "phone_number\n\"1"]
        {
            assert!(of_csv(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(\"|,|\n|\r|phone_number|[a-z0-9]){0,40}") {
            of_csv(&text).ok();
        }
    }
}
