//! What the names in rules stand for, compiled: sets of addresses and hours. One for all services; a reload, or
//! a change of a set, replaces what it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::label::Label;
use crate::model::network::Network;

use super::hours::Hours;
use super::table::Table;

/// The named sets and hours.
#[derive(Debug, Default)]
pub struct Tables {
    sets: BTreeMap<Label, NamedSet>,
    hours: BTreeMap<Label, Hours>,
}

/// A set: an address is in it that is in any of its tables. So a large list and a few addresses that were added
/// at run time need not be one.
#[derive(Debug, Default)]
pub struct NamedSet {
    /// Its tables.
    pub tables: Vec<Table>,
}

impl NamedSet {
    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        self.tables.iter().any(|table| table.contains(address))
    }

    /// Its networks, but those that others cover.
    pub fn list(&self) -> impl Iterator<Item = Network> {
        self.tables.iter().flat_map(Table::list)
    }

    /// How many networks it was made of.
    pub fn networks(&self) -> u64 {
        self.tables.iter().map(Table::networks).sum()
    }
}

impl From<Table> for NamedSet {
    fn from(table: Table) -> Self {
        Self { tables: vec![table] }
    }
}

impl Tables {
    /// Adds a set, or replaces it.
    pub fn put_set(&mut self, name: Label, set: impl Into<NamedSet>) {
        self.sets.insert(name, set.into());
    }

    /// Adds hours, or replaces them.
    pub fn put_hours(&mut self, name: Label, hours: Hours) {
        self.hours.insert(name, hours);
    }

    /// Takes the sets of others; hours stay.
    pub fn replace_sets(&mut self, others: Self) {
        self.sets = others.sets;
    }

    /// A set.
    pub fn set(&self, name: &Label) -> Option<&NamedSet> {
        self.sets.get(name)
    }

    /// Hours.
    pub fn hours(&self, name: &Label) -> Option<&Hours> {
        self.hours.get(name)
    }

    /// All sets, by name.
    pub fn sets(&self) -> impl Iterator<Item = (&Label, &NamedSet)> {
        self.sets.iter()
    }
}
