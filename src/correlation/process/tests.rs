use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use std::os::fd::FromRawFd;

use super::*;

fn own() -> Process {
    Process::open(std::process::id()).unwrap()
}

/// Polls, since nothing tells when a process comes to wait: for at least a minute.
fn eventually<T>(mut check: impl FnMut() -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(found) = check() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it never came");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(script: &str, argument: u16) -> Running {
    let mut command = Command::new("python3");
    command.args(["-c", script, &argument.to_string()]);
    Running(command.stdin(Stdio::piped()).spawn().unwrap())
}

#[test]
fn reads_a_name_that_looks_like_fields() {
    let text = "7 (a) S 9 (b) R 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 500 22 23";
    let stat = parse_stat(text).unwrap();
    assert_eq!(
        (stat.parent, stat.started, stat.dead),
        (3, 500 * TICK_NANOS, false)
    );
    assert!(parse_stat("7 (a) Z 3").is_none());
}

#[test]
fn reads_who_is_the_first_of_a_namespace() {
    let status =
        |numbers| format!("Name:\tNSpid: 1\nNStgid:\t9 1\nNSpid:\t{numbers}\nThreads:\t1\n");
    for (numbers, innermost) in [("4711\t12\t1", 1), ("1", 1), ("4711\t12", 12)] {
        assert_eq!(parse_innermost(&status(numbers)), Some(innermost));
    }
    for unreadable in ["", "NSpid:", "NSpid:\tone\n"] {
        assert_eq!(parse_innermost(unreadable), None);
    }
    let here = parse_innermost(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(own().is_first().unwrap(), here == Some(1));
}

#[test]
fn reads_every_form_of_syscall() {
    assert_eq!(parse_syscall("running\n"), Some(Syscall::Running));
    assert_eq!(parse_syscall("-1 0x7ff 0x400\n"), Some(Syscall::Outside));
    let waiting = parse_syscall("45 0x7 0x1 0x2 0x3 0x4 0x5 0x7ffe 0x7fff\n");
    assert_eq!(
        waiting,
        Some(Syscall::In {
            number: 45,
            arguments: [7, 1, 2, 3, 4, 5]
        })
    );
    assert_eq!(parse_syscall("45 0x7\n"), None);
    assert_eq!(parse_syscall(""), None);
}

#[test]
fn knows_its_own_parent_and_age() {
    let stat = own().stat().unwrap();
    assert_eq!(stat.parent, std::os::unix::process::parent_id());
    assert!(!stat.dead);
    assert!(stat.started <= boottime());
    assert!(boottime() - stat.started < 3_600_000_000_000);
}

#[test]
fn finds_sockets_by_descriptor() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = listener.as_raw_fd();
    let process = own();
    let inode = process.socket(fd).unwrap().unwrap();
    assert!(process.open_files().unwrap().sockets.contains(&(fd, inode)));
    assert_eq!(process.socket(100_000).unwrap(), None);
    assert!(!process.non_blocking(fd).unwrap());
    listener.set_nonblocking(true).unwrap();
    assert!(process.non_blocking(fd).unwrap());
}

#[test]
fn a_process_that_is_only_known_takes_one_descriptor() {
    let process = own();
    process.stat().unwrap();
    assert!(process.is_there());
    process.control_group().unwrap();
    process.children().unwrap();
    process.open_files().unwrap();
    let open = [process.descriptors.get(), process.syscall.get()];
    assert!(open.iter().all(Option::is_none), "{open:?}");
}

#[test]
fn sees_the_children_of_every_thread() {
    let from_main = python("input()", 0);
    let from_thread = std::thread::spawn(|| (python("input()", 0), std::thread::current().id()));
    let (from_thread, _) = from_thread.join().unwrap();
    let process = own();
    // The kernel may leave one out where another child ends meanwhile (proc_pid_children(5)): other tests have some.
    for child in [&from_main, &from_thread] {
        eventually(|| {
            process
                .children()
                .unwrap()
                .contains(&child.0.id())
                .then_some(())
        });
    }
}

#[test]
fn a_dead_process_answers_nothing_even_as_a_zombie() {
    let mut child = python("import sys; sys.exit(0)", 0);
    let process = Process::open(child.0.id()).unwrap();
    // Not reaped yet: a zombie first.
    eventually(|| process.stat().ok().filter(|stat| stat.dead));
    assert!(process.open_files().is_err());
    assert!(!matches!(process.socket(0), Ok(Some(_))));
    child.0.wait().unwrap();
    assert!(process.stat().is_err());
    assert!(process.syscall().is_err());
}

#[test]
fn sees_what_a_main_thread_waits_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for (timeout, number) in [("None", libc::SYS_recvfrom), ("60", libc::SYS_poll)] {
        let script = format!(
            "import socket,sys\ns=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\ns.settimeout({timeout})\ns.recv(1)"
        );
        let child = python(&script, port);
        let _accepted: (TcpStream, _) = listener.accept().unwrap();
        let process = Process::open(child.0.id()).unwrap();
        let arguments = eventually(|| match process.syscall().unwrap() {
            Syscall::In {
                number: n,
                arguments,
                ..
            } if n == number => Some(arguments),
            _ => None,
        });
        if number == libc::SYS_poll {
            let mut entry = [0; 4];
            assert!(process.memory(arguments[0], &mut entry));
            let fd = i32::from_ne_bytes(entry);
            assert!(process.socket(fd).unwrap().is_some());
            assert!(!process.memory(8, &mut entry), "read through a null page");
        } else {
            assert!(process.socket(arguments[0] as Fd).unwrap().is_some());
        }
        assert!(process.same_word_size().unwrap());
    }
}

#[test]
fn says_what_an_epoll_set_waits_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = own();
    let sockets = process.open_files().unwrap().sockets;
    let (_, inode) = sockets
        .into_iter()
        .find(|(fd, _)| *fd == listener.as_raw_fd())
        .unwrap();
    // SAFETY: epoll_create1(2) takes no memory; what it returns is owned here alone.
    let poll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    let number = poll.as_raw_fd();
    assert!(process.open_files().unwrap().polls.contains(&number));
    assert!(process.polled(number).unwrap().is_empty());
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    let add = libc::EPOLL_CTL_ADD;
    // SAFETY: both descriptors are open, and `event` is live for the call.
    let added = unsafe { libc::epoll_ctl(number, add, listener.as_raw_fd(), &mut event) };
    assert_eq!(added, 0);
    assert_eq!(process.polled(number).unwrap(), [inode]);
}
