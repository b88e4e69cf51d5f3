//! `superctl pool`: a row a pool; with a name the workers below.

use crate::protocol::control::{PoolLimits, PoolStatus, WorkerStatus};

use super::Report;
use super::terminal::{escape, escape_json, table};

pub(super) fn report(pools: &[PoolStatus], with_workers: bool, json: bool) -> Report {
    let text = if json {
        escape_json(&serde_json::to_string(pools).unwrap_or_default()) + "\n"
    } else if pools.is_empty() {
        "no service has a pool\n".to_owned()
    } else {
        let workers: Vec<String> =
            pools.iter().filter(|pool| with_workers && !pool.workers.is_empty()).map(workers).collect();
        overview(pools) + &workers.concat()
    };
    Report { text, warnings: Vec::new(), code: 0 }
}

fn overview(pools: &[PoolStatus]) -> String {
    let heading =
        ["SERVICE", "PROTOCOL", "BUSY", "IDLE", "STARTING", "RETIRING", "WAITING", "RESTARTS", "LIMITS"];
    let heading = heading.map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = [heading].into_iter().chain(pools.iter().map(row)).collect();
    let noted = [None].into_iter().chain(pools.iter().map(note));
    let mut lines = Vec::new();
    for (row, note) in table(&rows).into_iter().zip(noted) {
        lines.push(row);
        lines.extend(note);
    }
    lines.join("\n") + "\n"
}

fn row(pool: &PoolStatus) -> Vec<String> {
    let counts = [pool.busy, pool.idle, pool.starting, pool.retiring, pool.waiting].map(|n| n.to_string());
    let mut cells = vec![escape(&pool.service), escape(&pool.protocol)];
    cells.extend(counts);
    cells.extend([pool.restarts.to_string(), limits(&pool.limits)]);
    cells
}

fn limits(limits: &PoolLimits) -> String {
    let named = [
        ("min", Some(limits.min)),
        ("spare", limits.spare),
        ("max", limits.max),
        ("concurrency", limits.concurrency),
        ("max_connections", limits.max_connections),
    ];
    let mut words: Vec<String> =
        named.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?))).collect();
    words.extend(limits.idle_timeout.map(|seconds| format!("idle_timeout={seconds}s")));
    words.join(" ")
}

/// What keeps its workers from being what the configuration says.
fn note(pool: &PoolStatus) -> Option<String> {
    let fails = pool.retry_in.map(|wait| format!("workers fail; next try in {:.0} s", wait.max(0.0).ceil()));
    let next = pool.next.map(|_| "workers of a new generation are coming up".to_owned());
    let notes: Vec<String> = fails.into_iter().chain(next).collect();
    (!notes.is_empty()).then(|| format!("  {}", notes.join("; ")))
}

fn workers(pool: &PoolStatus) -> String {
    let heading = ["PID", "STATE", "GENERATION", "CONNECTIONS", "SERVED", "AGE"];
    let heading = heading.map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = [heading].into_iter().chain(pool.workers.iter().map(worker)).collect();
    format!("\n{}\n", table(&rows).join("\n"))
}

fn worker(worker: &WorkerStatus) -> Vec<String> {
    vec![
        if worker.pid == 0 { "-".to_owned() } else { worker.pid.to_string() },
        escape(&worker.state),
        worker.generation.to_string(),
        worker.connections.to_string(),
        worker.served.to_string(),
        format!("{:.0} s", worker.age.floor()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> PoolStatus {
        let worker = WorkerStatus {
            pid: 4711,
            state: "ready".to_owned(),
            generation: 2,
            connections: 1,
            served: 70,
            age: 61.9,
        };
        PoolStatus {
            service: "app".to_owned(),
            protocol: "handoff".to_owned(),
            generation: 2,
            next: None,
            starting: 1,
            idle: 0,
            busy: 1,
            retiring: 0,
            connections: 1,
            waiting: 7,
            restarts: 3,
            retry_in: None,
            limits: PoolLimits { min: 2, spare: Some(1), max: Some(16), ..PoolLimits::default() },
            workers: vec![
                worker.clone(),
                WorkerStatus { pid: 0, state: "starting".to_owned(), served: 0, connections: 0, ..worker },
            ],
        }
    }

    #[test]
    fn pools_and_their_workers() {
        let listen = PoolStatus {
            service: "web".to_owned(),
            protocol: "listen".to_owned(),
            next: Some(4),
            retry_in: Some(0.2),
            limits: PoolLimits { min: 1, ..PoolLimits::default() },
            workers: Vec::new(),
            ..example()
        };
        assert_eq!(
            report(&[example(), listen], true, false).text,
            "\
SERVICE  PROTOCOL  BUSY  IDLE  STARTING  RETIRING  WAITING  RESTARTS  LIMITS
app      handoff   1     0     1         0         7        3         min=2 spare=1 max=16
web      listen    1     0     1         0         7        3         min=1
  workers fail; next try in 1 s; workers of a new generation are coming up

PID   STATE     GENERATION  CONNECTIONS  SERVED  AGE
4711  ready     2           1            70      61 s
-     starting  2           0            0       61 s
"
        );
        assert_eq!(report(&[], false, false).text, "no service has a pool\n");
        let json = report(&[example()], true, true).text;
        assert_eq!(serde_json::from_str::<Vec<PoolStatus>>(&json).unwrap(), [example()]);
    }
}
