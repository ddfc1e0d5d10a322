//! `limits.memory` under floods that are as fast as a client can be: what is let in stays below the limit, the rest is told
//! so, and who comes afterwards is served. hopspan is a process of its own, and a new one for each row.
//!
//! `HOPSPAN_TEST_LONG=1`: thousands of each, in a memory control group (version 1) of 128 MiB where one can be made, which
//! kills who takes more.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{cost, long};
use crate::support::app::{self, ReplyExt};
use crate::support::h2::{self, frame};
use crate::support::sidecar::{self, sum};
use crate::support::{binary, client, within};

mod heads;

const MIB: usize = 1024;
static CHUNK: [u8; 65536] = [b'x'; 65536];

struct Row {
    name: &'static str,
    /// How many at CI's size and at the long one, and how many share a connection.
    count: [usize; 2],
    each: usize,
    open: fn(SocketAddr) -> Option<TcpStream>,
    /// What each says when all are there.
    then: &'static [u8],
    /// Whether there are more than can be let in at CI's size.
    too_many: bool,
}

fn connect(to: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.write_all(bytes).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

fn upload(to: SocketAddr) -> Option<TcpStream> {
    let head = b"POST /up HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000000\r\n\r\n";
    let mut stream = connect(to, head)?;
    for _ in 0..8 {
        // As much as is taken.
        if stream.write(&CHUNK).is_err() {
            break;
        }
    }
    Some(stream)
}

/// 100 on a connection of HTTP/2, with as much content as its window lets through.
fn uploads(to: SocketAddr) -> Option<TcpStream> {
    let mut bytes = [h2::PREFACE, &frame(h2::SETTINGS, 0, 0, b"")].concat();
    let mut head = h2::get("/up");
    head.iter_mut()
        .filter(|field| field.0 == ":method")
        .for_each(|field| field.1 = "POST");
    for number in 0..100 {
        let head = h2::hpack(&head);
        bytes.extend(frame(h2::HEADERS, h2::END_HEADERS, number * 2 + 1, &head));
    }
    let mut stream = connect(to, &bytes)?;
    stream.set_nonblocking(false).ok()?;
    if !h2::read_until(&mut stream, h2::WINDOW_UPDATE) {
        return None;
    }
    stream.set_nonblocking(true).ok()?;
    for number in 0..100 {
        // As much as is taken.
        let data = frame(h2::DATA, 0, number * 2 + 1, &CHUNK[..10_000]);
        if stream.write(&data).ok() != Some(data.len()) {
            break;
        }
    }
    Some(stream)
}

fn readers(to: SocketAddr) -> Option<TcpStream> {
    let mut bytes = h2::PREFACE.to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE: 1024, since who opens none has few requests.
    bytes.extend(frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 4, 0]));
    for number in 0..100 {
        let head = h2::hpack(&h2::get("/large"));
        bytes.extend(frame(h2::HEADERS, h2::WHOLE, number * 2 + 1, &head));
    }
    connect(to, &bytes)
}

fn rows() -> [Row; 8] {
    let row = |name, count, each, too_many, open| Row {
        name,
        count,
        each,
        open,
        then: b"",
        too_many,
    };
    let silent: fn(SocketAddr) -> Option<TcpStream> = |to| connect(to, b"");
    [
        row("uploads that stall", [800, 5000], 1, true, upload),
        row("readers that stall", [800, 5000], 1, true, |to| {
            connect(to, b"GET /large HTTP/1.1\r\nHost: shop\r\n\r\n")
        }),
        row(
            "readers of HTTP/2 that stall",
            [1500, 5000],
            100,
            true,
            readers,
        ),
        row(
            "uploads of HTTP/2 that stall",
            [1500, 5000],
            100,
            true,
            uploads,
        ),
        row("slow heads", [300, 10_000], 1, false, |to| {
            connect(to, b"GET / HTTP/1.1\r\nHost: shop\r\nX-A: ")
        }),
        row("silent connections", [300, 10_000], 1, false, silent),
        Row {
            then: b"GET / HTTP/1.1\r\nHost: shop\r\nX-A: ",
            ..row("silent, then a slow head", [300, 10_000], 1, false, silent)
        },
        Row {
            then: h2::PREFACE,
            ..row("silent, then HTTP/2", [300, 10_000], 1, false, silent)
        },
    ]
}

/// A memory control group of so many bytes; gone when dropped.
struct Group(PathBuf);

impl Group {
    fn new(bytes: usize) -> Option<Group> {
        let path = format!("/sys/fs/cgroup/memory/hopspan-{}", std::process::id());
        std::fs::create_dir(&path).ok()?;
        let group = Group(path.into());
        let set = std::fs::write(group.0.join("memory.limit_in_bytes"), bytes.to_string());
        set.ok().map(|()| group)
    }

    /// The command, started in this group.
    fn around(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        inside.arg(self.0.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Refused for as long as a process is in it, which was killed.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_takes_no_more_than_the_limit_and_is_told() {
    let mut ran = 0;
    for row in rows() {
        flood(&row).await;
        ran += 1;
    }
    assert_eq!(ran, rows().len());
}

async fn flood(row: &Row) {
    let leaving = CancellationToken::new();
    let left = leaving.clone();
    let app = app::http()
        .streaming("/up", move |_| {
            // Reads nothing.
            let left = left.clone();
            async move {
                left.cancelled().await;
                app::reply(200).text("at last")
            }
        })
        .streaming("/large", |_| async { app::endless() })
        .any(|_| async { app::reply(200).text("ok") })
        .run()
        .await;
    let limited = Limited::new(sidecar::to(app.address)).await;
    let (to, status) = (limited.hopspan.inbound, limited.hopspan.status);
    let count = row.count[long(0, 1)] / row.each;
    let open = row.open;
    let held = tokio::task::spawn_blocking(move || {
        (0..count).filter_map(|_| open(to)).collect::<Vec<_>>()
    });
    let mut held = within("a flood", held).await.unwrap();
    for stream in &mut held {
        // Who was told is gone.
        let _ = stream.write_all(row.then);
    }
    let mut told = 0.0;
    within("the rest to be told", async {
        while row.too_many && told == 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            told = refused(status).await;
        }
    })
    .await;
    // A long run sees what it comes to.
    tokio::time::sleep(Duration::from_secs(long(0, 5) as u64)).await;
    limited
        .assert_held(row.name, &format!("{} of {count}", held.len()))
        .await;
    drop(held);
    leaving.cancel();
    limited.answers_again().await;
}

/// A hopspan of its own that may take so much: what the control group has, or some more than it has at rest.
struct Limited {
    hopspan: binary::Serving,
    group: Option<Group>,
    before: usize,
    limit: usize,
}

impl Limited {
    async fn new(config: sidecar::Builder) -> Limited {
        let config = config
            .set("correlation.thread", json!(false))
            .set("correlation.serial", json!(false));
        let group = (long(0, 1) == 1)
            .then(|| Group::new(128 * MIB * 1024))
            .flatten();
        let first = match &group {
            Some(_) => config.clone(),
            None => config.clone().set("limits.memory", json!("off")),
        };
        let (folder, command) = binary::wrapping_command(&first, &[], &[]);
        let command = match &group {
            Some(group) => group.around(&command),
            None => command,
        };
        let hopspan = binary::serving(folder, command).await;
        for _ in 0..20 {
            client::get(hopspan.inbound, "/").send().await;
        }
        let before = cost::memory(hopspan.process.pid(), "VmHWM");
        let limit = match &group {
            Some(_) => 128 * MIB,
            None => {
                let limit = before + 24 * MIB;
                let text = config.set("limits.memory", json!(format!("{limit}KiB")));
                std::fs::write(&hopspan.file, text.text()).unwrap();
                let reload = client::request("POST", hopspan.admin, "/reload");
                assert_eq!(reload.send().await.status, 200);
                limit
            }
        };
        Limited {
            hopspan,
            group,
            before,
            limit,
        }
    }

    /// That it took less than it may; says what it came to.
    async fn assert_held(&self, name: &str, came: &str) {
        let most = cost::memory(self.hopspan.process.pid(), "VmHWM");
        let told = refused(self.hopspan.status).await;
        let group = self.group.as_ref();
        let killed = group.map(|group| group.read("memory.oom_control"));
        let most_in_group = group.map(|group| group.read("memory.max_usage_in_bytes"));
        let (before, limit) = (self.before, self.limit);
        println!(
            "{name:30} {came}: {before} to {most} KiB of {limit}, {told:.0} told; {} {}",
            killed.as_deref().unwrap_or("no group").replace('\n', " "),
            most_in_group.unwrap_or_default().trim(),
        );
        assert!(most < limit, "{name}: {most} of {limit} KiB");
        assert!(killed.is_none_or(|text| text.contains("oom_kill 0")));
    }

    async fn answers_again(&self) {
        within("an answer afterwards", async {
            loop {
                let asked = client::get(self.hopspan.inbound, "/");
                let mut peer = asked.connect().await.unwrap();
                peer.try_write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
                let answer = asked.try_answer(&mut peer).await;
                if answer.is_some_and(|answer| answer.status == 200) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

/// Connections, heads and requests that were told that there is no memory.
async fn refused(status: SocketAddr) -> f64 {
    let metrics = client::get(status, "/metrics").send().await.text();
    let connections = "hopspan_connections_refused_total{reason=\"memory\"}";
    let requests = "hopspan_proxy_errors_total{reason=\"proxy_internal_error\"}";
    let heads = "hopspan_client_protocol_errors_total{reason=\"memory\"}";
    sum(&metrics, connections) + sum(&metrics, heads) + sum(&metrics, requests)
}
