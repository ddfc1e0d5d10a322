//! The kernel of the small machine: true answers, and the world moves on at every question.

use super::*;

/// The kernel of a [`World`], which runs on at every question.
pub(in crate::correlation::serial) struct Fake(
    pub(in crate::correlation::serial) Rc<RefCell<World>>,
);

/// A process of a [`World`].
pub(in crate::correlation::serial) struct Handle {
    pub(super) pid: Pid,
    pub(super) generation: u64,
}

impl Fake {
    fn world(&mut self) -> std::cell::RefMut<'_, World> {
        let mut world = self.0.borrow_mut();
        world.churn();
        world
    }
}

impl Kernel for Fake {
    type Process = Handle;

    fn now(&mut self) -> Nanos {
        self.0.borrow().now
    }

    fn socket(&mut self, end: End) -> Result<Option<Socket>, Trouble> {
        let End::Tcp(local, remote) = end else {
            return Err(Trouble::Unsupported);
        };
        let world = self.world();
        let mut all = world.sockets.iter().enumerate().rev();
        let found = all.find(|(_, socket)| {
            (socket.app, socket.peer) == (local, remote) && (socket.alive || socket.peer_open)
        });
        Ok(found.map(|(id, socket)| Socket {
            state: match socket.alive && socket.peer_open {
                true if world.opening.iter().any(|(_, opening)| *opening == id) => State::Opening,
                true => State::Established,
                false => State::Closing,
            },
            inode: if socket.alive && socket.accepted {
                socket.inode
            } else {
                0
            },
            cookie: socket.cookie,
        }))
    }

    fn inflow(&mut self, end: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        let Some(socket) = self.socket(end)? else {
            return Ok(None);
        };
        let world = self.0.borrow();
        let found = world
            .sockets
            .iter()
            .find(|found| found.cookie == socket.cookie)
            .unwrap();
        let inflow = Inflow {
            read: Some(found.received - found.unread),
            unread: found.unread > 0,
        };
        Ok(Some((socket, inflow)))
    }

    fn listeners(&mut self, _app: &Place) -> Result<Listeners, Trouble> {
        Ok(Listeners {
            inodes: vec![LISTENER],
            backlog: 128,
        })
    }

    fn pids(&mut self) -> Vec<Pid> {
        self.world().processes.keys().copied().collect()
    }

    fn newest(&mut self) -> Option<Pid> {
        Pid::try_from(self.world().newest).ok()
    }

    fn own(&mut self) -> Pid {
        HOPSPAN
    }

    /// Where it is given orphans, those are among them.
    fn own_children(&mut self) -> Vec<Pid> {
        let world = self.world();
        let own = world.reaper() == HOPSPAN;
        let children = world
            .processes
            .iter()
            .filter(|(_, p)| own && p.parent == HOPSPAN);
        children.map(|(pid, _)| *pid).collect()
    }

    /// As little as there can be: what was put out of mind must not be taken for gone.
    fn room(&self) -> usize {
        1
    }

    fn open(&mut self, pid: Pid) -> Result<(Handle, ProcessId), Trouble> {
        let world = self.world();
        let process = world.processes.get(&pid).ok_or(Trouble::Gone)?;
        let generation = process.generation;
        let id = ProcessId {
            pid,
            started: process.started / (10 * MS) * (10 * MS), // as /proc says it
        };
        Ok((Handle { pid, generation }, id))
    }

    fn parent(&mut self, handle: &Handle) -> Result<Pid, Trouble> {
        Ok(self.world().process(handle)?.parent)
    }

    fn reaps(&mut self, pid: Pid) -> bool {
        self.world().reaper() == pid
    }

    fn is_there(&mut self, handle: &Handle) -> bool {
        self.world().process(handle).is_ok()
    }

    fn control_group(&mut self, _handle: &Handle) -> Option<u64> {
        None
    }

    fn held(&mut self, handle: &Handle, fd: Fd) -> Result<Option<Inode>, Trouble> {
        let world = self.world();
        let socket = world.process(handle)?.fds.get(&fd).copied();
        Ok(socket.map(|socket| world.sockets[socket].inode))
    }

    fn open_files(&mut self, handle: &Handle) -> Result<Open, Trouble> {
        let world = self.world();
        let fds = world.process(handle)?.fds.iter();
        let mut sockets: Vec<_> = fds.map(|(fd, s)| (*fd, world.sockets[*s].inode)).collect();
        sockets.push((2, LISTENER));
        Ok(Open {
            sockets,
            polls: Vec::new(),
        })
    }

    fn polled(&mut self, _handle: &Handle, _poll: Fd) -> Result<Vec<Inode>, Trouble> {
        Ok(Vec::new())
    }

    fn greenlets(&mut self, _handle: &Handle, _socket: Fd) -> Result<bool, Trouble> {
        Ok(false)
    }

    fn children(&mut self, handle: &Handle) -> Result<Vec<Pid>, Trouble> {
        let world = self.world();
        world.process(handle)?;
        let children = world
            .processes
            .iter()
            .filter(|(_, p)| p.parent == handle.pid);
        Ok(children.map(|(pid, _)| *pid).collect())
    }

    fn ran(&mut self, handle: &Handle) -> Result<Nanos, Trouble> {
        let world = self.world();
        world.process(handle)?;
        Ok(world.now)
    }

    fn main_thread(&mut self, handle: &Handle) -> Result<Thread, Trouble> {
        let world = self.world();
        let process = world.process(handle)?;
        Ok(match process.ops.front() {
            _ if world.now < process.until => Thread::Blocked,
            Some(Op::Park(socket)) if world.sockets[*socket].answers == 0 => {
                Thread::OnSocket(world.sockets[*socket].inode)
            }
            Some(Op::Read(socket)) if world.sockets[*socket].unread == 0 => {
                Thread::OnSocket(world.sockets[*socket].inode)
            }
            Some(Op::Accept) if world.queue.is_empty() => Thread::Multiplexing,
            _ => Thread::Running,
        })
    }
}
