//! Kin with little room: what was put out of mind is still there.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::correlation::kernel::{End, Inflow, Open, Socket, Thread};

/// A kernel that knows processes only; the socket of each has its number.
struct Processes {
    /// Number, parent, start.
    all: Vec<(Pid, Pid, Nanos)>,
    open: Rc<Cell<usize>>,
    now: Nanos,
    newest: Option<Pid>,
}

/// An open process.
struct Handle {
    id: ProcessId,
    open: Rc<Cell<usize>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Processes {
    fn find(&self, handle: &Handle) -> Result<(Pid, Pid, Nanos), Trouble> {
        let same = |(pid, _, started): &&(Pid, Pid, Nanos)| {
            (*pid, *started) == (handle.id.pid, handle.id.started)
        };
        self.all.iter().find(same).copied().ok_or(Trouble::Gone)
    }
}

impl Kernel for Processes {
    type Process = Handle;

    fn now(&mut self) -> Nanos {
        self.now
    }
    fn room(&self) -> usize {
        2
    }
    fn newest(&mut self) -> Option<Pid> {
        self.newest
    }
    fn own(&mut self) -> Pid {
        99
    }
    fn own_children(&mut self) -> Vec<Pid> {
        Vec::new()
    }
    fn open(&mut self, pid: Pid) -> Result<(Handle, ProcessId), Trouble> {
        let found = self.all.iter().find(|process| process.0 == pid);
        let (pid, _, started) = *found.ok_or(Trouble::Gone)?;
        let id = ProcessId { pid, started };
        self.open.set(self.open.get() + 1);
        let open = self.open.clone();
        Ok((Handle { id, open }, id))
    }
    fn parent(&mut self, handle: &Handle) -> Result<Pid, Trouble> {
        Ok(self.find(handle)?.1)
    }
    fn is_there(&mut self, handle: &Handle) -> bool {
        self.find(handle).is_ok()
    }
    fn open_files(&mut self, handle: &Handle) -> Result<Open, Trouble> {
        Ok(Open {
            sockets: vec![(3, self.find(handle)?.0)],
            polls: Vec::new(),
        })
    }
    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
        let parent = self.find(handle)?.0;
        let children = self.all.iter().filter(|process| process.1 == parent);
        Ok(children.map(|process| process.0).collect())
    }

    // Not asked here.
    fn socket(&mut self, _: End) -> Result<Option<Socket>, Trouble> {
        unreachable!()
    }
    fn inflow(&mut self, _: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        unreachable!()
    }
    fn listeners(&mut self, _: &Place) -> Result<Listeners, Trouble> {
        unreachable!()
    }
    fn pids(&mut self) -> Vec<Pid> {
        unreachable!()
    }
    fn control_group(&mut self, _: &Handle) -> Option<u64> {
        unreachable!()
    }
    fn reaps(&mut self, _: Pid) -> bool {
        unreachable!()
    }
    fn held(&mut self, _: &Handle, _: Fd) -> Result<Option<Inode>, Trouble> {
        unreachable!()
    }
    fn polled(&mut self, _: &Handle, _: Fd) -> Result<Vec<Inode>, Trouble> {
        unreachable!()
    }
    fn greenlets(&mut self, _: &Handle, _: Fd) -> Result<bool, Trouble> {
        unreachable!()
    }
    fn ran(&mut self, _: &Handle) -> Result<Nanos, Trouble> {
        unreachable!()
    }
    fn main_thread(&mut self, _: &Handle) -> Result<Thread, Trouble> {
        unreachable!()
    }
}

#[test]
fn kin_beyond_the_room_are_opened_again_and_not_taken_for_gone() {
    let open = Rc::<Cell<usize>>::default();
    // 1 is the first; 10 the caller, 11 to 16 its siblings.
    let siblings = (10..=16).map(|pid| (pid, 5, 100));
    let all = [(1, 0, 0), (5, 1, 0)].into_iter().chain(siblings);
    let mut kernel = Processes {
        all: all.collect(),
        open: open.clone(),
        now: 1,
        newest: None,
    };
    let mut family = Family::default();
    let caller = family.identify(&mut kernel, 10).unwrap();
    let kin = family.kin(&mut kernel, caller, |_| false).unwrap();
    let near: Vec<Pid> = kin.near.iter().map(|one| one.pid).collect();
    assert_eq!(near, [11, 12, 13, 14, 15, 16]);
    for one in &kin.near {
        let sockets = family.sockets(&mut kernel, *one);
        assert_eq!(sockets, Ok(vec![(3, one.pid)]), "as a holder must be seen");
        assert!(open.get() <= 2, "{} are open", open.get());
    }
    // One ends, and of another the number is somebody else's by now.
    kernel.all.retain(|process| process.0 != 12);
    kernel.all.iter_mut().find(|p| p.0 == 13).unwrap().2 = 200;
    let gone: Vec<Pid> = kin
        .near
        .into_iter()
        .filter(|one| family.sockets(&mut kernel, *one) == Err(Trouble::Gone))
        .map(|one| one.pid)
        .collect();
    assert_eq!(gone, [12, 13]);
}

/// A grandchild is given to another when its parent ends, and no process is started by that.
#[test]
fn kin_that_were_below_a_suspect_are_found_where_they_are_now() {
    // 10 is the caller, 11 its child, 12 its grandchild.
    let mut kernel = Processes {
        all: vec![(1, 0, 0), (10, 1, 0), (11, 10, 100), (12, 11, 100)],
        open: Rc::default(),
        now: 1,
        newest: Some(12),
    };
    let mut family = Family::default();
    let caller = family.identify(&mut kernel, 10).unwrap();
    let mut near = |kernel: &mut Processes, suspect: bool| -> Vec<Pid> {
        let kin = family.kin(kernel, caller, |_| suspect).unwrap();
        kin.near.iter().map(|one| one.pid).collect()
    };
    for _ in 0..3 {
        kernel.now += Duration::from_secs(1).as_nanos() as Nanos;
        assert_eq!(near(&mut kernel, false), [11]);
    }
    kernel.all.retain(|process| process.0 != 11);
    kernel.all.iter_mut().find(|p| p.0 == 12).unwrap().1 = 1;
    assert_eq!(near(&mut kernel, false), [11], "the list is kept");
    assert_eq!(near(&mut kernel, true), [12]);
}
