//! Which nodes have said nothing for as long as they may.
//!
//! By the database's clock alone a living node may look dead: that clock may be set forward, or be another machine's after
//! a failover. So whoever takes a node for dead has seen by his own clock, which only goes forward, that its row has not
//! changed for the time of a lease.

use std::{collections::HashMap, time::Duration};

use entity::{UnixMillis, id::NodeId};

/// What was seen of the nodes' rows, and since when.
#[derive(Debug, Default)]
pub(super) struct Watch(HashMap<NodeId, (UnixMillis, Duration)>);

impl Watch {
    /// Looks at all rows, each with the time that it says; answers those that have said the same for `lease`.
    pub(super) fn look(
        &mut self,
        rows: Vec<(NodeId, UnixMillis)>,
        now: Duration,
        lease: Duration,
    ) -> Vec<(NodeId, UnixMillis)> {
        let before = std::mem::take(&mut self.0);
        let mut silent = Vec::new();
        for (node, says) in rows {
            let since = match before.get(&node) {
                Some((said, since)) if *said == says => *since,
                _ => now,
            };
            if now.saturating_sub(since) >= lease {
                silent.push((node.clone(), says));
            }
            self.0.insert(node, (says, since));
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_node_is_silent_once_its_row_has_not_changed_for_a_lease() {
        let row = |node, says| (NodeId::new(UnixMillis(0), node), UnixMillis(says));
        let at = Duration::from_secs;
        let mut watch = Watch::default();
        // Whatever it says of the time.
        assert_eq!(watch.look(vec![row(1, 0), row(2, 90)], at(100), LEASE), []);
        assert_eq!(watch.look(vec![row(1, 0), row(2, 95)], at(129), LEASE), []);
        assert_eq!(watch.look(vec![row(1, 0), row(2, 95)], at(130), LEASE), [row(1, 0)]);
        assert_eq!(watch.look(vec![row(1, 1), row(2, 95)], at(158), LEASE), []);
        assert_eq!(
            watch.look(vec![row(1, 1)], at(159), LEASE),
            [],
            "one that has gone is forgotten"
        );
        assert_eq!(watch.look(vec![row(1, 1), row(2, 95)], at(160), LEASE), []);
    }
}
