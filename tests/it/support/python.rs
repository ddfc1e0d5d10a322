//! The real thing: Django (`tests/django`, project `probe`) under gunicorn or uvicorn, in the virtual environment that
//! `tests/django/venv` makes. Its whole process group is killed on drop.
//!
//! ```ignore
//! let django = python::gunicorn().args(["--workers", "2"]).run().await;
//! let answer = client::get(django.address, "/orders/7/").send().await;
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::client;
use super::process::Process;

/// The virtual environment; made by the first test that needs it (its script says so on stderr while it takes long).
pub(crate) fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let script = root().join("tests/django/venv");
        let made = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; is python3 there?", script.display()));
        assert!(
            made.status.success(),
            "{} failed: see its words above",
            script.display()
        );
        PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
    })
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A server in the making.
pub(crate) struct Builder {
    command: Command,
    /// What stands before its address in its log.
    announces: &'static str,
    /// Processes that say [`BOOTED`].
    workers: usize,
}

/// What each worker of gunicorn says as it begins.
pub(crate) const BOOTED: &str = "Booting worker with pid";

/// gunicorn with one sync worker, as a command without its address.
pub(crate) fn gunicorn_command() -> Vec<String> {
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    vec![
        text(venv().join("bin/gunicorn")),
        "--config".to_owned(),
        text(root().join("tests/django/gunicorn.conf.py")),
        "--chdir".to_owned(),
        text(root().join("tests/django")),
        "probe.wsgi".to_owned(),
    ]
}

/// gunicorn with one sync worker, unless `args` say otherwise, on any port.
pub(crate) fn gunicorn() -> Builder {
    gunicorn_at(([127, 0, 0, 1], 0).into())
}

/// [`gunicorn`] at an address.
pub(crate) fn gunicorn_at(address: SocketAddr) -> Builder {
    let words = gunicorn_command();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.arg("--bind").arg(address.to_string());
    Builder {
        command,
        announces: "Listening at: http://",
        workers: 1,
    }
}

/// uvicorn with one process, on any port.
pub(crate) fn uvicorn() -> Builder {
    uvicorn_at(([127, 0, 0, 1], 0).into())
}

/// [`uvicorn`] at a port of the loopback interface.
pub(crate) fn uvicorn_at(address: SocketAddr) -> Builder {
    let mut command = Command::new(venv().join("bin/uvicorn"));
    command
        .arg("--app-dir")
        .arg(root().join("tests/django"))
        .arg("--port")
        .arg(address.port().to_string())
        .arg("probe.asgi:application");
    Builder {
        command,
        announces: "Uvicorn running on http://",
        workers: 0,
    }
}

impl Builder {
    /// More arguments.
    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Builder {
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            self.command.arg(arg);
            if arg == "--workers" {
                let count = args.next().unwrap();
                self.workers = count.parse().unwrap();
                self.command.arg(count);
            }
        }
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Builder {
        self.command.env(name, value);
        self
    }

    /// Its calls go out through a proxy: hopspan's outbound listener.
    pub(crate) fn proxy(self, outbound: SocketAddr) -> Builder {
        let url = format!("http://{outbound}");
        self.env("http_proxy", &url).env("HTTP_PROXY", &url)
    }

    /// Starts it, and waits until Django answers and every worker is there: gunicorn forks them one by one.
    pub(crate) async fn run(mut self) -> Django {
        self.command.env("PYTHONUNBUFFERED", "1");
        let process = Process::start(self.command);
        let line = process.line(self.announces).await;
        let address = line.split(self.announces).nth(1).unwrap();
        let address = address.split([' ', ',', '\u{1b}']).next().unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let answer = client::get(address, "/healthz").send().await;
        assert_eq!(answer.status, 200, "{}", process.output());
        process.lines(BOOTED, self.workers).await;
        Django { address, process }
    }
}

/// A running server.
pub(crate) struct Django {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}
