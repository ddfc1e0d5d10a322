//! What each server looks like, as seen of the real ones (`tests/it/correlation/servers.rs` and `tests/real` ask those).

use super::*;

/// A process: number, parent, whether it listens, threads.
fn process(pid: Pid, parent: Pid, listens: bool, threads: u32) -> Seen {
    Seen {
        pid,
        parent,
        listens,
        threads,
        name: "gunicorn".to_owned(),
        command: vec!["/venv/bin/gunicorn".to_owned()],
        loaded: Loaded {
            python: true,
            ..Loaded::default()
        },
        ..Seen::default()
    }
}

impl Seen {
    fn named(self, name: &str, command: &[&str]) -> Seen {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Seen {
            name: name.to_owned(),
            command,
            ..self
        }
    }

    fn waits(mut self, listener: bool, wake: bool, pipe: bool) -> Seen {
        self.epolls.push(Epoll {
            listener,
            wake,
            pipe,
        });
        self
    }

    fn loads(mut self, change: impl FnOnce(&mut Loaded)) -> Seen {
        change(&mut self.loaded);
        self
    }

    fn uwsgi(self) -> Seen {
        self.named("uwsgi", &["uwsgi"])
            .loads(|loaded| loaded.uwsgi = true)
    }
}

#[test]
fn servers_are_told_apart_by_what_they_look_like() {
    let python = |words: &[&str]| process(1, 0, true, 1).named("python", words);
    let rows: Vec<(&str, Vec<Seen>, ServerKind)> = vec![
        ("nobody", vec![], ServerKind::Unknown),
        (
            "a child that does not listen",
            vec![process(1, 0, false, 1)],
            ServerKind::Unknown,
        ),
        (
            "gunicorn sync",
            vec![process(1, 0, true, 1), process(2, 1, true, 1)],
            ServerKind::Sync,
        ),
        (
            "gunicorn sync with a background thread",
            vec![process(1, 0, true, 1), process(2, 1, true, 2)],
            ServerKind::Sync,
        ),
        (
            "gunicorn gthread",
            vec![
                process(1, 0, true, 1),
                process(2, 1, true, 2).waits(true, false, true),
            ],
            ServerKind::Threads,
        ),
        (
            "gunicorn gevent",
            vec![
                process(1, 0, true, 1),
                process(2, 1, true, 1)
                    .waits(true, true, false)
                    .loads(|loaded| loaded.gevent = true),
            ],
            ServerKind::Greenlets,
        ),
        (
            "uvicorn",
            vec![
                python(&["python", "/venv/bin/uvicorn", "shop.asgi:app"]).waits(true, true, false),
            ],
            ServerKind::EventLoop,
        ),
        (
            "uvicorn with workers, and multiprocessing's tracker",
            vec![
                python(&["uvicorn"]),
                process(2, 1, false, 1).named("python", &["resource_tracker"]),
                process(3, 1, true, 2)
                    .named("python", &["spawn_main"])
                    .waits(true, true, false),
            ],
            ServerKind::EventLoop,
        ),
        (
            "uvloop",
            vec![
                python(&["python", "serve.py"])
                    .waits(true, false, false)
                    .loads(|loaded| loaded.event_loop = true),
            ],
            ServerKind::EventLoop,
        ),
        (
            "uWSGI prefork",
            vec![
                process(1, 0, true, 1).uwsgi().waits(false, true, false),
                process(2, 1, true, 1).uwsgi().waits(true, true, true),
                process(3, 1, true, 1).uwsgi().waits(true, true, true),
            ],
            ServerKind::Sync,
        ),
        (
            "uWSGI threads",
            vec![
                process(1, 0, true, 1).uwsgi().waits(false, true, false),
                process(2, 1, true, 4)
                    .uwsgi()
                    .waits(true, true, true)
                    .waits(true, true, true),
            ],
            ServerKind::Threads,
        ),
        (
            "uWSGI --http",
            vec![
                process(1, 0, true, 1).uwsgi().waits(false, true, false),
                process(2, 1, false, 1).uwsgi().waits(false, true, true),
                process(3, 1, true, 1).uwsgi().waits(true, false, false),
            ],
            ServerKind::Router,
        ),
        (
            "nginx",
            vec![
                process(1, 0, true, 1).named("nginx", &["nginx: master"]),
                process(2, 1, true, 1)
                    .named("nginx", &["nginx: worker"])
                    .waits(true, true, false),
            ],
            ServerKind::Router,
        ),
        (
            "runserver",
            vec![python(&["python", "manage.py", "runserver"])],
            ServerKind::Threads,
        ),
        (
            "waitress",
            vec![python(&["python", "/venv/bin/waitress-serve", "shop:app"])],
            ServerKind::Threads,
        ),
        (
            "a program with a thread for each connection",
            vec![process(1, 0, true, 9).named("puma", &["puma"])],
            ServerKind::Threads,
        ),
        (
            "a program that is not known",
            vec![
                process(1, 0, true, 9)
                    .named("server", &["server"])
                    .waits(true, false, false)
                    .loads(|loaded| loaded.python = false),
            ],
            ServerKind::Unknown,
        ),
        (
            "a prefork server of any language",
            vec![
                process(1, 0, true, 1).named("ruby", &["unicorn"]),
                process(2, 1, true, 1).named("ruby", &["unicorn"]),
            ],
            ServerKind::Sync,
        ),
    ];
    let mut ran = 0;
    for (case, seen, kind) in rows {
        let (judged, why) = judge(&seen);
        assert_eq!(judged, kind, "{case}: {why}");
        ran += 1;
    }
    assert_eq!(ran, 18);
}

#[test]
fn a_word_of_a_command_line_is_a_whole_one() {
    let seen = |word: &str| Seen::default().named("python", &["python", word]);
    for word in [
        "runserver",
        "/x/runserver",
        "runserver.py",
        "waitress-serve",
    ] {
        assert!(seen(word).says(&THREADED), "{word}");
    }
    for word in ["runservers", "norunserver", "/runserver/x"] {
        assert!(!seen(word).says(&THREADED), "{word}");
    }
}
