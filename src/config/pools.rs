//! `pool`: what its keys say together, and the settings that they make. Knows nothing of other keys.

use std::time::Duration;

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Path, Said, Values};
use super::settings::{Pool, PoolProtocol, Program};

const POOL: Path = ("", "pool");
const COMMAND: Path = ("", "command");
const PROTOCOL: Path = ("", "protocol");
const MIN: Path = ("", "min");
const SPARE: Path = ("", "spare");
const MAX: Path = ("", "max");
const MAX_CONNECTIONS: Path = ("", "max_connections");
const CONCURRENCY: Path = ("", "concurrency");
const IDLE_TIMEOUT: Path = ("", "idle_timeout");

/// What the number of its connections comes from.
const SIZES: [Path; 4] = [MIN, SPARE, MAX, CONCURRENCY];

/// Where superd does not hand connections over, it neither counts them nor sees who is idle.
const HANDOFF_ALONE: [Path; 5] = [SPARE, MAX, MAX_CONNECTIONS, CONCURRENCY, IDLE_TIMEOUT];

/// `max`, where nothing needs more.
const DEFAULT_MAX: u32 = 16;

/// How the workers come by their connections; `None` if there is no pool, or that is wrong in it.
pub fn protocol(values: &Values) -> Option<PoolProtocol> {
    let pool = values.inline(POOL)?;
    match pool.text(PROTOCOL) {
        _ if pool.is_wrong(PROTOCOL) => None,
        Some("listen") => Some(PoolProtocol::Listen),
        _ => Some(PoolProtocol::Handoff),
    }
}

/// The program of the workers, and its arguments.
pub fn command(values: &Values) -> &[Said<String>] {
    values.inline(POOL).map_or(&[], |pool| pool.texts(COMMAND))
}

/// The connections that a `handoff` pool can have at once; `None` if it is wrong.
pub fn capacity(values: &Values) -> Option<u32> {
    let pool = values.inline(POOL).filter(|pool| !SIZES.iter().any(|path| pool.is_wrong(*path)))?;
    Some(max(pool).saturating_mul(concurrency(pool)))
}

/// Judges the keys of a service's pool, if it has one.
pub fn check(values: &Values, report: &mut Report) {
    let (Some(pool), Some(spot)) = (values.inline(POOL), values.spot(POOL)) else { return };
    if !pool.is_said(COMMAND) {
        let error = Diagnostic::error("missing", spot, "`pool`: `command` is missing");
        report.add(error.hint("for example `command = [\"/usr/lib/app/worker\"]`"));
    }
    match protocol(values) {
        Some(PoolProtocol::Handoff) => check_sizes(pool, report),
        Some(PoolProtocol::Listen) => check_listen(pool, report),
        None => {}
    }
}

fn check_sizes(pool: &Values, report: &mut Report) {
    let Some((max, spot)) = number(pool, MAX) else { return };
    for (path, what) in [(MIN, "that are always there"), (SPARE, "that are kept without a connection")] {
        if let Some((number, at)) = number(pool, path).filter(|(number, _)| *number > max) {
            let message = format!("`pool.{}`: {number} workers {what} are more than `max`, {max}", path.1);
            report.add(Diagnostic::error("contradiction", at, message).also(spot, "the most are said here"));
        }
    }
}

fn check_listen(pool: &Values, report: &mut Report) {
    for path in HANDOFF_ALONE {
        let Some(spot) = pool.spot(path) else { continue };
        let message = format!(
            "`pool.{}` can't hold here: the workers of a `listen` pool accept by themselves, and superd sees no client",
            path.1
        );
        report.add(
            Diagnostic::error("cannot-hold", spot, message)
                .hint("beside `command` it has `min` alone, its number of workers"),
        );
    }
    if let Some((0, spot)) = number(pool, MIN) {
        let message = "`pool.min`: without a worker nobody would accept, and a `listen` pool starts no more";
        let error = Diagnostic::error("contradiction", spot, message);
        report.add(error.hint("`exec` with `wait = true` starts a process when a client comes"));
    }
}

fn number(pool: &Values, path: Path) -> Option<(u32, &Spot)> {
    Some((pool.number(path)?, pool.spot(path)?))
}

fn min(pool: &Values) -> u32 {
    pool.number(MIN).unwrap_or(1)
}

fn spare(pool: &Values) -> u32 {
    pool.number(SPARE).unwrap_or(0)
}

fn max(pool: &Values) -> u32 {
    pool.number(MAX).unwrap_or_else(|| DEFAULT_MAX.max(min(pool)).max(spare(pool)))
}

fn concurrency(pool: &Values) -> u32 {
    pool.number(CONCURRENCY).unwrap_or(1)
}

/// The pool of a service, with its defaults filled in.
pub fn build(values: &Values, program: Program) -> Option<Pool> {
    let pool = values.inline(POOL)?;
    let protocol = protocol(values)?;
    let idle_timeout = pool.time(IDLE_TIMEOUT).unwrap_or(Duration::from_mins(1));
    let handoff = protocol == PoolProtocol::Handoff;
    Some(Pool {
        program,
        protocol,
        min: min(pool),
        spare: spare(pool),
        max: if handoff { max(pool) } else { min(pool) },
        max_connections: pool.number(MAX_CONNECTIONS),
        concurrency: concurrency(pool),
        idle_timeout: (handoff && !pool.is_cleared(IDLE_TIMEOUT)).then_some(idle_timeout),
    })
}
