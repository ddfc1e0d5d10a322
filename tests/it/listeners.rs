//! Where clients come in, besides a port of our own: unix sockets, and sockets that listened before hopspan did.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::process::{self, Process};
use crate::support::sidecar::{self, Builder};
use crate::support::{app, binary, client, collector, h2, load, within};

/// A sidecar that listens on a unix socket in a folder of its own.
fn on_unix(app: &app::App) -> (Builder, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hopspan.sock");
    let listen = json!(format!("unix:{}", path.display()));
    let builder = sidecar::to(app.address).set("inbound.listen", listen);
    (builder, path, folder)
}

/// A GET on a connection of its own: the answer's bytes to the end.
async fn get(path: &Path, more: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    within("an answer", read).await.unwrap();
    answer
}

#[tokio::test]
async fn a_client_by_a_unix_socket_counts_as_this_host() {
    let (app, collector) = (app::service("hi").await, collector::grpc());
    let (builder, path, _folder) = on_unix(&app);
    let hopspan = builder
        .set("inbound.trust", json!(["127.0.0.1"]))
        .collector(&collector)
        .run()
        .await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("Traceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    let more = format!("{parent}X-Forwarded-For: 192.0.2.9\r\n");
    assert!(get(&path, &more).await.ends_with("hi"));
    assert!(get(&path, "").await.ends_with("hi"));
    let asked = app.received(2).await;
    assert_eq!(
        asked[0].header("x-forwarded-for"),
        Some("192.0.2.9, 127.0.0.1")
    );
    assert_eq!(&asked[0].header("traceparent").unwrap()[3..35], trace);
    assert_eq!(asked[1].header("x-forwarded-for"), Some("127.0.0.1"));
    let spans = collector.spans(4).await;
    let clients = spans.iter().filter(|span| span.kind == "SERVER");
    let mut clients: Vec<&str> = clients
        .map(|span| {
            assert_eq!(span.attr("network.transport"), "unix");
            assert_eq!(span.attr("network.peer.address"), path.to_str().unwrap());
            assert_eq!(span.attr("network.peer.port"), "");
            span.attr("client.address")
        })
        .collect();
    clients.sort_unstable();
    assert_eq!(clients, [path.to_str().unwrap(), "192.0.2.9"]);
    // HTTP/2, too.
    let stream = UnixStream::connect(&path).await.unwrap();
    let client = h2::over(stream, "shop".to_owned(), "http").await;
    assert_eq!(client.get("/").await.text(), "hi");
    drop(hopspan);
}

#[tokio::test]
async fn who_is_not_trusted_is_not_by_a_unix_socket_either() {
    let app = app::service("hi").await;
    let (builder, path, _folder) = on_unix(&app);
    let _hopspan = builder
        .set("inbound.trust", json!(["10.0.0.0/8"]))
        .set("inbound.trusted_proxies", json!([]))
        .run()
        .await;
    get(
        &path,
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Forwarded-For: 192.0.2.9\r\n",
    )
    .await;
    let asked = app.received(1).await.pop().unwrap();
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(!asked.header("traceparent").unwrap().contains("0af765"));
}

#[tokio::test]
async fn a_balancer_may_come_by_a_unix_socket() {
    let app = app::service("hi").await;
    let (builder, path, _folder) = on_unix(&app);
    let _hopspan = builder
        .set("inbound.proxy_protocol", json!(["127.0.0.1"]))
        .run()
        .await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n\
        GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let asked = app.received(1).await.pop().unwrap();
    assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.7"));
}

#[tokio::test]
async fn the_socket_s_file_is_made_kept_and_removed() {
    let app = app::service("hi").await;
    let (builder, path, folder) = on_unix(&app);
    // What a killed one left behind. It never listened: another test that forks just now may keep the socket open.
    let left = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    left.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    drop(left);
    let hopspan = builder
        .clone()
        .set("inbound.socket_mode", json!("0600"))
        .run()
        .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A second one does not take it.
    let (_config, command) = binary::wrapping_command(&builder, &[], &[]);
    let second = binary::outcome(command).await;
    assert_eq!(second.code, 1);
    let said = format!(
        "cannot listen on unix:{}: another process listens there",
        path.display()
    );
    assert!(second.stderr.contains(&said), "{}", second.stderr);
    assert!(get(&path, "").await.ends_with("hi"));
    hopspan.stop().await;
    assert!(!path.exists());
    // Nor does a start that fails leave one.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    let failing = builder.set("admin.listen", json!(busy));
    let (_config, command) = binary::wrapping_command(&failing, &[], &[]);
    assert_eq!(binary::outcome(command).await.code, 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A socket that listens whether hopspan runs or not, as systemd holds it.
fn held() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

/// `hopspan run` with sockets passed on, as systemd starts it. The folder holds its config.
fn activated(config: &Builder, sockets: &[&OwnedFd], names: &str) -> (tempfile::TempDir, Command) {
    let (folder, hopspan) = binary::wrapping_command(config, &[], &[]);
    let mut command = Command::new("sh");
    // The number of the process is known to itself only.
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(hopspan.get_program())
        .args(hopspan.get_args())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names);
    for (name, value) in hopspan.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    process::pass(&mut command, sockets);
    (folder, command)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_restarts_of_an_activated_hopspan_fail_no_request() {
    let service = app::service("service").await;
    let app = app::service("app").await;
    let ((inbound, to_app), (outbound, to_services)) = (held(), held());
    // What the thread rung needs to settle is no part of this.
    let config = sidecar::to(app.address).set("correlation.thread", json!(false));
    let url = format!("http://{}/", service.address);
    let load = load::start(8, move |client, serial| {
        let request = match client % 2 {
            0 => client::get(to_app, "/"),
            _ => client::get(to_services, &url),
        };
        match serial % 4 {
            0 => request.header("Connection", "close"),
            _ => request,
        }
    });
    let mut answered = 0;
    for _ in 0..20 {
        let (folder, command) = activated(&config, &[&outbound, &inbound], "outbound:inbound");
        let hopspan = binary::serving(folder, command).await;
        assert_eq!((hopspan.inbound, hopspan.outbound), (to_app, to_services));
        load.answers.at_least(answered + 100).await;
        hopspan.process.signal(libc::SIGTERM);
        assert_eq!(hopspan.process.exit().await, 0);
        answered = load.answers.len();
    }
    let (folder, command) = activated(&config, &[&inbound, &outbound], "inbound:outbound");
    let _last = binary::serving(folder, command).await;
    let tally = load.finish().await;
    tally.assert_all_good(2000);
}

#[tokio::test]
async fn sockets_that_make_no_sense_are_not_served() {
    let app = app::service("hi").await;
    let ((one, _), (two, _)) = (held(), held());
    let not_listening = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let rows: [(&[&OwnedFd], &str, &str); 3] = [
        (&[&one, &two], "inbound:web", "`web` is not known"),
        (&[&one, &two], "inbound:inbound", "inbound is there twice"),
        (
            &[&not_listening],
            "inbound",
            "the socket that was passed for inbound",
        ),
    ];
    for (sockets, names, why) in rows {
        let (_folder, command) = activated(&sidecar::to(app.address), sockets, names);
        let ended = binary::outcome(command).await;
        assert_eq!(ended.code, 1, "{names}");
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_unix_socket_may_be_passed_on_and_its_file_stays() {
    let app = app::service("hi").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held.sock");
    let listener = OwnedFd::from(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_config, command) = activated(&sidecar::to(app.address), &[&listener], "");
    let hopspan = Process::start(command);
    let line = hopspan.line("hopspan serves").await;
    assert!(line.contains(&format!("unix:{}", path.display())), "{line}");
    assert!(get(&path, "").await.ends_with("hi"));
    hopspan.signal(libc::SIGTERM);
    assert_eq!(hopspan.exit().await, 0);
    assert!(path.exists());
}
