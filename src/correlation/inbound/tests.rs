//! Which connections the kernel is asked about, and which are known without.

use super::*;
use crate::correlation::kernel::{Inflow, Listeners, Open, Pid, Socket, Thread};
use crate::correlation::server::Place;

/// A kernel that knows sockets only, by their peers' ports.
#[derive(Default)]
struct Sockets {
    now: Nanos,
    listeners: Listeners,
    accepted: Vec<u16>,
    asked: Vec<u16>,
}

impl Kernel for Sockets {
    type Process = ();

    fn now(&mut self) -> Nanos {
        self.now
    }
    fn socket(&mut self, end: End) -> Result<Option<Socket>, Trouble> {
        let End::Tcp(_, peer) = end else {
            unreachable!()
        };
        self.asked.push(peer.port());
        let accepted = self.accepted.contains(&peer.port());
        Ok(Some(Socket {
            state: State::Established,
            inode: if accepted { peer.port().into() } else { 0 },
            cookie: peer.port().into(),
        }))
    }
    fn listeners(&mut self, _: &Place) -> Result<Listeners, Trouble> {
        Ok(self.listeners.clone())
    }
    fn pids(&mut self) -> Vec<Pid> {
        Vec::new()
    }
    fn own_children(&mut self) -> Vec<Pid> {
        Vec::new()
    }

    // Not asked here.
    fn inflow(&mut self, _: End) -> Result<Option<(Socket, Inflow)>, Trouble> {
        unreachable!()
    }
    fn newest(&mut self) -> Option<Pid> {
        unreachable!()
    }
    fn own(&mut self) -> Pid {
        unreachable!()
    }
    fn room(&self) -> usize {
        unreachable!()
    }
    fn open(&mut self, _: Pid) -> Result<((), ProcessId), Trouble> {
        unreachable!()
    }
    fn parent(&mut self, _: &()) -> Result<Pid, Trouble> {
        unreachable!()
    }
    fn is_there(&mut self, _: &()) -> bool {
        unreachable!()
    }
    fn control_group(&mut self, _: &()) -> Option<u64> {
        unreachable!()
    }
    fn reaps(&mut self, _: Pid) -> bool {
        unreachable!()
    }
    fn held(&mut self, _: &(), _: Fd) -> Result<Option<Inode>, Trouble> {
        unreachable!()
    }
    fn open_files(&mut self, _: &()) -> Result<Open, Trouble> {
        unreachable!()
    }
    fn polled(&mut self, _: &(), _: Fd) -> Result<Vec<Inode>, Trouble> {
        unreachable!()
    }
    fn greenlets(&mut self, _: &(), _: Fd) -> Result<bool, Trouble> {
        unreachable!()
    }
    fn children(&mut self, _: &()) -> Result<Vec<Pid>, Trouble> {
        unreachable!()
    }
    fn ran(&mut self, _: &()) -> Result<Nanos, Trouble> {
        unreachable!()
    }
    fn main_thread(&mut self, _: &()) -> Result<Thread, Trouble> {
        unreachable!()
    }
}

const MS: Nanos = 1_000_000;

fn app() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8000))
}

/// Everything that is open, and what is known of it.
struct Scene {
    kernel: Sockets,
    family: Family<()>,
    in_flight: InFlight,
    inbound: Inbound,
}

impl Scene {
    /// Behind so many listeners with such a limit.
    fn new(listeners: u32, backlog: u32) -> Scene {
        let mut kernel = Sockets {
            listeners: Listeners {
                inodes: (1..=listeners).collect(),
                backlog,
            },
            ..Sockets::default()
        };
        let mut family = Family::default();
        kernel.now = 10_000 * MS;
        family.discover(&mut kernel, &[Place::Tcp(app())]);
        Scene {
            kernel,
            family,
            in_flight: InFlight::default(),
            inbound: Inbound::default(),
        }
    }

    /// hopspan connects from these ports, a microsecond each, now.
    fn connect(&mut self, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            let end = End::Tcp(app(), SocketAddr::from(([127, 0, 0, 1], port)));
            let began = self.kernel.now;
            self.kernel.now += 1_000;
            let now = self.kernel.now;
            self.in_flight.open(port.into(), end, began, None, now);
        }
    }

    /// The same for a call whose bytes have just come.
    fn learn_now(&mut self) -> (Vec<u16>, Vec<u16>) {
        self.learn(self.kernel.now)
    }

    /// Looks for a call whose bytes had come at `latest`: the ports that were asked about, and those that wait.
    fn learn(&mut self, latest: Nanos) -> (Vec<u16>, Vec<u16>) {
        self.kernel.now += 1_000;
        let views = self.in_flight.view(self.kernel.now, 0);
        let (kernel, family) = (&mut self.kernel, &self.family);
        let known = (self.inbound).learn(kernel, family, &self.in_flight, &views, latest);
        let known = known.unwrap();
        let waiting = views
            .iter()
            .zip(&known)
            .filter(|(_, known)| **known == Known::Waiting);
        let waiting = waiting.map(|(view, _)| view.id as u16).collect();
        (std::mem::take(&mut self.kernel.asked), waiting)
    }
}

#[test]
fn what_waited_after_the_call_came_is_not_asked_about_for_it() {
    let mut scene = Scene::new(1, 100);
    scene.connect([1, 2, 3]);
    let latest = scene.kernel.now;
    scene.kernel.accepted = vec![1];
    // Those that a call finds waiting had not been read when it was sent, whatever becomes of them.
    assert_eq!(scene.learn(latest), (vec![1, 2, 3], vec![2, 3]));
    scene.kernel.accepted = vec![1, 2];
    assert_eq!(scene.learn(latest), (vec![], vec![2, 3]));
    // Nor had one that was not there yet.
    scene.connect([4]);
    assert_eq!(scene.learn(latest), (vec![], vec![2, 3, 4]));
    // The next call is another matter.
    assert_eq!(scene.learn_now(), (vec![2, 3, 4], vec![3, 4]));
}

#[test]
fn what_began_after_one_was_in_the_queue_waits_behind_it() {
    let mut rows = 0;
    for (listeners, backlog, asked) in [
        (1, 100, vec![1]),
        // More than the queue takes: one that was seen in it is in it all the same.
        (1, 2, vec![1]),
        (2, 100, vec![1, 2, 3]),
    ] {
        let mut scene = Scene::new(listeners, backlog);
        scene.connect([1]);
        scene.learn_now();
        scene.kernel.now += 1_000;
        scene.connect([2, 3]);
        let all = vec![1, 2, 3];
        assert_eq!(scene.learn_now(), (all.clone(), all.clone()), "once");
        assert_eq!(scene.learn_now(), (asked, all), "{listeners}, {backlog}");
        rows += 1;
    }
    assert_eq!(rows, 3);
}

#[test]
fn what_was_seen_there_late_was_in_the_queue_soon_where_that_was_not_full() {
    let mut rows = 0;
    for (backlog, asked) in [(100, vec![1, 2]), (2, vec![1, 2, 3, 4])] {
        let mut scene = Scene::new(1, backlog);
        scene.connect([1]);
        scene.kernel.now += QUEUED - 10_000;
        scene.connect([2]);
        scene.kernel.now += QUEUED;
        scene.connect([3, 4]);
        let all = vec![1, 2, 3, 4];
        assert_eq!(scene.learn_now(), (all.clone(), all.clone()), "once");
        assert_eq!(scene.learn_now(), (asked, all), "{backlog}");
        rows += 1;
    }
    assert_eq!(rows, 2);
}

#[test]
fn a_connection_that_is_over_is_known_for_a_while() {
    let mut scene = Scene::new(1, 100);
    scene.connect([1, 2]);
    scene.kernel.accepted = vec![1, 2];
    let latest = scene.kernel.now;
    scene.learn(latest);
    assert_eq!(scene.inbound.over(1), None, "it is open");
    scene.in_flight.close(1, latest);
    let views = scene.in_flight.view(latest, latest + 1);
    let ids: Vec<u64> = views.iter().map(|view| view.id).collect();
    assert_eq!(ids, [2]);
    let (kernel, family) = (&mut scene.kernel, &scene.family);
    (scene.inbound)
        .learn(kernel, family, &scene.in_flight, &views, latest)
        .unwrap();
    assert!(scene.inbound.over(1).is_some());
    assert_eq!(scene.inbound.over(2), None);
    for _ in 0..3 {
        scene.kernel.now += 2 * RETAIN.as_nanos() as Nanos;
        scene.learn_now();
    }
    assert_eq!(scene.inbound.over(1), None);
    assert_eq!(
        (scene.inbound.entries.len(), scene.inbound.accepted.len()),
        (1, 1)
    );
}
