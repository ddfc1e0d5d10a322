//! Whose a connection can be that was made before the process started that has it.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::correlation::kernel::{Socket, State};
use crate::correlation::serial::model::{Fake, MASTER, Plan, World};
use crate::correlation::server::Place;

/// The caller is the first worker. What it or the master has forked since has the connection, which is older.
#[test]
fn a_young_worker_is_told_from_what_the_caller_may_have_forked() {
    let caller = MASTER + 1;
    for (forked_by, orphan, master_first, elsewhere) in [
        (MASTER, false, false, true),
        // Its parent may have been another: it is given orphans.
        (MASTER, false, true, false),
        (caller, true, true, false),
        (caller, true, false, false),
        (caller, false, false, false),
    ] {
        let plan = Plan {
            workers: 2,
            idle_calls: false,
            master_first,
            background: false,
            visits: Vec::new(),
            schedule: Vec::new(),
        };
        let world = Rc::new(RefCell::new(World::new(&plan)));
        let since = world.borrow().now;
        let heir = world.borrow_mut().late(forked_by, orphan);
        let mut kernel = Fake(world);
        let mut serial = Serial::<Fake>::default();
        serial.app(Place::Tcp(([127, 0, 0, 1], 8000).into()));
        serial.family.discover(&mut kernel, &serial.apps);
        let id = |pid| serial.family.ids().into_iter().find(|id| id.pid == pid);
        let (id, heir) = (id(caller).unwrap(), id(heir));
        assert!(heir.is_some_and(|heir| !existed(heir, since)));
        let (inode, cookie) = (4711, 4712);
        let socket = Socket {
            state: State::Established,
            inode,
            cookie,
        };
        let caller = Caller { id, socket };
        let mut accepted = Accepted {
            inode,
            cookie,
            since,
            owner: None,
            heir,
        };
        let mut told = |accepted: &Accepted, alive, own: &[(Fd, Inode)]| {
            serial.elsewhere(&mut kernel, &caller, accepted, alive, own)
        };
        let expected = match elsewhere {
            true => Ok(true),
            false => Err(Unlinked::UnknownOwner),
        };
        let case = (forked_by, orphan, master_first);
        assert_eq!(told(&accepted, true, &[]), expected, "{case:?}");
        // The caller has it, too.
        assert_ne!(told(&accepted, true, &[(3, inode)]), Ok(true));
        // Nobody was seen to have it.
        accepted.heir = None;
        let nobody = told(&accepted, true, &[]);
        assert_eq!(nobody, Err(Unlinked::UnknownOwner));
        assert_eq!(
            told(&accepted, false, &[]),
            Ok(true),
            "its requests are over"
        );
        // The caller is as young.
        (accepted.heir, accepted.since) = (heir, id.started);
        assert_eq!(told(&accepted, true, &[]), nobody);
    }
}
