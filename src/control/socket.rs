//! `superctl socket NAME`: the listeners of a service and what the kernel made of their options.

use crate::protocol::control::ListenerStatus;

use super::Report;
use super::terminal::{escape, escape_json, table};

pub(super) fn report(listeners: &[ListenerStatus], json: bool) -> Report {
    let text = if json {
        escape_json(&serde_json::to_string(listeners).unwrap_or_default()) + "\n"
    } else if listeners.is_empty() {
        "no listeners: `superctl status` says why\n".to_owned()
    } else {
        listeners.iter().map(text).collect::<Vec<_>>().join("\n")
    };
    Report { text, ..Report::default() }
}

fn text(listener: &ListenerStatus) -> String {
    let bound = match (&listener.bound, &listener.error) {
        (Some(address), _) => format!("bound to {address}"),
        (None, Some(error)) => format!("not bound: {error}"),
        (None, None) => "not bound".to_owned(),
    };
    let queue =
        listener.queue.map(|[waiting, length]| ("queue".to_owned(), format!("{waiting} of {length}")));
    let dropped = listener.dropped.map(|count| ("dropped".to_owned(), count.to_string()));
    let rows: Vec<Vec<String>> = [queue, dropped]
        .iter()
        .flatten()
        .map(|(name, value)| (name, value))
        .chain(&listener.options)
        .map(|(name, value)| vec![format!("  {}", escape(name)), escape(value)])
        .collect();
    let mut lines = vec![format!("{} {}", escape(&listener.endpoint), escape(&bound))];
    lines.extend(table(&rows));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_listener_with_its_options() {
        let options = [("backlog", "4096"), ("keepalive", "off")];
        let options = BTreeMap::from(options.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let bound = ListenerStatus {
            endpoint: "tcp:79".to_owned(),
            bound: Some("0.0.0.0:79".to_owned()),
            error: None,
            options,
            queue: Some([1, 4096]),
            dropped: None,
        };
        let unbound = ListenerStatus {
            endpoint: "udp:192.0.2.1:79".to_owned(),
            bound: None,
            error: Some("EADDRNOTAVAIL".to_owned()),
            options: BTreeMap::new(),
            queue: None,
            dropped: Some(3),
        };
        let both = [bound, unbound];
        assert_eq!(
            report(&both, false).text,
            "tcp:79 bound to 0.0.0.0:79\n  queue      1 of 4096\n  backlog    4096\n  keepalive  off\n\n\
             udp:192.0.2.1:79 not bound: EADDRNOTAVAIL\n  dropped  3\n"
        );
        assert_eq!(serde_json::from_str::<Vec<ListenerStatus>>(&report(&both, true).text).unwrap(), both);
        assert_eq!(report(&[], false).text, "no listeners: `superctl status` says why\n");
        assert_eq!(report(&[], true).text, "[]\n");
    }
}
