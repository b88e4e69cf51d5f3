//! superwrap, where tcpd stood: is this client let in? If so it becomes the real program, else it ends.
//!
//! One process, one decision, in the order of this file: whose rights these are, what is to be run, the deadline, who
//! is there, by which policy, the verdict, the count, the line in the log, and the program. It judges by the code that
//! the daemon judges by, and knows no daemon: it serves inetd, xinetd, systemd, sshd, cron and a shell.

use std::ffi::OsString;
use std::io;
use std::time::SystemTime;

use crate::service::reason::Reason;
use crate::sys::borrowed_rights::{Caller, clear_environment};
use crate::sys::deadline::Deadline;

mod arguments;
mod asking;
mod client;
mod counting;
mod facts;
mod hosts;
mod journal;
mod judging;
mod nss;
mod options;
mod policy;
mod program;
mod refusal;

use self::arguments::{Arguments, Wanted};
use self::client::Visit;
use self::journal::Journal;
use self::judging::Admission;
use self::policy::Rules;
use self::program::Launch;

pub use self::policy::check as check_policy;
use self::refusal::Refusal;

/// What superwrap ends with where it refuses, or can't decide.
const REFUSED: u8 = 1;

/// What it ends with where it is called in a wrong way.
const USAGE: u8 = 2;

/// What this process was started with.
struct Start {
    caller: Caller,
    /// `NAME=value`, for the program: this process itself may have none.
    environment: Vec<OsString>,
    arguments: Arguments,
    is_static: bool,
}

/// Runs superwrap. Linked statically, it has only a part of the name service in itself.
pub fn main(is_static: bool) -> u8 {
    let start = match start(is_static) {
        Ok(Wanted::Run(start)) => start,
        Ok(Wanted::Say(text)) => {
            println!("{text}");
            return 0;
        }
        Err(mistake) => {
            eprintln!("superwrap: {mistake}");
            return USAGE;
        }
    };
    run(&start)
}

fn start(is_static: bool) -> Result<Wanted<Start>, String> {
    let caller = Caller::look().map_err(|error| format!("can't tell who runs this: {error}"))?;
    let environment = program::environment();
    if caller.is_lent {
        clear_environment();
    }
    Ok(match arguments::read(std::env::args_os(), caller.is_lent)? {
        Wanted::Run(arguments) => Wanted::Run(Start { caller, environment, arguments, is_static }),
        Wanted::Say(text) => Wanted::Say(text),
    })
}

fn run(start: &Start) -> u8 {
    let mut journal = Journal::new(&start.arguments.service);
    let deadline = match Deadline::set(policy::DEADLINE, REFUSED.into()) {
        Ok(deadline) => deadline,
        Err(error) => return journal.give_up(&format!("no deadline can be set: {error}")),
    };
    let visit = match client::look(&start.caller) {
        Ok(visit) => visit,
        Err(error) => return journal.give_up(&format!("standard input: {error}")),
    };
    journal.expect(&visit, &deadline);
    let mut deadline = deadline;
    match decide(start, &visit, &mut journal, &mut deadline) {
        Ok((rules, admission)) => serve(start, &visit, &mut journal, deadline, &rules, admission),
        Err(refusal) => refuse(start, &visit, &mut journal, &refusal),
    }
}

/// Is the client let in? Whatever goes wrong on the way refuses it.
fn decide(
    start: &Start,
    visit: &Visit,
    journal: &mut Journal,
    deadline: &mut Deadline,
) -> Result<(Rules, Admission), Refusal> {
    if visit.has_source_route {
        return Err(Refusal::because(Reason::SourceRoute));
    }
    let rules = policy::load(start, journal)?;
    journal.obey(&rules, visit, deadline);
    deadline.change(rules.wrap.deadline).map_err(|error| Refusal::trouble(error.to_string()))?;
    let until = std::time::Instant::now() + rules.wrap.deadline;
    let admission = judging::judge(start, visit, &rules, journal, until)?;
    counting::count(&rules, visit, SystemTime::now()).map_err(|refusal| refusal.busy(&rules))?;
    start.caller.give_back().map_err(|error| Refusal::trouble(format!("giving rights back: {error}")))?;
    Ok((rules, admission))
}

/// Becomes the program; comes back only if that fails.
fn serve(
    start: &Start,
    visit: &Visit,
    journal: &mut Journal,
    deadline: Deadline,
    rules: &Rules,
    admission: Admission,
) -> u8 {
    let mut launch = Launch::of(start, rules);
    if let Err(why) = options::obey(&admission.outcome, visit, &mut launch) {
        return refuse(start, visit, journal, &Refusal::trouble(why));
    }
    if let Some(command) = admission.twist {
        launch.twist(command);
    } else if let Some(banner) = &rules.banners.accept {
        visit.send(banner);
    }
    if let Err(why) = launch.find() {
        return journal.launch_failed(visit, &launch, &why);
    }
    journal.start(visit, &admission.told);
    let error = deadline.lift().map_or_else(|error| error, |()| launch.execute());
    journal.launch_failed(visit, &launch, &error)
}

fn refuse(start: &Start, visit: &Visit, journal: &mut Journal, refusal: &Refusal) -> u8 {
    journal.refuse(visit, refusal);
    if let Some(outcome) = refusal.beside.as_ref().filter(|_| start.caller.give_back().is_ok()) {
        // It is refused already, whatever becomes of this.
        let _ = options::obey(outcome, visit, &mut Launch::nothing(start));
    }
    visit.see_off(refusal.banner.as_deref());
    REFUSED
}

/// What a program that can't be run ends with, as shells have it.
fn status_of(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}
