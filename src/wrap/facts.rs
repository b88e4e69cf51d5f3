//! What is known of the client so far, for the judge; and finding out more.

use std::time::{Instant, SystemTime};

use crate::model::client::Client;
use crate::policy::request::{Fact, Interfaces, Request, User};
use crate::policy::truth::Needs;
use crate::protocol::ident::Reply;
use crate::protocol::resolve::Named;

use super::Start;
use super::asking;
use super::client::Visit;

/// What was asked, with its answers.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) name: Option<Named>,
    /// Of a client by tcp from this machine.
    pub(super) user: Option<Result<u32, ()>>,
    pub(super) ident: Option<Reply>,
}

impl Facts {
    /// As the judge takes it.
    pub(super) fn request<'r>(
        &'r self,
        visit: &'r Visit,
        now: SystemTime,
        interfaces: &'r Interfaces,
    ) -> Request<'r> {
        let user = match (visit.client, &self.user) {
            (Client::User { uid: u32::MAX, .. }, _) | (_, Some(Err(()))) => Fact::Failed,
            (Client::User { uid, .. }, _) => Fact::Known(User { uid, groups: &visit.groups }),
            (_, Some(Ok(uid))) => Fact::Known(User { uid: *uid, groups: &[] }),
            (_, None) => Fact::NotAsked,
        };
        Request {
            local: visit.local,
            name: self.name.as_ref().map_or(Fact::NotAsked, Named::fact),
            user,
            ident: self.ident.as_ref().map_or(Fact::NotAsked, Reply::fact),
            ..Request::new(visit.client, now, interfaces)
        }
    }

    /// Asks what is needed, the cheapest of it.
    pub(super) fn ask(
        &mut self,
        needs: Needs,
        visit: &Visit,
        interfaces: &Interfaces,
        start: &Start,
        until: Instant,
    ) -> Result<(), String> {
        let needs = needs.cheapest();
        if needs.user {
            // The answer stays in the facts.
            let _ = self.ask_user(visit, interfaces);
        } else if needs.name {
            self.ask_name(visit, start, until)?;
        } else {
            self.ask_ident(visit, until);
        }
        Ok(())
    }

    /// The confirmed name of its address.
    pub(super) fn ask_name(
        &mut self,
        visit: &Visit,
        start: &Start,
        until: Instant,
    ) -> Result<&Named, String> {
        let named = match (self.name.take(), visit.client.address()) {
            (Some(known), _) => known,
            (None, Some(address)) => asking::name(address.ip().to_canonical(), start, until)?,
            (None, None) => Named::NoName,
        };
        Ok(self.name.insert(named))
    }

    /// The user at the other end, where that is on this machine: the kernel knows.
    pub(super) fn ask_user(&mut self, visit: &Visit, interfaces: &Interfaces) -> Result<u32, ()> {
        let found = match (self.user, visit.client, visit.local) {
            (Some(known), ..) => known,
            (None, Client::User { uid, .. }, _) if uid != u32::MAX => Ok(uid),
            (None, Client::Inet(client), Some(local)) if interfaces.is_local(client.ip()) => {
                asking::owner(client, local)
            }
            _ => Err(()),
        };
        *self.user.insert(found)
    }

    /// What the client's own RFC 1413 server says.
    pub(super) fn ask_ident(&mut self, visit: &Visit, until: Instant) -> &Reply {
        let reply = match (self.ident.take(), visit.client, visit.local) {
            (Some(known), ..) => known,
            (None, Client::Inet(client), Some(local)) => asking::ident(client, local, until),
            _ => Reply::Failed,
        };
        self.ident.insert(reply)
    }
}
