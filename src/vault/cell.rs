//! Which value of the database is meant: part of what a sealed value is sealed to.

use entity::id::OrganizationId;

/// A column that holds sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    table: &'static str,
    name: &'static str,
}

impl Column {
    /// The column `name` of `table`, as the schema calls them. A column that is renamed needs its old
    /// name here for as long as it holds values sealed under it.
    pub const fn new(table: &'static str, name: &'static str) -> Self {
        Self { table, name }
    }

    /// The table, as the schema calls it.
    pub const fn table(self) -> &'static str {
        self.table
    }

    /// The column, as the schema calls it.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// One column's value of a row's key.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl From<i32> for Part<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Part<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&i64> for Part<'_> {
    fn from(number: &i64) -> Self {
        Self::Number(*number)
    }
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Part<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Vec<u8>> for Part<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A place in the database as bytes. Two places never become the same bytes: each piece says its kind
/// and its length.
#[derive(Debug)]
pub(super) struct Context(Vec<u8>);

impl Context {
    /// The value of `column` in the row with this key.
    pub(super) fn of_cell(organization: &OrganizationId, column: Column, row: &[Part<'_>]) -> Self {
        let mut context = Self::begin(b"wagate cell", organization);
        context.push(b't', column.table.as_bytes());
        context.push(b't', column.name.as_bytes());
        for part in row {
            match part {
                Part::Number(number) => context.push(b'n', &number.to_be_bytes()),
                Part::Text(text) => context.push(b't', text.as_bytes()),
                Part::Bytes(bytes) => context.push(b'b', bytes),
            }
        }
        context
    }

    /// A data key, wrapped.
    pub(super) fn of_data_key(organization: &OrganizationId, number: u32) -> Self {
        let mut context = Self::begin(b"wagate data key", organization);
        context.push(b'n', &number.to_be_bytes());
        context
    }

    /// What is signed for a purpose.
    pub(super) fn of_signature(organization: &OrganizationId, purpose: &str) -> Self {
        let mut context = Self::begin(b"wagate signature", organization);
        context.push(b't', purpose.as_bytes());
        context
    }

    fn begin(purpose: &[u8], organization: &OrganizationId) -> Self {
        let mut context = Self(Vec::with_capacity(160));
        context.push(b't', purpose);
        context.push(b't', organization.as_str().as_bytes());
        context
    }

    fn push(&mut self, kind: u8, bytes: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
