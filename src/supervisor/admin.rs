//! What admins ask for over the control socket, and by SIGUSR1.

use std::path::{Path, PathBuf};

use crate::config::settings::Level;
use crate::protocol::control::{Answer, Refusal, Reply, Request};
use crate::sys::memory::sealed;

use super::Supervisor;
use super::control::{ClientId, Token};

impl Supervisor {
    pub(super) fn on_control(&mut self, token: Token) {
        if let Some(control) = &mut self.control {
            control.on_ready(token, self.now);
        }
    }

    /// Answers what has been asked. A reload is answered when it is over.
    pub(super) fn answer_requests(&mut self) {
        let requests = self.control.as_mut().map(super::control::ControlServer::take_requests);
        for (client, request) in requests.unwrap_or_default() {
            match request {
                Request::Status => self.answer(client, Ok(Answer::Status(self.status()))),
                Request::Socket { service } => {
                    let answer = self.socket_status(&service).map(Answer::Socket);
                    self.answer(client, answer.ok_or_else(|| format!("there is no service `{service}`")));
                }
                Request::Bans => self.answer(client, Ok(Answer::Bans(self.ban_list()))),
                Request::Explain(question) => {
                    let answer =
                        self.explain(&question).map(|explained| Answer::Explain(Box::new(explained)));
                    self.answer(client, answer);
                }
                Request::Ban { who, service, seconds } => {
                    let answer = self.ban(&who, service.as_deref(), seconds).map(Answer::Bans);
                    self.answer(client, answer);
                }
                Request::Unban { who, service } => {
                    let answer = self.unban(&who, service.as_deref()).map(Answer::Bans);
                    self.answer(client, answer);
                }
                Request::Pool { service } => {
                    let answer = self.pool_status(service.as_deref()).map(Answer::Pool);
                    self.answer(client, answer);
                }
                Request::Reload if self.is_ending() => {
                    self.answer(client, Err("superd is ending".to_owned()));
                }
                Request::Reload => {
                    self.log.reopen();
                    self.request_load(Some(client));
                }
            }
        }
    }

    fn answer(&mut self, client: ClientId, answer: Result<Answer, String>) {
        let reply = match answer {
            Ok(answer) => Reply::Done(Box::new(answer)),
            Err(error) => Reply::Refused(Refusal { errors: vec![error] }),
        };
        if let Some(control) = &mut self.control {
            control.reply(client, &reply, self.now);
        }
    }

    /// Writes the status to `state_dir/state.json`. A writer does it: a disk may hang.
    pub(super) fn dump_state(&mut self) {
        if self.state_writer.is_some() {
            return self.note(Level::Warning, "the state is still being written: its disk does not answer");
        }
        let Some(path) = self.state_file() else { return };
        if let Err(error) = self.send_state(&path) {
            self.note(Level::Err, &format!("the state can't be written: {error}"));
        }
    }

    pub(super) fn state_file(&self) -> Option<PathBuf> {
        self.daemon.as_ref().map(|daemon| daemon.state_dir.join("state.json"))
    }

    fn send_state(&mut self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.status())?;
        let text = sealed("superd-state", &text)?;
        self.write_state(path, &text)
    }
}
